"""Every error that the service raises on purpose, in one tree.

An error carries what its receiver needs: a sentence that says how to mend it, the HTTP status, and
a slug that names the kind of problem. `web.problems` renders the tree over HTTP.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, NotRequired, cast

from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_REASON_CHARACTERS = 300
SEND_A_KEY = "Send a valid API key as 'X-API-Key: KEY' or as 'Authorization: Bearer KEY'."


def reason(error: Exception) -> str:
    """The first line of another library's error, at most 300 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:MAX_REASON_CHARACTERS]


class IrisError(Exception):
    """Root of the tree. Its message is one sentence for whoever caused the error."""

    status: ClassVar[int] = 500
    slug: ClassVar[str | None] = None
    title: ClassVar[str | None] = None
    detail: ClassVar[str] = ""
    """The message of an error that is raised without one."""
    public: ClassVar[bool] = True
    """Whether a client may see the message."""
    headers: ClassVar[dict[str, str]] = {}
    """Response headers that belong to this problem."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.detail)

    @property
    def extensions(self) -> Mapping[str, object]:
        """Further members of the problem document (RFC 9457, section 3.2)."""
        return {}


class OperatorError(IrisError):
    """Only the operator can mend it: it stops the start, and clients see no detail."""

    status = 503
    public = False
    headers: ClassVar[dict[str, str]] = {"Retry-After": "10"}


class SettingsError(OperatorError):
    """A setting is unknown, or its value can't be used."""


class KeyFileError(OperatorError):
    """The API keys can't be read or written."""


class BundleError(OperatorError):
    """A bundle is missing, broken or can't be trusted."""


class CountersError(OperatorError):
    """The counters of a server's processes can't be read."""


class TableError(OperatorError):
    """A table of rows can't be read, scored or written."""


class ExportError(OperatorError):
    """An estimator can't become a bundle."""


class NotAuthenticatedError(IrisError):
    """The request carries no API key."""

    status = 401
    slug = "not-authenticated"
    title = "API key required"
    detail = SEND_A_KEY
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="iris-api"'}


class WrongKeyError(IrisError):
    """The request carries an API key that is not known."""

    status = 401
    slug = "wrong-key"
    title = "API key not known"
    detail = f"This API key is not known: it may have been revoked. {SEND_A_KEY}"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="iris-api"'}


class OverloadedError(IrisError):
    """The request waited so long that its client may have given up."""

    status = 503
    slug = "overloaded"
    title = "Overloaded"
    detail = "The service is overloaded: try again in a second."
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class DrainingError(IrisError):
    """The server is about to stop, so new requests should go to another one."""

    status = 503
    slug = "draining"
    title = "Draining"
    detail = "This server is about to stop: send requests to another one."
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class InvalidJSONError(IrisError):
    """The body is empty or is not JSON."""

    status = 400
    slug = "invalid-json"
    title = "Not JSON"


class BodyTooLargeError(IrisError):
    """The body has more bytes than the service reads."""

    status = 413
    slug = "body-too-large"
    title = "Body too large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"A body may have {max_bytes:,} bytes at most: split the batch.")


class TooManyRowsError(IrisError):
    """The batch has more rows than one request may have."""

    status = 413
    slug = "too-many-rows"
    title = "Batch too large"

    def __init__(self, rows: int, max_rows: int) -> None:
        super().__init__(f"The batch has {rows:,} rows and may have {max_rows:,}: split it.")


class MediaTypeError(IrisError):
    """The body is declared as something other than plain JSON."""

    status = 415
    slug = "media-type"
    title = "Wrong media type"
    detail = "Send the body as 'Content-Type: application/json'."
    headers: ClassVar[dict[str, str]] = {"Accept-Post": "application/json"}


class FieldProblem(TypedDict):
    """One error in a body: its row (from 0, in a batch only), field, message and kind."""

    row: NotRequired[int]
    field: NotRequired[str]
    message: str
    type: str


@dataclass(frozen=True, slots=True)
class FieldError:
    """One error in a body, with None where it has no row or no field."""

    row: int | None
    field: str | None
    message: str
    type: str

    def as_member(self) -> FieldProblem:
        """The error as a member of the problem's `errors`, without the parts that are None."""
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return cast("FieldProblem", fields)


class ContractError(IrisError):
    """The body is JSON but breaks the model's input contract."""

    status = 422
    slug = "contract"
    title = "Input breaks the contract"

    def __init__(self, errors: tuple[FieldError, ...], total: int) -> None:
        rest = "" if total == len(errors) else f" The first {len(errors)} are listed."
        super().__init__(f"The body has {total} error{'' if total == 1 else 's'}.{rest}")
        self.errors = errors
        self.total = total

    @property
    def extensions(self) -> Mapping[str, object]:
        """The listed errors, and how many there are in all."""
        return {"errors": [error.as_member() for error in self.errors], "total": self.total}

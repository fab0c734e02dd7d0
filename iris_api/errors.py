"""Every error the service raises on purpose, in one tree.

Each carries what its receiver needs: a sentence with the mend, an HTTP status, and a slug that
names the kind of problem. Nothing here knows Flask; `errors` renders the tree over HTTP.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, NotRequired, cast

from typing_extensions import TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping


def reason(error: Exception) -> str:
    """What another library's error says, in one line of bounded length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


class IrisError(Exception):
    """Root of the tree; its message is one sentence for whoever caused it."""

    status: ClassVar[int] = 500
    slug: ClassVar[str | None] = None
    title: ClassVar[str | None] = None
    public: ClassVar[bool] = True
    """Whether the message may be shown to a client."""
    headers: ClassVar[dict[str, str]] = {}
    """Response headers that belong to this problem."""

    @property
    def extensions(self) -> Mapping[str, object]:
        """Further members of the problem document (RFC 9457, section 3.2)."""
        return {}


class OperatorError(IrisError):
    """Something only the operator can mend: it stops the start, and clients see no detail."""

    status = 503
    public = False
    headers: ClassVar[dict[str, str]] = {"Retry-After": "10"}


class SettingsError(OperatorError):
    """A setting is unknown or has a value that can't be used."""


class KeyFileError(OperatorError):
    """The API keys can't be read or written."""


class BundleError(OperatorError):
    """A bundle is missing, broken or not to be trusted."""


class CountersError(OperatorError):
    """What the processes of a server have counted can't be read."""


class TableError(OperatorError):
    """A table of rows can't be read, scored or written."""


class ExportError(OperatorError):
    """An estimator can't be made into a bundle."""


class NotAuthenticatedError(IrisError):
    """The request carries no API key."""

    status = 401
    slug = "not-authenticated"
    title = "API key required"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="iris-api"'}


class WrongKeyError(IrisError):
    """The request carries an API key that is nobody's."""

    status = 401
    slug = "wrong-key"
    title = "API key not known"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="iris-api"'}


class OverloadedError(IrisError):
    """The request has waited so long that its client may be gone."""

    status = 503
    slug = "overloaded"
    title = "Overloaded"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class DrainingError(IrisError):
    """The server is about to stop: whoever asks whether it is ready should go elsewhere."""

    status = 503
    slug = "draining"
    title = "Draining"
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


class TooManyRowsError(IrisError):
    """The batch has more rows than one request may have."""

    status = 413
    slug = "too-many-rows"
    title = "Batch too large"


class MediaTypeError(IrisError):
    """The body is declared as something other than plain JSON."""

    status = 415
    slug = "media-type"
    title = "Wrong media type"
    headers: ClassVar[dict[str, str]] = {"Accept-Post": "application/json"}


class FieldProblem(TypedDict):
    """One thing wrong with a body: where (`row` only in a batch, from 0), what, and its kind."""

    row: NotRequired[int]
    field: NotRequired[str]
    message: str
    type: str


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with a body, with None for what it does not have."""

    row: int | None
    field: str | None
    message: str
    type: str

    def as_member(self) -> FieldProblem:
        """The error as a member of the problem's `errors`, without what it does not have."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        return cast("FieldProblem", told)


class ContractError(IrisError):
    """The body is JSON but breaks the model's input contract."""

    status = 422
    slug = "contract"
    title = "Input breaks the contract"

    def __init__(self, errors: tuple[FieldError, ...], total: int) -> None:
        shown = "" if total == len(errors) else f" The first {len(errors)} are listed."
        super().__init__(f"The body has {total} error{'' if total == 1 else 's'}.{shown}")
        self.errors = errors
        self.total = total

    @property
    def extensions(self) -> Mapping[str, object]:
        """The listed errors, and how many there are."""
        return {"errors": [error.as_member() for error in self.errors], "total": self.total}

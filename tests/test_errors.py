from __future__ import annotations

import pytest

from iris_api import errors
from iris_api.errors import (
    ContractError,
    DrainingError,
    FieldError,
    IrisError,
    OperatorError,
    OverloadedError,
    reason,
)

EVERY = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, IrisError) and kind is not IrisError
]


@pytest.mark.parametrize("kind", EVERY)
def test_only_errors_of_a_client_have_public_details(kind: type[IrisError]) -> None:
    """A client's error is a named 4xx, or 503 for overload; an operator's is 503 without detail."""
    if issubclass(kind, OperatorError):
        assert (kind.status, kind.public) == (503, False)
    else:
        assert 400 <= kind.status < 500 or kind in {OverloadedError, DrainingError}
        assert kind.public
        assert kind.slug
        assert kind.title


def test_an_error_in_a_body_has_no_empty_members() -> None:
    """An error without a row or a field has no such key."""
    error = ContractError((FieldError(None, None, "bad", "kind"),), total=1)
    assert error.extensions == {"errors": [{"message": "bad", "type": "kind"}], "total": 1}
    assert str(error) == "The body has 1 error."


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError(""), "ValueError"),
        (ValueError("x" * 9999), "x" * 300),
    ],
)
def test_the_reason_of_another_librarys_error_is_one_short_line(
    error: Exception, expected: str
) -> None:
    """An error without a message gives its type; a long message is truncated."""
    assert reason(error) == expected

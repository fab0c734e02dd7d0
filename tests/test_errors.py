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
def test_every_error_has_a_status_and_tells_a_client_no_more_than_it_may(
    kind: type[IrisError],
) -> None:
    """A client's mistake is a named 4xx, overload 503; an operator's is a 503 without detail."""
    if issubclass(kind, OperatorError):
        assert (kind.status, kind.public) == (503, False)
    else:
        assert 400 <= kind.status < 500 or kind in {OverloadedError, DrainingError}
        assert kind.public
        assert kind.slug
        assert kind.title


def test_a_contract_error_lists_only_what_an_error_has() -> None:
    """`row` is there in a batch alone, `field` where there is one."""
    error = ContractError((FieldError(None, None, "bad", "kind"),), total=1)
    assert error.extensions == {"errors": [{"message": "bad", "type": "kind"}], "total": 1}
    assert str(error) == "The body has 1 error."


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError(""), "ValueError"),
        (ValueError("x" * 9999), "x" * 300),
    ],
)
def test_the_reason_of_a_foreign_error_is_one_bounded_line(error: Exception, line: str) -> None:
    """Some libraries say nothing, and some say pages."""
    assert reason(error) == line

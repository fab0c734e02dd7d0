from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flask.testing import FlaskClient


@pytest.fixture
def document(stranger: FlaskClient) -> Any:
    """The OpenAPI document, as any client gets it."""
    return stranger.get("/openapi.json").json

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iris_api.errors import BundleError
from iris_api.settings import Settings
from iris_api.web.service import Service

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_is_loaded_before_it_is_asked_for(tmp_path: Path, trained: Path) -> None:
    """A service on nothing can be made; opening it is what fails."""
    empty = Service(Settings(model_dir=tmp_path))
    assert empty.keys.own_key
    with pytest.raises(BundleError):
        empty.open()
    whole = Service(Settings(model_dir=trained))
    whole.open()
    assert whole.model is whole.model


def test_the_default_limit_of_a_body_is_two_mebibytes_or_what_the_rows_need(trained: Path) -> None:
    """A model with many rows a request gets a larger body; a set limit holds."""
    small = Service(Settings(model_dir=trained))
    large = Service(Settings(model_dir=trained, max_rows=50_000))
    exact = Service(Settings(model_dir=trained, max_body_bytes=99))
    assert small.serving.max_body_bytes == 2 * 1024 * 1024
    assert large.serving.max_body_bytes == large.model.schema.max_body_bytes > 8_000_000
    assert exact.serving.max_body_bytes == 99

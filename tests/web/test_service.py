from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from iris_api.errors import BundleError
from iris_api.settings import Settings
from iris_api.web.service import Drain, Service

if TYPE_CHECKING:
    from pathlib import Path


def test_model_and_keys_are_loaded_at_their_first_use(tmp_path: Path, trained: Path) -> None:
    """A service without a bundle can be built; opening it is an error."""
    empty = Service(Settings(model_dir=tmp_path))
    assert empty.keys.own_key
    with pytest.raises(BundleError):
        empty.open()
    whole = Service(Settings(model_dir=trained))
    whole.open()
    assert whole.model is whole.model


def test_the_largest_body_is_two_mebibytes_or_fits_the_most_rows(trained: Path) -> None:
    """With a large row limit the default grows; a limit that is set holds."""
    small = Service(Settings(model_dir=trained))
    large = Service(Settings(model_dir=trained, max_rows=50_000))
    exact = Service(Settings(model_dir=trained, max_body_bytes=99))
    assert small.serving.max_body_bytes == 2 * 1024 * 1024
    assert large.serving.max_body_bytes == large.model.schema.max_body_bytes > 8_000_000
    assert exact.serving.max_body_bytes == 99


def test_forked_processes_share_the_drain() -> None:
    """A process that was forked before sets the flag for its parent, too."""
    drain = Drain()
    assert not drain.begun
    child = multiprocessing.get_context("fork").Process(target=drain.begin)
    child.start()
    child.join()
    assert drain.begun

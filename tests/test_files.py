from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iris_api.files import locked, replace

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    """A new file gets the mode asked for; a replaced one keeps its own."""
    path = tmp_path / "file"
    replace(path, b"one", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    replace(path, b"two")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o640)


def test_a_failed_replacement_leaves_nothing_behind(tmp_path: Path) -> None:
    """Where the rename can't be done, the old stands and no half-written file stays."""
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace(path, b"content")
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    """An error inside does not keep the lock."""
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        assert tmp_path.exists()

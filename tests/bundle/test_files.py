from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from iris_api.bundle.files import PartFile, locked, replace

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    """A new file gets the requested mode; a file that is replaced passes on its own."""
    path = tmp_path / "file"
    replace(path, b"one", mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    replace(path, b"two")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o640)


def test_a_failed_replacement_leaves_nothing_behind(tmp_path: Path) -> None:
    """If the rename fails, the old file stays and the half-written one is removed."""
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace(path, b"content")
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_released_at_the_end_of_its_block(tmp_path: Path) -> None:
    """An error inside the block releases it too."""
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        assert tmp_path.exists()


def test_a_part_file_has_one_writer_at_a_time_and_is_renamed_at_its_end(tmp_path: Path) -> None:
    """The next writer continues it at a size that it knows, unless the file is shorter."""
    path = tmp_path / "file"
    first = PartFile(path)
    first.write(b"whole half")
    with pytest.raises(BlockingIOError):
        PartFile(path)
    assert first.size == 10
    first.close()
    second = PartFile(path)
    with pytest.raises(EOFError):
        second.start_at(11)
    second.start_at(6)
    second.write(b"again")
    assert not path.exists()
    second.publish()
    second.close()
    assert path.read_bytes() == b"whole again"
    assert list(tmp_path.iterdir()) == [path]


def test_a_discarded_part_file_leaves_nothing_behind(tmp_path: Path) -> None:
    """The file that it would have replaced keeps its content."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    file = PartFile(path)
    assert file.replaces
    file.write(b"new")
    file.discard()
    file.close()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"

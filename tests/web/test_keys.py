from __future__ import annotations

import logging
import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest

from iris_api.errors import KeyFileError
from iris_api.web.keys import KeyFile, KeyRing, digest_of, new_key

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    """A key file that does not exist yet."""
    return KeyFile(tmp_path / "keys")


def test_a_key_is_known_by_its_digest_alone(file: KeyFile) -> None:
    """What is stored does not contain the key, and only its owner may read it."""
    key = file.add("shop")
    stored = file.path.read_text()
    assert stored == f"shop:{digest_of(key)}\n"
    assert key not in stored
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_keys_are_long_and_never_alike() -> None:
    """256 random bits each."""
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert all(len(key) == len("iris_") + 43 for key in made)


def test_a_ring_opens_to_its_keys_and_to_nothing_else(file: KeyFile) -> None:
    """Both sources count; near misses, digests and rubbish do not."""
    stored, given = file.add("shop"), new_key()
    ring = KeyRing(f"cron:{digest_of(given)}", file.path)
    assert ring.name_of(stored) == "shop"
    assert ring.name_of(given) == "cron"
    assert ring.own_key is None
    for wrong in ("", stored[:-1], stored + " ", stored.upper(), digest_of(stored), "é", "\udcff"):
        assert ring.name_of(wrong) is None


def test_without_any_source_a_ring_makes_its_own_key() -> None:
    """The service is never open: a fresh key for each run."""
    one, other = KeyRing("", None), KeyRing("", None)
    assert one.own_key
    assert one.name_of(one.own_key) == "this-run"
    assert other.name_of(one.own_key) is None


def test_an_empty_key_file_opens_to_nobody(file: KeyFile) -> None:
    """A configured file is the only way in, also while it has no key."""
    file.path.write_text("# none yet\n")
    ring = KeyRing("", file.path)
    assert ring.own_key is None
    assert ring.names == []


def test_a_ring_follows_its_file_without_a_restart(file: KeyFile) -> None:
    """A key is good from the moment it is stored until the moment it is revoked."""
    first = file.add("first")
    ring = KeyRing("", file.path)
    second = file.add("second")
    assert ring.name_of(second) == "second"
    file.revoke("first")
    assert ring.name_of(first) is None
    assert ring.names == ["second"]


@pytest.mark.parametrize("damage", ["nonsense", None])
def test_a_file_that_breaks_while_serving_locks_nobody_out(
    file: KeyFile, damage: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The keys before stay good, the log says so once, and a mended file is taken up."""
    key = file.add("shop")
    ring = KeyRing("", file.path)
    whole = file.path.read_text()
    file.path.unlink()
    if damage:
        file.path.write_text(damage)
    with caplog.at_level(logging.WARNING):
        assert [ring.name_of(key) for _ in range(3)] == ["shop"] * 3
    assert len(caplog.records) == 1
    file.path.unlink(missing_ok=True)
    file.path.write_text("# all revoked\n" + whole.replace("shop", "mart"))
    assert ring.name_of(key) == "mart"


def test_a_late_worker_trusts_no_key_that_it_has_not_read_itself(file: KeyFile) -> None:
    """A key that was revoked since the server's start stays revoked, though the file be broken."""
    revoked, fixed = file.add("revoked"), new_key()
    ring = KeyRing(f"cron:{digest_of(fixed)}", file.path)
    file.path.write_text("nonsense")
    ring.forget_file()
    assert ring.name_of(revoked) is None
    assert ring.name_of(fixed) == "cron"
    file.path.write_text("")
    kept = file.add("kept")
    assert ring.name_of(kept) == "kept"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("shop", "entry 1 is not name:sha256hex"),
        ("# fine\n\nshop:abc", "entry 3 is not"),
        (f"my shop:{'0' * 64}", "entry 1 is not"),
        (f"shop:{'G' * 64}", "entry 1 is not"),
        (f"shop:{'0' * 64}\nshop:{'1' * 64}", "shop stands there twice"),
    ],
)
def test_an_entry_that_is_none_is_refused(file: KeyFile, text: str, reason: str) -> None:
    """The message counts the entry and does not repeat it: it may hold a key by mistake."""
    file.path.write_text(text)
    with pytest.raises(KeyFileError, match=reason) as refusal:
        KeyRing("", file.path)
    assert "0000" not in str(refusal.value)


def test_entries_of_the_setting_are_parted_by_commas_or_lines() -> None:
    """A secret mounted as a file has lines; a variable has commas. Comments go."""
    text = f"a:{'0' * 64}, b:{'1' * 64}\nc:{'2' * 64}  # the third\n"
    assert KeyRing(text, None).names == ["a", "b", "c"]


def test_a_file_that_can_not_be_read_stops_the_ring(file: KeyFile) -> None:
    """Missing, or no text."""
    with pytest.raises(KeyFileError, match="it is not there; make it with 'flask"):
        KeyRing("", file.path)
    file.path.write_bytes(b"\xff\xfe")
    with pytest.raises(KeyFileError, match="can't be read: not UTF-8 text"):
        KeyRing("", file.path)


def test_a_pipe_in_the_files_place_is_refused(file: KeyFile) -> None:
    """Reading it would wait for ever."""
    os.mkfifo(file.path)
    with pytest.raises(KeyFileError, match="not a regular file"):
        KeyRing("", file.path)


def test_a_change_that_keeps_size_and_time_is_seen(file: KeyFile) -> None:
    """As an editor may write it that restores the time."""
    old, new = new_key(), new_key()
    file.path.write_text(f"shop:{digest_of(old)}\n")
    ring, before = KeyRing("", file.path), file.path.stat()
    file.path.write_text(f"shop:{digest_of(new)}\n")
    os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (ring.name_of(old), ring.name_of(new)) == (None, "shop")


def test_a_name_has_one_key(file: KeyFile) -> None:
    """A second key for a name is refused, and so is a name that would break the file."""
    file.add("shop")
    with pytest.raises(KeyFileError, match="shop has a key already"):
        file.add("shop")
    for name in ("", "a:b", "a b", "a\nb", "x" * 65, "é"):
        with pytest.raises(KeyFileError, match="is no name"):
            file.add(name)


def test_revoking_keeps_comments_and_refuses_strangers(file: KeyFile) -> None:
    """The file is the operator's: what we do not know stays."""
    file.path.write_text(f"# ours\nshop:{'0' * 64}  # the web shop\ncron:{'1' * 64}\n")
    file.revoke("shop")
    assert file.path.read_text() == f"# ours\ncron:{'1' * 64}\n"
    with pytest.raises(KeyFileError, match="has no key named shop"):
        file.revoke("shop")


def test_a_linked_file_stays_a_link(file: KeyFile, tmp_path: Path) -> None:
    """The target is replaced, as a mounted secret needs it."""
    target = tmp_path / "elsewhere"
    target.write_text("")
    file.path.symlink_to(target)
    file.add("shop")
    assert file.path.is_symlink()
    assert target.read_text().startswith("shop:")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """No traceback for a mistyped path."""
    with pytest.raises(KeyFileError, match="can't be written: No such file"):
        KeyFile(tmp_path / "nowhere" / "keys").add("shop")


def _add(path: Path, number: int) -> None:
    KeyFile(path).add(f"caller-{number}-of-{os.getppid()}")


def test_keys_added_at_once_are_all_kept(file: KeyFile) -> None:
    """Twelve processes, twelve keys."""
    context = multiprocessing.get_context("spawn")
    adders = [context.Process(target=_add, args=(file.path, n)) for n in range(12)]
    for adder in adders:
        adder.start()
    for adder in adders:
        adder.join()
    assert len(file.digests()) == 12

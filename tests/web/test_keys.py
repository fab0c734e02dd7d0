from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from iris_api.errors import KeyFileError
from iris_api.web.keys import KeyFile, KeyRing, digest_of, new_key
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    """A key file that does not exist yet."""
    return KeyFile(tmp_path / "keys")


def test_a_key_file_has_only_digests(file: KeyFile) -> None:
    """It does not contain the key, and only its owner may read it."""
    key = file.add("shop")
    stored = file.path.read_text()
    assert stored == f"shop:{digest_of(key)}\n"
    assert key not in stored
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_keys_are_long_and_distinct() -> None:
    """Each has 256 random bits, in base64."""
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == len("iris_") + 43 for key in keys)


def test_a_ring_accepts_the_keys_of_both_sources_and_no_other(file: KeyFile) -> None:
    """A truncated or altered key and a digest are not keys."""
    stored, configured = file.add("shop"), new_key()
    ring = KeyRing(f"cron:{digest_of(configured)}", file.path)
    assert ring.name_of(stored) == "shop"
    assert ring.name_of(configured) == "cron"
    assert ring.own_key is None
    for wrong in ("", stored[:-1], stored + " ", stored.upper(), digest_of(stored), "é", "\udcff"):
        assert ring.name_of(wrong) is None


def test_a_ring_without_a_source_generates_a_key() -> None:
    """The service is never open: each run has a new key."""
    one, other = KeyRing("", None), KeyRing("", None)
    assert one.own_key
    assert one.name_of(one.own_key) == "this-run"
    assert other.name_of(one.own_key) is None


def test_an_empty_key_file_accepts_no_key(file: KeyFile) -> None:
    """No key is generated if a file is configured."""
    file.path.write_text("# none yet\n")
    ring = KeyRing("", file.path)
    assert ring.own_key is None
    assert ring.names == []


def test_a_ring_follows_its_file_without_a_restart(file: KeyFile) -> None:
    """A key is valid from the moment it is stored until the moment it is revoked."""
    first = file.add("first")
    ring = KeyRing("", file.path)
    second = file.add("second")
    assert ring.name_of(second) == "second"
    file.revoke("first")
    assert ring.name_of(first) is None
    assert ring.names == ["second"]


@pytest.mark.parametrize("damage", ["nonsense", None])
def test_keys_stay_valid_while_their_file_is_broken(
    file: KeyFile, damage: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning is logged, and the file is read again once it is valid."""
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


def test_a_new_worker_accepts_no_key_that_it_has_not_read_itself(file: KeyFile) -> None:
    """A key revoked since the server's start stays revoked, even if the file is broken now."""
    revoked, fixed = file.add("revoked"), new_key()
    ring = KeyRing(f"cron:{digest_of(fixed)}", file.path)
    file.path.write_text("nonsense")
    ring.forget_file()
    assert ring.name_of(revoked) is None
    assert ring.name_of(fixed) == "cron"
    file.path.write_text("")
    new = file.add("new")
    assert ring.name_of(new) == "new"


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
def test_an_invalid_entry_is_refused_by_its_number(file: KeyFile, text: str, reason: str) -> None:
    """The message does not repeat the entry, which may contain a key by mistake."""
    file.path.write_text(text)
    with pytest.raises(KeyFileError, match=reason) as refusal:
        KeyRing("", file.path)
    assert "0000" not in str(refusal.value)


def test_entries_of_the_setting_are_separated_by_commas_or_lines() -> None:
    """A mounted secret has lines and a variable has commas; comments are ignored."""
    text = f"a:{'0' * 64}, b:{'1' * 64}\nc:{'2' * 64}  # the third\n"
    assert KeyRing(text, None).names == ["a", "b", "c"]


def test_a_file_that_can_not_be_read_is_an_error(file: KeyFile) -> None:
    """It is missing, or it is not text."""
    with pytest.raises(KeyFileError, match="it is not there; make it with 'flask"):
        KeyRing("", file.path)
    file.path.write_bytes(b"\xff\xfe")
    with pytest.raises(KeyFileError, match="can't be read: not UTF-8 text"):
        KeyRing("", file.path)


def test_a_pipe_instead_of_a_file_is_refused(file: KeyFile) -> None:
    """Reading it would block forever."""
    os.mkfifo(file.path)
    with pytest.raises(KeyFileError, match="not a regular file"):
        KeyRing("", file.path)


def test_a_change_that_keeps_size_and_time_is_noticed(file: KeyFile) -> None:
    """An editor may restore the modification time."""
    old, new = new_key(), new_key()
    file.path.write_text(f"shop:{digest_of(old)}\n")
    ring, before = KeyRing("", file.path), file.path.stat()
    file.path.write_text(f"shop:{digest_of(new)}\n")
    os.utime(file.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (ring.name_of(old), ring.name_of(new)) == (None, "shop")


def test_a_name_has_one_key(file: KeyFile) -> None:
    """A second key for a name is refused, and so is a name that an entry can't have."""
    file.add("shop")
    with pytest.raises(KeyFileError, match="shop has a key already"):
        file.add("shop")
    for name in ("", "a:b", "a b", "a\nb", "x" * 65, "é"):
        with pytest.raises(KeyFileError, match="is no name"):
            file.add(name)


def test_revoking_a_key_keeps_comments_and_other_keys(file: KeyFile) -> None:
    """A name without a key is an error."""
    file.path.write_text(f"# operators\nshop:{'0' * 64}  # the web shop\ncron:{'1' * 64}\n")
    file.revoke("shop")
    assert file.path.read_text() == f"# operators\ncron:{'1' * 64}\n"
    with pytest.raises(KeyFileError, match="has no key named shop"):
        file.revoke("shop")


def test_a_symbolic_link_stays_one(file: KeyFile, tmp_path: Path) -> None:
    """A change replaces its target: a mounted secret is such a link."""
    target = tmp_path / "elsewhere"
    target.write_text("")
    file.path.symlink_to(target)
    file.add("shop")
    assert file.path.is_symlink()
    assert target.read_text().startswith("shop:")


def test_a_missing_directory_is_one_error(tmp_path: Path) -> None:
    """A mistyped path gives no traceback."""
    with pytest.raises(KeyFileError, match="can't be written: No such file"):
        KeyFile(tmp_path / "nowhere" / "keys").add("shop")


TWELVE_WRITERS = """
import os, sys
from pathlib import Path
from iris_api.web.keys import KeyFile

writers = []
for number in range(12):
    writer = os.fork()
    if not writer:
        KeyFile(Path(sys.argv[1])).add(f"caller-{number}")
        os._exit(0)
    writers.append(writer)
sys.exit(any(os.waitpid(writer, 0)[1] for writer in writers))
"""


def test_keys_added_concurrently_are_all_kept(file: KeyFile) -> None:
    """Twelve processes add one key each."""
    command = [sys.executable, "-c", TWELVE_WRITERS, str(file.path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    assert len(file.digests()) == 12

"""API keys: only their SHA-256 digests are known here, each under the name of its caller.

A key has 256 random bits, so a plain digest can't be searched for, and looking a digest up in a
dictionary tells nothing of the keys by its timing.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from iris_api.bundle.files import locked, replace
from iris_api.errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,64}):(?P<digest>[0-9a-f]{64})")
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def new_key() -> str:
    """A fresh key of 256 random bits."""
    return f"iris_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    """The SHA-256 of a key, in hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class Taken(NamedTuple):
    """What was last read of the sources, replaced as one so that no thread sees half of it."""

    signature: tuple[int, ...] | None
    names: dict[str, str]


class KeyRing:
    """The digests that open the service, from a setting and from a file that may change.

    With neither set, it makes one key for the life of the process: the service is never open.

    Raises:
        KeyFileError: if either source holds a line that is no entry, or the file can't be read.
    """

    own_key: str | None = None
    """The key made here, if no source is set."""
    _complaint: str | None = None

    def __init__(self, entries: str, file: Path | None) -> None:
        self._fixed = _digests(entries.replace(",", "\n"), "IRIS_API_KEYS")
        self._file = KeyFile(file) if file else None
        if not self._fixed and self._file is None:
            self.own_key = new_key()
            self._fixed = {digest_of(self.own_key): "this-run"}
        self._taken = self._read(self._file) if self._file else Taken(None, self._fixed)
        self._told = self._taken.names

    @property
    def names(self) -> list[str]:
        """Names of the callers that have a key."""
        return sorted(set(self._taken.names.values()))

    def name_of(self, key: str) -> str | None:
        """Name of the caller whose key this is, if it is one's."""
        if self._file is not None and self._file.signature() != self._taken.signature:
            self._follow(self._file)
        return self._taken.names.get(digest_of(key))

    def forget_file(self) -> None:
        """Read the file again before it opens to anyone.

        For a forked worker: what it inherits may be as old as the server, and a key may have been
        revoked since.
        """
        if self._file is not None:
            self._taken = Taken((), self._fixed)

    def _read(self, file: KeyFile) -> Taken:
        signature = file.signature()
        return Taken(signature, self._fixed | file.digests())

    def _follow(self, file: KeyFile) -> None:
        """Take up a change of the file; while it can't be read, the keys before it stay good."""
        try:
            self._taken = self._read(file)
        except KeyFileError as error:
            if self._complaint != str(error):  # Tried again with each request, told once.
                self._complaint = str(error)
                logger.warning("API keys not taken up, the ones before stay good: %s", error)
        else:
            if self._taken.names != self._told or self._complaint:
                self._told = self._taken.names
                names = ", ".join(self.names) or "none is left"
                logger.info("API keys taken up from %s: %s", file.path, names)
            self._complaint = None


class KeyFile:
    """A file of `name:sha256hex` lines, with `#` comments, changed atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def signature(self) -> tuple[int, ...] | None:
        """What changes when the file does."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size

    def digests(self) -> dict[str, str]:
        """Names by digest.

        Raises:
            KeyFileError: if the file can't be read or has a line that is no entry.
        """
        return _digests(self._text(), str(self.path))

    def add(self, name: str) -> str:
        """Make a key for a new name, store its digest, and return the key: it is nowhere else."""
        if not NAME.fullmatch(name):
            raise KeyFileError(f"{name!r} is no name: use 1 to 64 letters, digits, '.', '_' or '-'")
        key = new_key()
        with self._changing(create=True) as lines:
            if name in _digests("\n".join(lines), str(self.path)).values():
                raise KeyFileError(f"{name} has a key already: revoke it first, or take a new name")
            lines.append(f"{name}:{digest_of(key)}")
        return key

    def revoke(self, name: str) -> None:
        """Forget the key of a name."""
        with self._changing() as lines:
            if name not in self.digests().values():
                raise KeyFileError(f"{self.path} has no key named {name}")
            lines[:] = [line for line in lines if line.partition(":")[0].strip() != name]

    def _text(self) -> str:
        if self.path.exists() and not self.path.is_file():
            raise KeyFileError(f"{self.path} can't be read: not a regular file")
        try:
            return self.path.read_text("utf-8")
        except FileNotFoundError as error:
            mend = "make it with 'flask --app wsgi keys add NAME'"
            raise KeyFileError(f"{self.path} can't be read: it is not there; {mend}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise KeyFileError(f"{self.path} can't be read: {reason}") from error

    @contextmanager
    def _changing(self, *, create: bool = False) -> Iterator[list[str]]:
        """The file's lines, to be changed in place; written back whole, one writer at a time."""
        path = self.path.resolve()
        try:
            with locked(path.parent):
                lines = [] if create and not path.exists() else self._text().splitlines()
                yield lines
                replace(path, "".join(f"{line}\n" for line in lines).encode(), mode=0o600)
        except OSError as error:
            raise KeyFileError(f"{self.path} can't be written: {error.strerror}") from error


def _digests(text: str, source: str) -> dict[str, str]:
    names: dict[str, str] = {}
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = ENTRY.fullmatch(entry)
        if not match:
            raise KeyFileError(f"{source}: entry {number} is not name:sha256hex")
        if match["name"] in seen:
            raise KeyFileError(f"{source}: {match['name']} stands there twice")
        seen.add(match["name"])
        names[match["digest"]] = match["name"]
    return names

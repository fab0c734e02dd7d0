"""API keys. Only their SHA-256 digests are stored, each under the name of its caller.

A key has 256 random bits, so that its plain digest can't be guessed, and the time that the lookup
of a digest takes reveals nothing about the stored keys.
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


class Snapshot(NamedTuple):
    """What was last read from the sources. It is replaced at once, so no thread sees half of it."""

    signature: tuple[int, ...] | None
    names: dict[str, str]


class KeyRing:
    """The digests of the valid keys, from a setting and from a file that may change.

    Without either, it makes a key for the life of the process: the service is never open.

    Raises:
        KeyFileError: if either source has an invalid entry, or the file can't be read.
    """

    own_key: str | None = None
    """The key of this process, if no source is set."""
    _refusal: str | None = None

    def __init__(self, entries: str, file: Path | None) -> None:
        self._fixed = _digests(entries.replace(",", "\n"), "IRIS_API_KEYS")
        self._file = KeyFile(file) if file else None
        if not self._fixed and self._file is None:
            self.own_key = new_key()
            self._fixed = {digest_of(self.own_key): "this-run"}
        self._snapshot = self._read(self._file) if self._file else Snapshot(None, self._fixed)
        self._logged_names = self._snapshot.names

    @property
    def names(self) -> list[str]:
        """Names of the callers that have a key."""
        return sorted(set(self._snapshot.names.values()))

    def name_of(self, key: str) -> str | None:
        """Name of the caller with this key; None if the key is not known."""
        if self._file is not None and self._file.signature() != self._snapshot.signature:
            self._reload(self._file)
        return self._snapshot.names.get(digest_of(key))

    def forget_file(self) -> None:
        """Read the file again before the next key is accepted.

        A forked worker inherits what the server once read, and a key may have been revoked since.
        """
        if self._file is not None:
            self._snapshot = Snapshot((), self._fixed)

    def _read(self, file: KeyFile) -> Snapshot:
        signature = file.signature()
        return Snapshot(signature, self._fixed | file.digests())

    def _reload(self, file: KeyFile) -> None:
        """Read a changed file. As long as it can't be read, the previous keys stay valid."""
        try:
            self._snapshot = self._read(file)
        except KeyFileError as error:
            if self._refusal != str(error):  # Each request tries again; one line is enough.
                self._refusal = str(error)
                logger.warning({"event": "keys_refused", "reason": str(error)})
        else:
            if self._snapshot.names != self._logged_names or self._refusal:
                self._logged_names = self._snapshot.names
                fields = {"event": "keys_reloaded", "file": str(file.path), "names": self.names}
                logger.info(fields)
            self._refusal = None


class KeyFile:
    """A file of `name:sha256hex` lines with `#` comments. It is replaced atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def signature(self) -> tuple[int, ...] | None:
        """A value that changes whenever the file does; None if there is no file."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size

    def digests(self) -> dict[str, str]:
        """Names by digest.

        Raises:
            KeyFileError: if the file can't be read or has an invalid entry.
        """
        return _digests(self._text(), str(self.path))

    def add(self, name: str) -> str:
        """Make a key for a new name, store its digest, and return the key itself."""
        if not NAME.fullmatch(name):
            raise KeyFileError(f"{name!r} is no name: use 1 to 64 letters, digits, '.', '_' or '-'")
        key = new_key()
        with self._changing(create=True) as lines:
            if name in _digests("\n".join(lines), str(self.path)).values():
                raise KeyFileError(f"{name} has a key already: revoke it first, or take a new name")
            lines.append(f"{name}:{digest_of(key)}")
        return key

    def revoke(self, name: str) -> None:
        """Remove the key of a name."""
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
        """The lines of the file, to be edited in place; one writer at a time writes them back."""
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

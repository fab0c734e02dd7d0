"""What a process holds for as long as it serves: settings, model, keys and counters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, cast

from .drain import Drain
from .instruments import Instruments
from .keys import KeyRing
from .model import Model
from .slots import installed
from .tally import Tally

if TYPE_CHECKING:
    from .settings import Settings

DEFAULT_BODY_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Serving:
    """One version at work: its model, and what that has predicted."""

    model: Model
    tally: Tally


class Service:
    """Model and keys, each loaded when first asked for; a server asks for both at its start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.drain = Drain()
        self._serving: Serving | None = None

    @property
    def serving(self) -> Serving:
        """The version that answers now. Take it once in a request: the next may find another.

        Raises:
            BundleError: if there is none that can be trusted.
        """
        if self._serving is None:
            self.serve(Model.load(self.settings.model_dir, max_rows=self.settings.max_rows))
        return cast("Serving", self._serving)

    def serve(self, model: Model) -> None:
        """Let another version answer from the next request on."""
        self._serving = Serving(model, Tally(self.instruments, model))

    @property
    def model(self) -> Model:
        """The model that answers now."""
        return self.serving.model

    @cached_property
    def keys(self) -> KeyRing:
        """The keys that open the service.

        Raises:
            KeyFileError: if they can't be read.
        """
        return KeyRing(self.settings.api_keys, self.settings.api_keys_file)

    @cached_property
    def instruments(self) -> Instruments:
        """What is counted: across the processes of a server, if this is one's."""
        return Instruments(installed())

    @property
    def max_body_bytes(self) -> int:
        """Largest body that is read: as set, or room for the most rows, and 2 MiB at least."""
        return self.settings.max_body_bytes or max(
            DEFAULT_BODY_BYTES, self.model.schema.largest_body
        )

    def open(self) -> None:
        """Load all, so that what is wrong is said before the first request and not at it."""
        _ = self.serving, self.keys

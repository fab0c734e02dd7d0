"""What a process holds for as long as it serves: settings, model, keys and counters."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from .instruments import Instruments
from .keys import KeyRing
from .model import Model
from .slots import installed
from .tally import Tally

if TYPE_CHECKING:
    from .settings import Settings

DEFAULT_BODY_BYTES = 2 * 1024 * 1024


class Service:
    """Model and keys, each loaded when first asked for; a server asks for both at its start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def model(self) -> Model:
        """The model that answers now.

        Raises:
            BundleError: if there is none that can be trusted.
        """
        return Model.load(self.settings.model_dir, max_rows=self.settings.max_rows)

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

    @cached_property
    def tally(self) -> Tally:
        """What the model that answers has predicted."""
        return Tally(self.instruments, self.model)

    @property
    def max_body_bytes(self) -> int:
        """Largest body that is read: as set, or room for the most rows, and 2 MiB at least."""
        return self.settings.max_body_bytes or max(
            DEFAULT_BODY_BYTES, self.model.schema.largest_body
        )

    def open(self) -> None:
        """Load all, so that what is wrong is said before the first request and not at it."""
        _ = self.model, self.keys, self.tally

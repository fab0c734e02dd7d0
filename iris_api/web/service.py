"""What a process holds while it serves: settings, model, keys and metrics."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from iris_api.bundle.model import Model
from iris_api.monitoring.counter_directory import installed
from iris_api.monitoring.metrics import Metrics
from iris_api.monitoring.prediction_counts import PredictionCounter

from .keys import KeyRing

if TYPE_CHECKING:
    from iris_api.settings import Settings

DEFAULT_BODY_BYTES = 2 * 1024 * 1024
"""Largest body by default, unless a batch of the largest size needs more."""


class Drain:
    """A flag that a process shares with its forks: the server is about to stop."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    @property
    def begun(self) -> bool:
        """Whether new requests should go elsewhere. Requests that arrive are still answered."""
        return self._shared[0] != 0

    def begin(self) -> None:
        """Set the flag. It is never cleared."""
        self._shared[0] = 1


@dataclass(frozen=True, slots=True)
class Serving:
    """One version that serves: its model, its prediction counts and its largest body."""

    model: Model
    counter: PredictionCounter
    max_body_bytes: int


class Service:
    """Model and keys. Each is loaded at its first use; a server loads both at its start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.drain = Drain()
        self._serving: Serving | None = None

    @property
    def serving(self) -> Serving:
        """The version that serves now. Read it once per request: it may change in between.

        Raises:
            BundleError: if there is no bundle, or it can't be trusted.
        """
        serving = self._serving
        if serving is None:
            settings = self.settings
            serving = self.serve(Model.load(settings.model_dir, max_rows=settings.max_rows))
        return serving

    def serve(self, model: Model) -> Serving:
        """Serve this model from the next request on."""
        default = max(DEFAULT_BODY_BYTES, model.schema.max_body_bytes)
        max_body_bytes = self.settings.max_body_bytes or default
        counter = PredictionCounter(self.metrics, model)
        serving = self._serving = Serving(model, counter, max_body_bytes)
        return serving

    @property
    def model(self) -> Model:
        """The model that serves now."""
        return self.serving.model

    @cached_property
    def keys(self) -> KeyRing:
        """The API keys.

        Raises:
            KeyFileError: if they can't be read.
        """
        return KeyRing(self.settings.api_keys, self.settings.api_keys_file)

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics, summed over the processes of a server if this process belongs to one."""
        return Metrics(installed())

    def open(self) -> None:
        """Load everything now, so that errors stop the start and not the first request."""
        _ = self.serving, self.keys

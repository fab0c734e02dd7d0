"""What a process holds for as long as it serves: settings, model, keys and counters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from iris_api.bundle.model import Model
from iris_api.monitoring.counter_directory import installed
from iris_api.monitoring.metrics import Metrics
from iris_api.monitoring.prediction_counts import PredictionCounter
from iris_api.web.drain import Drain
from iris_api.web.keys import KeyRing

if TYPE_CHECKING:
    from iris_api.settings import Settings

DEFAULT_BODY_BYTES = 2 * 1024 * 1024
"""Largest body that is read, or what the most rows need, if that is more."""


@dataclass(frozen=True, slots=True)
class Serving:
    """One version at work: its model, what that has predicted, and the largest body it reads."""

    model: Model
    tally: PredictionCounter
    max_body_bytes: int


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
        serving = self._serving
        if serving is None:
            settings = self.settings
            serving = self.serve(Model.load(settings.model_dir, max_rows=settings.max_rows))
        return serving

    def serve(self, model: Model) -> Serving:
        """Let another version answer from the next request on."""
        largest = max(DEFAULT_BODY_BYTES, model.schema.largest_body)
        largest = self.settings.max_body_bytes or largest
        serving = self._serving = Serving(model, PredictionCounter(self.metrics, model), largest)
        return serving

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
    def metrics(self) -> Metrics:
        """What is counted: across the processes of a server, if this is one's."""
        return Metrics(installed())

    def open(self) -> None:
        """Load all, so that what is wrong is said before the first request and not at it."""
        _ = self.serving, self.keys

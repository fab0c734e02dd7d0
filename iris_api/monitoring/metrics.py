"""What is counted: Prometheus metrics, bound to their labels once, and summed over all workers.

Names follow https://prometheus.io/docs/practices/naming. A label's values come from the URL map,
the manifest, the key file or the code, never from a client, so that there are only so many series.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from iris_api.errors import IrisError, NotAuthenticatedError, OverloadedError, WrongKeyError
from iris_api.monitoring.slots import counted
from iris_api.monitoring.storage import STORE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from prometheus_client import Metric

    from iris_api.monitoring.slots import CounterDirectory
    from iris_api.monitoring.storage import StoredValue

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
ROWS = (1, 10, 100, 1_000, 10_000, 100_000)
CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
UNMATCHED = "unmatched"
"""Route of a request that no route matched: its path is the client's, and never a label."""


Increment = tuple["StoredValue", float]
"""What is to be added to a number. What belongs together is added by one call of `STORE.add`."""


class StoredCounter(Counter):
    """A counter that says where its number is."""

    @property
    def cell(self) -> StoredValue:
        """The number."""
        value: Any = self._value
        return cast("StoredValue", value)


class StoredHistogram(Histogram):
    """A histogram that says what a value adds to, found by bisection."""

    def of(self, amount: float) -> tuple[Increment, Increment]:
        """What one value adds."""
        bucket: Any = self._buckets[bisect_left(self._upper_bounds, amount)]
        total: Any = self._sum
        return (total, amount), (bucket, 1.0)

    def of_all(self, amounts: NDArray[np.floating[Any]]) -> list[Increment]:
        """What the values of an array of shape (rows,) add."""
        found = np.searchsorted(self._upper_bounds, amounts, side="left")
        cells: list[Any] = [self._sum, *self._buckets]
        added = [float(amounts.sum()), *np.bincount(found).tolist()]
        return list(zip(cells, added, strict=False))


class Metrics:
    """The metrics of one app.

    Args:
        directory: Where the server's processes keep their values; none: in this process alone.
    """

    def __init__(self, directory: CounterDirectory | None = None) -> None:
        self.directory = directory
        registry = self._registry = CollectorRegistry()
        self.requests = StoredCounter(
            "iris_requests", "Requests answered.", ("route", "status"), registry=registry
        )
        self.seconds = StoredHistogram(
            "iris_request_duration_seconds",
            "From when a request was taken up until its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.queue = StoredHistogram(
            "iris_request_queue_seconds",
            "From a request's arrival, at the proxy if there is one, until it was taken up.",
            buckets=SECONDS,
            registry=registry,
        )
        self.callers = StoredCounter(
            "iris_key_requests",
            "Requests with a good key, by its name.",
            ("key",),
            registry=registry,
        )
        self.in_flight = Gauge(
            "iris_requests_in_flight",
            "Requests being answered, the scrape among them.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.rows = StoredHistogram(
            "iris_request_rows", "Rows of a prediction request.", buckets=ROWS, registry=registry
        )
        self.predictions = StoredCounter(
            "iris_predictions",
            "Rows predicted, by class.",
            ("model_version", "class"),
            registry=registry,
        )
        self.confidence = StoredHistogram(
            "iris_prediction_confidence",
            "Probability of the predicted class.",
            ("model_version",),
            buckets=CONFIDENCES,
            registry=registry,
        )
        self.feature_rows = StoredCounter(
            "iris_feature_rows",
            "Rows predicted, by the bin of the training reference that a feature fell into.",
            ("model_version", "feature", "bin"),
            registry=registry,
        )
        self.refused = Counter(
            "iris_refused_requests", "Requests refused, by reason.", ("reason",), registry=registry
        )
        self.authentication_failures = Counter(
            "iris_authentication_failures",
            "Requests without a key (missing) or with a wrong one (wrong).",
            ("reason",),
            registry=registry,
        )
        self.shed = Counter(
            "iris_shed_requests",
            "Requests refused for they had waited too long.",
            registry=registry,
        )
        self.worker_starts = Counter(
            "iris_worker_starts", "Worker processes started.", registry=registry
        )
        self.swaps = Counter(
            "iris_model_swaps",
            "Changes of the bundle while the server ran: taken up (activated) or not (refused).",
            ("outcome",),
            registry=registry,
        )
        for outcome in ("activated", "refused"):
            self.swaps.labels(outcome)
        for reason in ("missing", "wrong"):
            self.authentication_failures.labels(reason)
        for kind in IrisError.__subclasses__():
            if kind.slug:
                self.refused.labels(kind.slug)
        self._answered = cache(self._bind_answered)
        self._caller = cache(lambda name: self.callers.labels(name).cell)
        in_flight: Any = self.in_flight
        self._in_flight: StoredValue = in_flight._value

    def expect(self, route: str) -> None:
        """Have a route's series at zero: a scraper would miss the first of what it never saw."""
        for status in ("200", "401", "422", "500", "503"):
            self.requests.labels(route, status)
        self.seconds.labels(route)

    def begin(self) -> None:
        """A request came in."""
        STORE.add([(self._in_flight, 1.0)])

    def of_caller(self, name: str) -> Increment:
        """What a request with the key of this name adds."""
        return self._caller(name), 1.0

    def end(
        self,
        route: str | None,
        status: int,
        *,
        seconds: float,
        waited: float,
        also: Iterable[Increment] = (),
    ) -> None:
        """And it is answered. `route` is a rule of the URL map, or None where none matched."""
        requests, duration = self._answered(route or UNMATCHED, status)
        STORE.add(
            [
                (self._in_flight, -1.0),
                (requests, 1.0),
                *duration.of(seconds),
                *self.queue.of(waited),
                *also,
            ]
        )

    def unreadable(self, status: int) -> None:
        """Gunicorn answered a request that it could not read."""
        self.requests.labels(UNMATCHED, str(status)).inc()
        self.refuse("unreadable")

    def refuse(self, reason: str) -> None:
        """It was refused, for a reason that the code gave a name."""
        self.refused.labels(reason).inc()
        if reason == NotAuthenticatedError.slug:
            self.authentication_failures.labels("missing").inc()
        elif reason == WrongKeyError.slug:
            self.authentication_failures.labels("wrong").inc()
        elif reason == OverloadedError.slug:
            self.shed.inc()

    def collect(self) -> Iterable[Metric]:
        """Every instrument with its values, summed over all the processes of the server."""
        if self.directory is None:
            return self._registry.collect()
        return counted(self.directory.path)

    def exposition(self, accept: str, facts: Iterable[Metric]) -> tuple[bytes, str]:
        """All of it as a scraper takes it, with facts that are not counted, and its media type."""
        encode, media_type = choose_encoder(accept)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Found([*self.collect(), *facts]))
        return encode(registry), media_type

    def _bind_answered(self, route: str, status: int) -> tuple[StoredValue, StoredHistogram]:
        return self.requests.labels(route, str(status)).cell, self.seconds.labels(route)


class _Found(Collector):
    """Metrics that are there already, to be encoded."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics

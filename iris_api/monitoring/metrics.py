"""The Prometheus metrics of the service, summed over all processes of a server.

Names follow https://prometheus.io/docs/practices/naming. Label values come from the URL map, the
manifest, the key file or the code, never from a client, so the number of series is bounded.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from iris_api.errors import IrisError, NotAuthenticatedError, OverloadedError, WrongKeyError

from .storage import STORE, StoredCounter, StoredGauge, StoredHistogram, read_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from .counter_directory import CounterDirectory
    from .storage import Increment, StoredValue

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
ROWS = (1, 10, 100, 1_000, 10_000, 100_000)
CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
UNMATCHED = "unmatched"
"""Route label of a request that no route matches: its path comes from a client."""


class Metrics:
    """The metrics of one app.

    Args:
        directory: Where the server's processes keep their values. None keeps them in this process.
    """

    def __init__(self, directory: CounterDirectory | None = None) -> None:
        self.directory = directory
        self._registry = registry = CollectorRegistry()
        self._declare_requests(registry)
        self._declare_predictions(registry)
        self._declare_refusals(registry)
        self._declare_operation(registry)
        self._in_flight: StoredValue = self.in_flight.value
        self._of_answer = cache(self._find_of_answer)
        self._of_caller = cache(lambda name: self.callers.labels(name).value)

    def _declare_requests(self, registry: CollectorRegistry) -> None:
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
        self.in_flight = StoredGauge(
            "iris_requests_in_flight",
            "Requests being answered, the scrape among them.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def _declare_predictions(self, registry: CollectorRegistry) -> None:
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

    def _declare_refusals(self, registry: CollectorRegistry) -> None:
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
        for kind in IrisError.__subclasses__():
            if kind.slug:
                self.refused.labels(kind.slug)
        for reason in ("missing", "wrong"):
            self.authentication_failures.labels(reason)

    def _declare_operation(self, registry: CollectorRegistry) -> None:
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

    def declare_route(self, route: str) -> None:
        """Start a route's series at zero: Prometheus can't see the first increment of a new one."""
        for status in ("200", "401", "422", "500", "503"):
            self.requests.labels(route, status)
        self.seconds.labels(route)

    def request_started(self) -> None:
        """Count a request that came in."""
        STORE.add([(self._in_flight, 1.0)])

    def caller_increment(self, name: str) -> Increment:
        """What a request with the key of this name adds."""
        return self._of_caller(name), 1.0

    def request_finished(
        self,
        route: str | None,
        status: int,
        *,
        seconds: float,
        queue_seconds: float,
        increments: Iterable[Increment] = (),
    ) -> None:
        """Count an answered request.

        Args:
            route: Rule of the URL map, or None if none matched.
            status: HTTP status of the answer.
            seconds: Time to answer it.
            queue_seconds: Time that it waited before.
            increments: What else to add at the same moment.
        """
        requests, duration = self._of_answer(route or UNMATCHED, status)
        STORE.add(
            [
                (self._in_flight, -1.0),
                (requests, 1.0),
                *duration.increments(seconds),
                *self.queue.increments(queue_seconds),
                *increments,
            ]
        )

    def count_unreadable(self, status: int) -> None:
        """Count a request that the server refused because it could not parse it."""
        self.requests.labels(UNMATCHED, str(status)).inc()
        self.count_refusal("unreadable")

    def count_refusal(self, reason: str) -> None:
        """Count a refused request. The reason is a slug of an error, never a client's text."""
        self.refused.labels(reason).inc()
        if reason == NotAuthenticatedError.slug:
            self.authentication_failures.labels("missing").inc()
        elif reason == WrongKeyError.slug:
            self.authentication_failures.labels("wrong").inc()
        elif reason == OverloadedError.slug:
            self.shed.inc()

    def collect(self) -> Iterable[Metric]:
        """Every metric with its values, summed over all processes of the server."""
        if self.directory is None:
            return self._registry.collect()
        return read_metrics(self.directory.path)

    def exposition(self, accept: str, extra: Iterable[Metric]) -> tuple[bytes, str]:
        """Encode all metrics for a scraper.

        Args:
            accept: The scraper's Accept header.
            extra: Metrics to add that are not counted here.

        Returns:
            The body and its media type.
        """
        encode, media_type = choose_encoder(accept)
        registry = CollectorRegistry()
        registry.register(_Collected([*self.collect(), *extra]))
        return encode(registry), media_type

    def _find_of_answer(self, route: str, status: int) -> tuple[StoredValue, StoredHistogram]:
        return self.requests.labels(route, str(status)).value, self.seconds.labels(route)


class _Collected(Collector):
    """Metrics that were collected before, in the form that an encoder takes."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics

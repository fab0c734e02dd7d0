"""Every request counted, by what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iris_api.web.request import current

if TYPE_CHECKING:
    from flask import Flask, Response

    from iris_api.web.service import Service


def init_app(app: Flask) -> None:
    """Count a request when it comes in and when it is answered, before the answer is sent.

    So whatever a client has an answer to was counted, even if the worker dies the moment after.
    """
    service: Service = app.extensions["iris_api"]
    metrics = service.metrics
    for rule in app.url_map.iter_rules():
        if "POST" in (rule.methods or ()):
            metrics.declare_route(rule.rule)
    app.before_request(metrics.request_started)

    @app.after_request
    def count(response: Response) -> Response:
        exchange = current()
        if exchange.counted:  # Flask asks again where something failed after this.
            return response
        tally, exchange.tally = exchange.tally, None  # What fails now is a 500 the next time.
        also = tally.increments(exchange.outcome) if tally and exchange.outcome is not None else []
        if exchange.caller is not None:
            also.append(metrics.caller_increment(exchange.caller))
        exchange.counted = True
        metrics.request_finished(
            exchange.route,
            response.status_code,
            seconds=exchange.seconds,
            queue_seconds=exchange.waited,
            increments=also,
        )
        if exchange.refused is not None:
            metrics.count_refusal(exchange.refused)
        return response

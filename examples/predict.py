"""Predicts one flower, then a batch, or the rows in FILE: `python predict.py [FILE]`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from uuid import uuid4

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

URL = os.environ.get("IRIS_URL", "http://127.0.0.1:8000").rstrip("/") + "/v1/predict"
KEY = os.environ.get("IRIS_API_KEY") or sys.exit("Set IRIS_API_KEY.")
SECONDS = int(os.environ.get("IRIS_TIMEOUT", "10"))
ONE = {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}
TWO = {"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.1, "petal_width": 1.6}

# A prediction changes nothing, so its POST is safe to repeat: without an answer, and after 429 and
# 503, once the time in Retry-After has passed. Any other answer is final.
RETRY = Retry(
    total=2,
    allowed_methods={"POST"},
    status_forcelist={429, 503},
    raise_on_status=False,
    backoff_factor=1,
    retry_after_max=SECONDS,
)


def predict(session: requests.Session, body: bytes) -> None:
    """Print label and confidence of each row. An error ends the program."""
    request_id = str(uuid4())
    try:
        response = session.post(
            URL,
            data=body,
            headers={"X-Request-ID": request_id},
            timeout=(3, SECONDS),  # To connect, and for each read; requests has no total timeout.
            allow_redirects=False,  # The key must not go to another host.
        )
    except requests.RequestException as error:
        sys.exit(f"No answer: {error}\nrequest id {request_id}")
    try:
        answer = response.json()
    except ValueError:
        answer = None  # For example, the error page of a proxy.
    if response.status_code != 200 or not isinstance(answer, dict) or "model_version" not in answer:
        sys.exit(f"{explain(response, answer)}\nrequest id {request_id}")
    for row in answer.get("predictions", [answer]):
        print(f"{row['prediction']} {row['confidence']:.4f}")


def explain(response: requests.Response, problem: object) -> str:
    """The lines to print for a problem document (RFC 9457)."""
    if not isinstance(problem, dict) or "title" not in problem:
        kind = response.headers.get("Content-Type", "no type")
        return f"Status {response.status_code}, but not from the service ({kind}): is {URL} right?"
    lines = [f"{response.status_code} {problem['title']}: {problem.get('detail')}"]
    if response.status_code == 401:
        lines.append("The service does not accept the key in IRIS_API_KEY.")
    for error in problem.get("errors", []):
        row = [f"row {error['row']}"] if "row" in error else []
        field = [error["field"]] if "field" in error else []
        lines.append("  " + ": ".join([*row, *field, error["message"]]))
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        bodies = [Path(name).read_bytes() for name in sys.argv[1:2]]
    except OSError as unreadable:
        sys.exit(str(unreadable))
    with requests.Session() as session:  # Reuses the connection.
        session.mount("http://", HTTPAdapter(max_retries=RETRY))
        session.mount("https://", HTTPAdapter(max_retries=RETRY))
        session.headers.update({"X-API-Key": KEY, "Content-Type": "application/json"})
        for body in bodies or [json.dumps(rows).encode() for rows in (ONE, [ONE, TWO])]:
            predict(session, body)

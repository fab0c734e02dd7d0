"""One prediction and then a batch, or what FILE has: `python predict.py [FILE]`, with requests."""

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

# A prediction changes nothing, so a POST may be repeated: when no answer came, and after 429 and
# 503, as late as Retry-After asks. Any other answer is final.
AGAIN = Retry(
    total=2,
    allowed_methods={"POST"},
    status_forcelist={429, 503},
    raise_on_status=False,
    backoff_factor=1,
    retry_after_max=SECONDS,
)


def predict(session: requests.Session, body: bytes) -> None:
    """Print label and confidence of each row. What goes wrong ends the program."""
    request_id = str(uuid4())
    try:
        answer = session.post(
            URL,
            data=body,
            headers={"X-Request-ID": request_id},
            timeout=(3, SECONDS),  # To connect; for each wait after it, as requests has no total.
            allow_redirects=False,  # The key is for this host alone.
        )
    except requests.RequestException as error:
        sys.exit(f"No answer: {error}\nrequest id {request_id}")
    try:
        told = answer.json()
    except ValueError:
        told = None  # The page of a proxy, say.
    if answer.status_code != 200 or not isinstance(told, dict) or "model_version" not in told:
        sys.exit(f"{explain(answer, told)}\nrequest id {request_id}")
    for row in told.get("predictions", [told]):
        print(f"{row['prediction']} {row['confidence']:.4f}")


def explain(answer: requests.Response, told: object) -> str:
    """A problem document (RFC 9457) in words."""
    if not isinstance(told, dict) or "title" not in told:
        kind = answer.headers.get("Content-Type", "no type")
        return f"Status {answer.status_code}, but not from the service ({kind}): is {URL} right?"
    lines = [f"{answer.status_code} {told['title']}: {told.get('detail')}"]
    if answer.status_code == 401:
        lines.append("The service does not accept the key in IRIS_API_KEY.")
    for error in told.get("errors", []):
        row = [f"row {error['row']}"] if "row" in error else []
        field = [error["field"]] if "field" in error else []
        lines.append("  " + ": ".join([*row, *field, error["message"]]))
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        bodies = [Path(name).read_bytes() for name in sys.argv[1:2]]
    except OSError as unreadable:
        sys.exit(str(unreadable))
    with requests.Session() as session:  # Keeps the connection between requests.
        session.mount("http://", HTTPAdapter(max_retries=AGAIN))
        session.mount("https://", HTTPAdapter(max_retries=AGAIN))
        session.headers.update({"X-API-Key": KEY, "Content-Type": "application/json"})
        for body in bodies or [json.dumps(rows).encode() for rows in (ONE, [ONE, TWO])]:
            predict(session, body)

"""The document in the hands of those it is made for: a fuzzer, a generator of clients, a person."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.conftest import FLOWER
from tests.described import PROBLEM

from .conftest import PATIENCE
from .test_pages import SIZES

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from .conftest import Server

pytestmark = pytest.mark.system

TOOLS = Path(sys.executable).parent
CONFIG = Path(__file__).with_name("schemathesis.toml")


def save(server: Server, directory: Path) -> bytes:
    """The document as it is served, in a file and to be read."""
    body = server.ask("GET", "/openapi.json")[2]
    (directory / "openapi.json").write_bytes(body)
    return body


def run(tool: str, *arguments: str, cwd: Path) -> str:
    """One of the environment's tools; gives what it said."""
    environment = os.environ | {"PATH": f"{TOOLS}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(TOOLS / tool), *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    return done.stdout


def test_schemathesis_finds_nothing(server: Server, tmp_path: Path) -> None:
    """All of its checks on all operations, in all of its phases."""
    document = json.loads(save(server, tmp_path))
    # An id that is not sane is replaced and not refused: any string has to be good.
    del document["components"]["parameters"]["RequestId"]["schema"]["pattern"]
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    operations = len(document["paths"])
    # From a file: what it is given by its address it takes for no operation.
    said = run(
        *("schemathesis", "--config-file", str(CONFIG), "run", "openapi.json"),
        *("--url", server.url, "-H", f"X-API-Key: {server.key}", "--checks", "all", "--no-color"),
        cwd=tmp_path,
    )
    assert f"Selected: {operations}/{operations}" in said
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in said, said
    assert server.predicts()


def test_a_generated_client_calls_the_service(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row, a batch, and a refusal as a model of its own; nothing was left out of it."""
    save(server, tmp_path)
    package = tmp_path / "generated_client"
    options = ("--meta", "none", "--fail-on-warning", "--output-path", str(package))
    run("openapi-python-client", "generate", "--path", "openapi.json", *options, cwd=tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    made: Any = importlib.import_module("generated_client")
    models: Any = importlib.import_module("generated_client.models")
    predict: Any = importlib.import_module("generated_client.api.predictions.predict")
    row = models.Row.from_dict(FLOWER)
    with made.AuthenticatedClient(base_url=server.url, token=server.key) as client:
        answer = predict.sync_detailed(client=client, body=row, x_request_id="order-17")
        assert answer.headers["X-Request-ID"] == "order-17"
        single = answer.parsed
        assert isinstance(single, models.SinglePrediction)
        assert single.prediction == "virginica"
        assert single.probabilities.virginica == single.confidence
        batch = predict.sync(client=client, body=[row, row])
        assert isinstance(batch, models.BatchPrediction)
        assert [each.prediction for each in batch.predictions] == ["virginica"] * 2
        refused = predict.sync(
            client=client, body=models.Row.from_dict(FLOWER | {"petal_width": 11})
        )
        assert isinstance(refused, models.ContractProblem)
        assert [error.field for error in refused.errors] == ["petal_width"]
    with made.AuthenticatedClient(base_url=server.url, token=server.key[:-1]) as client:
        problem = predict.sync(client=client, body=row)
        assert isinstance(problem, models.Problem)
        assert (problem.status, problem.type_) == (401, "urn:iris-api:problem:wrong-key")


UNREADABLE = {
    "400": b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n",
    "408": b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n",
    "414": b"GET /%s HTTP/1.1\r\n\r\n" % (b"a" * 5000),
    "417": b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\n\r\n",
    "431": b"GET /health HTTP/1.1\r\nX: %s\r\n\r\n" % (b"a" * 9000),
    "501": b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: brotli\r\n\r\n",
}


@pytest.mark.parametrize("status", UNREADABLE)
def test_what_the_server_refuses_by_itself_is_its_example(server: Server, status: str) -> None:
    """Before any view; what the proxy refuses and what fails is held against the document too."""
    shared = json.loads(server.ask("GET", "/openapi.json")[2])["components"]["responses"]
    (example,) = shared[f"Refused{status}"]["content"][PROBLEM]["examples"].values()
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(UNREADABLE[status])
        answer = HTTPResponse(connection)
        answer.begin()
        told = json.loads(answer.read())
    assert answer.status == int(status)
    assert told == example["value"] | {"request_id": answer.headers["X-Request-ID"]}


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_a_person_authorises_and_tries_it(
    visit: Callable[..., Page], server: Server, size: str, scheme: str
) -> None:
    """In the browser: a key, a row, and the service's answer, without a word on the console."""
    width, height = SIZES[size]
    viewport = {"width": width, "height": height}
    page = visit(server, "/docs", viewport=viewport, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.reload()
    page.get_by_role("button", name="Authorize").click()
    page.locator("#api_key_value").fill(server.key)
    page.locator(".modal-ux .authorize").first.click()
    page.locator(".modal-ux .btn-done").first.click()
    operation = page.locator("#operations-Predictions-predict")
    operation.locator(".opblock-summary-control").click()
    with page.expect_response("**/v1/predict") as answered:
        operation.get_by_role("button", name="Execute").click()
    assert answered.value.status == 200
    shown = operation.locator(".live-responses-table")
    expect(shown).to_contain_text(answered.value.json()["model_version"])
    expect(shown).to_contain_text(answered.value.headers["x-request-id"])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert said == []

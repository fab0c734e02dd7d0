"""The OpenAPI document as a fuzzer, a client generator and a person use it."""

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
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import expect

from iris_api.server.worker import EventLoopWorker
from tests.api_document import PROBLEM
from tests.constants import FLOWER

from .conftest import PATIENCE
from .home.page import SIZES, options_for
from .quick import QuickWorker

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from .conftest import Server

pytestmark = pytest.mark.system

TOOLS = Path(sys.executable).parent
LOOKS = [("phone", "light"), ("desktop", "dark")]
CONFIG = Path(__file__).with_name("schemathesis.toml")


def save(server: Server, directory: Path) -> bytes:
    """Save the document in a file, and return it."""
    body = server.ask("GET", "/openapi.json")[2]
    (directory / "openapi.json").write_bytes(body)
    return body


def run(tool: str, *arguments: str, cwd: Path) -> str:
    """Run a tool of this environment; returns its output."""
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
    # The service replaces an unusable request id and refuses none, so any string is valid.
    del document["components"]["parameters"]["RequestId"]["schema"]["pattern"]
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    operations = len(document["paths"])
    # From a file: schemathesis tests no operation at the address from which it loads.
    output = run(
        *("schemathesis", "--config-file", str(CONFIG), "run", "openapi.json"),
        *("--url", server.url, "-H", f"X-API-Key: {server.key}", "--checks", "all", "--no-color"),
        cwd=tmp_path,
    )
    assert f"Selected: {operations}/{operations}" in output
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in output, output
    assert server.predicts()


def test_a_generated_client_calls_the_service(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It predicts a row and a batch, and models each refusal; the generator leaves nothing out."""
    save(server, tmp_path)
    package = tmp_path / "generated_client"
    options = ("--meta", "none", "--fail-on-warning", "--output-path", str(package))
    run("openapi-python-client", "generate", "--path", "openapi.json", *options, cwd=tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    client_module: Any = importlib.import_module("generated_client")
    models: Any = importlib.import_module("generated_client.models")
    predict: Any = importlib.import_module("generated_client.api.predictions.predict")
    row = models.Row.from_dict(FLOWER)
    with client_module.AuthenticatedClient(base_url=server.url, token=server.key) as client:
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
    with client_module.AuthenticatedClient(base_url=server.url, token=server.key[:-1]) as client:
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
def test_a_refusal_by_gunicorn_is_the_example_in_the_document(
    quick_server: Server, status: str
) -> None:
    """These refusals happen before any view runs."""
    shared = json.loads(quick_server.ask("GET", "/openapi.json")[2])["components"]["responses"]
    (example,) = shared[f"Refused{status}"]["content"][PROBLEM]["examples"].values()
    with socket.create_connection(("127.0.0.1", quick_server.port), timeout=PATIENCE) as connection:
        connection.sendall(UNREADABLE[status])
        answer = HTTPResponse(connection)
        answer.begin()
        body = json.loads(answer.read())
    assert answer.status == int(status)
    if status == "408":
        seconds, shipped = QuickWorker.read_timeout, EventLoopWorker.read_timeout
        body["detail"] = body["detail"].replace(f"{seconds:.0f} sec", f"{shipped:.0f} sec")
    assert body == example["value"] | {"request_id": answer.headers["X-Request-ID"]}


def check_accessibility(page: Page) -> None:
    """axe-core finds no critical or serious fault, and nothing is wider than the screen."""
    violations = Axe().run(page).response["violations"]
    grave = [fault for fault in violations if fault["impact"] in {"critical", "serious"}]
    assert [(fault["id"], fault["nodes"][0]["html"]) for fault in grave] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_a_person_authorises_and_tries_it(
    visit: Callable[..., Page], server: Server, size: str, scheme: str, screenshots: Path
) -> None:
    """A key, a row and the answer, in the browser and without a message on its console."""
    page = visit(server, "/docs", **options_for(size, scheme))
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.reload()
    operation = page.locator("#operations-Predictions-predict")
    expect(operation).to_be_visible()
    check_accessibility(page)
    page.screenshot(path=screenshots / f"docs-{size}-{scheme}.png", full_page=True)
    page.get_by_role("button", name="Authorize").click()
    page.locator("#api_key_value").fill(server.key)
    check_accessibility(page)
    page.locator(".modal-ux .authorize").first.click()
    page.locator(".modal-ux .btn-done").first.click()
    operation.locator(".opblock-summary-control").click()
    with page.expect_response("**/v1/predict") as answered:
        operation.get_by_role("button", name="Execute").click()
    assert answered.value.status == 200
    response_table = operation.locator(".live-responses-table")
    expect(response_table).to_contain_text(answered.value.json()["model_version"])
    expect(response_table).to_contain_text(answered.value.headers["x-request-id"])
    check_accessibility(page)
    page.screenshot(path=screenshots / f"docs-{size}-{scheme}-tried.png", full_page=True)
    good = operation.locator("tr.response[data-code='200']").last
    good.get_by_role("tab", name="Schema").click()
    page.locator("section.models button").first.click()
    expect(page.locator("section.models")).to_contain_text("ContractProblem")
    check_accessibility(page)
    assert messages == []


def test_responses_that_all_operations_share_are_listed_once(
    visit: Callable[..., Page], server: Server
) -> None:
    """Each other status has a row of its own."""
    page = visit(server, "/docs")
    document = json.loads(server.ask("GET", "/openapi.json")[2])
    responses = document["paths"]["/v1/model"]["get"]["responses"]
    shared = [status for status in responses if "$ref" in responses[status]]
    operation = page.locator("#operations-Model-model")
    operation.locator(".opblock-summary-control").click()
    expect(operation.locator(".anywhere summary")).to_contain_text(", ".join(shared))
    rows = operation.locator("tr.response:visible")
    assert [row.get_attribute("data-code") for row in rows.all()] == sorted(
        {*responses} - {*shared}
    )
    operation.locator(".anywhere summary").click()
    description = document["components"]["responses"]["Refused408"]["description"]
    expect(operation.locator(".anywhere li")).to_have_count(len(shared))
    expect(operation.locator(".anywhere")).to_contain_text(f"408: {description}")


def test_the_navigation_has_the_same_place_on_every_page(
    visit: Callable[..., Page], server: Server
) -> None:
    """At any width."""
    for size in SIZES:
        page = visit(server, "/docs", **options_for(size, "light"))
        box = page.locator("nav").bounding_box()
        page.get_by_role("link", name="Drift").click()
        page.wait_for_url("**/drift")
        assert page.locator("nav").bounding_box() == box

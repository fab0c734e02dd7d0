"""Each client of `examples/` with a real server, and with a stub that misbehaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.constants import FLOWER, ROOT

from .conftest import PATIENCE, environment, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Server

pytestmark = pytest.mark.system

README = (ROOT / "examples" / "README.md").read_text()
COMMANDS = {
    command.rpartition("/")[2]: command
    for command in re.findall(r"^\S+ examples/\S+$", README, re.MULTILINE)
}
NEEDED = {
    "predict.sh": ["curl", "jq"],
    "predict.py": [],
    "predict.php": ["php"],
    "Predict.java": ["java"],
    "predict.pl": ["prove"],  # Debian's perl-base has no HTTP::Tiny; the perl package has both.
    "predict.mjs": ["node"],
}
UNENDING = ("trickling", "predict.py")
"""The case and client that do not end: requests has no total timeout, as the README says."""

OTHER = {"sepal_length": 6.0, "sepal_width": 2.7, "petal_length": 5.1, "petal_width": 1.6}
BATCH = [OTHER, FLOWER, {"sepal_length": 5, "sepal_width": 4, "petal_length": 1, "petal_width": 0}]
BAD = [FLOWER | {"petal_width": "2.3"}, FLOWER | {'of "all" \\ colours': 1}]
SECRET = "on-no-command-line"
TOO_BUSY = b'{"type":"about:blank","title":"Busy","status":503,"detail":"Later."}'

FOREIGN: dict[str, tuple[int, dict[str, str], bytes]] = {
    "page-as-refusal": (403, {"Content-Type": "text/html"}, b"<html>No entry</html>"),
    "page-as-success": (200, {"Content-Type": "text/html"}, b"<html>Log in</html>"),
    "nothing": (200, {}, b""),
    "array": (404, {"Content-Type": "application/json"}, b'["title", "no route"]'),
    "other-json": (200, {"Content-Type": "application/json"}, b'{"message": "Hello"}'),
    "redirect": (302, {"Location": "/elsewhere/v1/predict"}, b""),
}


@dataclass
class Stub:
    """A server that misbehaves as the case in the path says, and records its requests."""

    real: Server
    request_ids: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    times: dict[str, float] = field(default_factory=dict)
    exposed: bool = False
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Respond as the case in the path says: /case/client/v1/predict."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        client = handler.path.removesuffix("/v1/predict").strip("/")
        self.request_ids[client].append(handler.headers["X-Request-ID"])
        case, first = client.partition("/")[0], len(self.request_ids[client]) == 1
        waited = time.monotonic() - self.times.setdefault(client, time.monotonic())
        if case in FOREIGN:
            send(handler, *FOREIGN[case])
        elif case == "overloaded" or (case == "busy" and waited < 2):
            send(handler, 503, {"Retry-After": "2" if case == "busy" else "1"}, TOO_BUSY)
        elif case == "closing" and first:
            handler.close_connection = True
        elif case == "silent":
            self.exposed |= any(map(shows_secret, Path("/proc").glob("[0-9]*/cmdline")))
            handler.rfile.read(1)  # Until the client disconnects.
        elif case == "trickling":
            trickle(handler)
        else:
            key = {"X-API-Key": handler.headers["X-API-Key"]}
            send(handler, *self.real.ask("POST", "/v1/predict", body, key))


def send(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
) -> None:
    handler.send_response_only(status)
    for name, value in (headers | {"Content-Length": str(len(body))}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """Send one byte at a time until the client disconnects."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        handler.wfile.write(b" ")
        time.sleep(0.1)


def shows_secret(cmdline: Path) -> bool:
    with suppress(OSError):
        return SECRET.encode() in cmdline.read_bytes()
    return False


@pytest.fixture(scope="module")
def stub(server: Server) -> Iterator[Stub]:
    stub = Stub(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            with suppress(ConnectionError):
                stub.answer(self)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        stub.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield stub
        listening.shutdown()
        thread.join()


Run = subprocess.CompletedProcess[str]
Runs = dict[tuple[str, str], Future[Run]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of the compiled Java client: compiling costs more than all the rest."""
    classes = str(tmp_path_factory.mktemp("classes"))
    if shutil.which("java"):
        compiler = ["java", "-m", "jdk.compiler/com.sun.tools.javac.Main", "-Xlint:all", "-Werror"]
        subprocess.run([*compiler, "-d", classes, "examples/Predict.java"], cwd=ROOT, check=True)
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", classes, "Predict"]


@pytest.fixture(scope="module")
def runs(
    server: Server, stub: Stub, compiled: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runs]:
    """Every client in every case, run side by side: most of them wait."""
    directory = tmp_path_factory.mktemp("rows")
    batch, bad = directory / "batch", directory / "bad"
    batch.write_text(json.dumps(BATCH))
    bad.write_text(json.dumps(BAD))
    cases: dict[str, tuple[str, str, list[Path], dict[str, str]]] = {
        "plain": (server.url, server.key, [], {}),
        "batch": (server.url, server.key, [batch], {}),
        "bad": (server.url, server.key, [bad], {}),
        "no-file": (server.url, server.key, [directory / "none"], {}),
        "wrong-key": (server.url, "wrong", [], {}),
        "no-key": (server.url, "", [], {}),
        "down": (f"http://127.0.0.1:{free_port()}", server.key, [], {}),
    }
    for case in ("silent", "trickling"):
        cases[case] = (f"{stub.url}/{case}", SECRET, [], {"IRIS_TIMEOUT": "2"})
    for case in ("busy", "overloaded", "closing", *FOREIGN):
        cases[case] = (f"{stub.url}/{case}", server.key, [batch], {})

    def run(case: str, client: str) -> Run:
        url, key, files, settings = cases[case]
        command = COMMANDS[client].split()
        if client == "Predict.java" and case != "plain":
            command = compiled
        elif client == "predict.py":
            command = [sys.executable, *command[1:]]
        of_client = f"/{client}" if url.startswith(stub.url) else ""
        return subprocess.run(
            [*command, *files],
            cwd=ROOT,
            env=environment(IRIS_URL=url + of_client, IRIS_API_KEY=key, **settings),
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    pairs = [pair for pair in product(cases, COMMANDS) if pair != UNENDING]
    with ThreadPoolExecutor(8) as pool:
        yield {pair: pool.submit(run, *pair) for pair in pairs}


@pytest.fixture(params=COMMANDS)
def client(request: pytest.FixtureRequest, needs: Callable[[str], str]) -> str:
    """Each client's file; skips if a program that it needs is missing."""
    name: str = request.param
    for program in NEEDED[name]:
        path = needs(program)
        if program == "php" and b"curl" not in subprocess.check_output([path, "-m"]).split():
            reason = "PHP's curl extension is not installed"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return name


def lines(server: Server, *bodies: object) -> list[str]:
    """What a client should print for the API's answers to these bodies."""
    printed = []
    for body in bodies:
        answer = json.loads(server.ask("POST", "/v1/predict", json.dumps(body).encode())[2])
        rows = answer.get("predictions", [answer])
        printed += [f"{row['prediction']} {row['confidence']:.4f}" for row in rows]
    return printed


def failure(runs: Runs, case: str, client: str) -> str:
    """The message of a client that failed: on stderr alone, with its request id."""
    done = runs[case, client].result()
    assert done.returncode != 0
    assert done.stdout == ""
    assert re.search(r"^request id [0-9a-f-]{32,36}$", done.stderr, re.MULTILINE)
    assert not re.search(r"Traceback|Exception in|Warning|Fatal|\bat .*:\d+", done.stderr)
    return done.stderr


def test_the_readme_names_every_client_and_its_settings() -> None:
    """Its commands are the ones that these tests run."""
    there = {path.name for path in (ROOT / "examples").iterdir() if path.is_file()}
    assert set(COMMANDS) == set(NEEDED) == there - {"README.md"}
    assert re.findall(r"^export (\w+)=", README, re.MULTILINE) == ["IRIS_URL", "IRIS_API_KEY"]
    assert all(f"| `{client}` |" in README for client in COMMANDS)


def test_it_predicts_one_and_a_batch(server: Server, runs: Runs, client: str) -> None:
    """The command of the README prints what the API answers."""
    done = runs["plain", client].result()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == lines(server, FLOWER, [FLOWER, OTHER])


def test_it_predicts_a_file(server: Server, runs: Runs, client: str) -> None:
    """An array of objects, in its order."""
    done = runs["batch", client].result()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == lines(server, BATCH)


def test_it_prints_each_error_of_a_bad_file(server: Server, runs: Runs, client: str) -> None:
    """With row and field, as in the problem document."""
    problem = json.loads(server.ask("POST", "/v1/predict", json.dumps(BAD).encode())[2])
    expected = [f"422 {problem['title']}: {problem['detail']}"]
    expected += [f"  row {e['row']}: {e['field']}: {e['message']}" for e in problem["errors"]]
    message = failure(runs, "bad", client).splitlines()
    assert len(expected) == 3
    assert message[:-1] == expected


def test_its_request_id_is_in_the_log_of_the_server(
    server: Server, runs: Runs, client: str
) -> None:
    """The one that it prints with an error."""
    request_id = failure(runs, "bad", client).split()[-1]
    wait_for(lambda: f'"request_id":"{request_id}"' in server.log_text, "the log line")


def test_it_says_that_the_key_is_wrong(runs: Runs, client: str) -> None:
    """And where the key comes from."""
    message = failure(runs, "wrong-key", client)
    assert message.startswith("401 API key not known: ")
    assert "does not accept the key in IRIS_API_KEY" in message


@pytest.mark.parametrize(("case", "text"), [("no-key", "IRIS_API_KEY"), ("no-file", "none")])
def test_it_says_what_is_missing(runs: Runs, client: str, case: str, text: str) -> None:
    """In one line, before it sends a request."""
    done = runs[case, client].result()
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert text in done.stderr


def test_it_fails_when_no_server_listens(runs: Runs, client: str) -> None:
    """After its retries."""
    assert "No answer" in failure(runs, "down", client)


def test_it_retries_after_the_time_in_retry_after(
    server: Server, stub: Stub, runs: Runs, client: str
) -> None:
    """Not sooner; the retry succeeds and has the same request id."""
    done = runs["busy", client].result()
    assert (done.returncode, done.stdout.splitlines()) == (0, lines(server, BATCH))
    first, second = stub.request_ids[f"busy/{client}"]
    assert first == second


def test_it_retries_a_request_without_a_response(
    server: Server, stub: Stub, runs: Runs, client: str
) -> None:
    """The server closed the connection after the request."""
    done = runs["closing", client].result()
    assert (done.returncode, done.stdout.splitlines()) == (0, lines(server, BATCH))
    first, second = stub.request_ids[f"closing/{client}"]
    assert first == second


def test_it_gives_up_after_three_attempts(stub: Stub, runs: Runs, client: str) -> None:
    """It prints the last response."""
    assert failure(runs, "overloaded", client).startswith("503 Busy: Later.")
    assert len(stub.request_ids[f"overloaded/{client}"]) == 3


def test_it_times_out(stub: Stub, runs: Runs, client: str) -> None:
    """Its timeout ends each attempt, and its message says so."""
    assert re.search("time(d )?.?out", failure(runs, "silent", client), re.IGNORECASE)
    assert len(stub.request_ids[f"silent/{client}"]) == 3


@pytest.mark.parametrize("client", [c for c in COMMANDS if c not in UNENDING], indirect=True)
def test_the_timeout_is_for_the_whole_response(runs: Runs, client: str) -> None:
    """A byte now and then does not extend it."""
    assert re.search("time(d )?.?out", failure(runs, "trickling", client), re.IGNORECASE)


@pytest.mark.parametrize("case", FOREIGN)
def test_a_response_that_is_not_from_the_service_is_recognised(
    stub: Stub, runs: Runs, client: str, case: str
) -> None:
    """It is final, and no redirect is followed."""
    message = failure(runs, case, client)
    assert message.startswith(f"Status {FOREIGN[case][0]}, but not from the service")
    assert len(stub.request_ids[f"{case}/{client}"]) == 1
    assert not any(client.startswith("elsewhere") for client in stub.request_ids)


def test_no_command_line_shows_the_key(stub: Stub, runs: Runs) -> None:
    """Any user can read command lines: the stub looks at them while the clients wait."""
    wait([runs["silent", client] for client in COMMANDS])
    assert any(client.startswith("silent/") for client in stub.request_ids)
    assert not stub.exposed

"""The start and the stop of a real server, and what its settings do."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from iris_api.bundle.store import Bundle
from iris_api.server import hooks
from iris_api.settings import Settings
from iris_api.web.keys import KeyFile
from tests.bundles import pickle_only
from tests.constants import ROOT

from .conftest import PATIENCE, Server, environment, gunicorn, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.system


def test_the_printed_command_works_when_pasted(
    start: Callable[..., Server], needs: Callable[[str], str]
) -> None:
    """Without a configured key the server prints a curl command with a key for this run."""
    needs("curl")
    server = start(IRIS_API_KEYS="")
    assert '"prediction":"setosa"' in run_printed_command(server)
    assert not server.predicts(), "the server accepts another key"
    assert server.stop() == 0


def run_printed_command(server: Server, **variables: str) -> str:
    """The output of the printed command."""
    line = next(line for line in server.log_text.splitlines() if line.startswith("curl "))
    return subprocess.run(
        ["sh", "-c", line], env=environment(**variables), capture_output=True, text=True, check=True
    ).stdout


def test_a_configured_key_is_not_printed(server: Server, needs: Callable[[str], str]) -> None:
    """The log never holds it; the printed command takes it from a variable."""
    needs("curl")
    assert server.key not in server.log_text
    assert '"prediction":"setosa"' in run_printed_command(server, KEY=server.key)


def test_workers_import_no_training_library(start: Callable[..., Server]) -> None:
    """A real worker that has predicted holds no scikit-learn, joblib, scipy or pandas."""
    server = start("tests.system.apps.introspection:app")
    assert server.predicts()
    modules = server.ask("GET", "/modules")[2].decode().split()
    assert "onnxruntime" in modules
    threads = list(Path(f"/proc/{server.process.pid}/task").iterdir())
    assert len(threads) <= 2, "a parent that forks has other threads"
    assert int(server.ask("GET", "/frozen")[2]) > 10_000, "nothing was frozen for the workers"
    unwanted = {"sklearn", "joblib", "scipy", "pandas", "skl2onnx", "onnx", "pickle5"}
    assert not unwanted & {name.partition(".")[0] for name in modules}
    server.stop()


def test_a_start_and_a_stop_leave_no_trace(start: Callable[..., Server], tmp_path: Path) -> None:
    """Exit status 0, no crash at exit, and nothing written to the home directory."""
    server = start(HOME=str(tmp_path))
    assert len(server.workers()) == 2
    assert all(server.predicts() for _ in range(8))
    assert server.stop() == 0
    assert "SIG" not in server.log_text
    assert "terminate called" not in server.log_text
    assert list(tmp_path.iterdir()) == []


def check_refusal(tmp_path: Path, message: str, **settings: str) -> None:
    began = time.monotonic()
    process = gunicorn(tmp_path / "log", settings)
    try:
        status = process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()
    log_text = (tmp_path / "log").read_text()
    lines = [line for line in log_text.splitlines() if line and '"level":"info"' not in line]
    assert status != 0
    assert len(lines) == 1, log_text
    assert lines[0].startswith("iris-api: ")
    assert message in lines[0]
    assert "Booting worker" not in log_text
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"IRIS_MODEL_DIR": "/nowhere"}, "no bundle in /nowhere"),
        ({"IRIS_MODELDIR": "model"}, "the nearest is IRIS_MODEL_DIR"),
        ({"IRIS_MAX_ROWS": "0"}, "IRIS_MAX_ROWS: Input should be greater"),
        ({"PORT": "http"}, "PORT: Input should be a valid integer"),
        ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY: Input should be greater"),
        ({"IRIS_API_KEYS": "shop"}, "IRIS_API_KEYS: entry 1 is not name:sha256hex"),
        ({"IRIS_API_KEYS_FILE": "/nowhere"}, "/nowhere can't be read"),
        ({"IRIS_API_KEYS_FILE": "/"}, "/ can't be read"),
        ({"IRIS_HOST": "192.0.2.1"}, "can't listen on 192.0.2.1:"),
    ],
)
def test_a_bad_setting_ends_the_start_in_one_line(
    trained: Path, tmp_path: Path, settings: dict[str, str], message: str
) -> None:
    """A non-zero status, no traceback and no worker that restarts for ever."""
    check_refusal(tmp_path, message, **({"IRIS_MODEL_DIR": str(trained)} | settings))


@pytest.mark.parametrize("damage", ["missing", "corrupt", "tampered", "skewed"])
def test_a_bad_bundle_ends_the_start_in_one_line(
    model_dir: Path, tmp_path: Path, damage: str
) -> None:
    """The line names the reason and the remedy."""
    manifest, onnx = model_dir / "manifest.json", next(model_dir.glob("*/*.onnx"))
    message = {
        "missing": "can't be read (No such file or directory): train it (",
        "corrupt": "is not the file that was trained",
        "tampered": "was changed after training",
        "skewed": "was trained with scikit-learn 0.1 and",
    }[damage]
    if damage == "missing":
        onnx.unlink()
    elif damage == "corrupt":
        onnx.write_bytes(onnx.read_bytes()[:-1] + b"!")
    elif damage == "tampered":
        manifest.write_text(manifest.read_text().replace('"setosa"', '"sativa"'))
    else:
        versions = Bundle.load(model_dir).manifest.versions | {"scikit-learn": "0.1"}
        pickle_only(model_dir, versions=versions)
    check_refusal(tmp_path, message, IRIS_MODEL_DIR=str(model_dir))


def test_a_busy_port_ends_the_start_in_one_line(trained: Path, tmp_path: Path) -> None:
    """At once, and the line names the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        check_refusal(
            tmp_path,
            f"can't listen on 127.0.0.1:{port} (Address already in use): free it, or set PORT",
            IRIS_MODEL_DIR=str(trained),
            PORT=str(port),
        )


def test_keys_rotate_without_a_restart(start: Callable[..., Server], tmp_path: Path) -> None:
    """Every worker accepts a new key and refuses a revoked one at once."""
    file = KeyFile(tmp_path / "keys")
    file.path.touch()
    server = start(IRIS_API_KEYS="", IRIS_API_KEYS_FILE=str(file.path), WEB_CONCURRENCY="3")
    assert "keys add NAME" in server.log_text
    first = file.add("first")
    second = file.add("second")
    file.revoke("first")
    for key, status in ((first, 401), (second, 200)):
        headers = {"X-API-Key": key}
        statuses = {server.ask("GET", "/v1/model", headers=headers)[0] for _ in range(30)}
        assert statuses == {status}
    server.stop()


def test_a_revoked_key_stays_revoked_in_a_new_worker(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    """Also if the key file is unreadable by then and the server once accepted the key."""
    file = KeyFile(tmp_path / "keys")
    revoked = file.add("revoked")
    server = start(IRIS_API_KEYS="", IRIS_API_KEYS_FILE=str(file.path), WEB_CONCURRENCY="1")
    file.path.write_text("nonsense")
    (old,) = server.workers()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: server.workers() not in ([], [old]), "new worker")
    assert server.ask("GET", "/v1/model", headers={"X-API-Key": revoked})[0] == 401
    wait_for(lambda: '"event":"keys_refused"' in server.log_text, "log line")
    server.stop()


def test_gunicorn_gets_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log level, trusted proxies and addresses, also IPv6."""
    monkeypatch.setenv("IRIS_LOG_LEVEL", "warning")
    monkeypatch.setenv("IRIS_TRUSTED_PROXIES", "10.0.0.0/8,::1")
    monkeypatch.setenv("IRIS_HOST", "::1")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(hooks, "prepared", Settings.read)
    config = runpy.run_path("gunicorn.conf.py")
    assert config["loglevel"] == "warning"
    assert config["forwarded_allow_ips"] == "10.0.0.0/8,::1"
    assert config["bind"] == "[::1]:8000"
    assert config["control_socket_disable"]
    assert config["preload_app"]


def test_it_listens_on_ipv6(start: Callable[..., Server]) -> None:
    """The printed address can be pasted."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = start(IRIS_HOST="::1")
    assert "curl http://[::1]:" in server.log_text
    server.stop()


def test_a_killed_worker_is_replaced(start: Callable[..., Server]) -> None:
    """The other workers answer meanwhile."""
    server = start()
    before = set(server.workers())
    os.kill(min(before), signal.SIGKILL)
    assert all(server.predicts() for _ in range(10))
    wait_for(lambda: len(set(server.workers()) - before) == 1, "new worker")
    assert server.predicts()
    assert server.stop() == 0


def test_a_server_writes_nothing_beside_its_code(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    """No control socket, no cache and no lock: a read-only checkout serves."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "iris_api", checkout / "iris_api")
    for name in ("wsgi.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, checkout / name)
    before = sorted(checkout.rglob("*"))
    server = start(cwd=checkout, PYTHONDONTWRITEBYTECODE="1", HOME="/nonexistent")
    assert server.predicts()
    assert sorted(checkout.rglob("*")) == before
    assert server.stop() == 0

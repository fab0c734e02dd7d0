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
from tests.conftest import ROOT, pickle_only

from .conftest import PATIENCE, Server, environment, gunicorn, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.system


def test_the_printed_command_works_when_pasted(
    start: Callable[..., Server], needs: Callable[[str], str]
) -> None:
    """With no key configured, the start prints a curl line with a key for this run."""
    needs("curl")
    server = start(IRIS_API_KEYS="")
    assert '"prediction":"setosa"' in pasted(server)
    assert not server.predicts(), "another key opened it"
    assert server.stop() == 0


def pasted(server: Server, **variables: str) -> str:
    """What the printed command answers."""
    line = next(line for line in server.log_text.splitlines() if line.startswith("curl "))
    return subprocess.run(
        ["sh", "-c", line], env=environment(**variables), capture_output=True, text=True, check=True
    ).stdout


def test_a_configured_key_is_not_printed(server: Server, needs: Callable[[str], str]) -> None:
    """The log never holds a key that someone relies on; the command takes it from a variable."""
    needs("curl")
    assert server.key not in server.log_text
    assert '"prediction":"setosa"' in pasted(server, KEY=server.key)


def test_the_workers_hold_nothing_that_serving_does_not_need(start: Callable[..., Server]) -> None:
    """No scikit-learn, joblib, scipy or pandas in a real worker that has predicted."""
    server = start("tests.system.apps.introspection:app")
    assert server.predicts()
    modules = server.ask("GET", "/modules")[2].decode().split()
    assert "onnxruntime" in modules
    threads = list(Path(f"/proc/{server.process.pid}/task").iterdir())
    assert len(threads) <= 2, "but the lookout, which is gone while it forks, a thread to fork"
    assert int(server.ask("GET", "/frozen")[2]) > 10_000, "nothing was frozen for the workers"
    unwanted = {"sklearn", "joblib", "scipy", "pandas", "skl2onnx", "onnx", "pickle5"}
    assert not unwanted & {name.partition(".")[0] for name in modules}
    server.stop()


def test_a_start_and_a_stop_leave_no_trace(start: Callable[..., Server], tmp_path: Path) -> None:
    """Several workers, exit status 0, no crash at their exit, nothing written to the home."""
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
    said = (tmp_path / "log").read_text()
    ours = [line for line in said.splitlines() if line and '"level":"info"' not in line]
    assert status != 0
    assert len(ours) == 1, said
    assert ours[0].startswith("iris-api: ")
    assert message in ours[0]
    assert "Booting worker" not in said
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
    """A non-zero status, no traceback, no worker that starts again and again."""
    check_refusal(tmp_path, message, **({"IRIS_MODEL_DIR": str(trained)} | settings))


@pytest.mark.parametrize("damage", ["missing", "corrupt", "tampered", "skewed"])
def test_a_bad_bundle_ends_the_start_in_one_line(
    model_dir: Path, tmp_path: Path, damage: str
) -> None:
    """The reason and the mend, nothing else."""
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
    """At once, and saying which port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        check_refusal(
            tmp_path,
            f"can't listen on 127.0.0.1:{port} (Address already in use): free it, or set PORT",
            IRIS_MODEL_DIR=str(trained),
            PORT=str(port),
        )


def test_keys_rotate_without_a_restart(start: Callable[..., Server], tmp_path: Path) -> None:
    """A new key opens every worker at once, a revoked one none."""
    file = KeyFile(tmp_path / "keys")
    file.path.touch()
    server = start(IRIS_API_KEYS="", IRIS_API_KEYS_FILE=str(file.path), WEB_CONCURRENCY="3")
    assert "keys add NAME" in server.log_text
    first = file.add("first")
    second = file.add("second")
    file.revoke("first")
    for key, status in ((first, 401), (second, 200)):
        sent = {"X-API-Key": key}
        asked = {server.ask("GET", "/v1/model", headers=sent)[0] for _ in range(30)}
        assert asked == {status}
    server.stop()


def test_a_key_revoked_before_a_worker_started_stays_revoked(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    """Though the file can't be read by then, and the server once knew the key."""
    file = KeyFile(tmp_path / "keys")
    revoked = file.add("revoked")
    server = start(IRIS_API_KEYS="", IRIS_API_KEYS_FILE=str(file.path), WEB_CONCURRENCY="1")
    file.path.write_text("nonsense")
    (old,) = server.workers()
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: server.workers() not in ([], [old]), "a new worker")
    assert server.ask("GET", "/v1/model", headers={"X-API-Key": revoked})[0] == 401
    wait_for(lambda: "keys_refused" in server.log_text, "the line of the log")
    server.stop()


def test_gunicorn_gets_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Level, proxies and addresses, IPv6 among them."""
    monkeypatch.setenv("IRIS_LOG_LEVEL", "warning")
    monkeypatch.setenv("IRIS_TRUSTED_PROXIES", "10.0.0.0/8,::1")
    monkeypatch.setenv("IRIS_HOST", "::1")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(hooks, "prepared", Settings.read)
    made = runpy.run_path("gunicorn.conf.py")
    assert made["loglevel"] == "warning"
    assert made["forwarded_allow_ips"] == "10.0.0.0/8,::1"
    assert made["bind"] == "[::1]:8000"
    assert made["control_socket_disable"]
    assert made["preload_app"]


def test_it_listens_on_ipv6(start: Callable[..., Server]) -> None:
    """And the printed address can be pasted."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    server = start(IRIS_HOST="::1")
    assert "curl http://[::1]:" in server.log_text
    server.stop()


def test_a_killed_worker_is_replaced(start: Callable[..., Server]) -> None:
    """The others answer meanwhile."""
    server = start()
    before = set(server.workers())
    os.kill(min(before), signal.SIGKILL)
    assert all(server.predicts() for _ in range(10))
    wait_for(lambda: len(set(server.workers()) - before) == 1, "a new worker")
    assert server.predicts()
    assert server.stop() == 0


def test_a_checkout_that_may_not_be_written_serves(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    """Nothing is written beside the code: no control socket, no cache, no lock."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "iris_api", checkout / "iris_api")
    for name in ("wsgi.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, checkout / name)
    before = sorted(checkout.rglob("*"))
    server = start(cwd=checkout, PYTHONDONTWRITEBYTECODE="1", HOME="/nonexistent")
    assert server.predicts()
    assert sorted(checkout.rglob("*")) == before
    assert server.stop() == 0

"""The README's code blocks, run as they stand."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.constants import ROOT
from tests.test_readme import blocks

from .conftest import environment

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Server

pytestmark = pytest.mark.system


def test_the_python_example_prints_what_it_says(server: Server, capsys: Any) -> None:
    """With the port of a real server."""
    (block,) = blocks("python")
    script = block.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    exec(compile(script.replace("iris_Mmv...", server.key), "README.md", "exec"), {})  # noqa: S102 - our own README
    assert capsys.readouterr().out.strip() == block.strip().rpartition("# ")[2]


def test_the_key_commands_work_as_they_stand(tmp_path: Path) -> None:
    """With this environment's flask and a key file of its own."""
    block = next(block for block in blocks("sh") if "keys add" in block)
    script = block.replace(".venv/bin/flask", f"{shlex.quote(sys.executable)} -m flask")
    script = script.replace("keys.txt", shlex.quote(str(tmp_path / "keys.txt")))
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    key, listed, revoked = done.stdout.splitlines()
    assert key.startswith("iris_")
    assert listed.startswith("shop ")
    assert revoked == "Revoked shop."

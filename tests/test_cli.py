from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from iris_api.keys import digest_of

ROOT = Path(__file__).parent.parent


def flask(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `flask --app wsgi` as an operator does."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.system
def test_keys_are_added_listed_and_revoked(tmp_path: Path) -> None:
    """Before there is a key file or a model; the key alone goes to standard output."""
    nowhere = str(tmp_path / "no model")
    where = {"IRIS_API_KEYS_FILE": str(tmp_path / "keys"), "IRIS_MODEL_DIR": nowhere}
    added = flask("keys", "add", "shop", **where)
    key = added.stdout.strip()
    assert "only this once" in added.stderr
    assert flask("keys", "list", **where).stdout == f"shop  sha256:{digest_of(key)[:12]}\n"
    assert flask("keys", "revoke", "shop", **where).stdout == "Revoked shop.\n"
    assert flask("keys", "list", **where).stdout == ""


@pytest.mark.system
@pytest.mark.parametrize(
    ("command", "environment", "message"),
    [
        (["keys", "list"], {}, "Error: set IRIS_API_KEYS_FILE to the file"),
        (["keys", "list"], {"IRIS_API_KEYS_FILE": "/none"}, "Error: /none can't be read"),
        (["keys", "revoke", "x"], {"IRIS_API_KEYS_FILE": "/none"}, "Error: /none can't be read"),
        (["keys", "add", "a b"], {"IRIS_API_KEYS_FILE": "/none"}, "Error: 'a b' is no name"),
        (["keys", "list"], {"IRIS_KEYS": "x"}, "iris-api: IRIS_KEYS is not a setting"),
    ],
)
def test_an_operators_mistake_is_one_line_and_a_status(
    command: list[str], environment: dict[str, str], message: str
) -> None:
    """No traceback, whatever is wrong."""
    done = flask(*command, **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1

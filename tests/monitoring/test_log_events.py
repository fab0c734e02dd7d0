"""The list of log events in the documentation is complete."""

from __future__ import annotations

import re

from tests.constants import ROOT

EVENT = re.compile(r'(?:"event": |_fields\()"(\w+)"')
ROW = re.compile(r"^\| `(\w+)` \|[^|]+\|[^|]+\|[^|]+\|$", re.MULTILINE)
"""A row of four columns: event, level, meaning and fields."""


def test_every_log_event_is_documented() -> None:
    """With its level, and no event that does not exist."""
    code = {
        event
        for path in (ROOT / "iris_api").rglob("*.py")
        for event in EVENT.findall(path.read_text())
    }
    documented = ROW.findall((ROOT / "docs" / "log-events.md").read_text())
    assert len(documented) == len(set(documented))
    assert set(documented) == code

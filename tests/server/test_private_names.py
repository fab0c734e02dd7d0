from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.constants import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE = ROOT / "iris_api"
ALLOWED = {PACKAGE / "server" / "parser.py", PACKAGE / "monitoring" / "storage.py"}


def private_names(path: Path) -> set[str]:
    """Private names that a module imports, or uses of another object, and does not define."""
    used, defined = set[str](), set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name("self" | "cls")):
                pass
            case ast.Attribute(attr=name):
                used.add(name)
            case ast.ImportFrom():
                used.update(alias.name for alias in node.names)
            case ast.FunctionDef(name=name):
                defined.add(name)
    return {name for name in used if name.startswith("_") and not name.startswith("__")} - (
        defined if path not in ALLOWED else set()
    )


def test_private_names_of_other_libraries_are_used_in_two_modules_and_documented() -> None:
    """An upgrade may change them without notice."""
    used = {path: private_names(path) for path in PACKAGE.rglob("*.py")}
    assert {path for path, names in used.items() if names} == ALLOWED
    document = (ROOT / "docs" / "upgrading.md").read_text()
    names = set.union(*used.values())
    assert {name for name in names if f"`{name}`" not in document} == set()

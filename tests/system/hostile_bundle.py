"""A bundle that is as unlike iris as the contract allows: names, types, bounds and shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from iris_api.bundle.manifest import Content, Evaluation
from iris_api.bundle.store import Bundle
from iris_api.contract.base import FLOAT32_MAX
from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract
from iris_api.training.export import export, tool_versions
from iris_api.training.reference import reference

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (
    "<script>document.title = 'no'</script>",
    """it's "quoted" \\ with $HOME `and` %s {0}""",
    "__proto__",
    "0",
    "1",
    "عرض البتلة",
    "turned \u202e round",
    "comma, semicolon; and 🌷",
    "W" * 100,
    "never varies",
    *(f"pixel_{i}" for i in range(20)),
)
CLASSES = (
    "<img src=x onerror=\"document.title = 'no'\">",
    'O\'Brien "&amp;"',
    "שלום \u202e",
    "=1+1",
    "__proto__",
    "a name that is rather long for a class and has to be broken somewhere",
    "g",
)


def save(directory: Path) -> Bundle:
    """Write the bundle. It has no sample of its training rows."""
    generator = np.random.default_rng(3)
    rows = generator.normal(0, 1000, (400, len(NAMES)))
    integral = [i % 3 == 1 for i in range(len(NAMES))]
    rows[:, integral] = rows[:, integral].round()
    rows[:, NAMES.index("never varies")] = 7
    labels = (rows[:, 0] > 0) + 2 * (rows[:, 1] > 0) + 3 * (rows[:, 3] > 0)
    features = tuple(
        FeatureSpec(
            name=name,
            type="int" if integral[i] else "float",
            unit="µm" if i % 4 == 0 else None,
            minimum=-FLOAT32_MAX if i % 5 == 0 else -10_000,
            maximum=FLOAT32_MAX if i % 10 == 0 else 10_000,
            description="" if i % 3 else "What <b>it</b> is",
            example=rows[0, i],
        )
        for i, name in enumerate(NAMES)
    )
    contract = Contract(features=features, classes=CLASSES)
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(rows, labels)
    exported = export(tree, contract, rows=rows, name="odd")
    content = Content(
        name="<b>odd</b> & 'other'",
        contract=contract,
        versions=tool_versions(),
        evaluation=Evaluation(
            method="none", rows=len(rows), accuracy=0, log_loss=0, confusion_matrix=()
        ),
        reference=reference(rows, labels, len(CLASSES)),
        golden=exported.golden,
    )
    return Bundle.save(directory, content, exported.artefacts)

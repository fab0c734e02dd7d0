"""Train the iris random forest and write its bundle into `model/`.

To serve another model, copy this file and change its contract, its data and its estimator.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.model_selection import StratifiedKFold

from iris_api.bundle.manifest import Content, Evaluation
from iris_api.bundle.store import Bundle
from iris_api.contract.columns import FeatureSpec
from iris_api.contract.contract import Contract
from iris_api.errors import IrisError
from iris_api.training.export import export, tool_versions
from iris_api.training.reference import reference, sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAME = "iris"
FOLDS = 10
PARTS = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
CONTRACT = Contract(
    features=tuple(
        FeatureSpec(
            name=name,
            unit="cm",
            minimum=0,
            maximum=10,
            description=f"{name.replace('_', ' ').capitalize()} of the flower",
            example=example,
        )
        for name, example in PARTS.items()
    ),
    classes=("setosa", "versicolor", "virginica"),
)


def cross_validate(estimator: Any, rows: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of each row, from a clone that was fitted without the row."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=42)
    probabilities = np.zeros((len(rows), len(CONTRACT.classes)))
    splits = list(folds.split(rows, labels))
    with click.progressbar(splits, label=f"Cross-validating in {FOLDS} folds") as progress:
        for fitted, held_out in progress:
            fold = clone(estimator).fit(rows[fitted], labels[fitted])
            probabilities[held_out] = fold.predict_proba(rows[held_out])
    return probabilities


def evaluate(probabilities: NDArray[np.float64], labels: NDArray[Any]) -> Evaluation:
    """Accuracy, log loss and confusion matrix of the cross-validated probabilities."""
    predicted = probabilities.argmax(axis=1)
    return Evaluation(
        method=f"stratified {FOLDS}-fold cross-validation, shuffled with seed 42",
        rows=len(labels),
        accuracy=accuracy_score(labels, predicted),
        log_loss=log_loss(labels, probabilities),
        confusion_matrix=tuple(map(tuple, confusion_matrix(labels, predicted).tolist())),
    )


@click.command()
@click.option(
    "--model-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("model"),
    show_default=True,
    help="Where the bundle is written.",
)
def train(model_dir: Path) -> None:
    """Fit, evaluate and export the iris random forest, and write its bundle."""
    rows, labels = load_iris(return_X_y=True)
    estimator = RandomForestClassifier(n_estimators=100, random_state=42)
    click.echo(f"Fitting on {len(rows)} rows, converting, comparing the conversion ...")
    estimator.fit(rows, labels)
    try:
        exported = export(estimator, CONTRACT, rows=rows, name=NAME)
        probabilities = cross_validate(estimator, rows, labels)
        content = Content(
            name=NAME,
            contract=CONTRACT,
            versions=tool_versions(),
            evaluation=evaluate(probabilities, labels),
            # Live predictions are compared with predictions, not with the true classes.
            reference=reference(rows, probabilities.argmax(axis=1), len(CONTRACT.classes)),
            golden=exported.golden,
            # Every caller with a key can see these rows: leave the sample out if they are private.
            sample=sample(rows, labels),
        )
        bundle = Bundle.save(model_dir, content, exported.artefacts)
    except (IrisError, OSError) as error:
        raise click.ClickException(str(error)) from error
    summarise(bundle, exported.refusal)


def summarise(bundle: Bundle, refusal: str | None) -> None:
    """Print the evaluation, the runtime and the files that were written."""
    evaluation = bundle.manifest.evaluation
    served_by = bundle.manifest.artefacts[0].runtime
    click.echo(f"Accuracy  {evaluation.accuracy:.4f}   {evaluation.method}")
    click.echo(f"Log loss  {evaluation.log_loss:.4f}")
    click.echo(f"Served by {served_by}" + (f" (no ONNX: {refusal})" if refusal else ""))
    for artefact in bundle.manifest.artefacts:
        click.echo(f"Wrote     {bundle.directory / artefact.path} ({artefact.size:,} bytes)")
    click.echo(f"Version   {bundle.manifest.version} in {bundle.directory}/manifest.json")


if __name__ == "__main__":
    train()

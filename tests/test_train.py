from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import train
from iris_api.bundle.store import Bundle

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The bundle and the output of a second training."""
    directory: Path = tmp_path_factory.mktemp("repeated") / "model"
    return directory, CliRunner().invoke(train.train, ["--model-dir", str(directory)])


def test_training_twice_gives_the_same_version(
    trained: Path, repeated: tuple[Path, Result]
) -> None:
    """The same data and the same recipe give the same bytes."""
    directory, result = repeated
    assert Bundle.load(directory).manifest == Bundle.load(trained).manifest
    assert Bundle.load(trained).manifest.version in result.output


def test_the_summary_names_the_evaluation_the_runtime_and_the_files(
    repeated: tuple[Path, Result],
) -> None:
    """Accuracy and log loss are those of the manifest."""
    directory, result = repeated
    evaluation = Bundle.load(directory).manifest.evaluation
    for part in (
        "Cross-validating",
        f"{evaluation.accuracy:.4f}",
        f"{evaluation.log_loss:.4f}",
        "Served by onnxruntime",
        "iris_model.onnx",
        "iris_model.joblib",
        "manifest.json",
    ):
        assert part in result.output


def test_the_evaluation_is_out_of_fold(trained: Path) -> None:
    """Each of the 150 rows is predicted by a forest that was fitted without it."""
    evaluation = Bundle.load(trained).manifest.evaluation
    matrix = evaluation.confusion_matrix
    assert [sum(row) for row in matrix] == [50, 50, 50]
    assert sum(matrix[i][i] for i in range(3)) / 150 == pytest.approx(evaluation.accuracy)
    assert 0.9 < evaluation.accuracy < 1


def test_a_directory_that_can_not_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the way ends the training with one line, without a traceback."""
    monkeypatch.setattr(train, "FOLDS", 2)  # Fewer fits: only the end of the training matters.
    (tmp_path / "file").touch()
    result = CliRunner().invoke(train.train, ["--model-dir", str(tmp_path / "file" / "model")])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: ")

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import train
from iris_api.bundle.store import Bundle

if TYPE_CHECKING:
    from pathlib import Path


def test_training_twice_gives_the_same_version(trained: Path, tmp_path: Path) -> None:
    """Same data, same recipe, same bytes."""
    result = CliRunner().invoke(train.train, ["--model-dir", str(tmp_path / "again")])
    assert Bundle.load(tmp_path / "again").manifest == Bundle.load(trained).manifest
    assert Bundle.load(trained).manifest.version in result.output


def test_the_summary_tells_what_was_made(tmp_path: Path) -> None:
    """Accuracy, log loss, runtime, files and version."""
    result = CliRunner().invoke(train.train, ["--model-dir", str(tmp_path)])
    evaluation = Bundle.load(tmp_path).manifest.evaluation
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
    """150 rows, each predicted by a forest that had not seen it."""
    evaluation = Bundle.load(trained).manifest.evaluation
    matrix = evaluation.confusion_matrix
    assert [sum(row) for row in matrix] == [50, 50, 50]
    assert sum(matrix[i][i] for i in range(3)) / 150 == pytest.approx(evaluation.accuracy)
    assert 0.9 < evaluation.accuracy < 1


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    """No traceback."""
    (tmp_path / "file").touch()
    result = CliRunner().invoke(train.train, ["--model-dir", str(tmp_path / "file" / "model")])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: ")

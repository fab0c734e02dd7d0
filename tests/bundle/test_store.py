from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from iris_api.bundle.store import ArtefactFile, Bundle
from iris_api.errors import BundleError
from tests.conftest import ROOT, content_of, reseal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def onnx_file(model_dir: Path) -> Path:
    return next(model_dir.glob("*/iris_model.onnx"))


def manifest_file(model_dir: Path) -> Path:
    return model_dir / "manifest.json"


def test_what_is_saved_is_what_is_loaded(trained: Path) -> None:
    """A bundle holds the three named files, and its artefacts carry their digests."""
    bundle = Bundle.load(trained)
    files = sorted(path.name for path in trained.rglob("*") if path.is_file())
    assert files == ["iris_model.joblib", "iris_model.onnx", "manifest.json"]
    assert [artefact.runtime for artefact in bundle.manifest.artefacts] == [
        "onnxruntime",
        "scikit-learn",
    ]


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_manifest(model_dir: Path, **change: Any) -> None:
    path = manifest_file(model_dir)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))


def put_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no manifest": (lambda d: manifest_file(d).unlink(), "no bundle in"),
    "empty manifest": (lambda d: manifest_file(d).write_bytes(b""), "is not a manifest"),
    "binary manifest": (lambda d: manifest_file(d).write_bytes(b"\x80\xff"), "is not a manifest"),
    "half a manifest": (
        lambda d: manifest_file(d).write_bytes(manifest_file(d).read_bytes()[:500]),
        "is not a manifest",
    ),
    "unknown format": (lambda d: edit_manifest(d, format=2), r"is not a manifest \(format:"),
    "edited manifest": (lambda d: edit_manifest(d, name="roses"), "changed after training"),
    "manifest is a folder": (lambda d: put_a_folder(manifest_file(d)), "can't be read"),
    "no artefact": (lambda d: onnx_file(d).unlink(), "can't be read"),
    "half an artefact": (
        lambda d: onnx_file(d).write_bytes(onnx_file(d).read_bytes()[:999]),
        "has 999 bytes where the manifest says",
    ),
    "one bit changed": (lambda d: flip_a_byte(onnx_file(d)), "is not the file that was trained"),
}


@pytest.mark.parametrize(("damage", "reason"), BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_bundle_is_refused_in_one_sentence_with_the_mend(
    model_dir: Path, damage: Callable[[Path], Any], reason: str
) -> None:
    """Whatever is missing, cut, edited or flipped: refused, saying which file and what to do."""
    damage(model_dir)
    with pytest.raises(BundleError, match=reason) as refusal:
        Bundle.load(model_dir)
    message = str(refusal.value)
    assert message.endswith(
        "train it (train.py --model-dir DIR), or point IRIS_MODEL_DIR at a whole bundle"
    )
    assert "\n" not in message


def test_a_second_save_leaves_the_version_it_replaced_for_its_readers(
    save: Callable[..., Bundle], forest: Any
) -> None:
    """Two versions stay with their manifests, leftovers of a crash go, other folders stay."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    rows, labels = load_iris(return_X_y=True)
    saved = [save(forest, rows, labels)]
    (saved[0].directory / "notes").mkdir()
    (saved[0].directory / ".new-left-by-a-crash").touch()
    for strength in (0.1, 1.0):
        estimator = LogisticRegression(C=strength, max_iter=500).fit(rows, labels)
        saved.append(save(estimator, rows, labels))
    directory = saved[0].directory
    left = {path.name for path in directory.iterdir()}
    versions = {bundle.manifest.version for bundle in saved[1:]}
    assert left == {"manifest.json", "previous.json", "notes", *versions}
    assert Bundle.load(directory).manifest == saved[-1].manifest
    assert Bundle.load(directory, directory / "previous.json").manifest == saved[-2].manifest


def test_a_bundle_is_activated_in_another_directory_and_back(
    model_dir: Path, tmp_path: Path
) -> None:
    """What serves there becomes the previous one; again the same changes nothing."""
    old = Bundle.load(model_dir)
    new = reseal(shutil.copytree(model_dir, tmp_path / "new"), name="better")
    for _ in range(2):
        assert new.activate(model_dir).manifest.version == new.manifest.version
        assert Bundle.load(model_dir).manifest.name == "better"
        assert Bundle.load(model_dir, model_dir / "previous.json").manifest == old.manifest
    Bundle.load(model_dir, model_dir / "previous.json").activate(model_dir)
    assert Bundle.load(model_dir).manifest == old.manifest
    assert Bundle.load(model_dir, model_dir / "previous.json").manifest == new.manifest


def test_a_directory_that_can_not_be_written_is_one_error(model_dir: Path) -> None:
    """Not a traceback: a file lies where the directory should be."""
    bundle = Bundle.load(model_dir)
    with pytest.raises(BundleError, match=r"manifest\.json can't be written \(File exists\)"):
        bundle.activate(model_dir / "manifest.json")


def test_saving_again_mends_a_damaged_bundle(trained: Path, model_dir: Path) -> None:
    """The same content written over a flipped bit gives the whole bundle back."""
    whole = Bundle.load(trained).manifest
    kept = onnx_file(model_dir).read_bytes()
    reseal(model_dir)
    assert Bundle.load(model_dir).manifest == whole
    flip_a_byte(onnx_file(model_dir))
    pickle = ArtefactFile(
        "iris_model.joblib", "scikit-learn", next(model_dir.glob("*/*.joblib")).read_bytes()
    )
    onnx = ArtefactFile("iris_model.onnx", "onnxruntime", kept)
    Bundle.save(model_dir, content_of(whole), [onnx, pickle])
    assert Bundle.load(model_dir).manifest == whole


@pytest.mark.system
def test_a_training_killed_at_any_moment_leaves_a_whole_bundle(model_dir: Path) -> None:
    """Writers that replace the bundle over and over, killed: what is left always loads."""
    writer = """
import sys
from pathlib import Path
from tests.bundles import reseal
print("writing", flush=True)
for number in range(1_000_000):
    reseal(Path(sys.argv[1]), name=f"iris {number % 7}")
"""
    names = set()
    for delay in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", writer, str(model_dir)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay * 0.007)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        names.add(Bundle.load(model_dir).manifest.name)
    assert len(names) > 1, "no writer ever got as far as to replace the bundle"

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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


def test_a_bundle_has_a_manifest_and_the_artefacts_that_it_names(trained: Path) -> None:
    """Training writes three files, and the ONNX artefact is the one that serves."""
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
def test_a_broken_bundle_is_refused_with_one_sentence_that_says_what_to_do(
    model_dir: Path, damage: Callable[[Path], Any], reason: str
) -> None:
    """A file that is missing, truncated, edited or corrupted is named."""
    damage(model_dir)
    with pytest.raises(BundleError, match=reason) as refusal:
        Bundle.load(model_dir)
    message = str(refusal.value)
    assert message.endswith(
        "train it (train.py --model-dir DIR), or point IRIS_MODEL_DIR at a whole bundle"
    )
    assert "\n" not in message


def test_a_save_keeps_the_version_that_it_replaces(model_dir: Path) -> None:
    """Older versions and what a crash left are removed; other folders stay."""
    (model_dir / "notes").mkdir()
    (model_dir / ".new-left-by-a-crash").touch()
    saved = [reseal(model_dir, name=name) for name in ("second", "third")]
    names = {path.name for path in model_dir.iterdir()}
    versions = {bundle.manifest.version for bundle in saved}
    assert names == {"manifest.json", "previous.json", "notes", *versions}
    assert Bundle.load(model_dir).manifest == saved[1].manifest
    assert Bundle.load(model_dir, model_dir / "previous.json").manifest == saved[0].manifest


def test_a_bundle_is_activated_in_another_directory_and_rolled_back(
    model_dir: Path, tmp_path: Path
) -> None:
    """The version that served there becomes the previous one; a second activation is no change."""
    old = Bundle.load(model_dir)
    new = reseal(shutil.copytree(model_dir, tmp_path / "new"), name="better")
    for _ in range(2):
        assert new.activate(model_dir).manifest.version == new.manifest.version
        assert Bundle.load(model_dir).manifest.name == "better"
        assert Bundle.load(model_dir, model_dir / "previous.json").manifest == old.manifest
    Bundle.load(model_dir, model_dir / "previous.json").activate(model_dir)
    assert Bundle.load(model_dir).manifest == old.manifest
    assert Bundle.load(model_dir, model_dir / "previous.json").manifest == new.manifest


def test_a_directory_that_can_not_be_written_is_a_bundle_error(model_dir: Path) -> None:
    """For instance a file lies where the directory should be."""
    bundle = Bundle.load(model_dir)
    with pytest.raises(BundleError, match=r"manifest\.json can't be written \(File exists\)"):
        bundle.activate(model_dir / "manifest.json")


def test_saving_again_repairs_a_corrupted_bundle(trained: Path, model_dir: Path) -> None:
    """The same content, written over a flipped bit, is the same version again."""
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


KILLED_WRITERS = """
import os, signal, sys, time
from itertools import count
from pathlib import Path
from iris_api.bundle.store import Bundle
from tests.bundles import reseal

directory = Path(sys.argv[1])
for delay in range(12):
    ready, started = os.pipe()
    writer = os.fork()
    if not writer:
        os.write(started, b"x")
        for number in count():
            reseal(directory, name=f"iris {number % 7}")
    os.read(ready, 1)
    time.sleep(delay * 0.007)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    print(Bundle.load(directory).manifest.name)
"""


@pytest.mark.system
def test_a_writer_killed_at_any_moment_leaves_a_whole_bundle(model_dir: Path) -> None:
    """Twelve writers replace the bundle again and again; after each kill it can be loaded."""
    process = subprocess.run(
        [sys.executable, "-c", KILLED_WRITERS, str(model_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    names = process.stdout.splitlines()
    assert len(names) == 12
    assert len(set(names)) > 1, "every writer was killed before it replaced the bundle"
    assert Bundle.load(model_dir).manifest.name == names[-1]

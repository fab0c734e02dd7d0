from __future__ import annotations

import json
import subprocess
import sys
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from iris_api.bundle import runtimes
from iris_api.bundle.runtimes import OnnxRuntime, SklearnRuntime, load_runtime
from iris_api.bundle.store import ArtefactFile, Bundle
from iris_api.errors import BundleError
from tests.conftest import pickle_only, reseal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def onnx(trained: Path) -> OnnxRuntime:
    """The runtime that serves the shipped model."""
    runtime = load_runtime(Bundle.load(trained))
    assert isinstance(runtime, OnnxRuntime)
    return runtime


def assert_agreement(
    onnx: OnnxRuntime, forest: RandomForestClassifier, rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    expected: NDArray[np.float64] = forest.predict_proba(rows)
    probabilities = onnx.probabilities(rows)
    assert np.abs(probabilities - expected).max() <= 1e-5
    np.testing.assert_array_equal(probabilities.argmax(axis=1), forest.predict(rows))
    return expected


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """The arrays that ONNX Runtime predicts, one for each run of a session opened from here on."""
    arrays: list[NDArray[np.float32]] = []

    class RecordingSession(onnxruntime.InferenceSession):
        def run(self, outputs: Any, inputs: Any, *options: Any) -> Any:
            arrays.extend(inputs.values())
            return super().run(outputs, inputs, *options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", RecordingSession)
    return arrays


@pytest.mark.parametrize(
    ("features", "is_sorted"), [(runtimes.MAX_SORTED_FEATURES, True), (13, False)]
)
def test_only_narrow_rows_are_sorted(
    save: Callable[..., Bundle],
    predicted: list[NDArray[np.float32]],
    features: int,
    *,
    is_sorted: bool,
) -> None:
    """Wide rows reach ONNX Runtime in their order: sorting them costs more than it saves."""
    rows = np.random.default_rng(6).uniform(0, 10, (runtimes.MIN_SORTED_ROWS, features))
    labels = (rows[:, 0] > 5).astype(int)
    onnx = load_runtime(save(RandomForestClassifier(3).fit(rows, labels), rows, labels))
    onnx.probabilities(rows)
    expected = rows.astype(np.float32).tolist()
    assert (predicted[-1].tolist() != expected) is is_sorted
    assert sorted(predicted[-1].tolist()) == sorted(expected)


def test_equal_rows_are_predicted_once(trained: Path, predicted: list[NDArray[np.float32]]) -> None:
    """Rows that differ in the last bit of a float32 are not equal."""
    onnx = load_runtime(Bundle.load(trained))
    near = [np.nextafter(np.float32(4.9), np.float32(step)) for step in (0, 9)]
    distinct = np.array([(5.0, 3.5, x, 1.5) for x in (4.9, 1.4, *near)], np.float32)
    rows = distinct[np.random.default_rng(1).integers(0, len(distinct), 2000)]
    alone = onnx.probabilities(distinct)
    expected = [alone[np.flatnonzero((distinct == row).all(axis=1))[0]] for row in rows]
    np.testing.assert_array_equal(onnx.probabilities(rows), expected)
    assert sorted(predicted[-1].tolist()) == sorted(distinct.tolist())


def test_probabilities_of_many_rows_are_in_their_order(onnx: OnnxRuntime) -> None:
    """Similar rows are predicted together, and each gets the answer that it gets alone."""
    rows = np.random.default_rng(5).uniform(0, 10, (runtimes.MIN_SORTED_ROWS + 1, 4))
    rows[::9] = rows[0]
    alone = [onnx.probabilities(row[None])[0] for row in rows]
    np.testing.assert_array_equal(onnx.probabilities(rows), alone)


def test_onnx_agrees_with_scikit_learn_on_random_rows_and_exact_ties(
    onnx: OnnxRuntime, forest: RandomForestClassifier
) -> None:
    """200,000 rows in bounds, of which some hundreds are exact ties between two classes."""
    rows = np.random.default_rng(7).uniform(0, 10, (200_000, 4))
    ordered = np.sort(assert_agreement(onnx, forest, rows), axis=1)
    assert (ordered[:, -1] == ordered[:, -2]).sum() > 100


def test_onnx_agrees_with_scikit_learn_exactly_at_thresholds(
    onnx: OnnxRuntime, forest: RandomForestClassifier
) -> None:
    """Every threshold of every tree, and its float32 neighbours, in rows made of nothing else."""
    rng = np.random.default_rng(11)
    columns = []
    for feature in range(4):
        trees = [tree.tree_ for tree in forest.estimators_]
        thresholds = [tree.threshold[tree.feature == feature] for tree in trees]
        exact = np.unique(np.concatenate(thresholds)).astype(np.float32)
        near = [np.nextafter(exact, np.float32(side)) for side in (-np.inf, np.inf)]
        columns.append(rng.choice(np.concatenate([exact, *near]), 50_000))
    assert_agreement(onnx, forest, np.stack(columns, axis=1).astype(np.float64))


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_both_runtimes_give_the_same_probabilities(
    model_dir: Path, onnx: OnnxRuntime, rows: int
) -> None:
    """The same bundle, opened from its pickle, predicts the same row by row."""
    sklearn = load_runtime(pickle_only(model_dir))
    assert isinstance(sklearn, SklearnRuntime)
    array = np.random.default_rng(rows).uniform(0, 10, (rows, 4))
    np.testing.assert_allclose(
        onnx.probabilities(array), sklearn.probabilities(array), atol=1e-5, rtol=0
    )


WINE = load_wine(return_X_y=True)
OTHERS = {
    "boosting": HistGradientBoostingClassifier(max_iter=5),
    "linear pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier(n_jobs=2)),
    "forest with a worker pool": RandomForestClassifier(20, n_jobs=2, random_state=0),
}


@pytest.mark.parametrize("estimator", OTHERS.values(), ids=OTHERS.keys())
def test_other_estimators_are_served_with_their_own_probabilities(
    save: Callable[..., Bundle], estimator: Any
) -> None:
    """In either runtime, labels and probabilities of the training rows are scikit-learn's."""
    rows, labels = WINE
    fitted = estimator.fit(rows, labels)
    runtime = load_runtime(save(fitted, rows, labels))
    probabilities = runtime.probabilities(rows)
    assert np.abs(probabilities - fitted.predict_proba(rows)).max() <= 1e-5
    np.testing.assert_array_equal(probabilities.argmax(axis=1), fitted.predict(rows))


def test_an_estimator_is_served_with_one_job() -> None:
    """Worker processes are the parallelism: n_jobs becomes 1 at every depth of a pipeline."""
    estimator = make_pipeline(StandardScaler(), RandomForestClassifier(5, n_jobs=4)).fit(*WINE)
    SklearnRuntime(estimator)
    assert estimator.get_params()["randomforestclassifier__n_jobs"] == 1


def test_an_artefact_with_other_probabilities_is_refused(model_dir: Path) -> None:
    """The golden rows are replayed before the artefact serves."""
    manifest = Bundle.load(model_dir).manifest
    swapped = [row[::-1] for row in manifest.golden.probabilities]
    golden = manifest.golden.model_copy(update={"probabilities": tuple(swapped)})
    broken = reseal(model_dir, golden=golden)
    with pytest.raises(BundleError, match="does not give the golden rows' probabilities"):
        load_runtime(broken)


def test_a_joblib_artefact_of_another_scikit_learn_is_never_opened(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest has the version, so the pickle is not even read."""
    versions = Bundle.load(model_dir).manifest.versions | {"scikit-learn": "1.2.3"}
    skewed = pickle_only(model_dir, versions=versions)
    monkeypatch.setattr(joblib, "load", lambda _: pytest.fail("the pickle was opened"))
    with pytest.raises(BundleError, match=r"trained with scikit-learn 1\.2\.3 .* train it again"):
        load_runtime(skewed)


def test_a_joblib_artefact_without_scikit_learn_says_what_to_install(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that serves ONNX may not have scikit-learn."""

    def missing(_: str) -> str:
        raise metadata.PackageNotFoundError

    pickled = pickle_only(model_dir)
    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(BundleError, match="not installed: install it"):
        load_runtime(pickled)


@pytest.mark.parametrize("runtime", ["onnxruntime", "scikit-learn"])
def test_bytes_that_are_not_a_model_are_refused(model_dir: Path, runtime: Any) -> None:
    """The digests are right and the content is wrong: one sentence, without a traceback."""
    broken = reseal(model_dir, [ArtefactFile("x", runtime, b"no model")])
    with pytest.raises(BundleError, match="train it again") as refusal:
        load_runtime(broken)
    assert "\n" not in str(refusal.value)


def test_a_pickle_of_something_else_is_refused(model_dir: Path, tmp_path: Path) -> None:
    """Digest and version are right, but the object is not an estimator."""
    joblib.dump({"not": "an estimator"}, tmp_path / "other")
    content = (tmp_path / "other").read_bytes()
    saved = reseal(model_dir, [ArtefactFile("other.joblib", "scikit-learn", content)])
    with pytest.raises(BundleError, match="can't be unpickled"):
        load_runtime(saved)


class WarnsWhenUnpickled:
    """An object that warns when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return warnings.warn, ("unpickled under another version",)


def test_a_warning_while_unpickling_is_a_refusal(tmp_path: Path) -> None:
    """scikit-learn only warns when a pickle may be wrong; a service must not serve it."""
    path = tmp_path / "warning.joblib"
    joblib.dump(WarnsWhenUnpickled(), path)
    with pytest.raises(BundleError, match="can't be unpickled"):
        runtimes.unpickle(path.read_bytes(), "warning.joblib")


def test_a_model_with_another_number_of_features_is_refused(model_dir: Path) -> None:
    """An artefact that can't predict the golden rows never serves."""
    rows, labels = load_iris(return_X_y=True)
    narrow = LogisticRegression(max_iter=500).fit(rows[:, :2], labels)
    path = model_dir / "narrow.joblib"
    joblib.dump(narrow, path)
    saved = reseal(model_dir, [ArtefactFile("narrow.joblib", "scikit-learn", path.read_bytes())])
    with pytest.raises(BundleError, match="can't predict"):
        load_runtime(saved)


@pytest.mark.system
def test_a_forked_child_predicts_with_its_parents_session(trained: Path) -> None:
    """The session exists before the fork, so it must not depend on a thread of its own."""
    script = f"""
import json, os
from pathlib import Path
import numpy as np
from iris_api.bundle.store import Bundle
from iris_api.bundle.runtimes import load_runtime
runtime = load_runtime(Bundle.load(Path({str(trained)!r})))
rows = np.random.default_rng(0).uniform(0, 10, (500, 4))
before = runtime.probabilities(rows)
threads = len(os.listdir("/proc/self/task"))
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        same = all(np.array_equal(runtime.probabilities(rows), before) for _ in range(20))
        raise SystemExit(0 if same else 1)
    children.append(child)
print(json.dumps([threads, [os.waitpid(child, 0)[1] for child in children]]))
"""
    environment = {"OPENBLAS_NUM_THREADS": "1", "HOME": str(trained / "no-home"), "PATH": ""}
    process = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    threads, statuses = json.loads(process.stdout)
    assert threads == 1
    assert statuses == [0, 0, 0, 0], process.stderr
    assert not (trained / "no-home").exists(), "ONNX Runtime left telemetry behind"

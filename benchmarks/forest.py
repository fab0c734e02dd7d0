"""What sorting the rows and dropping zero weights save: `python -m benchmarks.forest`.

The forest as skl2onnx writes it, the served forest, and the same with the runtime's sorting
predict random rows in turns, in one process.
"""

from __future__ import annotations

import io
import statistics
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import click
import joblib
import numpy as np
import onnxruntime

from iris_api.bundle.model import Model
from iris_api.bundle.store import Bundle
from iris_api.training.convert import to_onnx

from .bench import FEATURES
from .contenders import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SIZES = (1, 100, 200, 1_000, 10_000)
ROWS_PER_TURN, SINGLE_ROWS = 20_000, 2_000


@click.command()
@click.option("--rounds", default=15, show_default=True)
def forest(rounds: int) -> None:
    """Print the CPU per row for each way and batch size."""
    model = Model.load(ROOT / "model", max_rows=1)
    bundle = Bundle.load(ROOT / "model")
    ways = {
        "as skl2onnx writes it": unsorted(_as_skl2onnx_writes_it(bundle)),
        "without zeros": unsorted(bundle.read(bundle.manifest.served)),
        "and sorted": model.runtime.probabilities,
    }
    click.echo(f"| rows at once | {' | '.join(ways)} |\n|---:|{'---:|' * len(ways)}")
    for size in SIZES:
        batches = _batches(size)
        results = [np.concatenate([way(batch) for batch in batches]) for way in ways.values()]
        if not all(np.array_equal(result, results[0]) for result in results):
            raise click.ClickException("the probabilities differ")
        cpu: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for name, way in ways.items():
                started = time.process_time()
                for batch in batches:
                    way(batch)
                seconds = time.process_time() - started
                cpu[name].append(seconds / len(batches) / size * 1e6)
        medians = [statistics.median(cpu[name]) for name in ways]
        click.echo(f"| {size:,} | {' | '.join(f'{median:.2f}' for median in medians)} |")


def _as_skl2onnx_writes_it(bundle: Bundle) -> bytes:
    """The bundle's forest, converted by skl2onnx and not changed."""
    artefacts = bundle.manifest.artefacts
    pickled = next(a for a in artefacts if a.runtime == "scikit-learn")
    fitted = joblib.load(io.BytesIO(bundle.read(pickled)))
    content: bytes = to_onnx(fitted, len(FEATURES), bundle.manifest.name).SerializeToString()
    return content


def unsorted(content: bytes) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A graph on one thread of ONNX Runtime, without the sorting of `OnnxRuntime`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    rows, probabilities = session.get_inputs()[0].name, session.get_outputs()[-1].name

    def predict(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = session.run([probabilities], {rows: batch})[0]
        return result

    return predict


def _batches(size: int) -> list[NDArray[np.float32]]:
    """Batches of random flowers, few of them alike."""
    count = max(ROWS_PER_TURN // size, 1) if size > 1 else SINGLE_ROWS
    flowers = np.random.default_rng(1).uniform(
        (4, 2, 1, 0.1), (8, 4.5, 7, 2.5), (count, size, len(FEATURES))
    )
    return list(flowers.astype(np.float32))


if __name__ == "__main__":
    forest()

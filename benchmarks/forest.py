"""What the order of rows and a leaf's weights are worth: `python -m benchmarks.forest`.

The served forest and the same as skl2onnx writes it predict random rows as they come and as
`Model.probabilities` has them predicted, in turns, in one process.
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

from iris_api.bundle.model import Model
from iris_api.bundle.runtimes import OnnxRuntime
from iris_api.bundle.store import Bundle

from .bench import FEATURES
from .contenders import ROOT

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZES = (1, 100, 200, 1_000, 10_000)
ROWS_A_TURN, SINGLE_ROWS = 20_000, 2_000


@click.command()
@click.option("--rounds", default=15, show_default=True)
def forest(rounds: int) -> None:
    """Print the CPU of a row each way, by rows at once."""
    model = Model.load(ROOT / "model", max_rows=1)
    written = OnnxRuntime(_as_skl2onnx_has_it())
    ways = {
        "as skl2onnx writes it": written.probabilities,
        "without zeros": model.runtime.probabilities,
        "and like rows together": model.probabilities,
    }
    click.echo(f"| rows at once | {' | '.join(ways)} |\n|---:|{'---:|' * len(ways)}")
    for size in SIZES:
        batches = _batches(size)
        alike = [np.concatenate([way(batch) for batch in batches]) for way in ways.values()]
        if not all(np.array_equal(one, alike[0]) for one in alike):
            raise click.ClickException("the probabilities differ")
        taken: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for name, way in ways.items():
                began = time.process_time()
                for batch in batches:
                    way(batch)
                spent = time.process_time() - began
                taken[name].append(spent / len(batches) / size * 1e6)
        medians = [statistics.median(taken[name]) for name in ways]
        click.echo(f"| {size:,} | {' | '.join(f'{cpu:.2f}' for cpu in medians)} |")


def _as_skl2onnx_has_it() -> bytes:
    """The bundle's forest, converted and left as it is."""
    bundle = Bundle.load(ROOT / "model")
    pickled = next(one for one in bundle.manifest.artefacts if one.runtime == "scikit-learn")
    fitted = joblib.load(io.BytesIO(bundle.read(pickled)))
    made = to_onnx(fitted, len(FEATURES), bundle.manifest.name)
    content: bytes = made.SerializeToString()
    return content


def _batches(size: int) -> list[NDArray[np.float32]]:
    """Flowers of which few are alike, so many at once."""
    count = max(ROWS_A_TURN // size, 1) if size > 1 else SINGLE_ROWS
    flowers = np.random.default_rng(1).uniform(
        (4, 2, 1, 0.1), (8, 4.5, 7, 2.5), (count, size, len(FEATURES))
    )
    return list(flowers.astype(np.float32))


if __name__ == "__main__":
    forest()

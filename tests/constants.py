"""Constants for tests and for the processes they start, which must not load the whole package."""

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The checkout."""
FLOWER = {"sepal_length": 6.7, "sepal_width": 3.0, "petal_length": 5.2, "petal_width": 2.3}
"""A row of the class virginica."""
FULL_LOAD = bool(os.environ.get("FULL_LOAD") or os.environ.get("CI"))
"""Whether load tests run for their full time."""

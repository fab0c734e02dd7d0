"""The training rows as they are kept in a manifest: histograms and a sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from .base import Count, StoredModel


class Histogram(StoredModel):
    """Rows per bin. Bin i holds edges[i-1] <= x < edges[i]; the outer two are open-ended."""

    edges: tuple[float, ...]
    counts: tuple[Count, ...]

    @model_validator(mode="after")
    def _edges_part_the_bins(self) -> Self:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError("a histogram has one count more than it has edges")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges must increase")
        return self


class Reference(StoredModel):
    """The training rows that live rows are compared with: bins of each feature, and classes."""

    features: tuple[Histogram, ...]
    classes: tuple[Count, ...]


class Sample(StoredModel):
    """Some training rows, shape (rows, features), and the index of each one's class."""

    rows: Annotated[tuple[tuple[float, ...], ...], Field(min_length=1)]
    classes: tuple[Count, ...]

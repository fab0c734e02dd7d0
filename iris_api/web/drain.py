"""Whether the server is about to stop, told to all of its processes at once."""

from __future__ import annotations

import mmap

ABOUT_TO_STOP = "This server is about to stop: send requests to another one."


class Drain:
    """A byte that a process shares with those it forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    @property
    def begun(self) -> bool:
        """Whether requests should go elsewhere; those that come are still answered."""
        return self._shared[0] != 0

    def begin(self) -> None:
        """Say so. There is no way back."""
        self._shared[0] = 1

from __future__ import annotations

import multiprocessing

from iris_api.web.service import Drain


def test_what_one_process_says_all_know() -> None:
    """Those it has forked before, too."""
    drain = Drain()
    assert not drain.begun
    child = multiprocessing.get_context("fork").Process(target=drain.begin)
    child.start()
    child.join()
    assert drain.begun

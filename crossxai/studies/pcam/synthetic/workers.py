"""Patches made by several processes, in order, with only a few chunks under way: memory does not grow with their number."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from crossxai.process import cores
from crossxai.studies.pcam.synthetic.patches import Patches, generate, whole
from crossxai.studies.pcam.synthetic.shortcut import Shortcut

CHUNK = 64
"""Patches that a process makes at a time: 2.4 MB, about 0.1 s."""


@dataclass(frozen=True)
class Pool:
    """Processes, or this one alone, which take patches by chunks."""

    executor: ProcessPoolExecutor | None
    count: int

    def stream(self, numbers: range, seed: int, shortcut: Shortcut | None) -> Iterator[Patches]:
        """The patches of these numbers, in order, by chunks."""
        jobs = ((min(CHUNK, numbers.stop - first), seed, first, shortcut) for first in numbers[::CHUNK])
        if self.executor is None:
            yield from (generate(*job) for job in jobs)
            return
        under_way: deque[Future[Patches]] = deque()
        for job in jobs:
            under_way.append(self.executor.submit(generate, *job))
            if len(under_way) > 2 * self.count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


@contextmanager
def pool(workers: int | None, n: int) -> Iterator[Pool]:
    """Processes for n patches, None for as many as cores. Raises `InvalidInput` for less than one."""
    if workers is not None:
        whole("workers", workers, 1)
    count = min(workers or cores(), -(-n // CHUNK))
    if count == 1:
        yield Pool(None, 1)
        return
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _settle)
    try:
        yield Pool(executor, count)
    finally:
        executor.shutdown(cancel_futures=True)


def _settle() -> None:
    """In each process: Ctrl-C is the parent's to handle, and a parent that was killed leaves nobody to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()

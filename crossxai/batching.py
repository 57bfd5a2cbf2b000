"""How many samples a model sees at once: as many as given, else what measures fastest, and half of it when memory runs out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from crossxai.errors import OutOfMemory

T = TypeVar("T")
Rows = npt.NDArray[np.intp]


class AutoBatchSize(int):
    """A batch size that nobody gave, and that may be replaced by what measures faster."""


DEFAULT_BATCH_SIZE = AutoBatchSize(32)
LADDER = (8, 16, 32, 64)
"""Sizes that are tried on the work itself, each for three batches, as long as larger ones are faster."""
ENOUGH = 1024
"""Samples from which on measuring pays."""
ON_DEVICE = (32, 64, 128, 256, 512)
"""Sizes that are tried where a device does not wait, each for three batches, as far as they are a fifth of the work."""


class Clock(Protocol):
    """Time on a device that is given batches ahead."""

    def mark(self) -> Any:
        """The moment at which the device will have done what it has been given so far."""
        ...

    def seconds(self, marks: list[Any]) -> list[float]:
        """From each moment to the next; waits for the last."""
        ...


_watchers: list[Callable[[int], object]] = []  # of the process, because libraries ask from threads of their own


@contextmanager
def watching(tell: Callable[[int], object]) -> Iterator[None]:
    """Inside, `tell` is given the number of samples of each batch that goes to a model, and 0 before the first."""
    _watchers.append(tell)
    try:
        yield
    finally:
        _watchers.remove(tell)


def _tell(n: int) -> None:
    for tell in _watchers:
        tell(n)


def batched(n: int, size: int, work: Callable[[Rows], T], measure: bool = False, clock: Clock | None = None) -> list[T]:
    """What `work(positions)` gives for positions 0 … n - 1, in order, at most `size` of them at once.

    A batch that ends in a MemoryError is done again by halves, and so are those after it; `OutOfMemory` is raised if a single
    sample does not fit. measure: replace a size that nobody gave by the fastest one, found on the first batches without a pass
    more; by this clock, if there is one.
    """
    results: list[T] = []
    done = 0

    def step(size: int) -> int:
        """Do the next batch; the size that memory sufficed for."""
        nonlocal done
        while True:
            part = np.arange(done, min(done + size, n))
            try:
                results.append(work(part))
            except MemoryError as error:
                if len(part) == 1:
                    raise OutOfMemory(f"not even one sample at a time fits into memory: {error}") from error
                size = len(part) // 2
                continue
            done += len(part)
            _tell(len(part))
            return size

    _tell(0)

    if measure and isinstance(size, AutoBatchSize) and n >= ENOUGH:
        size = fastest(step) if clock is None else fastest_ahead(step, clock, n)
    while done < n:
        size = step(size)
    return results


def fastest(step: Callable[[int], int]) -> int:
    """The size on the ladder whose batches take the least time per sample; the first batch of a size is for warming up."""
    best, least = LADDER[0], float("inf")
    for size in LADDER:
        paces = []
        for _ in range(3):
            start = time.perf_counter()
            fitted = step(size)
            paces.append((time.perf_counter() - start) / fitted)
            if fitted < size:
                return fitted
        pace = min(paces[1:])
        if pace > 0.98 * least:
            break
        best, least = size, pace
    return best


def fastest_ahead(step: Callable[[int], int], clock: Clock, n: int) -> int:
    """As `fastest`, of n samples on a device that is given all sizes' batches before it is asked how long each took."""
    sizes, marks, fitted = [size for size in ON_DEVICE if 30 * size <= n], [clock.mark()], 0
    for size in sizes:
        for _ in range(3):
            fitted = step(size)
            marks.append(clock.mark())
            if fitted < size:
                return fitted
    seconds = clock.seconds(marks)
    paces = [min(seconds[3 * i + 1 : 3 * i + 3]) / size for i, size in enumerate(sizes)]
    return next(size for size, pace in zip(sizes, paces, strict=True) if pace <= min(paces) / 0.98)

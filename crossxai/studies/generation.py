"""How both studies draw their samples: by number, in order, on several processes with only a few chunks under way."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crossxai.errors import InvalidFile, InvalidInput
from crossxai.process import cores

R = TypeVar("R")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise `InvalidInput` unless the value is a whole number from `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidInput(f"{name} is {value!r}; write a whole number from {least}")


def read_note(path: Path, maker: str, key: str, value: str = "") -> dict[str, Any] | None:
    """What a set's own JSON file says; None where there is none. Raises `InvalidFile` for one that the maker did not write."""
    if not path.is_file():
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InvalidFile(f"{path}: cannot be read as JSON ({error}); choose another folder, or delete it") from error
    if not isinstance(note, dict) or key not in note or value not in ("", note[key]):
        raise InvalidFile(f"{path}: not written by {maker}; choose another folder")
    return note


def refuse_foreign(folder: Path, names: Iterable[str], ours: Callable[[Path], bool] = lambda path: False) -> None:
    """Raise `InvalidFile` if the folder holds a file of these names that is not ours."""
    for name in names:
        if (folder / name).exists() and not ours(folder / name):
            raise InvalidFile(f"{folder}: holds {name}, which this set would overwrite; choose another folder")


def progress_bars(console: Console) -> Progress:
    """Bars that count samples."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


@dataclass(frozen=True)
class Pool:
    """Processes, or this one alone, which take samples by chunks; memory does not grow with the number of chunks."""

    executor: ProcessPoolExecutor | None
    count: int

    def map(self, function: Callable[..., R], jobs: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """The function's value for each job's arguments, in order."""
        if self.executor is None:
            yield from (function(*job) for job in jobs)
            return
        under_way: deque[Future[R]] = deque()
        for job in jobs:
            under_way.append(self.executor.submit(function, *job))
            if len(under_way) > 2 * self.count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


@contextmanager
def pool(workers: int | None, chunks: int) -> Iterator[Pool]:
    """Processes for so many chunks, None for as many as cores. Raises `InvalidInput` for less than one."""
    if workers is not None:
        check_whole("workers", workers, 1)
    count = min(workers or cores(), chunks)
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

"""What is kept of maps once they are measured: all, in half precision, those of some samples, or none."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from crossxai.files import Result, Samples
from crossxai.files.drawing import drawn

WORDS = 'write "all", "float16", "none", or "sample:200" for the maps of 200 samples'
Rows = npt.NDArray[np.intp]


def problem(keep: str) -> str:
    """What is wrong with `keep_maps`, "" if nothing."""
    return "" if re.fullmatch(r"all|float16|none|sample:[1-9]\d{0,8}", keep) else f"keep_maps = {keep!r}: {WORDS}"


def rows_of(keep: str, samples: Samples, seed: int) -> Rows | None:
    """The places of the samples whose maps are kept, in order; None for all. Of "sample:200" classes take turns, so that rare
    ones are there, and which samples of a class is drawn by the seed."""
    if keep == "none":
        return np.empty(0, np.intp)
    if not keep.startswith("sample:"):
        return None
    most = int(keep.partition(":")[2])
    return None if most >= len(samples.ids) else drawn(samples, most, seed)


def own_rows(keep: str, samples: Samples, seed: int, part: slice | None) -> Rows | None:
    """The same among the samples of a part; of all samples if None."""
    rows = rows_of(keep, samples, seed)
    return rows if rows is None or part is None else rows[(rows >= part.start) & (rows < part.stop)] - part.start


def in_force(keep: str, rows: Rows | None) -> str:
    """What a file says was kept: "all" where a sample would be of all."""
    return "all" if rows is None and keep.startswith("sample:") else keep


def reduced(result: Result, keep: str, rows: Rows | None) -> Result:
    """A result with what is kept of its maps. rows: places among its samples."""
    if rows is None:
        return replace(result, keep_maps=keep)
    maps = result.attribution
    few = replace(maps, values=tuple(v[rows] for v in maps.values), ids=tuple(maps.ids[row] for row in rows))
    return replace(result, attribution=few, rows=rows, samples=maps.ids, keep_maps=keep)

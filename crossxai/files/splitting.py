"""The part of an explainer's file that is of some of its samples: the other way round of `joining`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crossxai.files.joining import data_sets, fill, prepared
from crossxai.files.opening import reading, writing

FRACTIONS = "fractions"
"""Of a curve: (points,) for all samples, or (n, points)."""


def split_result(path: Path, to: Path, rows: slice, n: int) -> bool:
    """Write what a file says of the samples of these rows; returns whether there was something to write: maps of n samples."""
    with reading(path, "explanation") as own:
        if len(own["ids"]) != n or own.attrs["status"] != "ok":
            return False
        kept = own["kept"][()] if "kept" in own else None
        mapped = rows if kept is None else slice(*np.searchsorted(kept, [rows.start, rows.stop]).tolist())
        held = n if kept is None else len(kept)
        with writing(to, "explanation") as file:
            file.attrs.update(own.attrs)
            file.attrs["seconds"] = own.attrs["seconds"] * (rows.stop - rows.start) / n
            for place in data_sets(own):
                data = own[place]
                if place == "kept":
                    file[place] = data[mapped] - rows.start
                elif place.partition("/")[0] in ("values", "scales") and len(data) == held:
                    _copy(file, place, data, mapped)
                elif data.shape[:1] == (n,) and (place.rpartition("/")[2] != FRACTIONS or data.ndim > 1):
                    _copy(file, place, data, rows)
                else:
                    own.copy(place, file, name=place)
            for name, scores in own.get("scores", {}).items():
                file.require_group(f"scores/{name}").attrs.update(scores.attrs)
    return True


def _copy(file: Any, place: str, data: Any, rows: slice) -> None:
    """Some rows of a data set, a block at a time."""
    fill(prepared(file, place, data, rows.stop - rows.start), data, 0, file.disk.check, rows)

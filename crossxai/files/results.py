"""Files of a run's results: one explainer's maps on one model, and their scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.attribution import Scores
from crossxai.files.maps import HALF, kept_rows, read_maps, write_values, write_words
from crossxai.files.opening import reading, rows_of, strings, write_strings, writing
from crossxai.files.parts import data_of
from crossxai.files.records import Result
from crossxai.on_demand import OnDemand, Rows

_TEXT = (
    "model",
    "framework",
    "label",
    "library",
    "status",
    "reason",
    "task",
    "convention",
    "check",
    "keep_maps",
    "evaluated",
)
LARGE = 2**23
"""Bytes of a table of curves that is left in its file where that is asked for."""
LATER = {"check": "on", "keep_maps": "all", "evaluated": ""}
"""What older files do not say."""


def write_result(path: Path, result: Result) -> None:
    """Write maps, scores and curves of one explainer on one model to an HDF5 file, atomically."""
    attribution = result.attribution
    with writing(path, "explanation") as file:
        write_strings(file, "ids", result.ids)
        values = tuple(v.astype(np.float32) for v in attribution.values)
        write_values(file, replace(attribution, values=values), half=result.keep_maps == HALF)
        write_about(file, result)


def write_about(file: Any, result: Result) -> None:
    """Write all of a result but its maps and the names of the samples."""
    write_words(file, result.attribution)
    for key in _TEXT:
        file.attrs[key] = getattr(result, key)
    file.attrs["judged"] = json.dumps(dict(result.score_hashes))
    if not result.whole:
        file.attrs["refused"] = json.dumps(dict(result.refused))
        if result.rows is not None:
            file["kept"] = result.rows
    write_strings(file, "degenerate", result.degenerate)
    for name, scores in result.scores.items():
        group = file.create_group(f"scores/{name}")
        group.attrs["metric"] = scores.metric
        group.attrs["higher_is_better"] = scores.higher_is_better
        group.attrs["params"] = json.dumps(scores.params)
        group["value"] = scores.value
        if scores.curve is not None:
            group["curve"] = scores.curve
            group["fractions"] = scores.fractions
        for key, per_sample in scores.extras.items():
            group[f"extras/{key}"] = per_sample


def read_result(path: Path, maps: bool = True, rows: Rows | None = None, on_demand: bool = False) -> Result:
    """Read what `write_result` wrote; raises `InvalidFile`. maps: whether with them, or all else. rows: the places of the
    samples, all of which have maps in the file, whose maps are read. on_demand: leave large curves in the file until they are
    asked for."""
    with reading(path, "explanation") as file:
        text: dict[str, Any] = {
            key: str(file.attrs.get(key, LATER[key]) if key in LATER else file.attrs[key]) for key in _TEXT
        }
        held = file["kept"][()] if "kept" in file else None
        held = held if rows is None else rows
        scores = file.get("scores", {})
        return Result(
            **text,
            attribution=read_maps(path, file, maps, rows),
            rows=held,
            samples=() if held is None else strings(file, "ids"),
            refused=json.loads(file.attrs.get("refused", "{}")),
            scores={name: _read_scores(path, name, group, on_demand) for name, group in scores.items()},
            degenerate=strings(file, "degenerate"),
            score_hashes=json.loads(file.attrs["judged"]),
        )


def maps_in(path: Path) -> tuple[int, Rows | None]:
    """The bytes of a sample's maps once they are read, 0 where there are none, and the places of the samples that have some,
    None for all."""
    with reading(path, "explanation") as file:
        sizes = [np.prod(data.shape[1:]) * 4 for data in data_of(file.get("values", {})).values()]
        return int(sum(sizes)), kept_rows(path, file)


def _read_scores(path: Path, name: str, group: Any, on_demand: bool) -> Scores:
    return Scores(
        metric=group.attrs.get("metric", name),
        value=group["value"][()],
        higher_is_better=bool(group.attrs["higher_is_better"]),
        curve=_read_curve(path, group["curve"], on_demand) if "curve" in group else None,
        fractions=group["fractions"][()] if "fractions" in group else None,
        extras={key: data[()] for key, data in group.get("extras", {}).items()},
        params=json.loads(group.attrs["params"]),
    )


def _read_curve(path: Path, data: Any, on_demand: bool) -> Any:
    """An array; of many samples, one whose rows are read when they are asked for."""
    place = data.name
    if not on_demand or data.nbytes <= LARGE:
        return data[()]

    def read(rows: Rows) -> Any:
        with reading(path, "explanation") as file:
            return rows_of(file[place], rows)

    return OnDemand(data.shape, data.dtype, read)

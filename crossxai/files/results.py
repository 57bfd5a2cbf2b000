"""Files of a run's results: one explainer's maps on one model, and their scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.attribution import Scores
from crossxai.files.maps import HALF, read_maps, write_values, write_words
from crossxai.files.opening import reading, strings, write_strings, writing
from crossxai.files.records import Result

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


def read_result(path: Path, maps: bool = True) -> Result:
    """Read what `write_result` wrote; raises `InvalidFile`. maps: whether with them, or all else."""
    with reading(path, "explanation") as file:
        text: dict[str, Any] = {
            key: str(file.attrs.get(key, LATER[key]) if key in LATER else file.attrs[key]) for key in _TEXT
        }
        rows = file["kept"][()] if "kept" in file else None
        return Result(
            **text,
            attribution=read_maps(path, file, maps),
            rows=rows,
            samples=() if rows is None else strings(file, "ids"),
            refused=json.loads(file.attrs.get("refused", "{}")),
            scores={name: _read_scores(name, group) for name, group in file.get("scores", {}).items()},
            degenerate=strings(file, "degenerate"),
            score_hashes=json.loads(file.attrs["judged"]),
        )


def _read_scores(name: str, group: Any) -> Scores:
    return Scores(
        metric=group.attrs.get("metric", name),
        value=group["value"][()],
        higher_is_better=bool(group.attrs["higher_is_better"]),
        curve=group["curve"][()] if "curve" in group else None,
        fractions=group["fractions"][()] if "fractions" in group else None,
        extras={key: data[()] for key, data in group.get("extras", {}).items()},
        params=json.loads(group.attrs["params"]),
    )

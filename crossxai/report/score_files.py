"""Scores of all samples as tables: scores.csv for few, scores.parquet where pyarrow is installed, a line per score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossxai.files.atomic import remove, replacing
from crossxai.files.records import Result
from crossxai.process import require
from crossxai.report.run import RunRecord

CSV, PARQUET = "scores.csv", "scores.parquet"
SCORES = ("model", "framework", "label", "explainer", "library", "profile", "metric", "higher_is_better", "sample", "value",
          "tie_rate", "area_share", "degenerate")  # fmt: skip
EXTRAS = ("tie_rate", "area_share")
MOST_LINES = 1_000_000
"""Lines up to which there is a scores.csv beside scores.parquet: a tenth of a gigabyte."""
LINE, TABLED = 160, 40
"""Bytes of a line of scores.csv and of scores.parquet, about."""
GROUP = 100_000
"""Lines of a row group of scores.parquet at least, but of the last; at most as many more as there are samples."""


def score_frames(run: RunRecord) -> Iterator[pd.DataFrame]:
    """By model, explainer and metric, a line per sample: numbers in full precision, NaN where there is none; names as categories,
    in their order and the same in all."""
    results = [e for model in run.models for e in run.of(model).values() if e.scores]
    kinds = [*dict.fromkeys(kind for e in results for kind in e.degenerate or [""])]
    kinds += [""] if any(len(e.degenerate) < len(e.ids) for e in results) and "" not in kinds else []
    words = [_words(e, metric) for e in results for metric in e.scores]
    names = {column: [*dict.fromkeys(own[column] for own in words)] for column in words[0]} if words else {}
    for e in results:
        degenerate = pd.Categorical([*e.degenerate, *[""] * (len(e.ids) - len(e.degenerate))], pd.Index(kinds))
        for metric, held in e.scores.items():
            same = np.zeros(len(e.ids), np.intp)
            columns: dict[str, Any] = {
                column: pd.Categorical.from_codes(same + names[column].index(word), pd.Index(names[column]))
                for column, word in _words(e, metric).items()
            }
            columns |= {"higher_is_better": held.higher_is_better, "sample": e.ids, "degenerate": degenerate}
            numbers = {"value": held.value, **{key: held.extras.get(key, math.nan) for key in EXTRAS}}
            columns |= {key: np.broadcast_to(np.asarray(n, np.float64), same.shape) for key, n in numbers.items()}
            yield pd.DataFrame({column: columns[column] for column in SCORES})


def _words(result: Result, metric: str) -> dict[str, str]:
    """What names the scores of a metric."""
    own = result.attribution
    about = (result.model, result.framework, result.label, own.explainer, result.library, own.profile, metric)
    return dict(zip(SCORES, about, strict=False))


def write_scores(run: RunRecord) -> None:
    """Write scores.parquet where pyarrow is installed, and scores.csv where it is not, or where lines are few. What an earlier
    report wrote, and this one does not, is removed once the other is there."""
    folder, lines = run.directory, sum(len(e.ids) * len(e.scores) for e in run.explanations)
    tabled = find_spec("pyarrow") is not None
    if tabled:
        _write_parquet(folder / PARQUET, score_frames(run))
    if not tabled or lines <= MOST_LINES:
        _write_csv(folder / CSV, score_frames(run))
    else:
        remove(folder / CSV)
    if not tabled:
        remove(folder / PARQUET)


def size(lines: int) -> int:
    """Bytes of the files of so many scores, at most."""
    tabled = find_spec("pyarrow") is not None
    return lines * (LINE * (not tabled or lines <= MOST_LINES) + TABLED * tabled)


def written(folder: Path) -> tuple[str, ...]:
    """The names of a report's files of scores."""
    return tuple(name for name in (CSV, PARQUET) if (folder / name).is_file())


def _write_csv(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    """Write frames one after the other, so that memory holds those of one explainer and metric."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        pd.DataFrame(columns=list(SCORES)).to_csv(file, index=False, lineterminator="\n")
        for frame in frames:
            frame.to_csv(file, index=False, header=False, lineterminator="\n")


def _write_parquet(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    """Write frames in row groups of so many lines, names as dictionaries."""
    arrow: Any = require("pyarrow", "parquet", PARQUET)
    parquet: Any = require("pyarrow.parquet", "parquet", PARQUET)
    tables = (arrow.Table.from_pandas(frame, preserve_index=False) for frame in _together(frames))
    first = next(tables)
    with replacing(path) as temporary, parquet.ParquetWriter(temporary, first.schema, compression="zstd") as writer:
        for table in chain([first], tables):
            writer.write_table(table, row_group_size=max(1, table.num_rows))


def _together(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Frames of GROUP lines or more, but for the last; one without lines where there are none."""
    waiting, empty = list[pd.DataFrame](), True
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= GROUP:
            yield pd.concat(waiting, ignore_index=True)
            waiting, empty = [], False
    if waiting or empty:
        yield pd.concat(waiting or [no_scores()], ignore_index=True)


def no_scores() -> pd.DataFrame:
    """The table of a run without scores."""
    kinds = dict.fromkeys(SCORES, "category") | dict.fromkeys(("value", *EXTRAS), "float64")
    kinds |= {"higher_is_better": "bool", "sample": "str"}
    return pd.DataFrame({column: pd.Series(dtype=kind) for column, kind in kinds.items()})

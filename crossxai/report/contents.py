"""Contents: everything a report says, worked out once, and the same for machines: scores, summary.csv, report.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossxai.files.atomic import write_text
from crossxai.report import (
    analysis,
    certainty,
    comparison,
    computing,
    map_findings,
    modality_findings,
    places,
    reference_findings,
    run_findings,
    score_files,
    score_findings,
    shortcuts,
    words,
)
from crossxai.report.analysis import Row
from crossxai.report.certainty import Ranking
from crossxai.report.comparison import Maps
from crossxai.report.places import Places
from crossxai.report.run import RunRecord, load
from crossxai.report.words import Finding

ROW = ("model", "framework", "label", "explainer", "library", "profile", "status", "reason", "maps")


@dataclass(frozen=True)
class Contents:
    """A run, its table, its maps compared, where they lie, what it says in words, and how sure the rankings are. verdict: the
    sentence that the page begins with, as a headline without details."""

    run: RunRecord
    rows: tuple[Row, ...]
    maps: Maps
    places: tuple[Places, ...]
    findings: tuple[Finding, ...]
    rankings: tuple[Ranking, ...]
    verdict: Finding


def gather(directory: Path) -> Contents:
    """Read a run directory and work out what it says; raises `InvalidFile`."""
    run = load(directory)
    rows, maps = analysis.table(run), comparison.compare(run.mapped)
    where = tuple(places.places(run.mapped))
    findings = find(run, rows, maps, where)
    rankings = certainty.rankings(run, rows)
    return Contents(run, rows, maps, where, findings, rankings, words.write(run_findings.verdict(run, rows)))


def find(run: RunRecord, rows: Sequence[Row], maps: Maps, where: Sequence[Places] = ()) -> tuple[Finding, ...]:
    """Everything worth saying, most important first."""
    facts = [
        *score_findings.facts(run, rows),
        *reference_findings.facts(run, rows),
        *map_findings.facts(run, rows, maps),
        *run_findings.facts(run, rows),
        *computing.facts(run),
        *modality_findings.facts(run.mapped, rows),
        *shortcuts.facts(run.mapped, where),
    ]
    return tuple(sorted(map(words.write, facts), key=lambda f: -f.weight))


def write_exports(contents: Contents) -> None:
    """Write scores.csv or scores.parquet, summary.csv and report.json in the run's directory."""
    directory = contents.run.directory
    score_files.write_scores(contents.run)
    lines = [_line(row, contents.run.metrics) for row in contents.rows]
    header = list(dict.fromkeys(key for line in lines for key in line)) or ROW
    write_text(directory / "summary.csv", _csv(header, lines))
    write_text(directory / "report.json", json.dumps(_plain(document(contents)), indent=1, allow_nan=False) + "\n")


def _line(row: Row, metrics: Sequence[str]) -> dict[str, Any]:
    """An explainer on a model; for each metric mean, interval, n and the comparison with random."""
    line = {key: getattr(row, key) for key in ROW}
    line |= {"degenerate": sum(row.degenerate.values()), "tie_rate": row.tie_rate, "seconds": row.seconds}
    for metric in metrics:
        cell = row.cells.get(metric)
        own, test = (cell.summary, cell.versus) if cell else (None, None)
        for key in ("mean", "low", "high", "n", "n_missing"):
            line[f"{metric}_{key}"] = getattr(own, key) if own else math.nan
        for key in ("difference", "low", "high", "p", "p_holm", "verdict"):
            line[f"{metric}_versus_random_{key}"] = getattr(test, key) if test else math.nan
        line[f"{metric}_area_share"] = cell.area if cell else math.nan
    return line


def document(contents: Contents) -> dict[str, Any]:
    """The whole report as data: manifest, findings, table, rankings and agreement."""
    maps = contents.maps
    return {
        "format": "crossxai report 1",
        "manifest": contents.run.manifest,
        "left_out": [{"file": name, "reason": reason} for name, reason in contents.run.samples.left_out],
        "verdict": contents.verdict,
        "findings": contents.findings,
        "explainers": contents.rows,
        "rankings": contents.rankings,
        "agreement": {
            "maps": [{"model": model, "label": label} for model, label in maps.index],
            "means": maps.means,
            "libraries": maps.libraries,
            "models": maps.models,
        },
    }


def _csv(header: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> str:
    """Lines as CSV, whole numbers as such, and nothing where there is no number."""
    return pd.DataFrame(lines, columns=list(header), dtype=object).to_csv(index=False, lineterminator="\n")


def _plain(value: Any) -> Any:
    """What JSON can say: dataclasses and arrays taken apart, NaN and infinity as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""Reports of many samples: statistics of all of them, pages and memory that do not grow with their number."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from crossxai.attribution import Attribution, Scores
from crossxai.cli import app
from crossxai.errors import InvalidFile
from crossxai.evaluation import statistics
from crossxai.experiment.results import Run
from crossxai.files import (
    Predictions,
    Result,
    Samples,
    read_result,
    results,
    write_predictions,
    write_result,
    write_samples,
)
from crossxai.model import Modality
from crossxai.on_demand import OnDemand
from crossxai.report import analysis, run, score_files, write_report

LABELS = ("captum.integrated_gradients", "captum.saliency", "gradcam.gradcam", "controls.random")


def write_many(
    folder: Path, n: int, keep: str = "none", kept: Sequence[int] = (), groups: int = 0, size: int = 2
) -> Path:
    """A run of many small samples, with deletion and insertion of every explainer; keep_maps = "all" keeps all maps."""
    rng = np.random.default_rng(0)
    ids, image, labels = tuple(f"patch {i}" for i in range(n)), Modality.image(), np.arange(n) % 2
    belonging = tuple(f"slide {i % groups}" for i in range(n)) if groups else ()
    images = rng.random((n, size, size, 3), np.float32)
    samples = Samples(ids, (image,), {"image": images}, labels, ("normal", "tumour"), groups=belonging)
    write_samples(folder / "samples.h5", samples)
    outputs = rng.normal(size=(n, 2)).astype(np.float32)
    write_predictions(folder / "predictions/net.h5", Predictions("net", "torch", outputs, outputs[:, 1], "class"))
    rows = None if keep == "all" else np.array(kept, dtype=np.intp)
    own, fractions = rng.beta(2, 3, n), np.linspace(0, 1, 13)
    for place, label in enumerate(LABELS):
        scores = {}
        for metric, higher in (("deletion", False), ("insertion", True)):
            value = np.clip(own + rng.normal(0, 0.1, n) + (-0.02 if higher else 0.02) * place, 0.02, 0.88)
            value[place] = np.nan
            curve = 0.9 * ((1 - fractions) if metric == "deletion" else fractions) ** (0.9 / value - 1)[:, None]
            params = {"modality": "image"}
            scores[metric] = Scores(metric, value, higher, curve, fractions, {"tie_rate": rng.random(n)}, params)
        held = range(n) if rows is None else rows.tolist()
        values = (rng.random((len(held), size, size, 1), np.float32),)
        maps = Attribution(values, (image,), tuple(ids[i] for i in held), label, "native", seconds=1.0)
        kept_as: dict[str, Any] = {} if rows is None else {"rows": rows, "samples": ids, "keep_maps": keep}
        result = Result("net", "torch", label, label.partition(".")[0], maps, scores, ("",) * n, **kept_as)
        write_result(folder / f"explanations/net/{label}.h5", result)
    manifest = {"title": "Many", "models": [{"name": "net", "framework": "torch"}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_pages_do_not_grow_with_the_samples_and_statistics_are_of_all(tmp_path: Path) -> None:
    few, many = (write_many(tmp_path / str(n), n, "sample:6", range(6)) for n in (300, 8_000))
    pages = [write_report(folder).stat().st_size for folder in (few, many)]
    assert pages[1] < 1.1 * pages[0] < 3e6
    scores, summary = (pd.read_csv(many / f"{name}.csv") for name in ("scores", "summary"))
    assert len(scores) == 8_000 * len(LABELS) * 2
    for row in summary.to_dict("records"):
        for metric in ("deletion", "insertion"):
            own = scores[(scores["label"] == row["label"]) & (scores["metric"] == metric)]["value"].dropna()
            assert (row[f"{metric}_n"], row[f"{metric}_mean"]) == (7_999, pytest.approx(own.mean(), rel=1e-12))
            width = 1.96 * own.std() / np.sqrt(len(own))
            assert row[f"{metric}_high"] - row[f"{metric}_mean"] == pytest.approx(width, rel=0.1)


def test_parquet_holds_what_csv_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many(tmp_path, 60)
    monkeypatch.setattr(score_files, "GROUP", 150)
    write_report(tmp_path)
    csv, table = (
        pd.read_csv(tmp_path / "scores.csv", keep_default_na=False),
        pd.read_parquet(tmp_path / "scores.parquet"),
    )
    numbers = ["value", "tie_rate", "area_share"]
    csv[numbers] = csv[numbers].replace("", "nan").astype("float64")
    assert csv["value"].isna().sum() == 2 * len(LABELS)
    pd.testing.assert_frame_equal(table.astype(csv.dtypes), csv, check_exact=True)
    assert list(table.columns[table.dtypes == "category"]) == [*table.columns[:7], "degenerate"]
    pd.testing.assert_frame_equal(table, Run(tmp_path).scores, check_exact=True)
    held = parquet.ParquetFile(tmp_path / "scores.parquet").metadata
    assert [held.row_group(i).num_rows for i in range(held.num_row_groups)] == [180, 180, 120]
    assert {held.row_group(0).column(i).compression for i in range(held.num_columns)} == {"ZSTD"}


def test_many_lines_are_in_parquet_alone_and_never_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def left() -> list[str]:
        done = CliRunner().invoke(app, ["report", str(tmp_path)])
        assert done.exit_code == 0, done.output
        names = sorted(path.name for path in tmp_path.glob("scores.*"))
        assert (names == ["scores.parquet"]) == ("for scores.csv they are too many" in done.output)
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert [name for name in ("scores.csv", "scores.parquet") if f"<code>{name}</code>" in page] == names
        return names

    write_many(tmp_path, 20)
    assert left() == ["scores.csv", "scores.parquet"]
    monkeypatch.setattr(score_files, "MOST_LINES", 20 * 8 - 1)
    assert left() == ["scores.parquet"]
    monkeypatch.setattr(score_files, "find_spec", lambda name: None)
    assert left() == ["scores.csv"]
    assert len(pd.read_csv(tmp_path / "scores.csv")) == 20 * 8


def test_a_full_disk_leaves_the_earlier_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many(tmp_path, 20)
    write_report(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("scores.*")}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(score_files, "MOST_LINES", 0)
    monkeypatch.setattr(parquet.ParquetWriter, "write_table", full)
    with pytest.raises(InvalidFile, match="No space left"):
        write_report(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("scores.*")} == before
    assert not list(tmp_path.glob("*.part")) + list(tmp_path.glob(".*.part"))


def test_a_run_without_scores_has_tables_without_lines(tmp_path: Path) -> None:
    write_many(tmp_path, 5)
    for path in tmp_path.glob("explanations/*/*.h5"):
        write_result(path, replace(read_result(path), scores={}))
    write_report(tmp_path)
    table = pd.read_parquet(tmp_path / "scores.parquet")
    assert len(table) == len(pd.read_csv(tmp_path / "scores.csv")) == 0
    assert [*table.columns] == [*Run(tmp_path).scores.columns]


@pytest.mark.parametrize("keep", ["all", "sample:41"])
def test_maps_that_memory_does_not_hold_are_drawn_by_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    write_many(tmp_path, 60, keep, range(5, 46), size=8)
    every = Run(tmp_path)
    per_sample = len(LABELS) * 8 * 8 * 4
    monkeypatch.setattr(run, "HELD", run.ROOM * 10 * per_sample)
    record = run.load(tmp_path)
    assert record.kept is not None
    assert np.bincount(record.samples.labels[record.kept]).tolist() == [5, 5]
    assert set(record.kept.tolist()) <= set(range(60) if keep == "all" else range(5, 46))
    for e in record.explanations:
        path = tmp_path / f"explanations/net/{e.label}.h5"
        whole = read_result(path)
        places = {name: place for place, name in enumerate(whole.attribution.ids)}
        rows = [places[name] for name in e.attribution.ids]
        np.testing.assert_array_equal(e.attribution.values[0], whole.attribution.values[0][rows])
        assert (e.attribution.ids, e.ids) == (tuple(whole.ids[i] for i in record.kept), whole.ids)
        for metric, scores in whole.scores.items():
            np.testing.assert_array_equal(e.scores[metric].value, scores.value)
    some = Run(tmp_path)
    pd.testing.assert_frame_equal(some.scores, every.scores)
    assert {label: len(some.maps[label]) for label in some.maps} == {
        label: len(every.maps[label]) for label in every.maps
    }
    np.testing.assert_array_equal(some.maps["captum.saliency"].values[0], every.maps["captum.saliency"].values[0])
    assert "captum.saliency" in some.maps
    assert "mine" not in some.maps
    write_report(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["findings"]
    (fact,) = (f["facts"] for f in found if f["key"] == "some_maps")
    assert (fact["kept"], fact["samples"], fact["drawn"]) == (10, 60, True)
    assert "are of 10 of 60 samples" in some.findings


def test_curves_stay_in_their_files_until_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many(tmp_path, 50, groups=20)
    pages = []
    for large in (2**23, 0):
        monkeypatch.setattr(results, "LARGE", large)
        curve = run.load(tmp_path).of("net")["captum.saliency"].scores["deletion"].curve
        assert isinstance(curve, OnDemand) == (not large)
        page = write_report(tmp_path).read_text(encoding="utf-8")
        pages.append(re.sub(r"data:image/[^\"]*", "", page))  # matplotlib's pictures have random names in them
        Run(tmp_path).plot("curves")
    assert pages[0] == pages[1]


def test_two_explainers_are_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_many(tmp_path, 40, groups=12)
    pairs: list[bytes] = []
    compare = statistics.compare

    def counted(values: Any, control: Any, *more: Any, **options: Any) -> statistics.Comparison:
        pairs.append(np.asarray(values).tobytes() + np.asarray(control).tobytes())
        return compare(values, control, *more, **options)

    monkeypatch.setattr(statistics, "compare", counted)
    write_report(tmp_path)
    assert len(set(pairs)) == len(pairs) >= 2 * 3


@pytest.mark.parametrize("shared", [True, False])
def test_curves_are_brought_to_one_grid_as_numpy_does(tmp_path: Path, shared: bool) -> None:
    result = run.load(write_many(tmp_path, 9)).of("net")["captum.saliency"]
    scores = result.scores["deletion"]
    assert scores.curve is not None
    assert scores.fractions is not None
    x = scores.fractions if shared else np.sort(np.random.default_rng(0).random(scores.curve.shape), axis=1)
    measured = Scores("deletion", scores.value, False, scores.curve, x)
    grid, curves = analysis.mean_curve(Result("", "", "", "", result.attribution, {"deletion": measured}), "deletion")
    finite = np.delete(np.arange(9), 1)  # of one there is no curve
    rows = np.broadcast_to(x, scores.curve.shape)
    want = [np.interp(grid, rows[i], scores.curve[i]) for i in finite]
    np.testing.assert_allclose(curves, want, rtol=1e-12, atol=1e-15)

"""Reports of many samples: statistics of all of them, pages and memory that do not grow with their number."""

from __future__ import annotations

import errno
import json
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
    write_predictions,
    write_result,
    write_samples,
)
from crossxai.model import Modality
from crossxai.report import analysis, score_files, write_report
from crossxai.report.run import load

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
    result = load(write_many(tmp_path, 9)).of("net")["captum.saliency"]
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

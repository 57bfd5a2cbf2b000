"""What is kept of maps once they are measured: scores are of all samples, pages of what is there, and the rest is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from experiments import BOTH, crossxai, toml
from test_shards import assert_same, compare_torch

import crossxai as xai
from crossxai.experiment import model_run
from crossxai.experiment.keeping import rows_of
from crossxai.files import Samples, read_result
from crossxai.files.maps import read_attribution
from crossxai.model import Modality

ASKED: dict[str, Any] = {
    "explainers": ["captum.saliency", "captum.integrated_gradients"],
    "controls": False,
    "metrics": [
        ("deletion", {"steps": 4}),
        ("joint_deletion", {"steps": 4}),
    ],  # refuses saliency, which does not add up
}
LABEL = "captum.integrated_gradients"


def file_of(run: xai.Run, label: str = LABEL) -> Path:
    return run.folder / "explanations" / "Sequential" / f"{label}.h5"


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> xai.Run:
    return compare_torch(tmp_path_factory.mktemp("all"), **ASKED)


@pytest.mark.parametrize(
    ("keep", "n"),
    [
        ("sample:4", 4),
        pytest.param("none", 0, marks=pytest.mark.deep),
        *(pytest.param(keep, 7, marks=pytest.mark.deep) for keep in ("float16", "sample:7")),
    ],
)
def test_scores_are_of_all_samples_and_maps_of_those_that_were_kept(
    tmp_path: Path, every: xai.Run, monkeypatch: pytest.MonkeyPatch, keep: str, n: int
) -> None:
    run = compare_torch(tmp_path / "run", **ASKED, keep_maps=keep)
    pd.testing.assert_frame_equal(run.scores, every.scores)
    columns = [c for c in run.summary.columns if c != "seconds"]
    pd.testing.assert_frame_equal(run.summary[columns], every.summary[columns])
    before, result = read_result(file_of(every)), read_result(file_of(run))
    kept = np.arange(7) if result.rows is None else result.rows
    assert len(kept) == n == len(result.maps["image"])
    np.testing.assert_allclose(result.maps["image"], before.maps["image"][kept], rtol=2e-3, atol=1e-6)
    if n:
        maps = run.maps[LABEL]
        assert maps.ids == tuple(str(row) for row in kept)
        np.testing.assert_array_equal(maps.inputs[0], every.maps[LABEL].inputs[0][kept])
        assert len(maps.extras["completeness_gap"]) == len(maps.origin.outputs) == len(maps.target) == n
        assert read_attribution(file_of(run)).ids == maps.ids
        assert run.plot(samples=[0])
    else:
        with pytest.raises(xai.InvalidInput, match="no maps were kept"):
            run.plot()
    page = run.page.read_text(encoding="utf-8")
    said = {"float16": "half precision", "sample:4": "Maps of 4 of 7 samples were kept", "none": "No maps were kept"}
    assert said.get(keep, "Spearman") in page
    assert page.count('<details class="sample"') == n

    written: list[str] = []
    original = model_run.write_result

    def recording(path: Path, result: Any) -> None:
        written.append(path.stem)
        original(path, result)

    monkeypatch.setattr(model_run, "write_result", recording)
    again = compare_torch(tmp_path / "run", **ASKED, keep_maps=keep)
    assert written == []
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (run.folder, every.folder)]
    assert manifests[0]["models"][0]["refused"] == manifests[1]["models"][0]["refused"] != {}
    more = {**ASKED, "metrics": [*ASKED["metrics"], "sparseness"]}
    again = compare_torch(tmp_path / "run", **more, keep_maps=keep)
    assert len(written) == (4 if keep != "sample:7" else 2), "maps that were not kept are made again for a new metric"
    values = again.scores.query("metric == 'sparseness' and label == @LABEL")["value"]
    assert values.notna().all()
    for number in (2, 1):
        compare_torch(tmp_path / "parts", **more, keep_maps=keep, shard=(number, 2))
    xai.merge(tmp_path / "parts")
    assert_same(tmp_path / "run", tmp_path / "parts", 2e-3 if keep == "float16" else 1e-6)


def test_a_run_of_all_maps_drops_them_when_told_and_makes_them_again(tmp_path: Path) -> None:
    asked = {"explainers": ["captum.saliency"], "metrics": ["sparseness"], "controls": False}
    run = compare_torch(tmp_path, **asked)
    size = file_of(run, "captum.saliency").stat().st_size
    seconds = read_result(file_of(run, "captum.saliency")).attribution.seconds
    run = compare_torch(tmp_path, **asked, keep_maps="none")
    result = read_result(file_of(run, "captum.saliency"))
    assert result.attribution.seconds == seconds  # it was not explained again
    assert file_of(run, "captum.saliency").stat().st_size < size
    run = compare_torch(tmp_path, **asked)
    assert read_result(file_of(run, "captum.saliency")).whole


def test_samples_take_turns_by_class() -> None:
    labels = np.array([0] * 90 + [1] * 8 + [2] * 2)
    inputs = {"t": np.zeros((100, 1), np.float32)}
    samples = Samples(tuple(map(str, range(100))), (Modality.table(("t",), "t"),), inputs, labels, ("a", "b", "c"))
    rows = rows_of("sample:12", samples, 3)
    assert np.bincount(labels[rows]).tolist() == [5, 5, 2]
    assert rows.tolist() == sorted(set(rows.tolist())) == rows_of("sample:12", samples, 3).tolist()
    assert rows.tolist() != rows_of("sample:12", samples, 4).tolist()
    assert rows_of("sample:100", samples, 3) is rows_of("all", samples, 3) is None


def test_half_precision_loses_neither_small_nor_large_maps(tmp_path: Path) -> None:
    from crossxai.attribution import Attribution
    from crossxai.files import Result, write_result

    values = np.random.default_rng(0).normal(size=(4, 3, 3, 1)).astype(np.float32)
    values *= np.array([1e-12, 1, 1e12, 0], np.float32).reshape(-1, 1, 1, 1)
    values[1, 0, 0, 0] = np.inf
    maps = Attribution((values,), (Modality.image(),), tuple("abcd"), "e")
    write_result(tmp_path / "a.h5", Result("m", "torch", "e", "l", maps, keep_maps="float16"))
    back = read_result(tmp_path / "a.h5").maps["image"]
    np.testing.assert_allclose(back, values, rtol=1e-3, atol=0)
    write_result(tmp_path / "b.h5", Result("m", "torch", "e", "l", maps))
    assert (tmp_path / "a.h5").stat().st_size < (tmp_path / "b.h5").stat().st_size + 3000


def test_what_needs_all_maps_says_so_and_plans_follow(tmp_path: Path) -> None:
    (tmp_path / "both.py").write_text(BOTH)
    content = {
        "data": {"factory": "both:data"},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [{"name": "captum.occlusion", "params": {"patch": 8, "stride": 8}}],
        "metrics": [{"name": "sparseness", "params": {"modality": "image"}}],
        "controls": False,
    }
    (tmp_path / "e.toml").write_text(toml(content))
    words = ["compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out")]
    plans = [
        json.loads(crossxai(*words, "--dry-run", "--json", *more).stdout) for more in ((), ("--keep-maps", "none"))
    ]
    assert plans[0]["disk"] - plans[1]["disk"] > 3 * 16 * 16 * 3 * 4
    assert plans[0]["passing"] == 0 < plans[1]["passing"]
    assert "more until maps are measured" in crossxai(*words, "--dry-run", "--keep-maps", "sample:1").output
    done = crossxai(*words, "--keep-maps", "sample:x")
    assert done.exit_code == 2
    assert "keep_maps = 'sample:x': write" in done.output
    assert crossxai(*words, "--keep-maps", "sample:1").exit_code == 0
    done = crossxai("evaluate", str(tmp_path / "out"), "--experiment", str(tmp_path / "e.toml"))
    assert done.exit_code == 2
    assert "kept maps of 1 of 3 samples" in done.output

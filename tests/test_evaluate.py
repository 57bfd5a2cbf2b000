"""`crossxai evaluate`: the numbers are those of the presets on the run's own maps, and the words are those of the numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments import BOTH, crossxai, toml
from rich.console import Console

from crossxai import InvalidInput, files
from crossxai.cli import tables as terminal
from crossxai.evaluation.curves import presets
from crossxai.experiment import rankings
from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.questions import questions
from crossxai.experiment.specification import load

EXPERIMENT = {
    "title": "both",
    "data": {"factory": "rankings_own:data"},
    "models": [{"name": "own", "factory": "rankings_own:model"}],
    "explainers": [
        {"name": "captum.occlusion", "params": {"patch": 4, "stride": 4}},
        {"name": "controls.random"},
        {"name": "controls.centre"},
        {"name": "controls.edges"},
        {"name": "captum.saliency"},
    ],
    "metrics": [{"name": "deletion", "params": {"steps": 2, "modality": "image"}}],
}
NAMES = ["ours", "pnpxai", "gradcam_road"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment on an image and a table, run into `out` beside it."""
    folder = tmp_path_factory.mktemp("rankings")
    (folder / "rankings_own.py").write_text(BOTH)
    (folder / "e.toml").write_text(toml(EXPERIMENT))
    done = crossxai("compare", str(folder / "e.toml"), "--out", str(folder / "out"))
    assert done.exit_code == 0, done.output
    return folder


def test_the_tables_are_the_presets_on_the_run_s_maps(run: Path) -> None:
    found = rankings.evaluate(run / "out", NAMES, limit=6, folder=run)
    means = pd.read_csv(run / "out" / "presets.csv")
    pd.testing.assert_frame_equal(means, found.means)
    assert set(means["preset"]) == set(NAMES)
    assert len(means) == 3 * 2 * 4  # saliency is unsupported: the model has no gradients
    samples = files.read_samples(run / "out" / "samples.h5")
    experiment = load(run / "e.toml")
    from rankings_own import model

    question = questions(experiment, samples, LoadedModel(model(), "numpy", "", {}), "own")[1]
    for row in means.to_dict("records"):
        explanation = files.read_result(run / "out" / "explanations" / "own" / f"{row['label']}.h5")
        metrics = presets.get(row["preset"], limit=6, modality="image", seed=experiment.seed)
        (metric,) = (m for m in metrics if m.name == row["metric"])
        scores = metric(question, explanation.attribution)
        np.testing.assert_allclose(row["mean"], metric.total(scores), atol=1e-9)
        assert row["kind"] == ("insertion" if metric.name in ("insertion", "deletion_lerf") else "deletion")
    for _, rows in means.groupby(["preset", "metric"]):
        best = rows.sort_values("mean", ascending=not rows["higher_is_better"].iloc[0])
        assert best["rank"].tolist() == sorted(rows["rank"])


def test_pairs_count_what_changes_places(run: Path) -> None:
    found = rankings.evaluate(run / "out", NAMES, limit=6, folder=run)
    assert len(found.pairs) == 2 * 3
    for row in found.pairs.to_dict("records"):
        a, b = (
            found.means[(found.means["kind"] == row["kind"]) & (found.means["preset"] == row[side])]["rank"].to_numpy()
            for side in ("a", "b")
        )
        flipped = sum((a[i] - a[j]) * (b[i] - b[j]) < 0 for i in range(4) for j in range(i))
        assert (row["flipped"], row["pairs"]) == (flipped, 6)
        assert row["share"] == flipped / 6
    sentences = found.sentences()
    assert sentences[0].startswith("own, deletion (most relevant gone first): between two conventions ")
    share = found.pairs[found.pairs["kind"] == "deletion"]["share"].mean()
    assert f"{100 * share:.0f} % of the 6 pairs of explainers change places" in sentences[0]
    assert "Best by" in sentences[0]


def test_who_beats_random_is_said_by_every_convention(run: Path) -> None:
    found = rankings.evaluate(run / "out", ["ours", "pnpxai"], limit=6, folder=run)
    verdicts = found.means.groupby("label")["versus_random"].agg(set)
    assert verdicts["controls.random"] == {"reference"}
    assert verdicts["captum.occlusion"] == {"not told apart"}  # three samples cannot tell anything apart
    said = "own, deletion: not shown to beat random by any convention: "
    assert any(s.startswith(said) and "captum.occlusion" in s for s in found.sentences())
    won = found.means.assign(versus_random=found.means["versus_random"].replace("not told apart", "better"))
    assert not any("not shown to beat random" in s for s in replace(found, means=won).sentences())
    path = run / "out" / "explanations" / "own" / "controls.random.h5"
    before = path.read_bytes()
    path.unlink()
    try:
        alone = rankings.evaluate(run / "out", ["ours"], limit=6, folder=run)
    finally:
        path.write_bytes(before)
    assert set(alone.means["versus_random"]) == {"no test"}


def test_the_command(run: Path) -> None:
    words = ("evaluate", str(run / "out"), "--experiment", str(run / "e.toml"), "--limit", "4")
    done = crossxai(*words, "--preset", "ours, xplique", "--model", "own")
    assert done.exit_code == 0, done.output
    assert "captum.occlusion" in done.output
    assert "by none" in done.output
    assert "pairs of explainers change" in " ".join(done.output.split())
    assert (run / "out" / "preset_flips.csv").is_file()
    alone = crossxai(*words, "--preset", "xplique")
    assert alone.exit_code == 0, alone.output
    table = crossxai(*words, "--preset", "ours,pnpxai,gradcam_road", "--modality", "table")
    assert "gradcam_road is left out: fill" in " ".join(table.output.split())
    assert "pnpxai" in table.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--preset", "xpliqe"), "did you mean xplique"),
        (("--preset", ""), "none is named"),
        (("--preset", "ours,ours"), "ours is named twice"),
        (("--limit", "1"), "at least 2, or 0"),
        (("--model", "other"), "the run has no model 'other', only own"),
        (("--modality", "sound"), "holds no map of 'sound'"),
        (("--preset", "gradcam_road", "--modality", "table"), "no preset can measure these maps"),
    ],
)
def test_what_cannot_be_is_one_message(run: Path, words: tuple[str, ...], message: str) -> None:
    done = crossxai("evaluate", str(run / "out"), "--experiment", str(run / "e.toml"), *words)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.output.split())


def test_a_folder_that_is_no_run_and_a_model_that_changed(run: Path, tmp_path: Path) -> None:
    done = crossxai("evaluate", str(tmp_path))
    assert done.exit_code == 2
    assert "(No such file or directory): give the folder of a run" in " ".join(done.output.split())
    (tmp_path / "manifest.json").write_text(json.dumps({"settings": {"seed": "x"}}))
    assert "not a valid experiment" in crossxai("evaluate", str(tmp_path)).output
    path = run / "out" / "predictions" / "own.h5"
    before = files.read_predictions(path)
    files.write_predictions(path, replace(before, outputs=before.outputs + 1))
    with pytest.raises(InvalidInput, match="its maps explain another model"):
        rankings.evaluate(run / "out", ["ours"], folder=run)
    files.write_predictions(path, before)


@pytest.mark.parametrize("width", [80, 200])
def test_the_terminal_s_tables_keep_every_number_whole(run: Path, width: int) -> None:
    names = ["ours", "pnpxai", "gradcam_road", "quantus_pixel_flipping", "interpretdl", "latec"]
    found = rankings.evaluate(run / "out", names, limit=3, folder=run)
    console = Console(width=width, record=True, file=StringIO())
    tables = terminal.by_preset(found, width)
    for table in tables:
        console.print(table)
    text = console.export_text()
    for row in found.means.to_dict("records"):
        assert f"{row['mean']:.3f} ({row['rank']:g})" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    assert (len(tables) > 2) == (width == 80)

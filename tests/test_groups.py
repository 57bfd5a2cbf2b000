"""Samples that belong together: their groups go from the data through the files into every interval and test of a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experiments import crossxai, toml
from test_report import page, write_run

import crossxai as xai
from crossxai import InvalidInput, Modality, Scores
from crossxai.adapters.numpy import FunctionModel
from crossxai.evaluation import statistics
from crossxai.files import read_result, read_samples, write_samples
from crossxai.report.contents import gather
from crossxai.report.plots import plot_curves, plot_ranking

N = 24
PATIENTS = tuple(f"patient {i // 3}" for i in range(N))
LABELS = ("captum.saliency", "captum.occlusion", "controls.random")
ONE = {"net": "torch"}


def grouped_run(folder: Path, groups: tuple[str, ...] = PATIENTS) -> Path:
    write_run(folder, LABELS, ONE, n=N, size=18, deletion={LABELS[0]: 0.3, LABELS[1]: 0.35}, spread=0.05)
    write_samples(folder / "samples.h5", replace(read_samples(folder / "samples.h5"), groups=groups))
    return folder


def scores(folder: Path, label: str) -> np.ndarray:
    return read_result(folder / f"explanations/net/{label}.h5").scores["deletion"].value


def test_a_report_s_numbers_go_by_group_and_it_says_how_many_there_are(tmp_path: Path) -> None:
    text = page(grouped_run(tmp_path))
    assert text.count("24 samples of 8 groups") == 3
    assert "24 samples in 8 groups" in text
    assert "From as few as 8 groups, they hold" in text
    contents = gather(tmp_path)
    assert read_samples(tmp_path / "samples.h5").groups == PATIENTS
    one, other, random = (scores(tmp_path, label) for label in LABELS)
    (cell,) = [r.cells["deletion"] for r in contents.rows if r.label == LABELS[0]]
    assert cell.summary == statistics.summarise(one, groups=PATIENTS) != statistics.summarise(one)
    test = statistics.compare(one, random, False, groups=PATIENTS)
    assert cell.versus is not None
    assert (cell.versus.p, cell.versus.low, cell.versus.n_groups) == (test.p, test.low, 8)
    (ranking,) = [r for r in contents.rankings if r.metric == "deletion"]
    table = np.stack([one, other], axis=1)
    assert ranking.p == statistics.friedman(table, False, groups=PATIENTS).p
    assert ranking.same_order == statistics.resample(table, False, groups=PATIENTS).same_order
    spread = statistics.spread(one, other, groups=PATIENTS)
    assert ranking.typical == statistics.detectable(8, spread).difference
    assert (ranking.units, ranking.unit) == (8, "group")
    words = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "when the 8 groups are drawn again" in words
    assert "With 8 groups" in words
    assert "24 samples of 8 groups" in words


def test_four_patients_are_too_few_however_many_their_samples(tmp_path: Path) -> None:
    page(grouped_run(tmp_path, tuple(f"patient {i // 6}" for i in range(N))))
    words = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "With 4 groups and " in words
    assert "may only mean too few groups" in words
    assert "4 groups are too few to show" in words
    assert "Too few groups: with 4, no difference" in words


def test_without_groups_a_page_speaks_of_samples(tmp_path: Path) -> None:
    write_run(tmp_path, LABELS, ONE, n=N, size=18)
    text = page(tmp_path)
    assert "group" not in text.partition("Computed from")[2].partition("</p>")[0]
    assert "less often where scores" not in text
    assert read_samples(tmp_path / "samples.h5").groups == ()


def test_compare_and_evaluate_take_groups(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((12, 12, 12, 3), np.float32)
    model = FunctionModel(lambda x: x.mean(axis=(1, 2))[:, :2] * 50, (Modality.image(),))
    about = {"explainers": ["controls.centre"], "metrics": ["deletion"], "progress": False}
    patients = np.arange(12) // 2
    run = xai.compare(model, images, groups=patients, out=tmp_path, **about)
    assert read_samples(tmp_path / "samples.h5").groups == tuple(map(str, patients))
    value = read_result(next(tmp_path.glob("explanations/*/controls.centre.h5"))).scores["deletion"].value
    row = run.summary.set_index("label").loc["controls.centre"]
    assert row["high"] == statistics.summarise(value, groups=patients).high
    assert len(run.plot("curves").axes) == 1
    maps = xai.explain(model, images, "controls.centre")
    measured = xai.evaluate(model, images, maps, ["deletion"], groups=torch.tensor(patients))
    assert measured.groups == tuple(map(str, patients))
    (mean,) = measured.summary.to_dict("records")
    want = statistics.summarise(measured["controls.centre"]["deletion"].value, groups=patients)
    assert (mean["low"], mean["high"], mean["n"]) == (want.low, want.high, 12)
    assert "12 samples of 6 groups" in repr(measured)
    alone = xai.evaluate(model, images, maps, ["deletion"])
    assert alone.summary["high"][0] != want.high
    band, other = (e.plot().axes[0].collections[0].get_paths()[0].vertices for e in (measured, alone))
    assert not np.allclose(band, other)
    wrongs: tuple[tuple[Any, str], ...] = (
        (patients[:-1], "got 11 for 12 samples"),
        (["a", None] * 6, "label of its own"),
        (["a"] * 12, "all 12 samples are of one group, 'a'"),
        ("patients.csv", "groups are one label per sample"),
        (patients[:, None], "groups are one label per sample"),
    )
    for wrong, message in wrongs:
        with pytest.raises(InvalidInput, match=message):
            xai.compare(model, images, groups=wrong, out=tmp_path / "wrong", **about)
        with pytest.raises(InvalidInput, match=message):
            xai.evaluate(model, images, maps, ["deletion"], groups=wrong)


def test_hits_have_the_interval_of_a_share_in_a_notebook_too() -> None:
    hits = Scores("pointing", np.array([1.0] * 10 + [0.0]), True)
    measured = xai.Evaluation(tuple(map(str, range(11))), {"a map": {"pointing": hits}})
    want = statistics.summarise(hits.value, hits=True)
    assert measured.summary["high"][0] == want.high <= 1
    assert f"to {want.high:.3f}" in hits._repr_html_()


OWN = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.files import Samples

def samples():
    images = np.random.default_rng(0).random((8, 12, 12, 3), np.float32)
    about = [str(i) for i in range(8)], [Modality.image()], {"image": images}, np.zeros(8, int), ["no", "yes"]
    return Samples(*about, groups=["a", "a", "b", "b", "c", "c", "d", "d"])
def model():
    return FunctionModel(lambda x: x.mean(axis=(1, 2))[:, :2] * 50, (Modality.image(),))
"""


def test_an_experiment_file_s_factory_or_table_brings_groups(tmp_path: Path) -> None:
    (tmp_path / "own_patients.py").write_text(OWN, encoding="utf-8")
    experiment: dict[str, Any] = {
        "data": {"factory": "own_patients:samples"},
        "models": [{"name": "mean", "factory": "own_patients:model"}],
        "explainers": [{"name": "controls.centre"}],
        "metrics": [{"name": "deletion"}],
    }

    def compare() -> Any:
        (tmp_path / "experiment.toml").write_text(toml(experiment), encoding="utf-8")
        return crossxai("compare", str(tmp_path / "experiment.toml"), "--out", str(tmp_path / "out"))

    done = compare()
    assert done.exit_code == 0, done.output
    assert read_samples(tmp_path / "out/samples.h5").groups == tuple("aabbccdd")
    assert "8 samples of 4 groups" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    experiment["data"]["groups"] = "patients.csv"
    assert "cannot be read: No such file" in compare().output
    table = tmp_path / "patients.csv"
    table.write_text("id,group\n" + "".join(f"{i},{'xyz'[i % 3]}\n" for i in range(8)), encoding="utf-8")
    done = compare()
    assert done.exit_code == 0, done.output
    assert read_samples(tmp_path / "out/samples.h5").groups == tuple("xyzxyzxy")
    assert "8 samples of 3 groups" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    for wrong, message in (
        ("id,group\n0,x\n1,y\n", "6 of 8 samples: 2, 3, 4, …"),
        ("name,group\n0,x\n", "heads id and group"),
        ("id,group\n" + "".join(f"{i},x\n" for i in range(8)), "all 8 samples are of one group, 'x'"),
    ):
        table.write_text(wrong, encoding="utf-8")
        done = compare()
        assert done.exit_code == 2
        assert message in " ".join(done.output.split())


def test_plots_take_groups(tmp_path: Path) -> None:
    grouped_run(tmp_path)
    lines = {label: read_result(tmp_path / f"explanations/net/{label}.h5").scores["deletion"] for label in LABELS}
    whole, alone = plot_curves(lines, groups=PATIENTS), plot_curves(lines)
    bands = [f.axes[0].collections[0].get_paths()[0].vertices for f in (whole, alone)]
    assert not np.allclose(*bands)
    plot_ranking(lines, groups=PATIENTS)
    with pytest.raises(InvalidInput, match="got 23 for 24"):
        plot_curves(lines, groups=PATIENTS[:-1])

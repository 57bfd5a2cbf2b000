"""A model that looks at a planted shortcut is exposed by the report, whether or not it is told of it; an honest one is not."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai, toml

from crossxai import InvalidFile, InvalidInput
from crossxai.experiment import loading
from crossxai.experiment import specification as experiment
from crossxai.report import analysis, comparison, places, shortcuts
from crossxai.report.contents import find
from crossxai.report.places import CENTRE
from crossxai.report.run import RunRecord, load
from crossxai.studies.pcam import source
from crossxai.studies.pcam.reading import PCam
from crossxai.studies.pcam.synthetic import Shortcut, write

EXAMPLES = Path(__file__).parents[1] / "examples" / "pcam"
EXPLAINERS: list[dict[str, Any]] = [
    {"name": "captum.integrated_gradients", "params": {"steps": 8}},
    {"name": "gradcam.gradcam", "params": {"layer": "relu"}},
    {"name": "captum.occlusion", "params": {"patch": 16, "stride": 16}},
]
TOLD = [{"name": "controls.oracle", "label": "controls.shortcut", "params": {"mask": "shortcut"}}]


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a procedural set whose positives carry a mark, and the two networks beside it."""
    folder = tmp_path_factory.mktemp("marked")
    write(folder / "data", n=240, seed=1, shortcut=Shortcut(), workers=1, progress=False)
    shutil.copy(Path(__file__).parent / "networks" / "pcam.py", folder / "pcam_nets.py")
    return folder


def compared(folder: Path, name: str, **changes: Any) -> RunRecord:
    content: dict[str, Any] = {
        "data": {"source": "pcam", "root": "data", "n": 16},
        "target": {"of": "label"},
        "models": [{"name": kind, "factory": f"pcam_nets:{kind}"} for kind in ("shortcut", "honest")],
        "explainers": EXPLAINERS,
        "metrics": [
            {"name": "deletion", "params": {"steps": 50, "fill": {"dataset_mean": [0.85, 0.65, 0.8]}}},
            {"name": "centre_share", "params": {"size": 32, "labels": [1]}},
            {"name": "pointing", "params": {"size": 32, "labels": [1]}},
            {"name": "mask_share", "params": {"mask": "shortcut"}},
            {"name": "border_share"},
            {"name": "grid_energy", "params": {"period": 32}},
        ],
    }
    (folder / f"{name}.toml").write_text(toml({**content, **changes}))
    done = crossxai("compare", str(folder / f"{name}.toml"), "--out", str(folder / name))
    assert done.exit_code == 0, (done.output, done.exception)
    return load(folder / name)


@pytest.fixture(scope="module")
def told(marked: Path) -> RunRecord:
    return compared(marked, "told", explainers=[*EXPLAINERS, *TOLD])


def suspected(run: RunRecord) -> list[shortcuts.Suspect]:
    return [found for where in places.places(run) for found in shortcuts.suspects(run, where)]


def test_the_report_exposes_the_model_that_looks_at_the_mark(told: RunRecord) -> None:
    found = suspected(told)[0]
    assert {(s.model, s.tile) for s in suspected(told)} == {("shortcut", 0)}
    assert (found.model, found.group.name, found.tile) == ("shortcut", "tumour", 0)
    assert found.share > 0.8 > 0.1 > found.centre
    (finding,) = shortcut_findings(told)
    fact = finding.facts
    assert (fact.model, fact.group, fact.tile) == ("shortcut", "tumour", "top left")
    assert fact.share == found.share
    assert fact.centre == found.centre
    assert {round(fact.area, 2), round(fact.centre_area, 2)} == {0.11}
    (honest,) = fact.elsewhere
    assert (honest.name, honest.share < 0.1, honest.centre > 0.6) == ("honest", True, True)
    assert {p.n for p in fact.agreeing} == {8}
    # The window that is named overlaps the box that was planted, rows and columns 4 to 11.
    window = fact.window
    assert max(window.top, window.left) <= 6
    assert min(window.bottom, window.right) >= 9
    inside, truth = fact.deleted
    assert (inside.label, inside.inside) == ("controls.shortcut", True)
    assert inside.before > 0.9 > 0.5 > inside.after
    assert (truth.label, truth.inside) == ("controls.oracle", False)
    assert abs(truth.before - truth.after) < shortcuts.MOVES
    assert fact.steepest is not None
    assert fact.steepest.before > 0.9 > 0.5 > fact.steepest.after
    assert fact.steepest.random > 0.9
    report = json.loads((told.directory / "report.json").read_text(encoding="utf-8"))
    assert [f["facts"]["tile"] for f in report["findings"] if f["key"] == "shortcut"] == ["top left"]
    for name in ("report.html", "report.md"):
        text = (told.directory / name).read_text(encoding="utf-8")
        assert re.search(r"On shortcut, explanations of tumour samples put \d+% .* top left ninth \(11%", text)
        # The control has no map of negatives, where there is no mark: none of its maps has gone wrong.
        assert not re.search(r"`controls\.shortcut` on \w+: \d+ .* maps", text)


def shortcut_findings(run: RunRecord) -> list[Any]:
    where = tuple(places.places(run))
    return [f for f in find(run, analysis.table(run), comparison.compare(run), where) if f.key == "shortcut"]


def test_it_needs_no_mask_to_find_it(marked: Path) -> None:
    """Files of which nothing is known but labels: the folder's note and masks are gone."""
    bare = marked / "bare"
    bare.mkdir()
    for path in (marked / "data").glob("*test_[xy].h5"):
        shutil.copy(path, bare / path.name)
    run = compared(marked, "untold", data={"source": "pcam", "root": "bare", "n": 16}, metrics=[{"name": "deletion"}])
    assert not run.samples.masks
    assert not run.samples.truth
    assert {(s.model, s.tile) for s in suspected(run)} == {("shortcut", 0)}
    (finding,) = shortcut_findings(run)
    assert (finding.facts.model, finding.facts.tile) == ("shortcut", "top left")
    assert finding.facts.deleted == ()  # nobody could delete exactly the mark


def test_the_numbers_are_those_of_the_maps(told: RunRecord) -> None:
    (where,) = places.places(told)
    place = next(p for p in where.of("shortcut", "tumour") if p.label == "captum.integrated_gradients")
    values = told.of("shortcut")["captum.integrated_gradients"].maps["image"][list(place.group.rows)]
    sizes = np.abs(values.astype(np.float64).sum(axis=-1))
    whole = sizes.sum(axis=(1, 2))
    corner = sizes[:, :32, :32].sum(axis=(1, 2)) / whole
    np.testing.assert_allclose(place.tiles[:, 0], corner)
    np.testing.assert_allclose(place.tiles.sum(axis=1), 1)
    inner = sizes[:, 4:-4, 4:-4].sum(axis=(1, 2)) / whole
    assert place.border == pytest.approx(1 - inner.mean())
    share, area = place.masks["shortcut"]
    assert share == pytest.approx((sizes[:, 4:12, 4:12].sum(axis=(1, 2)) / whole).mean())
    assert area == pytest.approx(64 / 96**2)
    scores = told.of("shortcut")["captum.integrated_gradients"].scores
    assert scores["border_share"].value[list(place.group.rows)].mean() == pytest.approx(place.border, rel=1e-4)
    assert place.shares[CENTRE] == pytest.approx((sizes[:, 32:64, 32:64].sum(axis=(1, 2)) / whole).mean())
    negative = told.samples.labels == 0
    for metric in ("centre_share", "pointing", "mask_share"):
        assert (np.isnan(scores[metric].value) == negative).all(), metric
    np.testing.assert_allclose(scores["pointing"].extras["area_share"][~negative], 1 / 9)
    assert where.sentences(told.models[0])[0].startswith("Tumour samples: most into the top left")


def test_agreement_of_explainers_samples_and_controls_is_needed(
    told: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One explainer of several, few samples, or a control that gives the place as much: nothing is said."""

    def without(*labels: str) -> RunRecord:
        return replace(told, explanations=tuple(e for e in told.explanations if e.label not in labels))

    names = [e["name"] for e in EXPLAINERS]
    centred = [e for e in told.explanations if e.model == "honest" and e.label in names[1:]]
    swapped = [replace(e, model="shortcut") for e in centred]
    kept = [e for e in told.explanations if (e.model, e.label) not in {("shortcut", x) for x in names[1:]}]
    assert not suspected(replace(told, explanations=(*kept, *swapped)))
    blind = told.of("shortcut")["controls.edges"]
    painted = np.zeros_like(blind.maps["image"])
    painted[:, 4:12, 4:12] = 1
    cornered = replace(blind, attribution=replace(blind.attribution, values=(painted,)))
    assert not suspected(
        replace(without("controls.edges"), explanations=(*without("controls.edges").explanations, cornered))
    )
    truth = np.zeros((16, 96, 96), bool)
    truth[:, 4:12, 4:12] = True
    assert not suspected(replace(told, samples=replace(told.samples, truth={"image": truth})))
    assert suspected(without(names[0]))
    monkeypatch.setattr(shortcuts, "FEWEST", 9)  # there are eight of each class
    assert not suspected(told)


def test_odd_sizes_and_few_pixels_have_tiles_too() -> None:
    maps = np.random.default_rng(0).random((2, 10, 8))
    found = places.tiles_of(maps)
    for number in range(9):
        inside = maps[:, places.tile(10, 8, number)].reshape(2, -1).sum(axis=1)
        np.testing.assert_allclose(found[:, number], inside)


def test_a_sets_note_says_what_it_is(marked: Path, tmp_path: Path) -> None:
    known = source.kind_of(marked / "data")
    assert known.classes == ("normal", "tumour")
    assert "drawn by a program: no tissue" in known.description
    assert "All of the positives carry a pen mark in rows 4–11 and columns 4–11" in known.description
    split = PCam(marked / "data", "test")
    found = source.samples_of(split, np.arange(8), known)
    box = np.zeros((96, 96), bool)
    box[4:12, 4:12] = True
    np.testing.assert_array_equal(found.masks["shortcut"], box & (found.labels == 1)[:, None, None])
    assert list(found.masks) == ["tumour", "shortcut"]
    assert not (found.truth["image"] & box).any()
    write(tmp_path / "plain", n=20, workers=1, progress=False)
    assert source.kind_of(tmp_path / "plain").box is None
    assert "pen mark" not in source.kind_of(tmp_path / "plain").description
    note = tmp_path / "plain" / "synthetic.json"
    told = json.loads(note.read_text(encoding="utf-8"))
    for wrong in ({"rows": [4, 12]}, {"rows": [4, 400], "columns": [4, 12], "share": 1.0}, [1]):
        note.write_text(json.dumps({**told, "shortcut": wrong}), encoding="utf-8")
        with pytest.raises(InvalidFile, match="build the set again"):
            source.kind_of(tmp_path / "plain")


def test_labels_that_no_sample_has_are_refused(marked: Path) -> None:
    content = {"data": {"source": "pcam", "root": "data", "n": 4}, "models": [{"name": "m"}]}
    metric = {"name": "centre_share", "params": {"labels": [2]}}
    path = marked / "none.toml"
    path.write_text(toml({**content, "explainers": [{"name": "controls.random"}], "metrics": [metric]}))
    asked = experiment.load(path)
    found, _ = loading.samples(asked)
    with pytest.raises(InvalidInput, match=r"centre_share: no sample has a label in \[2\]; there are \[0, 1\]"):
        loading.metric(asked.metrics[0], asked.seed, found)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_name_what_there_is(path: Path) -> None:
    """Every explainer, metric and parameter, also of the two whose files are made or downloaded first."""
    asked = experiment.load(path)
    made = [loading.explainer(spec, asked.seed) for spec in asked.explainers]
    metrics = [loading.metric(spec, asked.seed) for spec in asked.metrics]
    assert {"gradcam.gradcam", "captum.integrated_gradients", "lime.image"} <= {e.name for e in made}
    assert {"deletion", "insertion", "border_share", "grid_energy"} <= {m.name for m in metrics}
    assert all(m.params["steps"] == 100 for m in asked.metrics if m.name in ("deletion", "insertion"))
    assert asked.data.n == 30
    assert "root" not in tomllib.loads(path.read_text(encoding="utf-8"))["data"] or asked.data.source == "pcam"


@pytest.mark.deep
def test_the_study_runs_and_its_honest_models_are_not_suspected(embedded: Path, tmp_path: Path) -> None:
    text = (EXAMPLES / "study.toml").read_text(encoding="utf-8")
    small = (
        re.sub(r"^n = 30$", "n = 8", text, flags=re.M)
        .replace("steps = 100", "steps = 6")
        .replace("steps = 32", "steps = 4")
    )
    small = re.sub(r"samples = \d+", "samples = 30", small)
    (tmp_path / "study.toml").write_text(small, encoding="utf-8")
    done = crossxai("compare", str(tmp_path / "study.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    run = load(tmp_path / "out")
    assert all(e.status == "ok" for e in run.explanations), [e.reason for e in run.explanations if e.status != "ok"]
    assert suspected(run) == []
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Where the attribution goes" in page
    assert "Shortcut?" not in page

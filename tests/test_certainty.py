"""How sure a ranking is: the report's numbers are those of the library, its words those of the numbers, also at the edges."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai, toml
from test_report import findings, page, write_run

from crossxai import Attribution, InvalidInput, Modality, Question, Target, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.evaluation.curves import Deletion, Insertion, evaluate
from crossxai.evaluation.statistics import certainty, comparison
from crossxai.experiment import loading
from crossxai.experiment.specification import Experiment, ExplainerSpec, check
from crossxai.files import Samples, read_result, read_samples, write_result
from crossxai.report.certainty import Ranking, thinned
from crossxai.report.contents import gather

FIVE = tuple(f"captum.{name}" for name in ("saliency", "occlusion", "lime", "lrp", "deep_lift"))
ONE = {"pytorch": "torch"}


def ranking(folder: Path, metric: str = "deletion") -> dict[str, Any]:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = next(r for r in report["rankings"] if r["metric"] == metric)
    return found


def certain(folder: Path, metric: str) -> list[Ranking]:
    """The rankings by a metric that differ in their order; those of equal models once."""
    found = {tuple(p.label for p in r.places): r for r in gather(folder).rankings if r.metric == metric}
    return list(found.values())


def words(folder: Path) -> str:
    text = (folder / "report.md").read_text(encoding="utf-8")
    return text.partition("## How sure is this ranking?")[2].partition("\n## ")[0]


def change(folder: Path, label: str, values: Callable[[np.ndarray], np.ndarray]) -> None:
    """Rewrite an explainer's deletion; its curve is then another's, as an imported run's might be."""
    for path in folder.glob(f"explanations/*/{label}.h5"):
        e = read_result(path)
        scores = replace(e.scores["deletion"], value=values(e.scores["deletion"].value))
        write_result(path, replace(e, scores={**e.scores, "deletion": scores}))


def test_the_numbers_are_the_library_s(tmp_path: Path) -> None:
    means = dict(zip(FIVE, (0.30, 0.31, 0.33, 0.5, 0.8), strict=True))
    write_run(tmp_path, (*FIVE, "controls.random", "controls.centre"), ONE, n=12, size=18, deletion=means, spread=0.05)
    page(tmp_path)
    found = ranking(tmp_path)
    files = {x: read_result(tmp_path / f"explanations/pytorch/{x}.h5") for x in FIVE}
    values = np.stack([files[p["label"]].scores["deletion"].value for p in found["places"]], axis=1)
    assert (np.diff(values.mean(axis=0)) > 0).all()
    tested, drawn = comparison.friedman(values, False), certainty.resample(values, False)
    for i, place in enumerate(found["places"]):
        assert place["rank"] == tested.ranks[i]
        assert place["first"] == drawn.best[i]
        shared = {p["label"] for p in found["places"] if set(p["groups"]) & set(place["groups"])}
        near = {found["places"][j]["label"] for group in tested.groups if i in group for j in group}
        assert shared == near
    assert (found["p"], found["critical_difference"]) == (tested.p, tested.critical_difference)
    assert found["same_order"] == drawn.same_order
    assert (found["n"], found["left_out"], found["without"]) == (12, 0, [])
    own = certainty.spread(values[:, 0], values[:, 1])
    assert found["needed"] == certainty.samples_needed(found["seen"], own).n
    text = words(tmp_path)
    first, second = (p["label"] for p in found["places"][:2])
    assert any(
        f"`{first}`" in x and f"{found['places'][0]['first']:.0%}" in x and "12 samples" in x for x in text.splitlines()
    )
    # Two digits, rounded up: 531 are about 540.
    digits = max(0, len(str(found["needed"])) - 2)
    about = -(-found["needed"] // 10**digits) * 10**digits
    (needed,) = [x for x in text.splitlines() if f"{about:,} samples" in x]
    assert f"`{first}` and `{second}`" in needed
    assert ("about " in needed) == bool(digits)
    assert "`crossxai evaluate " in text
    assert "controls." not in text  # they are not what is ranked


def test_a_firm_order_and_none(tmp_path: Path) -> None:
    means = {FIVE[0]: 0.1, FIVE[1]: 0.6}
    write_run(tmp_path / "firm", (*FIVE[:2], "controls.random"), n=12, size=18, deletion=means)
    page(tmp_path / "firm")
    (sure,) = certain(tmp_path / "firm", "deletion")
    assert sure.stays == 1
    assert sure.first == (FIVE[0],)
    assert [p.label for p in sure.top] == [FIVE[0]]
    assert sure.top_group(together=True) == ()
    assert sure.p < 0.001
    said = words(tmp_path / "firm")
    assert f"is firm on both models: `{FIVE[0]}`" in said
    assert "Friedman p &lt; 0.001" in said
    write_run(tmp_path / "none", FIVE, ONE, n=12, size=18)
    page(tmp_path / "none")
    (sure,) = certain(tmp_path / "none", "deletion")
    assert sure.stays < 0.95
    assert sure.p > 0.05
    assert "not firm" in words(tmp_path / "none")
    assert "Friedman p = 0." in words(tmp_path / "none")


@pytest.mark.parametrize("metric", [Deletion, Insertion])
def test_thinned_curves_are_curves_of_fewer_steps(metric: Any) -> None:
    rng = np.random.default_rng(0)
    model = FunctionModel(lambda x: np.sin(5 * x.reshape(len(x), -1)[:, :2]), (Modality.image(),))
    question = Question(model, (rng.random((4, 9, 11, 3)),), Target.classes([0, 1, 0, 1], 2))
    maps = Attribution((rng.random((4, 9, 11, 1)),), question.modalities, question.ids, "map")
    fine, half, quarter = evaluate(question, [maps], [metric(16, "zero"), metric(8, "zero"), metric(4, "zero")])[0]
    np.testing.assert_allclose(thinned(fine, 1), fine.value, atol=1e-12)
    np.testing.assert_allclose(thinned(fine, 2), half.value, atol=1e-12)
    np.testing.assert_allclose(thinned(fine, 4), quarter.value, atol=1e-12)
    assert thinned(fine, 16) is None


def test_fewer_steps_that_turn_the_order_round(tmp_path: Path) -> None:
    """A spike between the points that a half keeps: its owner is last by all points, and first without them."""
    write_run(tmp_path, FIVE[:2], ONE, n=8, size=18, deletion={FIVE[0]: 0.3, FIVE[1]: 0.6}, spread=0)
    for label, spike in ((FIVE[0], 20.0), (FIVE[1], 0.0)):
        path = tmp_path / f"explanations/pytorch/{label}.h5"
        e = read_result(path)
        scores = e.scores["deletion"]
        assert scores.curve is not None
        curve = scores.curve.copy()
        curve[:, 13] += spike
        value = np.trapezoid(curve, scores.fractions, axis=1)
        write_result(path, replace(e, scores={"deletion": replace(scores, curve=curve, value=value)}))
    page(tmp_path)
    found = ranking(tmp_path)
    assert [p["label"] for p in found["places"]] == [FIVE[1], FIVE[0]]
    assert found["steps"] == 24
    assert [(f["steps"], f["first"], f["flips"]) for f in found["fewer"]] == [(12, [FIVE[0]], 1), (6, [FIVE[0]], 1)]
    assert re.search(rf"at 12 steps, `{FIVE[0]}` .* 100\.0% of the pairs", words(tmp_path))


def test_one_sample_two_explainers_ties_and_missing_values(tmp_path: Path) -> None:
    write_run(tmp_path / "one", FIVE, ONE, n=1, size=18)
    page(tmp_path / "one")
    assert "One sample: " in words(tmp_path / "one")
    assert "at least 6" in words(tmp_path / "one")
    write_run(tmp_path / "equal", FIVE, ONE, n=8, size=18)
    for label in FIVE:
        change(tmp_path / "equal", label, lambda v: np.full_like(v, 0.4))
    page(tmp_path / "equal")
    assert "all 5 explainers" in words(tmp_path / "equal")
    (sure,) = certain(tmp_path / "equal", "deletion")
    assert len(sure.first) == 5
    assert ranking(tmp_path / "equal")["needed"] == 0
    write_run(tmp_path / "twins", FIVE[:3], ONE, n=8, size=18, deletion={FIVE[0]: 0.1, FIVE[1]: 0.1})
    for label in FIVE[:2]:
        change(tmp_path / "twins", label, lambda v: np.linspace(0.1, 0.2, len(v)))
    page(tmp_path / "twins")
    (sure,) = certain(tmp_path / "twins", "deletion")
    assert (sorted(sure.first), sure.stays) == (sorted(FIVE[:2]), 1)
    assert f"`{FIVE[1]}` and `{FIVE[0]}`" in words(tmp_path / "twins")
    assert ranking(tmp_path / "twins")["runner"] == FIVE[2]
    write_run(tmp_path / "holes", FIVE, ONE, n=8, size=18)
    change(tmp_path / "holes", FIVE[0], lambda v: np.where(np.arange(len(v)) < 2, np.nan, v))
    change(tmp_path / "holes", FIVE[1], lambda v: v * np.nan)
    page(tmp_path / "holes")
    found = ranking(tmp_path / "holes")
    assert (found["n"], found["left_out"], found["without"]) == (6, 2, [FIVE[1]])
    assert re.search(f"2 samples .*`{FIVE[1]}`", words(tmp_path / "holes"))
    for name, labels in (("single", FIVE[:1]), ("controls", ("controls.random", "controls.centre"))):
        write_run(tmp_path / name, labels, ONE, n=8, size=18)
        assert "How sure is this ranking?" not in page(tmp_path / name)


OWN = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.files import Samples

Y, X = np.mgrid[:16, :16]
INSIDE = (Y - 7.5) ** 2 + (X - 7.5) ** 2 < 16
IMAGE = Modality.image()

def data():
    rng = np.random.default_rng(0)
    images, labels = rng.random((10, 16, 16, 3), np.float32), np.arange(10) % 2
    images[labels == 1] += INSIDE[..., None]
    truth = np.broadcast_to(INSIDE, (10, 16, 16))
    return Samples(tuple('abcdefghij'), (IMAGE,), {'image': images / 2}, labels, ('no', 'yes'), truth={'image': truth})
def model():
    def f(x):
        s = 8 * (x * INSIDE[..., None]).mean(axis=(1, 2, 3)) / INSIDE.mean() - 3
        return np.stack([-s, s], axis=1)
    return FunctionModel(f, (IMAGE,))
"""


def test_estimated_areas_and_the_oracle_from_an_experiment_file(tmp_path: Path) -> None:
    """steps = "auto" end to end, every control added by the run, the truth known by construction beating every explainer."""
    (tmp_path / "certainty_own.py").write_text(OWN)
    auto = {"auto": {"of": 64, "precision": 0.02}}
    content = {
        "data": {"factory": "certainty_own:data", "description": "Made for a test."},
        "target": {"of": 1},
        "models": [{"name": "own", "factory": "certainty_own:model"}],
        "explainers": [
            {"name": "captum.occlusion", "params": {"patch": 4, "stride": 4}},
            {"name": "lime.image", "params": {"samples": 30}},
        ],
        "metrics": [
            {"name": "deletion", "params": {"steps": auto}},
            {"name": "insertion", "params": {"steps": 8, "fill": "zero"}},
        ],
    }
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    folder = tmp_path / "out"
    paths = {p.stem: p for p in (folder / "explanations/own").glob("*.h5")}
    controls = {f"controls.{name}" for name in ("random", "centre", "edges", "oracle")}
    assert set(paths) == {"captum.occlusion", "lime.image"} | controls
    assert read_samples(folder / "samples.h5").truth["image"].sum() == 10 * 52
    scores = {label: read_result(path).scores for label, path in paths.items()}
    for found in scores.values():
        assert found["deletion"].curve is None
        assert found["deletion"].params["steps"]["auto"]["precision"] == 0.02
        assert found["insertion"].curve is not None
    truth = scores.pop("controls.oracle")
    assert all(truth["deletion"].value.mean() < found["deletion"].value.mean() for found in scores.values())
    assert all(truth["insertion"].value.mean() > found["insertion"].value.mean() for found in scores.values())
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "No curve of deletion: <code>steps = &quot;auto&quot;</code>" in text.replace('"auto"', "&quot;auto&quot;")
    assert "Insertion on own" in text
    assert "Deletion on own" not in text
    assert "of 65 points a sample on average" in words(folder)
    assert re.search("2 of 2 explainers .*0\\.02", words(folder))
    assert findings(folder)["known_truth"]["tone"] == "good"
    assert "masks 10 × 16 × 16, sha256" in json.dumps(
        read_result(paths["controls.oracle"]).attribution.params, ensure_ascii=False
    )
    # Going on: nothing is computed again, and the report says the same.
    before = {path: path.stat().st_mtime_ns for path in paths.values()}
    assert crossxai("compare", str(tmp_path / "e.toml"), "--out", str(folder)).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in paths.values()} == before
    (tmp_path / "e.toml").write_text(toml({**content, "controls": False}))
    assert crossxai("compare", str(tmp_path / "e.toml"), "--out", str(folder)).exit_code == 0
    assert {p.stem for p in (folder / "explanations/own").glob("*.h5")} == {"captum.occlusion", "lime.image"}


def test_which_controls_a_run_adds_and_what_the_oracle_is_told() -> None:
    def experiment(**more: Any) -> Experiment:
        explainers = [{"name": "captum.saliency"}, {"name": "controls.centre", "label": "bump"}]
        return check({"models": [{"name": "m"}], "explainers": explainers, "metrics": [{"name": "deletion"}], **more})

    def samples(truth: bool, modality: Modality) -> Samples:
        shape = (3, 4, 4, 3) if modality.spatial else (3, 2)
        stain = np.arange(48).reshape(3, 4, 4) % 3 == 0
        inputs = {modality.name: np.zeros(shape, np.float32)}
        known = {"image": ~stain} if truth else {}
        masks = {"stain": stain}
        return Samples(("a", "b", "c"), (modality,), inputs, np.array([0, 1, 1]), ("no", "yes"), masks, known)

    def added(found: Experiment) -> list[str]:
        return [spec.name.partition(".")[2] for spec in found.explainers[2:]]

    image, table = Modality.image(), Modality.table(("age", "dose"))
    data = samples(True, image)
    assert added(loading.with_controls(experiment(), data)) == ["random", "edges", "oracle"]
    assert added(loading.with_controls(experiment(), samples(False, image))) == ["random", "edges"]
    assert added(loading.with_controls(experiment(), samples(False, table))) == ["random"]
    assert added(loading.with_controls(experiment(controls=False), data)) == []
    again = loading.with_controls(loading.with_controls(experiment(), data), data)
    assert added(again) == ["random", "edges", "oracle"]

    model = FunctionModel(lambda x: x.mean(axis=(1, 2)), (image,))
    question = Question(model, (data.inputs["image"],), Target.classes([0, 1, 1], 3), data.ids)

    def told(params: dict[str, Any], held: Samples = data) -> np.ndarray:
        spec = ExplainerSpec(name="controls.oracle", params=params)
        return np.asarray(loading.explainer(spec, 0, held)(question).values[0][..., 0])

    np.testing.assert_array_equal(told({}), data.truth["image"])
    np.testing.assert_array_equal(told({"mask": "stain"}), data.masks["stain"])
    of_ones = told({"mask": "stain", "labels": [1]})
    assert np.isnan(of_ones[0]).all()
    np.testing.assert_array_equal(of_ones[1:], data.masks["stain"][1:])
    with pytest.raises(Unsupported, match="needs the truth, and none is known here"):
        told({}, samples(False, image))
    with pytest.raises(InvalidInput, match="no mask 'blood' in the data; there is stain"):
        told({"mask": "blood"})


def test_an_oracle_that_does_not_beat_random_is_a_warning(tmp_path: Path) -> None:
    labels = (*FIVE[:2], "controls.random", "controls.oracle")
    write_run(tmp_path, labels, ONE, n=12, size=18, deletion={FIVE[0]: 0.1}, insertion={"controls.oracle": 0.8})
    page(tmp_path)
    found = findings(tmp_path)
    truth = found["known_truth"]
    assert truth["tone"] == "warning"
    deletion, insertion = (truth["facts"]["scores"][metric]["pytorch"] for metric in ("deletion", "insertion"))
    assert (deletion["versus"], deletion["better"], deletion["total"]) == ("not told apart", [FIVE[0]], 2)
    assert (insertion["versus"], insertion["better"], insertion["worse"]) == ("better", [], 2)
    assert "deletion" in truth["headline"]
    assert "insertion" not in truth["headline"]
    assert "simple_controls" not in found  # an oracle is none


def test_what_is_no_better_than_random_is_said_beside_a_share(tmp_path: Path) -> None:
    write_run(tmp_path, (*FIVE[:2], "controls.random"), ONE, n=12, size=18)
    text = page(tmp_path)
    assert "not told apart from random" in text.partition('id="scores"')[2].partition("</section>")[0]
    assert "not told apart from random" in (tmp_path / "report.md").read_text().partition("## Scores")[2]


def test_a_shared_best_rank_has_no_one_winner(tmp_path: Path) -> None:
    """Two explainers of equal scores, and two far behind."""
    write_run(tmp_path, FIVE[:4], ONE, n=12, size=18, deletion={FIVE[0]: 0.1, FIVE[1]: 0.1, FIVE[2]: 0.6, FIVE[3]: 0.8})
    same = read_result(tmp_path / f"explanations/pytorch/{FIVE[0]}.h5").scores["deletion"].value
    change(tmp_path, FIVE[1], lambda _: same)
    page(tmp_path)
    (sure,) = certain(tmp_path, "deletion")
    assert sorted(p.label for p in sure.top) == sorted(FIVE[:2])
    assert sorted(sure.top_group(together=False)) == sorted(FIVE[2:4])
    assert re.search("`.*` and `.*` share the best mean rank", words(tmp_path))

"""Degenerate input: every discovered metric × maps and questions that leave little to judge.

A cell is a finite number in the metric's range, NaN where there is nothing to say, or a refusal with what to write instead;
never a warning (they are errors here), another error, or a run that stops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai, toml

from crossxai import Attribution, Modality, Question, Target, Unsupported, evaluation
from crossxai.attribution import Scores, apply_metric
from crossxai.evaluation import statistics
from crossxai.evaluation.curves import Deletion, auto, evaluate, presets
from crossxai.evaluation.statistics import certainty
from crossxai.model import Array, Cotangent, Inputs
from crossxai.testing.oracles import Oracle

NAMES = [entry.name for entry in evaluation.discover()]
IMAGE, COLUMN = Modality.image(), Modality.table(("age",))


class Linear:
    """Logits of k classes from images or tables of any size."""

    name = "linear"

    def __init__(self, modality: Modality, classes: int) -> None:
        self.modalities, self.classes = (modality,), classes

    def _weights(self, values: Array) -> Array:
        return np.random.default_rng(1).normal(size=(values[0].size, self.classes)) / 10

    def predict(self, inputs: Inputs) -> Array:
        return inputs[0].reshape(len(inputs[0]), -1) @ self._weights(inputs[0])

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        outputs = self.predict(inputs)
        return outputs, ((cotangent(outputs) @ self._weights(inputs[0]).T).reshape(inputs[0].shape),)

    def weighted(self, inputs: Inputs) -> tuple[str, ...]:
        return ("weights",)

    def randomised(self, inputs: Inputs, depth: int, seed: int) -> Linear:
        return self


def ask(modality: Modality = IMAGE, classes: int = 3, n: int = 4, side: int = 8) -> Question:
    shape = (side, side, 3) if modality.spatial else (1,)
    x = np.random.default_rng(0).random((n, *shape))
    return Question(Linear(modality, classes), (x,), Target.classes(np.arange(n) % classes, classes, "softmax"))


def zero_score() -> Question:
    """Scores of exactly zero, whatever is removed."""
    return replace(ask(), target=Target(np.zeros((4, 3))))


def plain(question: Question) -> Array:
    """A map without ties, all of it positive."""
    values = question.values[0]
    shape = (*values.shape[:-1], 1) if question.modalities[0].spatial else values.shape
    return np.random.default_rng(3).uniform(0.1, 1, shape)


def first(value: float, rest: float | None = None) -> Callable[[Array], Array]:
    def change(maps: Array) -> Array:
        changed = maps.copy() if rest is None else np.full_like(maps, rest)
        changed[:, 0, 0] = value
        return changed

    return change


UNUSABLE = {
    "NaN": lambda maps: maps * np.nan,
    "one NaN": first(np.nan),
    "infinite": first(np.inf),
    "both infinities": first(np.inf, -np.inf),
}
FLAT = {"constant": lambda maps: np.full_like(maps, 0.7), "zero": np.zeros_like}
SIGNED = {"negative": lambda maps: -maps}
QUESTIONS = {
    "one sample": lambda: ask(n=1),
    "5000 classes": lambda: ask(classes=5000, n=3),
    "one pixel": lambda: ask(side=1),
    "one column": lambda: ask(COLUMN),
    "score of 0": zero_score,
}

# · a number, - NaN, x a refusal. Where a metric asks for positive relevance, there is none in maps of zeros or less; a
# correlation needs both sides to vary, so it has nothing to say of one unit; a share of a score of 0 is none; segments, squares,
# neighbours, blurs and mosaics need an image, and mosaics one of even sides and of several classes.
# Shares among modalities have nothing to say of one; tests/test_modality.py asks about two.
# In this order: maps that are constant, zero, all negative; one sample, 5000 classes, one pixel, one column, a score of 0.
TABLE = """
aopc                       ········
auprc                      ········
average_sensitivity        ·-······
border_share               ·-···xx·
centre_share               ·--···x·
completeness_gap           ········
comprehensiveness          ········
deletion                   ········
effective_area             ·-······
entropy                    ·-······
faithfulness_correlation   --···---
grid_energy                ·-···xx·
grid_pointing              ·--x··xx
infidelity                 ······x·
input_shift                ·-······
insertion                  ······x·
irof                       ······x-
joint_deletion             ········
joint_insertion            ········
local_lipschitz            ·-······
mask_dice                  ········
mask_iou                   ········
mask_share                 ·--·····
max_sensitivity            ·-······
modality_agreement         xxxxxxxx
modality_share             xxxxxxxx
model_randomisation        --···--·
morf_lerf                  ········
mu_fidelity                ·-···---
noise_correlation          --···--·
pointing                   ········
random_logit               --···--·
relevance_rank             ········
repeatability              --···--·
road                       ······x·
road_lerf                  ······x·
road_morf                  ······x·
sensitivity_n              --···---
sparseness                 ·-······
sufficiency                ········
top_k_intersection         ········
total_variation            ·-····x·
"""
EXPECTED = {row.split()[0]: row.split()[1] for row in TABLE.strip().splitlines()}
COLUMNS = [*FLAT, *SIGNED, *QUESTIONS]


# What fits an image of 8 × 8.
SMALL: dict[str, dict[str, Any]] = {
    "border_share": {"width": 1},
    "centre_share": {"size": 1},
    "grid_energy": {"period": 4},
}


def metric_of(name: str, question: Question) -> Any:
    kind = next(e.metric for e in evaluation.discover() if e.name == name)
    modality, values = question.one
    mask = np.zeros(values.shape[1:-1] if modality.spatial else values.shape[1:])
    mask.flat[0] = 1
    given: dict[str, Any] = {"masks": mask} if "masks" in kind.__dataclass_fields__ else {}
    return evaluation.get(name, **given, **SMALL.get(name, {}))


def judged(name: str, question: Question, change: Callable[[Array], Array] = np.copy) -> Scores | str:
    explainer = Oracle(lambda asked, _seed: change(plain(asked)))
    gap = {"completeness_gap": np.zeros(len(question))}
    try:
        return apply_metric(metric_of(name, question), question, replace(explainer(question), extras=gap), explainer)
    except Unsupported as refusal:
        return str(refusal)


def symbol(found: Scores | str) -> str:
    if isinstance(found, str):
        return "x"
    return "·" if np.isfinite(found.value).all() else "-" if np.isnan(found.value).all() else "?"


def cell(name: str, column: str) -> Scores | str:
    change = {**FLAT, **SIGNED}.get(column)
    return judged(name, QUESTIONS[column]()) if change is None else judged(name, ask(), change)  # type: ignore[operator]


def test_the_table_has_every_metric() -> None:
    assert list(EXPECTED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_on_every_degenerate_input(name: str) -> None:
    found = {column: cell(name, column) for column in COLUMNS}
    assert "".join(symbol(f) for f in found.values()) == EXPECTED[name]
    low, high = evaluation.get(name, **({"masks": np.ones((8, 8))} if needs_masks(name) else {})).range  # type: ignore[attr-defined]
    for column, scores in found.items():
        if isinstance(scores, str):
            assert len(scores.split()) > 5, scores
            continue
        known = scores.value[np.isfinite(scores.value)]
        assert (
            (known >= (-np.inf if low is None else low - 1e-9)) & (known <= (np.inf if high is None else high + 1e-9))
        ).all()
        if name != "completeness_gap":  # it sums the map and ranks nothing
            assert (scores.extras["degenerate"] == (column in FLAT)).all(), column


def needs_masks(name: str) -> bool:
    return (
        name not in ("pointing",)
        and "masks" in next(e.metric for e in evaluation.discover() if e.name == name).__dataclass_fields__
    )


@pytest.mark.parametrize("name", [n for n in NAMES if not EXPECTED[n].startswith("xxx")])
def test_maps_that_are_not_finite_have_no_value(name: str) -> None:
    for kind, change in UNUSABLE.items():
        scores = judged(name, ask(), change)
        assert isinstance(scores, Scores)
        assert np.isnan(scores.value).all(), kind
        assert (scores.extras.get("degenerate", np.ones(4)) == 1).all()


@pytest.mark.parametrize("name", [n for n in NAMES if EXPECTED.get(n, "")[1:2] == "·"])
def test_a_constant_map_is_ranked_by_the_seed_alone(name: str) -> None:
    """So it says what a map of zeros says, where only the order counts."""
    one, other = cell(name, "constant"), cell(name, "zero")
    assert isinstance(one, Scores)
    assert isinstance(other, Scores)
    if getattr(metric_of(name, ask()), "invariant_to", "order") == "order" and name != "completeness_gap":
        np.testing.assert_array_equal(one.value, other.value)


AXES: list[dict[str, Any]] = [
    {"unit": "patch", "size": 3},
    {"unit": "segment", "size": 4},
    {"unit": "element"},
    {"steps": {"percentiles": [90, 50, 10]}},
    {"steps": {"floor": 3}},
    {"refill": True},
    {"score": "ratio"},
    {"score": "ratio", "aggregation": "mean_curve"},
    {"score": "drop", "order": "lerf", "ties": "flipped"},
    {"aggregation": "mean_curve"},
    {"endpoints": "neither", "area": "mean"},
    {"fill": "inpaint"},
    {"fill": "noisy_linear"},
]


def answer(question: Question, maps: Array) -> Attribution:
    return Attribution((maps,), question.modalities, question.ids, "test")


@pytest.mark.parametrize("options", AXES, ids=str)
def test_the_axes_of_curves(options: dict[str, Any]) -> None:
    metric, question = Deletion(**{"steps": 4, **options}), ask()
    changes = {**UNUSABLE, **FLAT, **SIGNED}
    maps = [answer(question, change(plain(question))) for change in changes.values()]  # type: ignore[operator]
    found = dict(zip(changes, [row[0] for row in evaluate(question, maps, [metric])], strict=True))
    for kind, scores in found.items():
        assert np.isnan(scores.value).all() == (kind in UNUSABLE), kind
        assert np.isnan(metric.total(scores)) == (kind in UNUSABLE)
    np.testing.assert_array_equal(found["constant"].value, found["zero"].value)
    for label, make in QUESTIONS.items():
        asked = make()
        image_only = options.get("unit") in ("patch", "segment") or "fill" in options
        if label == "one column" and image_only:
            with pytest.raises(Unsupported, match=r"a table has no patches|imputes whole pixels of 2-D images"):
                metric(asked, answer(asked, plain(asked)))
            continue
        scores = metric(asked, answer(asked, plain(asked)))
        # Nothing lies between the ends of one unit; nothing is a share of zero.
        no_inner = options.get("endpoints") == "neither" and label in ("one pixel", "one column")
        assert np.isnan(scores.value).all() == (
            no_inner or (label == "score of 0" and options.get("score") == "ratio")
        ), label
        assert np.isnan(metric.total(scores)) == np.isnan(scores.value).all()


def test_estimates() -> None:
    for question in (ask(), *[make() for make in QUESTIONS.values()]):
        maps = answer(question, plain(question))
        for change in (np.copy, UNUSABLE["NaN"], FLAT["zero"]) if question.modalities[0].spatial else (np.copy,):
            changed = replace(maps, values=(change(maps.values[0]),))  # type: ignore[operator]
            for precision in (None, 0.05):
                found = auto.estimate(question, [changed], [Deletion(40)], points=6, precision=precision).table[0][0]
                usable = change is not UNUSABLE["NaN"]
                assert found.n == (len(question) if usable else 0)
                assert np.isfinite(found.mean) == usable
                if usable:  # of one sample, its own curve's error
                    assert found.low <= found.mean <= found.high


def test_statistics_of_little() -> None:
    one = statistics.summarise([0.5])
    assert (one.mean, one.n) == (0.5, 1)
    assert np.isnan([one.low, one.high]).all()
    for values in ([], [np.nan] * 3):
        nothing = statistics.summarise(values)
        assert nothing.n == 0
        assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()
    for test in ("sign_flip", "wilcoxon"):
        pair = statistics.compare([0.5], [0.0], True, test=test)  # type: ignore[arg-type]
        assert (pair.p, pair.better) == (1.0, False)
        assert np.isnan(pair.low)
        assert np.isnan(statistics.compare([np.nan], [0.0], True, test=test).p)  # type: ignore[arg-type]
    assert np.isnan(certainty.flips([1.0], [1.0]).tau)
    assert certainty.flips([np.nan, 1], [1, 2]).pairs == 0


@pytest.mark.parametrize("question", [ask(n=1), ask(side=1), ask(classes=5000, n=2)], ids=["one", "pixel", "many"])
def test_presets(question: Question) -> None:
    for name in presets.PRESETS:
        metrics = presets.get(name)
        kinds = (np.copy, *UNUSABLE.values(), *FLAT.values())
        maps = [answer(question, kind(plain(question))) for kind in kinds]  # type: ignore[operator]
        for kind, row in zip(kinds, evaluate(question, maps, metrics), strict=True):
            for metric, scores in zip(metrics, row, strict=True):
                # Nothing lies between the ends of one pixel; relative curves and the rest have a number.
                inner = question.values[0].shape[1] > 1 or scores.curve is None or scores.curve.shape[1] > 0
                assert np.isfinite(metric.total(scores)) == (kind not in UNUSABLE.values() and inner), (
                    name,
                    metric.name,
                )


MODELS = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.files import Samples

def made(shape, n, classes):
    modality = Modality.image() if len(shape) == 3 else Modality.table(('age',))
    rng = np.random.default_rng(0)
    w = rng.normal(size=(int(np.prod(shape)), classes))
    x = rng.random((n, *shape)).astype(np.float32)
    names = tuple(f'class{i}' for i in range(classes))
    def data():
        return Samples(tuple(f's{i}' for i in range(n)), (modality,), {modality.name: x}, np.arange(n) % classes, names)
    def model():
        return FunctionModel(lambda x: x.reshape(len(x), -1) @ w, (modality,))
    return data, model

sample_data, sample_model = made((8, 8, 3), 1, 2)
pixel_data, pixel_model = made((1, 1, 3), 2, 2)
column_data, column_model = made((1,), 3, 2)
many_data, many_model = made((8, 8, 3), 2, 5000)
"""


@pytest.mark.parametrize("which", ["sample", "pixel", "column", "many"])
def test_a_run_with_its_report_and_its_rankings(which: str, tmp_path: Path) -> None:
    (tmp_path / "little.py").write_text(MODELS)
    metrics = [n for n in NAMES if not needs_masks(n) and n not in ("centre_share", "pointing")]
    metrics = ["deletion", "insertion", "completeness_gap", "random_logit"] if which == "many" else metrics
    content = {
        "data": {"factory": f"little:{which}_data"},
        "models": [{"name": "m", "factory": f"little:{which}_model"}],
        "explainers": [
            {"name": "captum.occlusion", "params": {"patch": 1, "stride": 1}},
            {"name": "controls.random"},
            {"name": "controls.centre"},
        ],
        "metrics": [*({"name": n} for n in metrics), {"name": "pointing", "params": {"size": 1}}],
    }
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    report = (tmp_path / "out/report.md").read_text(encoding="utf-8")
    assert "deletion" in report
    names = "ours,xplique,torchcam,interpretdl"
    ranked = crossxai("evaluate", str(tmp_path / "out"), "--preset", names, "--experiment", str(tmp_path / "e.toml"))
    assert ranked.exit_code == 0, ranked.output
    assert "nan" not in ranked.output.split("Tables:")[0].rpartition("change places")[2]

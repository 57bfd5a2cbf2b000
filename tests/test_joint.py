"""Joint deletion and insertion: one ranking over pixels and columns, for maps that add up and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import zoo
from networks.counting import IMAGE, SIDE, TABLE, answer, ask, contributions

from crossxai import Attribution, InvalidInput, Question, UnknownName, Unsupported, explainers
from crossxai.evaluation import get
from crossxai.evaluation.curves import Deletion, Insertion

PIXELS = SIDE * SIDE


def linear(**options: Any) -> tuple[Question, Attribution]:
    question = ask(modalities=(IMAGE, TABLE), link="identity", linear=True, **options)
    return question, answer(question, *contributions(question), completeness_gap=np.zeros(len(question)))


def test_one_ranking_over_pixels_and_columns() -> None:
    question, truth = linear()
    parts = [np.concatenate([truth.of("image")[i].sum(axis=-1).ravel(), truth.of("table")[i]]) for i in range(4)]
    best_first = -np.sort(-np.array(parts), axis=1)
    gone = np.concatenate([np.zeros((4, 1)), np.cumsum(best_first, axis=1)], axis=1)
    units = PIXELS + 3
    deletion = get("joint_deletion", steps=units)(question, truth)
    insertion = get("joint_insertion", steps=units)(question, truth)
    np.testing.assert_allclose(deletion.curve, gone[:, -1:] - gone, atol=1e-12)
    np.testing.assert_allclose(insertion.curve, gone, atol=1e-12)
    np.testing.assert_allclose(deletion.fractions, np.arange(units + 1) / units)
    np.testing.assert_allclose(insertion.value, (gone[:, 1:] + gone[:, :-1]).mean(axis=1) / 2, atol=1e-12)
    assert not deletion.extras["relative_gap"].any()


def test_columns_are_removed_where_they_rank() -> None:
    """The table's column of most relevance is the first unit to go, before any pixel."""
    question, truth = linear(n=1)
    first = int(np.argmax(truth.of("table")[0]))
    big = truth.of("table").copy()
    big[0, first] = 100
    curve = get("joint_deletion", steps=PIXELS + 3)(question, replace(truth, values=(truth.of("image"), big))).curve
    table = question.inputs[1].copy()
    table[0, first] = 0
    assert curve is not None
    assert curve[0, 1] == pytest.approx(question.score((question.inputs[0], table))[0])


@pytest.mark.parametrize("name", ["joint_deletion", "joint_insertion"])
def test_truth_beats_random_beats_reversed(name: str) -> None:
    question, truth = linear(n=8)
    rng = np.random.default_rng(0)
    maps = [truth.values, [rng.normal(size=v.shape) for v in truth.values], [-v for v in truth.values]]
    metric = get(name)
    means = [float(metric(question, replace(truth, values=tuple(m))).value.mean()) for m in maps]
    assert (np.diff(means) < 0).all() if metric.higher_is_better else (np.diff(means) > 0).all()


def test_of_one_modality_it_is_deletion() -> None:
    question, truth = linear()
    alone = question.only("image")
    image = Attribution((truth.of("image"),), alone.modalities, alone.ids, "test", extras=truth.extras)
    for joint, plain in (("joint_deletion", Deletion(7)), ("joint_insertion", Insertion(7, "blur"))):
        found = get(joint, steps=7, fill=plain.fill)(alone, image)
        np.testing.assert_allclose(found.curve, plain(alone, image).curve, atol=1e-12)


@pytest.mark.parametrize("task", ["class", "regression", "segmentation"])
def test_costs_batches_tasks_and_broken_maps(task: str) -> None:
    question = ask(modalities=(IMAGE, TABLE), task=task)
    rng = np.random.default_rng(0)
    values = tuple(rng.normal(size=v.shape) for v in question.inputs)
    values[1][2, 1] = np.nan
    values[0][2, 0, :2, 0] = np.inf, -np.inf  # whose sum would be a warning
    a = answer(question, *values, completeness_gap=np.zeros(4))
    metric: Any = get("joint_deletion", steps=5, fills={"image": "blur", "table": {"dataset_mean": [0.1, 0.2, 0.3]}})
    scores = metric(question, a)
    assert question.model.seen == 3 * metric.passes(question) == 3 * 6  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.isnan(scores.value), [False, False, True, False])
    assert np.isnan(scores.extras["relative_gap"][2])
    assert scores.params["fills"] == {"image": {"blur": 5.0}, "table": {"dataset_mean": [0.1, 0.2, 0.3]}}
    rows = [3, 0]
    part = replace(a, values=tuple(v[rows] for v in values), ids=("s3", "s0"), extras={"completeness_gap": np.zeros(2)})
    np.testing.assert_allclose(metric(replace(question, batch_size=2)[rows], part).value, scores.value[rows], rtol=1e-9)


def test_maps_that_do_not_add_up_are_refused_with_the_reason() -> None:
    question, truth = linear()
    metric = get("joint_deletion")
    with pytest.raises(Unsupported, match=r"gives no completeness_gap\.image, which would show that its maps add up"):
        metric(question, replace(truth, extras={}))
    with pytest.raises(Unsupported, match=r"gives no completeness_gap\.table"):
        metric(question, replace(truth, extras={"completeness_gap.image": np.zeros(4)}))
    change = sum(v.reshape(4, -1).sum(axis=1) for v in truth.values)
    for share, fine in ((0.04, True), (0.5, False)):
        # A map that sums to (1 + share) of the change has a gap of that share of it.
        bigger = tuple(v * (1 + share) for v in truth.values)
        off = replace(truth, values=bigger, extras={"completeness_gap": share * change})
        if fine:
            np.testing.assert_allclose(metric(question, off).extras["relative_gap"], share)
            continue
        with pytest.raises(Unsupported, match=r"do not add up .* is 50% of it, 5% are allowed"):
            metric(question, off)
        assert np.isfinite(get("joint_deletion", tolerance=0.6)(question, off).value).all()
    zero = replace(truth, values=tuple(0 * v for v in truth.values), extras={"completeness_gap": np.ones(4)})
    with pytest.raises(Unsupported, match="is 100% of it"):
        metric(question, zero)
    with pytest.raises(Unsupported, match="has no map of table"):
        metric(question, Attribution((truth.of("image"),), (IMAGE,), truth.ids, "test", extras=truth.extras))
    with pytest.raises(Unsupported, match="add up over image, table together, the question asks about image alone"):
        metric(question.only("image"), truth)
    with pytest.raises(InvalidInput, match="one number per sample"):
        metric(question, replace(truth, extras={"completeness_gap": np.zeros(3)}))


@pytest.mark.parametrize(
    "name", ["captum.integrated_gradients", "xplique.integrated_gradients", "reference.integrated_gradients"]
)
def test_integrated_gradients_of_every_library_are_judged(name: str) -> None:
    """Maps of both modalities at once, or of each with the other held: either way in the unit of the score."""
    question = zoo.question("keras" if name.startswith("xplique") else "torch", "image+table", dtype="float64")
    found = explainers.get(name, profile="canonical", steps=300)(question)
    deletion = get("joint_deletion", steps=8)(question, found)
    assert np.isfinite(deletion.value).all()
    assert (deletion.extras["relative_gap"] < 0.05).all()
    other = explainers.get("reference.gradient_x_input")(question)
    with pytest.raises(Unsupported, match=r"reference\.gradient_x_input gives no completeness_gap"):
        get("joint_deletion")(question, other)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"seed": 1.5}, "seed must be a whole number of at least 0"),
        ({"tolerance": 0}, "tolerance must be a positive share"),
        ({"fills": "blur"}, "one fill per modality"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        get("joint_deletion", **params)


def test_fills_that_do_not_fit() -> None:
    question, truth = linear()
    with pytest.raises(UnknownName, match="did you mean image"):
        get("joint_deletion", fills={"imag": "blur"})(question, truth)
    with pytest.raises(Unsupported, match="needs an image, modality 'table' is a table"):
        get("joint_insertion", fill="blur")(question, truth)

"""Modality importance: shares by mean, by sum and by ablation, where they agree, where they need not, and what has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import zoo
from networks.counting import IMAGE, TABLE, answer, ask

from crossxai import Attribution, InvalidInput, Modality, Question, Target, UnknownName, Unsupported, explainers
from crossxai.adapters.numpy import FunctionModel
from crossxai.evaluation import get
from crossxai.evaluation.metrics.modality import agreement, drop_shares, net, shares
from crossxai.evaluation.metrics.stability import NoiseCorrelation
from crossxai.testing.oracles import pair_question

T1, T2 = Modality.image("t1", ("grey",)), Modality.image("t2", ("grey",))


def test_mean_and_sum_divide_by_units_or_not() -> None:
    image, table = np.full((2, 4, 4), 0.5), np.array([[1.0, -2.0], [0.0, 0.0]])
    np.testing.assert_allclose(shares([image, table], "mean"), [[0.25, 0.75], [1, 0]])
    np.testing.assert_allclose(shares([image, table], "sum"), [[8 / 11, 3 / 11], [1, 0]])
    np.testing.assert_allclose(net([image, table]), [[8, -1], [8, 0]])
    np.testing.assert_allclose(drop_shares([[3, -1], [0, 0], [np.nan, 1]]), [[0.75, 0.25], [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_allclose(agreement(np.array([[0.25, 0.75]]), np.array([[0.75, 0.25]])), 0.5)
    huge = [np.full((1, 4), 1e308), np.full((1, 2), 1e308)]
    np.testing.assert_allclose(shares(huge, "sum"), [[2 / 3, 1 / 3]])


def test_maps_without_a_share() -> None:
    image, table = np.ones((4, 2, 2)), np.ones((4, 3))
    image[0], table[0] = 0, 0
    image[1, 0, 0], table[2, 0] = np.nan, np.inf
    assert np.isnan(shares([image, table], "mean")).all(axis=1).tolist() == [True, True, True, False]


def test_the_share_of_a_named_modality() -> None:
    question, truth = pair_question()
    image, table = (get("modality_share", modality=m)(question, truth) for m in ("image", "table"))
    np.testing.assert_allclose(image.value + table.value, 1)
    pixels, columns = truth.of("image")[..., 0], truth.of("table")
    np.testing.assert_allclose(
        image.value, pixels.mean(axis=(1, 2)) / (pixels.mean(axis=(1, 2)) + columns.mean(axis=1))
    )
    summed = get("modality_share", of="sum")(question, truth)
    np.testing.assert_allclose(summed.value, pixels.sum(axis=(1, 2)) / (pixels.sum(axis=(1, 2)) + columns.sum(axis=1)))
    assert summed.params == {"of": "sum", "modality": "image", "reduction": "sum"}
    # The maps add up, so that the net parts are the score itself, the baseline being zero.
    total = image.extras["net.image"] + image.extras["net.table"]
    np.testing.assert_allclose(total, question.score())
    unsaid = get("modality_share")(question, replace(truth, extras={}))
    assert "net.image" not in unsaid.extras


def test_agreement_with_ablation() -> None:
    question, truth = pair_question()
    by_sum = get("modality_agreement", of="sum")(question, truth)
    # All contributions are positive: the sum's shares are those of the drops.
    np.testing.assert_allclose(by_sum.value, 1)
    np.testing.assert_allclose(by_sum.extras["drop.image"], truth.of("image").reshape(12, -1).sum(axis=1))
    np.testing.assert_allclose(get("modality_agreement")(question, truth).value, 1)
    by_mean = get("modality_agreement", of="mean")(question, truth)
    assert (by_mean.value < 0.98).all()  # a column is worth a thirtieth of a pixel, and there are 3 of 67
    turned = replace(truth, values=(truth.values[0] * 1e-6, truth.values[1]))
    assert (get("modality_agreement")(question, turned).value < 0.1).all()
    noise = replace(truth, values=tuple(np.random.default_rng(0).normal(size=v.shape) for v in truth.values))
    assert (get("modality_agreement")(question, noise).value < by_sum.value - 0.005).all()
    drops = explainers.get("captum.modality_ablation")(question).extras["modality_drop"]
    np.testing.assert_allclose(drops[:, 1], by_sum.extras["drop.table"], rtol=1e-5)


def test_ablation_takes_a_baseline_of_each_column() -> None:
    question, _ = pair_question(n=3)
    means = question.inputs[1].mean(axis=0).tolist()
    ablation = explainers.get("captum.modality_ablation", baselines={"table": means})
    drops = ablation(question).extras["modality_drop"]
    metric: Any = get("modality_agreement", fills={"table": {"dataset_mean": means}})
    np.testing.assert_allclose(drops, metric.drops(question), rtol=1e-5, atol=1e-6)
    whole = explainers.get("captum.modality_ablation", baselines={"table": 0.0, "image": 0.5})(question)
    grey = question.score((np.full_like(question.inputs[0], 0.5), question.inputs[1]))
    np.testing.assert_allclose(whole.extras["modality_drop"][:, 0], question.score() - grey, rtol=1e-5)
    with pytest.raises(UnknownName, match="did you mean table"):
        explainers.get("captum.modality_ablation", baselines={"tabel": 0.0})(question)
    with pytest.raises(InvalidInput, match="2 baselines for 'table', which has 3 features"):
        explainers.get("captum.modality_ablation", baselines={"table": [1.0, 2.0]})(question)
    for wrong in (0.5, {"table": "mean"}, {"table": [float("nan")]}):
        with pytest.raises(InvalidInput, match="baselines is a number, or one per channel or column"):
            explainers.get("captum.modality_ablation", baselines=wrong)


@pytest.mark.parametrize("task", ["class", "regression", "segmentation"])
def test_cost_fills_and_batches(task: str) -> None:
    question = ask(modalities=(IMAGE, TABLE), task=task)
    a = answer(question, *(np.random.default_rng(0).normal(size=v.shape) for v in question.inputs))
    metric: Any = get("modality_agreement", fills={"image": "blur", "table": {"dataset_mean": [0.1, 0.2, 0.3]}})
    found = metric(question, a)
    assert question.model.seen == 4 * metric.passes(question) == 12  # type: ignore[attr-defined]
    assert found.params["fills"] == {"image": {"blur": 5.0}, "table": {"dataset_mean": [0.1, 0.2, 0.3]}}
    table = np.broadcast_to(np.array([0.1, 0.2, 0.3]), (4, 3)).copy()
    drop = question.score() - question.score((question.inputs[0], table))
    np.testing.assert_allclose(found.extras["drop.table"], drop)
    rows = [3, 0]
    part = replace(a, values=tuple(v[rows] for v in a.values), ids=("s3", "s0"))
    np.testing.assert_allclose(metric(replace(question, batch_size=2)[rows], part).value, found.value[rows], rtol=1e-9)


def test_what_is_refused() -> None:
    question, truth = pair_question()
    for name in ("modality_share", "modality_agreement"):
        metric: Any = get(name)
        with pytest.raises(Unsupported, match="only 'image' is free: ask about a question of several modalities"):
            metric(question.only("image"), truth)
        image = Attribution(truth.values[:1], truth.modalities[:1], truth.ids, "test")
        with pytest.raises(Unsupported, match="test has no map of table, so there is nothing to share out"):
            metric(question, image)
        with pytest.raises(InvalidInput, match="unknown of 'median': write mean or sum"):
            get(name, of="median")
    with pytest.raises(UnknownName, match="did you mean table"):
        get("modality_share", modality="tabel")(question, truth)
    with pytest.raises(UnknownName, match="did you mean table"):
        get("modality_agreement", fills={"tabel": "zero"})(question, truth)
    with pytest.raises(InvalidInput, match="fills is one fill per modality"):
        get("modality_agreement", fills="zero")
    with pytest.raises(Unsupported, match="needs an image, modality 'table' is a table"):
        get("modality_agreement", fill="blur")(question, truth)


def test_zero_maps_have_no_share_and_are_counted() -> None:
    question, truth = pair_question(n=3)
    values = tuple(v.copy() for v in truth.values)
    for v in values:
        v[1] = 0
    values[1][2, 0] = np.nan
    for name in ("modality_share", "modality_agreement"):
        found = get(name)(question, replace(truth, values=values))
        assert np.isnan(found.value).tolist() == [False, True, True]
        assert found.extras["degenerate"].tolist() == [0, 1, 1]


def two_images(task: str = "regression") -> tuple[Question, np.ndarray]:
    """Two images with a bright square each, elsewhere; the model looks at both squares."""
    rng = np.random.default_rng(0)
    masks = np.zeros((2, 16, 16), bool)
    masks[0, 2:6, 2:6], masks[1, 9:14, 9:14] = True, True
    values = [(rng.uniform(0, 0.2, (3, 16, 16)) + 0.7 * mask)[..., None] for mask in masks]

    def f(t1: np.ndarray, t2: np.ndarray) -> np.ndarray:
        seen = (t1[..., 0] * masks[0]).sum(axis=(1, 2)) + 2 * (t2[..., 0] * masks[1]).sum(axis=(1, 2))
        return seen[:, None]

    return Question(FunctionModel(f, (T1, T2)), tuple(values), Target.outputs(0, 3, 1)), masks


LOCAL: list[tuple[str, dict[str, Any]]] = [
    ("pointing", {}),
    ("mask_share", {}),
    ("mask_dice", {"by": "value"}),
    ("mask_iou", {"steps": 256}),
    ("relevance_rank", {}),
    ("auprc", {}),
    ("top_k_intersection", {"share": 0.05}),
]


@pytest.mark.parametrize(("name", "params"), LOCAL)
def test_localisation_of_a_named_image_of_two(name: str, params: dict[str, Any]) -> None:
    question, masks = two_images()
    truth = tuple(v * m[None, ..., None] for v, m in zip(question.inputs, masks, strict=True))
    a = Attribution(truth, question.modalities, question.ids, "truth")
    for modality, own, other in (("t1", masks[0], masks[1]), ("t2", masks[1], masks[0])):
        right = get(name, masks=own, modality=modality, **params)(question, a)
        wrong = get(name, masks=other, modality=modality, **params)(question, a)
        assert (right.value > 0.99).all()
        assert (wrong.value < 0.5).all()
        assert right.params["modality"] == modality
    with pytest.raises(Unsupported, match="write modality='t1'"):
        get(name, masks=masks[0], **params)(question, a)


@pytest.mark.parametrize(
    ("inputs", "modality"), [("image+image", "t2"), ("image+table", "table"), ("image+table", "t1")]
)
@pytest.mark.parametrize("task", ["class", "regression", "segmentation"])
def test_noise_correlation_of_several_modalities_and_tasks(inputs: str, modality: str, task: str) -> None:
    question = zoo.question("torch", inputs, task, n=4)
    explainer = explainers.get("captum.input_x_gradient")
    found = NoiseCorrelation(modality=modality, draws=2)(question, explainer(question), explainer)
    assert found.value.shape == (4,)
    assert (found.value <= 1).all()
    assert (found.value < 1 - 1e-9).any()  # something moved
    assert (found.extras["lowest"] <= found.value).all()
    assert found.params["modality"] == modality


def test_noise_on_a_table_is_in_units_of_each_column() -> None:
    """Of 0.01 years nothing would move; of 0.01 standard deviations every column does, each by its own."""
    rng = np.random.default_rng(0)
    rows = np.stack([rng.normal(60, 10, 500), rng.normal(0.5, 0.2, 500)], axis=1)
    model = FunctionModel(lambda table: table.sum(axis=1, keepdims=True), (Modality.table(("age", "index")),))
    question = Question(model, (rows,), Target.outputs(0, 500, 1))

    def moved(metric: NoiseCorrelation) -> np.ndarray:
        scaled = replace(metric, scale=metric.units(question))
        (other,) = scaled.noisy(question, question.modalities[0])
        return np.asarray((other.inputs[0] - rows).std(axis=0))

    np.testing.assert_allclose(moved(NoiseCorrelation(draws=1)), 0.01 * rows.std(axis=0), rtol=0.1)
    np.testing.assert_allclose(moved(NoiseCorrelation(draws=1, scale="raw")), [0.01, 0.01], rtol=0.1)
    np.testing.assert_allclose(moved(NoiseCorrelation(draws=1, scale=[100, 1])), [1, 0.01], rtol=0.1)  # type: ignore[arg-type]
    assert NoiseCorrelation().units(question) == tuple(rows.std(axis=0).tolist())
    with pytest.raises(Unsupported, match="all columns of 'table' are constant over these samples: write scale="):
        NoiseCorrelation().check(question[[0]])
    with pytest.raises(InvalidInput, match="scale has 3 numbers, modality 'table' has 2 features"):
        NoiseCorrelation(scale=(1.0, 2.0, 3.0)).check(question)
    still = NoiseCorrelation(draws=1, scale=(0.0, 1.0))  # as of a column that no sample differs in
    np.testing.assert_allclose(moved(still), [0, 0.01], rtol=0.1)
    for wrong in ("sd", (), (1.0, -1.0), (0.0, 0.0), (0.0, float("nan"))):
        with pytest.raises(InvalidInput, match="scale"):
            NoiseCorrelation(scale=wrong)  # type: ignore[arg-type]
    explainer = explainers.get("reference.kernel_shap")
    one_constant = Question(model, (rows * [1, 0],), Target.outputs(0, 500, 1))
    assert NoiseCorrelation(draws=1)(one_constant, explainer(one_constant), explainer).value.shape == (500,)


def test_the_scale_is_that_of_all_samples_in_any_block() -> None:
    question = zoo.question("torch", "image+table", n=6, batch_size=1)  # blocks of four samples
    explainer = explainers.get("captum.input_x_gradient")
    metric = NoiseCorrelation(modality="table", draws=1)
    found = metric(question, explainer(question), explainer)
    large = metric(replace(question, batch_size=6), explainer(question), explainer)
    np.testing.assert_allclose(found.value, large.value, rtol=1e-4)
    assert found.params["scale"] == tuple(question.inputs[1].astype(np.float64).std(axis=0).tolist())

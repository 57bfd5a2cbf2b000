"""Faithfulness metrics: what they all promise, their published definitions written a second way, and Xplique's number."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from networks.counting import IMAGE, SIDE, TABLE, answer, ask, contributions, some_map
from scipy.stats import pearsonr, spearmanr

from crossxai import Attribution, InvalidInput, Modality, Question, Target, Unsupported
from crossxai.evaluation import get
from crossxai.evaluation.curves import Deletion, Insertion, ranks
from crossxai.evaluation.curves.ranks import patches
from crossxai.testing import check_metric, linear_question

CHEAP: dict[str, dict[str, Any]] = {
    "aopc": {"steps": 6},
    "morf_lerf": {"steps": 6},
    "sufficiency": {},
    "comprehensiveness": {},
    "faithfulness_correlation": {"subsets": 12},
    "mu_fidelity": {"subsets": 12, "grid": 4},
    "sensitivity_n": {"subsets": 6},
    "irof": {"segments": 16, "steps": 2},
    "road": {"percentiles": (20, 50, 80)},
    "road_morf": {"percentiles": (20, 50, 80)},
    "road_lerf": {"percentiles": (20, 50, 80)},
    "infidelity": {"samples": 12},
}
BY_CORRELATION = {"faithfulness_correlation", "mu_fidelity", "sensitivity_n"}
IMAGES_ONLY = {"irof", "road", "road_morf", "road_lerf", "infidelity"}


def make(name: str, **params: Any) -> Any:
    return get(name, **{**CHEAP[name], **params})


@pytest.mark.parametrize("name", CHEAP)
def test_costs_what_it_says_in_full_batches_and_skips_broken_maps(name: str) -> None:
    question, metric = ask(), make(name)
    values = some_map(question)
    values[2, 1, 1] = np.nan
    scores = metric(question, answer(question, values))
    each = metric.passes(question)
    assert question.model.seen == 3 * each
    assert question.model.largest <= question.batch_size
    np.testing.assert_array_equal(np.isnan(scores.value), [False, False, True, False])
    np.testing.assert_array_equal(scores.extras["degenerate"], [0, 0, 1, 0])
    low, high = metric.range
    assert low is None or (scores.value[[0, 1, 3]] >= low).all()
    assert high is None or (scores.value[[0, 1, 3]] <= high).all()
    assert scores.params["modality"] == "image"
    assert scores.params["link"] == "softmax"
    assert metric.source[-4:].isdigit()


@pytest.mark.parametrize("name", ["aopc", "mu_fidelity", "infidelity", "irof"])
def test_memory_does_not_grow_with_copies_times_samples(name: str) -> None:
    metric = make(
        name, **{"aopc": {"steps": 60}, "mu_fidelity": {"subsets": 60}, "infidelity": {"samples": 60}}.get(name, {})
    )
    peaks = []
    for n in (4, 4, 24):  # the first run pays for what is imported and cached once
        question = ask(n=n, side=24, task="regression")
        a = answer(question, some_map(question))
        tracemalloc.start()
        metric(question, a)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    image = 24 * 24 * 3 * 8
    assert peaks[2] - peaks[1] < 20 * 2 * image


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("batch_size", [1, 1000])
def test_depends_on_neither_batch_nor_order_nor_precision_of_others(name: str, batch_size: int) -> None:
    whole, metric = ask(), make(name)
    values = np.round(some_map(whole), 0)  # full of ties
    expected = metric(whole, answer(whole, values)).value
    rows = [3, 0]
    part = ask(batch_size=batch_size)[rows]
    np.testing.assert_allclose(metric(part, answer(part, values[rows])).value, expected[rows], rtol=1e-9)


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize(
    "task", ["class", "logit", "regression", "segmentation", "float32", "a thousand classes", "one sample"]
)
def test_tasks(name: str, task: str) -> None:
    options: dict[str, Any] = {
        "logit": {"link": "identity"},
        "regression": {"task": "regression"},
        "segmentation": {"task": "segmentation"},
        "float32": {"dtype": np.float32},
        "a thousand classes": {"classes": 1000},
        "one sample": {"n": 1},
    }
    question = ask(**options.get(task, {}))
    relative = {"relative": False} if name == "irof" and task in ("logit", "regression") else {}
    scores = make(name, **relative)(question, answer(question, some_map(question, 3)))
    assert scores.value.shape == (len(question),)
    assert np.isfinite(scores.value).all()


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("kind", ["zero", "constant", "negative", "integer", "boolean"])
def test_degenerate_maps_are_values_or_nan_never_errors(name: str, kind: str) -> None:
    question = ask()
    values = some_map(question)
    shown = {
        "zero": 0 * values,
        "constant": np.full_like(values, -0.1),
        "negative": -np.exp(values),
        "integer": np.round(3 * values).astype(np.int64),
        "boolean": values > 0,
    }[kind]
    scores = make(name)(question, answer(question, shown))
    flat = kind in ("zero", "constant")
    np.testing.assert_array_equal(scores.extras["degenerate"], float(flat))
    if name in ("faithfulness_correlation", "sensitivity_n") or (name in BY_CORRELATION and kind == "zero"):
        assert np.isnan(scores.value).all() == flat
    else:
        assert np.isfinite(scores.value).all()


@pytest.mark.parametrize("name", CHEAP)
def test_smallest_inputs(name: str) -> None:
    pixel = ask(side=1)
    scores = make(name)(pixel, answer(pixel, np.ones((4, 1, 1, 1))))
    assert np.isnan(scores.value).all() == (name in BY_CORRELATION)
    assert pixel.model.seen == 4 * make(name).passes(pixel)
    column = ask(modalities=(Modality.table(("age",)),))
    one = answer(column, np.ones((4, 1)))
    if name in IMAGES_ONLY:
        with pytest.raises(Unsupported, match="'table' is a table"):
            make(name)(column, one)
        return
    scores = make(name)(column, one)
    assert np.isnan(scores.value).all() == (name in BY_CORRELATION)


@pytest.mark.parametrize("name", CHEAP)
def test_a_score_that_nothing_moves(name: str) -> None:
    question = ask(task="regression")
    question.model.weights[0][:] = 0
    scores = make(name)(question, answer(question, some_map(question)))
    if name in BY_CORRELATION | {"irof"}:  # nothing to correlate, or to be a share of
        assert np.isnan(scores.value).all()
    else:
        np.testing.assert_array_equal(scores.value, 0)


@pytest.mark.parametrize("name", CHEAP)
def test_one_modality_of_two(name: str) -> None:
    question = ask(modalities=(IMAGE, TABLE))
    both = answer(question, some_map(question), np.random.default_rng(1).normal(size=(4, 3)))
    with pytest.raises(Unsupported, match="write modality='image'"):
        make(name)(question, both)
    alone = question.only("image")
    expected = make(name)(alone, answer(alone, both.values[0])).value
    np.testing.assert_allclose(make(name, modality="image")(question, both).value, expected)
    if name not in IMAGES_ONLY:
        assert np.isfinite(make(name, modality="table", **({} if name != "mu_fidelity" else {"subsets": 60}))(
            question, both).value).all()  # fmt: skip


@pytest.mark.parametrize("name", CHEAP)
def test_truth_beats_random_beats_reversed_on_a_signed_linear_model(name: str) -> None:
    question = ask(n=8, link="identity", linear=True)
    params: dict[str, Any] = {"relative": False, "fill": "zero", "segments": 30, "steps": 0} if name == "irof" else {}
    params = {"perturbation": "subset", "samples": 100} if name == "infidelity" else params
    (truth,) = contributions(question)
    if name.startswith("road"):  # removed pixels become their neighbours, not zero: the truth is the weight itself
        mean = question.inputs[0].mean(axis=(1, 2), keepdims=True)
        truth = truth / question.inputs[0] * (question.inputs[0] - mean)
    metric = make(name, **params)
    maps = [truth, some_map(question, 3) * truth.std(), -truth]
    means = [float(metric(question, answer(question, m)).value.mean()) for m in maps]
    assert (np.diff(means) < 0).all() if metric.higher_is_better else (np.diff(means) > 0).all()


def removed(question: Question, row: int, units: Any, fill: float = 0.0) -> float:
    """The score of one sample with some pixels filled, the plain way."""
    copy = question.inputs[0][row].copy()
    for unit in units:
        copy[unit // SIDE, unit % SIDE] = fill
    return float(question.score((copy[None],), [row])[0])


def ranked(values: Any, row: int) -> list[int]:
    flat = values[row].sum(axis=-1).ravel()
    return sorted(range(flat.size), key=lambda unit: -flat[unit])


def test_aopc_is_the_mean_drop() -> None:
    question = ask()
    values = some_map(question, 3)
    scores = make("aopc", steps=8, share=0.5)(question, answer(question, values))
    for row in range(4):
        order = ranked(values, row)
        drops = [removed(question, row, []) - removed(question, row, order[: 4 * k]) for k in range(9)]
        assert scores.value[row] == pytest.approx(sum(drops) / 9, abs=1e-12)
    assert scores.fractions[-1] == 0.5
    whole, curve = make("aopc", steps=8), Deletion(8)(question, answer(question, values)).curve
    found = whole(question, answer(question, values))
    np.testing.assert_allclose(found.curve, curve, atol=1e-12)
    np.testing.assert_allclose(found.value, curve[:, 0] - curve.mean(axis=1), atol=1e-12)


def test_aopc_of_patches_removes_whole_patches() -> None:
    np.testing.assert_array_equal(patches((3, 4), 2).reshape(3, 4), [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]])
    question = ask()
    values = some_map(question)
    scores = make("aopc", steps=4, patch=4)(question, answer(question, values))
    for row in range(4):
        blocks = values[row, ..., 0].reshape(2, 4, 2, 4).sum(axis=(1, 3)).ravel()
        units = [[y * SIDE + x for y in range(SIDE) for x in range(SIDE) if (y // 4) * 2 + x // 4 == b]
                 for b in np.argsort(-blocks)]  # fmt: skip
        drops = [removed(question, row, []) - removed(question, row, np.ravel(units[:k]).astype(int)) for k in range(5)]
        assert scores.value[row] == pytest.approx(sum(drops) / 5, abs=1e-12)


def test_morf_lerf_is_the_area_between_the_two_orders() -> None:
    question = ask()
    values = some_map(question)
    a, b = answer(question, values), answer(question, -values)
    scores = make("morf_lerf", steps=8)(question, a)
    most, least = (Deletion(8)(question, x).value for x in (a, b))
    np.testing.assert_allclose(scores.value, least - most, atol=1e-12)
    np.testing.assert_allclose(scores.extras["lerf"], least, atol=1e-12)
    np.testing.assert_allclose(scores.extras["lerf"], Insertion(8, "zero")(question, a).value, atol=1e-12)


def test_sufficiency_and_comprehensiveness_keep_and_remove_the_top() -> None:
    question = ask()
    values = some_map(question)
    shares = (0.001, 0.01, 0.1, 0.5)  # the first two are one pixel: scored once, counted twice
    kept, gone = (make(name, shares=shares) for name in ("sufficiency", "comprehensiveness"))
    assert kept.passes(question) == 4
    for row in range(4):
        order, whole = ranked(values, row), removed(question, row, [])
        a = np.mean([whole - removed(question, row, order[k:]) for k in (1, 1, 6, 32)])
        b = np.mean([whole - removed(question, row, order[:k]) for k in (1, 1, 6, 32)])
        assert kept(question, answer(question, values)).value[row] == pytest.approx(a, abs=1e-12)
        assert gone(question, answer(question, values)).value[row] == pytest.approx(b, abs=1e-12)


@pytest.mark.parametrize("name", sorted(BY_CORRELATION))
def test_correlations_are_those_of_the_same_subsets(name: str) -> None:
    question = ask()
    values = some_map(question, 3)
    metric = make(name)
    scores = metric(question, answer(question, values))
    for row in range(4):
        masks = metric.masks(question, row)
        sums = [values[row].sum(axis=-1).ravel()[mask].sum() for mask in masks]
        drops = [removed(question, row, []) - removed(question, row, np.flatnonzero(mask)) for mask in masks]
        if name == "sensitivity_n":
            sizes = masks.sum(axis=1)
            assert sorted(set(sizes.tolist())) == [1, 2, 6, 19, 51]
            each = [pearsonr(np.array(sums)[sizes == n], np.array(drops)[sizes == n])[0] for n in set(sizes.tolist())]
            expected = np.mean(each)
        else:
            expected = (spearmanr if name == "mu_fidelity" else pearsonr)(sums, drops)[0]
        assert scores.value[row] == pytest.approx(expected, abs=1e-10)
    if name == "faithfulness_correlation":
        assert (metric.masks(question, 0).sum(axis=1) == 13).all()


def test_complete_maps_of_linear_models_meet_sensitivity_n() -> None:
    question = ask(link="identity", linear=True)
    (truth,) = contributions(question)
    for name in sorted(BY_CORRELATION):
        np.testing.assert_allclose(make(name)(question, answer(question, truth)).value, 1, atol=1e-9)
        np.testing.assert_allclose(make(name)(question, answer(question, -truth)).value, -1, atol=1e-9)


def test_xplique_mu_fidelity_is_reproduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Xplique's own patterns: only its uniform draws are replaced by ours."""
    import tensorflow as tf
    from xplique import metrics

    question = ask(link="identity", dtype=np.float32)
    values = some_map(question, 3).astype(np.float32)
    weights = tf.constant(question.model.weights[0], tf.float32)
    net = tf.keras.Sequential([tf.keras.Input((SIDE, SIDE, 3)), tf.keras.layers.Flatten()])
    net.add(tf.keras.layers.Lambda(lambda v: v @ weights + 0.5 * tf.sin(3 * (v @ weights))))
    metric = make("mu_fidelity", subsets=40, grid=5)
    scores = metric(question, answer(question, values))
    for row in range(4):
        draws = tf.constant(question.rng(row, 0).random((40, 5, 5)).reshape(40, 25), tf.float32)
        monkeypatch.setattr(tf.random, "uniform", lambda *_, draws=draws, **__: draws)
        label = np.eye(3, dtype=np.float32)[[row % 3]]
        theirs = metrics.MuFidelity(net, question.inputs[0][[row]], label, batch_size=40, grid_size=5, nb_samples=40)
        assert scores.value[row] == pytest.approx(theirs.evaluate(values[[row]]), abs=1e-6)


def test_irof_is_the_area_over_the_relative_curve() -> None:
    from skimage.segmentation import slic

    question = ask()
    values = some_map(question)
    scores = make("irof", segments=6, steps=0, fill="zero")(question, answer(question, values))
    absolute = make("irof", segments=6, steps=0, fill="zero", relative=False)(question, answer(question, values))
    for row in range(4):
        labels = slic(question.inputs[0][row], n_segments=6, compactness=10, start_label=0).ravel()
        total = labels.max() + 1
        assert scores.extras["segments"][row] == total
        relevance = [values[row].ravel()[labels == s].mean() for s in range(total)]
        order = np.argsort(relevance)[::-1]
        curve = [removed(question, row, np.flatnonzero(np.isin(labels, order[:k]))) for k in range(total + 1)]
        area = sum((a + b) / 2 / total for a, b in pairwise(curve))
        assert scores.value[row] == pytest.approx(1 - area / curve[0], abs=1e-12)
        assert absolute.value[row] == pytest.approx(curve[0] - area, abs=1e-12)
        assert scores.curve[row, 0] == pytest.approx(curve[0])
        assert scores.curve[row, -1] == pytest.approx(curve[-1])


def test_irof_segments_of_other_images() -> None:
    """Grey images follow their content too; a flat image and a scale of thousands are images like any other."""
    grey = Modality.image("mr", ("grey",), None)
    half = np.zeros((1, 16, 16, 1))
    half[:, :, 7:] = 4000
    for values, least in ((half, 2), (0 * half, 1)):
        model = ask(side=16, modalities=(grey,)).model
        question = Question(model, (values,), Target.outputs(0, 1, 3, "softmax"))
        scores = make("irof", segments=4, relative=False)(question, answer(question, np.ones((1, 16, 16, 1))))
        assert np.isfinite(scores.value).all()
        assert scores.extras["segments"][0] >= least


BAD = [
    ("aopc", {"steps": 0}, "steps must be a whole number of at least 1"),
    ("aopc", {"patch": 2.5}, "patch must be a whole number"),
    ("aopc", {"share": 0}, "share must be a share above 0, at most 1"),
    ("aopc", {"fill": {"blur": 0}}, "sigma must be a finite number above 0"),
    ("morf_lerf", {"steps": True}, "steps must be a whole number"),
    ("sufficiency", {"shares": ()}, "shares must be numbers between 0 and 1"),
    ("comprehensiveness", {"shares": 0.5}, "shares must be numbers between 0 and 1"),
    ("faithfulness_correlation", {"subsets": 1}, "subsets must be a whole number of at least 2"),
    ("faithfulness_correlation", {"share": 1.0}, "share must be a share between 0 and 1"),
    ("mu_fidelity", {"grid": 0}, "grid must be a whole number"),
    ("sensitivity_n", {"shares": [0.5, 2]}, "shares must be numbers between 0 and 1"),
    ("irof", {"segments": 0}, "segments must be a whole number"),
    ("irof", {"compactness": -1}, "compactness must be a finite number above 0"),
    ("irof", {"relative": 1}, "relative must be true or false"),
    ("road", {"percentiles": [0, 50]}, "percentiles must be numbers between 0 and 100"),
    ("road_morf", {"noise": -1}, "noise must be a number of at least 0"),
    ("road_lerf", {"cut": "percentile"}, "write ranks or thresholds"),
    ("infidelity", {"samples": 0}, "samples must be a whole number"),
    ("infidelity", {"perturbation": "noise"}, "write reading='gradients'"),
    ("infidelity", {"perturbation": "circle"}, "write square or subset or noise"),
    ("infidelity", {"reading": "signs"}, "write contributions or gradients"),
    ("infidelity", {"sd": 0}, "sd must be a finite number above 0"),
    ("infidelity", {"normalise": True}, "write positive or signed or none"),
    ("infidelity", {"reduction": "max"}, "unknown reduction 'max'"),
    ("irof", {"seed": -1}, "seed must be a whole number"),
]


@pytest.mark.parametrize(("name", "params", "message"), BAD)
def test_bad_parameters(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        get(name, **params)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("aopc", {"patch": 4}),
        ("infidelity", {"normalise": "none", "perturbation": "subset"}),
        ("road", {"cut": "thresholds"}),
    ],
)
def test_other_settings_hold_the_contract_too(name: str, params: dict[str, Any]) -> None:
    question, truth = linear_question(size=16)
    if params.get("normalise") == "none":  # the contract's random maps are of another scale, which counts here
        metric = get(name, **params)
        maps = [truth.values[0], 8 * truth.values[0]]
        values = [metric(question, replace(truth, values=(m,))).value.mean() for m in maps]
        assert values[0] < values[1]
        assert getattr(metric, "invariant_to", "") == "nothing"
        return
    assert not isinstance(check_metric(get(name, **params), question, truth), Unsupported)


def test_attributions_of_other_samples_are_refused() -> None:
    question = ask()
    other: Attribution = answer(question[[1, 0, 2, 3]], some_map(question))
    for name in CHEAP:
        with pytest.raises(InvalidInput, match="same samples in the same order"):
            make(name)(question, other)


def test_lists_from_an_experiment_file_are_as_good_as_tuples() -> None:
    assert get("sufficiency", shares=[0.1, 0.2]) == get("sufficiency", shares=(0.1, 0.2))
    question = ask()
    assert ranks.usable(some_map(question)).all()
    assert get("road", percentiles=[50])(question, answer(question, some_map(question))).params["percentiles"] == [50]

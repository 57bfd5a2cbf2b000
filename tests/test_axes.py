"""The axes of the curve engine: each option against a plain loop or a closed form, exact pass counts, and bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_curves import IMAGE, PIXELS, SIDE, Counting, answer, ask, fused, some_map

from crossxai import InvalidInput, Question, Target, UnknownName, Unsupported
from crossxai.evaluation.curves import Deletion, Insertion, evaluate, fills, imputation, passes, steps
from crossxai.evaluation.statistics import certainty


def test_areas_of_one_curve_are_related_as_the_conventions_say() -> None:
    rng = np.random.default_rng(0)
    curve, n = rng.random((5, 9)), 8
    x = np.arange(n + 1) / n
    t, m = steps.area(curve, x, "trapezoid"), steps.area(curve, x, "mean")
    np.testing.assert_allclose(steps.area(curve, x), t, atol=1e-15)
    np.testing.assert_allclose(m - t, ((curve[:, 0] + curve[:, -1]) / 2 - m) / n, atol=1e-15)
    np.testing.assert_allclose(steps.area(curve, x, "raw"), n * t, atol=1e-14)
    np.testing.assert_allclose(steps.area(curve, x, "over_len"), n / (n + 1) * t, atol=1e-15)
    # n intervals of which the first is dropped leave n - 1: over those, T' - T = (T - (s0 + s1) / 2) / (n - 1)
    shorter = steps.area(curve[:, 1:], x[1:], "trapezoid")
    np.testing.assert_allclose(shorter - t, (t - curve[:, :2].mean(axis=1)) / (n - 1), atol=1e-15)
    np.testing.assert_allclose(shorter - t, (shorter - curve[:, :2].mean(axis=1)) / n, atol=1e-15)
    assert np.isnan(steps.area(curve[:, :1], x[:1], "trapezoid")).all()
    np.testing.assert_array_equal(steps.area(curve[:, :1], x[:1], "mean"), curve[:, 0])
    assert np.isnan(steps.area(curve[:, :0], x[:0], "mean")).all()


def test_the_engine_s_areas_obey_them_too() -> None:
    question = ask()
    a, n = answer(question, some_map()), 6
    t, m, raw, late = (
        Deletion(n, area=area, endpoints=ends)(question, a)
        for area, ends in (("trapezoid", "both"), ("mean", "both"), ("raw", "both"), ("trapezoid", "no_start"))
    )
    s = t.curve
    np.testing.assert_allclose(m.value - t.value, ((s[:, 0] + s[:, -1]) / 2 - m.value) / n)
    np.testing.assert_allclose(raw.value, n * t.value)
    np.testing.assert_allclose(late.value - t.value, (late.value - s[:, :2].mean(axis=1)) / n, atol=1e-12)
    np.testing.assert_array_equal(late.curve, s[:, 1:])


RULES = [
    (10, 23, [0, 2, 5, 7, 9, 12, 14, 16, 18, 21, 23]),
    ({"pixels": 10}, 23, [0, 10, 20, 23]),
    ({"pixels": 10}, 20, [0, 10, 20]),
    ({"pixels": {"units": 1, "most": 4}}, 23, [0, 6, 12, 18, 23]),
    ({"linspace": 10}, 23, [0, 2, 4, 6, 9, 11, 13, 16, 18, 20, 23]),
    ({"linspace": 4}, 2, [0, 0, 1, 1, 2]),
    ({"ceil": 10}, 23, [0, 3, 6, 9, 12, 15, 18, 21, 23]),
    ({"floor": 10}, 23, [0, 2, 4, 6, 8, 10, 12, 14, 16, 23]),
    ({"floor": 10}, 4, [0, 1, 2, 3, 4]),
    ({"percentiles": [50, 90]}, 10, [0, 1, 5, 10]),
    ({"percentiles": {"levels": [0, 95], "strict": True}}, 10, [0, 1, 9, 10]),
]


@pytest.mark.parametrize(("given", "units", "expected"), RULES)
def test_step_rules(given, units, expected) -> None:
    rule = steps.resolve(given, "deletion")
    np.testing.assert_array_equal(rule.counts(np.arange(units)[::-1]), expected)
    assert steps.resolve(steps.describe(rule), "deletion") == rule


def test_percentiles_of_ties_are_one_image_and_cost_one_pass() -> None:
    model = Counting()
    question = ask(model=model)
    values = np.maximum(some_map(), 0)  # about half of each map is zero, as a ReLU leaves it
    metric = Deletion({"percentiles": [90, 80, 30, 20, 10]}, endpoints="neither", area="mean")
    expected = []
    for row in range(5):
        flat = values[row].ravel()
        counts = [(flat >= np.percentile(flat, p)).sum() for p in (90, 80, 30, 20, 10)]
        scores = []
        for count in counts:
            copy = question.inputs[0][row].reshape(-1, 3).copy()
            copy[np.argsort(-flat, kind="stable")[:count]] = 0
            scores.append(question.score((copy.reshape(1, SIDE, SIDE, 3),), [row])[0])
        expected.append(scores)
    model.seen = 0
    found = metric(question, answer(question, values))
    np.testing.assert_allclose(found.curve, expected, atol=1e-9)
    assert model.seen == passes(question, [answer(question, values)], [metric]) == 5 * 3
    np.testing.assert_array_equal(np.broadcast_to(found.fractions, (5, 5))[:, -2:], 1)
    # the whole image removed is the end point of another curve
    both = passes(question, [answer(question, values)], [metric, Deletion(2)])
    assert both == 5 * (3 + 2)
    # a constant map's every percentile is everything
    flat = Deletion(metric.steps, endpoints="neither")(question, answer(question, 0 * values))
    np.testing.assert_array_equal(flat.fractions, 1)


def test_elements_go_one_channel_at_a_time_in_channel_order_of_ties() -> None:
    question, values = ask(), np.round(some_map(channels=3))
    found = Deletion({"pixels": 9}, unit="element", ties="stable", fill="minimum")(question, answer(question, values))
    for row in range(5):
        image = np.moveaxis(question.inputs[0][row], -1, 0).ravel().copy()
        low, order = image.min(), np.argsort(-np.moveaxis(values[row], -1, 0).ravel(), kind="stable")
        for point in range(0, 109, 9):
            copy = image.copy()
            copy[order[:point]] = low
            copy = np.moveaxis(copy.reshape(3, SIDE, SIDE), 0, -1)[None]
            np.testing.assert_allclose(found.curve[row, point // 9], question.score((copy,), [row])[0], atol=1e-9)
    together, attribution = fused()
    by_column, by_element = evaluate(
        together, [attribution], [Deletion(3, modality="table"), Deletion(3, modality="table", unit="element")]
    )[0]
    np.testing.assert_array_equal(by_column.curve, by_element.curve)


def test_patches_go_whole_and_are_ranked_by_their_mean() -> None:
    question, values = ask(), some_map()
    found = Deletion(4, unit="patch", size=4)(question, answer(question, values))  # 4 × 4, 4 × 2, 2 × 4, 2 × 2 pixels
    corners = [(slice(0, 4), slice(0, 4)), (slice(0, 4), slice(4, 6)), (slice(4, 6), slice(0, 4)), (slice(4, 6),) * 2]
    for row in range(5):
        best_first = sorted(corners, key=lambda c, row=row: -values[row][c].mean())
        copy, curve, gone = question.inputs[0][row].copy(), [], [0]
        curve.append(question.score((copy[None],), [row])[0])
        for corner in best_first:
            copy[corner] = 0
            gone.append(gone[-1] + copy[corner].size // 3)
            curve.append(question.score((copy[None],), [row])[0])
        np.testing.assert_allclose(found.curve[row], curve, atol=1e-9)
        np.testing.assert_allclose(found.fractions[row], np.array(gone) / PIXELS)
        np.testing.assert_allclose(found.value[row], np.trapezoid(curve, np.array(gone) / PIXELS), atol=1e-9)


def test_segments_follow_the_image_s_own_regions() -> None:
    """Four flat quarters of an image: each goes whole, whatever the map does inside them, until none is left."""
    images = np.zeros((2, 16, 16, 3), np.float32)
    for i, colour in enumerate(((0.9, 0.1, 0.1), (0.1, 0.9, 0.1), (0.1, 0.1, 0.9), (0.9, 0.9, 0.1))):
        images[:, 8 * (i // 2) : 8 * (i // 2) + 8, 8 * (i % 2) : 8 * (i % 2) + 8] = colour
    question = Question(Counting(sizes=(768,)), (images,), Target.classes([0, 1], 3, "softmax"), check="off")
    values = np.random.default_rng(0).random((2, 16, 16, 1))
    values[0, :8, 8:] += 3
    values[1, 8:, 8:] += 3
    metric = Deletion({"pixels": 1}, unit="segment", size=4)
    found = metric(question, answer(question, values))
    np.testing.assert_allclose(found.fractions, [0, 0.25, 0.5, 0.75, 1])
    for row, corner in ((0, (slice(0, 8), slice(8, 16))), (1, (slice(8, 16), slice(8, 16)))):
        copy = images[row].copy()
        copy[corner] = 0
        np.testing.assert_allclose(found.curve[row, 1], question.score((copy[None],), [row])[0], atol=1e-9)


class Half:
    """A rule of one's own: nothing, what is above the mean, everything, as far as these differ."""

    def counts(self, relevance: np.ndarray) -> np.ndarray:
        return np.unique([0, (relevance > relevance.mean()).sum(), len(relevance)])


def test_a_sample_with_fewer_points_repeats_its_last_and_its_area_is_of_its_own_points() -> None:
    question, values, model = ask(), some_map(), Counting()
    question = replace(question, model=model)
    values[2] = 1
    found = {area: Deletion(Half(), area=area)(question, answer(question, values)) for area in ("mean", "raw")}
    assert model.seen == 2 * (4 * 3 + 2)
    ends = found["raw"].curve[2]
    assert ends[1] == ends[2] != ends[0]
    np.testing.assert_allclose(found["mean"].value[2], ends[:2].mean())
    np.testing.assert_allclose(found["raw"].value[2], ends[:2].mean())
    np.testing.assert_allclose(found["mean"].value[0], found["mean"].curve[0].mean())
    assert found["mean"].params["steps"] == "Half"


def test_refill_takes_the_fill_again_at_each_step() -> None:
    question, values, model = ask(), some_map(), Counting()
    question = replace(question, model=model)
    metric = Deletion(6, fill="mean", refill=True, ties="stable")
    found = metric(question, answer(question, values))
    assert model.seen == 5 * 7
    fixed = replace(metric, refill=False)(question, answer(question, values))
    np.testing.assert_array_equal(found.curve[:, :2], fixed.curve[:, :2])
    assert (found.curve[:, 2:] != fixed.curve[:, 2:]).any(axis=1).all()
    for row in range(5):
        order, copy = np.argsort(-values[row].ravel()), question.inputs[0][row].reshape(-1, 3).copy()
        for step in range(6):
            copy[order[6 * step : 6 * step + 6]] = copy.mean(axis=0, dtype=np.float32)
            score = question.score((copy.reshape(1, SIDE, SIDE, 3),), [row])[0]
            np.testing.assert_allclose(found.curve[row, step + 1], score, atol=1e-6)
    # What Quantus does, the image's minimum at each step, is the minimum once.
    black = Deletion(6, fill="minimum")
    again = replace(black, refill=True)(question, answer(question, values))
    np.testing.assert_array_equal(again.curve, black(question, answer(question, values)).curve)


def test_scores_relative_to_the_untouched_image_and_their_totals() -> None:
    question, a = ask(), answer(ask(), some_map())
    plain, ratio, change, drop = (
        Deletion(6, score=score, area="mean", aggregation="mean_curve")
        for score in ("score", "ratio", "change", "drop")
    )
    s, r, c, d = evaluate(question, [a], [plain, ratio, change, drop])[0]
    start = question.score()
    np.testing.assert_allclose(r.curve, s.curve / start[:, None])
    np.testing.assert_allclose(c.value, s.value - start)
    np.testing.assert_array_equal(d.value, -c.value)
    assert (drop.higher_is_better, change.higher_is_better, Deletion.higher_is_better) == (True, False, False)
    np.testing.assert_allclose(plain.total(s), s.value.mean())
    np.testing.assert_allclose(ratio.total(r), s.value.mean() / start.mean())  # a ratio of means
    np.testing.assert_allclose(replace(ratio, aggregation="per_sample").total(r), (s.value / start).mean())
    zero = replace(question, model=Counting(linear=True), inputs=(0 * question.inputs[0],))
    zero = replace(zero, target=Target.classes(np.arange(5) % 3, 3))
    assert np.isnan(ratio(zero, a).value).all()
    # a start that the curve leaves out is still scored, once
    model = Counting()
    counted = replace(question, model=model)
    Deletion(6, score="change", endpoints="neither")(counted, a)
    assert model.seen == 5 * 6


def test_least_relevant_first_is_insertion_backwards() -> None:
    question, a = ask(), answer(ask(), some_map())
    lerf, insertion = Deletion(6, order="lerf"), Insertion(6, "zero")
    backwards, forwards = evaluate(question, [a], [lerf, insertion])[0]
    np.testing.assert_allclose(backwards.curve, forwards.curve[:, ::-1], atol=1e-12)
    assert (backwards.metric, backwards.higher_is_better) == ("deletion_lerf", True)
    assert (Insertion(order="lerf").name, Insertion(order="lerf").higher_is_better) == ("insertion_lerf", False)
    assert (Deletion.name, Deletion().name) == ("deletion", "deletion")


@pytest.mark.parametrize("ties", ["stable", "flipped", "unstable"])
def test_tie_rules(ties: str) -> None:
    question, values = ask(), np.round(some_map())
    found = Deletion(6, ties=ties)(question, answer(question, values))
    for row in range(5):
        flat = values[row].ravel()
        order = {
            "stable": np.argsort(-flat, kind="stable"),
            "flipped": np.argsort(flat)[::-1],
            "unstable": np.argsort(-flat),
        }[ties]
        copy = question.inputs[0][row].reshape(-1, 3).copy()
        copy[order[:18]] = 0
        score = question.score((copy.reshape(1, SIDE, SIDE, 3),), [row])[0]
        np.testing.assert_allclose(found.curve[row, 3], score, atol=1e-9)


def test_imputed_pixels_are_the_weighted_means_of_their_neighbours() -> None:
    rng = np.random.default_rng(0)
    image, hidden = rng.random((9, 7, 3)), rng.random((9, 7)) < 0.6
    found = imputation.NoisyLinear(0.0).impute(image, hidden, rng)
    np.testing.assert_array_equal(found[~hidden], image[~hidden])
    for y, x in np.argwhere(hidden):
        total, weights = np.zeros(3), 0.0
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy or dx) and 0 <= y + dy < 9 and 0 <= x + dx < 7:
                    weight = 1 / 12 if dy and dx else 1 / 6
                    total, weights = total + weight * found[y + dy, x + dx], weights + weight
        np.testing.assert_allclose(found[y, x], total / weights, atol=1e-12)
    assert found.min() >= image[~hidden].min() - 1e-12
    noisy = imputation.NoisyLinear(0.5).impute(image, hidden, np.random.default_rng(1)) - found
    assert 0.35 < noisy[hidden].std() < 0.65
    np.testing.assert_array_equal(imputation.NoisyLinear(0.0).impute(image, hidden | True, rng), 0)


def test_imputation_depends_on_neither_batch_nor_order_nor_other_samples() -> None:
    question, values = ask(), some_map()
    metric = Deletion(4, fill="noisy_linear")
    whole = metric(question, answer(question, values))
    rows = np.array([3, 0])
    part = ask(batch_size=1)[rows]
    np.testing.assert_allclose(metric(part, answer(part, values[rows])).curve, whole.curve[rows], atol=1e-9)
    assert (replace(metric, seed=1)(question, answer(question, values)).curve[:, 1:] != whole.curve[:, 1:]).all()
    inserted = Insertion(4, fill="noisy_linear")(question, answer(question, values))
    np.testing.assert_array_equal(inserted.curve[:, 0], whole.curve[:, -1])


def test_blurs_and_standardised_fills() -> None:
    image = np.random.default_rng(0).random((1, 12, 10, 3))
    blur = fills.KernelBlur(5, 2.0)
    assert np.isclose(blur.kernel().sum(), 1)
    assert np.isclose(fills.KernelBlur(11, 5.0, folded=True).kernel().sum(), 1)
    np.testing.assert_allclose(blur(image + 1), blur(image) + 1, atol=1e-12)
    mean, sd = (0.2, 0.5, 0.7), (0.1, 0.2, 0.3)
    np.testing.assert_allclose(fills.Standardised(fills.Zero(), mean, sd)(image), np.broadcast_to(mean, image.shape))
    lowest = fills.Standardised(fills.Minimum(), mean, sd)(image)
    standard = (image - mean) / sd
    np.testing.assert_allclose((lowest - mean) / sd, np.full(image.shape, standard.min()))
    for given in (
        "minimum",
        {"constant": 0.5},
        {"noisy_linear": 0.1},
        "inpaint",
        {"blur": {"size": 5, "sigma": 2.0, "border": "zero", "folded": True}},
        {"standardised": {"fill": {"blur": 3.0}, "mean": mean, "sd": sd}},
    ):
        fill = fills.resolve(given)
        assert fills.resolve(fills.describe(fill)) == fill


def test_flips() -> None:
    np.testing.assert_array_equal(certainty.ranks([0.1, 0.3, np.nan, 0.3], True), [3, 1.5, np.nan, 1.5])
    np.testing.assert_array_equal(certainty.ranks([0.1, 0.3, 0.2], False), [1, 3, 2])
    found = certainty.flips([1, 2, 3, 4, np.nan], [1, 3, 2, 4, 5])
    assert (found.flipped, found.pairs, found.share) == (1, 6, 1 / 6)
    assert np.isclose(found.tau, 1 - 2 / 6)
    reverse = certainty.flips([1, 2, 3], [3, 2, 1])
    assert (reverse.tau, reverse.share) == (-1, 1)
    assert np.isnan(certainty.flips([1], [1]).share)
    tied = certainty.flips([1.5, 1.5, 3], [1, 2, 3])
    assert (tied.flipped, tied.pairs) == (0, 3)
    with pytest.raises(InvalidInput, match="rankings of the same explainers"):
        certainty.flips([1, 2], [1, 2, 3])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": {"pixels": 0}}, "whole number of at least 1, got 0"),
        ({"steps": {"pixels": {"unit": 3}}}, "'pixels' has most, units"),
        ({"steps": {"percentiles": [120]}}, "from 0 to 100"),
        ({"steps": {"floor": 1}}, "at least 2 points"),
        ({"steps": "many"}, "whole number of at least 1, or 'auto', got 'many'"),
        ({"steps": {"a": 1, "b": 2}}, "or one rule"),
        ({"unit": "voxel"}, "unknown unit 'voxel': write pixel, element"),
        ({"ties": "random"}, "unknown ties"),
        ({"endpoints": "none"}, "unknown endpoints"),
        ({"score": "accuracy"}, "unknown score"),
        ({"area": "sum"}, "unknown area"),
        ({"aggregation": "median"}, "unknown aggregation"),
        ({"order": "best"}, "unknown order"),
        ({"size": 0}, "size must be a whole number of at least 1"),
        ({"refill": 1}, "refill must be true or false"),
        ({"refill": True, "fill": "noisy_linear"}, "imputation already reads the mask"),
        ({"fill": {"blur": {"size": 4, "sigma": 1}}}, "odd number"),
        ({"fill": {"blur": {"sigma": 1}}}, "write a sigma, or"),
        ({"fill": {"constant": "grey"}}, "one finite number"),
        ({"fill": {"noisy_linear": -1}}, "at least 0"),
        ({"fill": {"standardised": "zero"}}, "write {'fill'"),
        ({"fill": {"standardised": {"fill": "zero", "mean": [0.5], "sd": [0]}}}, "sd must be positive"),
    ],
)
def test_bad_parameters_say_what_to_write(params, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        Deletion(**params)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean pixels"):
        Deletion({"pixel": 3})
    with pytest.raises(InvalidInput, match="insertion uncovers"):
        Insertion(refill=True)
    question, a = ask(), answer(ask(), some_map())
    with pytest.raises(InvalidInput, match="same points for every sample"):
        Deletion({"percentiles": [50, 20]}, refill=True)(question, a)
    with pytest.raises(Unsupported, match="imputes whole pixels"):
        Deletion(fill="noisy_linear", unit="element")(question, a)
    together, both = fused()
    with pytest.raises(Unsupported, match="a table has no patches"):
        Deletion(unit="patch", modality="table")(together, both)
    with pytest.raises(Unsupported, match="imputes whole pixels"):
        Deletion(fill="noisy_linear", modality="table")(together, both)
    wrong = fills.Standardised(fills.Zero(), (0.5,), (1.0,))
    with pytest.raises(InvalidInput, match="of 1 channels given, the inputs have 3"):
        Deletion(fill=wrong)(question, a)
    assert IMAGE.spatial


def test_one_pixel_and_one_column_by_every_rule() -> None:
    question = Question(
        Counting(sizes=(3,)), (np.full((1, 1, 1, 3), 0.5, np.float32),), Target.classes([0], 3, "softmax")
    )
    for rule in (1, {"pixels": 10}, {"linspace": 3}, {"ceil": 4}, {"floor": 4}, {"percentiles": [50]}):
        for unit in ("pixel", "element", "patch", "segment"):
            found = Deletion(rule, unit=unit)(question, answer(question, np.ones((1, 1, 1, 1))))
            assert np.isfinite(found.value).all(), (rule, unit)
    short = Deletion({"pixels": 10}, endpoints="neither")(question, answer(question, np.ones((1, 1, 1, 1))))
    assert short.curve.shape == (1, 0)
    assert np.isnan(short.value).all()

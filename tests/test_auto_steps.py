"""The estimated mean area: exactly unbiased by enumeration, within its interval as often as it says, at its price."""

import numpy as np
import pytest
from scipy.integrate import trapezoid

from crossxai import Attribution, InvalidInput, Modality, Question, Target, Unsupported
from crossxai.evaluation import get
from crossxai.evaluation.curves import Deletion, Insertion, evaluate, passes, steps
from crossxai.evaluation.curves.auto import estimate
from crossxai.evaluation.curves.estimates import Design, difference, factor_needed, mean_of
from crossxai.evaluation.metrics.localisation import CentreShare

SIDE = 12
GREY = Modality.image(channels=("grey",))
N = 60


class Soft:
    """Two classes by a weighted sum of grey values: deletion in order of relevance gives smooth, S-shaped curves."""

    name = "soft"
    modalities = (GREY,)

    def __init__(self):
        y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) - 0.5
        self.weights = (np.exp(-8 * (x**2 + y**2)) - 0.15).ravel()
        self.seen, self.largest = 0, 0

    def predict(self, inputs):
        self.seen += len(inputs[0])
        self.largest = max(self.largest, len(inputs[0]))
        z = inputs[0].reshape(len(inputs[0]), -1) @ self.weights
        z = 1.2 * z + 2 * np.sin(z)
        return np.stack([-z / 2, z / 2], axis=1)


def ask(n=N, link="softmax", batch_size=64):
    images = np.random.default_rng(0).random((n, SIDE, SIDE, 1)).astype(np.float32)
    ids = tuple(f"s{i}" for i in range(n))
    return Question(
        Soft(), (images,), Target.classes(np.ones(n, int), 2, link), ids, batch_size=batch_size, check="off"
    )


def answers(question):
    """A good map, a noisy one and a random one."""
    images = question.inputs[0]
    good = images * question.model.weights.reshape(SIDE, SIDE, 1)
    noise = np.stack([question.rng(i, 9).normal(size=(SIDE, SIDE, 1)) for i in range(len(question))])
    maps = {"good": good, "noisy": good + 0.3 * noise, "random": noise}
    return [Attribution((m.astype(np.float32),), question.modalities, question.ids, name) for name, m in maps.items()]


METRICS = [Deletion(100), Insertion(100, "zero")]


@pytest.mark.parametrize(
    "fractions", [np.linspace(0, 1, 13), np.array([0, 1, 2, 4, 5, 9, 10]) / 10, np.array([0, 0.5, 1])]
)
@pytest.mark.parametrize(("m", "factor"), [(1, 1), (2, 1), (5, 1), (2, 3)])
def test_the_average_over_all_offsets_is_the_area_exactly(fractions, m, factor):
    design = Design(fractions, m)
    curve = np.random.default_rng(2).normal(size=len(fractions))
    # The draw is constant between offsets at which a place meets a bound of cumulated weight: integrate piece by piece.
    bounds = np.cumsum(design.weights)
    turns = (bounds / bounds[-1] * m * factor)[:-1] % 1
    edges = np.unique(
        np.concatenate([[0, 1], *((turns + i) / factor for i in range(factor)), np.arange(factor) / factor])
    )
    middles = (edges[1:] + edges[:-1]) / 2
    drawn = design.draw(middles, factor)
    areas = design.areas(np.tile(curve[[0, -1]], (len(middles), 1)), drawn, curve[drawn])
    assert (areas * np.diff(edges)).sum() == pytest.approx(trapezoid(curve, fractions), abs=1e-12)
    assert drawn.min() >= 1
    assert drawn.max() <= len(fractions) - 2
    first = design.draw(middles)
    assert all(set(few) <= set(many) for few, many in zip(first.tolist(), drawn.tolist(), strict=True))


def test_a_straight_line_and_a_parabola_are_known_from_few_points():
    x = np.linspace(0, 1, 101)
    for curve, tolerance in ((3 - 2 * x, 1e-12), ((x - 0.3) ** 2, 0.02)):
        design = Design(x, 5)
        drawn = design.draw(np.linspace(0, 0.999, 50))
        areas = design.areas(np.tile(curve[[0, -1]], (50, 1)), drawn, curve[drawn])
        np.testing.assert_allclose(areas, trapezoid(curve, x), atol=tolerance)


def test_the_means_of_replicates():
    r = np.random.default_rng(4).normal(size=(30, 3))
    found = mean_of(r)
    assert found.mean == pytest.approx(r.mean())
    assert found.standard_error == pytest.approx(np.sqrt((r.var(axis=1, ddof=1) / 3).sum()) / 30)
    one = mean_of(np.array([[0.0, 1.0]]))  # a plain t interval with one degree of freedom
    assert one.high - one.mean == pytest.approx(12.706 * 0.5, rel=1e-3)
    padded = np.full((32, 5), np.nan)
    padded[:30, :3] = r
    again = mean_of(padded)
    assert (again.mean, again.low) == pytest.approx((found.mean, found.low))
    exact = mean_of(np.full((4, 2), 0.25))
    assert (exact.mean, exact.low, exact.high) == (0.25, 0.25, 0.25)
    assert np.isnan(mean_of(np.full((2, 2), np.nan)).mean)
    needed = [factor_needed(r[:, :2], 30, width) for width in (0.01, 0.02)]
    assert needed[0] == pytest.approx(2 * needed[1])
    assert factor_needed(np.ones((5, 2)), 5, 0.1) == 1


def test_cheap_accurate_unbiased_and_honest():
    """The claim: 60 samples, 100 steps, at most 12 % of the passes, mean absolute error <= 0.003, coverage, width."""
    question = ask()
    maps = answers(question)[:1]
    truth = [s.value.mean() for s in evaluate(question, maps, METRICS)[0]]
    found = [estimate(question, maps, METRICS, seed=seed) for seed in range(300)]
    assert max(f.passes for f in found) <= 0.12 * found[0].full_passes
    alone = estimate(question, maps, METRICS[:1])
    assert alone.passes <= 0.12 * alone.full_passes == 0.12 * 101 * N
    for i, true in enumerate(truth):
        runs = [f.table[0][i] for f in found]
        errors = np.array([r.mean for r in runs]) - true
        spread = errors.std()
        assert np.abs(errors).mean() <= 0.003
        assert abs(errors.mean()) < 3 * spread / np.sqrt(300)
        assert np.mean([r.low <= true <= r.high for r in runs]) >= 0.93
        width = np.mean([r.high - r.low for r in runs])
        assert width < 1.5 * 2 * 1.96 * spread


def test_a_requested_precision_is_reached_without_bias():
    question = ask(30)
    maps = answers(question)[1:2]
    metric = [Deletion(60)]
    true = evaluate(question, maps, metric)[0][0].value.mean()
    rough = estimate(question, maps, metric, points=6).table[0][0]
    wish = (rough.high - rough.low) / 4
    found = [estimate(question, maps, metric, points=6, precision=wish, seed=s).table[0][0] for s in range(100)]
    errors = np.array([f.mean for f in found]) - true
    assert np.mean([f.reached for f in found]) > 0.7
    assert all(((f.high - f.low) / 2 <= wish) == f.reached for f in found)
    assert np.mean([f.passes for f in found]) > rough.passes
    assert max(f.passes for f in found) <= found[0].full_passes
    assert abs(errors.mean()) < 3 * errors.std() / 10
    assert np.mean([f.low <= true <= f.high for f in found]) >= 0.9
    # An impossible precision ends at the full curve, exactly.
    exact = estimate(question, maps, metric, precision=1e-9).table[0][0]
    assert exact.mean == pytest.approx(true, abs=1e-12)
    assert (exact.standard_error, exact.reached, exact.whole.all()) == (0, True, True)
    assert exact.passes == exact.full_passes
    capped = estimate(question, maps, metric, precision=1e-9, max_points=20).table[0][0]
    assert not capped.reached
    assert capped.points.max() <= 20
    # A wide one is content with the first round.
    assert estimate(question, maps, metric, precision=1.0).passes == estimate(question, maps, metric).passes


def test_whole_curves_equal_the_harness():
    question = ask(7)
    maps = answers(question)
    metrics = [Deletion(10, "mean"), Insertion(10, "zero", "abs_max", seed=3), Deletion(11)]
    found = estimate(question, maps, metrics)
    for row, scores in zip(found.table, evaluate(question, maps, metrics), strict=True):
        for one, want in zip(row, scores, strict=True):
            np.testing.assert_allclose(one.values, want.value, atol=1e-12)
            assert one.points.tolist() == [len(want.fractions)] * 7
            given = one.scores()
            assert (given.metric, given.higher_is_better) == (want.metric, want.higher_is_better)
            assert (given.extras["step_variance"] == 0).all()
            assert given.params["of_steps"] == want.params["steps"]
    assert found.passes == found.full_passes


def test_passes_are_counted_shared_and_batched():
    question = ask(9, batch_size=7)
    maps = answers(question)
    model, batches = question.model, []
    found = estimate(question, maps, METRICS, progress=batches.append)
    assert found.passes == model.seen == sum(batches)
    assert batches[:-1] == [7] * (len(batches) - 1)
    assert model.largest == 7
    alone = [e.passes for row in found.table for e in row]
    assert found.passes == sum(alone) - (6 - 1) * 2 * 9  # both ends are common to all six curves
    model.seen = 0
    evaluate(question, maps, METRICS)
    assert model.seen == found.full_passes
    # A coarser curve of the same map adds only the points that the finer one lacks.
    coarse = estimate(question, maps[:1], [Deletion(100), Deletion(50), Deletion(13)])
    model.seen = 0
    evaluate(question, maps[:1], [Deletion(100), Deletion(50), Deletion(13)])
    assert model.seen == coarse.full_passes
    # The same map under another name costs nothing.
    twin = Attribution((maps[0].values[0].copy(),), maps[0].modalities, maps[0].ids, "twin")
    both = estimate(question, [maps[0], twin], METRICS)
    assert both.passes == estimate(question, maps[:1], METRICS).passes
    assert both.full_passes == estimate(question, maps[:1], METRICS).full_passes
    assert [e.mean for e in both.table[0]] == [e.mean for e in both.table[1]]
    assert [row[0].explainer for row in both.table] == ["good", "twin"]


def test_independent_of_batch_order_and_other_samples():
    question = ask(12)
    maps = answers(question)
    whole = estimate(question, maps, METRICS, points=8)
    rows = [5, 2, 9, 0]
    part = ask(12, batch_size=5)[rows]
    few = [Attribution((a.values[0][rows],), a.modalities, part.ids, a.explainer) for a in maps]
    for one, want in zip(estimate(part, few, METRICS, points=8).table, whole.table, strict=True):
        for a, b in zip(one, want, strict=True):
            np.testing.assert_allclose(a.values, b.values[rows], atol=1e-12)
            np.testing.assert_array_equal(a.points, b.points[rows])
    other = estimate(question, maps, METRICS, points=8, seed=1)
    assert other.table[0][0].mean != whole.table[0][0].mean
    again = estimate(question, maps, METRICS, points=8, precision=0.002)
    mirrored = question[::-1]
    back = [Attribution((a.values[0][::-1],), a.modalities, mirrored.ids, a.explainer) for a in maps]
    turned = estimate(mirrored, back, METRICS, points=8, precision=0.002)
    assert turned.passes == again.passes
    assert turned.table[1][0].mean == pytest.approx(again.table[1][0].mean, abs=1e-12)


def test_differences_are_unbiased_and_use_the_shared_draws():
    question = ask(30)
    maps = answers(question)[:2]
    one, other = (row[0].value.mean() for row in evaluate(question, maps, METRICS[:1]))
    errors, hits, joint, apart = [], [], [], []
    for seed in range(64):
        (a,), (b,) = estimate(question, maps, METRICS[:1], points=6, seed=seed).table
        mean, error, low, high = difference(a, b)
        errors.append(mean - (one - other))
        hits.append(low <= one - other <= high)
        joint.append(error)
        apart.append(np.hypot(a.standard_error, b.standard_error))
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 8
    assert np.mean(hits) >= 0.9
    assert np.mean(joint) < np.mean(apart)
    mixed = estimate(question, maps, METRICS[:1], precision=0.004, points=6).table
    assert difference(mixed[0][0], mixed[1][0])[1] < np.mean(joint)
    with pytest.raises(InvalidInput, match="30 and 5"):
        difference(a, estimate(question[:5], [_some(maps[0], 5)], METRICS[:1]).table[0][0])


def _some(attribution, n):
    return Attribution((attribution.values[0][:n],), attribution.modalities, attribution.ids[:n], attribution.explainer)


def test_degenerate_maps_and_tiny_inputs():
    question = ask(5)
    values = answers(question)[0].values[0].copy()
    values[1, 0, 0] = np.nan
    values[3] = 1
    maps = [Attribution((values,), question.modalities, question.ids, "holes")]
    found = estimate(question, maps, METRICS).table[0][0]
    assert (found.n, found.n_missing) == (4, 1)
    assert np.isnan(found.values[1])
    assert found.points[1] == 0
    assert found.passes == found.points.sum()
    exact = estimate(question, maps, METRICS, precision=0.5).table[0][0]  # too few samples for a pilot
    np.testing.assert_allclose(exact.values, evaluate(question, maps, METRICS)[0][0].value, atol=1e-12)
    none = estimate(question, [Attribution((values * np.nan,), question.modalities, question.ids, "nan")], METRICS[:1])
    assert np.isnan(none.table[0][0].mean)
    assert (none.passes, none.table[0][0].n_missing) == (0, 5)
    single = estimate(question[:1], [_some(maps[0], 1)], METRICS, precision=0.1)
    assert single.table[0][0].standard_error == 0

    class Pixel(Soft):
        def __init__(self):
            super().__init__()
            self.weights = np.ones(1)

    dot = Question(Pixel(), (np.full((3, 1, 1, 1), 0.5, np.float32),), Target.classes([1, 1, 1], 2))
    one = estimate(dot, [Attribution((np.ones((3, 1, 1, 1)),), dot.modalities, dot.ids, "dot")], [Deletion(100)])
    assert one.table[0][0].points.tolist() == [2, 2, 2]


def test_one_modality_of_two_and_a_table():
    table = Modality.table(tuple("abcdefghijklmnopqrstuvwxyz"))

    class Two(Soft):
        modalities = (GREY, table)

        def predict(self, inputs):
            return super().predict(inputs[:1]) + np.tanh(inputs[1] @ np.linspace(-1, 1, 26))[:, None] * [-1, 1]

    rng = np.random.default_rng(1)
    inputs = (rng.random((4, SIDE, SIDE, 1)).astype(np.float32), rng.normal(size=(4, 26)).astype(np.float32))
    question = Question(Two(), inputs, Target.classes([0, 1, 0, 1], 2, "softmax"), check="off")
    maps = [Attribution(inputs, question.modalities, question.ids, "inputs")]
    metrics = [Deletion(26, modality="table"), Deletion(26, modality="image")]
    found = estimate(question, maps, metrics, points=40)
    for one, want in zip(found.table[0], evaluate(question, maps, metrics)[0], strict=True):
        np.testing.assert_allclose(one.values, want.value, atol=1e-6)
    assert found.passes == found.full_passes


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"points": 3}, InvalidInput, "at least 4"),
        ({"points": 12.0}, InvalidInput, "at least 4"),
        ({"max_points": 8}, InvalidInput, "points = 12"),
        ({"precision": 0}, InvalidInput, "half-width"),
        ({"precision": float("nan")}, InvalidInput, "half-width"),
        ({"confidence": 95}, InvalidInput, "confidence"),
        ({"metrics": [CentreShare(2)]}, Unsupported, "centre_share"),
        ({"metrics": []}, InvalidInput, "metric"),
    ],
)
def test_bad_inputs(options, error, message):
    question = ask(3)
    with pytest.raises(error, match=message):
        estimate(question, answers(question), **{"metrics": METRICS, **options})


def test_metrics_estimate_themselves():
    """steps="auto" in a metric: the same estimates, in order among other metrics, as ordinary scores without a curve."""
    question = ask(9, batch_size=7)
    maps = answers(question)
    mixed = [
        Deletion("auto", seed=3),
        CentreShare(2),
        Deletion(4),
        Insertion({"auto": {"of": 60, "points": 8}}, "zero"),
    ]
    model, batches = question.model, []
    found = evaluate(question, maps, mixed, batches.append)
    assert model.seen == sum(batches) == passes(question, maps, mixed)
    names = ["deletion", "centre_share", "deletion", "insertion"]
    assert [[s.metric for s in row] for row in found] == [names] * 3
    first = estimate(question, maps, [Deletion(100, seed=3)], seed=3)
    fourth = estimate(question, maps, [Insertion(60, "zero")], points=8)
    whole = evaluate(question, maps, [Deletion(4)])
    for row, one, other, full in zip(found, first.table, fourth.table, whole, strict=True):
        np.testing.assert_allclose(row[0].value, one[0].values, atol=1e-12)
        np.testing.assert_allclose(row[0].extras["step_variance"], one[0].variances, atol=1e-12)
        np.testing.assert_allclose(row[3].value, other[0].values, atol=1e-12)
        assert row[3].extras["points"].max() <= 8
        assert row[0].curve is row[0].fractions is None
        assert set(full[0].extras) < set(row[0].extras)
        np.testing.assert_allclose(row[2].curve, full[0].curve, atol=1e-12)
        assert row[0].params["steps"] == {"auto": {"of": 100, "points": 12}}
        assert steps.resolve(row[3].params["steps"], "deletion") == mixed[3].rule
        assert mixed[0].total(row[0]) == row[0].value.mean()
    # Passes are shared between explainers: both ends belong to all of them.
    assert first.passes == 9 * 2 + sum(e.passes - 9 * 2 for (e,) in first.table)
    assert passes(question, maps, [Deletion("auto", seed=3)]) == first.passes
    assert Deletion("auto").passes(question) == estimate(question[:1], [_some(maps[0], 1)], METRICS[:1]).passes


def test_passes_with_a_precision_are_the_most_that_it_may_take():
    question = ask(20)
    maps = answers(question)
    for options, bound in (
        ({"precision": 1.0}, None),
        ({"precision": 0.004}, None),
        ({"precision": 1e-9}, None),
        ({"precision": 1e-9, "max_points": 25}, 20 * 22 * 3),
    ):
        metric, seen = get("deletion", steps={"auto": options}), []
        found = evaluate(question, maps, [metric], seen.append)
        most = passes(question, maps, [metric])
        assert sum(seen) <= most <= (bound or passes(question, maps, METRICS[:1]))
        used = np.concatenate([row[0].extras["points"] for row in found])
        assert used.max() <= options.get("max_points", 101)
    assert sum(seen) > 0.6 * most  # an impossible wish goes up to its bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": "automatic"}, "or 'auto', got 'automatic'"),
        ({"steps": {"auto": {"points": 3}}}, r"points must be a whole number of at least 4 .*got 3"),
        ({"steps": {"auto": {"of": 0}}}, "of must be a whole number of at least 1, got 0"),
        ({"steps": {"auto": {"precision": 0}}}, "half-width of the interval to reach, above 0, got 0"),
        ({"steps": {"auto": {"precision": "fine"}}}, "above 0, got 'fine'"),
        ({"steps": {"auto": {"max_points": 5}}}, "at least 12, points = 12, got 5"),
        ({"steps": {"auto": {"exact": True}}}, "max_points, of, points, precision; got"),
        ({"steps": "auto", "order": "lerf"}, "order='lerf': write a number of steps, such as steps=100"),
        ({"steps": "auto", "unit": "patch"}, "unit='patch'"),
        ({"steps": "auto", "aggregation": "mean_curve"}, "aggregation='mean_curve'"),
        ({"steps": "auto", "reduction": "channels_abs_sum"}, "reduction='channels_abs_sum'"),
        ({"steps": "auto", "fill": "noisy_linear"}, "a fill that reads the mask has no estimate"),
    ],
)
def test_what_has_no_estimate_is_refused_when_it_is_named(options, message):
    with pytest.raises((InvalidInput, Unsupported), match=message):
        get("deletion", **options)

"""Deletion and insertion against a plain loop, closed forms, exact pass counts, and every bad input."""

import numpy as np
import pytest

from crossxai import Attribution, InvalidInput, Modality, Question, Target, UnknownName, Unsupported
from crossxai.evaluation import discover, get
from crossxai.evaluation.curves import Deletion, Insertion, evaluate, fills, passes, ranks
from crossxai.evaluation.metrics.localisation import CentreShare

IMAGE = Modality.image()
SIDE = 6
PIXELS = SIDE * SIDE


class Counting:
    """A small non-linear image model that counts the images it sees."""

    name = "counting"

    def __init__(self, modalities=(IMAGE,), sizes=(SIDE * SIDE * 3,), n_classes=3, linear=False):
        rng = np.random.default_rng(7)
        self.modalities = modalities
        self.weights = [rng.normal(size=(size, n_classes)) / np.sqrt(size) for size in sizes]
        self.linear, self.seen, self.largest = linear, 0, 0

    def predict(self, inputs):
        self.seen += len(inputs[0])
        self.largest = max(self.largest, len(inputs[0]))
        flat = [np.asarray(v, np.float64).reshape(len(v), -1) for v in inputs]
        logits = sum(f @ w for f, w in zip(flat, self.weights, strict=True))
        return logits if self.linear else logits + 0.5 * np.sin(3 * logits)


def ask(n=5, link="softmax", batch_size=4, model=None):
    rng = np.random.default_rng(0)
    images = rng.random((n, SIDE, SIDE, 3), dtype=np.float32)
    target = Target.classes(np.arange(n) % 3, 3, link)
    return Question(
        model or Counting(), (images,), target, tuple(f"s{i}" for i in range(n)), batch_size=batch_size, check="off"
    )


def answer(question, values, explainer="test"):
    return Attribution((values,), question.modalities, question.ids, explainer)


def some_map(n=5, channels=1, seed=1):
    return np.random.default_rng(seed).normal(size=(n, SIDE, SIDE, channels)).astype(np.float32)


def plain_loop(question, values, fill, steps, inserts):
    """One image, one step, one pass at a time, for maps without ties."""
    curves, fractions = [], []
    for i, image in enumerate(question.inputs[0]):
        order = sorted(range(PIXELS), key=lambda p, i=i: -values[i].sum(axis=-1).ravel()[p])
        curve = []
        for step in range(steps + 1):
            k = round(PIXELS * step / steps)
            start, end = (fill[i], image) if inserts else (image, fill[i])
            copy = start.reshape(PIXELS, 3).copy()
            for p in order[:k]:
                copy[p] = end.reshape(PIXELS, 3)[p]
            curve.append(question.score((copy.reshape(1, SIDE, SIDE, 3),), [i])[0])
            if i == 0:
                fractions.append(k / PIXELS)
        curves.append(curve)
    curves, fractions = np.array(curves), np.array(fractions)
    areas = ((curves[:, 1:] + curves[:, :-1]) / 2 * np.diff(fractions)).sum(axis=1)
    return curves, fractions, areas


FILLS = {
    "zero": ("zero", np.zeros_like),
    "mean": ("mean", lambda x: np.broadcast_to(x.mean(axis=(1, 2), keepdims=True), x.shape)),
    "dataset": (fills.DatasetMean((0.7, 0.5, 0.6)), lambda x: np.full_like(x, [0.7, 0.5, 0.6])),
    "callable": (lambda x: 1 - x, lambda x: 1 - x),
}


@pytest.mark.parametrize("metric", [Deletion, Insertion])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("steps", [1, 7, 12])
def test_equals_a_plain_loop(metric, fill, channels, steps):
    question, values = ask(), some_map(channels=channels)
    given, by_hand = FILLS[fill]
    scores = metric(steps=steps, fill=given)(question, answer(question, values))
    curves, fractions, areas = plain_loop(
        question, values, by_hand(question.inputs[0]), steps, inserts=metric is Insertion
    )
    np.testing.assert_allclose(scores.curve, curves, atol=1e-6)
    np.testing.assert_allclose(scores.fractions, fractions, atol=1e-12)
    np.testing.assert_allclose(scores.value, areas, atol=1e-6)
    assert ((scores.value >= 0) & (scores.value <= 1)).all()
    assert not scores.extras["degenerate"].any()
    assert not scores.extras["tie_rate"].any()


def test_images_that_are_views_of_channels_first_arrays_are_perturbed_too():
    question, values = ask(), some_map()
    first = np.ascontiguousarray(np.moveaxis(question.inputs[0], -1, 1))
    view = Question(question.model, (np.moveaxis(first, 1, -1),), question.target, question.ids)
    kept = first.copy()
    for metric in (Deletion(), Insertion(fill="mean")):
        np.testing.assert_allclose(
            metric(view, answer(view, values)).curve, metric(question, answer(question, values)).curve, atol=1e-12
        )
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_depends_on_neither_batch_size_nor_order_nor_subset(batch_size):
    values = np.round(some_map(), 0)  # full of ties, so that the tie rule is tested too
    whole, metrics = ask(), [kind(unit=unit, size=2) for kind in (Deletion, Insertion) for unit in ("pixel", "patch")]
    expected = evaluate(whole, [answer(whole, values)], metrics)[0]
    rows = np.array([3, 0, 2])
    part = ask(batch_size=batch_size)[rows]
    for got, want in zip(evaluate(part, [answer(part, values[rows])], metrics)[0], expected, strict=True):
        np.testing.assert_allclose(got.value, want.value[rows], atol=1e-9)
        np.testing.assert_allclose(got.curve, want.curve[rows], atol=1e-9)
        np.testing.assert_array_equal(got.extras["tie_rate"], want.extras["tie_rate"][rows])
    assert part.model.largest <= batch_size


def test_together_equals_one_by_one_and_costs_the_minimum():
    n, steps, model = 5, 6, Counting()
    question = ask(n, model=model)
    answers = [answer(question, some_map(seed=s), f"e{s}") for s in range(3)]
    metrics = [Deletion(steps, "zero"), Insertion(steps, "zero"), Insertion(steps, "mean"), CentreShare(2)]
    batches = []
    together = evaluate(question, answers, metrics, batches.append)
    # untouched, zero and mean once per sample; steps - 1 inner images per sample, explainer and curve
    minimum = n * (1 + 2 + 3 * 3 * (steps - 1))
    assert model.seen == minimum == passes(question, answers, metrics) == sum(batches)
    assert batches[:-1] == [question.batch_size] * (len(batches) - 1)
    assert model.largest == question.batch_size
    for row, attribution in zip(together, answers, strict=True):
        for scores, metric in zip(row, metrics, strict=True):
            alone = metric(question, attribution)
            assert scores.metric == metric.name
            np.testing.assert_allclose(scores.value, alone.value, atol=1e-12)
        deletion, insertion = row[0].curve, row[1].curve
        np.testing.assert_array_equal(deletion[:, 0], insertion[:, -1])
        np.testing.assert_array_equal(deletion[:, -1], insertion[:, 0])
        np.testing.assert_array_equal(row[2].curve[:, -1], insertion[:, -1])


def test_repeated_requests_cost_nothing():
    model = Counting()
    question = ask(model=model)
    a = answer(question, some_map())
    results = evaluate(question, [a, a], [Deletion(12), Deletion(12), Deletion(6)])
    assert model.seen == 5 * (2 + 11)  # every sixth of the pixels is also a twelfth
    np.testing.assert_array_equal(results[0][0].curve, results[1][1].curve)


def test_linear_model_has_known_areas():
    # On a linear model with zero fill, removing the k best pixels removes the sum of their k contributions.
    model = Counting(linear=True)
    question = ask(link="identity", model=model)
    labels = np.arange(5) % 3
    parts = question.inputs[0].reshape(5, -1) * model.weights[0][:, labels].T
    parts = parts.reshape(5, SIDE, SIDE, 3).astype(np.float32)
    best_first = -np.sort(-parts.sum(axis=-1).reshape(5, -1).astype(np.float64), axis=1)
    removed = np.concatenate([np.zeros((5, 1)), np.cumsum(best_first, axis=1)], axis=1)
    total = removed[:, -1:]
    deletion, insertion = evaluate(question, [answer(question, parts)], [Deletion(PIXELS), Insertion(PIXELS, "zero")])[
        0
    ]
    np.testing.assert_allclose(deletion.curve, total - removed, atol=1e-5)
    np.testing.assert_allclose(insertion.curve, removed, atol=1e-5)
    area = (removed[:, 1:] + removed[:, :-1]).mean(axis=1) / 2
    np.testing.assert_allclose(insertion.value, area, atol=1e-5)
    np.testing.assert_allclose(deletion.value, total[:, 0] - area, atol=1e-5)
    # The oracle beats random beats the reversed oracle, sample by sample.
    others = [answer(question, m) for m in (some_map(), -parts)]
    (d1, i1), (d2, i2) = evaluate(question, others, [Deletion(), Insertion(fill="zero")])
    assert (deletion.value < d1.value).all()
    assert (d1.value < d2.value).all()
    assert (insertion.value > i1.value).all()
    assert (i1.value > i2.value).all()


def test_monotone_rescaling_of_the_map_changes_nothing():
    question, values = ask(), some_map().astype(np.float64)
    answers = [answer(question, m) for m in (values, 3 * values + 1, np.exp(values))]
    first, *rest = evaluate(question, answers, [Deletion(), Insertion()])
    for row in rest:
        for scores, want in zip(row, first, strict=True):
            np.testing.assert_allclose(scores.value, want.value, atol=1e-12)


def test_nan_and_infinite_maps_are_missing_values_without_passes():
    model = Counting()
    question, values = ask(model=model), some_map(channels=3)
    values[1, 2, 2, 0] = np.nan
    values[3, 0, 0] = [np.inf, -np.inf, 0]
    scores = Deletion(6)(question, answer(question, values))
    assert model.seen == 3 * 7
    np.testing.assert_array_equal(np.isnan(scores.value), [False, True, False, True, False])
    np.testing.assert_array_equal(scores.extras["degenerate"], [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(np.isnan(scores.extras["tie_rate"]), np.isnan(scores.value))
    assert np.isnan(scores.curve[1]).all()
    # Another attribution of the same samples pays for the endpoints, and does not fill them in for the broken map.
    both = evaluate(question, [answer(question, values), answer(question, some_map())], [Deletion(6)])
    assert np.isnan(both[0][0].curve[1]).all()
    assert np.isfinite(both[1][0].curve).all()


def test_constant_map_is_ranked_by_the_seed_alone():
    question = ask()
    flat = np.full((5, SIDE, SIDE, 1), 2.5, np.float32)
    a, b, c = (Deletion(seed=s)(question, answer(question, m)) for s, m in ((0, flat), (0, 0 * flat), (1, flat)))
    assert np.isfinite(a.value).all()
    np.testing.assert_array_equal(a.extras["tie_rate"], 1)
    np.testing.assert_array_equal(a.extras["degenerate"], 1)
    np.testing.assert_array_equal(a.curve, b.curve)
    assert (a.curve != c.curve).any()
    orders = ranks.order(question, flat[..., 0], np.arange(5))
    assert (orders[:, 0] != 0).any()  # raster order would start at the top left


def test_all_negative_map_and_boolean_map():
    question, values = ask(), -np.exp(some_map())
    scores = Deletion()(question, answer(question, values))
    lifted = Deletion()(question, answer(question, values - values.min() + 1))
    np.testing.assert_allclose(scores.value, lifted.value, atol=1e-12)
    mask = some_map() > 0
    as_numbers = Deletion()(question, answer(question, mask.astype(np.float32)))
    np.testing.assert_array_equal(Deletion()(question, answer(question, mask)).value, as_numbers.value)


def test_tie_rate_counts_units_that_share_their_value():
    relevance = np.array([[1, 1, 2, 3], [1, 2, 3, 4], [5, 5, 5, 5], [0.0, -0.0, 1, 1]])
    np.testing.assert_array_equal(ranks.tie_rate(relevance), [0.5, 0, 1, 1])


def test_more_steps_than_units_give_one_step_per_unit():
    model = Counting()
    question = ask(model=model)
    scores = Deletion(steps=1000)(question, answer(question, some_map()))
    np.testing.assert_allclose(scores.fractions, np.arange(PIXELS + 1) / PIXELS)
    assert model.seen == 5 * (PIXELS + 1)


def test_one_pixel_and_one_column():
    pixel = Question(
        Counting(sizes=(3,)), (np.full((2, 1, 1, 3), 0.5, np.float32),), Target.classes([0, 1], 3, "softmax")
    )
    table = Question(
        Counting((Modality.table(("age",)),), (1,)),
        (np.ones((2, 1), np.float32),),
        Target.classes([0, 1], 3, "softmax"),
    )
    for question in (pixel, table):
        values = np.ones_like(question.inputs[0][..., :1])
        scores = Deletion()(question, answer(question, values))
        ends = question.score(), question.score(tuple(np.zeros_like(v) for v in question.inputs))
        np.testing.assert_allclose(scores.curve, np.stack(ends, axis=1))
        np.testing.assert_allclose(scores.value, (ends[0] + ends[1]) / 2)
        np.testing.assert_array_equal(scores.extras["degenerate"], 0)


def fused(n=3):
    image, table = IMAGE, Modality.table(("age", "size", "grade"))
    rng = np.random.default_rng(3)
    inputs = (rng.random((n, SIDE, SIDE, 3), dtype=np.float32), rng.normal(size=(n, 3)).astype(np.float32))
    model = Counting((image, table), (SIDE * SIDE * 3, 3))
    question = Question(model, inputs, Target.classes(np.arange(n) % 3, 3, "softmax"), check="off")
    maps = (some_map(n), rng.normal(size=(n, 3)).astype(np.float32))
    return question, Attribution(maps, (image, table), question.ids, "joint")


def test_modalities_are_judged_one_at_a_time_in_one_stream():
    question, attribution = fused()
    with pytest.raises(Unsupported, match="write modality='image'"):
        Deletion()(question, attribution)
    with pytest.raises(UnknownName, match="did you mean image"):
        Deletion(modality="imag")(question, attribution)
    by_image, by_table = Deletion(4, modality="image"), Deletion(4, modality="table")
    question.model.seen = 0
    together = evaluate(question, [attribution], [by_image, by_table])[0]
    # untouched once; each modality's fill; 3 inner images, 2 inner tables (3 columns)
    assert question.model.seen == 3 * (1 + 2 + 3 + 2)
    for metric, scores, name in zip((by_image, by_table), together, ("image", "table"), strict=True):
        part = question.only(name)
        alone = metric(part, Attribution((attribution.of(name),), part.modalities, part.ids, "alone"))
        np.testing.assert_allclose(scores.curve, alone.curve, atol=1e-12)
    i, table = 1, question.inputs[1].copy()
    table[i, np.argmax(attribution.of("table")[i])] = 0
    want = question.score((question.inputs[0][[i]], table[[i]]), [i])
    np.testing.assert_allclose(together[1].curve[i, 1], want[0])
    with pytest.raises(Unsupported, match="needs an image, modality 'table' is a table"):
        Insertion(modality="table")(question, attribution)


def test_attribution_must_fit_the_question():
    question = ask()
    a = answer(question, some_map())
    with pytest.raises(InvalidInput, match="same samples in the same order"):
        Deletion()(question[[1, 0, 2, 3, 4]], a)
    with pytest.raises(InvalidInput, match="same samples in the same order"):
        Deletion()(question[:3], a)
    with pytest.raises(InvalidInput, match="resize it to the input first"):
        Deletion()(question, answer(question, some_map()[:, :3, :3]))
    other = Attribution((np.ones((5, 2)),), (Modality.table(("a", "b")),), question.ids, "other")
    with pytest.raises(InvalidInput, match="no map of 'image'"):
        Deletion()(question, other)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"reduction": "max"}, "unknown reduction 'max'"),
        ({"stpes": 3}, "no parameter 'stpes'; did you mean steps"),
        ({"x": 3}, "it has: steps, fill"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(InvalidInput, match=message):
        get("deletion", **params)


def test_discovery_and_params():
    entries = {e.name: e for e in discover()}
    assert {"deletion", "insertion", "centre_share", "mask_share", "pointing"} <= set(entries)
    assert not entries["deletion"].higher_is_better
    assert entries["insertion"].higher_is_better
    assert (entries["deletion"].needs, entries["centre_share"].needs) == ("scores", "nothing")
    assert all(e.purpose.endswith(".") for e in entries.values())
    assert get("deletion", steps=3) == Deletion(3)
    with pytest.raises(UnknownName, match="did you mean deletion"):
        get("deletoin")
    with pytest.raises(InvalidInput, match="needs masks"):
        get("mask_share")
    question = ask()
    params = get("insertion", fill={"blur": 2})(question, answer(question, some_map())).params
    assert params["fill"] == {"blur": 2.0}
    assert (params["link"], params["modality"], params["steps"]) == ("softmax", "image", 24)


def test_xplique_deletion_and_insertion_are_reproduced():
    import tensorflow as tf
    from xplique import metrics

    model = Counting()
    question, values = ask(link="identity", model=model), some_map(channels=3)
    weights = tf.constant(model.weights[0], tf.float32)
    net = tf.keras.Sequential([tf.keras.Input((SIDE, SIDE, 3)), tf.keras.layers.Flatten()])
    net.add(tf.keras.layers.Lambda(lambda v: v @ weights + 0.5 * tf.sin(3 * (v @ weights))))
    labels = np.eye(3, dtype=np.float32)[np.arange(5) % 3]
    ours = [Deletion(12, reduction="mean"), Insertion(12, "zero", reduction="mean")]
    for metric, theirs in zip(ours, (metrics.Deletion, metrics.Insertion), strict=True):
        reference = theirs(net, question.inputs[0], labels, steps=12, batch_size=16)
        expected = reference.detailed_evaluate(values)
        scores = metric(question, answer(question, values))
        curve = np.array([expected[k] for k in sorted(expected)])
        np.testing.assert_allclose(scores.curve.mean(axis=0), curve, atol=2e-6)
        np.testing.assert_allclose(scores.value.mean(), reference.evaluate(values), atol=2e-6)

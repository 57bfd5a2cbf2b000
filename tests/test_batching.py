"""Batches: halved when memory runs out, chosen by measurement where nobody gave a size, and without a pass more."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn

from crossxai import Attribution, Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.batching import DEFAULT_BATCH_SIZE, LADDER, batched, fastest
from crossxai.errors import ModelFailed, OutOfMemory
from crossxai.evaluation.curves import Curve, Deletion, Insertion, evaluate, memory, passes, ranks
from crossxai.model import Model
from crossxai.testing import Counting

IMAGE = (Modality.image(),)
HUGE = 10**14
"""Numbers that no machine has room for, so that the frameworks' own allocators refuse."""


class Greedy(nn.Module):
    """Has room for four samples at a time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > 4:
            torch.empty(HUGE * len(x))
        return x.mean((2, 3))


class GreedyLayer(keras.layers.Layer):
    """Has room for four samples at a time. asked: who has none for more, "NumPy" or "TensorFlow"."""

    def __init__(self, asked: str) -> None:
        super().__init__()
        self.asked = asked

    def call(self, x: tf.Tensor) -> tf.Tensor:
        room = tf.where(tf.shape(x)[0] > 4, tf.constant(HUGE, tf.int64), tf.constant(1, tf.int64))
        if self.asked == "NumPy":
            taken = tf.numpy_function(lambda room: np.empty(room, np.float32)[:1] * 0, [room], tf.float32)
        else:
            taken = 0 * tf.random.uniform([room])
        return tf.reduce_mean(x, (1, 2)) + tf.reduce_sum(taken)


def greedy_torch() -> Model:
    return TorchModel(Greedy().eval(), IMAGE)


def greedy_keras(asked: str = "NumPy") -> Model:
    inputs = keras.Input((6, 6, 3))
    return KerasModel(keras.Model(inputs, GreedyLayer(asked)(inputs)), IMAGE)


def greedy_tensorflow() -> Model:
    """TensorFlow's allocator tries for ten seconds before it gives up."""
    return greedy_keras("TensorFlow")


@pytest.mark.parametrize("make", [greedy_torch, greedy_keras, pytest.param(greedy_tensorflow, marks=pytest.mark.deep)])
def test_a_batch_that_does_not_fit_is_halved(make: Callable[[], Model]) -> None:
    """Real allocations fail; scores are those of the batches that fit, gradients too, and progress counts each copy once."""
    images = np.random.default_rng(0).random((11, 6, 6, 3), np.float32)
    question = Question(make(), (images,), Target.outputs(1, 11, 3), batch_size=9)
    expected = images[..., 1].mean((1, 2))
    np.testing.assert_allclose(question.score(), expected, rtol=1e-6)
    scores, (gradient,) = question.score_and_grad()
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[..., 1], 1 / 36, rtol=1e-5)
    seen: list[int] = []
    streamed = question.score_stream(np.arange(11), lambda part: (images[part],), seen.append)
    np.testing.assert_allclose(streamed, expected, rtol=1e-6)
    assert sum(seen) == 11
    assert max(seen) <= 4


def test_not_even_one_sample() -> None:
    """The error says so, and is a MemoryError, too."""

    def never(_x: np.ndarray) -> np.ndarray:
        raise MemoryError("no room")

    images = np.zeros((3, 4, 4, 3), np.float32)
    question = Question(FunctionModel(never, IMAGE), (images,), Target.outputs(0, 3, 2))
    with pytest.raises(OutOfMemory, match="not even one sample at a time fits into memory: no room") as caught:
        question.score()
    assert isinstance(caught.value, MemoryError)


def test_other_errors_are_not_taken_for_memory() -> None:
    """A RuntimeError of another kind goes through, once."""
    calls = []

    class Wrong(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            raise RuntimeError("the size of tensor a must match")

    question = Question(
        TorchModel(Wrong().eval(), IMAGE), (np.zeros((8, 4, 4, 3), np.float32),), Target.outputs(0, 8, 2)
    )
    with pytest.raises(ModelFailed, match="must match"):
        question.score()
    assert calls == [2], "the samples that are looked at first"


@pytest.mark.parametrize(
    ("slow", "chosen"), [(lambda n: n, 8), (lambda n: 64 if n <= 64 else n, 64), (lambda n: 16 + n // 16 * 8, 64)]
)
def test_the_fastest_size_is_found(slow: Callable[[int], int], chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes by what a batch would cost; nothing is done twice, and the order stays."""
    now = itertools.count()
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    sizes: list[int] = []

    def work(part: np.ndarray) -> np.ndarray:
        next(now)
        clock[0] += slow(len(part))
        sizes.append(len(part))
        return part

    done = np.concatenate(batched(3000, DEFAULT_BATCH_SIZE, work, measure=True))
    np.testing.assert_array_equal(done, np.arange(3000))
    assert sizes[-2] == chosen
    assert set(sizes[:-1]) <= set(LADDER)


def test_memory_ends_the_search() -> None:
    """A size that does not fit is halved and kept."""
    assert fastest(lambda size: min(size, 12)) == 12


def test_only_long_streams_are_measured() -> None:
    """A given size stays, and so does 32 where little is to be done."""
    for n, size, measure in ((3000, 5, True), (3000, DEFAULT_BATCH_SIZE, False), (600, DEFAULT_BATCH_SIZE, True)):
        parts = batched(n, size, len, measure=measure)
        assert set(parts[:-1]) == {int(size)}


def test_measured_streams_cost_what_they_say() -> None:
    """Forward passes and progress add up to `passes` in a stream long enough to be measured, and curves are those of size 7."""
    rng = np.random.default_rng(0)
    images = rng.random((30, 8, 8, 3), np.float32)
    model = Counting(FunctionModel(lambda x: x.mean((1, 2)), IMAGE))
    question = Question(model, (images,), Target.outputs(0, 30, 3))
    answers = [Attribution((rng.random((30, 8, 8, 1)),), question.modalities, question.ids, "noise")]
    metrics = [Deletion(), Insertion()]
    expected = passes(question, answers, metrics)
    assert expected >= 1024
    seen: list[int] = []
    found = evaluate(question, answers, metrics, seen.append)[0]
    assert model.forward == sum(seen) == expected
    given = Question(model, (images,), Target.outputs(0, 30, 3), batch_size=7)
    for one, other in zip(found, evaluate(given, answers, metrics)[0], strict=True):
        np.testing.assert_allclose(one.curve, other.curve, atol=1e-6)


@pytest.mark.parametrize(("n", "maps", "side"), [(10, 2, 24), (400, 2, 24), (60, 8, 24), (12, 2, 160)])
def test_memory_stays_within_the_formula(n: int, maps: int, side: int) -> None:
    """Peak of what NumPy allocates beside the formula: below it, and the formula not a blank cheque."""
    import tracemalloc

    rng = np.random.default_rng(0)
    images = rng.random((n, side, side, 3), np.float32)
    question = Question(
        FunctionModel(lambda x: x.mean((1, 2)), IMAGE), (images,), Target.outputs(0, n, 3), batch_size=16
    )
    answers = [
        Attribution((rng.random((n, side, side, 1), np.float32),), question.modalities, question.ids, str(i))
        for i in range(maps)
    ]
    metrics = [Deletion(), Insertion()]
    bound = memory(question, answers, metrics)
    question.trusted()  # what is found out about the model is found out once
    tracemalloc.start()
    try:
        evaluate(question, answers, metrics)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= bound


BLURRED = {"standardised": {"fill": {"blur": {"size": 11, "sigma": 5.0}}, "mean": [0.5], "sd": [0.2]}}
PRECISE = {"auto": {"of": 60, "precision": 1e-9}}


@pytest.mark.parametrize(
    ("n", "side", "channels", "block", "metrics"),
    [
        (1, 1100, 3, 2**20, [Deletion(2, unit="element")]),  # one image is more than a block
        (4, 512, 1, 2**20, [Insertion(2, BLURRED)]),
        (
            4,
            600,
            1,
            2**10,
            [Deletion(2), Deletion(2, seed=1), Deletion(2, ties="stable"), Deletion(2, reduction="mean")],
        ),
        (60, 8, 3, 2**10, [Deletion("auto"), Insertion("auto")]),
        (60, 8, 3, 2**10, [Deletion(PRECISE), Insertion(PRECISE, "zero")]),
        (60, 8, 3, 2**10, [Deletion("auto"), Deletion(6), Deletion(6, unit="segment", size=6)]),
        (60, 8, 3, 2**10, [Deletion({"percentiles": [80, 60, 40, 20]}, unit="element")]),
    ],
)
def test_memory_of_large_images_and_other_curves(
    n: int, side: int, channels: int, block: int, metrics: list[Curve], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formula holds for float64, elements, segments, percentiles and estimates; small blocks leave no slack."""
    import tracemalloc

    monkeypatch.setattr(ranks, "BLOCK", block)
    rng = np.random.default_rng(0)
    images = rng.random((n, side, side, channels))
    modalities = (Modality.image(channels=("red", "green", "blue")[:channels]),)
    model = FunctionModel(lambda x: x[:, 0, 0], modalities)
    question = Question(model, (images,), Target.outputs(0, n, channels), batch_size=1)
    answers = [Attribution((rng.random(images.shape),), modalities, question.ids, str(i)) for i in range(1 + (n > 4))]
    bound = memory(question, answers, metrics)
    question.trusted()  # what is found out about the model is found out once
    tracemalloc.start()
    try:
        evaluate(question, answers, metrics)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= bound


def test_equal_maps_are_scored_once() -> None:
    """Where two explainers gave a sample the same map, its masked images are shared; curves are as if each were alone."""
    rng = np.random.default_rng(0)
    images = rng.random((4, 8, 8, 3), np.float32)
    model = Counting(FunctionModel(lambda x: (x**2).mean((1, 2)), IMAGE))
    question = Question(model, (images,), Target.outputs(0, 4, 3))
    one, other = rng.random((4, 8, 8, 1)), rng.random((4, 8, 8, 1))
    other[[0, 2]] = one[[0, 2]]
    answers = [Attribution((m,), question.modalities, question.ids, str(i)) for i, m in enumerate((one, other))]
    metrics = [Deletion(6), Insertion(6)]
    found = evaluate(question, answers, metrics)
    ends = 4 * 3  # untouched, black and blurred
    assert model.forward == passes(question, answers, metrics) == ends + (4 + 2) * 2 * 5
    for answer, scores in zip(answers, found, strict=True):
        for alone, shared in zip(evaluate(question, [answer], metrics)[0], scores, strict=True):
            np.testing.assert_allclose(alone.curve, shared.curve, atol=1e-7)


def test_keras_traces_once_per_shape() -> None:
    """Python code of a layer runs while its graph is traced: once for any number of samples, once more for another size."""
    traces: list[int] = []

    class Noted(keras.layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            traces.append(1)
            return tf.reduce_mean(x, (1, 2))

    inputs = keras.Input((None, None, 3))
    model = KerasModel(keras.Model(inputs, Noted()(inputs)), IMAGE)
    traces.clear()
    for n in (1, 5, 32, 7):
        model.predict((np.zeros((n, 6, 6, 3), np.float32),))
    assert len(traces) == 1
    model.predict((np.zeros((2, 8, 8, 3), np.float32),))
    assert len(traces) == 2

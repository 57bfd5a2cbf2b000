"""Streams of masked images where something gives out: memory in the middle of a batch, points, a model's room for one sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from crossxai import Attribution, Modality, Question, Target, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.evaluation.curves import Curve, Deletion, evaluate, passes, ranks
from crossxai.model import Array, Inputs

IMAGE = (Modality.image(),)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((6, 8, 8, 3), np.float32)
MAPS = RNG.random((6, 8, 8, 1), np.float32)


def ask(images: np.ndarray = IMAGES, batch_size: int = 32) -> tuple[Question, Attribution]:
    """A mean colour, whose target is red, and maps of noise."""
    model = FunctionModel(lambda x: x.mean((1, 2)), IMAGE)
    question = Question(model, (images,), Target.outputs(0, len(images), 3), batch_size=batch_size)
    return question, Attribution((MAPS[: len(images)],), IMAGE, question.ids, "noise")


def failing(function: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    """A function that runs out of memory the first time that `when` says so."""
    failed: list[bool] = []

    def once(*args: Any, **kwargs: Any) -> Any:
        if not failed and when(*args, **kwargs):
            failed.append(True)
            raise MemoryError("no room")
        return function(*args, **kwargs)

    return once


@pytest.mark.parametrize("steps", [6, "auto"])
def test_memory_that_runs_out_while_a_fill_is_made(monkeypatch: pytest.MonkeyPatch, steps: int | str) -> None:
    """The batch is made again, with each sample's own fill and not that of the sample before."""
    monkeypatch.setattr(ranks, "BLOCK", 1)
    question, noise = ask(batch_size=2)
    fill: Callable[[np.ndarray], np.ndarray] = lambda values: values[:, ::-1] / 2  # noqa: E731
    expected = evaluate(question, [noise], [Deletion(steps, fill)])[0][0]
    short = failing(fill, lambda values: np.array_equal(values[0], IMAGES[3]))
    np.testing.assert_array_equal(evaluate(question, [noise], [Deletion(steps, short)])[0][0].value, expected.value)


@pytest.mark.parametrize("steps", [6, "auto"])
def test_memory_that_runs_out_while_a_map_is_reduced(monkeypatch: pytest.MonkeyPatch, steps: int | str) -> None:
    """The batch is made again, in each sample's own order."""
    monkeypatch.setattr(ranks, "BLOCK", 1)
    question, noise = ask(batch_size=2)
    expected = evaluate(question, [noise], [Deletion(steps)])[0][0]
    seen: list[int] = []

    def third_time(*args: Any) -> bool:
        seen.append(args[-1].start)
        return seen.count(3) == 2  # the first time is for its digest

    monkeypatch.setattr(ranks, "units", failing(ranks.units, third_time))
    np.testing.assert_array_equal(evaluate(question, [noise], [Deletion(steps)])[0][0].value, expected.value)
    assert seen.count(3) == 2


def test_a_sample_of_one_segment_beside_others() -> None:
    """It has no point between nothing and everything, hence no area; the others keep theirs. It had been an error."""
    images = RNG.random((3, 16, 16, 3), np.float32)
    images[1] = 0.5
    maps = RNG.random((3, 16, 16, 1))
    metric = Deletion(8, unit="segment", size=6, endpoints="neither")

    def run(rows: list[int], metric: Curve) -> np.ndarray:
        model = FunctionModel(lambda x: x.mean((1, 2)), IMAGE)
        ids = tuple(str(i) for i in rows)
        question = Question(model, (images[rows],), Target.outputs(0, len(rows), 3), ids)
        noise = Attribution((maps[rows],), IMAGE, ids, "noise")
        assert passes(question, [noise], [metric]) >= 0
        return np.asarray(evaluate(question, [noise], [metric])[0][0].value)

    together = run([0, 1, 2], metric)
    np.testing.assert_array_equal(together, np.concatenate([run([i], metric) for i in range(3)]))
    assert np.isnan(together).tolist() == [True, False, True]  # SLIC makes noise one segment, and cuts a plain image up


class Same:
    """A segmentation model that gives its input back, the very array."""

    name, modalities = "same", IMAGE

    def predict(self, inputs: Inputs) -> Array:
        return inputs[0]


@dataclass(frozen=True)
class Corner:
    """A measure of one's own: the first output, a view of the outputs."""

    n: int
    link: ClassVar[str] = "corner"

    @property
    def weights(self) -> Array:
        """None."""
        raise Unsupported("no weighted sum")

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the outputs of one sample."""
        return (8, 8, 3)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: Any) -> Corner:
        return Corner(len(np.arange(self.n)[rows]))

    def score(self, outputs: Array, _rows: Any) -> Array:
        """Scores (m,), not copied."""
        return outputs[:, 0, 0, 0]

    def cotangent(self, outputs: Array, _rows: Any) -> Array:
        """None."""
        raise Unsupported("not needed")


def test_scores_outlive_the_arrays_that_they_are_views_of() -> None:
    """The stream builds all batches in the same memory; a later batch must not change what an earlier one scored."""
    question = Question(Same(), (IMAGES,), Corner(6), batch_size=4)
    noise = Attribution((MAPS,), IMAGE, question.ids, "noise")
    curve = evaluate(question, [noise], [Deletion(4)])[0][0].curve
    assert curve is not None
    place = (MAPS.reshape(6, -1) > MAPS[:, 0, 0]).sum(axis=1)  # how many pixels go before the corner
    expected = np.where(place[:, None] < 16 * np.arange(5), 0, IMAGES[:, :1, 0, 0])
    np.testing.assert_array_equal(curve, expected)

"""Progress: moves as the model is asked, says how much time is left, and speaks plainly to a pipe."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from crossxai import Modality, Question, Target, explainers
from crossxai.adapters.numpy import FunctionModel
from crossxai.batching import batched
from crossxai.experiment.progress import Progress, explaining_cost


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_pipe_gets_a_line_per_step_and_one_now_and_then() -> None:
    clock, text = Clock(), StringIO()
    with Progress(Console(file=text), 30, clock) as progress:
        progress.stage("m", 400)
        with progress.step("m: lime", cost=300, samples=100):
            clock.now += 50  # a library is loaded: no pace
            for _ in range(10):
                batched(10, 10, lambda _: setattr(clock, "now", clock.now + 6))
        with progress.step("m: scores", cost=100, samples=100, announce=False):
            pass
        progress.finish("m: explained")
    lines = text.getvalue().splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        *(f"m: lime: {done} of 400 passes" for done in (0, 150, 300)),
        "m: lime done: 300 of 400 passes",
        "m: explained: 400 of 400 passes",
    ]
    assert "\x1b" not in text.getvalue()


@pytest.mark.parametrize("overhead", [0.0, 40.0])
def test_time_left_is_right(overhead: float) -> None:
    """Whatever a library takes before it asks, an even pace is foretold from its first tenth on."""
    clock = Clock()
    with Progress(Console(file=StringIO()), 30, clock) as progress:
        progress.stage("m", 300)
        with progress.step("m: rise", cost=300, samples=300):
            clock.now += overhead
            for done in range(10, 301, 10):
                batched(10, 5, lambda _: setattr(clock, "now", clock.now + 1))
                assert progress.seconds_left() == pytest.approx((300 - done) / 5)


def test_the_first_answer_is_no_pace() -> None:
    """The first batch also measures what explainers rely on in the model, which takes many times as long."""
    clock = Clock()
    with Progress(Console(file=StringIO()), 30, clock) as progress:
        progress.stage("m", 300)
        with progress.step("m: rise", cost=300, samples=300):
            batched(10, 10, lambda _: setattr(clock, "now", clock.now + 200))
            assert np.isnan(progress.seconds_left())
            batched(10, 10, lambda _: setattr(clock, "now", clock.now + 2))
            assert progress.seconds_left() == pytest.approx(56)


def test_an_explainer_is_counted_to_its_last_pass() -> None:
    """What is counted within real explainers is what they announce, so that nothing jumps at their ends."""
    model = FunctionModel(lambda x: x.mean((1, 2)), (Modality.image(),))
    question = Question(model, (np.random.default_rng(0).random((3, 16, 16, 3), np.float32),), Target.outputs(0, 3, 3))
    for name, params in (("captum.occlusion", {"patch": 4, "stride": 4}), ("lime.image", {"samples": 40})):
        explainer = explainers.get(name, **params)
        cost, samples = explaining_cost(explainer, question)
        out = StringIO()
        with Progress(Console(file=out), every=0) as progress:
            progress.stage("m", cost)
            with progress.step(name, cost, samples):
                explainer(question)
                assert out.getvalue().splitlines()[-1] == f"{name}: {cost} of {cost} passes"


def test_what_fails_moves_on() -> None:
    out = StringIO()
    with Progress(Console(file=out), every=0) as progress:
        progress.stage("m", 20)
        with pytest.raises(ValueError, match="lost"), progress.step("m: a", 10, 10):
            raise ValueError("lost")
        progress.advance(0)
        assert out.getvalue().splitlines()[-1].startswith("m: a: 10 of 20 passes")
        progress.advance(100)
        assert out.getvalue().splitlines()[-1] == "m: a: 20 of 20 passes"


def test_what_was_done_before_is_no_pace() -> None:
    clock = Clock()
    with Progress(Console(file=StringIO()), 30, clock, unit="steps") as progress:
        progress.stage("training", 100)
        progress.skip(50)
        for _ in range(2):
            clock.now += 20
            progress.advance(10)
        assert progress.seconds_left() == pytest.approx(60)

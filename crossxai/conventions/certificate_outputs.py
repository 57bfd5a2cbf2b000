"""How far the outputs of two networks are apart, on what a certificate compares them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from crossxai.conventions.certificate_result import Kind, Line
from crossxai.conventions.training import Sides
from crossxai.errors import CrossXAIError
from crossxai.model import Array, Inputs
from crossxai.porting.certificate import difference, probe_inputs
from crossxai.porting.sizes import STEP, larger
from crossxai.question import Question

LARGE = 10.0
"""What inputs are multiplied by to leave the range that a network was made for."""
FINER = 2.0**-29
"""The distance of neighbouring numbers in float64, as a share of that in float32."""


def probes(question: Question) -> dict[str, Inputs]:
    """What networks are compared on."""
    named = zip(
        ("samples", "pixels shuffled", "noise"), probe_inputs(question.inputs, question.model.modalities), strict=True
    )
    return {**dict(named), "ten times as large": ten_times(question.inputs)}


def ten_times(given: Inputs) -> Inputs:
    return tuple(v * v.dtype.type(LARGE) for v in given)


def in_double(given: Inputs) -> Inputs:
    return tuple(v.astype(np.float64) for v in given)


def outputs(one: Question, other: Question, exact: Sides | None) -> Iterator[Line]:
    for name, given in probes(one).items():
        ours = _answer(one, given)
        lines = compared("outputs", name, (ours, _answer(other, given)), exact, given, _answer, difference)
        yield from lines
        if name == "samples":
            alone = np.concatenate([other.model.predict(tuple(v[[row]] for v in given)) for row in range(len(one))])
            yield Line("outputs", "one at a time", "float32", difference(ours, alone), lines[-1].rounding)


def other_outputs(one: Question, other: Question, exact: Sides | None) -> Iterator[Line]:
    """What the networks return beside the output that counts, name by name; nothing if both return nothing else."""
    sides = (one, other)
    if not all(hasattr(side.model, "other_outputs") for side in sides):
        return
    names = [tuple(_others(side, side.inputs)) for side in sides]
    paired = _paired(*names)
    for side, own, known in zip(sides, names, (paired, paired.values()), strict=True):
        missing = f"only {side.model.name} returns it"
        yield from (
            Line("outputs", f"output {name}", "float32", float("nan"), reason=missing)
            for name in own
            if name not in known
        )
    for probe, given in probes(one).items():
        answers = [_others(side, given) for side in sides]
        wide = None if exact is None else [_others(side, in_double(given)) for side in exact]
        for ours, theirs in paired.items():
            yield from _measured(
                "outputs", f"output {ours}, {probe}", (answers[0][ours], answers[1][theirs]),
                None if wide is None else (wide[0][ours], wide[1][theirs]), _turned_difference,
            )  # fmt: skip


def _others(question: Question, given: Inputs) -> dict[str, Array]:
    model: Any = question.model
    others: dict[str, Array] = model.other_outputs(given)
    return {name: v if np.issubdtype(v.dtype, np.floating) else v.astype(np.float64) for name, v in others.items()}


def _paired(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """The outputs of both that belong together: by their names, in order where there are as many under other names."""
    if set(ours) != set(theirs) and len(ours) == len(theirs):
        return dict(zip(ours, theirs, strict=True))
    return {name: name for name in ours if name in theirs}


def _turned_difference(one: Array, other: Array) -> float:
    """`difference`, the smallest over where the channels may be, which nothing declares."""
    if one.ndim < 2:
        return difference(one[:, None], other[:, None]) if one.shape == other.shape else float("inf")
    orders = [other, *((np.moveaxis(other, 1, -1), np.moveaxis(other, -1, 1)) if other.ndim > 2 else ())]
    return min((difference(one, turned) for turned in orders if turned.shape == one.shape), default=float("inf"))


def other_size(one: Question, other: Question, exact: Sides | None) -> Iterator[Line]:
    """Outputs at larger images, which both networks may take; nothing if neither does."""
    given, name = larger(one.inputs, one.model.modalities), f"larger by {STEP} pixels"
    if given is None:
        return
    answers = [_answer_or_none(side, given) for side in (one, other)]
    missing = [side.model.name for side, answer in zip((one, other), answers, strict=True) if answer is None]
    if not missing:
        yield from compared("outputs", name, answers, exact, given, _answer, difference)
    elif len(missing) == 1:
        yield Line("outputs", name, "float32", float("nan"), reason=f"{missing[0]} takes images of one size only")


def _answer(question: Question, given: Inputs) -> Array:
    return question.model.predict(given)


def _answer_or_none(question: Question, given: Inputs) -> Array | None:
    """None of a model that does not take such inputs."""
    try:
        return _answer(question, given)
    except CrossXAIError:
        return None


def compared(
    kind: Kind, name: str, answers: Sequence[Any], exact: Sides | None, given: Inputs,
    ask: Callable[[Question, Inputs], Any], measure: Callable[[Any, Any], float],
) -> list[Line]:  # fmt: skip
    """The difference of both answers, after that of their copies in float64, which tell what is rounding."""
    wide = None if exact is None else [ask(side, in_double(given)) for side in exact]
    return _measured(kind, name, answers, wide, measure)


def _measured(
    kind: Kind, name: str, answers: Sequence[Any], exactly: Sequence[Any] | None, measure: Callable[[Any, Any], float]
) -> list[Line]:
    ours, theirs = answers
    if exactly is None:
        return [Line(kind, name, "float32", measure(ours, theirs))]
    wide, others = exactly
    rounding = measure(wide, ours) + measure(others, theirs)
    double = Line(kind, name, "float64", measure(wide, others), FINER * rounding)
    return [double, Line(kind, name, "float32", measure(ours, theirs), rounding)]

"""What every explainer promises."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from crossxai.attribution import Attribution, Needs
from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.method import FAMILIES, Method
from crossxai.question import Question
from crossxai.testing.oracles import Counting
from crossxai.testing.state import require, require_same, require_untouched, snapshot


def check_explainer(explainer: Method, question: Question, *, tolerance: float = 1e-5) -> Attribution | Unsupported:
    """Hold an explainer to its contract on a question of at least two samples; four calls.

    The attribution says who made it and how, broadcasts to the inputs and is finite; the same seed gives the same maps; neither
    batch size, order nor the other samples change them by more than `tolerance` (the other samples may, where the class says
    `contrasts = True`); inputs, networks and process are left as they were; the model is called as often as `cost` says. Passes
    inside a twin (needs "module") are not counted, and the model then counts at most that.

    Parameters
    ----------
    explainer : Method, the explainer, with the parameters to test
    question : Question, at least two samples
    tolerance : float, as a share of the largest value

    Returns
    -------
    Attribution or Unsupported, the maps, or the refusal, whose reason is not empty

    Raises
    ------
    AssertionError: with a sentence on what is broken
    """
    if len(question) < 2:
        raise InvalidInput("the contract compares samples: ask a question of at least two")
    who = f"{explainer.name}, profile {explainer.profile},"
    _check_description(explainer)
    attribution = _first(explainer, question, who)
    if isinstance(attribution, Unsupported):
        return attribution
    _check_metadata(explainer, question, attribution, who)
    _check_maps(question, attribution, who)
    _check_passes(explainer, question, attribution, who)
    _check_independence(explainer, question, attribution, who, tolerance)
    return attribution


def _first(explainer: Method, question: Question, who: str) -> Attribution | Unsupported:
    """The attribution, or the refusal, of a call that leaves everything as it was.

    A library may draw numbers while it is being loaded, which is not the explainer's doing: that call is made again.
    """
    inputs = tuple(values.copy() for values in question.inputs)
    loaded = -1
    while loaded != len(sys.modules):
        loaded = len(sys.modules)
        before = snapshot(question.model)
        try:
            attribution: Attribution | Unsupported = explainer(question)
        except Unsupported as refusal:
            require(str(refusal).strip(), f"{who} raised Unsupported without a reason: say what cannot be done, why")
            attribution = refusal
        after = snapshot(question.model)
    require_same(before, after, who)
    require_untouched(inputs, question.inputs, who)
    return attribution


def _check_description(explainer: Method) -> None:
    kind = type(explainer)
    name = explainer.name
    require(dataclasses.is_dataclass(kind), f"{name}: write @dataclass(frozen=True, kw_only=True) above the class")
    require(kind.__dataclass_params__.frozen, f"{name}: a frozen dataclass is needed, so that parameters stay")  # type: ignore[attr-defined]
    require(
        name.startswith(f"{explainer.library}.") and len(name) > len(explainer.library) + 1,
        f"{name!r} is not a name of the form library.method with library {explainer.library!r}",
    )
    require(explainer.summary.strip(), f"{name}: summary says in a few words what it is")
    require((kind.__doc__ or "").strip(), f"{name}: the docstring says what it is and where it comes from")
    require(explainer.needs in get_args(Needs), f"{name}: needs is one of {get_args(Needs)}, not {explainer.needs!r}")
    require(explainer.family in ("", *FAMILIES), f"{name}: family is one of {FAMILIES}, not {explainer.family!r}")
    require(explainer.profiles, f"{name}: profiles names at least one profile")
    same = kind(**{f.name: getattr(explainer, f.name) for f in dataclasses.fields(explainer)})
    require(same == explainer, f"{name}: made again from its parameters, it is not equal to itself")


def _check_metadata(explainer: Method, question: Question, attribution: Attribution, who: str) -> None:
    free = [m.name for m in question.modalities if m.kind in explainer.kinds]
    given = [m.name for m in attribution.modalities]
    require(
        given and given == [name for name in free if name in given],
        f"{who} answers for modalities {given}; free, and of its kinds, are {free}, in this order",
    )
    require(attribution.ids == question.ids, f"{who} explains samples {attribution.ids}, asked about {question.ids}")
    require(attribution.explainer == explainer.name, f"{who} signs its answer as {attribution.explainer!r}")
    require(attribution.profile == explainer.profile, f"{who} says its answer has profile {attribution.profile!r}")
    params = dataclasses.asdict(explainer)
    stated = dict(attribution.params)
    require(stated == params, f"{who} says that its parameters are {stated}, not {params}")
    require(attribution.seconds > 0, f"{who} took {attribution.seconds} seconds")
    for name, extra in attribution.extras.items():
        shape = np.shape(extra)
        require(shape[:1] == (len(question),), f"{who} extra {name!r} has shape {shape}: the sample axis comes first")


def _check_maps(question: Question, attribution: Attribution, who: str) -> None:
    inputs = {m.name: v for m, v in zip(question.modalities, question.values, strict=True)}
    for modality, values in zip(attribution.modalities, attribution.values, strict=True):
        wanted = inputs[modality.name].shape
        fits = len(values.shape) == len(wanted) and all(a in (1, b) for a, b in zip(values.shape, wanted, strict=True))
        require(
            fits and len(values) == len(question),
            f"{who} map of {modality.name!r} has shape {values.shape}, which does not broadcast to the input's {wanted}",
        )
        require(np.issubdtype(values.dtype, np.floating), f"{who} map of {modality.name!r} holds {values.dtype}")
        require(np.isfinite(values).all(), f"{who} map of {modality.name!r} holds NaN or infinity")


def _check_passes(explainer: Method, question: Question, attribution: Attribution, who: str) -> None:
    """A second call, counted; it must also give the same maps to the last bit."""
    counting = Counting(question.model)
    again = explainer(replace(question, model=counting))
    for modality, a, b in zip(attribution.modalities, attribution.values, again.values, strict=True):
        require(np.array_equal(a, b), f"{who} gives two maps of {modality.name!r} for one seed: draw from question.rng")
    announced = tuple(len(question) * count for count in explainer.cost(question))
    counted = (counting.forward, counting.backward)
    seen = zip(counted, announced, strict=True)
    holds = all(a <= b if explainer.needs == "module" else a == b for a, b in seen)
    require(
        holds,
        f"{who} made {counted} (forward, backward) passes through the model for {len(question)} samples, and announced "
        f"{announced}: mend passes()",
    )


def _check_independence(
    explainer: Method, question: Question, attribution: Attribution, who: str, tolerance: float
) -> None:
    """Everything changes at once; if that matters, one after the other, to say what it was."""
    batch = replace(question, batch_size=2 if question.batch_size != 2 else 3)
    rows = np.arange(len(question))
    backwards, fewer = rows[::-1], rows[:0:-1]
    if getattr(explainer, "contrasts", False):
        cases: list[tuple[str, Question, Any]] = [("the batch size", batch, rows)]
    else:
        if _same(explainer(batch[fewer]), attribution, fewer, tolerance):
            return
        cases = [
            ("the batch size", batch, rows),
            ("the order of samples", question[backwards], backwards),
            ("the other samples", question[fewer[::-1]], fewer[::-1]),
            ("the batch size, the order and the other samples together", batch[fewer], fewer),
        ]
    for change, changed, chosen in cases:
        require(_same(explainer(changed), attribution, chosen, tolerance), f"{who} gives maps that depend on {change}")


def _same(maps: Attribution, expected: Attribution, rows: Any, tolerance: float) -> bool:
    return all(
        a.shape == b[rows].shape and np.allclose(a, b[rows], rtol=0, atol=tolerance * float(np.abs(b).max()))
        for a, b in zip(maps.values, expected.values, strict=True)
    )

"""What a question relies on, measured once per model and kind of input; a broken assumption is a refusal in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from crossxai.assumptions.facts import Fact, itself, kind_of, known
from crossxai.assumptions.gradients import gradient_at_layer, gradients
from crossxai.assumptions.repeating import LARGEST, at_size, repeating
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.errors import BrokenAssumption
from crossxai.model import Array, Differentiable, Inputs, Layered, Model

OFF = 'check="off" at the question (in experiments: check = "off") answers all the same, unchecked, and every file says so'


def scores_of(model: Model, inputs: Inputs, batch_size: int = DEFAULT_BATCH_SIZE) -> tuple[Fact, ...]:
    """What every score relies on: the model gives the same outputs twice, and samples do not see each other, also in batches of
    this size."""
    model, size = itself(model), min(batch_size, LARGEST)
    repeated = known(model, ("repeating", kind_of(inputs)), lambda: repeating(model, inputs))
    if repeated.independent.verdict != "holds" or size <= len(repeated.pair[0]):
        return repeated.same, repeated.independent
    sized = known(model, ("batches of", kind_of(inputs), size), lambda: at_size(model, inputs, repeated, size))
    return repeated.same, sized or repeated.independent


def gradients_of(model: Differentiable, inputs: Inputs) -> dict[str, Fact]:
    """By modality: whether its gradient exists and is right."""
    model = itself(model)
    return known(model, ("gradients", kind_of(inputs)), lambda: gradients(model, inputs))


def layer_gradient_of(model: Layered, inputs: Inputs, layer: str) -> Fact:
    """Whether the gradient at a layer exists and is right."""
    model = itself(model)
    return known(model, ("gradient at layer", kind_of(inputs), layer), lambda: gradient_at_layer(model, inputs, layer))


def require(facts: Iterable[Fact]) -> None:
    """Raise `BrokenAssumption` with the first fact that is broken."""
    for fact in facts:
        if fact.verdict == "broken":
            raise BrokenAssumption(f"{fact.sentence()} ({OFF})")


SHOWN = 5


def named(ids: Sequence[str], rows: npt.NDArray[np.intp]) -> str:
    """The samples of these rows, each once, by number and id, the first few of many."""
    which = np.unique(rows)
    shown = ", ".join(str(row) if ids[row] == str(row) else f"{row} ({ids[row]!r})" for row in map(int, which[:SHOWN]))
    more = f" and {len(which) - SHOWN} more" if len(which) > SHOWN else ""
    return f"sample{'s' * (len(which) > 1)} {shown}{more}"


def require_finite(model: str, ids: Sequence[str], scores: Array, rows: npt.NDArray[np.intp]) -> None:
    """Raise `BrokenAssumption` that names the samples whose score, or that of a copy of them, is NaN or infinite; rows[j] is the
    sample of scores[j]."""
    bad = ~np.isfinite(scores)
    if bad.any():
        raise BrokenAssumption(
            f"the score of model {model!r} is NaN or infinite for {named(ids, rows[bad])}, or for what an explainer makes of it: "
            "a map of it would look like any other; mend the model (does it divide by a deviation, or take a logarithm, that can "
            'be 0?), or leave these samples out (check="off" answers all the same)'
        )

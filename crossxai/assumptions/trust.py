"""What a question relies on, asked once per model and kind of input; a broken assumption is a refusal in words."""

from __future__ import annotations

from collections.abc import Iterable

from crossxai.assumptions.fact import Fact
from crossxai.assumptions.gradients import gradients
from crossxai.assumptions.known import itself, kind_of, known
from crossxai.assumptions.layer_gradients import at_layer
from crossxai.assumptions.repeating import LARGEST, at_size, repeating
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.errors import BrokenAssumption
from crossxai.model import Differentiable, Inputs, Layered, Model

OFF = 'check="off" at the question (in experiments: check = "off") answers all the same, unchecked, and every file says so'


def scores_of(model: Model, inputs: Inputs, batch_size: int = DEFAULT_BATCH_SIZE) -> tuple[Fact, ...]:
    """What every score relies on: the model gives the same answer twice, and samples do not see each other, also in batches of
    this size."""
    model, size = itself(model), min(batch_size, LARGEST)
    found = known(model, ("repeating", kind_of(inputs)), lambda: repeating(model, inputs))
    if found.apart.verdict != "holds" or size <= len(found.pair[0]):
        return found.same, found.apart
    sized = known(model, ("batches of", kind_of(inputs), size), lambda: at_size(model, inputs, found, size))
    return found.same, sized or found.apart


def gradients_of(model: Differentiable, inputs: Inputs) -> dict[str, Fact]:
    """By modality: whether its gradient exists and is right."""
    model = itself(model)
    return known(model, ("gradients", kind_of(inputs)), lambda: gradients(model, inputs))


def layer_gradient_of(model: Layered, inputs: Inputs, layer: str) -> Fact:
    """Whether the gradient at a layer exists and is right."""
    model = itself(model)
    return known(model, ("gradient at layer", kind_of(inputs), layer), lambda: at_layer(model, inputs, layer))


def require(facts: Iterable[Fact]) -> None:
    """Raise `BrokenAssumption` with the first fact that is broken."""
    for fact in facts:
        if fact.verdict == "broken":
            raise BrokenAssumption(f"{fact.sentence()} ({OFF})")

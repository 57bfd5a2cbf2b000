"""`crossxai.check`: everything that explainers and metrics rely on in a model, one row per fact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.assumptions import layer_facts, reduced, trust
from crossxai.assumptions.facts import Fact, Verdict, html_table
from crossxai.assumptions.inputs import target_fact, value_facts
from crossxai.assumptions.probes import outputs_in_batches
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.errors import CrossXAIError, InvalidInput
from crossxai.measures import Measure
from crossxai.model import Array, Differentiable, Inputs, Model
from crossxai.outputs import kind

COLUMNS = ("fact", "verdict", "found", "measured by", "breaks", "write")


@dataclass(frozen=True)
class Check:
    """The facts about one model, in order; shows itself as a table in a notebook and as text when printed."""

    model: str
    facts: tuple[Fact, ...]

    @property
    def broken(self) -> tuple[Fact, ...]:
        """The facts that make results wrong; empty for a model that can be explained."""
        return tuple(fact for fact in self.facts if fact.verdict == "broken")

    def rows(self) -> list[tuple[str, ...]]:
        """One row of text per fact, in the order of `COLUMNS`."""
        return [(f.name, f.verdict, f.found, f.how, f.breaks, f.write) for f in self.facts]

    def __str__(self) -> str:
        lines = [f"{f.verdict:8}{f.name}: {f.sentence()}" for f in self.facts]
        return "\n".join([f"check of model {self.model!r}", *lines])

    def __repr__(self) -> str:
        return f"Check({self.model}: {len(self.facts)} facts, {len(self.broken)} broken)"

    def _repr_html_(self) -> str:
        return html_table(repr(self), COLUMNS, self.rows())


def check(
    model: Model, inputs: Inputs | Array, target: Measure | None = None, labels: npt.ArrayLike | None = None
) -> Check:
    """Measure what explainers and metrics rely on in a model; documented where users find it, at `crossxai.check`."""
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    if len(given) != len(model.modalities):
        names = ", ".join(m.name for m in model.modalities)
        raise InvalidInput(f"model {model.name!r} takes {len(model.modalities)} arrays ({names}), got {len(given)}")
    facts = [f for m, v in zip(model.modalities, given, strict=True) for f in value_facts(model, m, v)]
    if any(f.verdict == "broken" for f in facts):
        return Check(model.name, tuple(facts))
    facts += _facts_or_error("deterministic", lambda: list(trust.scores_of(model, given)))
    if any(f.verdict == "broken" for f in facts):  # nothing else can be measured of such a model
        return Check(model.name, tuple(facts))
    if isinstance(model, Differentiable):
        facts += _facts_or_error("gradient", lambda: list(trust.gradients_of(model, given).values()))
    else:
        without = f"model {model.name!r} gives none"
        facts.append(Fact("gradient", "note", without, "its adapter", "explainers that need one refuse"))
    facts += _facts_or_error("precision", lambda: reduced.facts_of(model, given, target))
    facts += _facts_or_error("outputs", lambda: _outputs(model, given, labels))
    if target is not None:
        facts += _facts_or_error("target", lambda: [target_fact(model, given, target)])
    facts += _facts_or_error("layers", lambda: layer_facts.layer_facts(model, given))
    return Check(model.name, tuple(facts))


def _facts_or_error(name: str, measure: Callable[[], list[Fact]]) -> list[Fact]:
    """The facts, or the reason why they could not be measured."""
    try:
        return measure()
    except CrossXAIError as error:
        return [Fact(name, "broken", str(error), "asking the model", "every answer")]


def _outputs(model: Model, inputs: Inputs, labels: npt.ArrayLike | None) -> list[Fact]:
    outputs = outputs_in_batches(model, inputs, DEFAULT_BATCH_SIZE)
    known = kind(model, inputs, outputs)
    verdict: Verdict = "note" if known.kind == "unknown" else "holds"
    fact = Fact("outputs", verdict, f"{known.kind}: {known.how}", "a declaration, the graph, or the outputs")
    return [fact, *layer_facts.trained(model, inputs, outputs, None if labels is None else np.asarray(labels))]

"""What can be asked of the layers: where activation maps are drawn, which layers run twice, what has no translation."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai.assumptions.calling import calling
from crossxai.assumptions.cam_layers import in_words
from crossxai.assumptions.fact import Fact
from crossxai.errors import CrossXAIError
from crossxai.model import Inputs, Layered, Model, Traceable
from crossxai.porting import twin
from crossxai.question import Question
from crossxai.target import Target


def inside(model: Model, inputs: Inputs) -> list[Fact]:
    """Facts on a model whose layers can be read; nothing for others."""
    facts = []
    if isinstance(model, Layered):
        facts += [_drawn(model, inputs, m.name) for m in model.modalities if m.kind == "image"]
        facts += _reused(model) + calling(model, inputs)
    if isinstance(model, Traceable):
        facts.append(_translated(model, inputs))
    return facts


def _drawn(model: Layered, inputs: Inputs, modality: str) -> Fact:
    name, how = f"activation maps of {modality}", "the layers' definitions, and sixteen passes with a cell replaced"
    few = tuple(v[:2] for v in inputs)
    outputs = np.asarray(model.predict(few))
    mixture = np.random.default_rng(3).normal(size=outputs.shape[1:])  # the sum of a softmax never moves
    target = Target(np.broadcast_to(mixture, outputs.shape))
    try:
        question = Question(model, few, target).only(modality)
        layer = question.cam_layer()
        return Fact(name, "holds", in_words(question, layer), how)
    except CrossXAIError as error:
        return Fact(name, "note", str(error), how, "Grad-CAM and its like refuse")


def _reused(model: Model) -> list[Fact]:
    hints: dict[str, Any] = dict(model.hints()) if hasattr(model, "hints") else {}
    facts = []
    if hints.get("in place"):
        names = hints["in place"]
        facts.append(
            Fact("in-place activations", "note", f"{len(names)} layers work in place ({', '.join(names[:3])} …)", "the layers",
                 "recorders of other libraries read an activation after it was overwritten; here copies are read")
        )  # fmt: skip
    if hints.get("hooked"):
        names = hints["hooked"]
        facts.append(
            Fact("hooks", "note", f"{len(names)} layers have hooks of someone else ({', '.join(names[:3])})", "the layers",
                 "a hook may change what is computed, or its gradient", "handle.remove() for each")
        )  # fmt: skip
    return facts


def _translated(model: Traceable, inputs: Inputs) -> Fact:
    name, how = "twin", "the network read as a graph, rebuilt in torch, and compared on real, shuffled and noise inputs"
    try:
        made = twin(model, tuple(v[:2] for v in inputs), "torch")
    except CrossXAIError as error:
        breaks = "DeepLIFT, LRP, guided backpropagation and their like refuse"
        return Fact(name, "note", str(error), how, breaks, "explainers that read no layers")
    return Fact(name, "holds", f"its outputs are within {made.gap:.1g} of what they vary by", how)

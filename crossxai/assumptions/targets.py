"""Is there something to explain: scores that are saturated, and gradients that are zero, on these samples."""

from __future__ import annotations

import numpy as np

from crossxai.assumptions.fact import Fact
from crossxai.errors import CrossXAIError
from crossxai.measures import Measure
from crossxai.model import Differentiable, Inputs, Model
from crossxai.outputs import check_target
from crossxai.question import Question

SAMPLES = 16
"""At most so many are looked at."""
NEARLY = 1e-3


def target_of(model: Model, inputs: Inputs, target: Measure) -> Fact:
    """Whether the target's score can move on these samples, and has a gradient there.

    Raises `InvalidInput` for a link that the outputs have been through already, or may have been.
    """
    check_target(model, inputs, target)
    rows = np.arange(min(SAMPLES, len(target)))
    name, how = "target", f"scores and gradients of {len(rows)} samples"
    question = Question(model, tuple(v[rows] for v in inputs), target[rows], check="off")
    try:
        if isinstance(model, Differentiable):
            scores, gradients = question.score_and_grad()
            size = np.max([np.abs(g).reshape(len(g), -1).max(axis=1) for g in gradients], axis=0)
        else:
            scores, size = question.score(), np.ones(len(rows))
    except CrossXAIError as error:
        return Fact(name, "unknown", str(error), how)
    bounded = target.link in ("softmax", "sigmoid")
    saturated = int((np.minimum(scores, 1 - scores) < NEARLY).sum()) if bounded else 0
    dead = int((size == 0).sum())
    found = f"scores from {scores.min():.3g} to {scores.max():.3g}"
    if dead:
        return Fact(
            name, "note", f"{found}; {dead} of {len(rows)} samples have no gradient at all", how, "their gradient maps are zero",
            "a target that moves there, or an explainer that asks for scores: occlusion, RISE, LIME, KernelSHAP",
        )  # fmt: skip
    if saturated:
        return Fact(
            name, "note", f"{found}; {saturated} of {len(rows)} are within {NEARLY} of 0 or 1", how,
            "their gradients are tiny, and a curve hardly moves until it drops", 'the logit: link="identity"',
        )  # fmt: skip
    return Fact(name, "holds", found, how)

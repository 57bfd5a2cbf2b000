"""Networks drawn from a grammar, two thirds of them with a planted fault: every answer is right, or a refusal in words.

What is right is found out from the network's own code: finite differences in float64 or TensorFlow's own tape for gradients, the
score itself for removals, a hook of its own for activation maps. The seed of a failure is in its message; `make test-all` draws
300 networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import generated_keras, generated_torch

from crossxai import CrossXAIError, Question, Target
from crossxai.explainers import get

MAPS = ("captum.saliency", "reference.saliency", "xplique.saliency", "captum.input_x_gradient")
SUMS = ("captum.integrated_gradients", "reference.integrated_gradients", "captum.deep_lift", "captum.kernel_shap")
REMOVALS = ("captum.occlusion", "reference.occlusion", "xplique.occlusion")
CAMS = ("gradcam.gradcam", "xplique.gradcam", "reference.gradcam", "captum.layer_grad_cam")
RANDOM = ("dropout", "coupled", "coupled_mean")
"""Faults under which no answer is right."""
STEPPED = ("rounded", "int8")
"""Faults under which no gradient is right."""


class Wrong(AssertionError):
    """An answer that is neither right nor refused."""


def refused_or(label: str, answer: Callable[[], Any], truth: Any, tolerance: float) -> str:
    """ "right" or "refused"; raises `Wrong` for anything else. truth: None where only a refusal is right."""
    try:
        value = answer()
    except CrossXAIError as error:
        if len(str(error)) < 20:
            raise Wrong(f"{label}: refused without a reason: {error!r}") from error
        return "refused"
    except Exception as error:
        raise Wrong(f"{label}: {type(error).__name__} escapes: {' '.join(str(error).split())[:200]}") from error
    if truth is None:
        raise Wrong(f"{label}: answered where no answer is right")
    for name, expected in truth().items():
        scale = max(float(np.abs(expected).max()), 1e-9)
        given = np.asarray(value[name])
        rounding = 5e-7 if given.dtype == np.float32 else 0.0  # of scores of about 1, whose difference a removal is
        apart = np.abs(given.astype(np.float64).reshape(expected.shape) - expected)
        gap = float(np.maximum(apart - rounding, 0).max()) / scale
        if not gap <= tolerance:
            raise Wrong(f"{label}: silently wrong at {name}, by {gap:.2g} of the largest value")
    return "right"


def asked(kind: Any, seed: int) -> dict[str, str]:
    """What became of every explainer on the network of a seed."""
    drawn = kind.Drawn(seed)
    spec, x = drawn.spec, drawn.inputs
    labels = np.array([seed % 3, (seed + 1) % 3])
    question = Question(drawn.model, x, Target.classes(labels, 3))
    every = spec.fault not in RANDOM
    loose = kind.INT8 if spec.fault == "int8" else 0.0
    smooth = spec.fault not in (*RANDOM, *STEPPED) or loose > 0
    exact = x[0].dtype == np.float64
    outcomes: dict[str, str] = {}

    def note(name: str, answer: Callable[[], Any], truth: Any, tolerance: float) -> None:
        label = f"seed {seed} ({kind.NAME}, {spec}): {name}"
        outcomes[name] = refused_or(label, answer, truth, max(tolerance, loose))

    def maps(name: str, **options: Any) -> Callable[[], dict[str, Any]]:
        def answer() -> dict[str, Any]:
            attribution = get(name, **options)(question)
            return {m.name: attribution.of(m.name) for m in attribution.modalities}

        return answer

    gradients = drawn.gradients(labels) if smooth else {}
    for name in MAPS:

        def truth(name: str = name) -> dict[str, Any]:
            if name == "captum.input_x_gradient":
                return {m: g * v for (m, g), v in zip(gradients.items(), x, strict=True)}
            wide = {m: np.abs(g) for m, g in gradients.items()}
            return (
                wide
                if name.startswith("captum")
                else {m: g.max(-1, keepdims=True) if g.ndim > 2 else g for m, g in wide.items()}
            )

        note(name, maps(name), truth if smooth else None, 1e-4 if exact and not name.startswith("xplique") else 2e-2)
    change = drawn.scores(labels) - drawn.scores(labels, tuple(v * 0 for v in x)) if every else np.zeros(2)
    for name in SUMS:
        options: dict[str, Any] = {"steps": 256} if name.endswith("gradients") else {}
        options |= {"profile": "canonical", "patch": 4} if name.endswith("shap") else {}
        if name == "captum.deep_lift":
            if "tokens" in spec.body:
                continue  # products of two activations have no rule that adds up
            options = {"profile": "canonical"}

        def sums(name: str = name, options: dict[str, Any] = options) -> dict[str, Any]:
            parts = maps(name, **options)()
            per_group = name.endswith("shap")
            total = sum(
                drawn.grouped(v).reshape(2, -1).sum(1) if per_group else v.reshape(2, -1).sum(1) for v in parts.values()
            )
            return {"sum": np.append(total, 1.0)}

        fine = every if name.endswith("shap") else smooth or (name == "captum.deep_lift" and every and spec.fault == "")
        # Norms of a sample are steep at a black image, where the path begins; the steps miss some, and the answer says so.
        steep = spec.norm in ("instance", "layer", "group") or "tokens" in spec.body
        known = (lambda: {"sum": np.append(change, 1.0)}) if fine else None
        note(name, sums, known, 0.8 if steep and name.endswith("gradients") else 3e-2)
    for name in REMOVALS:
        options = {"profile": "canonical", "patch": 4, "stride": 4}
        note(name, maps(name, **options), (lambda: drawn.removals(labels)) if every else None, 1e-3)
    for name in CAMS:
        image = question.only("image")

        def cam(name: str = name, image: Question = image) -> dict[str, Any]:
            return {"image": get(name, profile="canonical")(image).of("image")}

        known = (
            (lambda image=image: {"image": drawn.cam(labels, image.cam_layer())})
            if smooth or spec.fault == "rounded"
            else None
        )
        note(name, cam, known, 1e-3 if exact and not name.startswith("xplique") else 2e-2)
    return outcomes


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", [generated_torch, generated_keras], ids=lambda kind: kind.NAME)
def test_right_or_refused(kind: Any, seed: int) -> None:
    outcomes = asked(kind, seed)
    if not kind.Drawn(seed).spec.fault:
        refused = {name for name, outcome in outcomes.items() if outcome == "refused"}
        assert not refused & {*MAPS, *REMOVALS, *SUMS[:2]}, f"a healthy network is refused: seed {seed}: {refused}"


@pytest.mark.deep
@pytest.mark.parametrize("kind", [generated_torch, generated_keras], ids=lambda kind: kind.NAME)
@pytest.mark.parametrize("block", range(15))
def test_three_hundred(kind: Any, block: int) -> None:
    """150 networks in each framework: none silently wrong, no foreign exception, no healthy network refused."""
    wrong = []
    for seed in range(10 + 10 * block, 20 + 10 * block):
        try:
            test_right_or_refused(kind, seed)
        except AssertionError as error:
            wrong.append(str(error)[:400])
    assert not wrong, "\n".join(wrong)

"""Metrics that explain again, and axioms, against Quantus' own numbers with the same explainer and the same draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from beside_quantus import LABELS, Beside, N, beside, first, last

from crossxai import Modality, Question, Target
from crossxai.adapters.torch import TorchModel
from crossxai.evaluation import get
from crossxai.evaluation.metrics.families import generators
from crossxai.explainers import get as explainer_of
from crossxai.model import Array

EXPLAINER = explainer_of("captum.input_x_gradient")


def explained(both: Beside, pixels: bool = False) -> Any:
    """Our explainer as Quantus calls one: the maps of channels-first inputs for classes, by whichever network it hands over.

    pixels: one relevance per pixel, since Quantus compares the elements of whatever it is given.
    """

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> Array:
        x = last(np.asarray(inputs)).astype(np.float32)
        labels = np.asarray(targets).reshape(-1)
        question = both.question
        target = Target.classes(labels, 3, question.target.link)
        asked = Question(TorchModel(model, question.model.modalities), (x,), target, question.ids[: len(x)])
        values = first(EXPLAINER(asked).values[0])
        return values.sum(axis=1, keepdims=True) if pixels else values

    return explain


def noise_of(question: Question, draws: int, size: float, kind: str) -> Any:
    """What our metrics add, draw after draw, as Quantus asks for it: flat and channels first."""
    shape = question.inputs[0].shape[1:]
    rngs = generators(question, 0)
    for _ in range(draws):
        if kind == "normal":
            drawn = [rng.normal(0, size, shape) for rng in rngs]
        else:
            drawn = [rng.uniform(-size, size, shape) for rng in rngs]
        yield first(np.stack(drawn)).reshape(len(question), -1)


@pytest.mark.parametrize("name", ["max_sensitivity", "average_sensitivity", "local_lipschitz"])
@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_stability(quantus: Any, name: str, noise: str) -> None:
    both = beside("identity")
    kinds = {"max_sensitivity": quantus.MaxSensitivity, "average_sensitivity": quantus.AvgSensitivity}
    kind = kinds.get(name, quantus.LocalLipschitzEstimate)
    ours = get(name, draws=5, size=0.02, noise=noise, **({"relative": False} if name == "local_lipschitz" else {}))
    found: Any = ours(both.question, EXPLAINER(both.question), EXPLAINER)  # type: ignore[call-arg]
    drawn = noise_of(both.question, 5, 0.02, noise)
    theirs = both.call(
        kind,
        last(explained(both)(both.net, first(both.question.inputs[0]), LABELS)),
        nr_samples=5,
        perturb_func=lambda arr, indices, **_: (arr + next(drawn)).astype(np.float32),
        explain_func=explained(both),
    )
    np.testing.assert_allclose(found.value, theirs, rtol=1e-5)


class Reset(TorchModel):
    """The model whose layers are drawn anew as Quantus does: by PyTorch's initialisers, all with one seed."""

    quantus: Any = None

    def randomised(self, inputs: Any, depth: int, seed: int) -> Any:
        if not depth:
            return self
        layers = self.quantus.PyTorchModel(self.module).get_random_layer_generator("top_down", 42)
        for _, (_, net) in zip(range(depth), layers, strict=False):
            found = net
        return TorchModel(found, self.modalities)


def test_model_randomisation(quantus: Any) -> None:
    """Layer by layer the same; their mean counts the untouched map, as a likeness of 1, and ours does not."""
    both = beside("identity")
    model = Reset(both.net, both.question.model.modalities)
    model.quantus = quantus
    question = replace(both.question, model=model)
    layers = len(model.weighted(question.inputs))
    metric = get("model_randomisation", stages=layers)
    scores: Any = metric(question, EXPLAINER(question), EXPLAINER)  # type: ignore[call-arg]
    params = {
        "similarity_func": quantus.similarity_func.correlation_spearman,
        "explain_func": explained(both, pixels=True),
    }
    values = EXPLAINER(question).values[0].sum(axis=-1, keepdims=True)
    theirs = both.call(quantus.MPRT, values, **params)
    assert list(theirs) == [
        "original",
        *[name for name, _ in reversed(list(both.net.named_children())) if name in theirs],
    ]
    np.testing.assert_allclose(scores.curve, np.array(list(theirs.values())).T, atol=1e-5)
    assert scores.curve[:, 1:].max() < 0.99
    mean = both.call(quantus.MPRT, values, return_average_correlation=True, **params)
    np.testing.assert_allclose((1 + layers * scores.value) / (1 + layers), mean, atol=1e-5)
    final = both.call(quantus.MPRT, values, return_last_correlation=True, **params)
    np.testing.assert_allclose(scores.extras["all"], final, atol=1e-5)


def test_random_logit(quantus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    both = beside("identity")
    steps = np.array([int(rng.integers(1, 3)) for rng in generators(both.question, 0)])
    other = (LABELS + steps) % 3
    monkeypatch.setattr(np.random, "randint", lambda *_: other - (other > LABELS))  # place among the other classes
    theirs = both.call(
        quantus.RandomLogit,
        EXPLAINER(both.question).values[0].sum(axis=-1, keepdims=True),
        similarity_func=quantus.similarity_func.correlation_spearman,
        num_classes=3,
        explain_func=explained(both, pixels=True),
    )
    metric: Any = get("random_logit")
    scores = metric(both.question, EXPLAINER(both.question), EXPLAINER)
    np.testing.assert_allclose(scores.value, theirs, atol=1e-5)


def dyadic() -> Beside:
    """A linear model of whole weights on eighths, where sums are exact."""
    import torch
    from torch import nn

    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.from_numpy(rng.integers(-4, 5, (3, 48)).astype(np.float32)))
        net[1].bias.zero_()
    images = rng.integers(0, 9, (N, 4, 4, 3)).astype(np.float32) / 8
    return Beside(Question(TorchModel(net, (Modality.image(),)), (images,), Target.classes(LABELS, 3)), net)


def test_completeness_is_a_gap_of_exactly_nothing(quantus: Any) -> None:
    both = dyadic()
    weights = both.net[1].weight.detach().numpy()[LABELS].reshape(N, 3, 4, 4)
    values = last(weights) * both.question.inputs[0]
    values[2:, 0, 0, 0] += 0.125
    theirs = both.call(quantus.Completeness, values, perturb_baseline=0.0)
    gaps = get("completeness_gap", baseline="zero")(both.question, both.answer(values)).value
    np.testing.assert_array_equal(gaps, [0, 0, 0.125, 0.125])
    assert list(theirs) == [True, True, False, False]


@pytest.mark.parametrize("name", ["captum.saliency", "captum.input_x_gradient"])
def test_input_shift_of_zero_is_their_invariance(quantus: Any, name: str) -> None:
    """Theirs asks whether all values are alike to 1e-4, and moves the first layer's bias, which no padding may disturb."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(2)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    question = replace(beside("identity").question, model=TorchModel(net, (Modality.image(),)))
    both, explainer = Beside(question, net), explainer_of(name)

    def explain(model: Any, inputs: Any, targets: Any, **_: Any) -> Array:
        wide = Modality.image(range=None)
        x = (last(np.asarray(inputs)).astype(np.float32),)
        return first(explainer(Question(TorchModel(model, (wide,)), x, Target.classes(LABELS, 3))).values[0])

    values = explainer(question).values[0]
    # Their own shift leaves out each image's first value.
    shift = {"perturb_func": lambda arr, input_shift, **_: arr + np.float32(input_shift)}
    theirs = both.call(quantus.InputInvariance, values, explain_func=explain, **shift)
    scores: Any = get("input_shift", shift=-1.0)(question, explainer(question), explainer)  # type: ignore[call-arg]
    assert list(theirs) == [name == "captum.saliency"] * N
    assert list(scores.value < 1e-4) == list(theirs)

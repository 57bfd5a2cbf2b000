"""Maps of noisy inputs: Captum's and Xplique's own numbers under the same noise, exact costs, and what is undefined."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from networks import toys

from crossxai import Attribution, InvalidInput, Modality, Question, Target, Unsupported
from crossxai.evaluation.metrics.families import generators
from crossxai.evaluation.metrics.stability import (
    AverageSensitivity,
    LocalLipschitz,
    MaxSensitivity,
    NoiseCorrelation,
    Repeatability,
)
from crossxai.explainers import get
from crossxai.testing import colours_question
from crossxai.testing.oracles import Oracle, anew, truth


@pytest.fixture(scope="module")
def asked():
    question = toys.question(toys.torch_model("float64"), dtype="float64")
    return replace(question, inputs=(0.1 + 0.8 * question.inputs[0],))  # no noise is cut off at the range


def noise(question, draws, size, seed=0):
    """(draws, n, *axes), as the metrics draw it."""
    shape = question.inputs[0].shape[1:]
    each = [[rng.uniform(-size, size, shape) for _ in range(draws)] for rng in generators(question, seed)]
    return np.moveaxis(np.array(each), 1, 0)


def test_max_sensitivity_is_captums(asked):
    from captum.attr import InputXGradient
    from captum.metrics import sensitivity_max

    explainer = get("captum.input_x_gradient")
    found = MaxSensitivity(draws=4)(asked, explainer(asked), explainer)
    drawn = torch.tensor(np.moveaxis(np.moveaxis(noise(asked, 4, 0.02), -1, 2), 0, 1).reshape(-1, 3, 32, 32))
    inputs = torch.tensor(np.ascontiguousarray(np.moveaxis(asked.inputs[0], -1, 1)))
    mean, sd = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (toys.MEAN, toys.SD))
    module = toys.torch_net("float64")
    method = InputXGradient(lambda x: module((x - mean) / sd))

    def explain(x, target):
        with torch.enable_grad():
            (tensor,) = x if isinstance(x, tuple) else (x,)
            return (method.attribute(tensor.detach().requires_grad_(), target=target),)

    labels = torch.tensor([0, 1, 2])
    expected = sensitivity_max(explain, inputs, lambda x, _: x + drawn, n_perturb_samples=4, target=labels)
    np.testing.assert_allclose(found.value, expected.numpy(), rtol=1e-9)
    np.testing.assert_allclose(found.value, found.extras["largest"])
    average = AverageSensitivity(draws=4)(asked, explainer(asked), explainer)
    np.testing.assert_allclose(average.value, found.extras["mean"])
    assert (average.value < found.value).all()


def test_average_sensitivity_is_xpliques(asked):
    from xplique.metrics import AverageStability

    explainer, one = get("captum.input_x_gradient"), asked[:1]
    found = AverageSensitivity(draws=3, relative=False)(one, explainer(one), explainer)
    labels = np.eye(3)[[0]]
    metric = AverageStability(lambda x: x, one.inputs[0], labels, nb_samples=3)
    metric.noisy_masks = noise(one, 3, 0.02)[:, 0]

    def explain(x, _labels):
        x = np.asarray(x)
        again = replace(one, inputs=(x,), target=Target.classes([0] * len(x), 3), ids=tuple(map(str, range(len(x)))))
        return explainer(again).values[0]

    assert found.value[0] == pytest.approx(metric.evaluate(explain), rel=1e-6)


def test_lipschitz_of_a_linear_explainer():
    """A map that is A times the input moves by at most the largest singular value, and here by exactly that."""
    question = colours_question(3)
    explainer = Oracle(lambda q, seed: 3 * q.inputs[0].sum(axis=-1, keepdims=True))
    found = LocalLipschitz(draws=5, size=0.05, relative=False)(question, explainer(question), explainer)
    drawn = noise(question, 5, 0.05)
    moved = np.linalg.norm(3 * drawn.sum(axis=-1).reshape(5, 3, -1), axis=2)
    expected = (moved / np.linalg.norm(drawn.reshape(5, 3, -1), axis=2)).max(axis=0)
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)


@pytest.mark.parametrize("noise", ["normal", "uniform"])
def test_correlation_under_noise(noise):
    question = colours_question(4)
    steady, restless = Oracle(truth), Oracle(anew)
    metric = NoiseCorrelation(draws=3, noise=noise)
    found = metric(question, steady(question), steady)
    assert (found.value > 0.95).all()
    assert (found.extras["lowest"] <= found.value).all()
    assert (np.abs(metric(question, restless(question), restless).value) < 0.2).all()
    assert found.params["size"] == 0.01
    assert found.params["link"] == "identity"
    ssim = NoiseCorrelation(draws=1, similarity="ssim")
    assert (ssim(question, steady(question), steady).value > ssim(question, restless(question), restless).value).all()


def test_noise_stays_in_the_range_and_on_its_modality():
    seen = []

    def record(question, seed):
        seen.append(question.inputs)
        return question.inputs[0].sum(axis=-1, keepdims=True)

    table = Modality.table(("age",))
    model = type("Both", (), {"name": "both", "modalities": (Modality.image(), table), "predict": None})()
    images = np.random.default_rng(0).integers(0, 2, (2, 6, 6, 3)).astype(np.float32)
    question = Question(model, (images, np.ones((2, 1), np.float32)), Target.outputs(0, 2, 1)).only("image")
    explainer = Oracle(record)
    NoiseCorrelation(draws=2, size=0.5)(question, explainer(question), explainer)
    for image, row in seen[1:]:
        assert image.min() >= 0
        assert image.max() <= 1
        assert (image != images).any()
        assert image.dtype == np.float32
        np.testing.assert_array_equal(row, 1)


@dataclass(frozen=True)
class Seedless:
    """An explainer that draws nothing."""

    name: ClassVar[str] = "test.seedless"
    library: ClassVar[str] = "test"
    needs: ClassVar[str] = "nothing"
    profiles: ClassVar = ("native",)
    profile: ClassVar = "native"

    def __call__(self, question):
        return Attribution((truth(question),), question.modalities, question.ids, self.name)


def test_repeatability_over_seeds():
    question = colours_question(4)
    noisy = Oracle(lambda q, seed: truth(q) + 0.001 * anew(q, seed))
    metric = Repeatability(seeds=2)
    found = metric(question, noisy(question), noisy)
    pairs = [np.corrcoef(noisy(question).values[0][0].ravel(), replace(noisy, seed=s)(question).values[0][0].ravel())
             for s in (1, 2)]  # fmt: skip
    assert found.value[0] == pytest.approx(np.mean([p[0, 1] for p in pairs]))
    assert metric.explanations(question, noisy) == 2
    unset = replace(noisy, seed=None)  # a plug-in may draw anew each time
    assert metric.explanations(question, unset) == 2
    assert metric(question, noisy(question), unset).value[0] == pytest.approx(found.value[0])
    still = Seedless()
    assert metric.explanations(question, still) == 0
    np.testing.assert_allclose(metric(question, still(question), still).value, 1)


def test_undefined_samples():
    question = colours_question(3)

    def fading(q, seed):
        """NaN, zero, and one that noise makes constant."""
        maps = truth(q).copy()
        maps[0], maps[1] = np.nan, 0
        maps[2] = maps[2] if (q.inputs[0][2] == question.inputs[0][2]).all() else 5.0
        return maps

    explainer = Oracle(fading)
    correlation = NoiseCorrelation(draws=2)(question, explainer(question), explainer)
    np.testing.assert_allclose(correlation.value, [np.nan, np.nan, 0])
    moved = MaxSensitivity(draws=2)(question, explainer(question), explainer)
    assert np.isnan(moved.value).tolist() == [True, True, False]
    assert correlation.extras["degenerate"].tolist() == [1, 1, 0]


def test_bad_parameters_and_calls():
    question, explainer = colours_question(3), Oracle(truth)
    for words, make in (
        ("draws must be a whole number", lambda: MaxSensitivity(draws=0)),
        ("size must be a finite number above 0", lambda: LocalLipschitz(size=-1)),
        ("unknown noise 'gauss': write normal or uniform", lambda: MaxSensitivity(noise="gauss")),
        ("unknown similarity", lambda: NoiseCorrelation(similarity="cosine")),
        ("seeds must be", lambda: Repeatability(seeds=True)),
        ("seed must be", lambda: Repeatability(seed=-1)),
        (r"write metric\(question, attribution, explainer\)", lambda: Repeatability()(question, explainer(question))),
    ):
        with pytest.raises(InvalidInput, match=words):
            make()
    model = type("Table", (), {"name": "t", "modalities": (Modality.table(("a", "b")),), "predict": None})()
    table = Question(model, (np.ones((2, 2), np.float32),), Target.outputs(0, 2, 1))
    with pytest.raises(Unsupported, match="ssim needs an image"):
        NoiseCorrelation(similarity="ssim").check(table)

"""Contributions that add up, as Captum counts them, and maps that should not care where the input's zero lies."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import toys, zoo

from crossxai import Attribution, InvalidInput, Target, Unsupported
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.metrics.completeness import CompletenessGap
from crossxai.evaluation.metrics.sanity import InputShift, Shifted
from crossxai.explainers import get
from crossxai.testing import Counting, check_model


@pytest.fixture(scope="module")
def asked():
    return toys.question(toys.torch_model("float64"), dtype="float64")


def test_the_gap_is_captums_delta(asked):
    from captum.attr import IntegratedGradients

    explainer = get("captum.integrated_gradients", steps=3, baseline=0.25)
    found = CompletenessGap()(asked, explainer(asked))
    mean, sd = (torch.tensor(v, dtype=torch.float64).reshape(1, 3, 1, 1) for v in (toys.MEAN, toys.SD))
    module = toys.torch_net("float64")
    method = IntegratedGradients(lambda x: module((x - mean) / sd))
    inputs = torch.tensor(np.moveaxis(asked.inputs[0], -1, 1))
    options = {"baselines": 0.25, "target": torch.tensor([0, 1, 2]), "n_steps": 3}
    _, delta = method.attribute(inputs, return_convergence_delta=True, **options)
    np.testing.assert_allclose(found.value, delta.abs().numpy(), rtol=1e-6)
    assert found.params["baseline"] == 0.25
    relative = CompletenessGap(relative=True)(asked, explainer(asked))
    np.testing.assert_allclose(relative.value, found.value / np.abs(found.extras["difference"]))


def test_occlusion_of_everything_is_complete(asked):
    """One group: its contribution is the whole difference, also for a baseline that is named."""
    question = replace(asked, model=Counting(asked.model))
    mean = {"dataset_mean": [0.7, 0.5, 0.6]}
    filled = fills.filled(mean, asked.modalities[0], asked.inputs[0])
    difference = asked.score() - asked.score((filled,), range(3))
    flat = np.broadcast_to((difference / 32**2).reshape(3, 1, 1, 1), (3, 32, 32, 1))
    answer = replace(get("controls.centre")(asked), values=(flat,))
    found = CompletenessGap(baseline=mean)(question, answer)
    np.testing.assert_allclose(found.value, 0, atol=1e-9)
    assert question.model.forward == 3 * CompletenessGap().passes(question)


def test_modalities_together_and_apart():
    question = zoo.question("torch", "image+table", dtype="float64")
    joint = get("captum.integrated_gradients", steps=50)
    assert (CompletenessGap()(question, joint(question)).value < 0.05).all()
    alone = question.only("table")
    answer = joint(alone)
    assert (CompletenessGap(modality="table")(question, answer).value < 0.05).all()
    with pytest.raises(Unsupported, match="needs an image"):
        CompletenessGap(baseline="blur").check(question)


def test_broken_maps_have_no_sum(asked):
    answer = get("controls.centre")(asked)
    answer.values[0][0] = np.nan
    answer.values[0][1, 0, 0] = np.inf
    found = CompletenessGap()(asked, answer)
    assert np.isnan(found.value).tolist() == [True, True, False]
    level = replace(asked, target=Target(np.zeros((3, 3))))
    assert np.isnan(CompletenessGap(relative=True)(level, answer).value).all()


def test_gradients_do_not_care_and_fixed_baselines_do(asked):
    found = {}
    for name in ("captum.saliency", "gradcam.gradcam", "captum.input_x_gradient", "captum.integrated_gradients"):
        explainer = get(name)
        found[name] = InputShift()(asked, explainer(asked), explainer)
    for name in ("captum.saliency", "gradcam.gradcam"):
        np.testing.assert_allclose(found[name].value, 0, atol=1e-6)
        np.testing.assert_allclose(found[name].extras["pearson"], 1, atol=1e-6)
    for name in ("captum.input_x_gradient", "captum.integrated_gradients"):
        assert (found[name].value > 0.05).all()
    own = get("captum.input_x_gradient")
    moved = own(replace(asked, model=Shifted(asked.model, "image", -1), inputs=(asked.inputs[0] - 1,)))
    a, b = own(asked).units("image"), moved.units("image")
    expected = np.linalg.norm((a - b).reshape(3, -1), axis=1) / np.linalg.norm(a.reshape(3, -1), axis=1)
    np.testing.assert_allclose(found["captum.input_x_gradient"].value, expected)


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("inputs", ["image", "image+table"])
def test_a_shifted_model_is_the_same_model(framework, inputs):
    """All verbs, and the graph: methods on twins are asked too."""
    question = zoo.question(framework, inputs, dtype="float64")
    model = Shifted(question.model, "t1", 0.5)
    values = model.moved(question.inputs)
    np.testing.assert_allclose(model.predict(values), question.model.predict(question.inputs), atol=1e-12)
    assert check_model(model, values) == check_model(question.model, question.inputs)
    assert model.modalities[0].range == (0.5, 1.5)
    explainer = get("captum.guided_backprop")
    own = explainer(question.only("t1"))
    found = InputShift(shift=0.5)(question.only("t1"), own, explainer)
    np.testing.assert_allclose(found.value, 0, atol=1e-5)


def test_undefined_and_bad_parameters(asked):
    explainer = get("captum.saliency")
    answer = explainer(asked)
    answer.values[0][0], answer.values[0][1] = np.nan, 0
    found = InputShift()(asked, answer, explainer)
    assert np.isnan(found.value).tolist() == [True, True, False]
    for shift in (0, np.inf, True, "1"):
        with pytest.raises(InvalidInput, match="shift must be a finite number other than 0"):
            InputShift(shift=shift)


def test_baselines_are_made_a_few_samples_at_a_time(monkeypatch):
    """A set of blurred images beside the images would double what 10,000 of them take."""
    question = toys.question(toys.torch_model(), n=7, batch_size=3)
    monkeypatch.setattr(ranks, "BLOCK", 3 * question.inputs[0][0].size)
    answer = Attribution((question.inputs[0],), question.modalities, question.ids, "test")
    sizes = []

    def halved(values):
        sizes.append(len(values))
        return values / 2

    found = CompletenessGap(baseline=halved)(question, answer)
    whole = question.score() - question.score((question.inputs[0] / 2,))
    np.testing.assert_allclose(found.extras["difference"], whole, atol=1e-6)
    assert max(sizes) <= 3

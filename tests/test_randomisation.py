"""Weights drawn anew in copies, never in the user's network; maps of such models and of other classes."""

from dataclasses import replace

import numpy as np
import pytest
from networks import toys, zoo

from crossxai import InvalidInput, Question, Target, Unsupported
from crossxai.adapters.checks import redrawn
from crossxai.evaluation.metrics import similarity
from crossxai.evaluation.metrics.sanity import ModelRandomisation, RandomLogit
from crossxai.evaluation.metrics.similarity import between
from crossxai.explainers import get
from crossxai.model import Randomisable
from crossxai.testing import Counting, colours_question
from crossxai.testing.oracles import Oracle, brightness, truth
from crossxai.testing.state import snapshot

MODELS = {
    "torch": toys.torch_model,
    "keras": toys.keras_model,
    "sequential": lambda: toys.keras_model(kind="sequential"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


def test_layers_from_the_output_down(model):
    images = toys.images()
    assert isinstance(model, Randomisable)
    assert model.weighted((images,)) == ("fc", "conv2", "conv1")
    assert isinstance(Counting(model), Randomisable)


def test_copies_are_redrawn_and_the_network_is_not(model):
    images, before = (toys.images(),), snapshot(model)
    outputs = model.predict(images)
    copies = [model.randomised(images, depth, seed=0) for depth in range(4)]
    np.testing.assert_allclose(copies[0].predict(images), outputs, atol=1e-6)
    own = model.activations(images)
    for depth, copy in enumerate(copies[1:], start=1):
        assert not np.allclose(copy.predict(images), outputs, atol=1e-2)
        same = [n for n in ("conv1", "conv2", "fc") if np.allclose(copy.activations(images)[n], own[n], atol=1e-5)]
        assert same == ["conv1", "conv2", "fc"][: 3 - depth]  # what lies below a redrawn layer is as it was
    np.testing.assert_array_equal(model.randomised(images, 2, 0).predict(images), copies[2].predict(images))
    assert not np.allclose(model.randomised(images, 2, 1).predict(images), copies[2].predict(images))
    alone = [model.randomised(images, depth, seed=0, alone=True) for depth in range(4)]
    np.testing.assert_allclose(alone[0].predict(images), outputs, atol=1e-6)
    np.testing.assert_array_equal(alone[1].predict(images), copies[1].predict(images))  # the top layer, both times
    assert np.allclose(alone[2].activations(images)["conv1"], own["conv1"], atol=1e-5)
    assert not np.allclose(alone[2].activations(images)["conv2"], own["conv2"], atol=1e-2)
    assert not np.allclose(
        alone[2].predict(images), copies[2].predict(images), atol=1e-2
    )  # whose top layer is another, too
    after = snapshot(model)
    assert all(after[name] == value for name, value in before.items())
    np.testing.assert_array_equal(model.predict(images), outputs)
    for depth in (-1, 4, True):
        with pytest.raises(InvalidInput, match="a whole number from 0 to 3"):
            model.randomised(images, depth, 0)


@pytest.mark.parametrize("inputs", zoo.INPUTS)
@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_models_of_several_inputs(framework, inputs):
    found, values = zoo.model(framework, inputs), zoo.values(inputs)
    names = found.weighted(values)
    assert names[0] == "head"
    assert set(names) == {name for name in zoo.weights(inputs, "class") if not name.endswith("_bias")}
    assert found.randomised(values, len(names), 0).predict(values).shape == found.predict(values).shape


def test_fused_attention_belongs_to_the_layer_around_it():
    import torch
    from torch import nn

    from crossxai.adapters.torch_running import weighted_layers

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    found = weighted_layers(net, lambda: net(torch.ones(1, 3, 4)))
    assert {name for names in found.values() for name in names} == {name for name, _ in net.named_parameters()}
    assert list(found)[-1] == "0"


def test_keras_models_that_cannot_be_copied_are_refused():
    import keras

    from crossxai.adapters.tensorflow import KerasModel

    with pytest.raises(Unsupported, match="a subclassed model needs get_config and from_config"):
        toys.keras_model(kind="subclassed").randomised((toys.images(),), 1, 0)
    shared = keras.layers.Dense(3)

    class Sharing(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = shared

        def call(self, x, training=False):
            return self.dense(keras.ops.mean(x, axis=(1, 2)))

        def get_config(self):
            return {}

        @classmethod
        def from_config(cls, config):
            return cls()

    model = KerasModel(Sharing(), (toys.IMAGE,))
    before = model.predict((toys.images(),))
    with pytest.raises(Unsupported, match="shares weights"):
        model.randomised((toys.images(),), 1, 0)
    np.testing.assert_array_equal(model.predict((toys.images(),)), before)


def test_subclassed_keras_models_with_a_config_are_copied():
    import keras

    from crossxai.adapters.tensorflow import KerasModel

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)
            self.scale = self.add_weight(shape=(3,), initializer="uniform")

        def call(self, x, training=False):
            return self.dense(keras.ops.mean(x, axis=(1, 2)) * self.scale)

        def get_config(self):
            return {}

        @classmethod
        def from_config(cls, config):
            return cls()

    model, images = KerasModel(Own(), (toys.IMAGE,)), (toys.images(),)
    model.model.trainable = False  # frozen weights are weights
    outputs = model.predict(images)
    assert len(model.weighted(images)) == 2
    assert model.weighted(images)[1] == "(itself)"
    assert not np.allclose(model.randomised(images, 2, 0).predict(images), outputs)
    np.testing.assert_array_equal(model.predict(images), outputs)


def test_draws_keep_the_scale_and_do_not_depend_on_depth():
    values = np.random.default_rng(0).normal(3, 0.5, (200, 50)).astype(np.float32)
    found = redrawn(values, "conv", 0, seed=1)
    assert found.mean() == pytest.approx(3, abs=0.02)
    assert found.std() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(found, redrawn(values, "conv", 0, seed=1))
    assert not np.array_equal(found, redrawn(values, "conv", 1, seed=1))
    np.testing.assert_array_equal(redrawn(np.ones(4), "norm", 0, 0), 1)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_model_randomisation_by_hand(framework):
    question, explainer = toys.question(MODELS[framework](), n=2), get("reference.gradient_x_input")
    own = explainer(question)
    metric = ModelRandomisation(stages=2, seed=3)
    found = metric(question, own, explainer)
    np.testing.assert_allclose(found.fractions, [0, 2 / 3, 1])
    assert metric.explanations(question, explainer) == 2
    for stage, depth in ((1, 2), (2, 3)):
        other = replace(question, model=question.model.randomised(question.inputs, depth, 3))
        moved = explainer(other).units("image")
        np.testing.assert_allclose(found.curve[:, stage], similarity.spearman(own.units("image"), moved), atol=1e-6)
    np.testing.assert_allclose(found.curve[:, 0], 1)
    np.testing.assert_allclose(found.value, found.curve[:, 1:].mean(axis=1))
    np.testing.assert_allclose(found.extras["all"], found.curve[:, -1])
    blind = get("controls.centre")
    np.testing.assert_allclose(metric(question, blind(question), blind).value, 1)


def test_all_stages_are_all_layers():
    question, explainer = toys.question(toys.torch_model(), n=2), get("reference.gradient_x_input")
    assert ModelRandomisation(stages=50).depths(question) == [0, 1, 2, 3]
    assert ModelRandomisation(stages=50).explanations(question, explainer) == 3


def test_random_logit_by_hand():
    question, explainer = toys.question(toys.torch_model(), n=6), get("reference.gradient_x_input")
    own = explainer(question)
    found = RandomLogit()(question, own, explainer).value
    others = [replace(question, target=Target.classes((np.arange(6) + step) % 3, 3)) for step in (1, 2)]
    either = np.stack([similarity.spearman(own.units("image"), explainer(o).units("image")) for o in others])
    nearest = np.abs(either - found).min(axis=0)
    np.testing.assert_allclose(nearest, 0, atol=1e-6)
    one = Question(question.model, question.inputs, Target(np.ones((6, 1))))
    with pytest.raises(Unsupported, match="needs another class"):
        RandomLogit().check(one)


def test_correlations_are_xpliques_and_ssim_is_its_formula():
    import tensorflow as tf
    from xplique.metrics.randomization import batched_spearman

    rng = np.random.default_rng(0)
    a, b = np.round(rng.normal(size=(2, 3, 7, 7)), 1)
    flat = [tf.constant(v.reshape(3, -1), tf.float32) for v in (a, b)]
    np.testing.assert_allclose(between(a, b, "spearman"), batched_spearman(*flat).numpy(), atol=1e-5)
    x, y = ((v - v.min(axis=(1, 2), keepdims=True)) / np.ptp(v, axis=(1, 2), keepdims=True) for v in (a, b))
    for i in range(3):  # one window of 7 × 7, sample covariances as in Wang et al.
        cov = np.cov(x[i].ravel(), y[i].ravel())
        mx, my, c1, c2 = x[i].mean(), y[i].mean(), 0.01**2, 0.03**2
        by_hand = (2 * mx * my + c1) * (2 * cov[0, 1] + c2)
        by_hand /= (mx**2 + my**2 + c1) * (cov[0, 0] + cov[1, 1] + c2)
        assert between(a, b, "ssim")[i] == pytest.approx(by_hand)
    np.testing.assert_allclose(between(a, a, "ssim"), 1)


@pytest.mark.parametrize("measure", ["pearson", "spearman", "ssim", "hog"])
def test_undefined_similarities(measure):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 8, 8))
    a[0], b[1, 0, 0], b[2] = 1, np.inf, 0
    found = between(a, b, measure)
    assert np.isnan(found).tolist() == [True, True, False, False]
    assert found[2] == 0
    assert np.isnan(between(np.ones((1, 1, 1)), np.ones((1, 1, 1)), measure)).all()
    assert between(a[3:, :2, :2], b[3:, :2, :2], "ssim").shape == (1,)


def test_refusals():
    question = colours_question(3)
    with pytest.raises(InvalidInput, match="stages must be"):
        ModelRandomisation(stages=0)
    with pytest.raises(InvalidInput, match="unknown similarity 'cosine': write pearson, spearman, ssim, hog"):
        RandomLogit(similarity="cosine")
    plain = replace(
        question, model=type("Plain", (), {"name": "p", "modalities": question.model.modalities, "predict": 0})()
    )
    with pytest.raises(Unsupported, match="weights that can be drawn anew"):
        ModelRandomisation().check(plain)


def test_blind_maps_stay():
    question = colours_question(4)
    for kind in (ModelRandomisation(stages=1), RandomLogit()):
        blind, seeing = Oracle(brightness), Oracle(truth)
        np.testing.assert_allclose(kind(question, blind(question), blind).value, 1)
        assert (kind(question, seeing(question), seeing).value < 0.95).all()

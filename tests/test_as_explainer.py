"""Explainers that users bring: every answer equals the library's own call, and what cannot be right is refused in words."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchvision
from networks import toys
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from crossxai import InvalidInput, LibraryFailed, Modality, Question, Target, UnknownName, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import as_explainer, get
from crossxai.explainers.native import seeded
from crossxai.model import Array
from crossxai.testing.state import require_same, snapshot

LABELS = np.array([3, 7])
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None).eval()


@cache  # what is measured of a model is measured once
def asked(net: Any, link: Any = "identity", standardised: bool = False) -> Question:
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    model = TorchModel(net, (Modality.image(),), standardise={"image": (MEAN, SD)} if standardised else None)
    return Question(model, (images,), Target.classes(LABELS, 1000, link))


def nchw(question: Question, row: int) -> torch.Tensor:
    return torch.tensor(np.ascontiguousarray(np.moveaxis(question.values[0][row : row + 1], -1, 1)))


def own(attribution: Any, question: Question, **options: Any) -> Array:
    """The library's own call, sample by sample, its draws from the seeds that the documentation names."""
    maps = []
    for row, label in enumerate(LABELS):
        with seeded(int(question.rng(row, 0).integers(2**31))), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = nchw(question, row).requires_grad_()
            maps.append(attribution.attribute(x, target=int(label), **options).detach())
    return torch.cat(maps).permute(0, 2, 3, 1).numpy()


class Normalised(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x - torch.tensor(MEAN).reshape(1, 3, 1, 1)) / torch.tensor(SD).reshape(1, 3, 1, 1))


CAPTUM: list[tuple[str, dict[str, Any]]] = [
    ("Saliency", {}),
    ("IntegratedGradients", {"n_steps": 8}),
    ("GuidedBackprop", {}),
    ("DeepLift", {}),
    ("GradientShap", {"baselines": torch.zeros(1, 3, 64, 64), "n_samples": 3}),
    ("Occlusion", {"sliding_window_shapes": (3, 32, 32), "strides": (3, 32, 32)}),
]


@pytest.mark.parametrize(("name", "options"), CAPTUM)
@pytest.mark.parametrize("way", ["class", "factory", "object"])
def test_captum_s_own_numbers(net: Any, name: str, options: dict[str, Any], way: str) -> None:
    net = (
        torchvision.models.squeezenet1_1(weights=None).eval() if name == "DeepLift" else net
    )  # it refuses a ReLU that is used twice
    question = asked(net)
    kind = getattr(captum.attr, name)
    given = {"class": kind, "factory": lambda m: kind(m), "object": kind(net)}[way]
    explainer = as_explainer(given, **options)
    assert explainer.name == {"factory": "lambda"}.get(way, f"captum:{name}")
    before = snapshot(question.model)
    found = explainer(question)
    require_same(before, snapshot(question.model), name)
    assert np.abs(found.values[0] - own(kind(net), question, **options)).max() <= 1e-6 * np.abs(found.values[0]).max()
    assert found.values[0].shape == (2, 64, 64, 3)
    assert set(found.params) == {"profile", *options}


def test_a_class_explains_raw_inputs_and_an_object_the_side_it_was_made_for(net: Any) -> None:
    question = asked(net, standardised=True)
    raw = own(captum.attr.Saliency(Normalised(net)), question)
    for given in (captum.attr.Saliency, lambda m: captum.attr.Saliency(m), captum.attr.Saliency(Normalised(net))):
        assert np.abs(as_explainer(given)(question).values[0] - raw).max() <= 1e-5 * raw.max()
    inner = as_explainer(captum.attr.Saliency(net))(question).values[0]
    assert np.abs(inner - raw * np.array(SD)).max() <= 1e-5 * raw.max()


def test_a_noise_tunnel_and_a_layer_s_name(net: Any) -> None:
    question = asked(net)
    tunnel = as_explainer(lambda m: captum.attr.NoiseTunnel(captum.attr.Saliency(m)), "tunnel", nt_samples=3)
    expected = own(captum.attr.NoiseTunnel(captum.attr.Saliency(net)), question, nt_samples=3)
    assert tunnel.name == "tunnel"
    assert np.abs(tunnel(question).values[0] - expected).max() <= 1e-6 * expected.max()
    guided = as_explainer(captum.attr.GuidedGradCam, layer="layer4")(question).values[0]
    assert (
        np.abs(guided - own(captum.attr.GuidedGradCam(net, net.layer4), question)).max() <= 1e-6 * np.abs(guided).max()
    )
    with pytest.raises(UnknownName, match="layer4"):
        as_explainer(captum.attr.GuidedGradCam, layer="layer5")(question)


CAMS = [(name, way) for name in ("GradCAM", "HiResCAM", "EigenCAM") for way in ("class", "name", "factory", "object")]
SLOW = pytest.param("AblationCAM", "class", marks=pytest.mark.process)


@pytest.mark.parametrize(("name", "way"), [*CAMS, ("GradCAMPlusPlus", "class"), SLOW])
def test_grad_cam_s_own_numbers(net: Any, name: str, way: str) -> None:
    question, kind = asked(net), getattr(pytorch_grad_cam, name)
    with kind(net, [net.layer4]) as library:
        images = [nchw(question, row) for row in range(2)]
        expected = np.concatenate(
            [library(x, [ClassifierOutputTarget(int(c))]) for x, c in zip(images, LABELS, strict=True)]
        )
        library.activations_and_grads.activations = library.activations_and_grads.gradients = []
    given, options = {
        "class": (kind, {"target_layers": [net.layer4]}),
        "name": (kind, {"layer": "layer4"}),
        "factory": (lambda m: kind(m, [m.layer4]), {}),
        "object": (kind(net, [net.layer4]), {}),
    }[way]
    net.zero_grad()
    net.fc.weight.grad = kept = torch.ones_like(net.fc.weight)
    before = snapshot(question.model)
    found = as_explainer(given, **options)(question)
    require_same(before, snapshot(question.model), name)
    assert net.fc.weight.grad is kept
    assert np.abs(found.values[0][..., 0] - expected).max() <= 1e-6
    assert np.ptp(found.values[0]) > 0


def test_functions_of_the_batch(net: Any) -> None:
    question = asked(net)

    def noise(images: Array) -> Array:
        return images.mean(axis=-1)

    def by_label(images: Array, labels: Any, scale: float = 1.0) -> Array:
        return scale * labels[:, None, None, None] * images

    def gradient(model: Any, images: Array, labels: Any) -> torch.Tensor:
        x = torch.tensor(np.moveaxis(images, -1, 1)).requires_grad_()
        (found,) = torch.autograd.grad(model(x)[torch.arange(len(x)), torch.tensor(labels)].sum(), x)
        return found.movedim(1, -1)

    (images,) = question.values
    assert np.array_equal(as_explainer(noise)(question).values[0], images.mean(axis=-1, keepdims=True))
    scaled = as_explainer((by_label, {"scale": 2.0}), "labels")(question)
    assert (scaled.explainer, scaled.params["scale"]) == ("labels", 2.0)
    assert np.array_equal(scaled.values[0], 2 * LABELS[:, None, None, None].astype(np.float32) * images)
    expected = get("captum.saliency")(question).values[0]
    assert np.allclose(np.abs(as_explainer(gradient)(question).values[0]), expected, rtol=0, atol=1e-6 * expected.max())


def test_a_function_gets_copies_and_every_modality() -> None:
    modalities = (Modality.image(), Modality.table(("age", "dose")))
    model = FunctionModel(lambda image, table: image.mean(axis=(1, 2)) + table[:, :1], modalities)
    rng = np.random.default_rng(0)
    inputs = (rng.random((3, 8, 8, 3), np.float32), rng.random((3, 2), np.float32))
    question = Question(model, inputs, Target.classes(np.array([0, 1, 2]), 3))

    def spoiling(images: Any) -> Any:
        for values in images:
            values *= 0
        return images[0][..., 0], images[1] + 1

    found = as_explainer(spoiling)(question)
    assert [v.shape for v in found.values] == [(3, 8, 8, 1), (3, 2)]
    assert inputs[0].max() > 0
    assert [m.name for m in as_explainer(spoiling)(question.only("table")).modalities] == ["table"]
    with pytest.raises(InvalidInput, match="1 maps for 2 modalities"):
        as_explainer(lambda images: images[1])(question)
    with pytest.raises(Unsupported, match="needs module"):
        as_explainer(captum.attr.Saliency)(question)


def test_names_pairs_and_explainers() -> None:
    assert as_explainer("captum.saliency") == get("captum.saliency")
    for given in (
        ("captum.occlusion", {"patch": 8}),
        {"name": "captum.occlusion", "patch": 8},
        type(get("captum.occlusion")),
    ):
        options = {"patch": 8} if isinstance(given, type) else {}
        assert as_explainer(given, **options) == get("captum.occlusion", patch=8)
    explainer = get("captum.saliency")
    assert as_explainer(explainer) is explainer
    for given, options, words in (
        (explainer, {"steps": 3}, "has its parameters"),
        ("captum.saliency", {"name": "mine"}, "has a name"),
        (("captum.saliency", 3), {}, "write"),
        ({"patch": 3}, {}, "write"),
    ):
        with pytest.raises(InvalidInput, match=words):
            as_explainer(given, **options)
    with pytest.raises(UnknownName, match=r"captum\.saliency"):
        as_explainer("captum.salience")


def test_what_is_no_explainer(net: Any) -> None:
    import lime.lime_image

    for given, words in (
        (3, "a function; got int"),
        (net, "is no explainer"),
        (dict, "is no explainer"),
        (lime.lime_image.LimeImageExplainer, r"lime\.image"),
        (lime.lime_image.LimeImageExplainer(), r"lime\.image"),
        (captum.attr.Saliency(net).attribute, "give the object itself"),
        (lambda: 0, "required parameters"),
        (lambda model, images: 0, "required parameters"),
        (lambda a, b, c, d: 0, "required parameters"),
    ):
        with pytest.raises(InvalidInput, match=words):
            as_explainer(given)
    with pytest.raises(UnknownName, match="n_steps"):
        as_explainer(captum.attr.IntegratedGradients, steps=3)(asked(net))
    with pytest.raises(UnknownName, match="scale"):
        as_explainer(lambda images, scale=1: images, scales=3)


def test_what_would_be_the_answer_to_another_question(net: Any) -> None:
    torch.manual_seed(1)
    other = torchvision.models.resnet18(weights=None).eval()
    question = asked(net)
    for given in (captum.attr.Saliency(other), lambda m: captum.attr.Saliency(other)):
        with pytest.raises(Unsupported, match="explains another number"):
            as_explainer(given)(question)
    with pytest.raises(Unsupported, match="explains another number"):
        as_explainer(pytorch_grad_cam.GradCAM(other, [other.layer4]))(question)
    with pytest.raises(Unsupported, match="target_layers"):
        as_explainer(pytorch_grad_cam.GradCAM, target_layers=[other.layer4])(question)
    with pytest.raises(Unsupported, match="softmax"):
        as_explainer(captum.attr.Saliency)(asked(net, "softmax"))
    probability = as_explainer(lambda m: captum.attr.Saliency(nn.Sequential(m, nn.Softmax(1))))(asked(net, "softmax"))
    expected = get("captum.saliency")(asked(net, "softmax")).values[0]
    assert np.allclose(probability.values[0], expected, rtol=0, atol=1e-5 * expected.max())
    mixed = Question(question.model, question.inputs, Target(np.full((2, 1000), 1e-3)))
    for given in (captum.attr.Saliency, lambda images, labels: images):
        with pytest.raises(Unsupported, match="one output per sample"):
            as_explainer(given)(mixed)


def test_maps_that_do_not_fit_and_code_that_fails(net: Any) -> None:
    question = asked(net)
    for given, words in (
        (lambda images: np.moveaxis(images, -1, 1), r"np\.moveaxis\(maps, 1, -1\)"),
        (lambda images: images[:1], r"shape \(1, 64, 64, 3\)"),
        (lambda images: images[:, :7, :7, 0], "enlarge"),
        (lambda images: images.astype(complex), "complex"),
        (lambda images: captum.attr.Saliency(net), "not maps"),
        (lambda m: 3, "no attribution object"),
        (captum.attr.LayerGradCam(net, net.layer4), "enlarge"),
    ):
        with pytest.raises(InvalidInput, match=words):
            as_explainer(given)(question)
    for given, options, words in (
        (lambda images: images.nothing, {}, "nothing"),
        (lambda m: captum.attr.Occlusion(m), {}, "sliding_window_shapes"),
    ):
        before = snapshot(question.model)
        with pytest.raises(LibraryFailed, match=words):
            as_explainer(given, **options)(question)
        require_same(before, snapshot(question.model), "a failure")
    for given in (captum.attr.NoiseTunnel, pytorch_grad_cam.FinerCAM):
        with pytest.raises(Unsupported, match=r"built of something else|of its own"):
            as_explainer(given)(question)


@pytest.mark.parametrize("name", ["Saliency", "IntegratedGradients", "GradCAM", "Occlusion"])
@pytest.mark.parametrize("way", ["class", "factory", "object"])
def test_xplique_s_own_numbers(name: str, way: str) -> None:
    import xplique.attributions

    from crossxai.adapters.tensorflow import KerasModel

    network, kind = toys.keras_net(), getattr(xplique.attributions, name)
    question = toys.question(KerasModel(network, (toys.IMAGE,)))
    options = {"steps": 8} if name == "IntegratedGradients" else {}
    given = {"class": kind, "factory": lambda m: kind(m, **options), "object": kind(network, **options)}[way]
    before = snapshot(question.model)
    found = as_explainer(given, **(options if way == "class" else {}))(question)
    require_same(before, snapshot(question.model), name)
    expected = np.asarray(kind(network, **options)(question.values[0], np.eye(3, dtype=np.float32)[[0, 1, 2]]))
    assert np.abs(found.values[0] - expected.reshape(3, 32, 32, 1)).max() <= 1e-6


def test_xplique_on_raw_inputs_and_other_numbers() -> None:
    import xplique.attributions

    question = toys.question(toys.keras_model())
    found = as_explainer(xplique.attributions.Saliency)(question).values[0]
    expected = get("xplique.saliency")(question).values[0]
    assert np.abs(found - expected).max() <= 1e-5 * expected.max()
    with pytest.raises(Unsupported, match="explains another number"):
        as_explainer(xplique.attributions.Saliency(toys.keras_net()))(question)
    with pytest.raises(Unsupported, match="Keras model"):
        as_explainer(xplique.attributions.Saliency)(toys.question(toys.torch_model()))
    with pytest.raises(InvalidInput, match="output_layer"):
        as_explainer(xplique.attributions.Saliency, output_layer=-1)(question)

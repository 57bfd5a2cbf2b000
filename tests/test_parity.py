"""Parity: what parts libraries, frameworks, models and maps from outside is named."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import attentive

import crossxai as xai
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.conventions import models
from crossxai.conventions.axioms import PROMISES
from crossxai.conventions.convention import CANONICAL
from crossxai.conventions.models import compare_models
from crossxai.conventions.parity import parity
from crossxai.conventions.search import Switch
from crossxai.evaluation.metrics.sanity import ModelRandomisation
from crossxai.explainers import get
from crossxai.model import Array
from crossxai.testing import assert_parity

IMAGES = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
LABELS = [0, 1, 2, 3]
PLACES = ((0, 1), (3, 4))
"""Convolutions and batch norms of the network, by their place."""


@pytest.fixture(scope="module")
def network() -> Any:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 8), (8, 12)):
        layers += [nn.Conv2d(before, after, 3, padding=1, stride=2), nn.BatchNorm2d(after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)).eval()
    for _, place in PLACES:
        net[place].running_mean.normal_(0, 0.3)
        net[place].running_var.uniform_(0.005, 0.05)
    return net


def port(
    net: Any, epsilon: float = 1e-5, padding: str = "as torch", ending: str = "", turned: int = 0, **first: Any
) -> Any:
    """The network in Keras, with a port's usual mistakes. first: flipped, scaled, swapped, reshaped."""
    import keras

    inputs = x = keras.Input((16, 16, 3))
    if first.get("scaled"):
        x = keras.layers.Rescaling(255.0)(x)
    if first.get("flipped"):
        x = x[..., ::-1]
    if first.get("swapped"):
        x = keras.layers.Permute((2, 1, 3))(x)
    if first.get("reshaped"):
        x = keras.layers.Permute((2, 3, 1))(keras.layers.Reshape((3, 16, 16))(x))
    for conv, norm in PLACES:
        if padding == "as torch":
            x = keras.layers.ZeroPadding2D(1)(x)
        options = {"strides": 2, "padding": "same" if padding == "same" else "valid", "name": f"conv{conv}"}
        x = keras.layers.Conv2D(net[conv].out_channels, 3, **options)(x)
        x = keras.layers.BatchNormalization(epsilon=epsilon, name=f"norm{norm}")(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.Dense(4, name="dense")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Softmax()(x) if ending == "softmax" else x)
    arrays = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    for conv, norm in PLACES:
        kernel = arrays[f"{conv}.weight"].transpose(2, 3, 1, 0)
        model.get_layer(f"conv{conv}").set_weights([kernel, arrays[f"{conv}.bias"]])
        names = ("weight", "bias", "running_mean", "running_var")
        model.get_layer(f"norm{norm}").set_weights([arrays[f"{norm}.{name}"] for name in names])
    dense = [np.roll(arrays["8.weight"].T, turned, axis=1), np.roll(arrays["8.bias"], turned)]
    model.get_layer("dense").set_weights(dense)
    return model


def questions(net: Any, model: Any) -> tuple[xai.Question, xai.Question]:
    target = xai.Target.classes(LABELS, 4)
    sides = TorchModel(net, (xai.Modality.image(),)), KerasModel(model, (xai.Modality.image(),))
    one, other = (xai.Question(side, (IMAGES,), target) for side in sides)
    return one, other


BUGS: dict[str, tuple[dict[str, Any], list[Switch]]] = {
    "softmax": ({"ending": "softmax"}, [Switch("score", "probability")]),
    "colours": ({"flipped": True}, [Switch("channel_order", "bgr")]),
    "0 to 255": ({"scaled": True}, [Switch("input_scale", "255")]),
    "height and width": ({"swapped": True}, [Switch("layout", "swapped")]),
    "reshape for transpose": ({"reshaped": True}, [Switch("layout", "reshaped")]),
    "off by one": ({"turned": 1}, [Switch("target", "previous")]),
    "two": ({"flipped": True, "ending": "softmax"}, [Switch("score", "probability"), Switch("channel_order", "bgr")]),
}
LAYERS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "epsilon": ({"epsilon": 1e-3}, ("1", "norm1")),
    "same padding": ({"padding": "same"}, ("0", "conv0")),
}


def test_a_right_port_is_one_function(network: Any) -> None:
    result = compare_models(*questions(network, port(network)))
    assert result.equal
    assert not result.causes
    assert result.layers == ("", "")


def test_float64_tells_a_flipped_relu_from_another_function(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "GRADIENTS", 0.0)  # as if one had flipped
    result = compare_models(*questions(network, port(network)))
    assert result.equal
    assert result.gradients > 0
    assert result.exact < 1e-10
    assert not compare_models(*questions(network, port(network, epsilon=1.1e-5))).equal
    monkeypatch.setattr(TorchModel, "exact", lambda _self: None)
    result = compare_models(*questions(network, port(network)))
    assert np.isnan(result.exact)
    assert result.rounding < 1e-4


@pytest.mark.parametrize("bug", BUGS)
def test_the_convention_that_parts_two_models_is_named(network: Any, bug: str) -> None:
    mistake, causes = BUGS[bug]
    result = compare_models(*questions(network, port(network, **mistake)))
    assert not result.equal
    assert [set(some) for some in result.causes] == [set(causes)]


@pytest.mark.parametrize("bug", LAYERS)
def test_the_first_layer_that_differs_is_named(network: Any, bug: str) -> None:
    mistake, layers = LAYERS[bug]
    result = compare_models(*questions(network, port(network, **mistake)))
    assert not result.equal
    assert not result.causes
    assert result.layers == layers
    assert result.rest > 1e-3  # both blocks have the mistake
    assert not result.rest_agrees
    assert result.last == (str(int(layers[0]) + 3), layers[1][:-1] + str(int(layers[1][-1]) + 3))


def test_one_mistake_is_told_from_two(network: Any, tmp_path: Path) -> None:
    ported = port(network)
    ported.get_layer("norm1").epsilon = 1e-3
    result = xai.parity({"torch": network, "keras": ported}, IMAGES, "saliency", LABELS, out=tmp_path)
    compared = result.models["torch", "keras"]
    assert compared.layers == ("1", "norm1")
    assert compared.rest_agrees
    assert compared.last == ("", "")
    page = (tmp_path / "parity.html").read_text()
    assert "<code>norm1</code> of keras. Given the same activation there, what follows agrees." in page


@pytest.fixture(scope="module")
def both(network: Any) -> dict[str, Any]:
    return {"torch": network, "keras": port(network)}


@pytest.mark.parametrize(
    ("method", "params"), [("saliency", {}), ("integrated_gradients", {"steps": 10}), ("gradcam", {})]
)
def test_libraries_meet_on_one_definition_and_what_parts_them_is_named(
    both: dict[str, Any], method: str, params: dict[str, Any], tmp_path: Path
) -> None:
    result = xai.parity(both, IMAGES, (method, params), LABELS, out=tmp_path)
    assert result.meets("equal to rounding")
    assert not result.unexplained
    assert not result.meets("same ranking", "native")
    between = [c for e in result.entries for c in e.axioms if c.axiom == "implementation invariance"]
    assert all(c.kept and c.beside == "keras" for c in between)
    assert bool(between) == ("implementation invariance" in PROMISES[method])
    numbers = json.loads((tmp_path / "parity.json").read_text())
    assert numbers["methods"][0]["worst"]["canonical"] in ("identical", "equal to rounding")
    assert numbers["models"][0]["equal"]
    assert "http" not in (tmp_path / "parity.html").read_text().replace("http-equiv", "")
    assert repr(result).startswith(f"Parity({method}: native ")
    for part in (result, *result.entries, *result.pairs, *(e.floor for e in result.entries)):
        assert len(repr(part)) < 200
        assert "\n" not in repr(part)


TRANSFORMER: dict[str, dict[str, Any]] = {
    "saliency": {},
    "gradient_x_input": {},
    "integrated_gradients": {"steps": 10},
    "smooth_grad": {"samples": 5},
    "gradcam": {},
    "gradcam_plus_plus": {},
    "occlusion": {"patch": 8, "stride": 8},
    "rise": {"samples": 20},
    "lime": {"samples": 60, "segmentation": "grid", "patch": 8},
    "kernel_shap": {"samples": 60, "segmentation": "grid", "patch": 8},
}


QUICK = ("saliency", "integrated_gradients", "gradcam_plus_plus")


@pytest.fixture(scope="module")
def transformers() -> dict[str, dict[str, xai.Question]]:
    """Questions on the same transformer in PyTorch and in Keras, by what its weights are, or whose its code is in PyTorch."""
    import torch

    net = attentive.trained_vit()
    images, labels = attentive.coloured(200, seed=1)
    right = attentive.vits(net=net)["keras"].predict((images,)).argmax(axis=1) == labels
    assert right.mean() > 0.9
    guided = copy.deepcopy(net)
    for block in guided.encoder.layers:
        block.mlp[1] = torch.nn.ReLU()
    by_name = {
        "random": attentive.vits(), "trained": attentive.vits(net=net), "timm": attentive.ported(attentive.timm_vit(net)),
        "relu": attentive.ported(guided.eval()),
    }  # fmt: skip
    target = xai.Target.classes(labels[:3], 3)
    return {
        weights: {name: xai.Question(model, (images[:3],), target) for name, model in both.items()}
        for weights, both in by_name.items()
    }


@pytest.mark.parametrize(
    ("weights", "method"),
    [
        pytest.param(weights, method, marks=() if weights == "trained" and method in QUICK else pytest.mark.deep)
        for weights in ("random", "trained", "timm")
        for method in TRANSFORMER
    ],
)
def test_libraries_meet_on_a_transformer(
    transformers: dict[str, dict[str, xai.Question]], weights: str, method: str
) -> None:
    result = parity(transformers[weights], method, TRANSFORMER[method])
    assert result.meets("equal to rounding")
    assert all(pair.agreement.distance.max() < 1e-4 for pair in result.pairs if pair.one.profile == "canonical")
    assert not result.unexplained


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("guided_backprop", r"changes the gradient at ReLUs, and model '\w+' has none"),
        ("deep_lift", "no rule for layer_norm"),
    ],
)
def test_methods_that_transformers_have_no_rules_for_are_refused(
    transformers: dict[str, dict[str, xai.Question]], method: str, reason: str
) -> None:
    """Their maps would be another method's."""
    assert set(TRANSFORMER) | {"guided_backprop", "deep_lift"} == set(CANONICAL)
    result = parity(transformers["timm"], method)
    assert {entry.model for entry in result.entries} == {"torch", "keras"}
    assert all(entry.maps is None and re.search(reason, entry.refusal) for entry in result.entries)
    assert not result.meets("different")


def test_guided_backpropagation_meets_on_a_transformer_with_relus(
    transformers: dict[str, dict[str, xai.Question]],
) -> None:
    result = parity(transformers["relu"], "guided_backprop")
    assert result.compared("canonical") == 6  # captum's and xplique's, on both frameworks
    assert all(pair.agreement.distance.max() < 1e-4 for pair in result.pairs if pair.one.profile == "canonical")
    plain = get("captum.saliency", profile="canonical")(transformers["relu"]["torch"]).values[0]
    guided = next(e.maps for e in result.entries if e.profile == "canonical" and e.maps is not None)
    assert np.linalg.norm(guided - plain) > 0.1 * np.linalg.norm(plain)


def test_a_model_that_is_another_function_is_left_out(network: Any) -> None:
    result = xai.parity({"torch": network, "keras": port(network, epsilon=1e-3)}, IMAGES, "saliency", LABELS)
    assert {entry.model for entry in result.entries} == {"torch"}
    assert not result.meets("different")


def gradients(net: Any) -> Array:
    """Plain gradients by the framework's own hand, channels last."""
    import torch

    images = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()).requires_grad_()
    net(images)[torch.arange(4), torch.tensor(LABELS)].sum().backward()
    assert images.grad is not None
    return np.ascontiguousarray(images.grad.numpy().transpose(0, 2, 3, 1))


@pytest.fixture(scope="module")
def made_in_forward() -> dict[str, Any]:
    """A network that makes its ReLUs in the forward pass, and its port, which has them inside its convolutions (captum#1082)."""
    import keras
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 5, padding=2), nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            return self.last(nn.ReLU()(self.first(x)).mean((2, 3)))

    torch.manual_seed(0)
    net = Net().eval()
    inputs = keras.Input((16, 16, 3))
    conv, dense = keras.layers.Conv2D(8, 5, padding="same", activation="relu"), keras.layers.Dense(4)
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(conv(inputs))))
    arrays = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    conv.set_weights([arrays["first.weight"].transpose(2, 3, 1, 0), arrays["first.bias"]])
    dense.set_weights([arrays["last.weight"].T, arrays["last.bias"]])
    return {"torch": net, "keras": model}


def test_deep_lift_that_reached_no_activation_is_named(made_in_forward: dict[str, Any]) -> None:
    import torch
    from captum.attr import DeepLift

    images = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy()).requires_grad_()
    with pytest.warns(UserWarning, match="hooks"):
        maps = DeepLift(made_in_forward["torch"]).attribute(
            images, torch.zeros_like(images), target=torch.tensor(LABELS)
        )
    by_hand = np.ascontiguousarray(maps.detach().numpy().transpose(0, 2, 3, 1))
    result = xai.parity(made_in_forward, IMAGES, "deep_lift", LABELS, maps={"by hand": (by_hand, "captum.deep_lift")})
    assert result.worst("canonical") in ("identical", "equal to rounding")
    assert not result.meets("equal to rounding")  # for the maps by hand
    (entry,) = result.strangers
    assert entry.finding is not None
    assert entry.finding.closing == ((Switch("activations", "gradient"),),)
    assert entry.finding.gap > 0.1
    summary = result.summary
    causes = summary[(summary.one == "captum.deep_lift on torch") & (summary.other == "by hand on torch")].causes
    assert causes.tolist() == ["activations: gradient (100%)"]


def test_activation_maps_of_other_layers_are_not_compared(
    made_in_forward: dict[str, Any], both: dict[str, Any]
) -> None:
    result = xai.parity(made_in_forward, IMAGES, "gradcam", LABELS)
    assert result.layers == {"torch": "first"}
    refusals = {e.model: e.refusal for e in result.entries if e.refusal}
    assert set(refusals) == {"keras"}
    assert "no layer of keras gives the activation of layer 'first' of torch" in refusals["keras"]
    layers = xai.parity(both, IMAGES, "gradcam", LABELS).layers
    assert layers["torch"] == "5"
    assert layers["keras"] == both["keras"].layers[-3].name


def test_a_cause_holds_for_every_sample(network: Any) -> None:
    """A sample that one convention explains says nothing of the others."""
    maps = gradients(network)
    mixed = np.concatenate(
        [np.abs(maps[:2]).max(axis=-1, keepdims=True), -np.abs(maps[2:]).max(axis=-1, keepdims=True)]
    )
    result = xai.parity(network, IMAGES, "saliency", LABELS, maps={"mixed": mixed})
    (entry,) = result.strangers
    assert entry.finding is not None
    assert entry.finding.closing == ()
    assert entry.finding.left == entry.finding.gap
    assert result.unexplained


def test_a_pipeline_of_0_to_255(network: Any) -> None:
    """Who feeds values 255 times as large multiplies the gradient by those."""
    import torch

    images = torch.from_numpy(255 * IMAGES.transpose(0, 3, 1, 2)).requires_grad_()
    network(images)[torch.arange(4), torch.tensor(LABELS)].sum().backward()
    maps = (images.grad * images).detach().numpy().transpose(0, 2, 3, 1)  # type: ignore[operator]
    result = xai.parity(network, IMAGES, "gradient_x_input", LABELS, maps={"mine": (maps, "captum.input_x_gradient")})
    (entry,) = result.strangers
    assert entry.finding is not None
    assert entry.finding.closing == ((Switch("input_scale", "255"),),)


@pytest.mark.parametrize("bug", ["softmax", "0 to 255"])
def test_the_first_model_may_be_the_wrong_one(network: Any, bug: str) -> None:
    mistake, causes = BUGS[bug]
    right, wrong = questions(network, port(network, **mistake))
    result = compare_models(wrong, right)
    assert result.turned
    assert [set(some) for some in result.causes] == [set(causes)]


def test_models_of_other_outputs_are_left_out(network: Any) -> None:
    import torch

    other = torch.nn.Sequential(*list(network)[:-1], torch.nn.Linear(12, 5)).eval()
    result = xai.parity({"one": network, "other": other}, IMAGES, "saliency", LABELS)
    assert {entry.model for entry in result.entries} == {"one"}
    ((_, compared),) = result.models.items()
    assert compared.outputs == float("inf")


def test_parameters_that_are_no_conventions_part_libraries_too(network: Any, tmp_path: Path) -> None:
    images = IMAGES[:2].repeat(3, axis=1).repeat(3, axis=2)
    result = xai.parity(network, images, ("lime", {"samples": 30}), LABELS[:2], out=tmp_path)
    named = {
        switch.convention for p in result.pairs if p.finding and p.finding.closing for switch in p.finding.closing[0]
    }
    assert "segmentation" in named
    assert (tmp_path / "parity.html").is_file()


def test_what_a_map_from_outside_is(network: Any) -> None:
    maps = gradients(network)
    outside = {
        "mine": (np.abs(maps).mean(axis=-1, keepdims=True), "captum.saliency"),
        "signed": maps,
        "right": (np.abs(maps), "captum.saliency"),
        "stranger": np.abs(maps).max(axis=-1, keepdims=True)[:, ::-1],
    }
    result = xai.parity(network, IMAGES, "saliency", LABELS, maps=outside)
    found = {e.explainer: [set(some) for some in e.finding.closing] for e in result.entries if e.outside and e.finding}
    assert found["mine"] == [{Switch("channels", "mean")}]
    assert {Switch("magnitude", "signed"), Switch("channels", "each")} in found["signed"]
    assert found["right"] == [set()]
    assert found["stranger"] == []
    apart = {frozenset((p.one.explainer, p.other.explainer)): p for p in result.pairs if p.one.profile == "native"}
    pair = apart[frozenset(("captum.saliency", "mine"))]
    assert pair.finding is not None
    assert pair.finding.closing == ((Switch("channels", "mean"),),)


def test_parity_as_an_assertion(network: Any, both: dict[str, Any]) -> None:
    assert_parity(both, IMAGES, "saliency", target=LABELS)
    noise = np.random.default_rng(0).random((4, 16, 16, 1), np.float32)
    for method, options, reason in (
        ("saliency", {"maps": {"mine": (noise, "captum.saliency")}}, "mine on Sequential is not what it is said to be"),
        ("deep_lift", {}, "nothing was compared"),
        (("occlusion", {"patch": 20}), {}, "nothing was compared; .*patch"),
    ):
        with pytest.raises(AssertionError, match=reason):
            assert_parity(network, IMAGES, method, target=LABELS, **options)
    with pytest.raises(AssertionError, match="torch and keras are not one function"):
        assert_parity({"torch": network, "keras": port(network, padding="same")}, IMAGES, "saliency", target=LABELS)


def test_wrong_arguments(network: Any) -> None:
    with pytest.raises(xai.UnknownName, match="integrated_gradients"):
        xai.parity(network, IMAGES, "integrated_gradient")
    with pytest.raises(xai.InvalidInput, match=r"\(4, y, x, 3 or 1\), channels last"):
        xai.parity(network, IMAGES, "saliency", LABELS, maps={"mine": np.zeros((3, 16, 16))})
    with pytest.raises(xai.UnknownName, match="did you mean steps"):
        xai.parity(network, IMAGES, ("integrated_gradients", {"step": 3}), LABELS)
    maps = np.zeros((4, 16, 16, 1))
    for said, error in (
        ({"channel": "sum"}, "did you mean channels"),
        ({"channels": "summ"}, "did you mean sum"),
        ("captum.occlusion", "captum.occlusion is no saliency"),
        ("captum.salience", "did you mean captum.saliency"),
        (5, "an explainer's name or a mapping"),
    ):
        with pytest.raises((xai.UnknownName, xai.InvalidInput), match=error):
            xai.parity(network, IMAGES, "saliency", LABELS, maps={"mine": (maps, said)})
    for steps in ("many", 0, 1, True):
        with pytest.raises(xai.InvalidInput, match="steps must be a whole number of at least 2"):
            xai.parity(network, IMAGES, "integrated_gradients", LABELS, maps={"mine": (maps, {"steps": steps})})
    for given in (
        np.zeros((4, 3, 16, 16)),
        np.zeros((4, 16, 16, 2)),
        np.full((4, 16, 16, 1), np.nan),
        np.array([None] * 4),
    ):
        with pytest.raises(
            xai.InvalidInput, match=r"maps 'mine' are .* write finite numbers of shape \(4, y, x, 3 or 1\)"
        ):
            xai.parity(network, IMAGES, "saliency", LABELS, maps={"mine": given})
    with pytest.raises(xai.InvalidInput, match="like explainers"):
        xai.parity(network, IMAGES, "saliency", LABELS, maps={"captum.saliency": maps})
    with pytest.raises(xai.InvalidInput, match="maps are a mapping"):
        xai.parity(network, IMAGES, "saliency", LABELS, maps=[maps])  # type: ignore[arg-type]
    with pytest.raises(xai.InvalidInput, match=r'write "integrated_gradients", \("integrated_gradients", {"parameter"'):
        xai.parity(network, IMAGES, ("saliency",), LABELS)  # type: ignore[arg-type]


def test_what_maps_have_to_do_with_the_weights(both: dict[str, Any], tmp_path: Path) -> None:
    result = xai.parity(both, IMAGES, "saliency", LABELS, sanity=True, out=tmp_path)
    assert set(result.sanity) == {"torch", "keras"}
    for model, check in result.sanity.items():
        assert check.explainer == "reference.saliency"
        assert check.cascading is not None
        assert check.alone is not None
        assert check.edges is not None
        assert set(check.cascading) == set(check.alone) == set(check.edges) == {"spearman", "ssim", "hog"}
        assert len(check.layers) == len(check.cascading["spearman"]) == 5
        assert check.cascading["spearman"][-1] < 0.9, model
        np.testing.assert_array_equal(check.cascading["ssim"][0], check.alone["ssim"][0])  # the top layer, both times
        assert check.training is not None
        assert (check.training.n, check.training.source) == (4, "model")  # which predicts one class alone
        assert "shuffling the labels changes only 0% of 4" in check.training.refusal
    question = xai.Question(
        TorchModel(both["torch"], (xai.Modality.image(),)), (IMAGES,), xai.Target.classes(LABELS, 4)
    )
    explainer = get("reference.saliency")
    scores = ModelRandomisation(stages=5).measure(question, explainer(question), question.one[0], explainer)
    assert scores.curve is not None
    cascading = result.sanity["torch"].cascading
    assert cascading is not None
    np.testing.assert_allclose(cascading["spearman"], scores.curve[:, 1:].mean(axis=0), atol=1e-6)
    numbers = json.loads((tmp_path / "parity.json").read_text())["methods"][0]["sanity"]["torch"]
    assert numbers["cascading"]["spearman"] == cascading["spearman"].tolist()
    page = (tmp_path / "parity.html").read_text()
    assert "What do the maps have to do with the weights?" in page
    assert "not measured: shuffling the labels changes only" in page
    function = xai.wrap(lambda x: x.mean((1, 2)), modalities=(xai.Modality.image(),))
    (check,) = xai.parity(function, IMAGES, ("occlusion", {"patch": 8, "stride": 8}), sanity=True).sanity.values()
    assert "no weights that can be drawn anew" in check.refusal


def test_whether_it_matters_is_said_of_maps_as_they_are_drawn(network: Any, tmp_path: Path) -> None:
    """Channels that differ are another map, but may show the same region."""
    result = xai.parity(network, IMAGES, "saliency", LABELS, out=tmp_path)
    ((difference,),) = (m["differences"] for m in json.loads((tmp_path / "parity.json").read_text())["methods"])
    maps = {e.explainer: e.maps for e in result.entries if e.profile == "native" and e.maps is not None}
    top = {
        n: np.argsort(-m.sum(-1).reshape(len(m), -1), axis=1)[:, : round(m[0, ..., 0].size / 10)]
        for n, m in maps.items()
    }
    one, other = ([set(row.tolist()) for row in top[f"{library}.saliency"]] for library in ("captum", "xplique"))
    shared = np.mean([len(a & b) / len(a | b) for a, b in zip(one, other, strict=True)])
    assert difference["overlap"]["mean"] == pytest.approx(shared, abs=0.02)
    assert difference["overlap"]["mean"] > result.pairs[0].agreement.overlap.mean() + 0.1
    assert f"overlap by {shared:.0%}" in (tmp_path / "parity.html").read_text()


def test_what_maps_have_to_do_with_the_labels(network: Any, tmp_path: Path) -> None:
    images = np.random.default_rng(1).random((12, 16, 16, 3), np.float32)
    training = (np.concatenate([IMAGES, images]), np.arange(16) % 4)
    result = xai.parity(network, IMAGES, "saliency", LABELS, sanity=True, training=training, out=tmp_path)
    ((model, check),) = result.sanity.items()
    trained = check.training
    assert trained is not None
    assert (trained.n, trained.source, trained.learned, trained.memorised) == (16, "data", 1, 1)
    assert check.labels["labels and shuffled"]["spearman"] < 0.9
    numbers = json.loads((tmp_path / "parity.json").read_text())["methods"][0]["sanity"][model]
    assert numbers["training"]["memorised"] == 1
    assert numbers["labels"]["own and labels"]["ssim"] == check.labels["own and labels"]["ssim"]
    page = (tmp_path / "parity.html").read_text()
    assert "What do the maps have to do with the labels?" in page
    assert "were trained on 16 samples, one on their labels, one on the same shuffled" in page
    assert "They give 100% and 100% of these labels back" in page
    for given, reason in (((images, [0, 1]), "12 samples and 2 labels"), ((images,) * 3, "a tuple of 3")):
        with pytest.raises(xai.InvalidInput, match=reason):
            xai.parity(network, IMAGES, "saliency", LABELS, sanity=True, training=given)


def test_one_input_of_several(tmp_path: Path) -> None:
    import torch
    from torch import nn

    class Fusion(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4 + 5, 3)

        def forward(self, x: Any, table: Any) -> Any:
            return self.last(torch.cat([nn.functional.relu(self.conv(x)).mean((2, 3)), table], 1))

    torch.manual_seed(0)
    inputs = (IMAGES, np.random.default_rng(1).random((4, 5), np.float32))
    model = xai.wrap(Fusion().eval(), modalities=(xai.Modality.image(), xai.Modality.table(tuple("abcde"))))
    with pytest.raises(xai.InvalidInput, match="image and table are free"):
        xai.parity(model, inputs, "saliency")
    method = ("integrated_gradients", {"steps": 10})
    for modality in ("image", "table"):
        result = xai.parity(model, inputs, method, modality=modality, out=tmp_path / modality)
        assert result.meets("equal to rounding")
        assert all(e.finding is not None and e.finding.closing == ((),) for e in result.entries)
        assert (tmp_path / modality / "parity.html").is_file()
    with pytest.raises(xai.Unsupported, match="images alone; table is none"):
        xai.parity(model, inputs, "kernel_shap", modality="table")


@pytest.mark.parametrize("seeds", [3, pytest.param(100, marks=pytest.mark.deep)])
def test_two_seeds_are_no_difference_of_libraries(network: Any, seeds: int) -> None:
    """Of a hundred maps of other seeds at most five are reported."""
    few, numbers = IMAGES[:2], {"samples": 8, "sd": 0.2}
    maps = {
        f"seed {seed}": xai.explain(
            network, few, ("xplique.smooth_grad", {**numbers, "seed": seed}), LABELS[:2]
        ).values[0]
        for seed in range(1, seeds + 1)
    }
    said = {name: (values, "xplique.smooth_grad") for name, values in maps.items()}
    result = xai.parity(network, few, ("smooth_grad", numbers), LABELS[:2], maps=said)
    strangers = [e.label for e in result.entries if e.outside and not e.within_noise]
    assert len(strangers) <= 0.05 * seeds
    ours = {p.other.explainer for p in result.unexplained if p.one.explainer == "xplique.smooth_grad"}
    assert len(ours) <= 0.05 * seeds


def test_what_a_library_fills_with_goes_with_the_declared_range() -> None:
    """Xplique's grey is the middle of the range, and the width of its kernel counts in widths of it."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    model = xai.wrap(nn.Sequential(*layers).eval(), modalities=(xai.Modality.image(range=(-1, 1)),))
    for method in ("lime", "kernel_shap"):
        grid = {"segmentation": "grid", "patch": 4, "samples": 40}
        result = xai.parity(model, IMAGES[:2] * 2 - 1, (method, grid))
        assert [entry.finding.closing for entry in result.entries if entry.finding] == [((),)] * len(result.entries)


def test_a_parameter_that_one_library_does_not_take_is_its_refusal(network: Any) -> None:
    result = xai.parity(network, IMAGES, ("kernel_shap", {"segmentation": "scalars", "samples": 20}))
    refused = {entry.explainer: entry.refusal for entry in result.entries if entry.refusal}
    assert list(refused) == ["xplique.kernel_shap"]
    assert "write grid" in refused["xplique.kernel_shap"]
    with pytest.raises(xai.InvalidInput, match="steps must be at least 2"):
        xai.parity(network, IMAGES, ("integrated_gradients", {"steps": 1}))

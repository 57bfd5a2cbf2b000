"""Maps from outside that were drawn at another layer: the layer is named, on both frameworks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crossxai as xai
from crossxai.conventions.search import Switch
from crossxai.model import Array

IMAGES = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
LABELS = [0, 2]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """A network whose ReLUs are "1" and "3", and its port, where they are "early" and "late"."""
    import keras
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 2, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 2, stride=2), nn.ReLU()
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 3)).eval()
    inputs = keras.Input((16, 16, 3))
    first, second, dense = (
        keras.layers.Conv2D(6, 2, 2),
        keras.layers.Conv2D(8, 2, 2),
        keras.layers.Dense(3),
    )
    x = keras.layers.ReLU(name="late")(second(keras.layers.ReLU(name="early")(first(inputs))))
    x = keras.layers.Flatten()(keras.layers.Permute((3, 1, 2))(x))
    port = keras.Model(inputs, dense(x))
    for layer, place in ((first, 0), (second, 2), (dense, 5)):
        weight, bias = (value.detach().numpy() for value in net[place].parameters())
        layer.set_weights([weight.T if weight.ndim == 2 else weight.transpose(2, 3, 1, 0), bias])
    return {"torch": net, "keras": port}


def by_captum(net: Any, place: int) -> Array:
    """Captum's own Grad-CAM at a layer, on the image's grid by its own `interpolate` (n, y, x, 1)."""
    import torch
    from captum.attr import LayerAttribution, LayerGradCam

    images = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2).copy())
    maps = LayerGradCam(net, net[place]).attribute(images, torch.tensor(LABELS))
    return np.asarray(LayerAttribution.interpolate(maps, (16, 16)).detach().numpy().transpose(0, 2, 3, 1))


def by_xplique(model: Any, layer: str) -> Array:
    """Xplique's own Grad-CAM at a layer (n, y, x, 1)."""
    import tensorflow as tf
    from xplique.attributions import GradCAM

    maps = GradCAM(model, conv_layer=layer)(IMAGES, tf.one_hot(LABELS, 3))
    return np.asarray(maps).reshape(2, 16, 16, 1)


def found(result: xai.Parity, name: str) -> list[set[Switch]]:
    (entry,) = (e for e in result.entries if e.explainer == name)
    assert entry.finding is not None
    return [set(some) for some in entry.finding.closing]


def test_the_layer_of_a_map_from_outside_is_named_in_torch(models: dict[str, Any], tmp_path: Path) -> None:
    early = by_captum(models["torch"], 1)
    coarse = early[:, ::2, ::2]
    outside = {
        "early": (early, "captum.layer_grad_cam"),
        "reduced": (np.maximum(early, 0), "captum.layer_grad_cam"),
        "on its grid": (coarse, "captum.layer_grad_cam"),
        "said so": (early, {"layer": "1", "relu": "none", "resize": "nearest"}),
    }
    result = xai.parity(models, IMAGES, "gradcam", LABELS, maps=outside, out=tmp_path)
    early_layer = Switch("layer", "1")
    assert result.layers == {"torch": "3", "keras": "late"}
    assert found(result, "early") == [{early_layer}]
    assert {early_layer, Switch("relu", "after")} in found(result, "reduced")
    assert found(result, "on its grid") == [{early_layer, Switch("resize", "none")}]
    assert found(result, "said so") == [set()]
    pairs = [p for p in result.pairs if (p.one.explainer, p.other.explainer) == ("captum.layer_grad_cam", "early")]
    assert {p.one.model for p in pairs} == {"torch", "keras"}
    assert all(p.causes == "layer: 1 (100%)" for p in pairs)
    page = (tmp_path / "parity.html").read_text()
    assert "In fact: a map drawn at <code>1</code> instead of a map drawn at <code>3</code>." in page
    assert "early on torch is not what it is said to be: layer: 1 (100%)" in " ".join(result.shortfalls("identical"))


def test_the_layer_of_a_map_from_outside_is_named_in_keras(models: dict[str, Any]) -> None:
    maps = by_xplique(models["keras"], "early")
    result = xai.parity(models["keras"], IMAGES, "gradcam", LABELS, maps={"early": (maps, "xplique.gradcam")})
    assert found(result, "early") == [{Switch("layer", "early")}]


def test_a_layer_that_is_said_must_be_one(models: dict[str, Any]) -> None:
    maps = {"mine": (np.ones((2, 16, 16, 1)), {"layer": "7"})}
    with pytest.raises(xai.UnknownName, match="'7'"):
        xai.parity(models["torch"], IMAGES, "gradcam", LABELS, maps=maps)


def test_an_empty_map_is_of_no_layer(models: dict[str, Any]) -> None:
    result = xai.parity(models["torch"], IMAGES, "gradcam", LABELS, maps={"empty": np.zeros((2, 16, 16, 1))})
    assert not any(s.convention == "layer" for some in found(result, "empty") for s in some)


def test_maps_may_be_said_to_be_canonical(models: dict[str, Any]) -> None:
    net = models["torch"]
    canonical = xai.explain(net, IMAGES, "captum.saliency", LABELS, profile="canonical").values[0]
    native = xai.explain(net, IMAGES, "captum.saliency", LABELS).values[0]
    outside = {
        "canonical": (canonical, "captum.saliency@canonical"),
        "native": (native, "captum.saliency@native"),
        "wrong": (native, "captum.saliency@canonical"),
    }
    result = xai.parity(net, IMAGES, "saliency", LABELS, maps=outside)
    assert found(result, "canonical") == found(result, "native") == [set()]
    assert found(result, "wrong") == [{Switch("channels", "each")}]
    with pytest.raises(xai.InvalidInput, match="no profile 'canonica': write native or canonical"):
        xai.parity(net, IMAGES, "saliency", LABELS, maps={"mine": (native, "captum.saliency@canonica")})

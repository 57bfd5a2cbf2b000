"""Gradients that lack a part are found at small strengths, and healthy networks beside them are not refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from networks.planted import CUT, KINDS, MADE, SIZE, images
from torch import nn

from crossxai import BrokenAssumption, Modality, Question, Target
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.assumptions.facts import Fact
from crossxai.assumptions.gradients import gradient_at_layer, gradients
from crossxai.explainers import get

IMAGE = (Modality.image(),)
WRAP: dict[str, Callable[..., Any]] = {"torch": TorchModel, "keras": KerasModel}


def measured(framework: str, kind: str, strength: float, seed: int) -> Fact:
    model = WRAP[framework](MADE[framework](kind, strength, seed), IMAGE)
    return gradients(model, (images(seed),))["image"]


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("framework", WRAP)
def test_a_way_that_is_cut_by_three_hundredths(framework: str, kind: str) -> None:
    for seed in range(2):
        assert measured(framework, kind, 0.03, seed).verdict == "broken", seed
        assert measured(framework, kind, 0.0, seed).verdict == "holds", seed


@pytest.mark.parametrize("framework", WRAP)
def test_whole_numbers_are_found_between_samples(framework: str) -> None:
    """They step too rarely for differences over a short step."""
    found = measured(framework, "whole", 0.3, 1)
    assert found.verdict == "broken"
    assert "in steps that no gradient sees" in found.found


@pytest.mark.deep
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("framework", WRAP)
def test_detection_by_strength(framework: str, kind: str) -> None:
    """Cut ways from a hundredth on in nine networks of ten, whole numbers from a tenth on; and nothing where nothing is."""
    n = 12

    def rate(strength: float) -> float:
        return sum(measured(framework, kind, strength, seed).verdict == "broken" for seed in range(n)) / n

    assert rate(0.0) == 0
    if kind in CUT:
        assert rate(0.01) >= 0.9
        assert rate(0.03) == rate(0.1) == rate(0.3) == 1
    elif kind == "whole":
        assert rate(0.1) >= 0.9
    elif kind == "rounded":
        assert rate(0.3) >= 0.5


def test_measuring_leaves_a_model_as_it_was() -> None:
    net = MADE["torch"]("residual", 0.0, 0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    model = TorchModel(net, IMAGE)
    gradients(model, (images(0),))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.dtype == torch.float32 and p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    network = MADE["keras"]("residual", 0.0, 0)
    model, fingerprint = KerasModel(network, IMAGE), None
    model.predict((images(0),))
    fingerprint, values = model.fingerprint(), [np.array(w) for w in network.get_weights()]
    gradients(model, (images(0),))
    assert model.fingerprint() == fingerprint
    assert all(np.array_equal(a, b) for a, b in zip(values, network.get_weights(), strict=True))


def test_networks_that_know_float32_alone_are_measured_in_it() -> None:
    class Fixed(nn.Module):
        def __init__(self, inner: nn.Module, casts: bool) -> None:
            super().__init__()
            self.inner, self.casts = inner, casts
            self.mix = torch.eye(3)  # no buffer: a copy in float64 keeps it as it is

        def forward(self, x: Any) -> Any:
            if self.casts:  # a copy in float64 rounds here
                return self.inner(x.float().to(x.dtype))
            return self.inner(x) @ self.mix

    for casts in (False, True):
        for strength, verdict in ((0.0, "holds"), (0.8, "broken")):
            net = Fixed(MADE["torch"]("gate", strength, 1), casts).eval()
            assert gradients(TorchModel(net, IMAGE), (images(1),))["image"].verdict == verdict, (casts, strength)


def test_a_flat_image_has_ties_and_no_fault() -> None:
    x = np.full((2, SIZE, SIZE, 3), 0.2, np.float32)
    x[0, 4:9, 3:8], x[1, 6:12, 6:14] = 0.8, 0.6
    for framework in WRAP:
        model = WRAP[framework](MADE[framework]("residual", 0.0, 0), IMAGE)
        assert gradients(model, (x,))["image"].verdict == "holds", framework


def test_a_layer_below_a_cut_branch() -> None:
    broken, healthy = (TorchModel(MADE["torch"]("gate", s, 0), IMAGE) for s in (0.1, 0.0))
    assert gradient_at_layer(broken, (images(0),), "conv1").verdict == "broken"
    assert gradient_at_layer(healthy, (images(0),), "conv1").verdict == "holds"


def test_underflow_is_called_so() -> None:
    class Faint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.head(torch.tanh(self.conv(x)).mean((2, 3)) * 1e-3) * 1e-2

    question = Question(TorchModel(Faint().eval().half(), IMAGE), (images(0),), Target.classes([0, 1, 0], 2))
    with pytest.raises(BrokenAssumption, match=r"underflows in float16.*copy in float32"):
        get("captum.saliency")(question)
    full = Question(TorchModel(Faint().eval(), IMAGE), (images(0),), Target.classes([0, 1, 0], 2))
    assert get("captum.saliency")(full).of("image").any()


def test_underflow_in_keras() -> None:
    def model(policy: str) -> Any:
        keras.utils.set_random_seed(0)
        x = keras.Input((SIZE, SIZE, 3))
        h = keras.layers.Conv2D(4, 3, activation="tanh", dtype=policy)(x)
        h = keras.layers.GlobalAveragePooling2D(dtype=policy)(h)
        h = keras.layers.Rescaling(1e-3, dtype=policy)(h)
        h = keras.layers.Dense(2, dtype=policy)(h)
        return keras.Model(x, keras.layers.Rescaling(1e-2, dtype="float32")(h))

    found = gradients(KerasModel(model("mixed_float16"), IMAGE), (images(0),))["image"]
    assert found.verdict == "broken"
    assert "underflows in float16" in found.found
    assert gradients(KerasModel(model("float32"), IMAGE), (images(0),))["image"].verdict == "holds"


def test_healthy_half_precision() -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((SIZE, SIZE, 3))
    h = keras.layers.Conv2D(8, 3, activation="relu", dtype="mixed_float16")(x)
    h = keras.layers.GlobalAveragePooling2D(dtype="mixed_float16")(h)
    net = keras.Model(x, keras.layers.Dense(3, dtype="float32")(h))
    assert gradients(KerasModel(net, IMAGE), (images(0),))["image"].verdict == "holds"
    for dtype in (torch.float16, torch.bfloat16):
        half = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
        assert gradients(TorchModel(half.eval().to(dtype), IMAGE), (images(0),))["image"].verdict == "holds"


@pytest.mark.deep
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "EfficientNetB0", "DenseNet121", "ConvNeXtTiny", "VGG16"])
def test_healthy_keras_applications(name: str) -> None:
    keras.utils.set_random_seed(0)
    net = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    x = np.random.default_rng(0).random((2, 64, 64, 3)).astype(np.float32)
    modality = (Modality.image(range=(0, 255)),)
    found = gradients(KerasModel(net, modality), (255 * x,))["image"]
    assert found.verdict == "holds", found.found


def test_a_graph_of_operations_is_left_alone() -> None:
    """Copying a functional model does not connect its operations to the copy."""
    x = keras.Input((SIZE, SIZE, 3))
    h = keras.ops.tanh(keras.layers.Conv2D(4, 3)(x))
    h = keras.layers.Lambda(lambda v: tf.reduce_mean(v, (1, 2)))(h)
    net = keras.Model(x, keras.layers.Dense(2)(h))
    model = KerasModel(net, IMAGE)
    nodes = [len(operation._inbound_nodes) for operation in net.operations]
    twin = model.exact()
    assert twin is not None
    assert str(twin.dtype) == "<dtype: 'float64'>"
    np.testing.assert_allclose(twin.predict((images(0),)), model.predict((images(0),)), atol=1e-5)
    assert [len(operation._inbound_nodes) for operation in net.operations] == nodes

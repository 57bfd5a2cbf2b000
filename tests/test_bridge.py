"""ResNet-18 at 96 × 96 on real tissue: the same explainer on the PyTorch network and on its Keras twin must agree."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.data import immunohistochemistry

from crossxai import Modality, Question, Target
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import discover, get
from crossxai.studies.networks import keras_networks, torch_networks

STANDARDISE = {"image": ((0.68, 0.62, 0.56), (0.14, 0.18, 0.23))}
PROFILES = ("native", "canonical")
SLOW = {
    "gradcam.ablationcam",
    "gradcam.scorecam",
    "gradcam.sess",
}  # a pass for each of 512 channels, or for 150 windows
LONG = {
    "xplique.forgrad"
}  # looks for the frequencies to keep; the quick tests hold it to its contract on small networks
GRADIENTS = [
    (name, profile)
    for name, kind in discover().items()
    if kind.needs in ("gradients", "layers") and name not in SLOW
    for profile in kind.profiles
]


def patches(dtype: str = "float32") -> Any:
    picture = immunohistochemistry()
    return np.stack([picture[y : y + 96, x : x + 96] for y, x in ((0, 0), (200, 310))]).astype(dtype) / 255


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    """Random weights with batch norm statistics of real patches, so that activations neither die nor explode."""
    net = torch_networks.resnet18(2, seed=0)
    images = torch.tensor(patches()).permute(0, 3, 1, 2)
    with torch.no_grad():
        for _ in range(20):
            net((images - 0.6) / 0.2)
    return {k: v.numpy() for k, v in net.state_dict().items()}


def question(state: dict[str, Any], framework: str, dtype: str) -> Question:
    modalities = (Modality.image(),)
    if framework == "torch":
        net = torch_networks.resnet18(2, seed=1)
        net.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
        model: Any = TorchModel(net.to(getattr(torch, dtype)).eval(), modalities, standardise=STANDARDISE)
    else:
        twin = keras_networks.resnet18(2, dtype=dtype)
        keras_networks.set_weights_from(twin, state)
        model = KerasModel(twin, modalities, standardise=STANDARDISE)
    return Question(model, (patches(dtype),), Target.classes([0, 1], 2))


@pytest.fixture(scope="module")
def float32(state: dict[str, Any]) -> tuple[Question, Question]:
    return question(state, "torch", "float32"), question(state, "keras", "float32")


@pytest.fixture(scope="module")
def float64(state: dict[str, Any]) -> tuple[Question, Question]:
    return question(state, "torch", "float64"), question(state, "keras", "float64")


STEPS = 12
TRAPEZOID = {
    *((f"{library}.integrated_gradients", "canonical") for library in ("captum", "reference")),
    *(("xplique.integrated_gradients", p) for p in PROFILES),
}


def maps(pair: tuple[Question, Question], name: str, profile: str) -> list[Any]:
    """The maps of both networks, without what the frameworks cannot agree on.

    The trapezoid rule starts at the baseline itself, a constant image. There all windows of the max-pool are ties that
    rounding decides, so the gradient at that one point is not unique, and each framework has its own. Its share of the
    sum is put aside; `test_ties_at_a_constant_baseline` shows that this is all that differs.
    """
    small: dict[str, Any] = {"layer": "layer4", "steps": STEPS, "samples": 4}
    params = {k: v for k, v in small.items() if k in discover()[name].__dataclass_fields__}
    found = [get(name, profile=profile, **params)(q).values[0] for q in pair]
    if (name, profile) in TRAPEZOID:
        scale = 3 if name.startswith("xplique.") and profile == "native" else 1  # the mean over channels
        # Captum keeps its step sizes in float32.
        half = (
            0.5 / (STEPS - 1) if name.startswith("reference.") else float(np.float32(0.5 / STEPS)) * STEPS / (STEPS - 1)
        )
        found = [m - half * first_term(q) / scale for m, q in zip(found, pair, strict=True)]
    return found


def first_term(q: Question) -> Any:
    """The baseline's term of the trapezoid sum, summed over channels, before its weight: half of 1 / (STEPS - 1)."""
    (x,) = q.inputs
    _, (gradient,) = q.score_and_grad((np.zeros_like(x),), [0, 1])
    return (gradient * x).sum(axis=-1, keepdims=True)


def test_ties_at_a_constant_baseline(float64: Any) -> None:
    """A step away from the constant image, gradients agree to 1e-9; at it, outputs do, gradients need not."""
    x = float64[0].inputs[0]
    near, at = [[q.score_and_grad((start,), [0, 1]) for q in float64] for start in (x / (STEPS - 1), np.zeros_like(x))]
    assert np.linalg.norm(near[0][1][0] - near[1][1][0]) <= 1e-9 * np.linalg.norm(near[0][1][0])
    np.testing.assert_allclose(at[0][0], at[1][0], atol=1e-12)


def test_the_twins_agree_on_outputs(float32: Any, float64: Any) -> None:
    for pair, tolerance in ((float32, 1e-4), (float64, 1e-12)):
        scores = [q.score() for q in pair]
        np.testing.assert_allclose(scores[0], scores[1], atol=tolerance)


# Those that float64 holds below run as a process-level test: each is two more passes through ResNet-18 per map.
@pytest.mark.parametrize(
    ("name", "profile"),
    [
        pytest.param(n, p, marks=[] if n.startswith("xplique.") and n not in LONG else pytest.mark.process)
        for n, p in GRADIENTS
    ],
)
def test_float32(float32: Any, name: str, profile: str) -> None:
    """ReLUs that flip in rounding are what is left: see the float64 test."""
    here, there = maps(float32, name, profile)
    assert np.linalg.norm(here - there) <= 5e-3 * np.linalg.norm(here)
    for a, b in zip(here, there, strict=True):
        assert spearmanr(a.ravel(), b.ravel()).statistic >= 0.999


@pytest.mark.parametrize(("name", "profile"), [(n, p) for n, p in GRADIENTS if not n.startswith("xplique.")])
def test_float64(float64: Any, name: str, profile: str) -> None:
    """Xplique casts to float32; pytorch-grad-cam's own resize (native profile) does too, which costs its last digits."""
    here, there = maps(float64, name, profile)
    tolerance = 1e-6 if name.startswith("gradcam.") and profile == "native" else 1e-9
    assert np.linalg.norm(here - there) <= tolerance * np.linalg.norm(here)


def test_one_layer_name_finds_the_same_activation(float32: Any) -> None:
    for layer in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        (_, a, ga), (_, b, gb) = (q.layer_score_and_grad(layer) for q in float32)
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())
        assert np.linalg.norm(ga - gb) <= 5e-3 * np.linalg.norm(ga)
    assert [q.cam_layer() for q in float32] == ["layer4", "layer4"]


@pytest.mark.parametrize("layer", ["conv1", "layer2", "layer4"])
def test_replacing_a_layer_by_itself_changes_nothing(float32: Any, layer: str) -> None:
    """Also where a residual connection goes around it; and a zeroed layer does change the outputs."""
    for q in float32:
        before, activation = q.model.read(q.inputs, layer)
        np.testing.assert_allclose(q.model.replace(q.inputs, layer, activation), before, atol=1e-5)
        assert np.abs(q.model.replace(q.inputs, layer, 0 * activation) - before).max() > 1e-2


def test_keras_is_on_tensorflow() -> None:
    assert keras.backend.backend() == "tensorflow"

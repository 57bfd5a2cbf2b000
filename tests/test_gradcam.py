"""pytorch-grad-cam through the bridge against its own code on torch, on one image and on networks that take more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from networks import toys, zoo
from scipy.special import softmax
from test_native import Standardised, close
from torch import nn

from crossxai import InvalidInput, Question, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get
from crossxai.explainers.families import bilinear
from crossxai.explainers.native import seeded
from crossxai.model import Array

ALL = {
    "gradcam": "GradCAM",
    "hirescam": "HiResCAM",
    "gradcam_elementwise": "GradCAMElementWise",
    "gradcam_plus_plus": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "eigengradcam": "EigenGradCAM",
    "segeigencam": "SegEigenCAM",
    "eigencam": "EigenCAM",
    "kpca_cam": "KPCA_CAM",
    "fem": "FEM",
    "scorecam": "ScoreCAM",
    "ablationcam": "AblationCAM",
}
SMOOTH = ["gradcam", "hirescam", "layercam", "scorecam", "ablationcam"]


def label(i: int) -> Callable[[Any], Any]:
    return lambda output: output[i]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {"torch": toys.torch_model(), "keras": toys.keras_model()}


def reference() -> Any:
    """The toy network as the library's user has it; without the in-place ReLU, with which the library itself is wrong."""
    module = Standardised(toys.torch_net(), torch.float32).eval()
    module.net.relu2.inplace = False
    return module


@pytest.mark.parametrize("layer", ["conv2", "relu2"])
@pytest.mark.parametrize(
    ("name", "framework", "smooth"),
    [
        *((name, framework, False) for name in ALL for framework in ("torch", "keras")),
        *((name, "torch", True) for name in SMOOTH),  # between frameworks rounding would decide the sign
    ],
)
def test_every_map(models: Any, framework: str, layer: str, name: str, smooth: bool) -> None:
    """At conv2 an in-place ReLU follows in the model asked; the library is asked about the same network without it."""
    module = reference()
    x = torch.tensor(toys.images()).permute(0, 3, 1, 2)
    cam = getattr(pytorch_grad_cam, ALL[name])(module, [getattr(module.net, layer)])
    expected = cam(x, [label(i) for i in range(3)], eigen_smooth=smooth)
    options = {"eigen_smooth": True} if smooth else {}
    found = get(f"gradcam.{name}", layer=layer, **options)(toys.question(models[framework])).values[0][..., 0]
    assert np.ptp(expected, axis=(1, 2)).max() > 0.9
    close(found, expected, 1e-4)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_random_weights(models: Any, framework: str) -> None:
    module = reference()
    question = toys.question(models[framework])
    expected = []
    for row in range(3):
        x = torch.tensor(toys.images()[row : row + 1]).permute(0, 3, 1, 2)
        with seeded(int(question.rng(row, 4).integers(2**32))):
            expected.append(pytorch_grad_cam.RandomCAM(module, [module.net.relu2])(x, [label(0)])[0])
    close(get("gradcam.randomcam", seed=4)(question).values[0][..., 0], np.stack(expected), 1e-4)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_finer_cam(models: Any, framework: str) -> None:
    module = reference()
    question = toys.question(models[framework])
    expected = []
    for row in range(3):
        x = torch.tensor(toys.images()[row : row + 1]).permute(0, 3, 1, 2)
        finer = pytorch_grad_cam.FinerCAM(module, [module.net.relu2])
        expected.append(finer(x, target_idx=row, alpha=0.6)[0])
    found = get("gradcam.finer_cam", layer="relu2", alpha=0.6)(question)
    close(found.values[0][..., 0], np.stack(expected), 1e-4)
    plain = get("gradcam.gradcam", layer="relu2")(question)
    assert np.abs(found.values[0] - plain.values[0]).max() > 0.05


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_refine_cam(models: Any, framework: str) -> None:
    module = reference()
    x = torch.tensor(toys.images()).permute(0, 3, 1, 2)
    cam = pytorch_grad_cam.RefineCAM(module, [module.net.relu1, module.net.conv2])
    expected = cam(x, [label(i) for i in range(3)])
    question = toys.question(models[framework])
    close(get("gradcam.refine_cam", layer="relu1, conv2")(question).values[0][..., 0], expected, 1e-4)
    explainer = get("gradcam.refine_cam")
    assert explainer.passes(question) == (1, 1)  # one resolution, of which Keras's padding layers are none
    close(explainer(question).values[0], get("gradcam.gradcam_plus_plus", layer="relu2")(question).values[0], 1e-5)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_sess(models: Any, framework: str) -> None:
    module = reference()
    x = torch.tensor(toys.images()).permute(0, 3, 1, 2)
    targets = [pytorch_grad_cam.utils.model_targets.ClassifierOutputTarget(i) for i in range(3)]
    expected = pytorch_grad_cam.SESS(module, [module.net.relu2], num_scales=4)(x, targets)
    found = get("gradcam.sess", layer="relu2", sizes=4)(toys.question(models[framework]))
    close(found.values[0][..., 0], expected, 1e-4)


class Held(nn.Module):
    """A network of several modalities as a library that takes one sees it, the others held, standardisation inside."""

    def __init__(self, net: nn.Module, inputs: str, row: int) -> None:
        super().__init__()
        self.net = net
        _, *held = (torch.tensor(np.moveaxis(v, -1, 1) if v.ndim == 4 else v) for v in zoo.values(inputs))
        self.held = [values[row : row + 1] for values in held]
        mean, sd = zoo.STANDARDISE["t1"]
        self.mean, self.sd = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (mean, sd))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        held = [values.expand(len(x), *values.shape[1:]) for values in self.held]
        return self.net((x - self.mean) / self.sd, *held)


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize(
    ("inputs", "task"), [("image+table", "class"), ("image+image", "regression"), ("image+image", "segmentation")]
)
@pytest.mark.parametrize("name", ["gradcam", "hirescam", "fem", "scorecam", "ablationcam"])
def test_with_held_modalities(framework: str, inputs: str, task: str, name: str) -> None:
    """The map of the first image at its own encoder's last layer; what is held keeps each sample's own values."""
    question = zoo.question(framework, inputs, task)
    expected = []
    for row in range(2):
        module = Held(zoo.torch_net(inputs, task), inputs, row).eval()
        weights = torch.tensor(np.moveaxis(question.target.weights[row], -1, 0), dtype=torch.float32)
        x = torch.tensor(question.inputs[0][row : row + 1]).permute(0, 3, 1, 2)
        cam = getattr(pytorch_grad_cam, ALL[name])(module, [module.net.t1_conv2_relu])
        expected.append(cam(x, [lambda output, weights=weights: (output * weights).sum()])[0])
    assert question.only("t1").cam_layer() == "t1_conv2_relu"
    found = get(f"gradcam.{name}")(question.only("t1")).values[0][..., 0]
    close(found, np.stack(expected), 2e-4)


def recorded(question: Question, layer: str) -> tuple[Array, Array]:
    _, activation, gradient = question.layer_score_and_grad(layer)
    return activation, gradient


def test_canonical_plus_plus_is_the_paper_s_sum(models: Any) -> None:
    question = toys.question(models["torch"])
    a, g = recorded(question, "relu2")
    alpha = np.divide(g**2, 2 * g**2 + a.sum((1, 2), keepdims=True) * g**3, out=np.zeros_like(g), where=g != 0)
    raw = np.maximum((a * (alpha * np.maximum(g, 0)).sum((1, 2), keepdims=True)).sum(-1), 0)
    found = get("gradcam.gradcam_plus_plus", profile="canonical", layer="relu2")(question).values[0][..., 0]
    close(found, bilinear(raw, 32, 32), 1e-5)
    weak = zoo.question("torch", "image", "segmentation")
    here, there = (get("gradcam.gradcam_plus_plus", profile=p)(weak).values[0] for p in ("native", "canonical"))
    assert np.abs(here / here.max() - there / there.max()).max() > 0.01  # 1e-6 is not small beside these gradients


@pytest.mark.parametrize(
    ("name", "options"), [("eigencam", {}), ("eigengradcam", {}), ("gradcam_plus_plus", {"eigen_smooth": True})]
)
def test_canonical_components_have_a_sign(models: Any, name: str, options: Any) -> None:
    """As they come, the third's differ between frameworks in sign: rounding decides."""
    maps = {}
    for profile in ("native", "canonical"):
        explainer = get(f"gradcam.{name}", profile=profile, layer="relu2", **options)
        maps[profile] = [explainer(toys.question(m)).values[0] for m in models.values()]
    close(maps["canonical"][0], maps["canonical"][1], 1e-4)
    assert (maps["canonical"][0].max(axis=(1, 2, 3)) > 0).all()
    if options:
        assert np.abs(maps["native"][0] - maps["native"][1]).max() > 0.5


def test_canonical_ablation_sets_channels_to_zero(models: Any) -> None:
    question = toys.question(models["keras"])
    scores, activation = question.layer_score("conv2")
    weights = np.zeros((3, 16))
    for channel in range(16):
        without = activation.copy()
        without[..., channel] = 0
        changed = question.score_replaced("conv2", np.arange(3), lambda part, a=without: a[part])
        weights[:, channel] = (scores - changed) / scores
    raw = np.maximum((activation * weights[:, None, None]).sum(-1), 0)
    found = get("gradcam.ablationcam", profile="canonical", layer="conv2")(question).values[0][..., 0]
    close(found, bilinear(raw.astype(np.float32), 32, 32), 1e-5)


def test_the_library_s_ablation_value_falls_from_channel_to_channel() -> None:
    """What the docstring says of the native profile; if this fails, the library has mended it."""
    layer = pytorch_grad_cam.AblationLayer()
    activations = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    layer.activations_to_be_ablated(activations[0].numpy())
    layer.set_next_batch(0, activations, 4)
    ablated = [float(copy[i, 0, 0]) for i, copy in enumerate(layer(None))]
    np.testing.assert_allclose(ablated, [-1e7, -2e7, -3e7, -4e7], rtol=1e-3)


def test_canonical_score_cam(models: Any) -> None:
    question = toys.question(models["torch"])[[1]]
    (activation,), image = question.layer_score("relu2")[1], question.values[0]
    masks = bilinear(np.moveaxis(activation, -1, 0), 32, 32)
    masks = masks - masks.min((1, 2), keepdims=True)
    masks = masks / np.maximum(masks.max((1, 2), keepdims=True), 1e-12)
    scores = question.score((image * masks[..., None],), np.zeros(16))
    raw = np.maximum((activation * softmax(scores)).sum(-1), 0)[None]
    found = get("gradcam.scorecam", profile="canonical")(question).values[0][..., 0]
    close(found, bilinear(raw, 32, 32), 1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("gradcam.gradcam", "xplique.gradcam"),
        ("gradcam.gradcam_plus_plus", "xplique.gradcam_plus_plus"),
        ("gradcam.guided_backprop", "captum.guided_backprop"),
    ],
)
@pytest.mark.parametrize("task", ["class", "segmentation"])
def test_canonical_maps_meet(ours: str, theirs: str, task: str) -> None:
    question = zoo.question("keras", "image+image", task).only("t1")
    here, there = (get(name, profile="canonical")(question).values[0] for name in (ours, theirs))
    close(here, there, 1e-5)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_layer_can_be_read_without_a_gradient(models: Any, framework: str) -> None:
    question = toys.question(models[framework])
    for layer in ("conv2", "relu2"):
        scores, activation = question.layer_score(layer)
        expected = question.layer_score_and_grad(layer)
        np.testing.assert_allclose(scores, expected[0], rtol=1e-6)
        np.testing.assert_allclose(activation, expected[1], rtol=1e-5, atol=1e-6)
        back = question.score_replaced(layer, [2, 0], lambda part, a=activation: a[[2, 0]][part])
        np.testing.assert_allclose(back, scores[[2, 0]], rtol=1e-5)


def test_what_cannot_be_told_apart() -> None:
    question = zoo.question("torch", "image", "regression")
    with pytest.raises(Unsupported, match="one output: there is no other"):
        get("gradcam.finer_cam")(question)
    with pytest.raises(Unsupported, match="a region of a map is not in them"):
        get("gradcam.sess")(zoo.question("torch", "image", "segmentation"))


def test_silence(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """No progress bar, no warning on the screen, and the library's own modules as they were."""
    import pytorch_grad_cam.hirescam
    import pytorch_grad_cam.score_cam

    question = toys.question(models["torch"])
    bar = pytorch_grad_cam.score_cam.tqdm
    for name in ("scorecam", "ablationcam", "hirescam"):
        get(f"gradcam.{name}", eigen_smooth=True)(question)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert pytorch_grad_cam.score_cam.tqdm is bar
    assert "print" not in vars(pytorch_grad_cam.hirescam)


def test_adapters_are_what_is_tested(models: Any) -> None:
    assert isinstance(models["torch"], TorchModel)
    assert isinstance(models["keras"], KerasModel)


@pytest.mark.parametrize("layer", ["conv1,", ",", " "])
def test_refine_cam_refuses_a_layer_without_a_name(layer: str) -> None:
    with pytest.raises(InvalidInput, match="separated by single commas"):
        get("gradcam.refine_cam", layer=layer)

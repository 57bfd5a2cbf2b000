"""Every number of a library through the bridge against that library's own code, on the framework it was written for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from networks import toys
from torch import nn

from crossxai import Question, Target
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get
from crossxai.model import Array


def close(found: Array, expected: Array, tolerance: float) -> None:
    """Largest difference relative to the largest expected value."""
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


class Standardised(nn.Module):
    """What a torch user would hand to Captum: standardisation and network in one module, NCHW."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net = net
        self.mean = torch.tensor(toys.MEAN, dtype=dtype).reshape(1, 3, 1, 1)
        self.sd = torch.tensor(toys.SD, dtype=dtype).reshape(1, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x - self.mean) / self.sd)


CAPTUM: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("captum.saliency", {}, "Saliency", {}),
    ("captum.input_x_gradient", {}, "InputXGradient", {}),
    ("captum.integrated_gradients", {}, "IntegratedGradients", {}),
    (
        "captum.integrated_gradients",
        {"steps": 20, "baseline": 0.5},
        "IntegratedGradients",
        {"n_steps": 20, "baselines": 0.5},
    ),
    (
        "captum.occlusion",
        {"patch": 8, "stride": 5},
        "Occlusion",
        {"sliding_window_shapes": (3, 8, 8), "strides": (3, 5, 5)},
    ),
]


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-5), ("float64", 1e-9)])
@pytest.mark.parametrize(("name", "params", "method", "arguments"), CAPTUM)
def test_captum(
    framework: str, dtype: str, tolerance: float, name: str, params: Any, method: str, arguments: Any
) -> None:
    import captum.attr

    module = Standardised(toys.torch_net(dtype), getattr(torch, dtype))
    x = torch.tensor(toys.images(dtype=dtype)).permute(0, 3, 1, 2).requires_grad_(method != "Occlusion")
    native = getattr(captum.attr, method)(module).attribute(x, target=torch.tensor([0, 1, 2]), **arguments)
    expected = native.detach().permute(0, 2, 3, 1).numpy()
    model = toys.torch_model(dtype) if framework == "torch" else toys.keras_model(dtype)
    found = get(name, **params)(toys.question(model, dtype=dtype)).values[0]
    assert found.dtype == expected.dtype  # Captum's own Occlusion answers float32 to float64
    close(np.broadcast_to(found, expected.shape), expected, tolerance)


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2", "relu2"])
@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("gradcam.gradcam", "GradCAM"),
        ("gradcam.hirescam", "HiResCAM"),
        ("gradcam.gradcam_plus_plus", "GradCAMPlusPlus"),
    ],
)
def test_gradcam(framework: str, layer: str, name: str, method: str) -> None:
    """Also at conv2, which an in-place ReLU follows: there the library itself needs a clone to be right."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = Standardised(toys.torch_net(), torch.float32).eval()
    target = getattr(module.net, layer)
    cam = getattr(pytorch_grad_cam, method)(module, [target])
    handle = target.register_forward_hook(lambda _m, _i, output: output.clone())
    x = torch.tensor(toys.images()).permute(0, 3, 1, 2)
    expected = cam(x, [ClassifierOutputTarget(i) for i in range(3)])
    handle.remove()
    model = toys.torch_model() if framework == "torch" else toys.keras_model()
    found = get(name, layer=layer)(toys.question(model)).values[0][..., 0]
    close(found, expected, 5e-5)


def test_gradcam_itself_is_wrong_before_an_in_place_relu() -> None:
    """The trap that the bridge avoids; if this fails, the library has mended it and our docs should say so."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    module = Standardised(toys.torch_net(), torch.float32).eval()
    x = torch.tensor(toys.images()).permute(0, 3, 1, 2)
    unaware = pytorch_grad_cam.GradCAM(module, [module.net.conv2])(x, [ClassifierOutputTarget(i) for i in range(3)])
    ours = get("gradcam.gradcam", layer="conv2")(toys.question(toys.torch_model())).values[0][..., 0]
    assert np.abs(unaware - ours).max() > 0.05


def keras_question(net: Any, n: int = 3) -> Question:
    """Without standardisation, so that the very same Keras model goes to Xplique."""
    return Question(KerasModel(net, (toys.IMAGE,)), (toys.images(n),), Target.classes(np.arange(n) % 3, 3))


def torch_question(n: int = 3) -> Question:
    return Question(TorchModel(toys.torch_net(), (toys.IMAGE,)), (toys.images(n),), Target.classes(np.arange(n) % 3, 3))


XPLIQUE: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("xplique.saliency", {}, "Saliency", {}),
    ("xplique.integrated_gradients", {}, "IntegratedGradients", {}),
    (
        "xplique.integrated_gradients",
        {"steps": 9, "baseline": 0.5},
        "IntegratedGradients",
        {"steps": 9, "baseline_value": 0.5},
    ),
    ("xplique.gradcam", {"layer": "conv2"}, "GradCAM", {"conv_layer": "conv2"}),
    ("xplique.gradcam", {"layer": "relu1"}, "GradCAM", {"conv_layer": "relu1"}),
    ("xplique.occlusion", {}, "Occlusion", {}),
    ("xplique.occlusion", {"patch": 8, "stride": 5}, "Occlusion", {"patch_size": 8, "patch_stride": 5}),
]


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize(("name", "params", "method", "arguments"), XPLIQUE)
def test_xplique(framework: str, name: str, params: Any, method: str, arguments: Any) -> None:
    import xplique.attributions

    net = toys.keras_net()
    native = getattr(xplique.attributions, method)(net, **arguments)
    expected = native(toys.images(), np.eye(3, dtype=np.float32)).numpy()
    question = keras_question(net) if framework == "keras" else torch_question()
    close(get(name, **params)(question).values[0], expected, 3e-5)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_rise(framework: str) -> None:
    """Same masks (a fixed draw in place of TensorFlow's), so the library's own map must come out."""
    import xplique.attributions

    from crossxai.explainers.xplique import seeded

    net = toys.keras_net()
    question = keras_question(net) if framework == "keras" else torch_question()
    rise = xplique.attributions.Rise
    expected = []
    for row in range(3):
        native = rise(net, nb_samples=70)
        with seeded(rise, int(question.rng(row, 0).integers(2**31))):
            expected.append(native(toys.images()[row : row + 1], np.eye(3, dtype=np.float32)[row : row + 1]).numpy())
    found = get("xplique.rise", samples=70)(question).values[0]
    close(found, np.concatenate(expected), 1e-5)
    assert not np.allclose(found[0] / found[0].max(), found[1] / found[1].max(), atol=1e-2)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_lime(framework: str, capsys: pytest.CaptureFixture[str]) -> None:
    from lime.lime_image import LimeImageExplainer

    model = toys.torch_model() if framework == "torch" else toys.keras_model()
    question = toys.question(model, n=2)
    found = get("lime.image", samples=60)(question)
    assert capsys.readouterr().err == ""
    for row in range(2):
        rng = question.rng(row, 0)
        explainer = LimeImageExplainer(random_state=np.random.RandomState(rng.integers(2**32)))
        answer = explainer.explain_instance(
            toys.images(2)[row],
            lambda batch: model.predict((batch.astype(np.float32),)),
            labels=(row,),
            top_labels=None,
            num_samples=60,
            random_seed=int(rng.integers(1000)),
        )
        weights = dict(answer.local_exp[row])
        expected = np.vectorize(weights.get)(answer.segments)
        close(found.values[0][row, ..., 0], expected.astype(np.float32), 1e-4)

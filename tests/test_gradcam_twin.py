"""pytorch-grad-cam's methods that hook or rewrite layers, on torch twins of both frameworks' models, against its own code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pytorch_grad_cam
import torch
from networks import toys, zoo
from test_native import Standardised, close
from torch import nn

from crossxai import InvalidInput, Modality, Question, Target, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get, twins
from crossxai.testing.oracles import Counting

NAMES = ["fullgrad", "shapleycam", "guided_backprop"]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {"torch": toys.torch_model(), "keras": toys.keras_model()}


def module() -> Any:
    """The toy network as the library's user has it, without the in-place ReLU that would spoil what it records."""
    found = Standardised(toys.torch_net(), torch.float32).eval()
    found.net.relu2.inplace = False
    return found


def pictures() -> Any:
    return torch.tensor(toys.images()).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_fullgrad(models: Any, framework: str) -> None:
    targets = [pytorch_grad_cam.utils.model_targets.ClassifierOutputTarget(i) for i in range(3)]
    expected = pytorch_grad_cam.FullGrad(module(), [])(pictures(), targets)
    found = get("gradcam.fullgrad")(toys.question(models[framework]))
    close(found.values[0][..., 0], expected, 1e-4)
    assert found.extras["twin_gap"].max() < 1e-5
    # More than input × gradient, which is what it would be on a model whose layers cannot be found.
    bare = module()
    bare.net.conv1.bias = bare.net.conv2.bias = None
    without = pytorch_grad_cam.FullGrad(bare, [])(pictures(), targets)
    assert np.abs(found.values[0][..., 0] - without).max() > 0.05


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_fullgrad_counts_the_layers_that_the_image_reaches(framework: str) -> None:
    """The library finds every layer of a network, and would draw the other image's encoder on this one."""
    question = zoo.question(framework, "image+image", "class")
    net = zoo.torch_net("image+image", "class")
    mean, sd = (torch.tensor(v).reshape(1, 3, 1, 1) for v in zoo.STANDARDISE["t1"])

    class Own(nn.Module):
        def __init__(self, row: int) -> None:
            super().__init__()
            self.conv1, self.relu1, self.conv2, self.relu2 = (
                getattr(net, f"t1_{name}") for name in ("conv1", "conv1_relu", "conv2", "conv2_relu")
            )
            self.rest = (net,)  # a tuple, out of the library's sight
            with torch.no_grad():
                other = torch.tensor(question.inputs[1][row : row + 1]).permute(0, 3, 1, 2)
                for number in (1, 2):
                    other = torch.relu(getattr(net, f"t2_conv{number}")(other))
                    other = net.pool(other) if number == 1 else other
            self.other = other

        def forward(self, x: Any) -> Any:
            x = self.relu2(self.conv2(net.pool(self.relu1(self.conv1((x - mean) / sd)))))
            return net.head(torch.cat([x, self.other], 1).mean((2, 3)))

    expected = []
    for row in range(2):
        x = torch.tensor(question.inputs[0][row : row + 1]).permute(0, 3, 1, 2).contiguous()
        expected.append(pytorch_grad_cam.FullGrad(Own(row), [])(x, [lambda output, row=row: output[row]])[0])
    close(get("gradcam.fullgrad")(question.only("t1")).values[0][..., 0], np.stack(expected), 1e-4)


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("layer", ["conv2", "relu1"])
def test_shapleycam(models: Any, framework: str, layer: str) -> None:
    net = module()
    cam = pytorch_grad_cam.ShapleyCAM(net, [getattr(net.net, layer)])
    targets = [pytorch_grad_cam.utils.model_targets.ClassifierOutputSoftmaxTarget(i) for i in range(3)]
    expected = cam(pictures(), targets)
    cam.activations_and_grads.activations = cam.activations_and_grads.gradients = []
    question = Question(models[framework], (toys.images(),), Target.classes([0, 1, 2], 3, "softmax"))
    found = get("gradcam.shapleycam", layer=layer)(question)
    close(found.values[0][..., 0], expected, 2e-4)
    assert found.extras["twin_gap"].max() < 1e-5
    plain = get("gradcam.gradcam", layer=layer)(question).values[0]
    assert np.abs(found.values[0] - plain).max() > 0.05
    logits = toys.question(models[framework])  # piecewise linear: nothing is curved
    same = get("gradcam.shapleycam", layer="relu2")(logits).values[0]
    close(same, get("gradcam.gradcam", layer="relu2")(logits).values[0], 1e-4)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_guided_backprop(models: Any, framework: str) -> None:
    expected = []
    for i, image in enumerate(pictures()):
        expected.append(pytorch_grad_cam.GuidedBackpropReLUModel(module())(image[None], i))
    question = toys.question(models[framework])
    found = get("gradcam.guided_backprop")(question)
    close(found.values[0], np.stack(expected), 1e-4)
    assert found.extras["twin_gap"].max() < 1e-5
    canonical = get("gradcam.guided_backprop", profile="canonical")(question).values[0]
    np.testing.assert_allclose(canonical, found.values[0].sum(-1, keepdims=True), atol=1e-6)
    plain = question.score_and_grad()[1][0]
    assert np.corrcoef(found.values[0].ravel(), plain.ravel())[0, 1] < 0.95
    if framework == "torch":
        assert models["torch"].module.relu2.inplace  # the library left its shared ReLU in the twin


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("inputs", "task"), [("image+table", "regression"), ("image+image", "segmentation")])
def test_both_frameworks_agree(name: str, inputs: str, task: str) -> None:
    here, there = (get(f"gradcam.{name}")(zoo.question(f, inputs, task)) for f in ("torch", "keras"))
    assert len(here.values) == (2 if inputs == "image+image" else 1)
    for a, b in zip(here.values, there.values, strict=True):
        close(a, b, 1e-4)
        assert np.ptp(a) > 0
    assert all(gap.shape == (2,) and gap.max() < 1e-5 for gap in here.extras.values())


@pytest.mark.parametrize("name", NAMES)
def test_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those through the twin and those through the model, without the certificate's."""
    counting = Counting(toys.torch_model())
    real = twins.twin

    def counted(*arguments: Any) -> Any:
        found = real(*arguments)

        def forwards(_module: Any, _inputs: Any, output: Any) -> None:
            counting.forward += len(output)
            output.register_hook(backwards)

        def backwards(gradient: Any) -> None:
            counting.backward += len(gradient)

        found.module.register_forward_hook(forwards)
        return found

    monkeypatch.setattr(twins, "twin", counted)
    explainer = get(f"gradcam.{name}")
    question = toys.question(counting)
    explainer(question)
    forward, backward = explainer.passes(question)
    assert counting.forward == 3 * forward
    # The second derivative passes the outputs' hooks only where the score is curved in them.
    assert counting.backward == 3 * (1 if name == "shapleycam" else backward)


def test_refusals() -> None:
    question = Question(
        FunctionModel(lambda x: x.mean((1, 2)), (Modality.image(),)), (toys.images(),), Target.classes([0, 1, 2], 3)
    )
    with pytest.raises(Unsupported, match="needs module, which model 'function' does not give"):
        get("gradcam.fullgrad")(question)
    with pytest.raises(InvalidInput, match="adds up all layers"):
        get("gradcam.fullgrad", layer="conv2")
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    with pytest.raises(Unsupported, match="no ReLU to guide"):
        get("gradcam.guided_backprop")(toys.question(TorchModel(smooth, (toys.IMAGE,))))

"""PyTorch modules as people have them: ending in `.view`, exported, with outputs of any structure, on arrays of any strides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import nn
from torch.nn import functional as F

from crossxai import InvalidInput, Modality, Question, Target, Unsupported
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import get

IMAGE = (Modality.image(),)


def images(n: int = 2, height: int = 12, width: int = 12) -> Any:
    return np.random.default_rng(1).random((n, height, width, 3)).astype(np.float32)


def nchw(x: Any) -> Any:
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


class Viewing(nn.Module):
    """As in torch's own tutorial, which needs memory to be contiguous."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4 * 25, 3)

    def forward(self, x: Any) -> Any:
        return self.head(F.max_pool2d(torch.relu(self.conv(x)), 2).view(-1, 4 * 25))


def test_a_network_that_ends_in_view() -> None:
    net, x = Viewing().eval(), images()
    question = Question(TorchModel(net, IMAGE), (x,), Target.classes([0, 2], 3))
    with torch.no_grad():
        np.testing.assert_allclose(question.model.predict((x,)), net(nchw(x)).numpy(), rtol=1e-6)
    native = Saliency(net).attribute(nchw(x).requires_grad_(), target=torch.tensor([0, 2])).numpy()
    np.testing.assert_allclose(get("captum.saliency")(question).of("image"), np.moveaxis(native, 1, -1), rtol=1e-5)
    for explainer in ("captum.deep_lift", "gradcam.gradcam", "xplique.gradcam", "captum.guided_backprop"):
        assert np.ptp(get(explainer)(question).of("image"))


@pytest.mark.parametrize("kind", ["mirrored channels", "flipped", "Fortran", "read only", "double", "every second row"])
def test_arrays_with_any_strides(kind: str, tmp_path: Path) -> None:
    x = images(2, 16, 12)
    np.save(tmp_path / "x.npy", x)
    given = {
        "mirrored channels": x[..., ::-1],
        "flipped": x[:, ::-1],
        "Fortran": np.asfortranarray(x),
        "read only": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "double": x.astype(np.float64),
        "every second row": np.repeat(x, 2, axis=1)[:, ::2],
    }[kind]
    plain = np.array(given, np.float32, order="C")
    model = TorchModel(small(), IMAGE)
    maps = [
        get("captum.saliency")(Question(model, (v,), Target.classes([0, 1], 3))).of("image") for v in (given, plain)
    ]
    np.testing.assert_allclose(maps[0], maps[1], rtol=1e-5, atol=1e-8)


def test_an_exported_program_answers_as_the_module_does() -> None:
    net, x = small(), images()
    batch = torch.export.Dim("n")
    exported = torch.export.export(net, (nchw(x),), dynamic_shapes=({0: batch},)).module()
    target = Target.classes([1, 2], 3)
    for explainer in ("captum.saliency", "captum.integrated_gradients", "reference.gradient_x_input"):
        found, expected = (
            get(explainer)(Question(TorchModel(m, IMAGE), (x,), target)).of("image") for m in (exported, net)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    with pytest.raises(Unsupported):
        get("gradcam.gradcam")(Question(TorchModel(exported, IMAGE), (x,), target))


class Structured(nn.Module):
    """Returns what it is told to, of its logits and features."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.net, self.shape = small(), shape

    def forward(self, x: Any) -> Any:
        return self.shape(self.net(x), x)


@pytest.mark.parametrize(
    ("shape", "output"),
    [
        (lambda y, x: {"logits": y, "features": x}, None),
        (lambda y, x: {"logits": y, "aux": 2 * y}, "logits"),
        (lambda y, x: (x, y), None),
        (lambda y, x: [2 * y, y], 1),
    ],
)
def test_one_of_several_outputs(shape: Any, output: Any) -> None:
    x = images()
    expected = TorchModel(small(), IMAGE).predict((x,))
    model = TorchModel(Structured(shape).eval(), IMAGE, output=output)
    np.testing.assert_array_equal(model.predict((x,)), expected)
    with pytest.raises((Unsupported, InvalidInput), match="it gives"):
        TorchModel(Structured(lambda y, _x: {"a": y, "b": y}).eval(), IMAGE).predict((x,))


def test_outputs_that_were_squeezed() -> None:
    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small()

        def forward(self, x: Any) -> Any:
            return self.net(x)[:, :1].squeeze()

    model, whole = TorchModel(Squeezed().eval(), IMAGE), TorchModel(small(), IMAGE)
    for n in (1, 3):
        x = images(n)
        np.testing.assert_allclose(model.predict((x,)), whole.predict((x,))[:, :1], rtol=1e-6)
    gradient = get("captum.saliency")(Question(model, (images(3),), Target.outputs(0, 3, 1))).of("image")
    assert gradient.shape == (3, 12, 12, 3)


def test_grad_cam_where_torch_holds_channels_last() -> None:
    """At a LayerNorm over the last axis, as in Swin and ConvNeXt: the map has a closed form."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.norm, self.head = nn.Conv2d(3, 5, 4, 4), nn.LayerNorm(5), nn.Linear(5, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.norm(self.patch(x).permute(0, 2, 3, 1)).mean(dim=(1, 2)))

    torch.manual_seed(2)
    net, x = Last().eval(), images(2, 16, 24)
    with torch.no_grad():
        activation = net.norm(net.patch(nchw(x)).permute(0, 2, 3, 1))
        weights = net.head.weight[[1, 2]] / 24
        raw = torch.relu((activation * weights[:, None, None]).sum(-1))
        truth = F.interpolate(raw[:, None], (16, 24), mode="bilinear", align_corners=False)[:, 0].numpy()
    question = Question(TorchModel(net, IMAGE), (x,), Target.classes([1, 2], 3))
    for explainer in ("gradcam.gradcam", "reference.gradcam", "xplique.gradcam", "captum.layer_grad_cam"):
        answer = get(explainer, profile="canonical")(question)
        np.testing.assert_allclose(answer.of("image")[..., 0], truth, atol=1e-5)
        assert "layer 'norm'" in answer.notes[0]


def test_half_precision_and_quantised_modules() -> None:
    x = images(4)
    target = Target.classes([0, 1, 2, 0], 3)
    answer = get("captum.saliency")(Question(TorchModel(small().bfloat16(), IMAGE), (x,), target)).of("image")
    expected = get("captum.saliency")(Question(TorchModel(small(), IMAGE), (x,), target)).of("image")
    assert np.corrcoef(answer.ravel(), expected.ravel())[0, 1] > 0.99


def test_two_samples_of_one_question_are_equal_to_it() -> None:
    question = Question(TorchModel(small(), IMAGE), (images(),), Target.classes([0, 1], 3))
    assert question == question
    assert question != question.only("image")[[0]]
    assert len({question, question}) == 1

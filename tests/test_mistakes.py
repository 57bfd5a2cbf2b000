"""Maps as people make them by hand, with torch and Captum alone, and an ordinary slip: the slip is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crossxai as xai
from crossxai.adapters.torch import TorchModel
from crossxai.conventions.answers import Outside
from crossxai.conventions.parity import parity
from crossxai.conventions.search import Switch
from crossxai.explainers import get
from crossxai.explainers.families import noise
from crossxai.model import Array

MEAN, SD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
IMAGES = np.random.default_rng(1).random((2, 16, 16, 3), np.float32)
LABELS = [1, 2]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    body = (nn.Conv2d(3, 8, 3, stride=2), nn.Tanh(), nn.Conv2d(8, 8, 3), nn.ReLU())
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


def standardised(images: Tensor) -> Tensor:
    """(n, 3, y, x) in the units that the network was trained in."""
    mean, sd = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (MEAN, SD))
    return (images - mean) / sd


def gradient(
    network: nn.Module, images: Array, lay: Callable[[Tensor], Tensor] = lambda x: x.permute(0, 3, 1, 2)
) -> Array:
    """Of the labels' logits at the images, channels last; lay: how they are made channels first."""
    given = torch.from_numpy(images).requires_grad_()
    rows = torch.arange(len(images)) % len(LABELS)
    network(standardised(lay(given)))[torch.arange(len(images)), torch.tensor(LABELS)[rows]].sum().backward()
    assert given.grad is not None
    return given.grad.numpy()


def last(maps: Tensor) -> Array:
    return maps.detach().permute(0, 2, 3, 1).numpy()


def units(network: nn.Module, method: Callable[..., Any], **options: Any) -> Array:
    """Captum on the bare network, which takes standardised images: 0 is their mean."""
    given = standardised(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).requires_grad_()
    return last(method(network).attribute(given, target=torch.tensor(LABELS), **options))


def rounded_first(network: nn.Module, images: Array) -> Array:
    return (gradient(network, images) * images).sum(axis=-1, keepdims=True)


def image_spread(network: nn.Module) -> Array:
    """SmoothGrad with noise of 15 % of each image's own range (Smilkov et al. 2017, section 3.2)."""
    own = xai.Question(TorchModel(network, (xai.Modality.image(),)), (IMAGES,), xai.Target.classes(LABELS, 4))
    maps = []
    for row, image in enumerate(IMAGES):
        draws = noise(own, row, 50, 0)[0] * np.float32(0.15 * np.ptp(image))
        copies = torch.from_numpy(image + draws).requires_grad_()
        network(standardised(copies.permute(0, 3, 1, 2)))[:, LABELS[row]].sum().backward()
        assert copies.grad is not None
        maps.append(copies.grad.numpy().mean(axis=0).sum(axis=-1, keepdims=True))
    return np.stack(maps)


def heatmap(network: nn.Module) -> Array:
    """Grad-CAM as tutorials have it: the weighted sum, its ReLU, enlarged and divided by its largest value."""
    held = network[:4](standardised(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))).detach().requires_grad_()
    network[4:](held)[torch.arange(2), torch.tensor(LABELS)].sum().backward()
    assert held.grad is not None
    small = (held * held.grad.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True).relu()
    large = nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
    return last(large / large.amax(dim=(2, 3), keepdim=True))


MISTAKES: dict[str, tuple[str, Any, Callable[[nn.Module], Array], Switch]] = {
    "reshape in place of a transpose": (
        "saliency",
        "",
        lambda net: np.abs(gradient(net, IMAGES, lambda x: x.reshape(2, 3, 16, 16))).max(axis=-1, keepdims=True),
        Switch("layout", "reshaped"),
    ),
    "transpose of all axes": (
        "saliency",
        "",
        lambda net: np.abs(gradient(net, IMAGES, lambda x: x.permute(0, 3, 2, 1))).max(axis=-1, keepdims=True),
        Switch("layout", "swapped"),
    ),
    "norm over channels": (
        "saliency",
        "",
        lambda net: np.linalg.norm(gradient(net, IMAGES), axis=-1),
        Switch("channels", "norm"),
    ),
    "images through bytes": (
        "gradient_x_input",
        "",
        lambda net: rounded_first(net, (IMAGES * 255).astype(np.uint8).astype(np.float32) / 255),
        Switch("dtype", "uint8"),
    ),
    "half precision": (
        "gradient_x_input",
        "",
        lambda net: rounded_first(net, torch.from_numpy(IMAGES).half().float().numpy()),
        Switch("dtype", "float16"),
    ),
    "a path from the mean": (
        "integrated_gradients",
        "captum.integrated_gradients",
        lambda net: units(net, captum.attr.IntegratedGradients, n_steps=50),
        Switch("baseline_units", "standardised"),
    ),
    "one interval, one point more": (
        "integrated_gradients",
        "captum.integrated_gradients",
        lambda net: get("captum.integrated_gradients", steps=51)(asked(net)).values[0],
        Switch("steps", 51),
    ),
    "differences from the mean": (
        "deep_lift",
        "captum.deep_lift",
        lambda net: units(net, captum.attr.DeepLift),
        Switch("baseline_units", "standardised"),
    ),
    "windows of the mean": (
        "occlusion",
        {"patch": 4, "stride": 4},
        lambda net: units(net, captum.attr.Occlusion, sliding_window_shapes=(3, 4, 4), strides=(3, 4, 4))[..., :1],
        Switch("baseline_units", "standardised"),
    ),
    "noise by the image": ("smooth_grad", "", image_spread, Switch("spread", "image")),
    "another seed": (
        "smooth_grad",
        "captum.smooth_grad",
        lambda net: get("captum.smooth_grad", seed=42)(asked(net)).values[0],
        Switch("seed", 42),
    ),
    "a heatmap up to 1": ("gradcam", "", heatmap, Switch("rescale", "largest")),
}


def asked(network: nn.Module) -> xai.Question:
    model = TorchModel(network, (xai.Modality.image(),), standardise={"image": (MEAN, SD)}, name="net")
    return xai.Question(model, (IMAGES,), xai.Target.classes(LABELS, 4))


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")  # of Captum, on its own hooks
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_slip_is_named(network: nn.Module, mistake: str) -> None:
    method, said, make, switch = MISTAKES[mistake]
    params = {"layer": "3"} if method == "gradcam" else {}
    result = parity({"net": asked(network)}, method, params, {"mine": Outside(make(network), said)})
    (entry,) = (e for e in result.entries if e.outside)
    assert entry.finding is not None
    assert (switch,) in entry.finding.closing


def test_a_map_that_is_what_it_is_said_to_be(network: nn.Module) -> None:
    own = np.abs(gradient(network, IMAGES)).max(axis=-1)
    result = parity({"net": asked(network)}, "saliency", maps={"mine": Outside(own)})
    assert not result.strangers


def test_no_mean_is_made_up(network: nn.Module) -> None:
    """Of a model that declares none, values in standardised units are refused."""
    bare = xai.Question(TorchModel(network, (xai.Modality.image(),)), (IMAGES,), xai.Target.classes(LABELS, 4))
    said = {"baseline_units": "standardised"}
    result = parity({"net": bare}, "integrated_gradients", {"steps": 5}, {"mine": Outside(np.zeros((2, 16, 16)), said)})
    (entry,) = (e for e in result.entries if e.outside)
    assert "declares no mean and sd" in entry.refusal

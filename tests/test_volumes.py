"""Explainers and metrics of volumes: the libraries' own code on the native network in three dimensions, and identities."""

from __future__ import annotations

from functools import cache
from typing import Any

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import torch
from networks import scans
from torch import nn

import crossxai as xai
from crossxai import InvalidInput, Question, Target, Unsupported, evaluation
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import discover, get
from crossxai.explainers.groups import groups
from crossxai.explainers.native import quiet
from crossxai.model import Array

LABELS = [0, 2]


@cache
def question(link: Any = "identity") -> Question:
    return Question(scans.model(), (scans.values(),), Target.classes(LABELS, 3, link))


@cache
def linear() -> tuple[Question, Array]:
    """A question whose score is sum(w · x), and the weights."""
    weights = np.random.default_rng(1).normal(size=(12, 16, 10, 1))
    model = FunctionModel(lambda v: (v * weights).reshape(len(v), -1).sum(axis=1, keepdims=True), (scans.VOLUME,))
    return Question(model, (scans.values(),), Target.outputs(0, 2, 1)), weights


def last(given: Any) -> Array:
    return np.moveaxis(given.detach().numpy(), 1, -1)


def map_of(name: str, **params: Any) -> Array:
    return get(name, **params)(question()).values[0]


def same(found: Array, expected: Array, tolerance: float = 1e-9) -> None:
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "params", "attribute"),
    [
        ("captum.saliency", {}, lambda net, x: captum.attr.Saliency(net).attribute(x, LABELS)),
        (
            "captum.integrated_gradients",
            {"steps": 7},
            lambda net, x: captum.attr.IntegratedGradients(net).attribute(x, target=LABELS, n_steps=7),
        ),
        ("captum.deep_lift", {}, lambda net, x: captum.attr.DeepLift(net).attribute(x, target=LABELS)),
        ("captum.guided_backprop", {}, lambda net, x: captum.attr.GuidedBackprop(net).attribute(x, target=LABELS)),
        (
            "captum.guided_grad_cam",
            {"layer": "conv2"},
            lambda net, x: captum.attr.GuidedGradCam(net, net.conv2).attribute(x, target=LABELS),
        ),
        (
            "captum.layer_grad_cam",
            {"layer": "conv2"},
            lambda net, x: captum.attr.LayerAttribution.interpolate(
                captum.attr.LayerGradCam(net, net.conv2).attribute(x, target=LABELS), x.shape[2:]
            ),
        ),
    ],
)
def test_captum_on_its_own(name: str, params: dict[str, Any], attribute: Any) -> None:
    # Captum takes hooks' word for it, so it gets a network of its own.
    net = scans.Net().double().eval()
    net.load_state_dict(scans.net().state_dict())
    with quiet():
        expected = last(attribute(net, scans.tensor().requires_grad_()))
    same(map_of(name, **params), expected)


def test_occlusion_slides_a_cube() -> None:
    own = captum.attr.Occlusion(scans.net().float()).attribute(
        scans.tensor().float(), (1, 4, 4, 4), strides=(1, 2, 2, 2), target=LABELS
    )
    scans.net().double()
    for name in ("captum.occlusion", "reference.occlusion"):
        same(map_of(name, patch=4, stride=2), last(own), 1e-4)  # Captum computes in float32


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("gradcam.gradcam", pytorch_grad_cam.GradCAM),
        ("gradcam.hirescam", pytorch_grad_cam.HiResCAM),
        ("gradcam.layercam", pytorch_grad_cam.LayerCAM),
        ("gradcam.gradcam_plus_plus", pytorch_grad_cam.GradCAMPlusPlus),
        ("gradcam.xgradcam", pytorch_grad_cam.XGradCAM),
        ("gradcam.eigencam", pytorch_grad_cam.EigenCAM),
        ("gradcam.eigengradcam", pytorch_grad_cam.EigenGradCAM),
        ("gradcam.fem", pytorch_grad_cam.FEM),
        ("gradcam.shapleycam", pytorch_grad_cam.ShapleyCAM),
    ],
)
def test_pytorch_grad_cam_on_its_own(name: str, own: Any) -> None:
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    x, net = scans.tensor(), scans.net()
    with own(net, [net.conv2]) as cam:
        expected = cam(x.clone().requires_grad_(), [ClassifierOutputTarget(label) for label in LABELS])
    same(map_of(name, layer="conv2"), expected[..., None], 1e-5)


def test_class_activation_maps_meet() -> None:
    """Canonical Grad-CAM of four libraries' code is one map, enlarged as torch enlarges trilinearly."""
    x, net = scans.tensor(), scans.net()
    cam = captum.attr.LayerGradCam(net, net.conv2).attribute(x, target=LABELS, relu_attributions=True)
    expected = last(nn.functional.interpolate(cam, x.shape[2:], mode="trilinear", align_corners=False))
    for name in ("reference.gradcam", "captum.layer_grad_cam", "gradcam.gradcam", "xplique.gradcam"):
        same(map_of(name, layer="conv2", profile="canonical"), expected, 1e-5)
    for name in ("gradcam.gradcam_plus_plus", "xplique.gradcam_plus_plus"):
        same(
            map_of(name, layer="conv2", profile="canonical"),
            map_of("gradcam.gradcam_plus_plus", layer="conv2", profile="canonical"),
            1e-5,
        )


@pytest.mark.parametrize(
    ("name", "referee", "params"),
    [
        ("xplique.saliency", "reference.saliency", {}),
        ("xplique.gradient_input", "reference.gradient_x_input", {}),
        ("xplique.integrated_gradients", "reference.integrated_gradients", {"steps": 6}),
        ("xplique.smooth_grad", "reference.smooth_grad", {"samples": 4, "sd": 0.1}),
        ("xplique.lime", "reference.lime", {"samples": 30, "patch": 6}),
        ("lime.image", "reference.lime", {"samples": 30, "patch": 6}),
        ("captum.lime", "reference.lime", {"samples": 30, "patch": 6, "segmentation": "slic"}),
        ("xplique.kernel_shap", "reference.kernel_shap", {"samples": 60, "patch": 6, "segmentation": "slic"}),
        ("xplique.guided_backprop", "captum.guided_backprop", {}),
    ],
)
def test_libraries_meet_at_the_referee(name: str, referee: str, params: dict[str, Any]) -> None:
    same(map_of(name, profile="canonical", **params), map_of(referee, profile="canonical", **params), 1e-3)


def test_linear_scores() -> None:
    """Supervoxels of a linear score get what their voxels contribute."""
    asked, weights = linear()
    shares = weights * scans.values()
    for name in ("reference.kernel_shap", "captum.shapley_value_sampling"):
        maps = get(name, segmentation="slic", patch=6, samples=200)(asked).values[0]
        for row in range(2):
            (labels,) = groups(asked, row, "slic", 6)
            assert len(np.unique(labels)) > 4
            sums = np.array([shares[row][labels == label].sum() for label in np.unique(labels)])
            same(maps[row], sums[labels], 1e-5)
    lime = get("reference.lime", patch=6, samples=400)(asked).values[0]
    (labels,) = groups(asked, 0, "slic", 6)
    sums = np.array([shares[0][labels == label].sum() for label in np.unique(labels)])
    assert np.corrcoef(lime[0].ravel(), sums[labels].ravel())[0, 1] > 0.99


def test_random_masks_find_what_the_score_reads() -> None:
    """Of a constant score RISE gives the mean mask over `keep`, 1 but for chance; of one voxel's, the masks that show it."""
    constant = FunctionModel(lambda v: np.ones((len(v), 1)), (scans.VOLUME,))
    x, rise = scans.values(), get("reference.rise", samples=3000, grid=4)
    even = rise(Question(constant, (x,), Target.outputs(0, 2, 1))).values[0]
    assert abs(even - 1).max() < 0.1
    voxel = FunctionModel(lambda v: v[:, 9, 4, 6, :] / x[0, 9, 4, 6, 0], (scans.VOLUME,))
    maps = rise(Question(voxel, (x[:1],), Target.outputs(0, 1, 1))).values[0][0, ..., 0]
    z, y, x = np.unravel_index(maps.argmax(), maps.shape)
    assert (abs(z - 9), abs(y - 4), abs(x - 6)) <= (2, 2, 2)
    assert maps[0, 15, 0] < 0.6 < maps[9, 4, 6]  # far away the mask is independent of the voxel's: its mean


@pytest.mark.deep
def test_every_explainer_answers_or_refuses_in_words() -> None:
    small = {"samples": 6, "steps": 4, "patch": 6, "stride": 4, "grid": 3, "designs": 8}
    refused = {}
    for name, kind in discover().items():
        params = {key: value for key, value in small.items() if key in kind.__dataclass_fields__}
        for profile in kind.profiles:
            try:
                maps = get(name, profile=profile, **params)(question())
            except Unsupported as error:
                refused[f"{name}@{profile}"] = str(error)
                continue
            assert maps.values[0].shape[:-1] == (2, 12, 16, 10), name
            assert np.isfinite(maps.values[0]).all(), name
    told = ("explains", "native", "declares no token streams", "there is none", "coalition", "truth")
    assert all(any(word in why for word in told) for why in refused.values()), refused
    assert not [name for name in refused if name.startswith(("captum", "reference")) and "shapley" not in name]


def test_layers_of_a_turned_volume_are_refused() -> None:
    """Depth is measured, too: a network that mirrors it would have its map painted at the other end."""

    class Mirrored(nn.Module):
        def __init__(self, axis: int) -> None:
            super().__init__()
            self.conv, self.head, self.axis = nn.Conv3d(1, 4, 3, padding=1), nn.Linear(4, 2), axis

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(x.flip(self.axis)).amax((2, 3, 4)))

    x = np.random.default_rng(0).random((1, 16, 16, 16, 1)).astype(np.float32)
    for axis, name in ((2, "z"), (3, "y"), (4, "x")):
        asked = Question(TorchModel(Mirrored(axis).eval(), (scans.VOLUME,)), (x,), Target.classes([0], 2))
        with pytest.raises(Unsupported, match=f"runs against {name} of the image"):
            get("reference.gradcam", layer="conv")(asked)


def test_segmentations_of_images_are_refused() -> None:
    for segmentation in ("quickshift", "felzenszwalb"):
        with pytest.raises(InvalidInput, match=f"{segmentation} segments 2-D images; .* use slic or grid"):
            get("lime.image", segmentation=segmentation)(question())


def test_batch_norms_are_folded_and_networks_ported() -> None:
    model = scans.model()
    folded = model.folded((scans.values(),))
    assert not any(isinstance(layer, nn.BatchNorm3d) for layer in folded.module.modules())
    same(folded.predict((scans.values(),)), model.predict((scans.values(),)), 1e-10)
    float32 = scans.Net().eval()
    float32.load_state_dict(scans.net().state_dict())
    ported = xai.port(TorchModel(float32, (scans.VOLUME,)), to="keras", example=scans.values().astype(np.float32))
    assert ported.certificate.holds
    twin = ported.model.folded((scans.values().astype(np.float32),))
    assert not any(type(layer).__name__ == "BatchNormalization" for layer in twin.model.layers)


def test_metrics_remove_cubes_and_supervoxels() -> None:
    """A patch is size³ voxels: with the first four of eight removed, the score is that of the other half."""
    weights = np.zeros((8, 8, 8, 1))
    weights[:4] = 1
    model = FunctionModel(lambda v: (v * weights).reshape(len(v), -1).sum(axis=1, keepdims=True), (scans.VOLUME,))
    x = np.ones((1, 8, 8, 8, 1))
    asked = Question(model, (x,), Target.outputs(0, 1, 1))
    maps = xai.Attribution((weights[None],), (scans.VOLUME,), asked.ids, "truth")
    patch = evaluation.get("deletion", unit="patch", size=4, steps=8)(asked, maps)
    np.testing.assert_allclose(patch.curve[0], [256, 192, 128, 64, 0, 0, 0, 0, 0])
    segment = evaluation.get("deletion", unit="segment", size=8, steps=8)(asked, maps)
    assert segment.curve[0, 0] == 256
    assert segment.curve[0, -1] == 0
    mask = np.zeros((1, 8, 8, 8), bool)
    mask[0, :2] = True
    assert evaluation.get("mask_share", masks=mask)(asked, maps).value[0] == 0.5
    assert evaluation.get("relevance_rank", masks=mask)(asked, maps).value[0] <= 1
    assert (
        evaluation.get("pointing", size=2)(asked, maps).value[0] == 4 / 256
    )  # of tied voxels, those of the 2 × 2 × 2 centre
    assert evaluation.get("border_share", width=1)(asked, maps).value[0] == 1 - 3 * 36 / 256
    for name, params in (("irof", {"segments": 8}), ("infidelity", {"perturbation": "square"})):
        assert np.isfinite(evaluation.get(name, **params)(asked, maps).value).all()
    for name in ("road", "grid_energy"):
        with pytest.raises(Unsupported):
            evaluation.get(name)(asked, maps)

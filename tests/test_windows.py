"""Windows that move over large images give what the network itself gives where that is defined, and maps that add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from skimage.io import imsave

import crossxai as xai
from crossxai.adapters.sliding_window import Join, starts
from crossxai.errors import InvalidInput, Unsupported
from crossxai.experiment.results import Run
from crossxai.experiment.run import run
from crossxai.experiment.specification import check
from crossxai.model import Array

RNG = np.random.default_rng(0)
IMAGES = RNG.random((2, 40, 50, 3), dtype=np.float32)
DENSE = ("y", "x", "class")


def seeded(*layers: torch.nn.Module) -> torch.nn.Module:
    """The layers, their weights drawn by seed 0."""
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.reset_parameters()
    return torch.nn.Sequential(*layers).eval()


def classifier() -> torch.nn.Module:
    return seeded(
        torch.nn.Conv2d(3, 6, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(6, 4),
    )  # fmt: skip


def channels_first(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(values, -1, 1).copy())


def test_windows_cover_every_pixel_and_end_at_the_border() -> None:
    assert starts(50, 20, 0.5) == [0, 10, 20, 30]
    assert starts(45, 20, 0.25) == [0, 15, 25]
    assert starts(20, 20, 0.5) == [0]


@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_network_of_single_pixels_is_itself(batch_size: int) -> None:
    """Whatever the windows, their Gaussian average is the network's own answer, and so is the gradient."""
    net = seeded(torch.nn.Conv2d(3, 5, 1), torch.nn.Tanh(), torch.nn.Conv2d(5, 2, 1))
    whole = xai.wrap(net, output_axes=DENSE)
    windows = xai.wrap(net, output_axes=DENSE, window=(16, 20), overlap=0.3, batch_size=batch_size)
    np.testing.assert_allclose(windows.predict((IMAGES,)), whole.predict((IMAGES,)), atol=1e-6)
    weights = RNG.random((2, 40, 50, 2), dtype=np.float32)
    outputs, (gradient,) = windows.vjp((IMAGES,), lambda y: weights * y)  # type: ignore[attr-defined]
    _, (expected,) = whole.vjp((IMAGES,), lambda y: weights * y)  # type: ignore[attr-defined]
    np.testing.assert_allclose(outputs, whole.predict((IMAGES,)), atol=1e-6)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


# What sliding_window_inference of MONAI 1.6.1 gives, mode="gaussian", at (image, y, x, class).
PLACES = ((0, 0, 0, 0), (0, 20, 25, 0), (1, 39, 31, 0), (0, 20, 25, 1), (1, 39, 31, 1))
MONAI = {
    0.25: (0.510615, 1.023721, 0.951728, 0.481397, 0.314305),
    0.6: (0.510615, 0.973243, 0.907438, 0.436266, 0.283491),
}


@pytest.mark.parametrize("overlap", MONAI)
def test_segmentations_are_joined_as_monai_does(overlap: float) -> None:
    """A function whose answer depends on where in its window a pixel is."""

    def ramp(images: Array) -> Array:
        across = np.linspace(0, 1, images.shape[2])
        return np.stack(
            [across + images.mean((1, 2, 3))[:, None, None] + 0 * images[..., 0], images[..., 0] * across], -1
        )

    model = xai.wrap(ramp, modalities=(xai.Modality.image(),), output_axes=DENSE, window=(16, 20), overlap=overlap)
    outputs = model.predict((IMAGES,))
    np.testing.assert_allclose([outputs[place] for place in PLACES], MONAI[overlap], atol=2e-6)


@pytest.mark.parametrize("join", ["mean", "max"])
@pytest.mark.parametrize("batch_size", [7, 64])
def test_classes_are_joined_as_torch_unfolds(join: Join, batch_size: int) -> None:
    """The gradient is that which torch finds through its own cutting and joining."""
    net = classifier()
    windows = xai.wrap(net, window=20, overlap=0.5, join=join, batch_size=batch_size)
    images = channels_first(IMAGES).requires_grad_()
    pieces = images.unfold(2, 20, 10).unfold(3, 20, 10).permute(0, 2, 3, 1, 4, 5)
    each = net(pieces.reshape(-1, 3, 20, 20)).reshape(2, -1, 4)
    joined = each.mean(1) if join == "mean" else each.max(1).values
    joined[:, 2].sum().backward()
    explained = xai.explain(windows, IMAGES, "captum.saliency", target=2)
    np.testing.assert_allclose(windows.predict((IMAGES,)), joined.detach().numpy(), atol=1e-6)
    assert images.grad is not None
    np.testing.assert_allclose(explained.of("image"), images.grad.permute(0, 2, 3, 1).abs().numpy(), atol=1e-7)


def test_methods_that_need_layers_explain_each_window() -> None:
    """One window as large as the image gives the plain map; several give their weighted mean, and say so."""
    net = classifier()
    plain = xai.explain(net, IMAGES, "gradcam.gradcam", target=1)
    one = xai.explain(xai.wrap(net, window=(40, 50)), IMAGES, "gradcam.gradcam", target=1)
    np.testing.assert_allclose(one.of("image"), plain.of("image"), atol=1e-6)
    several = xai.explain(xai.wrap(net, window=20, overlap=0), IMAGES[:, :40, :40], "captum.deep_lift", target=1)
    assert any(note.startswith("each of 4 windows of 20 × 20 pixels was explained alone") for note in several.notes)
    corner = xai.explain(net, IMAGES[:, 20:40, :20], "captum.deep_lift", target=1)
    np.testing.assert_allclose(several.of("image")[:, 20:40, :20], corner.of("image"), atol=1e-6)


def test_tables_are_handed_over_whole_and_volumes_are_cut() -> None:
    class Fusion(torch.nn.Module):
        def forward(self, volume: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
            return torch.stack([volume.mean((1, 2, 3, 4)) * table.sum(1), table[:, 0]], 1)

    modalities = (xai.Modality.volume(), xai.Modality.table(("age", "dose")))
    windows = xai.wrap(Fusion().eval(), modalities=modalities, window=(4, 6, 6), overlap=0)
    volume, table = RNG.random((1, 8, 12, 12, 1), dtype=np.float32), np.array([[2.0, 3.0]], np.float32)
    np.testing.assert_allclose(windows.predict((volume, table))[0], [5 * volume.mean(), 2], rtol=1e-5)
    assert "8 windows of 4 × 6 × 6 pixels" in windows.cost((volume, table))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "images", "words"),
    [
        ({"window": 60}, IMAGES, "windows of 60 × 60 pixels; these images have 40 × 50"),
        ({"window": 20, "overlap": 1.0}, IMAGES, "at least 0 and below 1"),
        ({"window": 20, "join": "median"}, IMAGES, 'join is "mean" or "max"'),
        ({"window": (20, 20, 20)}, IMAGES, "a size in pixels along y, x"),
        ({"overlap": 0.5}, IMAGES, "write window=224"),
    ],
)
def test_wrong_windows_are_refused(options: dict[str, object], images: Array, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        xai.wrap(classifier(), **options).predict((images,))  # type: ignore[arg-type]


def test_smaller_maps_of_a_segmentation_are_refused() -> None:
    net = seeded(torch.nn.Conv2d(3, 2, 3, stride=2, padding=1))
    with pytest.raises(Unsupported, match="maps of 10 × 10 for windows of 20 × 20"):
        xai.wrap(net, output_axes=DENSE, window=20).predict((IMAGES,))


def test_an_experiment_file_may_say_windows(tmp_path: Path) -> None:
    """Pictures larger than the network takes, from the words of a file to scores; a map of a layer is of windows."""
    for number in range(2):
        imsave(tmp_path / f"{number}.png", (RNG.random((48, 40, 3)) * 255).astype(np.uint8))
    (tmp_path / "own_net.py").write_text(
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),\n"
        "                               torch.nn.Linear(4 * 18 * 18, 3)).eval()  # 20 x 20 pixels and no other size\n"
    )
    content = {
        "data": {"files": str(tmp_path), "n": 2},
        "models": [{"name": "net", "checkpoint": "own_net:net", "window": 20, "overlap": 0.25}],
        "explainers": [{"name": "captum.saliency"}, {"name": "gradcam.gradcam"}],
        "metrics": [{"name": "deletion", "params": {"steps": 4}}],
        "controls": False,
        "folder": tmp_path,
    }
    run(check(content, "the test"), tmp_path / "run", Console(quiet=True))
    result = Run(tmp_path / "run")
    assert np.isfinite(result.scores["value"]).all()
    assert len(result.scores) == 4
    assert result.maps["gradcam.gradcam"].of("image").shape == (2, 48, 40, 1)
    assert any("windows of 20 × 20 pixels" in note for note in result.maps["gradcam.gradcam"].notes)

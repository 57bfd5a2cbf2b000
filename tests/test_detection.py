"""A detector's boxes are read as declared, and how well one is found is explained and measured like any other score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import crossxai as xai
from crossxai.errors import InvalidInput, Unsupported
from crossxai.measures.detection import overlap

CELL, SIDE = 8, 32
RNG = np.random.default_rng(0)


class Cells(nn.Module):
    """A detector with a box at each of 4 x 4 cells, which scores red and green by their mean there: centres, sizes and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        scores = nn.functional.avg_pool2d(images, CELL)[:, :2].flatten(2)
        y, x = torch.meshgrid(*[torch.arange(SIDE // CELL) * CELL + CELL / 2] * 2, indexing="ij")
        boxes = torch.stack([x, y, torch.full_like(x, CELL), torch.full_like(x, CELL)]).flatten(1)
        return torch.cat([boxes.expand(len(images), -1, -1), scores], 1), None


class Listed(nn.Module):
    """What takes a list of images, and is no detector."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        return [self.first(image) for image in images]


def detector(**options: Any) -> Any:
    return xai.wrap(Cells().eval(), boxes="ultralytics", n_classes=2, **options)


def scene() -> np.ndarray[Any, Any]:
    """Two pictures with a bright cell each: red in row 1, column 2; green in row 3, column 0."""
    images = np.full((2, SIDE, SIDE, 3), 0.1, np.float32)
    images[0, 8:16, 16:24, 0] = 0.9
    images[1, 24:32, 0:8, 1] = 0.8
    return images


def test_overlap_is_torchvision_s() -> None:
    corners = RNG.random((40, 2, 2)) * 50
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    expected = torchvision.ops.box_iou(torch.from_numpy(boxes[:20]), torch.from_numpy(boxes[20:])).numpy()
    np.testing.assert_allclose(overlap(boxes[:20, None], boxes[None, 20:]), expected, atol=1e-12)


def test_the_strongest_detection_is_explained_by_what_hides_it() -> None:
    model, images = detector(), scene()
    box = xai.Box.strongest(model.predict((images,)))
    assert np.asarray(box.boxes).tolist() == [[16, 8, 24, 16], [0, 24, 8, 32]]
    assert np.asarray(box.labels).tolist() == [0, 1]
    occluded = xai.explain(model, images, "reference.occlusion", patch=CELL, stride=CELL).of("image")[..., 0]
    expected = np.zeros((2, SIDE, SIDE))
    expected[0, 8:16, 16:24], expected[1, 24:32, 0:8] = 0.9, 0.8
    np.testing.assert_allclose(occluded, expected, atol=1e-6)
    maps = xai.explain(model, images, ("reference.drise", {"samples": 400, "grid": 4})).of("image")[..., 0]
    inside = expected > 0
    assert all(maps[i][inside[i]].min() > np.quantile(maps[i], 0.9) for i in range(2))
    scores = xai.evaluate(model, images, xai.explain(model, images, "lime.image"), ["deletion"]).scores
    assert np.isfinite(scores["value"]).all()


def test_a_box_that_moves_is_found_by_its_overlap() -> None:
    """Of a box half beside a detection, a third of that detection's score; of another class, only that class's score there."""
    model, images = detector(), scene()
    outputs = model.predict((images,))
    shape = outputs.shape[1:]
    half = xai.Box([[20, 8, 28, 16], [0, 24, 8, 32]], [0, 0], shape)
    np.testing.assert_allclose(half.score(outputs, np.arange(2)), [0.9 / 3, 0.1], atol=1e-6)
    assert xai.Box.strongest(outputs, 1).score(outputs, np.arange(2)) == pytest.approx([0.1, 0.8])


def test_torchvision_s_lists_are_packed() -> None:
    torch.manual_seed(0)
    net = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    ).eval()
    images = RNG.random((2, 64, 64, 3), dtype=np.float32)
    outputs = xai.wrap(net, boxes="torchvision", n_classes=4, detections=7).predict((images,))
    with torch.no_grad():
        listed = net(list(torch.from_numpy(np.moveaxis(images, -1, 1).copy())))
    assert outputs.shape == (2, 7, 8)
    for row, found in zip(outputs, listed, strict=True):
        best = found["scores"].argsort(descending=True, stable=True)[:7]
        np.testing.assert_allclose(row[:, :4], found["boxes"][best].numpy(), atol=1e-4)
        np.testing.assert_allclose(row[np.arange(7), 4 + found["labels"][best].numpy()], found["scores"][best].numpy())
        assert ((row[:, 4:] > 0).sum(axis=1) == 1).all()


def test_few_detections_are_kept_by_score() -> None:
    all_places, three = (detector(detections=k).predict((scene(),)) for k in (None, 3))
    assert all_places.shape == (2, 16, 6)
    assert three.shape == (2, 3, 6)
    assert three[0, 0].tolist() == pytest.approx([16, 8, 24, 16, 0.9, 0.1])


def test_what_is_wrong_is_said_in_words() -> None:
    model, images = detector(), scene()
    with pytest.raises(Unsupported, match="needs gradients"):
        xai.explain(model, images, "captum.saliency")
    with pytest.raises(InvalidInput, match=r"x0 < x1"):
        xai.Box([[5, 5, 5, 9]], [0], (16, 6))
    with pytest.raises(InvalidInput, match="0 … 1, got 3"):
        xai.Box.strongest(model.predict((images,)), 3)
    with pytest.raises(InvalidInput, match=r"nothing is detected in samples \[0\]"):
        xai.Box.strongest(np.zeros((1, 3, 6)))
    with pytest.raises(InvalidInput, match="write n_classes"):
        xai.wrap(Cells().eval(), boxes="torchvision")
    with pytest.raises(Unsupported, match=r"of 5 classes are \(n, 9, places\); it gives \(2, 6, 16\)"):
        xai.wrap(Cells().eval(), boxes="ultralytics", n_classes=5).predict((images,))
    with pytest.raises(Unsupported, match="a list of dicts with boxes, labels and scores; it gives list"):
        xai.wrap(Listed().eval(), boxes="torchvision", n_classes=2).predict((images,))
    with pytest.raises(InvalidInput, match="training mode"):
        xai.wrap(Cells().train(), boxes="ultralytics", n_classes=2)

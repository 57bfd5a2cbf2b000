"""What is measured of a detector: how well one box is still found, and by what score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.measures import Rows, Unweighted
from crossxai.model import Array
from crossxai.target import class_numbers, fits

FOUND = "box"
"""What files call this measure."""
CORNERS = 4
"""Columns of a detector's outputs before the classes': x0, y0, x1, y1 in pixels of the image."""


@dataclass(frozen=True)
class Box(Unweighted):
    """How well a box is found: the largest product, over all detections, of overlap with the box and score of its class.

    Of outputs (n, detections, 4 + classes) as `wrap(…, boxes=…)` gives them: corners x0, y0, x1, y1 in pixels and a score per
    class, all zero where there are fewer detections. Without a gradient: the detection that matches may change.

    Parameters
    ----------
    boxes : (n, 4) numbers, the box of each sample: x0, y0, x1, y1 in pixels, with x0 < x1 and y0 < y1
    labels : (n,) whole numbers, the class of each box
    shape : (int, int), that of a sample's outputs, (detections, 4 + classes)

    Raises
    ------
    InvalidInput: if a box has no area, or a class is none of the detector's

    References
    ----------
    Petsiuk et al. 2021, D-RISE, eq. 3: overlap times similarity of classes times objectness. Detectors that give one class per
    box have a similarity of 1 or 0, and their score is the objectness; of those that score every class, it is the class's score.
    """

    boxes: npt.ArrayLike
    labels: npt.ArrayLike
    shape: tuple[int, int]

    link: ClassVar[str] = "overlap times score of a box"
    described: ClassVar[str] = "how well a box is found"
    no_gradient: ClassVar[str] = (
        "how well a box is found has no gradient, since the detection that matches may change: explain it by scores, with "
        "reference.drise, occlusion, LIME or KernelSHAP"
    )

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float64)
        labels = class_numbers(self.labels, self.shape[1] - CORNERS)
        if boxes.shape != (len(labels), CORNERS):
            raise InvalidInput(f"boxes need shape ({len(labels)}, 4), one per label, got {boxes.shape}")
        if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise InvalidInput(f"a box is x0, y0, x1, y1 in pixels with x0 < x1 and y0 < y1, got {boxes.tolist()}")
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "labels", labels)

    @classmethod
    def strongest(cls, outputs: Array, labels: npt.ArrayLike | None = None) -> Box:
        """The detection of each sample with the highest score, of any class or of the given one.

        Parameters
        ----------
        outputs : (n, detections, 4 + classes), what the detector gives
        labels : int or (n,) whole numbers, optional, the class for all samples or for each

        Raises
        ------
        InvalidInput: if nothing is detected in a sample
        """
        n, n_classes = len(outputs), outputs.shape[-1] - CORNERS
        scores = outputs[..., CORNERS:]
        if labels is not None:
            given = class_numbers(np.broadcast_to(np.asarray(labels), n), n_classes)
            scores = np.where(np.arange(n_classes) == given[:, None, None], scores, 0)
        flat = scores.reshape(n, -1)
        without = np.flatnonzero(flat.max(axis=1) <= 0)
        if len(without):
            what = "nothing" if labels is None else "nothing of that class"
            raise InvalidInput(
                f"{what} is detected in samples {without.tolist()}: leave them out, or write xai.Box(boxes, …)"
            )
        detections, classes = np.divmod(flat.argmax(axis=1), n_classes)
        return cls(outputs[np.arange(n), detections, :CORNERS], classes, (outputs.shape[1], outputs.shape[2]))

    @property
    def out(self) -> tuple[int, ...]:
        """Shape of the outputs of one sample."""
        return self.shape

    @property
    def explained(self) -> Array:
        """The boxes and their classes, (n, 5), by which answers are told apart."""
        return np.column_stack([np.asarray(self.boxes), np.asarray(self.labels)])

    def __len__(self) -> int:
        return len(np.asarray(self.labels))

    def __getitem__(self, rows: Rows | slice) -> Self:
        return replace(self, boxes=np.asarray(self.boxes)[rows], labels=np.asarray(self.labels)[rows])

    def score(self, outputs: Array, rows: Rows) -> Array:
        """Scores (m,) in [0, 1] of outputs (m, detections, 4 + classes), where outputs[j] belongs to sample rows[j]."""
        fits(outputs, self.out, rows)
        boxes, labels = np.asarray(self.boxes)[rows], np.asarray(self.labels)[rows]
        of_class = outputs[np.arange(len(rows)), :, CORNERS + labels]
        return np.asarray((overlap(outputs[..., :CORNERS], boxes[:, None]) * of_class).max(axis=1), outputs.dtype)


def inside(boxes: npt.ArrayLike, space: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels (n, y, x) whose middle lies in each box (n, 4) of corners."""
    x0, y0, x1, y1 = (column[:, None] for column in np.asarray(boxes, np.float64).T)
    y, x = (np.arange(size) + 0.5 for size in space)
    return np.asarray(((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None, :])


def overlap(boxes: Array, others: Array) -> Array:
    """Intersection over union of boxes (…, 4) of corners x0, y0, x1, y1; 0 of boxes without area."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clip(0).prod(-1)
    areas = sum((v[..., 2:] - v[..., :2]).clip(0).prod(-1) for v in (boxes, others))
    return np.asarray(shared / np.maximum(areas - shared, np.finfo(np.float64).tiny))

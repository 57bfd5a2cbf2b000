"""Detectors of PyTorch as models: their boxes in one array per batch, as declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.adapters import torch_running
from crossxai.adapters.checks import MeanSd, check_inputs, constants, model_failed
from crossxai.adapters.describing import Described
from crossxai.errors import CrossXAIError, InvalidInput, Unsupported
from crossxai.measures.detection import CORNERS
from crossxai.model import Array, Inputs, Modality, standardise
from crossxai.process import foreign

Boxes = Literal["torchvision", "ultralytics"]


class TorchDetector(Described):
    """A detector in evaluation mode whose outputs are boxes, (n, detections, 4 + n_classes): x0, y0, x1, y1 in pixels of the
    image and a score per class; rows of zeros where there are fewer. Scores alone, without gradients.

    Parameters
    ----------
    module : torch.nn.Module, in evaluation mode
    modalities : tuple of one image
    boxes : {"torchvision", "ultralytics"}, how its outputs are read
        "torchvision": it takes a list of images and returns for each a dict of boxes (corners in pixels), labels and scores.
        "ultralytics": it takes a batch and returns (n, 4 + n_classes, places), alone or first of several: centre, width and
        height in pixels and a score per class, before any of them is suppressed, as YOLOv8 and later do.
    n_classes : int, as many as labels may be: of torchvision's with the background, number 0
    detections : int, optional, the most that are kept, by score; 100 of torchvision's, every place of the others if not given
    standardise : mapping of str to (mean, sd), optional, by modality: subtracted and divided by, so that maps stay in raw values
    device : str, where the module runs
    name : str, the name in messages, files and reports

    Raises
    ------
    InvalidInput: if the module is in training mode, or a declaration does not fit
    """

    framework = "PyTorch"

    def __init__(
        self,
        module: nn.Module,
        modalities: tuple[Modality, ...],
        *,
        boxes: Boxes,
        n_classes: int = 0,
        detections: int | None = None,
        standardise: Mapping[str, MeanSd] | None = None,
        device: str = "cpu",
        name: str = "detector",
    ) -> None:
        if boxes not in ("torchvision", "ultralytics"):
            raise InvalidInput(f'boxes is "torchvision" or "ultralytics", how the outputs are read; got {boxes!r}')
        if not isinstance(n_classes, int) or n_classes < 1:
            raise InvalidInput(
                f"write n_classes, the number of classes that the detector's labels name; got {n_classes!r}"
            )
        if len(modalities) != 1 or modalities[0].kind != "image":
            raise InvalidInput(f"a detector takes one image, got {', '.join(m.name for m in modalities)}")
        if module.training:
            raise InvalidInput(f"detector {name!r} is in training mode, in which it gives losses: write module.eval()")
        super().__init__(name, modalities, ("detection", "corners and classes"), "values")
        self.module, self.boxes, self.n_classes = torch_running.unwrap(module).to(device), boxes, n_classes
        self.detections = detections or (100 if boxes == "torchvision" else None)
        self.device, self.standardise = device, dict(standardise or {})
        ((self._mean, self._sd),) = constants(standardise, self.modalities)

    @property
    def network(self) -> nn.Module:
        """The torch module."""
        return self.module

    def predict(self, inputs: Inputs) -> Array:
        """Boxes and scores (n, detections, 4 + n_classes)."""
        check_inputs(inputs, self.modalities, self.name)
        images = np.moveaxis(standardise(inputs[0], self._mean, self._sd), -1, 1).astype(np.float32)
        try:
            with torch.no_grad():
                batch = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
                return (
                    self._listed(self.module(list(batch)))
                    if self.boxes == "torchvision"
                    else self._raw(self.module(batch))
                )
        except CrossXAIError:
            raise
        except foreign() as error:
            raise model_failed(error, self.name, inputs) from error

    def _listed(self, given: Any) -> Array:
        """A dict of boxes, labels and scores for each image, as one array."""
        if not isinstance(given, Sequence) or not all(
            isinstance(x, Mapping) and {"boxes", "labels", "scores"} <= set(x) for x in given
        ):
            raise Unsupported(
                f'detector {self.name!r}: boxes="torchvision" are a list of dicts with boxes, labels and scores; it gives '
                f"{type(given).__name__}"
            )
        packed = np.zeros((len(given), self.detections or 0, CORNERS + self.n_classes), np.float32)
        for row, found in enumerate(given):
            corners, labels, scores = (found[key].cpu().numpy() for key in ("boxes", "labels", "scores"))
            if len(labels) and labels.max() >= self.n_classes:
                raise InvalidInput(
                    f"detector {self.name!r} gives label {labels.max()}: n_classes is {self.n_classes}, write at least "
                    f"{labels.max() + 1}"
                )
            best = np.argsort(-scores, kind="stable")[: packed.shape[1]]
            packed[row, : len(best), :CORNERS] = corners[best]
            packed[row, np.arange(len(best)), CORNERS + labels[best]] = scores[best]
        return packed

    def _raw(self, given: Any) -> Array:
        """Centres, sizes and scores at every place, as corners and scores."""
        tensor = given[0] if isinstance(given, tuple | list) and given else given
        columns = CORNERS + self.n_classes
        if not isinstance(tensor, Tensor) or tensor.ndim != 3 or tensor.shape[1] != columns:
            shape = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise Unsupported(
                f'detector {self.name!r}: boxes="ultralytics" of {self.n_classes} classes are (n, {columns}, places); it gives '
                f"{shape}"
            )
        found = tensor.transpose(1, 2).cpu().numpy()
        centre, half, scores = found[..., :2], found[..., 2:CORNERS] / 2, found[..., CORNERS:]
        packed = np.concatenate([centre - half, centre + half, scores], axis=-1)
        if self.detections is None or self.detections >= packed.shape[1]:
            return packed
        best = np.argsort(-scores.max(axis=-1), axis=1, kind="stable")[:, : self.detections]
        return np.asarray(np.take_along_axis(packed, best[..., None], axis=1))

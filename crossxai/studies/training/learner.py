"""What the training loop asks of a framework, and what both frameworks share of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from crossxai.model import Array
from crossxai.studies.networks.checkpoint import MeanSd, Weights
from crossxai.studies.pcam.augmentation import Pixels
from crossxai.studies.pcam.dataset import Labels

State = dict[str, npt.NDArray[Any]]

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Rules:
    """How a learner learns. constants: mean and sd that images are standardised by. frozen: only the last layer
    learns, and batch norms keep the statistics that they came with. dtype: float64 tells rounding from a bug.
    """

    constants: MeanSd
    weight_decay: float
    label_smoothing: float
    frozen: bool
    dtype: Literal["float32", "float64"] = "float32"

    def standardised(self, images: Array) -> Array:
        """RGB in [0, 1] → what the network sees."""
        mean, sd = self.constants
        return np.asarray((images - mean) / sd, self.dtype)

    def seen(self, pixels: Pixels) -> Array:
        """Bytes → what the network sees."""
        return self.standardised(pixels.astype(np.float32) / np.float32(255))


class Learner(Protocol):
    """A ResNet-18 that learns by AdamW as PyTorch defines it (Loshchilov & Hutter, ICLR 2019), all parameters decaying."""

    def step(self, pixels: Pixels, labels: Labels, learning_rate: float) -> float:
        """Learn from a batch (n, 96, 96, 3), (n,); the loss before."""
        ...

    def predict(self, images: npt.NDArray[np.float32]) -> Array:
        """RGB in [0, 1] (n, 96, 96, 3) → logits (n, 2)."""
        ...

    def weights(self) -> Weights:
        """Copies, under torch's names."""
        ...

    def state(self) -> State:
        """Everything that the next step depends on."""
        ...

    def restore(self, state: State) -> None:
        """Go on from a `state`."""
        ...

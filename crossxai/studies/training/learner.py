"""What the training loop asks of a framework, the file that keeps a training under way, and the bar that shows it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from rich.console import Console

from crossxai.errors import DAMAGED_NPZ
from crossxai.experiment.progress import Progress
from crossxai.files.atomic import replacing, sweep
from crossxai.model import Array
from crossxai.studies.networks.weight_files import MeanSd, Weights
from crossxai.studies.pcam.dataset import Labels, Pixels

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


META = "meta"


@dataclass(frozen=True)
class StateFile:
    """path: the file. identity: of the training; a file of another one is none."""

    path: Path
    identity: str

    def write(self, arrays: State, meta: dict[str, Any]) -> None:
        """Put this state in the place of the last."""
        held = json.dumps({"identity": self.identity, **meta})
        with replacing(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **{**arrays, META: np.array(held)})

    def read(self) -> tuple[State, dict[str, Any]] | None:
        """The last state, or None if there is none, it is damaged, or of another training: then training begins anew."""
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                meta = json.loads(str(archive[META][()]))
                if meta.get("identity") != self.identity:
                    return None
                return {name: archive[name] for name in archive.files if name != META}, meta
        except (*DAMAGED_NPZ, KeyError):
            return None

    def remove(self) -> None:
        """The training is over. A state of another one stays."""
        if self.read() is not None:
            self.path.unlink(missing_ok=True)
        sweep(self.path)


@contextmanager
def bar(shown: bool, total: int) -> Iterator[Callable[[int, str], None]]:
    """A function (steps done, text) that moves a bar on standard error, or says so now and then on a pipe, or does nothing."""
    with Progress(Console(stderr=True), silent=not shown, unit="steps") as progress:
        progress.stage("training", total)
        begun = False

        def report(steps: int, text: str) -> None:
            nonlocal begun
            progress.say(f"training, {text}")
            (progress.advance if begun else progress.skip)(steps)  # first comes what a stopped training had done
            begun = True

        yield report

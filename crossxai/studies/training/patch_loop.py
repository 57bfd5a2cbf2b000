"""The training loop of ResNet-18 on patches, and what both training loops share: `Plan` and `bar`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console

from crossxai.errors import DAMAGED_NPZ, CrossXAIError
from crossxai.experiment.progress import Progress
from crossxai.files.atomic import replacing, sweep, write_text
from crossxai.model import Array
from crossxai.studies.networks.weight_files import MeanSd, Weights
from crossxai.studies.pcam.dataset import Labels, PatchDataset, Pixels, Rows

Metrics = dict[str, float]
State = dict[str, npt.NDArray[Any]]

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Rules:
    """constants: mean and sd of images. frozen: only the last layer learns, and batch norms keep the statistics that they came
    with. dtype: float64 tells rounding from a bug."""

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


def part_of(arrays: State, name: str) -> State:
    """The arrays whose names begin with "name/", without it."""
    return {key.removeprefix(f"{name}/"): values for key, values in arrays.items() if key.startswith(f"{name}/")}


class Learner(Protocol):
    """A ResNet-18 that learns by AdamW as PyTorch defines it (Loshchilov & Hutter, ICLR 2019), all parameters decaying."""

    def step(self, pixels: Pixels, labels: Labels, learning_rate: float) -> float:
        """Learn from a batch (n, 96, 96, 3), (n,); the loss before."""

    def predict(self, images: npt.NDArray[np.float32]) -> Array:
        """RGB in [0, 1] (n, 96, 96, 3) → logits (n, 2)."""

    def weights(self) -> Weights:
        """Copies, under torch's names."""

    def state(self) -> State:
        """Everything that the next step depends on."""

    def restore(self, state: State) -> None:
        """Go on from a `state`."""


META = "meta"


@dataclass(frozen=True)
class StateFile:
    """path: the file. identity: of the training; a file of another one is none."""

    path: Path
    identity: str

    def write(self, arrays: State, meta: dict[str, Any]) -> None:
        """Put this state in the place of the last."""
        content = json.dumps({"identity": self.identity, **meta})
        with replacing(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, allow_pickle=False, **{**arrays, META: np.array(content)})

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


LOGGED = (
    *("epoch", "loss", "valid_loss", "valid_auc", "valid_accuracy", "valid_balanced_accuracy"),
    *("learning_rate", "seconds", "patches_per_second"),
)


@dataclass(frozen=True)
class Plan:
    """How long both loops train. learning_rate: the highest. patience: epochs without a better validation. Of patches alone,
    save_seconds: how long after the last state the next is written, within an epoch; workers: threads that read ahead."""

    epochs: int
    batch_size: int
    learning_rate: float
    patience: int
    seed: int
    save_seconds: float = 60
    workers: int = 1

    def over(self, epoch: int, best_epoch: int) -> bool:
        """Whether no epoch is left, or none has helped for too long."""
        return epoch >= self.epochs or epoch - best_epoch >= self.patience

    def finite(self, loss: float, epoch: int) -> float:
        """The loss; raises `CrossXAIError` if it is infinite or no number."""
        if not math.isfinite(loss):
            raise CrossXAIError(f"epoch {epoch}: the loss is {loss}: lower learning_rate (now {self.learning_rate:g})")
        return loss

    def rate(self, step: int, total: int) -> float:
        """The learning rate of step 0 … total - 1: up along a cosine from peak / 25 for 30 % of the steps, then down to peak /
        250,000 (Smith & Topin, 2019; the defaults of `torch.optim.lr_scheduler.OneCycleLR`, its momentum left alone)."""
        top = max(0.3 * total - 1, 0)
        low, passed = 1 / 25, (step / top if top and step <= top else 1)
        if step > top:
            low, passed = 1 / 250_000, 1 - (step - top) / max(total - 1 - top, 1)
        return self.learning_rate * (low + (1 - low) * (1 - math.cos(math.pi * passed)) / 2)

    def order(self, n: int, epoch: int) -> Rows:
        """All samples in the order of this epoch."""
        # A spawn key, so that it is no stream that a sample's augmentation draws from.
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(epoch,)))
        return rng.permutation(n)


@dataclass
class Status:
    """Where training is. epoch: whole epochs done; step: batches of the next. score: of the best epoch, counted from 1."""

    epoch: int = 0
    step: int = 0
    losses: float = 0.0
    seconds: float = 0.0
    best_epoch: int = 0
    score: tuple[float, float] = (-1.0, -math.inf)
    history: list[Metrics] = field(default_factory=list)
    log: list[dict[str, float]] = field(default_factory=list)


def train(
    learner: Learner,
    data: PatchDataset,
    validate: Callable[[], Metrics],
    plan: Plan,
    state: StateFile,
    log: Path,
    progress: bool = True,
) -> tuple[Weights, Status]:
    """The weights of the epoch that validates best, by (balanced accuracy, then loss), and how it went.

    validate: the learner's figures on the validation rows. A state of this training is gone on from, at its very step; one is
    written after every epoch, and within one every `plan.save_seconds`. A last smaller batch is left out, as batch norms would
    see too little. Raises `CrossXAIError` if a loss stops being finite.
    """
    best, status = _resumed(learner, state) or (learner.weights(), Status())
    if status.epoch or status.step:
        where = f"epoch {status.epoch + 1}, step {status.step + 1}"
        Console(stderr=True).print(f"Going on at {where}, from {state.path.name}", highlight=False)
        write_log(log, status)
    size = min(plan.batch_size, len(data))
    steps = len(data) // size
    with bar(progress, plan.epochs * steps) as report:
        report(status.epoch * steps + status.step, f"epoch {status.epoch + 1}/{plan.epochs}")
        while not plan.over(status.epoch, status.best_epoch):
            _epoch(learner, data, plan, state, best, status, size, report)
            started = time.monotonic()
            figures = validate()
            status.seconds += time.monotonic() - started
            if (score := (figures["balanced_accuracy"], -figures["loss"])) > status.score:
                best, status.best_epoch, status.score = learner.weights(), status.epoch + 1, score
            _end_epoch(status, figures, plan, steps, size)
            _save_state(state, learner, best, status)
            write_log(log, status)
            report(0, f"epoch {status.epoch}: validation balanced accuracy {figures['balanced_accuracy']:.3f}")
    return best, status


def _epoch(
    learner: Learner,
    data: PatchDataset,
    plan: Plan,
    state: StateFile,
    best: Weights,
    status: Status,
    size: int,
    report: Callable[[int, str], None],
) -> None:
    """The steps of an epoch that are left."""
    steps = len(data) // size
    order = plan.order(len(data), status.epoch)
    parts = (order[step * size : (step + 1) * size] for step in range(status.step, steps))
    saved = last = time.monotonic()
    for pixels, labels in data.at(status.epoch).batches(parts, plan.workers):
        rate = plan.rate(status.epoch * steps + status.step, plan.epochs * steps)
        loss = plan.finite(learner.step(pixels, labels, rate), status.epoch + 1)
        status.step += 1
        status.losses += loss
        now = time.monotonic()
        status.seconds, last = status.seconds + now - last, now
        if now - saved >= plan.save_seconds:
            _save_state(state, learner, best, status)
            saved = time.monotonic()
        report(1, f"epoch {status.epoch + 1}/{plan.epochs}  loss {loss:.3f}")


def _end_epoch(status: Status, figures: Metrics, plan: Plan, steps: int, size: int) -> None:
    loss = status.losses / steps
    history = {"train_loss": loss, **{f"valid_{name}": value for name, value in figures.items()}}
    status.epoch += 1
    status.history.append(history)
    logged = {
        "epoch": status.epoch,
        "loss": loss,
        "learning_rate": plan.rate(status.epoch * steps - 1, plan.epochs * steps),
        "seconds": round(status.seconds, 3),
        "patches_per_second": round(steps * size / status.seconds, 1) if status.seconds else 0.0,
    }
    status.log.append({name: logged.get(name, history.get(name, math.nan)) for name in LOGGED})
    status.step, status.losses, status.seconds = 0, 0.0, 0.0


def write_log(path: Path, status: Status) -> None:
    """A line per epoch (CSV); seconds and patches per second count validation."""
    write_text(path, pd.DataFrame(status.log, columns=LOGGED).to_csv(index=False, na_rep="nan", lineterminator="\n"))


def _save_state(state: StateFile, learner: Learner, best: Weights, status: Status) -> None:
    arrays = {f"learner/{name}": values for name, values in learner.state().items()}
    arrays |= {f"best/{name}": values for name, values in best.items()}
    state.write(arrays, {"progress": asdict(status)})


def _resumed(learner: Learner, state: StateFile) -> tuple[Weights, Status] | None:
    content = state.read()
    if content is None:
        return None
    arrays, meta = content
    learner.restore(part_of(arrays, "learner"))
    status = meta["progress"]
    return part_of(arrays, "best"), Status(**{**status, "score": tuple(status["score"])})

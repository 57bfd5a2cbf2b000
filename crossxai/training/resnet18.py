"""Train ResNet-18 on a data set in PatchCamelyon's format, within a minute or two on a CPU; judge any model on one.

Only `fit` needs torch; `evaluate` and the settings work without any framework.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from scipy.special import logsumexp
from scipy.stats import rankdata

from crossxai.data.pcam import PCam
from crossxai.errors import CrossXAIError, InvalidFile, InvalidInput
from crossxai.model import Array
from crossxai.models import checkpoint
from crossxai.process import require

if TYPE_CHECKING:
    import torch

Labels = npt.NDArray[np.int64]
Metrics = dict[str, float]

RECIPE = 1
"""Raised when the code below changes what is trained, so that checkpoints of the old code are not taken for the new."""


class TrainSettings(BaseModel):
    """How to train. learning_rate: the peak of a one-cycle schedule. patience: epochs without a better validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(default=0, ge=0)
    epochs: int = Field(default=4, ge=1)
    batch_size: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    brightness: float = Field(default=0.2, ge=0)
    contrast: float = Field(default=0.1, ge=0, lt=1)
    patience: int = Field(default=2, ge=1)


def fit(
    data_root: str | os.PathLike[str],
    settings: TrainSettings | None = None,
    out_dir: str | os.PathLike[str] = "models",
    progress: bool = True,
) -> Path:
    """Train from scratch and return the path of the checkpoint of the epoch that validated best.

    The file's name comes from the data and the settings: a second call with the same ones returns at once. Raises
    `InvalidFile` for unreadable data and `CrossXAIError` if the loss stops being finite.
    """
    settings = settings or TrainSettings()
    train, valid, test = (PCam(data_root, split) for split in ("train", "valid", "test"))
    for part in (train, valid):
        if len(np.unique(part.labels())) < 2:
            raise InvalidInput(f"{part!r}: all labels are the same: nothing to learn or to validate by")
    data = {d.split: d.fingerprint() for d in (train, valid, test)}
    identity = json.dumps({"recipe": RECIPE, "data": data, "settings": settings.model_dump()}, sort_keys=True)
    path = Path(out_dir) / f"resnet18-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"
    if _reusable(path):
        return path
    require("torch", "torch", "training")
    require("torchvision", "torch", "training")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        mean, sd = channel_statistics(train)
        network = _Network(mean, sd)
        weights, history = _train(network, train, valid, settings, progress)
        network.restore(weights)
    metrics = evaluate(network.predict, (valid, test), settings.batch_size)
    meta = {
        "architecture": "resnet18",
        "n_classes": 2,
        "settings": settings.model_dump(),
        "data": data,
        "metrics": metrics,
        "history": history,
    }
    return checkpoint.write(path, weights, mean, sd, meta)


def evaluate(
    predict: Callable[[npt.NDArray[np.float32]], Array], data: Sequence[PCam], batch_size: int = 64
) -> dict[str, Metrics]:
    """Split → n, accuracy, balanced_accuracy, auc (of class 1 against 0) and loss (cross-entropy).

    predict: raw images (n, 96, 96, 3), RGB in [0, 1] → logits (n, 2). What a single class leaves undefined is NaN.
    """
    results: dict[str, Metrics] = {}
    for part in data:
        rows = (np.arange(start, min(start + batch_size, len(part))) for start in range(0, len(part), batch_size))
        logits = np.concatenate([np.asarray(predict(part.images(index))) for index in rows])
        if logits.shape != (len(part), 2):
            raise InvalidInput(f"predict must give logits ({len(part)}, 2) for {part!r}, got {logits.shape}")
        results[part.split] = metrics_of(logits, part.labels())
    return results


def metrics_of(logits: Array, labels: Labels) -> Metrics:
    """The figures of `evaluate` from logits (n, 2) and labels (n,)."""
    hit = logits.argmax(axis=1) == labels
    positive = labels == 1
    margin = logits[:, 1] - logits[:, 0]
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
    both = bool(positive.any() and not positive.all())
    return {
        "n": len(labels),
        "accuracy": float(hit.mean()),
        "balanced_accuracy": float((hit[positive].mean() + hit[~positive].mean()) / 2) if both else float("nan"),
        "auc": _auc(margin, positive) if both else float("nan"),
        "loss": float(losses.mean()),
    }


def channel_statistics(data: PCam) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and standard deviation (3,) of each channel over all pixels, RGB in [0, 1], streamed."""
    total, squares = np.zeros(3), np.zeros(3)
    for start in range(0, len(data), 256):
        pixels = data.images(np.arange(start, min(start + 256, len(data)))).reshape(-1, 3).astype(np.float64)
        total += pixels.mean(axis=0) * len(pixels)
        squares += (pixels**2).mean(axis=0) * len(pixels)
    n = len(data) * 96 * 96
    sd = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
    if not (sd > 0).all():
        raise InvalidInput(f"{data!r}: a channel is constant (sd {sd.tolist()}): nothing to standardise by")
    return (total / n).astype(np.float32), sd.astype(np.float32)


def _auc(scores: Array, positive: npt.NDArray[np.bool_]) -> float:
    """Chance that a positive outscores a negative, ties counting half (Mann–Whitney U)."""
    n, m = int(positive.sum()), int((~positive).sum())
    return float((rankdata(scores)[positive].sum() - n * (n + 1) / 2) / (n * m))


def _reusable(path: Path) -> bool:
    try:
        checkpoint.read(path)
    except InvalidFile:
        return False
    return True


class _Network:
    """ResNet-18 with the standardisation of its data, from NHWC RGB in [0, 1]."""

    def __init__(self, mean: npt.NDArray[np.float32], sd: npt.NDArray[np.float32]) -> None:
        import torch

        from crossxai.models import resnet18_torch

        self.mean, self.sd = mean, sd
        self.module = resnet18_torch.build().to(memory_format=torch.channels_last)

    def tensor(self, images: npt.NDArray[np.float32]) -> torch.Tensor:
        import torch

        # The NCHW view of an NHWC array is torch's channels_last layout: nothing is copied.
        return torch.from_numpy((images - self.mean) / self.sd).permute(0, 3, 1, 2)

    def predict(self, images: npt.NDArray[np.float32]) -> Array:
        import torch

        self.module.eval()
        with torch.inference_mode():
            return np.asarray(self.module(self.tensor(images)).numpy())

    def weights(self) -> checkpoint.Weights:
        return {name: np.array(values.numpy(), order="C") for name, values in self.module.state_dict().items()}

    def restore(self, weights: checkpoint.Weights) -> None:
        import torch

        self.module.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in weights.items()})


def _train(
    network: _Network, train: PCam, valid: PCam, settings: TrainSettings, progress: bool
) -> tuple[checkpoint.Weights, list[Metrics]]:
    """The weights of the best epoch by (balanced accuracy, then loss) of the validation split, and every epoch's figures."""
    import torch

    generator = torch.Generator().manual_seed(settings.seed)
    steps = max(1, len(train) // settings.batch_size)
    optimiser = torch.optim.AdamW(
        network.module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.epochs * steps
    )
    best, best_weights, since = (-1.0, -np.inf), network.weights(), 0
    history: list[Metrics] = []
    with bar(progress, settings.epochs * steps) as report:
        for epoch in range(settings.epochs):
            network.module.train()
            losses = []
            for index in _shuffled(len(train), settings.batch_size, generator):
                images = augmented(network.tensor(train.images(index)), settings, generator)
                loss = torch.nn.functional.cross_entropy(
                    network.module(images),
                    torch.from_numpy(train.labels(index)),
                    label_smoothing=settings.label_smoothing,
                )
                losses.append(loss.item())
                if not np.isfinite(losses[-1]):
                    raise CrossXAIError(
                        f"epoch {epoch + 1}: the loss is {losses[-1]}: lower learning_rate (now {settings.learning_rate:g})"
                    )
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                report(1, f"epoch {epoch + 1}/{settings.epochs}  loss {losses[-1]:.3f}")
            figures = evaluate(network.predict, (valid,), settings.batch_size)["valid"]
            history.append({"train_loss": float(np.mean(losses)), **{f"valid_{k}": v for k, v in figures.items()}})
            report(0, f"epoch {epoch + 1}: validation balanced accuracy {figures['balanced_accuracy']:.3f}")
            since += 1
            if (score := (figures["balanced_accuracy"], -figures["loss"])) > best:
                best, best_weights, since = score, network.weights(), 0
            if since >= settings.patience:
                break
    return best_weights, history


def _shuffled(n: int, batch_size: int, generator: torch.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Batches of row numbers in a fresh order; a last smaller batch is dropped, as batch norm would see too little."""
    import torch

    order = torch.randperm(n, generator=generator).numpy()
    size = min(batch_size, n)
    return (order[start : start + size] for start in range(0, n - size + 1, size))


def augmented(images: torch.Tensor, settings: TrainSettings, generator: torch.Generator) -> torch.Tensor:
    """Standardised NCHW images, each flipped or turned at random (the centre stays the centre) and jittered in colour."""
    import torch

    n = len(images)
    flips = torch.rand(3, n, 1, 1, 1, generator=generator) < 0.5
    images = torch.where(flips[0], images.flip(2), images)
    images = torch.where(flips[1], images.flip(3), images)
    images = torch.where(flips[2], images.transpose(2, 3), images)
    gain = 1 + settings.contrast * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
    shift = settings.brightness * (2 * torch.rand(n, images.shape[1], 1, 1, generator=generator) - 1)
    return (images * gain + shift).contiguous(memory_format=torch.channels_last)


@contextmanager
def bar(shown: bool, total: int) -> Iterator[Callable[[int, str], None]]:
    """A function (steps done, text) that moves a progress bar on standard error, or does nothing."""
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("", total=total)
        yield lambda steps, text: bar.update(task, advance=steps, description=text)

"""The training loop of the fusion networks: Adam, cosine schedule, early stopping, and a state file that survives a kill."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Tensor, nn

from crossxai.files.atomic import replacing
from crossxai.studies.training.patch_loop import Metrics, Plan, bar

Values = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Split:
    """inputs: standardised tensors, images NCHW, one per modality. targets: as the loss takes them."""

    inputs: tuple[Tensor, ...]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, index: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Some samples; images in torch's channels_last layout, the faster one on a CPU."""
        return tuple(_laid_out(x[index]) for x in self.inputs), self.targets[index]


@dataclass
class Status:
    """What training knows after an epoch. best: weights of the epoch with the lowest validation loss, `best_epoch` from 1."""

    best: dict[str, Tensor]
    best_loss: float = float("inf")
    best_epoch: int = 0
    epoch: int = 0
    history: list[Metrics] = field(default_factory=list)


def train(
    module: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    training: Split,
    validation: Split,
    plan: Plan,
    weight_decay: float,
    state: Path,
    identity: str,
    progress: bool = True,
    frozen: nn.Module | None = None,
) -> Status:
    """Train and return the best weights; an epoch's state is in the file `state` before the next begins.

    The learning rate falls to 0 along a cosine over all epochs. A state file of the same identity is gone on from, bit for bit;
    any other is written over. frozen: a part that stays in evaluation mode. Draws from torch's global generator, which the
    caller seeds and keeps. Raises `CrossXAIError` if a loss stops being finite.
    """
    module.to(memory_format=torch.channels_last)
    shuffling = torch.Generator().manual_seed(plan.seed)
    steps = -(-len(training) // plan.batch_size)
    learning = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learning, lr=plan.learning_rate, weight_decay=weight_decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.epochs * steps)
    parts = {"module": module, "optimiser": optimiser, "cosine": cosine}
    status = _resumed(state, identity, parts, shuffling) or Status(_weights(module))
    if status.epoch:
        Console(stderr=True).print(f"Going on after epoch {status.epoch} of {state.name}", highlight=False)
    with bar(progress, plan.epochs * steps) as report:
        report(status.epoch * steps, f"epoch {status.epoch + 1}/{plan.epochs}")
        while not plan.over(status.epoch, status.best_epoch):
            module.train()
            if frozen is not None:
                frozen.eval()  # batch norms use the statistics they came with
            losses = []
            for index in _batches(len(training), plan.batch_size, shuffling):
                inputs, targets = training.rows(index)
                value = loss(module(*inputs), targets)
                losses.append(plan.finite(value.item(), status.epoch + 1))
                optimiser.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                cosine.step()
                report(1, f"epoch {status.epoch + 1}/{plan.epochs}  loss {losses[-1]:.3f}")
            valid_loss = validation_loss(module, loss, validation, plan.batch_size)
            status.epoch += 1
            status.history.append({"train_loss": float(np.mean(losses)), "valid_loss": valid_loss})
            if plan.finite(valid_loss, status.epoch) < status.best_loss:
                status.best, status.best_loss, status.best_epoch = _weights(module), valid_loss, status.epoch
            _keep(state, identity, status, parts, shuffling)
            report(0, f"epoch {status.epoch}: validation loss {valid_loss:.3f}")
    return status


def validation_loss(module: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], data: Split, batch_size: int) -> float:
    """Mean over samples, in evaluation mode."""
    module.eval()
    total = 0.0
    with torch.no_grad():
        for index in torch.split(torch.arange(len(data)), batch_size):
            inputs, targets = data.rows(index)
            total += loss(module(*inputs), targets).item() * len(index)
    return total / len(data)


def _batches(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers in a fresh order; a last batch of one sample joins the one before, as batch norm could not use it."""
    parts = list(torch.split(torch.randperm(n, generator=generator), batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [torch.cat(parts[-2:])]
    return iter(parts)


def tensor(values: Values) -> Tensor:
    """An array as a tensor, images NCHW."""
    channels_last = torch.from_numpy(np.ascontiguousarray(values))
    return channels_last.movedim(-1, 1) if channels_last.ndim == 4 else channels_last


def _laid_out(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: values.detach().clone() for name, values in module.state_dict().items()}


def _keep(path: Path, identity: str, status: Status, parts: Mapping[str, Any], shuffling: torch.Generator) -> None:
    """Tensors and plain numbers only, so that the file can be read without running code from it."""
    content = {
        "identity": identity,
        "progress": vars(status),
        **{name: part.state_dict() for name, part in parts.items()},
        "shuffling": shuffling.get_state(),
        "global": torch.get_rng_state(),
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def _resumed(path: Path, identity: str, parts: Mapping[str, Any], shuffling: torch.Generator) -> Status | None:
    """The status that a state file of this training keeps, with every part as it was; None: training begins anew."""
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None  # damaged: it is only a convenience
    if not isinstance(content, dict) or content.get("identity") != identity:
        return None
    for name, part in parts.items():
        part.load_state_dict(content[name])
    shuffling.set_state(content["shuffling"])
    torch.set_rng_state(content["global"])
    return Status(**content["progress"])


EPS = 1e-8
"""Far below the variance of a pooled feature, unlike torch's 1e-5."""


def standardise_pooled(module: nn.Module) -> None:
    """Put a batch norm after the `flatten` of each encoder of the module that ends in a dense layer `fc`."""
    for encoder in module.children():
        if isinstance(getattr(encoder, "flatten", None), nn.Flatten):
            width = encoder.get_submodule("fc").in_features
            encoder.flatten = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(int(width), eps=EPS, affine=False))  # type: ignore[arg-type]


def fold_pooled(weights: Mapping[str, Values]) -> dict[str, Values]:
    """The state_dict of the network without those batch norms: their statistics become part of each `fc`."""
    folded = {name: values for name, values in weights.items() if ".flatten." not in name}
    for name in weights:
        if name.endswith(".flatten.1.running_mean"):
            encoder = name.removesuffix(".flatten.1.running_mean")
            mean = weights[name].astype(np.float64)
            sd = np.sqrt(weights[f"{encoder}.flatten.1.running_var"].astype(np.float64) + EPS)
            kernel = weights[f"{encoder}.fc.weight"] / sd
            bias = weights[f"{encoder}.fc.bias"] - kernel @ mean
            folded |= {f"{encoder}.fc.weight": kernel.astype(np.float32), f"{encoder}.fc.bias": bias.astype(np.float32)}
    return folded

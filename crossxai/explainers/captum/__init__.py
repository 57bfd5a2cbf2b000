"""Captum on any model: its attributions run in torch, every forward and backward goes through the question. Captum repeats
`additional_forward_args` as it repeats inputs: a row number recovers each copy's own target and held modalities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crossxai.explainers.families import over_channels
from crossxai.explainers.groups import Labels
from crossxai.explainers.method import Method
from crossxai.explainers.native import seeded
from crossxai.explainers.tensor_scores import device_scores
from crossxai.model import Array, Inputs
from crossxai.process import require
from crossxai.question import Question, Rows


def captum(purpose: str) -> Any:
    """Captum's attributions, or `MissingDependency`."""
    return require("captum.attr", "captum", purpose)


def forward(question: Question, there: bool = True) -> Any:
    """A torch function of (*inputs, rows) that gives the question's scores; one pass fetches score and gradient at once.

    there: whether tensors may be on the model's device; the function's `there` tells whether they have to be.
    """
    import torch

    on_device = device_scores(question, "torch") if there else None

    class Scores(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, wanted: bool, rows: Any, *inputs: Any) -> Any:
            own = [x.detach() for x in inputs]
            if on_device is not None:
                if not wanted:
                    return on_device.score(own, rows)
                scores, ctx.gradients = on_device.score_and_grad(own, rows)
                return scores
            arrays = tuple(x.numpy() for x in own)
            if not wanted:
                return torch.from_numpy(question.score(arrays, rows.numpy()))
            values, gradients = question.score_and_grad(arrays, rows.numpy())
            ctx.gradients = [torch.from_numpy(g) for g in gradients]
            return torch.from_numpy(values)

        @staticmethod
        @torch.autograd.function.once_differentiable  # second order is refused, never silently wrong
        def backward(ctx: Any, upstream: Any) -> Any:
            scaled = [g * upstream.reshape(-1, *[1] * (g.ndim - 1)).to(g.dtype) for g in ctx.gradients]
            return (None, None, *scaled)

    def scores(*arguments: Any) -> Any:
        *inputs, rows = arguments
        wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        return Scores.apply(wanted, rows, *inputs)

    scores.there = on_device  # type: ignore[attr-defined]
    return scores


def attribute(
    attribution: Any, question: Question, rows: Rows | None = None, gradients: bool = True, **arguments: Any
) -> list[Array]:
    """Captum's maps of some samples of the question, all unless told; gradients: whether it differentiates."""
    import torch

    index = np.arange(len(question)) if rows is None else rows
    there = getattr(attribution.forward_func, "there", None)
    inputs, args = tuple(torch.tensor(v[index]) for v in question.values), torch.from_numpy(index)
    if there is not None:
        inputs, args = (
            there.put(inputs),
            there.put(args),
        )  # feature masks stay: Captum looks at their numbers one by one
        arguments = {name: there.put(given) if name == "baselines" else given for name, given in arguments.items()}
    for tensor in inputs:
        tensor.requires_grad_(gradients)
    maps = attribution.attribute(inputs, additional_forward_args=(args,), **arguments)
    if there is not None:
        there.check()
    return [tensor.detach().cpu().numpy() for tensor in (maps if isinstance(maps, tuple) else (maps,))]


def room(question: Question, rows: int) -> int:
    """How many copies of each of so many samples may exist at once: about four batches in all."""
    return max(1, 4 * question.batch_size // rows)


def signed(method: Method, question: Question, maps: list[Array]) -> Inputs:
    """The maps as they are (native), or summed over the channels of images and volumes (canonical)."""
    return tuple(maps) if method.profile == "native" else over_channels(question, maps)


def seed_of(question: Question, row: int, seed: int) -> int:
    """A whole number for the generators that Captum draws from, for one sample."""
    return int(question.rng(row, seed).integers(2**31))


def attribute_one(attribution: Any, question: Question, row: int, seed: int, **arguments: Any) -> list[Array]:
    """Captum's maps of one sample, global generators seeded by its name and `seed`."""
    with seeded(seed_of(question, row, seed)):
        return attribute(attribution, question, np.array([row]), **arguments)


def joined(per_sample: Sequence[Sequence[Array]]) -> list[Array]:
    """Maps of single samples, or of some, as one array per modality."""
    return [np.concatenate(column) for column in zip(*per_sample, strict=True)]


def masks(labels: tuple[Labels, ...]) -> tuple[Any, ...]:
    """Group numbers as Captum's feature masks."""
    import torch

    return tuple(torch.from_numpy(v) for v in labels)


def narrow(maps: list[Array], labels: tuple[Labels, ...]) -> Inputs:
    """Where a group spans all channels, so does its number: keep one."""
    return tuple(v[..., : numbers.shape[-1]] for v, numbers in zip(maps, labels, strict=True))

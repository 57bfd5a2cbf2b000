"""ResNet-18 in PyTorch: torchvision's own network, from raw or standardised NCHW images to logits."""

from __future__ import annotations

import os

import torch
from torch import nn
from torchvision.models import resnet18

from crossxai.errors import InvalidFile
from crossxai.studies.networks import checkpoint


def build(n_classes: int = 2, seed: int | None = None) -> nn.Module:
    """torchvision's ResNet-18 without pretrained weights, in train mode; a seed leaves torch's global generator as it was."""
    if seed is None:
        return _resnet18(n_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _resnet18(n_classes)


def load(path: str | os.PathLike[str], n_classes: int | None = None) -> nn.Module:
    """The network of a checkpoint, in eval mode; raises `InvalidFile` if the checkpoint does not fit it.

    It expects standardised images: `checkpoint.read(path)` gives mean and sd.
    """
    held = checkpoint.read(path)
    model = build(held.n_classes if n_classes is None else n_classes, seed=0)
    state = {name: torch.from_numpy(values.copy()) for name, values in held.weights.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise InvalidFile(
            f"{path}: its weights do not fit ResNet-18 with {n_classes or held.n_classes} classes: {error}"
        ) from error
    return model.eval()


def _resnet18(n_classes: int) -> nn.Module:
    model: nn.Module = resnet18(weights=None, num_classes=n_classes)
    return model

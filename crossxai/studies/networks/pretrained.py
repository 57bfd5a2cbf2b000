"""Weights of a ResNet-18 for the image encoder of the classifier, which sees one channel; and an encoder that stays as it is."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from crossxai.errors import InvalidFile, InvalidInput
from crossxai.studies.networks import checkpoint

IMAGENET = "imagenet"


def into(encoder: nn.Module, weights: str | os.PathLike[str]) -> None:
    """Give an encoder all of a ResNet-18's weights but its last layer's.

    weights: a ResNet-18 checkpoint of this project (.npz), a state_dict (.pth, .pt; read without running code from it), or
    "imagenet" for torchvision's, downloaded once. A first convolution for three channels becomes the sum over them, which is
    what a grey image in all three would meet. Raises `InvalidFile` if the file holds no ResNet-18, or cannot be had.
    """
    held = state(weights)
    given = {name: values for name, values in held.items() if not name.startswith("fc.")}
    if "conv1.weight" in given and given["conv1.weight"].ndim == 4:
        given["conv1.weight"] = given["conv1.weight"].sum(1, keepdim=True)
    own = {name: values for name, values in encoder.state_dict().items() if not name.startswith("fc.")}
    wrong = [name for name, values in own.items() if name not in given or given[name].shape != values.shape]
    if wrong or set(given) - set(own):
        named = (wrong or sorted(set(given) - set(own)))[0]
        raise InvalidFile(f"{weights}: not the weights of a ResNet-18 (look at {named!r})")
    encoder.load_state_dict(given, strict=False)


def state(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state_dict of a file or of ImageNet, as `into` takes them."""
    return _imagenet() if str(weights) == IMAGENET else _read(Path(weights))


def freeze(encoder: nn.Module) -> None:
    """No gradients for the encoder but for its last layer, which is new."""
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name.startswith("fc."))


def keep_frozen(encoder: nn.Module) -> None:
    """Batch norms use the statistics they came with, also while the rest trains."""
    encoder.eval()


def _imagenet() -> dict[str, Tensor]:
    from torchvision.models import ResNet18_Weights

    try:
        state: dict[str, Tensor] = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise InvalidFile(
            f"torchvision's ImageNet weights cannot be had ({error}): name a file of ResNet-18 weights, or train without any"
        ) from error
    return state


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".npz":
        return {name: torch.from_numpy(values.copy()) for name, values in checkpoint.read(path).weights.items()}
    if path.suffix not in (".pth", ".pt"):
        raise InvalidInput(f"weights are an .npz, .pth or .pt file, or {IMAGENET!r}; got {str(path)!r}")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InvalidFile(f"{path}: no such file") from error
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [""])[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's advice is to load it unsafely
            reason = "write one with torch.save(network.state_dict(), FILE)"
        raise InvalidFile(f"{path}: not a file of plain tensors ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InvalidFile(f"{path}: holds no state_dict of tensors")
    return state

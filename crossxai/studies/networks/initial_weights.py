"""The weights that a ResNet-18 begins with: drawn in NumPy, of a file, or torchvision's of ImageNet."""

from __future__ import annotations

import importlib.util
import math
import os
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidFile, InvalidInput, Unsupported
from crossxai.studies.networks import checkpoint
from crossxai.studies.networks.checkpoint import MeanSd, Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET = "imagenet"
WIDTHS = (64, 128, 256, 512)

IMAGENET_MEAN_SD: MeanSd = (
    np.array([0.485, 0.456, 0.406], np.float32),
    np.array([0.229, 0.224, 0.225], np.float32),
)
"""What torchvision standardises RGB in [0, 1] by for its ImageNet weights."""


def drawn(seed: int, n_classes: int = 2) -> Weights:
    """A fresh ResNet-18 under torch's names, distributed as torchvision's is: convolutions normal with variance 2 / fan-out
    (He et al., ICCV 2015), batch norms the identity, the last layer uniform within 1 / √fan-in. Every array has its own draw."""
    state: Weights = {}

    def rng(name: str) -> np.random.Generator:
        return np.random.default_rng([seed, zlib.crc32(name.encode())])

    def conv(name: str, width: int, before: int, kernel: int) -> None:
        shape, sd = (width, before, kernel, kernel), math.sqrt(2 / (width * kernel**2))
        state[f"{name}.weight"] = (sd * rng(name).standard_normal(shape)).astype(np.float32)

    def norm(name: str, width: int) -> None:
        for end, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            state[f"{name}.{end}"] = np.full(width, value, np.float32)
        state[f"{name}.num_batches_tracked"] = np.array(0, np.int64)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    before = 64
    for stage, width in enumerate(WIDTHS, start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            conv(f"{name}.conv1", width, before, 3)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            if before != width:
                conv(f"{name}.downsample.0", width, before, 1)
                norm(f"{name}.downsample.1", width)
            before = width
    bound = 1 / math.sqrt(before)
    for end, shape in (("weight", (n_classes, before)), ("bias", (n_classes,))):
        state[f"fc.{end}"] = rng(f"fc.{end}").uniform(-bound, bound, shape).astype(np.float32)
    return state


def initial(weights: str, seed: int) -> tuple[Weights, MeanSd | None]:
    """All weights to begin with, and what images are standardised by for them; None: by the training split.

    weights: "" for `drawn`; an .npz of this project, which names its own constants; a .pth or .pt state_dict, or "imagenet",
    which go with ImageNet's. Batch norms that come with statistics are right only for the standardisation that they were
    trained with. The last layer is always drawn. Raises `InvalidFile` for a file that holds no ResNet-18, or for a download that
    fails, and `Unsupported` where reading it takes torch and there is none.
    """
    own = drawn(seed)
    if not weights:
        return own, None
    if weights != IMAGENET and Path(weights).suffix == ".npz":
        held = checkpoint.read(weights)
        given, constants = held.weights, (held.mean, held.sd)
    else:
        given, constants = _of_torch(weights), IMAGENET_MEAN_SD
    for name in own:
        if name.startswith("fc.") or name.endswith("num_batches_tracked"):
            continue
        if name not in given or given[name].shape != own[name].shape:
            raise InvalidFile(f"{weights}: not the weights of a ResNet-18 (look at {name!r})")
        own[name] = np.asarray(given[name], np.float32)
    if strange := [name for name in given if name not in own]:
        raise InvalidFile(f"{weights}: not the weights of a ResNet-18 (look at {strange[0]!r})")
    return own, constants


def _of_torch(weights: str) -> dict[str, npt.NDArray[np.generic]]:
    if weights != IMAGENET and Path(weights).suffix not in (".pth", ".pt"):
        raise InvalidInput(f"weights are an .npz, .pth or .pt file, or {IMAGENET!r}; got {weights!r}")
    if any(importlib.util.find_spec(package) is None for package in ("torch", "torchvision")):
        what = "torchvision's ImageNet weights" if weights == IMAGENET else f"reading {weights}"
        raise Unsupported(
            f"{what} takes torch and torchvision, which are not installed: begin with an .npz of this project, with none, or "
            "pip install 'crossxai[torch]'"
        )
    return {name: values.numpy() for name, values in state_dict_of(weights).items()}


def into(encoder: nn.Module, weights: str | os.PathLike[str]) -> None:
    """Give an encoder all of a ResNet-18's weights but its last layer's.

    weights: a ResNet-18 checkpoint of this project (.npz), a state_dict (.pth, .pt; read without running code from it), or
    "imagenet" for torchvision's, downloaded once. A first convolution for three channels becomes the sum over them, which is
    what a grey image in all three would meet. Raises `InvalidFile` if the file holds no ResNet-18, or cannot be had.
    """
    held = state_dict_of(weights)
    given = {name: values for name, values in held.items() if not name.startswith("fc.")}
    if "conv1.weight" in given and given["conv1.weight"].ndim == 4:
        given["conv1.weight"] = given["conv1.weight"].sum(1, keepdim=True)
    own = {name: values for name, values in encoder.state_dict().items() if not name.startswith("fc.")}
    wrong = [name for name, values in own.items() if name not in given or given[name].shape != values.shape]
    if wrong or set(given) - set(own):
        named = (wrong or sorted(set(given) - set(own)))[0]
        raise InvalidFile(f"{weights}: not the weights of a ResNet-18 (look at {named!r})")
    encoder.load_state_dict(given, strict=False)


def state_dict_of(weights: str | os.PathLike[str]) -> dict[str, Tensor]:
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
        weights: dict[str, Tensor] = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise InvalidFile(
            f"torchvision's ImageNet weights cannot be had ({error}): name a file of ResNet-18 weights, or train without any"
        ) from error
    return weights


def _read(path: Path) -> dict[str, Tensor]:
    import torch
    from torch import Tensor

    if path.suffix == ".npz":
        return {name: torch.from_numpy(values.copy()) for name, values in checkpoint.read(path).weights.items()}
    if path.suffix not in (".pth", ".pt"):
        raise InvalidInput(f"weights are an .npz, .pth or .pt file, or {IMAGENET!r}; got {str(path)!r}")
    try:
        values: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InvalidFile(f"{path}: no such file") from error
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [""])[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's advice is to load it unsafely
            reason = "write one with torch.save(network.state_dict(), FILE)"
        raise InvalidFile(f"{path}: not a file of plain tensors ({reason})") from error
    if not isinstance(values, dict) or not all(isinstance(v, Tensor) for v in values.values()):
        raise InvalidFile(f"{path}: holds no state_dict of tensors")
    return values

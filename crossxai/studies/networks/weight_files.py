"""Weights in files: a trained model in one `.npz` that every framework can read, and what a ResNet-18 begins with.

A checkpoint is arrays under torch's names and a JSON string, no pickle; docs/file-format.md has the names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import math
import os
import pickle
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import numpy as np
import numpy.typing as npt

from crossxai.errors import DAMAGED_NPZ, InvalidFile, InvalidInput, Unsupported, install_command
from crossxai.files.atomic import replacing

if TYPE_CHECKING:
    from torch import Tensor, nn


Weights = dict[str, npt.NDArray[Any]]

MeanSd = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

MEAN, SD, META = "standardise.mean", "standardise.sd", "meta"
ENDS = ("mean", "sd")


@dataclass(frozen=True)
class Checkpoint:
    """weights: torch's names → arrays. standardise: modality → (mean, sd), each (channels,). meta: what is known of it.
    digest: sha256 of the file."""

    weights: Weights
    standardise: dict[str, MeanSd]
    meta: dict[str, Any]
    digest: str

    @property
    def n_classes(self) -> int:
        """Width of the model's last layer: classes, or 1 of a score or a mask."""
        return int(self.meta["n_classes"])

    @property
    def mean(self) -> npt.NDArray[np.float32]:
        """Of the first modality, (channels,); `sd` likewise."""
        return next(iter(self.standardise.values()))[0]

    @property
    def sd(self) -> npt.NDArray[np.float32]:
        return next(iter(self.standardise.values()))[1]


def write(
    path: str | os.PathLike[str],
    weights: Mapping[str, npt.NDArray[Any]],
    mean: npt.ArrayLike,
    sd: npt.ArrayLike,
    meta: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a model of one image, "image"; see `write_modalities`."""
    return write_modalities(path, weights, {"": (mean, sd)}, meta)


def write_modalities(
    path: str | os.PathLike[str],
    weights: Mapping[str, npt.NDArray[Any]],
    standardise: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    meta: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a model, whole or not at all; standardise: modality → (mean, sd), in the model's order."""
    if not standardise:
        raise InvalidInput(
            "a checkpoint names mean and sd of every modality: zeros and ones if nothing is standardised"
        )
    target = Path(path)
    if target.suffix != ".npz":
        raise InvalidInput(f"a checkpoint is called something.npz, got {target.name!r}")
    if missing := {"architecture", "n_classes"} - set(meta):
        raise InvalidInput(f"the checkpoint's meta lacks {sorted(missing)}")
    arrays = {name: np.asarray(values) for name, values in weights.items()}
    for name, pair in standardise.items():
        stem = f"standardise.{name}" if name else "standardise"
        arrays |= {f"{stem}.{end}": np.asarray(v, np.float32) for end, v in zip(ENDS, pair, strict=True)}
    arrays[META] = np.array(json.dumps(dict(meta), sort_keys=True))
    with replacing(target) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return target


def read(path: str | os.PathLike[str], architecture: str | None = "resnet18") -> Checkpoint:
    """Read a checkpoint; raises `InvalidFile` if it is missing, truncated, or not one of this architecture (None: of any)."""
    source = Path(path)
    if not source.is_file():
        raise InvalidFile(
            f"{source}: no such file; crossxai.studies.training.fit writes a checkpoint, and so does `crossxai train`"
        )
    try:
        content = source.read_bytes()
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        arrays = {} if isinstance(archive, np.ndarray) else {name: archive[name] for name in archive.files}
    except DAMAGED_NPZ as error:
        reason = "it is something else" if "pickle" in str(error) else error  # NumPy's advice is to load it unsafely
        raise InvalidFile(f"{source}: not a whole .npz of plain arrays ({reason}); write it again") from error
    constants = {name: arrays.pop(name) for name in list(arrays) if name.startswith("standardise.")}
    missing = {META} - set(arrays) | ({MEAN, SD} - set(constants) if set(constants) <= {MEAN, SD} else set())
    if missing:
        raise InvalidFile(f"{source}: no {', '.join(sorted(missing))}: not a CrossXAI checkpoint")
    meta = _meta(source, arrays.pop(META))
    standardise = _standardise(source, constants)
    if architecture not in (None, meta["architecture"]):
        raise InvalidFile(f"{source}: holds architecture {meta['architecture']!r}, expected {architecture!r}")
    return Checkpoint(arrays, standardise, meta, hashlib.sha256(content).hexdigest())


def known(path: str | os.PathLike[str], checkpoint: Checkpoint, fusion: Iterable[str]) -> str:
    """The architecture of a checkpoint; raises `InvalidFile` unless it is a ResNet-18 or one of the fusion networks."""
    architecture = str(checkpoint.meta["architecture"])
    if architecture not in ("resnet18", *fusion):
        raise InvalidFile(f"{path}: holds architecture {architecture!r}; known are resnet18, {', '.join(fusion)}")
    return architecture


def finished(path: str | os.PathLike[str], identity: str) -> bool:
    """Whether this training's checkpoint is there; raises `InvalidFile` for a file that is no checkpoint and would be lost."""
    if not Path(path).exists():
        return False
    try:
        return bool(read(path, None).meta.get("identity") == identity)
    except InvalidFile as error:
        raise InvalidFile(f"{error}; it would be lost: write to another file, or delete it") from error


def _standardise(source: Path, constants: Mapping[str, npt.NDArray[Any]]) -> dict[str, MeanSd]:
    """modality → (mean, sd), in the file's order; the image of a ResNet-18 is called "image"."""
    pairs: dict[str, MeanSd] = {}
    single = set(constants) == {MEAN, SD}
    for stem in dict.fromkeys(name.rpartition(".")[0] for name in constants):
        mean, sd = (np.asarray(constants.get(f"{stem}.{end}", np.nan)) for end in ENDS)
        fits = mean.shape == sd.shape == ((3,) if single else (mean.size,))
        numbers = all(np.issubdtype(v.dtype, np.number) and np.isfinite(v).all() for v in (mean, sd))
        if not (fits and numbers and (sd > 0).all()):
            size = "three" if single else "equally many"
            raise InvalidFile(
                f"{source}: {stem}.mean and {stem}.sd must be {size} finite numbers, sd positive; got {mean}, {sd}"
            )
        name = stem.removeprefix("standardise").removeprefix(".") or "image"
        pairs[name] = mean.astype(np.float32), sd.astype(np.float32)
    return pairs


def _meta(source: Path, values: npt.NDArray[Any]) -> dict[str, Any]:
    try:
        meta = json.loads(str(values[()])) if values.dtype.kind == "U" and values.ndim == 0 else None
    except ValueError as error:
        raise InvalidFile(f"{source}: its meta is not JSON ({error})") from error
    if not isinstance(meta, dict) or not {"architecture", "n_classes"} <= set(meta):
        raise InvalidFile(f"{source}: its meta must be a JSON object with architecture and n_classes")
    if not isinstance(meta["n_classes"], int) or meta["n_classes"] < 1:
        raise InvalidFile(f"{source}: n_classes must be a whole number of at least 1, got {meta['n_classes']!r}")
    return meta


IMAGENET = "imagenet"
WIDTHS = (64, 128, 256, 512)

IMAGENET_MEAN_SD: MeanSd = (np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32))
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
        for name in (f"layer{stage}.0", f"layer{stage}.1"):
            for number, channels in ((1, before), (2, width)):
                conv(f"{name}.conv{number}", width, channels, 3)
                norm(f"{name}.bn{number}", width)
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
        checkpoint = read(weights)
        given, constants = checkpoint.weights, (checkpoint.mean, checkpoint.sd)
    else:
        given, constants = _of_torch(weights), IMAGENET_MEAN_SD
    needed = [name for name in own if not name.startswith("fc.") and not name.endswith("num_batches_tracked")]
    _check(weights, given, own, needed)
    return own | {name: np.asarray(given[name], np.float32) for name in needed}, constants


def content(weights: str) -> bytes:
    """The file of weights to begin with, whole; empty for none and for torchvision's. Raises `InvalidFile`."""
    if weights in ("", IMAGENET):
        return b""
    try:
        return Path(weights).read_bytes()
    except OSError as error:
        raise InvalidFile(
            f"{weights}: no weights to read there ({error.strerror}); name an .npz of this project or a .pth, or {IMAGENET!r}"
        ) from error


def _of_torch(weights: str) -> Weights:
    _check_name(weights)
    if any(importlib.util.find_spec(package) is None for package in ("torch", "torchvision")):
        purpose = "torchvision's ImageNet weights" if weights == IMAGENET else f"reading {weights}"
        raise Unsupported(
            f"{purpose} takes torch and torchvision, which are not installed: begin with an .npz of this project, with none, or "
            f"{install_command('torch')}"
        )
    return {name: values.numpy() for name, values in _state_dict(weights).items()}


def into(encoder: nn.Module, weights: str | os.PathLike[str]) -> None:
    """Give an encoder all of a ResNet-18's weights but its last layer's.

    weights: a ResNet-18 checkpoint of this project (.npz), a state_dict (.pth, .pt; read without running code from it), or
    "imagenet" for torchvision's, downloaded once. A first convolution for three channels becomes the sum over them, which is
    what a grey image in all three would meet. Raises `InvalidFile` if the file holds no ResNet-18, or cannot be had.
    """
    given = {name: values for name, values in _state_dict(str(weights)).items() if not name.startswith("fc.")}
    if "conv1.weight" in given and given["conv1.weight"].ndim == 4:
        given["conv1.weight"] = given["conv1.weight"].sum(1, keepdim=True)
    own = encoder.state_dict()
    _check(weights, given, own, [name for name in own if not name.startswith("fc.")])
    encoder.load_state_dict(given, strict=False)


def _check(weights: object, given: Mapping[str, Any], own: Mapping[str, Any], needed: list[str]) -> None:
    """Raise `InvalidFile` where the given arrays lack a needed one, or hold one that the network has not."""
    wrong = [name for name in needed if name not in given or given[name].shape != own[name].shape]
    if wrong := wrong or sorted(set(given) - set(own)):
        raise InvalidFile(f"{weights}: not the weights of a ResNet-18 (look at {wrong[0]!r})")


def _check_name(weights: str) -> None:
    if weights != IMAGENET and Path(weights).suffix not in (".pth", ".pt"):
        raise InvalidInput(f"weights are an .npz, .pth or .pt file, or {IMAGENET!r}; got {weights!r}")


def _state_dict(weights: str) -> dict[str, Tensor]:
    """The state_dict of a file or of ImageNet, as `into` takes them."""
    import torch
    from torch import Tensor
    from torchvision.models import ResNet18_Weights

    if weights == IMAGENET:
        try:
            imagenet: dict[str, Tensor] = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        except (URLError, OSError, RuntimeError) as error:
            raise InvalidFile(
                f"torchvision's ImageNet weights cannot be had ({error}): name a file of ResNet-18 weights, or train without any"
            ) from error
        return imagenet
    if Path(weights).suffix == ".npz":
        return {name: torch.from_numpy(values.copy()) for name, values in read(weights).weights.items()}
    _check_name(weights)
    try:
        values: Any = torch.load(weights, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InvalidFile(f"{weights}: no such file") from error
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [""])[0]
        if isinstance(error, pickle.UnpicklingError):  # torch's advice is to load it unsafely
            reason = "write one with torch.save(network.state_dict(), FILE)"
        raise InvalidFile(f"{weights}: not a file of plain tensors ({reason})") from error
    if not isinstance(values, dict) or not all(isinstance(v, Tensor) for v in values.values()):
        raise InvalidFile(f"{weights}: holds no state_dict of tensors")
    return values

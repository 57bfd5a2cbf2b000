"""A trained model in one `.npz` that every framework can read: NumPy arrays and a JSON string, no pickle.

Content: the arrays of torch's state_dict under torch's names; what the adapter standardises each modality by, float32
(channels,): `standardise.<modality>.mean` and `.sd`, or `standardise.mean` and `standardise.sd` (3,) for the RGB image of a
ResNet-18; `meta`, a JSON object as a 0-d string: architecture, n_classes, metrics, settings, fingerprint of the training data.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import DAMAGED_NPZ, InvalidFile, InvalidInput
from crossxai.files.atomic import replacing

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
        """Of the first modality, (channels,)."""
        return next(iter(self.standardise.values()))[0]

    @property
    def sd(self) -> npt.NDArray[np.float32]:
        """Of the first modality, (channels,)."""
        return next(iter(self.standardise.values()))[1]


def write(
    path: str | os.PathLike[str],
    weights: Mapping[str, npt.NDArray[Any]],
    mean: npt.ArrayLike,
    sd: npt.ArrayLike,
    meta: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a model of one image, "image"; `path` never holds half of one.

    meta must hold "architecture" and "n_classes".
    """
    return _write(path, weights, {MEAN: mean, SD: sd}, meta)


def write_modalities(
    path: str | os.PathLike[str],
    weights: Mapping[str, npt.NDArray[Any]],
    standardise: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    meta: Mapping[str, Any],
) -> Path:
    """Write the checkpoint of a model of several modalities: name → (mean, sd), in the model's order."""
    if not standardise:
        raise InvalidInput(
            "a checkpoint names mean and sd of every modality: zeros and ones if nothing is standardised"
        )
    constants = {
        f"standardise.{name}.{end}": v for name, pair in standardise.items() for end, v in zip(ENDS, pair, strict=True)
    }
    return _write(path, weights, constants, meta)


def _write(
    path: str | os.PathLike[str],
    weights: Mapping[str, npt.NDArray[Any]],
    constants: Mapping[str, npt.ArrayLike],
    meta: Mapping[str, Any],
) -> Path:
    target = Path(path)
    if target.suffix != ".npz":
        raise InvalidInput(f"a checkpoint is called something.npz, got {target.name!r}")
    missing = {"architecture", "n_classes"} - set(meta)
    if missing:
        raise InvalidInput(f"the checkpoint's meta lacks {sorted(missing)}")
    arrays = {name: np.asarray(values) for name, values in weights.items()}
    arrays |= {name: np.asarray(values, np.float32) for name, values in constants.items()}
    arrays[META] = np.array(json.dumps(dict(meta), sort_keys=True))
    target.parent.mkdir(parents=True, exist_ok=True)
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


def finished(path: str | os.PathLike[str], identity: str) -> bool:
    """Whether the checkpoint of the training of this identity is there; raises `InvalidFile` for a file that is no checkpoint
    and would be lost."""
    if not Path(path).exists():
        return False
    try:
        return bool(read(path, None).meta.get("identity") == identity)
    except InvalidFile as error:
        raise InvalidFile(f"{error}; it would be lost: write to another file, or delete it") from error


def _standardise(source: Path, constants: Mapping[str, npt.NDArray[Any]]) -> dict[str, MeanSd]:
    """modality → (mean, sd), in the file's order; the image of a ResNet-18 is called "image"."""
    constants_by_name: dict[str, MeanSd] = {}
    single = set(constants) == {MEAN, SD}
    for stem in dict.fromkeys(name.rpartition(".")[0] for name in constants):
        pair = [np.asarray(constants.get(f"{stem}.{end}", np.nan)) for end in ENDS]
        fits = pair[0].shape == pair[1].shape == ((3,) if single else (pair[0].size,))
        if (
            not fits
            or not all(np.issubdtype(v.dtype, np.number) and np.isfinite(v).all() for v in pair)
            or (pair[1] <= 0).any()
        ):
            size = "three" if single else "equally many"
            raise InvalidFile(
                f"{source}: {stem}.mean and {stem}.sd must be {size} finite numbers, sd positive; got {pair[0]}, {pair[1]}"
            )
        constants_by_name[stem.removeprefix("standardise").removeprefix(".") or "image"] = (
            pair[0].astype(np.float32),
            pair[1].astype(np.float32),
        )
    return constants_by_name


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

"""A trained model in one `.npz` that every framework can read: NumPy arrays and a JSON string, no pickle.

Content: the arrays of torch's state_dict under torch's names; `standardise.mean` and `standardise.sd`, float32 (3,), which
the adapter applies to RGB in [0, 1]; `meta`, a JSON object as a 0-d string: architecture, n_classes, metrics, settings,
fingerprint of the training data.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.atomic import replacing
from crossxai.errors import InvalidFile, InvalidInput

Weights = dict[str, npt.NDArray[Any]]

MEAN, SD, META = "standardise.mean", "standardise.sd", "meta"


@dataclass(frozen=True)
class Checkpoint:
    """weights: torch's names → arrays. mean, sd (3,) per channel. meta: what is known of it. digest: sha256 of the file."""

    weights: Weights
    mean: npt.NDArray[np.float32]
    sd: npt.NDArray[np.float32]
    meta: dict[str, Any]
    digest: str

    @property
    def n_classes(self) -> int:
        """Number of classes of the model's last layer."""
        return int(self.meta["n_classes"])


def write(
    path: str | os.PathLike[str],
    weights: Mapping[str, npt.NDArray[Any]],
    mean: npt.ArrayLike,
    sd: npt.ArrayLike,
    meta: Mapping[str, Any],
) -> Path:
    """Write a checkpoint; `path` never holds half of one. meta must hold "architecture" and "n_classes"."""
    target = Path(path)
    if target.suffix != ".npz":
        raise InvalidInput(f"a checkpoint is called something.npz, got {target.name!r}")
    missing = {"architecture", "n_classes"} - set(meta)
    if missing:
        raise InvalidInput(f"the checkpoint's meta lacks {sorted(missing)}")
    arrays = {name: np.asarray(values) for name, values in weights.items()}
    arrays[MEAN], arrays[SD] = np.asarray(mean, np.float32), np.asarray(sd, np.float32)
    arrays[META] = np.array(json.dumps(dict(meta), sort_keys=True))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return target


def read(path: str | os.PathLike[str], architecture: str = "resnet18") -> Checkpoint:
    """Read a checkpoint; raises `InvalidFile` if it is missing, truncated, or not a checkpoint of this architecture."""
    source = Path(path)
    if not source.is_file():
        raise InvalidFile(f"{source}: no such file; crossxai.training.fit writes a checkpoint")
    try:
        content = source.read_bytes()
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        arrays = {} if isinstance(archive, np.ndarray) else {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidFile(f"{source}: not a whole .npz of plain arrays ({error}); write it again") from error
    missing = {MEAN, SD, META} - set(arrays)
    if missing:
        raise InvalidFile(f"{source}: no {', '.join(sorted(missing))}: not a CrossXAI checkpoint")
    mean, sd, meta = arrays.pop(MEAN), arrays.pop(SD), _meta(source, arrays.pop(META))
    if mean.shape != (3,) or sd.shape != (3,) or not (np.isfinite(mean).all() and (sd > 0).all()):
        raise InvalidFile(f"{source}: {MEAN} and {SD} must be three finite numbers, sd positive; got {mean}, {sd}")
    if meta["architecture"] != architecture:
        raise InvalidFile(f"{source}: holds architecture {meta['architecture']!r}, expected {architecture!r}")
    digest = hashlib.sha256(content).hexdigest()
    return Checkpoint(arrays, mean.astype(np.float32), sd.astype(np.float32), meta, digest)


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

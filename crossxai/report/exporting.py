"""Maps for other programs: NumPy's .npz, pictures, and NIfTI volumes."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossxai.errors import InvalidInput, UnknownName
from crossxai.files import writable_folder
from crossxai.files.atomic import replacing
from crossxai.model import Array
from crossxai.process import require

if TYPE_CHECKING:
    from crossxai.attribution import Attribution

NIFTI = (".nii", ".nii.gz")
MM = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Where voxels of NIfTI lie unless that is told, as maps know no positions: 1 mm apart, x to the left and y to the back."""


def export(attribution: Attribution, path: Path, kind: str, affine: Any = None) -> Path:
    """Write maps in a format of others; see `Attribution.export`."""
    writers: dict[str, Callable[[Attribution, Path], None]]
    writers = {"npz": _npz, "png": _pngs, "nifti": partial(_niftis, affine=affine)}
    named = path.name.lower().endswith(NIFTI)
    chosen = kind or ("npz" if path.suffix == ".npz" else "nifti" if named or attribution.spaces else "png")
    if chosen not in writers:
        raise UnknownName("kind of export", kind, writers)
    if not kind and chosen != "npz" and path.suffix and not named:
        raise InvalidInput(
            f"{path.name} does not say what to write: end it with .npz or .nii.gz, or name a folder and its kind; save writes .h5"
        )
    if affine is not None and chosen != "nifti":
        raise InvalidInput(f"affine says where the voxels of NIfTI lie; {chosen!r} has none")
    writers[chosen](attribution, path)
    return path


def _npz(attribution: Attribution, path: Path) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {"ids": np.array(attribution.ids), **attribution.maps}
        np.savez_compressed(file, **arrays)


def _pngs(attribution: Attribution, folder: Path) -> None:
    from crossxai.report.plots import plot_map

    writable_folder(folder)
    inputs = attribution.inputs or (None,) * len(attribution.values)
    for modality, values, given in zip(attribution.modalities, attribution.values, inputs, strict=True):
        for row, name in enumerate(_file_names(attribution, modality.name)):
            image = None if given is None else given[row]
            known = attribution.spaces.get(modality.name)
            space = None if known is None else known[row]
            figure = plot_map(values[row], image, modality, title=attribution.ids[row], space=space)
            with replacing(folder / f"{name}.png") as temporary:
                figure.savefig(temporary, format="png", dpi=150)


def picture_names(attribution: Attribution) -> list[str]:
    """The names of the files that pictures of these maps have."""
    return [f"{name}.png" for m in attribution.modalities for name in _file_names(attribution, m.name)]


def _niftis(attribution: Attribution, folder: Path, affine: Any) -> None:
    nibabel = require("nibabel", "medical", "a NIfTI file")
    spatial = [(m, v) for m, v in zip(attribution.modalities, attribution.values, strict=True) if m.kind != "table"]
    if not spatial:
        raise InvalidInput("NIfTI files hold images and volumes; these maps are of tables")
    if affine is not None and attribution.spaces:
        raise InvalidInput("these maps are of scans in files, which say where their voxels lie: leave affine out")
    known = MM if affine is None else np.asarray(affine, float)
    if known.shape not in ((4, 4), (len(attribution), 4, 4)):
        raise InvalidInput(
            f"affine has shape (4, 4), or one for each of the {len(attribution)} samples; got {known.shape}"
        )
    affines = np.broadcast_to(known, (len(attribution), 4, 4))
    alone = folder.name.lower().endswith(NIFTI)
    if alone and (len(attribution) > 1 or len(spatial) > 1):
        raise InvalidInput(f"{folder.name} is one file, and these are {len(attribution)} samples' maps: name a folder")
    writable_folder(folder.parent if alone else folder)
    for modality, values in spatial:
        for row, name in enumerate(_file_names(attribution, modality.name)):
            given, place = _xyz(values[row]), affines[row]
            if modality.name in attribution.spaces:
                space = attribution.spaces[modality.name][row]
                given, place = _plain(space.in_file(values[row])), space.affine
            image = nibabel.Nifti1Image(given, place)
            image.header.set_xyzt_units("mm")
            content = image.to_bytes()
            path = folder if alone else folder / f"{name}.nii.gz"
            with replacing(path) as temporary:
                temporary.write_bytes(content if path.suffix == ".nii" else gzip.compress(content, mtime=0))


def _xyz(values: Array) -> Array:
    """A map ([z,] y, x, channels) in NIfTI's order, x, y, z and channels unless there is one."""
    ordered = np.moveaxis(values, range(values.ndim - 1), range(values.ndim - 2, -1, -1))
    if values.ndim == 3:
        ordered = ordered[:, :, None]
    return _plain(ordered)


def _plain(values: Array) -> Array:
    """Without an axis for one channel, in float32, as viewers read it."""
    return np.ascontiguousarray(values[..., 0] if values.shape[-1] == 1 else values, np.float32)


def _file_names(attribution: Attribution, modality: str) -> list[str]:
    """A name per sample that every file system takes: its place, its own, and its modality where there are several."""
    several = f"_{modality}" if len(attribution.modalities) > 1 else ""
    plain = [re.sub(r"[^\w.@+-]+", "_", f"{name}{several}")[:100] for name in attribution.ids]
    return [f"{row:03d}_{name}" for row, name in enumerate(plain)]

"""Scans in files: NIfTI with any axes, and DICOM series of slices that pydicom writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from pydicom.data import get_testdata_file

from crossxai.model import Array

SECRET = "Ophelia^Quillfeather"
"""A name that is in no word of ours."""


def write_nifti(path: Path, values: Any, affine: Any = None, **header: Any) -> Path:
    image = nibabel.Nifti1Image(np.asarray(values), np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def oblique(spacing: tuple[float, float, float] = (2.0, 3.0, 4.0), degrees: float = 20) -> Array:
    """An affine turned about the z axis, whose first axis runs to the left and whose last one to the feet."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-spacing[0], spacing[1], -spacing[2]])
    affine[:3, 3] = 11, -7, 30
    return affine


def write_series(
    folder: Path, values: Array, *, step: float = 2.5, tilt: float = 0.0, secret: bool = False, **tags: Any
) -> list[Path]:
    """CT slices of values (z, y, x), whole numbers, in files whose names and numbers do not tell their order; stored as
    (value + 1024) / 2 with the rescale slope 2 and intercept -1024."""
    folder.mkdir(parents=True, exist_ok=True)
    uid, paths = pydicom.uid.generate_uid(), []
    for number, plane in enumerate(values):
        slice_ = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
        slice_.Rows, slice_.Columns = plane.shape
        slice_.PixelData = ((plane + 1024) // 2).astype(np.int16).tobytes()
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, -1024
        slice_.PixelSpacing, slice_.ImageOrientationPatient = [0.5, 0.8], [1, 0, 0, 0, 1, 0]
        slice_.ImagePositionPatient = [-10.0, -20.0 + tilt * number, 40.0 + step * number]
        slice_.SeriesInstanceUID, slice_.SOPInstanceUID = uid, pydicom.uid.generate_uid()
        slice_.InstanceNumber = 77  # the same in all: it is not asked
        for key in ("WindowCenter", "WindowWidth"):
            if key in slice_:
                delattr(slice_, key)
        if secret:
            plant(slice_)
        for key, value in tags.items():
            setattr(slice_, key, value)
        paths.append(folder / f"{(number * 11) % len(values):03d}")
        slice_.save_as(paths[-1])
    return paths


def plant(slice_: Any) -> None:
    """A person's name wherever DICOM may hold one."""
    for key in (
        "PatientName",
        "PatientID",
        "InstitutionName",
        "SeriesDescription",
        "StudyDescription",
        "OtherPatientNames",
    ):
        setattr(slice_, key, SECRET)
    for key in (
        "ReferringPhysicianName",
        "OperatorsName",
        "PatientComments",
        "ProtocolName",
        "ImageComments",
    ):
        setattr(slice_, key, SECRET)
    block = slice_.private_block(0x0029, SECRET, create=True)
    block.add_new(0x10, "LO", SECRET)
    slice_.file_meta.ImplementationVersionName = SECRET[:16]

"""Scans in NIfTI and DICOM files: where voxels lie, what values they have, and where maps of them go back to."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from documented import ROOT, commands, followed
from experiments import crossxai
from networks import scans
from networks.scan_files import SECRET, oblique, write_nifti, write_series
from pydicom.data import get_testdata_file
from torch import nn

import crossxai as xai
from crossxai import InvalidFile, InvalidInput, Modality
from crossxai.adapters.numpy import FunctionModel
from crossxai.data import arrays
from crossxai.files.spaces import Space

DATA = Path(nibabel.__file__).parent / "tests" / "data"
CT = Modality.volume("ct", ("hu",), range=None)


def model(modality: Modality = CT, **declared: Any) -> Any:
    """Any function of volumes, wrapped with what is declared of scans."""
    return xai.wrap(lambda v: v.reshape(len(v), -1).mean(axis=1, keepdims=True), modalities=[modality], **declared)


def read(path: Any, **declared: Any) -> arrays.Batch:
    return arrays.read(model(**declared), path)


def values_of(batch: arrays.Batch) -> Any:
    return batch.inputs[0][..., 0]


def given(shape: tuple[int, ...] = (5, 6, 7), seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_nifti_file_is_turned_and_its_maps_go_back(tmp_path: Path) -> None:
    """By hand: the file's first axis runs to the left, its second to the front, its third to the feet."""
    voxels, affine = given(), oblique()
    path = write_nifti(tmp_path / "scan.nii.gz", voxels, affine)
    batch = read(path)
    assert values_of(batch).shape == (1, 7, 6, 5)
    # LPS: x to the left is axis 0 as it is, y to the back is axis 1 mirrored, z to the head is axis 2 mirrored.
    assert values_of(batch)[0, 1, 2, 3] == voxels[3, 5 - 2, 6 - 1]
    assert batch.ids == ("scan",)
    assert any("turned to LPS (z, y, x): x to the left, y to the back, z to the head" in note for note in batch.notes)
    assert any("up to 20° askew" in note for note in batch.notes)
    assert any("4 × 3 × 2 mm" in note for note in batch.notes)
    maps = xai.explain(model(), path, "controls.edges")
    marked = np.zeros((1, 7, 6, 5, 1), np.float32)
    marked[0, 1, 2, 3] = 5
    back = nibabel.load(replaced(maps, marked).export(tmp_path / "map.nii.gz"))
    np.testing.assert_array_equal(back.affine, nibabel.load(path).affine)
    assert back.shape == voxels.shape
    assert np.argwhere(back.get_fdata() == 5).tolist() == [[3, 3, 5]]
    # The same millimetres, computed by nibabel from either file.
    place = nibabel.affines.apply_affine(back.affine, [3, 3, 5])
    expected = affine[:3, :3] @ [3, 3, 5] + affine[:3, 3]
    np.testing.assert_allclose(place, expected, rtol=1e-5)


def replaced(maps: xai.Attribution, values: Any) -> xai.Attribution:
    from dataclasses import replace

    return replace(maps, values=(values,))


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "SAL", "file"])
@pytest.mark.parametrize("axes", ["LAI", "PIR", "RAS", "SRA"])
def test_any_axes_there_and_back(tmp_path: Path, orientation: str, axes: str) -> None:
    """Turned as nibabel turns, and back without a trace."""
    voxels = given((3, 4, 5))
    turn = nibabel.orientations
    ornt = turn.ornt_transform(turn.axcodes2ornt(tuple("RAS")), turn.axcodes2ornt(tuple(axes)))
    affine = np.diag([1.5, 2, 3, 1]) @ turn.inv_ornt_aff(ornt, (3, 4, 5))
    assert "".join(nibabel.aff2axcodes(affine)) == axes
    path = write_nifti(tmp_path / "a.nii", voxels, affine)
    batch = read(path, orientation=orientation)
    wanted = axes if orientation == "file" else orientation
    own = turn.ornt_transform(turn.io_orientation(affine), turn.axcodes2ornt(tuple(wanted)))
    expected = turn.apply_orientation(voxels, own).transpose(2, 1, 0)
    np.testing.assert_array_equal(values_of(batch)[0], expected)
    (space,) = batch.spaces["ct"]
    np.testing.assert_array_equal(space.in_file(batch.inputs[0][0])[..., 0], voxels)
    assert space.orientation == wanted
    spacing = np.array(nibabel.affines.voxel_sizes(affine @ turn.inv_ornt_aff(own, (3, 4, 5))))[::-1]
    np.testing.assert_allclose(space.spacing, spacing)


def test_files_that_nibabel_brings() -> None:
    """Real headers: a scale in the file, four dimensions, an orientation of its own."""
    path = DATA / "anatomical.nii"
    image = nibabel.load(path)
    batch = read(path, orientation="RAS")
    expected = nibabel.as_closest_canonical(image).get_fdata(dtype=np.float32).transpose(2, 1, 0)
    np.testing.assert_array_equal(values_of(batch)[0], expected)
    with pytest.raises(InvalidInput, match=r"example4d.nii.gz holds 2 volumes, and 'ct' takes 1 channels"):
        read(DATA / "example4d.nii.gz")
    two = Modality.volume("ct", ("first", "second"), range=None)
    four = arrays.read(
        xai.wrap(lambda v: v[:, 0, 0, 0], modalities=[two], orientation="file"), DATA / "example4d.nii.gz"
    )
    own = nibabel.load(DATA / "example4d.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(four.inputs[0][0], own.transpose(2, 1, 0, 3))


def test_the_scale_of_a_file_is_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "scaled.nii.gz")
    stored = nibabel.load(tmp_path / "scaled.nii.gz").get_fdata()
    assert stored.max() != 23
    np.testing.assert_allclose(values_of(read(tmp_path / "scaled.nii.gz", orientation="file"))[0], stored.T)


def test_another_size_is_declared(tmp_path: Path) -> None:
    """Trilinear as torch has it; the map is brought back to the scan's own voxels, and its affine is the file's."""
    voxels, affine = given((8, 9, 10)), oblique()
    path = write_nifti(tmp_path / "scan.nii.gz", voxels, affine)
    write_nifti(tmp_path / "small.nii.gz", given((4, 5, 6)), affine)
    with pytest.raises(InvalidInput, match=r"different sizes .* write size=\(z, y, x\) in wrap"):
        read(tmp_path)
    batch = read(path, size=(5, 6, 4))
    whole = torch.from_numpy(values_of(read(path))[None])
    smaller = nn.functional.interpolate(whole, (5, 6, 4), mode="trilinear", align_corners=False)[0, 0].numpy()
    np.testing.assert_allclose(values_of(batch)[0], smaller, atol=1e-6)
    assert any("of 10 × 9 × 8 voxels were resampled trilinearly to 5 × 6 × 4" in note for note in batch.notes)
    maps = xai.explain(model(size=(5, 6, 4)), path, "controls.edges")
    back = nibabel.load(maps.export(tmp_path / "map.nii.gz"))
    assert back.shape == (8, 9, 10)
    np.testing.assert_array_equal(back.affine, nibabel.load(path).affine)
    larger = nn.functional.interpolate(
        torch.from_numpy(maps.values[0][None, ..., 0]), (10, 9, 8), mode="trilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(back.get_fdata(dtype=np.float32), larger[::-1, ::-1].transpose(2, 1, 0), atol=1e-6)


def test_values_are_brought_to_the_range_as_declared(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "ct.nii.gz", np.array([-1000, -160, 40, 240, 3000], np.int16).reshape(5, 1, 1))
    unit = Modality.volume("ct", ("hu",))
    with pytest.raises(InvalidInput, match=r"holds -1000 to 3000, and 'ct' takes 0 to 1: write levels=\(low, high\)"):
        read(path, modality=unit)
    cut = read(path, modality=unit, levels=(-160, 240), orientation="RAS")
    np.testing.assert_allclose(values_of(cut).ravel(), [0, 0, 0.5, 1, 1])
    own = read(path, modality=unit, levels="scan", orientation="RAS")
    np.testing.assert_allclose(values_of(own).ravel(), [0, 0.21, 0.26, 0.31, 1])
    assert values_of(read(path)).min() == -1000
    for wrong in ((1, 0), "file", (1,)):
        with pytest.raises(InvalidInput, match="levels are"):
            model(levels=wrong)
    for wrong in ("LRP", "XYZ", "lps"):
        with pytest.raises(InvalidInput, match="orientation says to which side"):
            model(orientation=wrong)


def test_a_mask_lies_beside_its_scan(tmp_path: Path) -> None:
    """Whatever axes it has; one that lies elsewhere is refused."""
    voxels, affine = given(), oblique()
    marks = (voxels > 1).astype(np.uint8) * 4
    write_nifti(tmp_path / "a.nii.gz", voxels, affine)
    mirrored = affine @ nibabel.orientations.inv_ornt_aff([[0, -1], [1, 1], [2, 1]], (5, 6, 7))
    write_nifti(tmp_path / "a_mask.nii.gz", marks[::-1], mirrored)
    write_nifti(tmp_path / "b.nii.gz", voxels, affine)
    batch = read(tmp_path)
    assert batch.ids == ("a", "b")
    assert batch.masks is not None
    np.testing.assert_array_equal(batch.masks[0], values_of(batch)[0] > 1)
    assert not batch.masks[1].any()
    assert "1 of 2 scans have no mask" in batch.notes
    small = read(tmp_path, size=(4, 3, 5))
    assert small.masks is not None
    np.testing.assert_array_equal(small.masks[0], batch.masks[0][np.ix_([0, 2, 4, 6], [1, 3, 5], [0, 1, 2, 3, 4])])
    write_nifti(tmp_path / "b_mask.nii", marks)
    with pytest.raises(InvalidInput, match=r"b_mask.nii lies elsewhere than its scan: .* mm apart; resample"):
        read(tmp_path / "b.nii.gz")
    batch = read(tmp_path)
    ((name, reason),) = batch.left_out  # one bad scan is a row, and the others are read
    assert name == "b"
    assert reason.startswith("b_mask.nii lies elsewhere")
    assert batch.ids == ("a",)


def test_a_table_names_scans_labels_and_masks(tmp_path: Path) -> None:
    """The columns of a CSV file, a folder of masks, and `xai.Files`, as of pictures."""
    (tmp_path / "marks").mkdir()
    for name in ("a", "b", "c"):
        write_nifti(tmp_path / f"{name}.nii.gz", given(seed=ord(name)), oblique())
        write_nifti(tmp_path / "marks" / f"{name}.nii.gz", (given(seed=ord(name)) > 0).astype(np.uint8), oblique())
    write_series(tmp_path / "series", given((7, 6, 5)).astype(int) * 2)
    for files in (xai.Files(tmp_path, masks="marks"), xai.Files(tmp_path, masks=str(tmp_path / "marks" / "{}.nii.gz"))):
        batch = read(files if "{}" in str(files.masks) else xai.Files(tmp_path, masks=tmp_path / "marks"))
        assert batch.ids == ("a", "b", "c")
        assert batch.masks is not None
        np.testing.assert_array_equal(batch.masks, values_of(batch) > 0)
    lines = ["file,label,mask", "c.nii.gz,ill,marks/c.nii.gz", "lost.nii.gz,ill,", "series,well,", "a.nii.gz,well,"]
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    batch = read(xai.Files(tmp_path / "table.csv", masks="mask"))
    assert batch.ids == ("c", "series", "a")
    assert batch.label_names == ("ill", "well", "well")
    assert [name for name, _ in batch.left_out] == ["lost.nii.gz"]
    assert batch.masks is not None
    np.testing.assert_array_equal(batch.masks.any(axis=(1, 2, 3)), [True, False, False])
    with pytest.raises(InvalidInput, match="missing say nothing of scans"):
        read(xai.Files(tmp_path, missing="mean"))


def hounsfield(shape: tuple[int, int, int] = (6, 5, 4)) -> Any:
    return 2 * np.random.default_rng(3).integers(-500, 500, shape)


def test_a_series_is_a_volume(tmp_path: Path) -> None:
    """Sorted by position, rescaled, in the patient's directions; the same scan as NIfTI gives the same array."""
    values = hounsfield()
    write_series(tmp_path / "ct", values)
    batch = read(tmp_path / "ct")
    np.testing.assert_array_equal(values_of(batch)[0], values)
    assert batch.ids == ("series 1",)
    (space,) = batch.spaces["ct"]
    assert space.spacing == (2.5, 0.5, 0.8)
    # Slice 2, row 3, column 1, in millimetres to the left and back by hand, and to the right and front in NIfTI.
    np.testing.assert_allclose(space.affine @ [1, 3, 2, 1], [10 - 0.8, 20 - 1.5, 40 + 5, 1])
    write_nifti(tmp_path / "ct.nii.gz", values.transpose(2, 1, 0).astype(np.int16), space.affine)
    np.testing.assert_array_equal(values_of(read(tmp_path / "ct.nii.gz")), values_of(batch))
    maps = xai.explain(model(), tmp_path / "ct", "controls.edges")
    assert [p.name for p in maps.export(tmp_path / "maps").iterdir()] == ["000_series_1.nii.gz"]
    back = nibabel.load(tmp_path / "maps" / "000_series_1.nii.gz")
    np.testing.assert_allclose(back.affine, space.affine, atol=1e-5)
    np.testing.assert_array_equal(back.get_fdata(dtype=np.float32).transpose(2, 1, 0), maps.values[0][0, ..., 0])


def test_the_window_of_a_series_is_applied_and_said(tmp_path: Path) -> None:
    values = hounsfield()
    write_series(tmp_path / "ct", values, WindowCenter=[40, 400], WindowWidth=[401, 2000])
    unit = Modality.volume("ct", ("hu",))
    batch = read(tmp_path / "ct", modality=unit)
    # DICOM PS3.3 C.11.2.1.2: c = 40, w = 401, linear.
    expected = np.clip((values - (40 - 0.5)) / (401 - 1) + 0.5, 0, 1)
    np.testing.assert_allclose(values_of(batch)[0], expected, atol=1e-6)
    assert "the window of the files was applied: -160.5 to 239.5" in batch.notes
    declared = read(tmp_path / "ct", modality=unit, levels=(-1000, 1000))
    np.testing.assert_allclose(values_of(declared)[0], (values + 1000) / 2000, atol=1e-6)


def test_folders_of_series_and_of_classes(tmp_path: Path) -> None:
    for number, name in enumerate(("c", "a", "b")):
        write_series(tmp_path / "all" / name, hounsfield() + 10 * number)
        write_series(tmp_path / "classes" / ("ill" if number else "well") / name, hounsfield())
        (tmp_path / "nifti" / ("ill" if number else "well")).mkdir(parents=True, exist_ok=True)
        write_nifti(tmp_path / "nifti" / ("ill" if number else "well") / f"{name}.nii.gz", given())
    batch = read(tmp_path / "all")
    assert batch.ids == ("series 1", "series 2", "series 3")
    np.testing.assert_array_equal(values_of(batch)[2], hounsfield())  # folder c comes last
    for folder in ("classes", "nifti"):
        batch = read(tmp_path / folder)
        assert batch.label_names == ("ill", "well", "ill")
        assert "labels are the names of the folders: ill, well" in batch.notes
    assert batch.ids == ("a", "c", "b")
    assert len(arrays.read(model(), tmp_path / "nifti" / "*" / "*.nii.gz", samples=2)) == 2


def test_series_that_are_no_volume_are_refused(tmp_path: Path) -> None:
    def refused(name: str, match: str, error: type[Exception] = InvalidInput) -> None:
        with pytest.raises(error, match=match) as raised:
            read(tmp_path / name)
        assert SECRET not in str(raised.value)

    values = hounsfield()
    paths = write_series(tmp_path / "gap", values)
    paths[2].unlink()
    refused("gap", "gap: slices 2 and 3 of 5 lie 5 mm apart, the others 2.5 mm: slices are missing")
    write_series(tmp_path / "mixed", values)
    for path in write_series(tmp_path / "other", values[:2]):
        path.rename(tmp_path / "mixed" / f"other{path.name}")
    refused("mixed", "mixed holds slices of 2 series: give each series a folder of its own")
    one = write_series(tmp_path / "twice", values)[0]
    (tmp_path / "twice" / "copy").write_bytes(one.read_bytes())
    refused("twice", "slices 1 and 2 of 7 lie at the same place")
    write_series(tmp_path / "single", values[:1])
    refused("single", "one slice, and a volume has several")
    write_series(tmp_path / "many", values, NumberOfFrames=3, PatientName=SECRET)
    refused("many", "holds several frames: convert it to NIfTI")
    write_series(tmp_path / "placeless", values, ImagePositionPatient=None, PatientName=SECRET)
    refused("placeless", "lacks ImagePositionPatient")
    write_series(tmp_path / "inverse", values, PhotometricInterpretation="MONOCHROME1")
    refused("inverse", "is not of the kind MONOCHROME2")
    write_series(tmp_path / "sizes", values)
    _changed(tmp_path / "sizes" / "000", Rows=4, PixelData=b"\0" * 32)
    refused("sizes", "slices of several sizes .4 × 4, 5 × 4.")
    write_series(tmp_path / "planes", values)
    _changed(tmp_path / "planes" / "000", ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    refused("planes", "slices of several planes")
    (tmp_path / "damaged").mkdir()
    whole = Path(get_testdata_file("CT_small.dcm", download=False)).read_bytes()
    (tmp_path / "damaged" / "a.dcm").write_bytes(whole[:5000])
    (tmp_path / "damaged" / "b.dcm").write_bytes(b"no DICOM")
    refused("damaged", "is no DICOM file|holds no readable pixels|damaged", InvalidFile)
    with pytest.raises(InvalidInput, match="is one slice of a series: name the folder"):
        read(get_testdata_file("CT_small.dcm", download=False))
    (tmp_path / "empty").mkdir()
    refused("empty", "holds no scan: NIfTI files")
    (tmp_path / "text.nii").write_text("no scan")
    refused("text.nii", "is no NIfTI file", InvalidFile)
    cut = write_nifti(tmp_path / "cut.nii.gz", given((30, 30, 30)))
    cut.write_bytes(cut.read_bytes()[:2000])
    refused("cut.nii.gz", "is a damaged NIfTI file", InvalidFile)
    flat = np.eye(4)
    flat[2, 2] = 0
    image = nibabel.Nifti1Image(given(), np.eye(4))
    image.header["sform_code"], image.header["qform_code"], image.header["srow_z"] = 1, 0, [0, 0, 0, 0]
    nibabel.save(image, tmp_path / "ok.nii")
    raw = bytearray((tmp_path / "ok.nii").read_bytes())
    raw[312:328] = bytes(16)  # srow_z
    (tmp_path / "flat.nii").write_bytes(raw)
    refused("flat.nii", "has an affine without volume", InvalidFile)


def _changed(path: Path, **tags: Any) -> None:
    import pydicom

    slice_ = pydicom.dcmread(path)
    for key, value in tags.items():
        setattr(slice_, key, value)
    slice_.save_as(path)


def test_a_series_that_is_left_out_does_not_tell_its_folder_s_name(tmp_path: Path) -> None:
    write_series(tmp_path / "a" / SECRET, hounsfield())
    write_series(tmp_path / "a" / f"{SECRET} again", hounsfield())[2].unlink()
    batch = read(tmp_path / "a")
    assert batch.ids == ("series 1",)
    assert batch.left_out[0].name == "series 2"
    assert batch.left_out[0].reason.startswith("series 2: slices 2 and 3 of 5 lie 5 mm apart")
    assert SECRET not in str((batch.left_out, batch.notes))


def test_a_tilted_series_keeps_its_shear(tmp_path: Path) -> None:
    """Slices of a tilted gantry shift from one to the next; the affine says so, and the map lies where the slices lay."""
    write_series(tmp_path / "ct", hounsfield(), tilt=0.4)
    (space,) = read(tmp_path / "ct").spaces["ct"]
    np.testing.assert_allclose(space.affine @ [0, 0, 5, 1], [10, 20 - 2.0, 40 + 12.5, 1])


def test_real_slices_of_pydicom(tmp_path: Path) -> None:
    """Each written as two slices one pixel apart: what pydicom reads of it, in Hounsfield units."""
    import pydicom

    for name in ("CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm"):
        slice_ = pydicom.dcmread(get_testdata_file(name, download=False))
        expected = slice_.pixel_array * float(slice_.get("RescaleSlope", 1)) + float(slice_.get("RescaleIntercept", 0))
        rows = np.array(slice_.ImageOrientationPatient, float).reshape(2, 3)
        folder = tmp_path / name
        folder.mkdir()
        for number in range(2):
            position = np.array(slice_.ImagePositionPatient, float) + number * 3 * np.cross(*rows)
            slice_.ImagePositionPatient = [f"{v:.6f}" for v in position] if number else slice_.ImagePositionPatient
            slice_.save_as(folder / f"{number}.dcm")
        batch = read(folder, orientation="file")
        np.testing.assert_allclose(values_of(batch)[0], [expected, expected])


def test_places_of_scans_are_kept_in_files(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "scan.nii.gz", given(), oblique())
    maps = xai.explain(model(), path, "controls.edges")
    again = xai.Attribution.load(maps.save(tmp_path / "maps.h5"))
    assert again.spaces == maps.spaces
    (space,) = again.spaces["ct"]
    assert isinstance(space, Space)
    first, second = (a.export(tmp_path / name).read_bytes() for a, name in ((maps, "a.nii.gz"), (again, "b.nii.gz")))
    assert first == second
    with pytest.raises(InvalidInput, match="say where their voxels lie: leave affine out"):
        maps.export(tmp_path / "folder", "nifti", affine=np.eye(4))


def test_a_run_of_a_series_holds_nobodys_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Planted wherever DICOM holds a person, looked for in every byte of every file, and on the screen."""
    for name in ("first", "second"):
        write_series(tmp_path / "in" / name, hounsfield((12, 16, 10)), secret=True)
    net = scans.Net().eval()
    wrapped = xai.wrap(net, modalities=[scans.VOLUME], levels=(-1000, 1000))
    run = xai.compare(
        wrapped,
        tmp_path / "in",
        explainers=["captum.saliency", "gradcam.gradcam"],
        metrics=["deletion"],
        out=tmp_path / "run",
    )
    maps = xai.explain(wrapped, tmp_path / "in", "captum.saliency", target=0)
    maps.save(tmp_path / "run" / "maps.h5")
    maps.export(tmp_path / "run" / "volumes")
    run.maps["captum.saliency"].export(tmp_path / "run" / "of run")
    assert len(list((tmp_path / "run" / "of run").iterdir())) == 2
    parts = [part.encode() for part in (SECRET, *re.split(r"\W", SECRET))]
    parts += [part.lower() for part in parts]
    files = [p for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert len(files) > 8
    for path in files:
        content = path.read_bytes()
        if path.name.endswith(".nii.gz"):
            import gzip

            content = gzip.decompress(content)
        assert not any(part in content for part in parts), path
    output = "".join(capfd.readouterr())
    assert not any(part.decode() in output for part in parts)
    import h5py

    def look(_name: str, item: Any) -> None:  # compressed text hides from a search of bytes
        stored = [str(item.attrs[key]) for key in item.attrs]
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "OS":
            stored += [str(item[()])]
        assert not any(part.decode() in text for part in parts for text in stored)

    for path in files:
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(look)


def test_several_volumes_from_files(tmp_path: Path) -> None:
    """A folder for each modality, by name."""
    t1, t2 = Modality.volume("t1", ("value",), range=None), Modality.volume("t2", ("value",), range=None)
    for name in ("t1", "t2"):
        (tmp_path / name).mkdir()
        write_nifti(tmp_path / name / "a.nii.gz", given(seed=len(name)), oblique())
    two = FunctionModel(lambda a, b: (a + b).reshape(len(a), -1).mean(axis=1, keepdims=True), (t1, t2))
    maps = xai.explain(two, {name: tmp_path / name for name in ("t1", "t2")}, "controls.edges")
    assert set(maps.spaces) == {"t1", "t2"}
    (tmp_path / "table.csv").write_text("t1,t2,label\nt1/a.nii.gz,t2/a.nii.gz,ill\n", encoding="utf-8")
    batch = arrays.read(two, tmp_path / "table.csv")
    assert batch.label_names == ("ill",)
    for (one, other), name in zip(zip(batch.inputs, maps.inputs or (), strict=True), ("t1", "t2"), strict=True):
        np.testing.assert_array_equal(one, other)
        assert batch.spaces[name] == maps.spaces[name]
    assert len(list(maps.export(tmp_path / "out").iterdir())) == 2


@pytest.mark.process
def test_the_page_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/volumes.md: files written, commands and Python run, the map over its scan."""
    page = (ROOT / "docs" / "volumes.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", page, re.S)
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    (tmp_path / "scans.py").write_text(first, encoding="utf-8")
    (tmp_path / "spots.toml").write_text(toml + '[[explainers]]\nname = "captum.saliency"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    runpy.run_path("scans.py", run_name="__main__")
    followed(tmp_path, commands("volumes.md"))
    scan = nibabel.load("scans/patient0.nii.gz")
    back = nibabel.load("out/spots/volumes/000_patient0.nii.gz")
    assert back.shape == scan.shape
    np.testing.assert_array_equal(back.affine, scan.affine)
    monkeypatch.delitem(sys.modules, "scans", raising=False)
    ran: dict[str, Any] = {}
    exec(second, ran)
    monkeypatch.delitem(sys.modules, "scans", raising=False)
    marked = np.asarray(nibabel.load("scans/patient0_mask.nii.gz").dataobj) > 0
    heat = abs(nibabel.load("map.nii.gz").get_fdata())
    assert heat[marked].mean() > 5 * heat[~marked].mean()  # what the network looks at lies where the file has it
    scores = ran["run"].scores
    assert scores[scores.metric == "mask_share"].value.max() > 0.5
    assert crossxai("compare", "spots.toml", "--out", "out/toml").exit_code == 0
    assert (tmp_path / "out" / "toml" / "report.html").is_file()

"""Volumes on pages and in figures: which slice is which, how they lie, and what is in the pictures."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crossxai.attribution import Attribution
from crossxai.files import Result, Samples, write_result, write_samples
from crossxai.files.spaces import Space
from crossxai.model import Modality
from crossxai.report import write_report
from crossxai.report.plots import plot_map
from crossxai.report.plots.planes import cut_of, maxima, planes_of, stack, strip, through

CT = Modality.volume("ct", ("hu",))
SHAPE = (40, 6, 8)  # z, y, x
DIRECTIONS = {"L": (-1, 0, 0), "R": (1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def lying(orientation: str, steps: tuple[float, float, float] = (2.0, 3.0, 4.0)) -> Space:
    """A scan whose x, y and z run to these sides, with so many millimetres between voxels along each."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([np.multiply(DIRECTIONS[o], s) for o, s in zip(orientation, steps, strict=True)]).T
    z, y, x = SHAPE
    return Space((x, y, z), affine, np.array([[0, 1], [1, 1], [2, 1]]), orientation, SHAPE)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "RAI", "SRA", "PIR"])
def test_planes_lie_as_radiologists_see_them(orientation: str) -> None:
    """Values that say where a voxel is in the body: left is on the right, the front above, the head on top."""
    space = lying(orientation)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij")[::-1], axis=-1)  # of x, y, z
    right, front, up = np.moveaxis(index @ space.affine[:3, :3].T, -1, 0)
    axial, coronal, sagittal = planes_of(CT, space)
    assert [plane.name for plane in (axial, coronal, sagittal)] == ["axial", "coronal", "sagittal"]
    assert [plane.sides for plane in (axial, coronal, sagittal)] == ["RLAP", "RLSI", "APSI"]
    for plane, across, down, value in (
        (axial, -right, -front, up),
        (coronal, -right, -up, front),
        (sagittal, -front, -up, right),
    ):
        rows = plane.slices(down)[0]
        assert (np.diff(rows, axis=0) > 0).all()
        assert (np.diff(plane.slices(across)[0], axis=1) > 0).all()
        assert np.ptp(plane.slices(value)[0]) == 0  # one slice is one place across it
        millimetres = abs(np.diff(rows, axis=0)).max(), abs(np.diff(plane.slices(across)[0], axis=1)).max()
        assert plane.pixel == millimetres


def test_what_is_shown_begins_at_the_mask() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[9:13, 1:3, 2] = True
    mask[11, 1:5, 2:7] = True
    cut = cut_of(CT, SHAPE, lying("LPS"), mask)
    assert cut.titles[cut.at] == "axial slice 12 of 40"
    assert len(cut.titles) == 40
    assert cut.views == "coronal slice 3 of 6 · sagittal slice 5 of 8"
    assert cut.sides == "the patient's right is on the left, left on the right, front above, back below"
    assert float(cut.aspect) == pytest.approx(8 * 2 / (6 * 3), rel=1e-3)
    plain = cut_of(Modality("film", ("time", "y", "x", "channel"), ("grey",)), (90, 6, 8))
    assert plain.titles[plain.at] == "slice time = 46 of 90"
    assert len(plain.titles) in (40, 41)
    assert (plain.titles[0], plain.titles[-1]) == ("slice time = 1 of 90", "slice time = 90 of 90")


def test_slices_projections_and_strips() -> None:
    values = np.random.default_rng(0).normal(size=SHAPE)
    cut = cut_of(CT, SHAPE)
    np.testing.assert_array_equal(stack(values, cut), values.reshape(-1, 8))
    for (one, _), axis in zip(maxima(values, cut), range(3), strict=True):
        np.testing.assert_array_equal(np.abs(one), np.abs(values).max(axis=axis))
        assert np.isin(one, values).all()
    for (one, _), axis, at in zip(through(values, cut), range(3), (20, 3, 4), strict=True):
        np.testing.assert_array_equal(one, values.take(at, axis=axis))
    canvas, there = strip(through(values, cut)[1:], cut)
    assert not there.all()
    assert set(canvas[there]) <= set(values.ravel())
    assert (canvas[~there] == 0).all()
    large = np.random.default_rng(1).normal(size=(20, 200, 300))
    small = stack(large, cut_of(CT, large.shape))
    assert small.size <= 170_000
    assert small.mean() == pytest.approx(large.mean(), abs=0.01)


def run_of(place: Path, spaces: dict[str, tuple[Space, ...]]) -> tuple[str, Any]:
    values = np.random.default_rng(0).random((2, *SHAPE, 1), np.float32)
    mask = np.zeros((2, *SHAPE), bool)
    mask[:, 11, 2:4, 3:6] = True
    samples = Samples(
        ("a", "b"), (CT,), {"ct": values}, np.arange(2), ("no", "yes"), masks={"mask": mask}, spaces=spaces
    )
    write_samples(place / "samples.h5", samples)
    maps = Attribution((values,), (CT,), ("a", "b"), "captum.occlusion")
    write_result(
        place / "explanations" / "m" / "captum.occlusion.h5", Result("m", "torch", maps.explainer, "captum", maps)
    )
    (place / "manifest.json").write_text('{"models": [{"name": "m"}]}', encoding="utf-8")
    return write_report(place).read_text(encoding="utf-8"), values


def test_the_page_browses_slices_and_names_them(tmp_path: Path) -> None:
    text, values = run_of(tmp_path, {"ct": (lying("LPS"), lying("LPS"))})
    assert text.count(">axial slice 12 of 40</span>") == 4
    assert re.search(r'<input type="range" class="depth needs-js" min="0" max="39" value="11"', text)
    assert 'data-titles="axial slice 1 of 40|axial slice 2 of 40|' in text
    assert "--n:40;--slice:var(--z1, 11)" in text
    source = re.search(
        r'<img class="heat" src="data:image/png;base64,([^"]+)" alt="captum.occlusion on m, sample a"', text
    )
    assert source is not None
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))))
    assert picture.shape == (40 * 6, 8)  # all slices, one below the other
    top = np.percentile(values[0], 99)
    np.testing.assert_array_equal(picture, np.rint(np.clip(values[0, ..., 0].reshape(-1, 8) / top, 0, 1) * 127))
    edge = re.search(r"\.s0-e1 \{ background-image: url\(data:image/png;base64,([^)]+)\)", text)
    assert edge is not None
    outline = np.asarray(Image.open(io.BytesIO(base64.b64decode(edge[1])))).reshape(40, 24, 32)
    assert np.flatnonzero(outline.any(axis=(1, 2))).tolist() == [11]


def test_a_figure_names_its_slices() -> None:
    values = np.zeros((*SHAPE, 1))
    values[11, 2, 5] = -3
    figure = plot_map(values, values + 0.5, CT, title="a scan", space=lying("LPS"))
    titles = [axes.get_title() for axes in figure.axes[:6]]
    assert titles[:3] == ["axial slice 12 of 40", "coronal slice 3 of 6", "sagittal slice 6 of 8"]
    assert titles[3] == "axial maximum projection"
    assert [text.get_text() for text in figure.axes[0].texts] == ["R", "L", "A", "P"]
    _, over = figure.axes[1].images
    assert over.get_array().min() == -3
    assert np.argwhere(over.get_array() == -3).tolist() == [[40 - 1 - 11, 5]]  # the head is on top
    plain = plot_map(values, values + 0.5, CT)
    assert plain.axes[0].get_title() == "slice z = 12 of 40"

"""Patches on their way to a network: the index, augmentation, and batches that no number of workers changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noise import SIZES, patches, written
from torch.utils.data import DataLoader

from crossxai.errors import InvalidInput
from crossxai.studies.pcam.dataset import Augmentation, PatchDataset, PCamIndex, oriented, rotated
from crossxai.studies.pcam.reading import CENTRE, PCam, write_split


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("patches"))


# The index


def test_a_split_is_read_once_and_again_when_a_file_changed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, n in SIZES.items():
        write_split(tmp_path, split, *patches(n, 7))  # type: ignore[arg-type]
    first = PCamIndex.of(tmp_path, "train", tmp_path / "cache")
    known = first.fingerprint(), first.statistics()
    assert known[0] == first.data.fingerprint()
    pixels = first.data.images(range(len(first.data))).astype(np.float64)
    np.testing.assert_allclose(known[1][0], pixels.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(known[1][1], pixels.std(axis=(0, 1, 2)), rtol=1e-6)

    with monkeypatch.context() as patched:
        patched.setattr(PCam, "pixels", lambda *a: pytest.fail("read again"))
        again = PCamIndex.of(tmp_path, "train", tmp_path / "cache")
        assert again.fingerprint() == known[0]
        np.testing.assert_array_equal(again.statistics(), known[1])
    again.path.write_bytes(again.path.read_bytes()[:-200])
    assert PCamIndex.of(tmp_path, "train", tmp_path / "cache").fingerprint() == known[0]  # damaged: read again
    write_split(tmp_path, "train", *patches(32, 8))
    changed = PCamIndex.of(tmp_path, "train", tmp_path / "cache")
    assert changed.path != again.path
    assert changed.fingerprint() == changed.data.fingerprint() != known[0]


def test_a_cache_that_cannot_be_written_is_done_without(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert len(PCamIndex.of(data, "test", tmp_path / "file" / "cache").fingerprint()) == 64


def test_a_constant_channel_cannot_be_standardised(tmp_path: Path) -> None:
    write_split(tmp_path, "train", np.zeros((2, 96, 96, 3), np.uint8), [0, 1])
    with pytest.raises(InvalidInput, match="a channel is constant"):
        PCamIndex.of(tmp_path, "train", tmp_path).statistics()


def test_a_fraction_has_the_same_share_of_each_class(tmp_path: Path) -> None:
    labels = np.r_[np.zeros(40, int), np.ones(20, int)]
    write_split(tmp_path, "train", np.zeros((60, 96, 96, 3), np.uint8), labels)
    index = PCamIndex.of(tmp_path, "train", tmp_path)
    assert {label: len(rows) for label, rows in index.rows.items()} == {0: 40, 1: 20}
    half, tenth = index.fraction(0.5), index.fraction(0.1)
    assert np.bincount(labels[half]).tolist() == [20, 10]
    assert np.bincount(labels[tenth]).tolist() == [4, 2]
    assert set(tenth) < set(half)
    assert (np.diff(half) > 0).all()
    assert not np.array_equal(half, index.fraction(0.5, seed=1))
    np.testing.assert_array_equal(index.fraction(1), np.arange(60))
    with pytest.raises(InvalidInput, match=r"at most 1, got 1\.5"):
        index.fraction(1.5)


# Augmentation


def test_flips_give_all_eight_orientations_and_keep_the_centre() -> None:
    image = patches(1, 0)[0][0]
    seen = {
        Augmentation(rotation=0, brightness=0, contrast=0, saturation=0).one(image, i, 0, 0).tobytes()
        for i in range(99)
    }
    assert len(seen) == 8
    for changed in (np.frombuffer(content, np.uint8).reshape(96, 96, 3) for content in seen):
        inner = [np.sort(x[CENTRE, CENTRE].reshape(-1, 3), axis=0) for x in (image, changed)]
        np.testing.assert_array_equal(*inner)
    np.testing.assert_array_equal(oriented(image, np.array([True, True, False])), np.rot90(image, 2))


def test_a_rotation_turns_about_the_centre_and_reflects_the_border() -> None:
    y, x = np.mgrid[:96, :96] - 47.5
    disc = np.repeat(np.where(np.hypot(y, x) < 20, 200, 50)[..., None], 3, axis=2).astype(np.uint8)
    for degrees in (-10, 7, 45):
        turned = rotated(disc, degrees).astype(int)
        assert turned.min() >= 49  # no black comes in
        assert np.abs(turned - disc)[np.abs(np.hypot(y, x) - 20) > 1.5].max() <= 1
    image = patches(1, 0)[0][0]
    np.testing.assert_array_equal(rotated(image, 0), image)
    bar = np.zeros((96, 96, 3), np.uint8)
    bar[46:50] = 255  # a horizontal line; turned clockwise, its right end goes down
    assert rotated(bar, 10)[:, 88, 0].argmax() == pytest.approx(47.5 + np.tan(np.radians(10)) * 40.5, abs=2.5)


def test_colours_move_as_far_as_said_and_not_further() -> None:
    flat = np.full((96, 96, 3), 100, np.uint8)
    moved = [Augmentation(False, 0, 0.1, 0, 0).one(flat, row, 0, 0) for row in range(50)]
    shifts = np.array([image[0, 0].astype(int) - 100 for image in moved])
    assert all((image == image[0, 0]).all() for image in moved)
    assert 20 <= np.abs(shifts).max() <= 26  # 0.1 × 255, rounded
    assert (shifts[:, 0] != shifts[:, 1]).any()
    image = patches(1, 0)[0][0]
    contrast = [Augmentation(False, 0, 0, 0.2, 0).one(image, row, 0, 0).std() / image.std() for row in range(50)]
    assert 0.79 < min(contrast) < 0.85
    assert 1.15 < max(contrast) < 1.21
    grey = np.repeat(image[..., :1], 3, axis=2)
    np.testing.assert_array_equal(
        Augmentation(False, 0, 0, 0, 0.9).one(grey, 3, 0, 0), grey
    )  # saturation leaves grey alone
    with pytest.raises(InvalidInput, match="contrast is at least 0 and below 1, got 1"):
        Augmentation(contrast=1)


def test_a_patch_depends_on_seed_epoch_and_row_alone(data: Path) -> None:
    dataset = PatchDataset(PCam(data, "train"), augmentation=Augmentation(), seed=3).at(2)
    together = dataset.batch(np.array([5, 9, 5]))[0]
    np.testing.assert_array_equal(together[1], dataset[9][0])
    np.testing.assert_array_equal(together[0], together[2])
    np.testing.assert_array_equal(PatchDataset(dataset.data, np.array([9]), Augmentation(), 3, 2)[0][0], together[1])
    for other in (dataset.at(3), PatchDataset(dataset.data, augmentation=Augmentation(), seed=4, epoch=2)):
        assert not np.array_equal(other[9][0], together[1])
    assert dataset[-1][1] == dataset.data.labels()[-1]
    with pytest.raises(IndexError):
        dataset[32]


@pytest.mark.process
def test_workers_change_no_byte_and_hold_no_more_than_they_said(data: Path) -> None:
    dataset = PatchDataset(PCam(data, "train"), augmentation=Augmentation())
    parts = [np.arange(start, start + 4) for start in range(0, 32, 4)]
    wanted = [dataset.batch(part) for part in parts]
    for workers in (0, 1, 3):
        drawn: list[int] = []

        def given(drawn: list[int] = drawn) -> Any:
            for part in parts:
                drawn.append(1)
                yield part

        for i, (images, labels) in enumerate(dataset.batches(given(), workers)):
            assert len(drawn) <= i + 2 + workers
            np.testing.assert_array_equal(images, wanted[i][0])
            np.testing.assert_array_equal(labels, wanted[i][1])
        assert i == 7
    for method in ("fork", "spawn"):
        loader = DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context=method)  # type: ignore[arg-type]
        for (images, labels), (pixels, known) in zip(loader, wanted, strict=True):
            np.testing.assert_array_equal(images.numpy(), pixels)
            np.testing.assert_array_equal(labels.numpy(), known)

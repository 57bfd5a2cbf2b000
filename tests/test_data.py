"""PatchCamelyon's files and the embedded set: what is read, what is refused, and what the labels mean."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import crossxai
from crossxai.data.fetching import cache_folder
from crossxai.errors import InvalidFile, InvalidInput, UnknownName
from crossxai.files import cache
from crossxai.studies.pcam import histology
from crossxai.studies.pcam import reading as pcam
from crossxai.studies.pcam.reading import PCam, best_threshold, file_name, write_split

SMALL = histology.Recipe(stride=4, train_per_class=12, valid_per_class=6, test_per_class=6)


def arrays(n: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 96, 96, 3), dtype=np.uint8)
    return images, np.arange(n) % 2, rng.random((n, 96, 96)) < 0.3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_split(tmp_path, "test", *arrays())
    return tmp_path


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return histology.build(tmp_path_factory.mktemp("histology"), SMALL)


def rewrite(path: Path, key: str, values: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(key, data=values)


def pack(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    path.unlink()
    return packed


def read_in_child(data: PCam, queue: object) -> None:
    queue.put((data.images([5, 1]), data.fingerprint()))  # type: ignore[attr-defined]


# Reading


def test_rows_come_in_the_order_asked_for(root: Path) -> None:
    images, labels, masks = arrays()
    data = PCam(root, "test")
    assert len(data) == 7
    assert data.has_masks
    for index in ([5, 1, 1, 6, 0, 5], [2, 3, 4], [6], np.array([3, 0], np.int32), []):
        rows = np.asarray(index, dtype=int)
        np.testing.assert_array_equal(data.images(index), images[rows].astype(np.float32) / 255)
        np.testing.assert_array_equal(data.labels(index), labels[rows])
        np.testing.assert_array_equal(data.masks(index), masks[rows])
    np.testing.assert_array_equal(data.labels(), labels)
    assert data.images([0]).dtype == np.float32
    assert data.labels().dtype == np.int64
    assert data.masks([0]).dtype == bool
    assert data.ids([6, 0]) == ("test-000006", "test-000000")


@pytest.mark.parametrize("index", [[7], [-1], [0.5], [[0]]])
def test_indices_outside_the_split_are_refused(root: Path, index: list[object]) -> None:
    with pytest.raises(InvalidInput, match="indices must"):
        PCam(root, "test").images(index)  # type: ignore[arg-type]


def test_layout_on_disk_is_the_record_s(root: Path) -> None:
    for part, shape in {"x": (7, 96, 96, 3), "y": (7, 1, 1, 1), "mask": (7, 96, 96, 1)}.items():
        with h5py.File(root / f"camelyonpatch_level_2_split_test_{part}.h5") as file:
            assert list(file) == [part]
            assert file[part].shape == shape
            assert file[part].dtype == np.uint8


def test_masks_are_optional(tmp_path: Path) -> None:
    write_split(tmp_path, "valid", *arrays()[:2])
    data = PCam(tmp_path, "valid")
    assert not data.has_masks
    with pytest.raises(InvalidFile, match=r"no camelyonpatch_level_2_split_valid_mask\.h5"):
        data.masks([0])


def test_fingerprint_is_of_the_content(root: Path, tmp_path: Path) -> None:
    first = PCam(root, "test").fingerprint()
    for name in ("x", "y", "mask"):  # other chunks and compression, same content
        path = root / file_name("test", name)  # type: ignore[arg-type]
        with h5py.File(path) as file:
            values = file[name][()]
        with h5py.File(path, "w") as file:
            file.create_dataset(name, data=values, compression="gzip")
    assert PCam(root, "test").fingerprint() == first
    images, labels, masks = arrays()
    masks[3, 0, 0] ^= True
    write_split(root, "test", images, labels, masks)
    assert PCam(root, "test").fingerprint() != first


def test_unknown_split(root: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean valid"):
        PCam(root, "valdi")  # type: ignore[arg-type]


# Several processes


def test_pickling_carries_no_handle(root: Path) -> None:
    data = PCam(root, "test")
    before = data.images([2])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(data)).images([2]), before)
    np.testing.assert_array_equal(data.images([2]), before)


# Python 3.12 warns of any fork while threads run, and an earlier test may have left a framework's.
@pytest.mark.process
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_opens_its_own_files(root: Path) -> None:
    data = PCam(root, "test")
    expected = data.images([5, 1])
    parent = data._handles["x"]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        code = 1
        try:
            same = np.array_equal(data.images([5, 1]), expected)
            code = 0 if same and data._handles["x"] is not parent and not parent else 2
        finally:
            os._exit(code)
    os.close(reader)
    os.close(writer)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert parent  # the parent's file is still open
    np.testing.assert_array_equal(data.images([5, 1]), expected)


@pytest.mark.process
def test_spawned_process_reads_the_same(root: Path) -> None:
    data = PCam(root, "test")
    expected = data.images([5, 1])
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(data, queue))
    child.start()
    images, fingerprint = queue.get(timeout=120)
    child.join()
    np.testing.assert_array_equal(images, expected)
    assert fingerprint == data.fingerprint()


class TorchDataset:
    """The map-style dataset that a user would write; at module level so that a spawned worker can import it."""

    def __init__(self, data: PCam) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return self.data.images([i])[0], int(self.data.labels([i])[0])


@pytest.mark.process
def test_data_loader_with_two_workers(root: Path) -> None:
    import torch

    data = PCam(root, "test")
    expected = data.images(range(7))  # the handle is open in the parent before the workers start
    loader = torch.utils.data.DataLoader(
        TorchDataset(data), batch_size=2, num_workers=2, multiprocessing_context="spawn"
    )
    images, labels = zip(*loader, strict=True)
    np.testing.assert_array_equal(torch.cat(images).numpy(), expected)
    np.testing.assert_array_equal(torch.cat(labels).numpy(), data.labels())


# Compressed files


def test_gz_is_decompressed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = PCam(root, "test").fingerprint()
    for part in ("x", "y", "mask"):
        pack(root / file_name("test", part))  # type: ignore[arg-type]
    assert PCam(root, "test").fingerprint() == expected
    monkeypatch.setattr(gzip, "open", lambda *a: pytest.fail("decompressed a second time"))
    assert PCam(root, "test").fingerprint() == expected
    assert not list(root.glob("*.part"))


def test_gz_in_a_read_only_folder_goes_to_the_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = PCam(root, "test").images([3])
    packed = pack(root / file_name("test", "x"))
    cache = tmp_path / "cache"
    monkeypatch.setattr(os, "access", lambda *a: False)  # file modes do not stop a test that runs as root
    np.testing.assert_array_equal(PCam(root, "test", cache=cache).images([3]), expected)
    assert not (root / file_name("test", "x")).exists()
    assert len(list(cache.rglob("*.h5"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(gzip, "open", lambda *a: pytest.fail("decompressed a second time"))
        PCam(root, "test", cache=cache)
    # A new archive of the same name is not mistaken for the old one.
    images, labels, masks = arrays(seed=1)
    packed.unlink()
    write_split(root, "test", images, labels, masks)
    pack(root / file_name("test", "x"))
    np.testing.assert_array_equal(PCam(root, "test", cache=cache).images([3])[0], images[3].astype(np.float32) / 255)


def test_the_cache_folder_follows_the_convention(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "crossxai"


def test_without_a_variable_the_cache_is_where_it_was_or_where_the_system_has_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(cache, "user_cache_path", lambda name, appauthor: tmp_path / "Caches" / name)
    assert cache_folder() == tmp_path / "Caches" / "crossxai"
    (tmp_path / ".cache" / "crossxai").mkdir(parents=True)
    assert cache_folder() == tmp_path / ".cache" / "crossxai"


def test_truncated_gz_leaves_no_file(root: Path) -> None:
    packed = pack(root / file_name("test", "x"))
    packed.write_bytes(packed.read_bytes()[:-1000])
    with pytest.raises(InvalidFile, match=r"x\.h5\.gz: not a whole gzip file .* fetch it again"):
        PCam(root, "test")
    assert not (root / file_name("test", "x")).exists()
    assert not list(root.glob("*.part")) + list(root.glob(".*.part"))


def test_no_room_to_decompress(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(root / file_name("test", "x"))

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(InvalidFile, match=r"x\.h5\.gz: cannot be decompressed to .*no space left.*make room"):
        PCam(root, "test")
    assert not list(root.glob(".*.part"))


def test_gz_that_is_not_gz(root: Path) -> None:
    path = root / file_name("test", "y")
    path.with_name(path.name + ".gz").write_bytes(b"<html>404</html>")
    path.unlink()
    with pytest.raises(InvalidFile, match=r"y\.h5\.gz: not a whole gzip file"):
        PCam(root, "test")


# Bad files, each with what was found and what to do


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidFile,
        match=r"test_x\.h5.*test_x\.h5\.gz.*crossxai data pcam download --out",
    ):
        PCam(tmp_path, "test")


@pytest.mark.parametrize("part", ["x", "y", "mask"])
def test_truncated_file(root: Path, part: pcam.Part) -> None:
    path = root / file_name("test", part)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InvalidFile, match=rf"test_{part}\.h5: not a whole HDF5 file .* fetch it again"):
        PCam(root, "test")


def test_file_damaged_inside(root: Path) -> None:
    path = root / file_name("test", "x")
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=arrays()[0], chunks=(1, 96, 96, 3), fletcher32=True)
        offset = file["x"].id.get_chunk_info(3).byte_offset
    with open(path, "r+b") as raw:
        raw.seek(offset)
        raw.write(b"\0" * 64)
    data = PCam(root, "test")
    data.images([0])
    with pytest.raises(InvalidFile, match=r"test_x\.h5: rows cannot be read .* fetch the file again"):
        data.images([3])


@pytest.mark.parametrize(
    ("part", "key", "values", "message"),
    [
        ("x", "images", np.zeros((7, 96, 96, 3), np.uint8), r"found the keys \['images'\], expected dataset 'x'"),
        ("x", "x", np.zeros((7, 3, 96, 96), np.uint8), r"found uint8 of shape \(7, 3, 96, 96\), .*\(N, 96, 96, 3\)"),
        ("x", "x", np.zeros((7, 96, 96, 3), np.float32), r"found float32 of shape .*, expected dataset 'x', uint8"),
        ("y", "y", np.zeros(7, np.uint8), r"found uint8 of shape \(7,\), expected .*\(N, 1, 1, 1\)"),
        ("y", "y", np.zeros((7, 1, 1, 1), np.int64), r"found int64 of shape"),
        ("y", "y", np.full((7, 1, 1, 1), 2, np.uint8), r"found the labels \[2\], expected 0 \(no\) and 1 \(yes\)"),
        ("mask", "mask", np.zeros((7, 96, 96), np.uint8), r"found uint8 of shape \(7, 96, 96\)"),
        ("y", "y", np.zeros((6, 1, 1, 1), np.uint8), r"7 rows in .*x\.h5, 6 rows in .*y\.h5.*must be equal"),
        ("mask", "mask", np.zeros((8, 96, 96, 1), np.uint8), r"8 rows in .*mask\.h5: they must be equal"),
    ],
)
def test_wrong_content(root: Path, part: pcam.Part, key: str, values: np.ndarray, message: str) -> None:
    rewrite(root / file_name("test", part), key, values)
    with pytest.raises(InvalidFile, match=message) as caught:
        PCam(root, "test")
    assert str(root) in str(caught.value)


def test_a_group_under_the_key_is_refused(root: Path) -> None:
    with h5py.File(root / file_name("test", "x"), "w") as file:
        file.create_group("x")
    with pytest.raises(InvalidFile, match="expected dataset 'x'"):
        PCam(root, "test")


# Writing


@pytest.mark.parametrize(
    ("images", "labels", "masks", "message"),
    [
        (np.zeros((2, 96, 96, 3)), [0, 1], None, "x: expected uint8"),
        (np.zeros((2, 96, 96, 3), np.uint8), [0, 2], None, r"labels must be 0 or 1, got \[0, 2\]"),
        (np.zeros((2, 96, 96, 3), np.uint8), [0, 1, 1], None, r"x: expected uint8 \(3, 96, 96, 3\)"),
        (np.zeros((2, 96, 96, 3), np.uint8), [0, 1], np.zeros((1, 96, 96), bool), "mask: expected uint8"),
    ],
)
def test_write_refuses_what_the_reader_would(
    tmp_path: Path, images: np.ndarray, labels: list[int], masks: np.ndarray | None, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        write_split(tmp_path, "test", images, labels, masks)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in root.iterdir()}

    class Full(h5py.File):  # type: ignore[misc]
        def create_dataset(self, name: str, **kwargs: object) -> None:
            if name == "y":
                raise OSError("no space left on device")
            super().create_dataset(name, **kwargs)

    monkeypatch.setattr(h5py, "File", Full)
    with pytest.raises(OSError, match="no space left"):
        write_split(root, "test", *arrays(seed=1))
    assert {path.name: path.read_bytes() for path in root.iterdir()} == before


# The embedded set


def test_splits_share_no_pixel(embedded: Path) -> None:
    about = json.loads((embedded / "about.json").read_text())
    used = {split: np.zeros((512, 512), bool) for split in about["splits"]}
    for split, figures in about["splits"].items():
        for y, x in figures["corners"]:
            used[split][y : y + 96, x : x + 96] = True
    assert not (used["train"] & used["valid"]).any()
    assert not (used["train"] & used["test"]).any()
    assert not (used["valid"] & used["test"]).any()


def test_regions_are_disjoint_and_hold_every_patch(embedded: Path) -> None:
    owner = np.zeros((512, 512), int)
    for top, bottom, left, right in histology.REGIONS.values():
        owner[top:bottom, left:right] += 1
    assert (owner == 1).all()
    for split, figures in json.loads((embedded / "about.json").read_text())["splits"].items():
        top, bottom, left, right = histology.REGIONS[split]
        y, x = np.array(figures["corners"]).T
        assert y.min() >= top
        assert x.min() >= left
        assert y.max() + 96 <= bottom
        assert x.max() + 96 <= right


def test_fractions_of_centre_and_surroundings_by_direct_count() -> None:
    stained = np.random.default_rng(0).random((512, 512)) < np.linspace(0, 1, 512)
    found = histology._candidates("test", stained, stride=16)
    assert len(found.y) == 27 * 4
    inner = np.zeros((96, 96), bool)
    inner[32:64, 32:64] = True
    for i in range(len(found.y)):
        patch = stained[found.y[i] : found.y[i] + 96, found.x[i] : found.x[i] + 96]
        assert found.centre[i] == pytest.approx(patch[inner].mean())
        assert found.surround[i] == pytest.approx(patch[~inner].mean())


def test_patches_are_cut_where_about_says(embedded: Path) -> None:
    from skimage.data import immunohistochemistry

    photograph = immunohistochemistry().astype(np.float32) / 255
    for split, figures in json.loads((embedded / "about.json").read_text())["splits"].items():
        data = PCam(embedded, split)
        assert len(data) == figures["patches"] == 2 * figures["per_class"][0]
        for i in (0, len(data) - 1):
            y, x = figures["corners"][i]
            np.testing.assert_array_equal(data.images([i])[0], photograph[y : y + 96, x : x + 96])


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_label_rule_recomputed_from_the_masks(embedded: Path, split: pcam.Split) -> None:
    data = PCam(embedded, split)
    centre = data.masks(range(len(data)))[:, 32:64, 32:64].mean(axis=(1, 2))
    labels = data.labels()
    assert (centre[labels == 1] >= SMALL.positive_from).all()
    assert (centre[labels == 0] <= SMALL.negative_to).all()
    assert (labels == 1).sum() == (labels == 0).sum() == SMALL.per_class(split)
    np.testing.assert_array_equal(labels[:4], [0, 1, 0, 1])


def test_mask_is_the_stain(embedded: Path) -> None:
    from skimage.color import rgb2hed

    threshold = json.loads((embedded / "about.json").read_text())["stain_threshold"]
    data = PCam(embedded, "test")
    images, masks = data.images(range(len(data))), data.masks(range(len(data)))
    dab = rgb2hed(images)[..., 2]
    clear = np.abs(dab - threshold) > 1e-5
    np.testing.assert_array_equal((dab > threshold)[clear], masks[clear])
    assert clear.mean() > 0.99


def test_choosing_weakens_what_the_surroundings_give_away() -> None:
    """With the default recipe's candidates: thresholding the stain around the centre must not settle the label."""
    from skimage.data import immunohistochemistry

    _, stained = histology.stain(immunohistochemistry())
    for split in histology.REGIONS:
        found = histology._candidates(split, stained, stride=8)
        kinds = (found.centre <= 0.1, found.centre >= 0.3)
        n = min(50, *(int(kind.sum()) for kind in kinds))
        rows = [histology._spread(found, np.flatnonzero(kind), n) for kind in kinds]
        after = best_threshold(found.surround[np.concatenate(rows)], np.repeat([0, 1], n))
        clear = kinds[0] | kinds[1]
        before = best_threshold(found.surround[clear], kinds[1][clear])
        assert after < before


def test_best_threshold_by_hand() -> None:
    assert best_threshold(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 1])) == 1
    assert best_threshold(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, 0, 1])) == 0.75


def test_build_is_deterministic_and_does_not_repeat_itself(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    histology.build(tmp_path, SMALL)
    for path in sorted(embedded.glob("*.json")):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    for split in histology.REGIONS:
        assert PCam(tmp_path, split).fingerprint() == PCam(embedded, split).fingerprint()
    monkeypatch.setattr(histology, "write_split", lambda *a: pytest.fail("built again"))
    assert histology.build(tmp_path, SMALL) == tmp_path


@pytest.mark.parametrize("damage", ["delete", "truncate", "swap", "interrupted", "recipe"])
def test_build_mends_what_is_stale(embedded: Path, tmp_path: Path, damage: str) -> None:
    root = tmp_path / "copy"
    shutil.copytree(embedded, root)
    path, recipe = root / file_name("test", "x"), SMALL
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "swap":
        write_split(root, "test", *arrays(12))
    elif damage == "interrupted":
        about = json.loads((root / "about.json").read_text())
        (root / "about.json").write_text(json.dumps({"made_from": about["made_from"]}))
    else:
        recipe = histology.Recipe(stride=4, train_per_class=5, valid_per_class=6, test_per_class=6)
    histology.build(root, recipe)
    assert PCam(root, "test").fingerprint() == PCam(embedded, "test").fingerprint()
    assert len(PCam(root, "train")) == 2 * recipe.train_per_class


def test_build_does_not_overwrite_a_download(root: Path) -> None:
    write_split(root, "train", *arrays())
    with pytest.raises(
        InvalidFile, match=r"holds camelyonpatch_level_2_split_.*_x\.h5, which this set would overwrite"
    ):
        histology.build(root)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "read as JSON"), ("[]", "not written by"), ("{}", "not written by")]
)
def test_build_refuses_a_foreign_about(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "about.json").write_text(text)
    with pytest.raises(InvalidFile, match=message):
        histology.build(tmp_path)


def test_a_class_too_small_is_taken_whole_and_stays_balanced(tmp_path: Path) -> None:
    histology.build(tmp_path, histology.Recipe(stride=32, train_per_class=10**6, valid_per_class=2, test_per_class=2))
    labels = PCam(tmp_path, "train").labels()
    assert (labels == 0).sum() == (labels == 1).sum() > 0


@pytest.mark.process
def test_reading_data_loads_no_framework() -> None:
    import subprocess
    import sys

    code = (
        "import sys, crossxai.studies.pcam.reading, crossxai.studies.pcam.histology, "
        "crossxai.studies.networks.weight_files, crossxai.studies.training\n"
        "print([m for m in ('torch', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert crossxai.__version__

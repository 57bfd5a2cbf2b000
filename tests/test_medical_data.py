"""The three procedural sets: the same bytes always, moments as asked, a truth that is exact, files that are whole or refused."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import crossxai

from crossxai.errors import InvalidFile, InvalidInput, UnknownName
from crossxai.studies import medical
from crossxai.studies.medical import ct, mri, source
from crossxai.studies.medical.ct import COLUMNS
from crossxai.studies.medical.samples import MASKS, MODALITIES, MedicalSet, every_file

SIZE = 64


@pytest.fixture(scope="module")
def sets() -> dict[str, MedicalSet]:
    return {task: medical.generate(task, 6, 3, size=SIZE) for task in medical.TASKS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return medical.write(tmp_path_factory.mktemp("medical"), 6, 3, 4, 9, workers=1, progress=False, size=SIZE)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def assert_same(one: MedicalSet, other: MedicalSet) -> None:
    assert one.ids == other.ids
    np.testing.assert_array_equal(one.labels, other.labels)
    for kind in ("inputs", "masks", "truth"):
        first, second = getattr(one, kind), getattr(other, kind)
        assert tuple(first) == tuple(second)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("task", medical.TASKS)
def test_samples_are_what_the_networks_expect(sets: dict[str, MedicalSet], task: str) -> None:
    made = sets[task]
    assert tuple(made.inputs) == MODALITIES[task]
    assert tuple(made.masks) == MASKS[task]
    assert tuple(made.truth) == tuple(name for name in MODALITIES[task] if name != "table")
    for name, values in made.inputs.items():
        assert values.dtype == np.float32
        if name == "table":
            assert values.shape == (6, 12)
            assert np.isfinite(values).all()
        else:
            assert values.shape == (6, SIZE, SIZE, 1)
            assert values.min() >= 0
            assert values.max() <= 1  # NaN would fail both
            assert values.std() > 0.1
    for mask in (*made.masks.values(), *made.truth.values()):
        assert mask.dtype == np.bool_
        assert mask.any(axis=(1, 2)).all(), "the truth is never empty"
    assert len(set(made.ids)) == 6
    assert made.labels.dtype == (np.float32 if task == "regression" else np.int64)


@pytest.mark.parametrize("task", medical.TASKS)
def test_a_sample_depends_on_its_seed_and_number_alone(sets: dict[str, MedicalSet], task: str) -> None:
    fewer, other = medical.generate(task, 3, 3, size=SIZE), medical.generate(task, 3, 4, size=SIZE)
    for name, values in fewer.inputs.items():
        np.testing.assert_array_equal(values, sets[task].inputs[name][:3])
        assert (values != other.inputs[name]).any(axis=tuple(range(1, values.ndim))).all()


@pytest.mark.parametrize("task", medical.TASKS)
def test_the_truth_is_where_the_signal_is_and_nowhere_else(sets: dict[str, MedicalSet], task: str) -> None:
    """The control set has the same anatomy, labels and masks, so the difference of the two is the signal."""
    made, control = sets[task], medical.generate(task, 6, 3, planted=False, size=SIZE)
    np.testing.assert_array_equal(made.labels, control.labels)
    for name in made.masks:
        np.testing.assert_array_equal(made.masks[name], control.masks[name])
    for name, truth in made.truth.items():
        changed = (made.inputs[name] != control.inputs[name])[..., 0]
        assert not (changed & ~truth).any()
        assert (changed & truth).sum() > 0.9 * truth.sum()
        strength = np.abs(made.inputs[name] - control.inputs[name])[..., 0]
        assert (strength.max(axis=(1, 2)) > 0.1).all()


def test_the_control_s_table_knows_nothing_of_the_class() -> None:
    values, labels = medical.table(2000, 5, planted=False)
    told, _ = medical.table(2000, 5)
    for k, column in enumerate(COLUMNS):
        apart = [abs(v[labels == 0, k].mean() - v[labels == 1, k].mean()) / v[:, k].std() for v in (values, told)]
        assert apart[0] < 4 * math.sqrt(4 / 2000), column.name  # 4 standard errors of a difference of two means
        if column.name in ("Age", "SUVmax", "SpiculationIdx"):
            assert apart[1] > 1


def test_the_table_s_moments_are_those_asked() -> None:
    """Means and deviations per class within 4 of their standard errors (48 comparisons), at n = 1000 per class."""
    values, labels = medical.table(2000, 1)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(np.bincount(labels), [1000, 1000])
    asked = {
        "Age": ((54.9, 8.0), (65.0, 8.1)),
        "CRP_mgL": ((2.9, 2.9), (7.6, 7.7)),
        "FEV1_pct": ((82.2, 12.2), (67.1, 13.7)),
    }
    for k, column in enumerate(COLUMNS):
        assert column.moments == asked.get(column.name, column.moments)
        for label in (0, 1):
            found = values[labels == label, k].astype(np.float64)
            mean, sd = column.moments[label][0], column.sd(label)
            assert abs(found.mean() - mean) < 4 * sd / math.sqrt(len(found)), (column.name, label)
            if column.kind != "bernoulli":  # whose deviation follows from its mean
                fourth = ((found - found.mean()) ** 4).mean()
                error = math.sqrt(max(fourth - sd**4, 0) / len(found)) / (2 * sd)
                assert abs(found.std(ddof=1) - sd) < 4 * error, (column.name, label)
            low, high = column.bounds if column.kind == "beta" else (0, math.inf)
            assert low <= found.min() <= found.max() <= high


def test_the_classes_are_balanced_and_the_table_is_that_of_the_set(sets: dict[str, MedicalSet]) -> None:
    values, labels = medical.table(6, 3)
    np.testing.assert_array_equal(sets["classification"].inputs["table"], values)
    np.testing.assert_array_equal(sets["classification"].labels, labels)
    assert labels.sum() == 3


def test_table_and_image_tell_one_story() -> None:
    """Benign nodules lie left, malignant ones right; the area follows the diameter, the outline the spiculation."""
    made = medical.generate("classification", 30, 7, size=112)
    column = dict(zip(medical.FEATURES, made.inputs["table"].T, strict=True))
    masks = made.masks["nodule"]
    centre = (masks * np.arange(112)).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))
    np.testing.assert_array_equal(centre > 56, made.labels == 1)
    diameter = column["NoduleDiam_mm"] * ct.MAGNIFICATION / ct.MM_PER_PIXEL / 2  # pixels of a 112-pixel image
    found = 2 * np.sqrt(masks.sum(axis=(1, 2)) / np.pi)
    assert np.corrcoef(diameter, found)[0, 1] > 0.95
    assert (found > 0.8 * diameter).all()
    excess = found / diameter
    alone = column["PleuraTether"] == 0  # a strand to the pleura adds to the area
    assert np.corrcoef(excess[alone], column["SpiculationIdx"][alone])[0, 1] > 0.3


def test_scores_are_ten_times_beta() -> None:
    scores = np.array([mri.score(1, number) for number in range(2000)])
    mean, sd = 10 * 2 / 7, 10 * math.sqrt(2 * 5 / (49 * 8))
    assert abs(scores.mean() - mean) < 4 * sd / math.sqrt(2000)
    assert abs(scores.std(ddof=1) / sd - 1) < 4 * 0.7 / math.sqrt(2000)
    assert 0 <= scores.min() <= scores.max() <= 10


def test_lesions_grow_with_the_score_and_lie_where_they_should() -> None:
    made = medical.generate("regression", 24, 2, size=112)
    for name, sign in (("t1", -1), ("t2", 1)):
        truth, image = made.truth[name], made.inputs[name][..., 0]
        area = truth.sum(axis=(1, 2))
        assert np.corrcoef(area, made.labels)[0, 1] > 0.99
        intensity = (image * truth).sum(axis=(1, 2)) / area
        assert sign * np.corrcoef(intensity, made.labels)[0, 1] > 0.8
        rows = (truth * np.arange(112)[:, None]).sum(axis=(1, 2)) / area
        columns = (truth * np.arange(112)).sum(axis=(1, 2)) / area
        assert ((rows < 56) == (name == "t1")).all(), "T1's lesion is in the upper half, T2's in the lower"
        assert (np.abs(columns - 56) < 14).all()


def test_tumours_have_the_area_asked() -> None:
    """Mean and deviation of 300 areas within 3 standard errors; the compartments make up the whole."""
    found = [mri.tumour_masks(11, number, 112) for number in range(300)]
    areas = 4.0 * np.array([masks["tumour"].sum() for masks in found])  # in pixels of the full size
    mean, sd, low, high = mri.TUMOUR_AREA
    assert abs(areas.mean() - mean) < 3 * sd / math.sqrt(300)
    fourth = ((areas - areas.mean()) ** 4).mean()
    assert abs(areas.std(ddof=1) - sd) < 3 * math.sqrt((fourth - sd**4) / 300) / (2 * sd)
    assert low - 4 <= areas.min() <= areas.max() <= high + 4
    for masks in found:
        parts = masks["core"].astype(int) + masks["ring"] + masks["oedema"]
        np.testing.assert_array_equal(parts, masks["tumour"].astype(int))
        assert min(masks[name].sum() for name in ("core", "ring", "oedema")) > 3


def test_each_compartment_looks_as_it_should() -> None:
    made = medical.generate("segmentation", 8, 2, size=112)

    def level(image: str, part: str) -> float:
        return float(made.inputs[image][..., 0][made.masks[part]].mean())

    assert level("flair", "oedema") > level("flair", "ring") > level("flair", "core") + 0.3
    assert level("t1ce", "ring") > level("t1ce", "oedema") + 0.3 > level("t1ce", "core") + 0.5


def test_masks_alone_are_those_of_the_set(sets: dict[str, MedicalSet]) -> None:
    for number in range(6):
        for name, mask in mri.tumour_masks(3, number, SIZE).items():
            np.testing.assert_array_equal(mask, sets["segmentation"].masks[name][number])


@pytest.mark.process
def test_any_number_of_workers_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    other = medical.write(tmp_path / "two", 6, 3, 4, 9, workers=2, progress=False, size=SIZE)
    assert contents(other) == contents(folder)
    assert set(contents(folder)) == {*every_file(), "settings.json"}


@pytest.mark.parametrize("task", medical.TASKS)
def test_what_is_read_is_what_was_generated(folder: Path, sets: dict[str, MedicalSet], task: str) -> None:
    assert_same(medical.read(folder, task), sets[task])
    explained = medical.read(folder, task, xai=True)
    assert_same(explained, medical.generate(task, 4, 9, size=SIZE, xai=True))
    assert explained.ids[0] == f"{task[:3].replace('cla', 'cls')}-xai-0000"


def test_the_files_hold_what_their_names_say(folder: Path) -> None:
    with np.load(folder / "cls_tabular.npz") as found:
        assert tuple(found["features"]) == medical.FEATURES
        assert found["values"].shape == (6, 12)
    lines = (folder / "cls_metadata.csv").read_text().splitlines()
    assert lines[0].split(",")[:5] == ["id", "label", "class", "side_of_image", "nodule_pixels"]
    assert lines[2].startswith("cls-0001,1,malignant,right,")
    with np.load(folder / "reg_t1.npz") as one, np.load(folder / "seg_truth.npz") as masks:
        assert one["images"].shape == (6, SIZE, SIZE)
        assert set(masks.files) == {"tumour", "core", "ring", "oedema", "flair", "t1ce"}


def test_a_whole_set_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    medical.write(folder, 6, 3, 4, 9, size=SIZE)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert "holds this data set already" in capsys.readouterr().err


def test_other_settings_and_damage_write_the_set_anew(tmp_path: Path) -> None:
    mine = tmp_path / "notes.txt"
    mine.write_text("mine")

    def write(n: int) -> Path:
        return medical.write(tmp_path, n, 3, 1, 9, workers=1, progress=False, size=32)

    write(4)
    first = contents(tmp_path)
    write(5)
    assert len(medical.read(tmp_path, "regression")) == 5
    write(4)
    path = tmp_path / "reg_t1.npz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InvalidFile, match="not a whole npz"):
        medical.read(tmp_path, "regression")
    (tmp_path / "seg_truth.npz").unlink()
    with pytest.raises(InvalidFile, match="missing"):
        medical.read(tmp_path, "segmentation")
    write(4)
    assert contents(tmp_path) == first
    assert mine.read_text() == "mine"


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "reg_t1.npz").write_bytes(b"somebody's")
    with pytest.raises(InvalidFile, match=r"holds reg_t1\.npz"):
        medical.write(tmp_path, 4, 3, 1, 9, progress=False, size=32)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(InvalidFile, match="not written by"):
        medical.write(tmp_path, 4, 3, 1, 9, progress=False, size=32)
    assert (tmp_path / "reg_t1.npz").read_bytes() == b"somebody's"


def test_an_unfinished_set_is_not_read_and_can_be_finished(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"no settings\.json"):
        medical.read(tmp_path, "regression")
    settings = json.loads((folder / "settings.json").read_text())
    del settings["files"]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    os.link(folder / "reg_t1.npz", tmp_path / "reg_t1.npz")
    with pytest.raises(InvalidFile, match="was not finished"):
        medical.read(tmp_path, "regression")
    medical.write(tmp_path, 6, 3, 4, 9, workers=1, progress=False, size=SIZE)
    assert contents(tmp_path) == contents(folder)


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    medical.write(tmp_path, 4, 3, 1, 9, workers=1, progress=False, size=32)
    good = np.load(tmp_path / "reg_t1.npz")["images"]
    for bad, words in (
        ({"images": good * 2}, r"leave \[0, 1\]"),
        ({"images": np.where(good > 0.5, np.nan, good).astype(np.float32)}, r"leave \[0, 1\]"),
        ({"images": good.astype(np.float64)}, "are float64"),
        ({"pictures": good}, "has no array 'images'"),
        ({"images": good[:3]}, "write the set again|not bool"),
    ):
        np.savez(tmp_path / "reg_t1.npz", **bad)  # type: ignore[arg-type]
        with pytest.raises(InvalidFile, match=words):
            medical.read(tmp_path, "regression")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "detection"}, "no task is called 'detection'"),
        ({"n": 0}, "n is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"size": 8}, "size is 8"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=words):
        medical.generate(**{"task": "regression", "n": 1, "seed": 0, "size": 32, **settings})


def test_splits_are_disjoint_whole_and_stratified() -> None:
    labels = np.arange(300) % 2
    for given in (None, labels):
        parts = medical.split(300, 1, given)
        assert {name: len(rows) for name, rows in parts.items()} == {
            "train": 210,
            "valid": 45,
            "test": 45,
        } or given is not None
        np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(300))
    for rows in medical.split(300, 1, labels).values():
        assert abs(int((labels[rows] == 0).sum()) - int((labels[rows] == 1).sum())) <= 2
    assert not np.array_equal(medical.split(300, 1)["test"], medical.split(300, 2)["test"])
    for arguments, words in (
        ((3,), "at least 4"),
        ((4, 0, [0, 0, 0, 1]), "class 0|class 1"),
        ((4, 0, [0.5] * 4), "float64"),
    ):
        with pytest.raises(InvalidInput, match=words):
            medical.split(*arguments)  # type: ignore[arg-type]


def test_the_command_writes_the_sets_and_the_card(tmp_path: Path) -> None:
    words = ("data", "medical", "--out", str(tmp_path), "--n", "4", "--xai-n", "1", "--workers", "1", "--no-signal")
    done = crossxai(*words)
    assert done.exit_code == 0, done.output
    assert "cls_xai_images.npz" in done.output
    assert "data_card.html" in done.output
    card = (tmp_path / "data_card.html").read_text(encoding="utf-8")
    assert "This is the control set" in card
    assert "from no patient" in card
    assert card.count("data:image/png") == 11
    assert "http" not in card.replace("http-equiv", "")
    assert not medical.read(tmp_path, "segmentation").inputs["flair"].max() > 1
    (tmp_path / "settings.json").write_text("{}")
    refused = crossxai(*words)
    assert refused.exit_code == 2
    assert "not written by" in refused.output


def test_a_set_says_whether_it_holds_the_signal(folder: Path, tmp_path: Path) -> None:
    assert source.structure(folder, "segmentation") == {"flair": "sufficient", "t1ce": "partial"}
    control = medical.write(tmp_path, 4, 3, 1, 9, workers=1, planted=False, progress=False, size=32)
    assert not source.planted(control)
    assert source.structure(control, "classification") == {"ct": "uninformative", "table": "uninformative"}


def test_samples_to_explain_are_not_those_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"seed and xai_seed are both 3: .* write two seeds"):
        medical.write(tmp_path, 4, 3, 1, 3, progress=False, size=32)
    assert not list(tmp_path.iterdir())

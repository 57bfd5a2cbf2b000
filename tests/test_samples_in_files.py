"""Samples in files: masks, tables and names that are declared, in Python, TOML and on the command line; what is left out."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
from documented import ROOT
from experiments import crossxai, toml
from PIL import Image

import crossxai as xai
from crossxai.data import arrays
from crossxai.experiment import reading
from crossxai.files.samples import read_samples

SIDE = 8
NAMES = ("cats/a", "cats/b", "dogs/a", "dogs/c")
MODEL = """
import numpy as np
from crossxai import Modality
from crossxai.adapters.numpy import FunctionModel

IMAGE, TABLE = Modality.image(), Modality.table(("age", "dose"))
def both():
    def f(image, table):
        s = image[:, :4, :4].mean(axis=(1, 2, 3)) * table[:, 0]
        return np.stack([-s, s], axis=1)
    return FunctionModel(f, (IMAGE, TABLE), name="both")
def image():
    return FunctionModel(lambda x: np.stack([x[:, :4, :4].mean(axis=(1, 2, 3)), x.mean(axis=(1, 2, 3))], axis=1), (IMAGE,))
def regions():
    return FunctionModel(lambda x: np.stack([1 - x[..., 0], x[..., 0]], axis=-1), (IMAGE,), output_axes=("y", "x", "class"),
                         outputs="probabilities")
def pair():
    front, side = Modality.image("front"), Modality.image("side")
    return FunctionModel(lambda a, b: np.stack([a.mean(axis=(1, 2, 3)), b.mean(axis=(1, 2, 3))], axis=1), (front, side))
def row():
    return FunctionModel(lambda t: t[:, :2] * 1.0, (TABLE,))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pictures of two classes and one that is damaged, masks of three, a table, and models; the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for place, name in enumerate(NAMES):
        for kind in ("photos", "masks"):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(f"photos/{name}.png")
        if place:
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[place : place + 3, :4] = 255
            Image.fromarray(mask).save(f"masks/{name}.png")
    Path("photos/dogs/b.png").write_bytes(b"")
    rows = [f"{name}.png,{30 + place},{'' if place == 3 else place}" for place, name in enumerate(NAMES)]
    Path("people.csv").write_text("picture,age,dose\n" + "\n".join(rows) + "\n")
    Path("file_models.py").write_text(MODEL)
    return tmp_path


def model(name: str) -> Any:
    return xai.wrap(f"file_models:{name}")


def mask(place: int) -> Any:
    values = np.zeros((SIDE, SIDE), bool)
    values[place : place + 3, :4] = True
    return values


def test_masks_of_a_folder_are_the_truth_of_the_pictures_with_their_names(folder: Path) -> None:
    batch = arrays.read(model("image"), xai.Files("photos", masks="masks"))
    assert batch.ids == NAMES
    assert batch.masks is not None
    for place, found in enumerate(batch.masks):
        np.testing.assert_array_equal(found, mask(place) if place else np.zeros((SIDE, SIDE), bool))
    assert "1 of 4 samples have no mask, and an empty one stands for it" in batch.notes
    assert "of 5 files or rows 1 was left out (dogs/b.png: is empty)" in batch.notes
    samples, *_ = reading.samples_of(model("image"), batch)
    assert samples.left_out == (("dogs/b.png", "is empty"),)
    np.testing.assert_array_equal(samples.truth["image"], batch.masks)
    np.testing.assert_array_equal(samples.masks["mask"], batch.masks)
    by_pattern = arrays.read(model("image"), xai.Files("photos/*/*.png", masks="masks/{}.png"))
    np.testing.assert_array_equal(by_pattern.masks, batch.masks)
    Path("by_column.csv").write_text("file,outline\nphotos/cats/b.png,masks/cats/b.png\nphotos/dogs/a.png,../x.png\n")
    by_column = arrays.read(model("image"), xai.Files("by_column.csv", masks="outline"))
    np.testing.assert_array_equal(by_column.masks, batch.masks[1:2])
    assert "its mask lies outside of" in by_column.left_out[0].reason


def test_a_mask_of_another_picture_with_the_same_name_is_not_taken(folder: Path) -> None:
    Path("masks/dogs/a.png").unlink()
    Path("masks/cats/b.png").rename("masks/cats/a.png")
    batch = arrays.read(model("image"), xai.Files("photos", masks="masks"))
    assert batch.masks is not None
    assert [bool(found.any()) for found in batch.masks] == [True, False, False, True]  # no mask of cats/a for dogs/a


def test_masks_are_resized_and_cut_as_their_pictures(folder: Path) -> None:
    wide, drawn = np.zeros((16, 32, 3), np.uint8), np.zeros((16, 32), np.uint8)
    wide[4:12, 10:18], drawn[4:12, 10:18] = 255, 1
    recognised = SimpleNamespace(size=(SIDE, SIDE), resize=None, layout="NHWC")
    small: Any = SimpleNamespace(name="small", modalities=(xai.Modality.image(),), recognised=recognised)
    Path("wide").mkdir()
    Image.fromarray(wide).save("wide/x.png")
    Image.fromarray(drawn).save("wide_mask.png")
    batch = arrays.read(small, xai.Files("wide/x.png", masks="wide_mask.png"))
    assert batch.masks is not None
    np.testing.assert_array_equal(batch.masks[0], batch.inputs[0][0, ..., 0] > 0.5)
    assert batch.masks.sum() == 4 * 4


def test_of_a_mask_that_numbers_classes_the_label_s_is_inside(folder: Path) -> None:
    numbers = np.repeat(np.arange(4, dtype=np.uint8), 2)[None].repeat(SIDE, 0)
    picture = Image.fromarray(numbers, "P")
    picture.putpalette(bytes(range(12)))
    picture.save("numbers.png")
    Path("t.csv").write_text("file,label,mask\nphotos/cats/a.png,3,numbers.png\nphotos/cats/b.png,0,numbers.png\n")
    batch = arrays.read(model("image"), xai.Files("t.csv", masks="mask"))
    np.testing.assert_array_equal(batch.masks, [numbers == 3, numbers == 0])


def test_masks_make_a_segmentation(folder: Path) -> None:
    batch = arrays.read(model("regions"), xai.Files("photos/dogs", masks="masks/dogs"))
    samples, *_ = reading.samples_of(model("regions"), batch)
    assert (samples.task, samples.labels.tolist()) == ("segmentation", [1, 1])
    np.testing.assert_array_equal(samples.masks["mask"], [mask(2), mask(3)])
    without, words, labelled = reading.samples_of(model("regions"), arrays.read(model("regions"), "photos"))
    assert (without.task, dict(without.masks), labelled) == ("segmentation", {}, reading.PREDICTED)
    assert "No true regions are known" in words


def test_a_table_is_joined_to_pictures_and_its_missing_values_follow_the_rule(folder: Path) -> None:
    said = {"table": "people.csv", "key": "picture"}
    with pytest.raises(xai.InvalidInput, match=r"people\.csv, line 5: 'dose' is missing; write missing = "):
        arrays.read(model("both"), xai.Files("photos", **said))
    batch = arrays.read(model("both"), xai.Files("photos", **said, missing="median"))
    np.testing.assert_array_equal(batch.inputs[1], [[30, 0], [31, 1], [32, 2], [33, 1]])
    assert "missing values were replaced by the median of their column (dose 1)" in batch.notes
    assert [reason for _, reason in batch.left_out] == ["people.csv has no row with picture = 'b'"]
    dropped = arrays.read(model("both"), xai.Files("photos", **said, missing="drop"))
    assert dropped.ids == NAMES[:3]
    rows = arrays.read(model("row"), xai.Files("people.csv", missing=7))
    np.testing.assert_array_equal(rows.inputs[0], [[30, 0], [31, 1], [32, 2], [33, 7]])


def test_columns_without_the_model_s_names_are_taken_in_their_order(folder: Path) -> None:
    plain: Any = SimpleNamespace(name="plain", modalities=(xai.Modality.image(), xai.Modality.table(("x0", "x1"))))
    batch = arrays.read(plain, xai.Files("photos", table="people.csv", key="picture", missing=0))
    np.testing.assert_array_equal(batch.inputs[1], [[30, 0], [31, 1], [32, 2], [33, 0]])
    assert "the columns of people.csv are taken in their order (age, dose)" in batch.notes
    with pytest.raises(xai.InvalidInput, match=r"lacks x0, x1 \(there is picture, age, dose\)"):
        arrays.read(SimpleNamespace(name="row", modalities=plain.modalities[1:]), "people.csv")  # type: ignore[arg-type]


def test_labels_of_a_table_take_the_place_of_the_folders_names(folder: Path) -> None:
    batch = arrays.read(model("image"), xai.Files("photos", table="people.csv", key="picture", labels="age"))
    assert batch.label_names == ("30", "31", "32", "33")
    assert "folders" not in " ".join(batch.notes)


def test_one_csv_file_names_the_pictures_of_several_inputs(folder: Path) -> None:
    Path("pairs.csv").write_text("a,b,y\nphotos/cats/a.png,photos/cats/b.png,1\n")
    batch = arrays.read(model("pair"), xai.Files("pairs.csv", images={"front": "a", "side": "b"}, labels="y"))
    alone = [arrays.read(model("image"), f"photos/cats/{name}.png").inputs[0] for name in "ab"]
    np.testing.assert_array_equal(batch.inputs, alone)
    assert batch.label_names == ("1",)
    with pytest.raises(xai.InvalidInput, match=r'write images = \{ front = "…" \}'):
        arrays.read(model("pair"), "pairs.csv")
    with pytest.raises(xai.InvalidInput, match=r"the model takes 2 \(front, side\): write a CSV file"):
        arrays.read(model("pair"), "photos")


def test_arrays_bring_labels_by_name_masks_and_several_inputs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    images, table = rng.random((3, SIDE, SIDE, 3), np.float32), np.array([[1, 2], [3, -999], [5, 6]], np.float32)
    drawn = np.stack([mask(1), mask(2), mask(3)])
    with h5py.File("x.h5", "w") as file:
        file["image"], file["table"], file["who"], file["m"] = images, table, ["cat", "dog", "cat"], drawn[..., None]
    said = {"labels": "who", "masks": "m", "missing": "mean", "missing_values": [-999]}
    batch = arrays.read(model("both"), xai.Files("x.h5", **said))
    np.testing.assert_array_equal(batch.inputs[0], images)
    np.testing.assert_array_equal(batch.inputs[1], [[1, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(batch.masks, drawn)
    assert batch.label_names == ("cat", "dog", "cat")
    dropped = arrays.read(model("both"), xai.Files("x.h5", **{**said, "missing": "drop"}))
    np.testing.assert_array_equal(dropped.inputs[0], images[[0, 2]])
    np.testing.assert_array_equal(dropped.masks, drawn[[0, 2]])
    assert (dropped.label_names, dropped.ids) == (("cat", "cat"), ("0", "2"))


def test_a_folder_of_arrays_has_one_a_sample(folder: Path) -> None:
    Path("arrays").mkdir()
    values = np.random.default_rng(0).random((2, SIDE, SIDE, 3), np.float32)
    for place, value in enumerate(values):
        np.save(f"arrays/{place}.npy", value)
    np.save("arrays/2.npy", values[0, 0])
    batch = arrays.read(model("image"), "arrays")
    np.testing.assert_array_equal(batch.inputs[0], values)
    assert "is no sample: 'image': " not in batch.left_out[0].reason
    assert batch.left_out[0].reason.startswith("is no sample: ")


def test_what_is_given_by_place_is_refused_where_files_were_left_out(folder: Path) -> None:
    with pytest.raises(
        xai.InvalidInput, match=r"labels is given sample by sample, and 1 files were left out, such as dogs/b.png"
    ):
        xai.compare(model("image"), "photos", [0, 1, 0, 1], explainers=["controls.random"])
    with pytest.raises(xai.InvalidInput, match="target is given sample by sample"):
        xai.explain(model("image"), "photos", "controls.random", [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"missing": "mode"}, "missing is one of mean, median, drop, or a number; got 'mode'"),
        ({"key": "id"}, "key = 'id' joins files to a table: write table = \"….csv\", too"),
        ({"masks": "nowhere"}, "masks = 'nowhere' is neither a folder nor a column"),
        ({"labels": "diagnosis"}, "labels = 'diagnosis' is a column, and there is no table"),
        ({"indices": [1]}, "indices are of arrays"),
        ({"table": "nowhere.csv"}, "nowhere.csv is not there"),
    ],
)
def test_words_that_do_not_fit_together_are_refused(folder: Path, said: dict[str, Any], words: str) -> None:
    with pytest.raises(xai.CrossXAIError) as caught:
        arrays.read(model("image"), xai.Files("photos", **said))
    assert words in str(caught.value)


DOCUMENTED = next(
    content
    for block in re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "models.md").read_text(encoding="utf-8"), re.S)
    if "masks" in (content := tomllib.loads(block))["data"]
)
CONTENT = {
    "controls": False,
    "data": DOCUMENTED["data"],
    "models": [{"name": "both", "checkpoint": "file_models:both", "outputs": "logits"}],
    "explainers": [{"name": "controls.oracle"}, {"name": "controls.random"}],
    "metrics": [{"name": "mask_share", "params": {"modality": "image"}}],
}


def test_a_run_says_what_was_left_out_in_its_folder_on_its_page_and_on_the_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "e.toml").write_text(toml(CONTENT))
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    done = crossxai("compare", str(folder / "e.toml"), "--out", "run")
    assert done.exit_code == 0, (done.output, done.exception)
    reason = "people.csv has no row with picture = 'b'"
    assert f"dogs/b.png: {reason}" in " ".join(done.output.split())
    with open("run/left_out.csv", newline="") as file:
        assert list(csv.reader(file)) == [["file", "reason"], ["dogs/b.png", reason]]
    assert read_samples(Path("run/samples.h5")).left_out == (("dogs/b.png", reason),)
    assert xai.Run("run").left_out == {"dogs/b.png": reason}
    assert json.loads(Path("run/report.json").read_text())["left_out"] == [{"file": "dogs/b.png", "reason": reason}]
    page = Path("run/report.html").read_text()
    assert "Files left out" in page
    assert '<td class="why">people.csv has no row with picture = &#39;b&#39;</td>' in page
    assert f"| dogs/b.png | {reason} |" in Path("run/report.md").read_text()
    with open("run/scores.csv", newline="") as file:
        share = {row["label"]: float(row["value"]) for row in csv.DictReader(file) if row["value"]}
    assert share["controls.oracle"] == 1 > share["controls.random"]
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["settings"]["data"]["masks"] == "masks"
    (folder / "photos/dogs/b.png").unlink()
    assert crossxai("compare", str(folder / "e.toml"), "--out", "run").exit_code == 0
    assert not Path("run/left_out.csv").exists()
    assert "Files left out" not in Path("run/report.html").read_text()


def test_the_command_line_says_the_same_by_set(folder: Path) -> None:
    (folder / "photos/cats/c.png").write_text("no picture")
    words = (
        "compare",
        "--model",
        "file_models:both",
        "--data",
        "photos",
        "--explainers",
        "controls.random",
        "--metrics",
        "mask_share",
    )
    said = ("table=people.csv", "key=picture", "missing=drop", "masks=masks")
    done = crossxai(*words, *(part for word in said for part in ("--set", f"data.{word}")), "--out", "run")
    assert done.exit_code == 0, (done.output, done.exception)
    samples = read_samples(Path("run/samples.h5"))
    assert samples.ids == NAMES[:3]
    np.testing.assert_array_equal(samples.truth["image"][1:], [mask(1), mask(2)])
    wrong = crossxai(*words, "--set", "data.key=picture", "--out", "run")
    assert wrong.exit_code == 2
    assert "joins files to a table" in wrong.output
    (folder / "lonely.toml").write_text(toml({**CONTENT, "data": {"labels": "y"}}))
    assert "labels say where in files samples are: write files, too" in crossxai("compare", "lonely.toml").output


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--size", "8"),
        ("explain", "--explainer", "controls.random", "--out", "out"),
    ],
)
def test_every_command_warns_of_what_was_left_out(folder: Path, words: tuple[str, ...]) -> None:
    done = crossxai(*words, "--model", "file_models:image", "--data", "photos")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "Left out, since they cannot be used:\n  dogs/b.png: is empty\n" in done.output

"""The HDF5 files: what is written is read, nothing is half-written, and a foreign file is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from crossxai import Attribution, InvalidFile, InvalidInput, Modality, Scores, Target, files
from crossxai.files import Origin, Predictions, Result, Samples
from crossxai.files.atomic import replacing

RNG = np.random.default_rng(0)
SAMPLES = Samples(
    ids=("a", "<b>", "ü"),
    modalities=(Modality.image(), Modality.table(("age", "dose"))),
    inputs={"image": RNG.random((3, 5, 4, 3), np.float32), "table": RNG.random((3, 2), np.float32)},
    labels=np.array([0, 1, 1]),
    classes=("no", "yes"),
    masks={"stain": RNG.random((3, 5, 4)) > 0.5},
    truth={"image": RNG.random((3, 5, 4)) > 0.5},
)
RESULT = Result(
    model="net",
    framework="torch",
    label="captum.saliency@canonical",
    library="captum",
    attribution=Attribution(
        (RNG.random((3, 5, 4, 1), np.float32),),
        (Modality.image(),),
        ("a", "b", "c"),
        "captum.saliency",
        "canonical",
        {"steps": 3, "layer": "x", "list": [1, 2.5, None]},
        {"completeness_gap": RNG.random(3)},
        1.5,
    ),
    scores={
        "deletion": Scores(
            "deletion",
            RNG.random(3),
            False,
            RNG.random((3, 4)),
            np.linspace(0, 1, 4),
            {"tie_rate": RNG.random(3)},
            {"k": 1},
        ),
        "centre_share": Scores("centre_share", np.array([0.1, np.nan, 0.3]), True),
    },
    degenerate=("", "zero", ""),
    task="t",
    score_hashes={"deletion": "j"},
    convention="c",
)


def same(a: Any, b: Any) -> None:
    for field in fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, dict):
            assert x.keys() == y.keys(), field.name
            for key in x:
                if isinstance(x[key], Scores):
                    same(x[key], y[key])
                else:
                    np.testing.assert_array_equal(x[key], y[key], err_msg=field.name)
        elif isinstance(x, Attribution):
            assert x == y
        elif isinstance(x, np.ndarray):
            np.testing.assert_array_equal(x, y, err_msg=field.name)
        else:
            assert x == y, field.name


def test_masks_keep_their_order(tmp_path: Path) -> None:
    """The first is the true region of a segmentation; HDF5 would give them by name."""
    masks = {name: np.full((3, 5, 4), name == "tumour") for name in ("tumour", "core")}
    files.write_samples(tmp_path / "s.h5", replace(SAMPLES, masks=masks))
    assert list(files.read_samples(tmp_path / "s.h5").masks) == ["tumour", "core"]
    with h5py.File(tmp_path / "s.h5", "a") as file:
        del file.attrs["masks"]  # as files of older versions are
    assert set(files.read_samples(tmp_path / "s.h5").masks) == {"tumour", "core"}


@pytest.mark.parametrize(("name", "shape"), [("image", (3, 5, 5)), ("image", (2, 5, 4)), ("table", (3, 2))])
def test_truth_that_does_not_fit_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"truth of|rows for 3 ids"):
        replace(SAMPLES, truth={name: np.ones(shape, bool)})


def test_maps_of_a_run_have_the_inputs_that_their_model_took(tmp_path: Path) -> None:
    """In the model's order: the image of the samples, and the table in standard units."""
    columns, picture = SAMPLES.modalities[1], SAMPLES.modalities[0]
    units = (SAMPLES.inputs["table"] - 0.5) / 0.1
    outputs, target = RNG.random((3, 2)), Target.classes([0, 1, 1], 2, "softmax")
    origin = Origin("net", "torch", "", outputs, (columns, picture), (units, SAMPLES.inputs["image"]))
    predictions = Predictions("net", "torch", outputs, outputs[:, 0], "…")
    files.write_samples(tmp_path / "samples.h5", SAMPLES)
    written = tmp_path / "predictions" / "net.h5"
    files.write_predictions(written, predictions, target, origin, SAMPLES)
    same(predictions, files.read_predictions(written))
    with h5py.File(written) as file:
        assert [*file["origin/inputs"]] == ["table"]
    result = tmp_path / "explanations" / "net" / "e.h5"
    files.write_result(result, RESULT)
    read = Attribution.load(result)
    assert (read, read.target) == (RESULT.attribution, target)
    assert [m.name for m in read.origin.modalities] == ["table", "image"]
    np.testing.assert_array_equal(read.origin.by_name["table"], units)
    np.testing.assert_array_equal(read.inputs[0], SAMPLES.inputs["image"])
    files.write_predictions(written, predictions)  # as older versions did
    assert Attribution.load(result).origin is None
    files.write_result(result, replace(RESULT, status="failed", reason="no memory"))
    with pytest.raises(InvalidFile, match="holds no maps: no memory"):
        Attribution.load(result)


def test_round_trips(tmp_path: Path) -> None:
    files.write_samples(tmp_path / "s.h5", SAMPLES)
    same(SAMPLES, files.read_samples(tmp_path / "s.h5"))
    predictions = Predictions(
        "net", "torch", RNG.random((3, 2)), RNG.random(3), "probability of …", {"classes": [0, 1, 1]}
    )
    files.write_predictions(tmp_path / "p.h5", predictions)
    same(predictions, files.read_predictions(tmp_path / "p.h5"))
    files.write_result(tmp_path / "new" / "e.h5", RESULT)
    same(RESULT, files.read_result(tmp_path / "new" / "e.h5"))
    none = Attribution((), (), ("a", "b", "c"), "captum.saliency")
    refused = replace(RESULT, attribution=none, scores={}, degenerate=(), status="unsupported", reason="no gradients")
    files.write_result(tmp_path / "u.h5", refused)
    same(refused, files.read_result(tmp_path / "u.h5"))


def test_a_file_of_an_earlier_version_takes_its_modalities_from_the_samples_of_its_run(tmp_path: Path) -> None:
    files.write_samples(tmp_path / "samples.h5", SAMPLES)
    path = tmp_path / "explanations" / "net" / "e.h5"
    files.write_result(path, RESULT)
    with h5py.File(path, "a") as file:
        del file.attrs["modalities"]
        for name in ("axes", "features", "range"):
            del file["values/image"].attrs[name]
    same(RESULT, files.read_result(path))
    (tmp_path / "samples.h5").unlink()
    with pytest.raises(InvalidFile, match=r"samples\.h5 does not exist"):
        files.read_result(path)


def test_the_documented_layout(tmp_path: Path) -> None:
    """docs/file-format.md promises these names to people who read the files with other tools."""
    files.write_result(tmp_path / "e.h5", RESULT)
    found: list[str] = []
    with h5py.File(tmp_path / "e.h5") as file:
        file.visit(found.append)
        attributes = {f"@{name}" for name in file.attrs}
    text = (Path(__file__).parents[1] / "docs" / "file-format.md").read_text(encoding="utf-8")
    general = {name.replace("deletion", "<metric>").replace("centre_share", "<metric>") for name in found}
    for name in {
        n.replace("tie_rate", "<name>")
        .replace("values/image", "values/<modality>")
        .replace("completeness_gap", "<name>")
        for n in general
    } | attributes:
        assert f"`{name}`" in text, name


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    files.write_result(path, RESULT)
    with pytest.raises(TypeError):
        files.write_result(path, replace(RESULT, attribution=replace(RESULT.attribution, extras={"x": object()})))
    same(RESULT, files.read_result(path))
    assert [p.name for p in tmp_path.iterdir()] == ["e.h5"]

    def interrupted() -> None:
        with replacing(tmp_path / "t.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["e.h5"]


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "e.h5"
    with pytest.raises(InvalidFile, match="does not exist"):
        files.read_result(path)
    files.write_result(path, RESULT)
    with pytest.raises(InvalidFile, match="no CrossXAI samples file: it says format 'crossxai', kind 'explanation'"):
        files.read_samples(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidFile, match="truncated or damaged"):
        files.read_result(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(InvalidFile, match="cannot be read as HDF5"):
        files.read_result(path)
    with h5py.File(path, "w") as file:
        file["x"] = [1]
    with pytest.raises(InvalidFile, match="it says format None"):
        files.read_result(path)
    files.write_result(path, RESULT)
    with h5py.File(path, "a") as file:
        del file["ids"]
    with pytest.raises(InvalidFile, match="lacks what a CrossXAI explanation file holds"):
        files.read_result(path)
    files.write_result(path, RESULT)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 99
    with pytest.raises(InvalidFile, match="format version 99; this CrossXAI reads up to 1"):
        files.read_result(path)
    files.write_result(path, RESULT)
    with h5py.File(path, "a") as file:
        del file["values/image"]
        file["values/image"] = np.zeros((2, 5, 4, 1), np.float32)
    with pytest.raises(InvalidFile, match=r"values/image is float32 .* for 3 samples"):
        files.read_result(path)
    files.write_samples(tmp_path / "s.h5", SAMPLES)
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file["inputs/image"][...] = 300
    with pytest.raises(InvalidInput, match="declared range"):
        files.read_samples(tmp_path / "s.h5")


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidFile, match=r"cannot write in .*; choose another by --out"):
            files.writable_folder(place)
    assert files.writable_folder(tmp_path / "a" / "b").is_dir()

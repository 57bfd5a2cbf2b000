"""Models and data by name or file on the command line and in experiment files: check, parity, compare, and their pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
import torchvision
from documented import commands, followed
from experiments import crossxai, toml
from PIL import Image

import crossxai as xai
from crossxai.data import arrays
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.experiment import reading
from crossxai.experiment.specification import check

NAME = "squeezenet1_1"
OWN = """
from torch import nn
import torch
def net(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, classes)).eval()
def value():
    return net(1)
def broken():
    raise KeyError("lost")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five pictures of three sizes in two folders, a table of them, arrays, and networks; the working directory."""
    rng = np.random.default_rng(0)
    rows = []
    for place, name in enumerate(("cats/a", "cats/b", "dogs/a", "dogs/c", "dogs/d")):
        path = tmp_path / "pictures" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = [(20, 24), (24, 20), (32, 40)][place % 3]
        Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(path)
        rows.append(f"pictures/{name}.png,{place % 3}")
    (tmp_path / "table.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    images = rng.random((9, 16, 16, 3), np.float32)
    np.save(tmp_path / "images.npy", images)
    np.savez(tmp_path / "images.npz", image=images, labels=np.array([0, 1, 2] * 3))
    (tmp_path / "by_name_own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model(**options: Any) -> Any:
    return xai.wrap("by_name_own:net", **{"size": 16, **options})


# samples


def test_sub_folders_a_table_a_pattern_and_arrays_are_samples(folder: Path) -> None:
    own = model()
    batch = arrays.read(own, "pictures")
    assert batch.ids == ("cats/a", "cats/b", "dogs/a", "dogs/c", "dogs/d")
    assert batch.label_names == ("cats", "cats", "dogs", "dogs", "dogs")
    assert batch.inputs[0].shape == (5, 16, 16, 3)
    few = arrays.read(own, "pictures", samples=3)
    assert few.label_names == ("cats", "cats", "dogs")  # of each class in turn
    table = arrays.read(own, Path("table.csv"))
    np.testing.assert_array_equal(table.inputs[0], batch.inputs[0])
    assert table.label_names == ("0", "1", "2", "0", "1")
    pattern = arrays.read(own, "pictures/*/a.png")
    np.testing.assert_array_equal(pattern.inputs[0], batch.inputs[0][[0, 2]])
    one = arrays.read(own, "pictures/cats/a.png")
    np.testing.assert_array_equal(one.inputs[0], batch.inputs[0][:1])
    images = np.load("images.npy")
    np.testing.assert_array_equal(arrays.read(own, "images.npy", samples=4).inputs[0], images[:4])
    named = arrays.read(own, "images.npz")
    assert named.labels is not None
    np.testing.assert_array_equal(named.labels, [0, 1, 2] * 3)
    assert "the first 4 of 9 samples of images.npy (samples=4)" in arrays.read(own, "images.npy", samples=4).notes


def test_sixteen_bits_are_brought_to_eight_and_32_refused(folder: Path) -> None:
    ramp = np.linspace(0, 65535, 256).reshape(16, 16)
    Image.fromarray(ramp.astype(np.uint16)).save("deep.png")
    values = arrays.read(model(), "deep.png").inputs[0]
    np.testing.assert_allclose(values[0, ..., 0], ramp / 65535, atol=1 / 255)
    Image.fromarray(ramp.astype(np.float32)).save("float.tif")
    with pytest.raises(InvalidFile, match="values of 32 bits, whose range nothing tells"):
        arrays.read(model(), "float.tif")


@pytest.mark.parametrize(
    ("files", "given", "words"),
    [
        ({"t.csv": "name\nx\n"}, "t.csv", "needs a column with the head file"),
        ({"t.csv": "file,label\npictures/cats/a.png,\npictures/cats/b.png,1\n"}, "t.csv", "a label for 1 of 2 rows"),
        ({"t.csv": "file\nlost.png\n"}, "t.csv", "no sample is left of t.csv: lost.png: is not there"),
        ({"x.npy": "no array"}, "x.npy", "is no NumPy file that can be read without running code"),
        ({"a.csv": "", "b.csv": ""}, ".", "holds several tables (a.csv, b.csv): name one of them"),
        ({"empty/readme.txt": ""}, "empty", "holds no picture"),
        ({"bad.png": "no picture"}, "bad.png", "is no picture that Pillow can read"),
        ({}, "nowhere/*.png", "no picture (.png, .jpg"),
    ],
)
def test_what_cannot_be_read_is_an_error_in_words(folder: Path, files: dict[str, str], given: str, words: str) -> None:
    (folder / "table.csv").unlink()
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with pytest.raises((InvalidFile, InvalidInput)) as caught:
        arrays.read(model(), given)
    assert words in str(caught.value)


def test_pickled_arrays_are_not_read(folder: Path) -> None:
    np.save("evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidFile, match="without running code"):
        arrays.read(model(), "evil.npy")


def test_labels_by_name_are_the_model_s_classes_or_said_not_to_be(folder: Path) -> None:
    own = model()
    batch = arrays.read(own, "pictures")
    left, words, *_ = reading.samples_of(own, batch)
    assert words.startswith("Labels are not classes of the model: the classes that net predicts take their place.")
    np.testing.assert_array_equal(left.labels, own.predict(batch.inputs).argmax(axis=1))
    known, words, *_ = reading.samples_of(own, batch, classes=("bird", "Dogs", "Cats"))
    np.testing.assert_array_equal(known.labels, [2, 2, 1, 1, 1])
    assert "predicts" not in words
    numbers, *_ = reading.samples_of(own, arrays.read(own, "table.csv"))
    np.testing.assert_array_equal(numbers.labels, [0, 1, 2, 0, 1])


def test_as_many_names_as_outputs_are_numbered_by_the_alphabet(folder: Path) -> None:
    (folder / "by_name_two.py").write_text(OWN.replace("classes=3", "classes=2"))
    own = xai.wrap("by_name_two:net", size=16)
    made, words, *_ = reading.samples_of(own, arrays.read(own, "pictures"))
    np.testing.assert_array_equal(made.labels, [0, 0, 1, 1, 1])
    assert made.classes == ("cats", "dogs")
    assert "Classes are numbered by the alphabet: cats 0, dogs 1." in words
    one = xai.wrap("by_name_own:value", size=16)  # one output tells two classes apart
    made, *_ = reading.samples_of(one, arrays.read(one, "pictures"))
    assert (made.task, made.classes) == ("classification", ("cats", "dogs"))
    (folder / "values.csv").write_text("file,label\npictures/cats/a.png,0.5\npictures/dogs/c.png,2\n")
    made, *_ = reading.samples_of(one, arrays.read(one, "values.csv"))
    assert (made.task, made.classes, made.labels.tolist()) == ("regression", ("0",), [0.5, 2.0])


# the command line


def test_parity_of_a_network_by_name_on_a_folder_of_pictures(folder: Path) -> None:
    torch.manual_seed(0)
    net = torchvision.models.get_model(NAME, weights=None, num_classes=3)
    torch.save(net.state_dict(), "own.pt")
    words = ("--model", f"torchvision:{NAME}@own.pt", "--data", "pictures", "--size", "32", "--samples", "2")
    done = crossxai("parity", *words, "--method", "saliency", "--out", "parity")
    assert done.exit_code == 0, (done.output, done.exception)
    assert re.search("saliency: native different, canonical (identical|equal to rounding)", done.output)
    facts = json.loads(Path("parity/parity.json").read_text())
    assert facts["about"][0]["name"] == NAME
    assert "weights: own.pt, of 3 classes" in facts["about"][0]["recognised"]
    page = Path("parity/parity.html").read_text()
    assert "labels are the names of the folders" in page.lower()
    assert "has random weights" not in page


def test_compare_of_two_networks_by_name_ends_with_a_page_that_says_what_they_are(folder: Path) -> None:
    words = (
        "--model",
        "by_name_own:net",
        "--model",
        f"torchvision:{NAME}@random",
        "--data",
        "table.csv",
        "--size",
        "32",
    )
    done = crossxai(
        "compare", *words, "--explainers", "captum.saliency, controls.random", "--metrics", "deletion", "--out", "run"
    )
    assert done.exit_code == 0, (done.output, done.exception)
    manifest = json.loads(Path("run/manifest.json").read_text())
    own, named = manifest["models"]
    assert (own["name"], own["random"], named["name"], named["random"]) == ("net", False, NAME, True)
    assert "random weights (seed 0): nobody trained this network" in named["recognised"]
    assert "pictures were resized" in manifest["data"]["description"].lower()
    page = Path("run/report.html").read_text()
    assert f"<b>{NAME}</b> (PyTorch, <b>random weights</b>)" in page
    again = crossxai("evaluate", "run", "--preset", "rise", "--limit", "2", "--model", NAME)
    assert again.exit_code == 0, (again.output, again.exception)


def test_trust_is_of_a_command_and_not_of_a_run_s_files(folder: Path) -> None:
    torch.save(model().module, "pickled.pt")
    words = (
        "compare",
        "--model",
        "pickled.pt",
        "--data",
        "images.npz",
        "--explainers",
        "captum.saliency",
        "--out",
        "run",
    )
    refused = crossxai(*words)
    assert refused.exit_code == 2
    assert "run code from the file" in " ".join(refused.output.split())
    done = crossxai(*words, "--trust", "--metrics", "deletion", "--size", "16")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "trust" not in json.loads(Path("run/manifest.json").read_text())["settings"]["models"][0]
    again = ("evaluate", "run", "--preset", "rise", "--limit", "2")
    assert "run code from the file" in " ".join(crossxai(*again).output.split())
    assert crossxai(*again, "--trust").exit_code == 0


def test_an_experiment_file_names_a_file_of_weights_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = torchvision.models.get_model(NAME, weights=None, num_classes=3)
    torch.save(net.state_dict(), "own.pt")
    content = {
        "controls": False,
        "data": {"files": "table.csv", "n": 3},
        "models": [
            {
                "name": "named",
                "checkpoint": f"torchvision:{NAME}@own.pt",
                "size": 32,
                "standardise": [[0.5] * 3, [0.25] * 3],
            },
            {"name": "broken", "checkpoint": "by_name_own:broken"},
        ],
        "explainers": [{"name": "captum.saliency"}],
        "metrics": [{"name": "deletion", "params": {"steps": 3}}],
    }
    (folder / "e.toml").write_text(toml(content))
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    done = crossxai("compare", str(folder / "e.toml"), "--out", str(folder / "out"))
    assert done.exit_code == 3, (done.output, done.exception)
    named, broken = json.loads((folder / "out" / "manifest.json").read_text())["models"]
    assert "failed" not in named
    assert "KeyError: 'lost'" in broken["failed"]
    loaded = reading.models_and_samples(check({**content, "models": content["models"][:1], "folder": folder}))[0][
        "named"
    ]  # type: ignore[index]
    assert loaded.mean == {"image": (0.5, 0.5, 0.5)}
    assert loaded.framework == "torch"


def test_models_that_take_other_pictures_are_refused_with_what_to_write(folder: Path) -> None:
    def experiment(**other: Any) -> Any:
        models = [{"name": name, "checkpoint": "by_name_own:net", "size": 16} for name in ("one", "two")]
        models[1] |= other
        parts = {"explainers": [{"name": "captum.saliency"}], "metrics": [{"name": "deletion"}]}
        return check({"data": {"files": "pictures"}, "models": models, **parts, "folder": folder})

    with pytest.raises(InvalidInput, match=r"'one' of 16 × 16, 'two' of 24 × 24\): write size for all"):
        reading.models_and_samples(experiment(size=24))
    with pytest.raises(InvalidInput, match=r"range = \[0, 1\] .* per channel, mean 0 and sd 0.00392157"):
        reading.models_and_samples(experiment(range=[0, 255]))
    with pytest.raises(InvalidInput, match=r"range = \[0, 1\] .* sd 0.00392157"):
        xai.compare([model(), model(range=(0, 255))], np.load("images.npy"), explainers=["captum.saliency"])
    # What the message says to write gives the same numbers as the pictures from 0 to 255.
    scaled = model(range=(0, 1), standardise=([0] * 3, [1 / 255] * 3))
    images = np.load("images.npy")
    np.testing.assert_allclose(scaled.predict((images,)), model(range=(0, 255)).predict((images * 255,)), rtol=1e-4)


def test_check_takes_a_model_by_name_on_noise_and_on_pictures(folder: Path) -> None:
    for words in (
        ("by_name_own:net",),
        ("--model", "by_name_own:net", "--data", "images.npz"),
        ("--model", "by_name_own:net"),
    ):
        done = crossxai("check", *words, "--size", "16")
        assert done.exit_code == 0, (done.output, done.exception)
        assert "model net" in done.output
        assert "Nothing is broken." in done.output
        assert ("samples are right" in done.output) == ("images.npz" in words)  # which nobody can tell without labels


@pytest.mark.process
def test_the_documented_commands(folder: Path) -> None:
    (folder / "pictures" / "cats").rename(folder / "photos")
    net = torchvision.models.get_model(NAME, weights=None)
    torch.save(net.state_dict(), "own.pt")
    lines = commands("models.md")
    assert {line.split()[1] for line in lines} == {"check", "parity", "compare"}
    followed(folder, lines)
    assert Path("out/report.html").is_file()
    assert Path("out/parity/parity.html").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("parity", "--model", "torchvision:resnet18@random"), "--model needs --data"),
        (("compare",), "write an experiment file, or --model and --data"),
        (("check",), "write an experiment file, or --model"),
        (("compare", "e.toml", "--model", "by_name_own:net"), "an experiment file names its models"),
        (("parity", "--model", "torchvision:resnet81", "--data", "images.npy"), "did you mean resnet18"),
        (("parity", "--model", "by_name_own:broken", "--data", "images.npy"), "raises KeyError: 'lost'"),
        (("parity", "--model", "by_name_own:net", "--data", "nowhere"), "nowhere is not there"),
    ],
)
def test_wrong_options_are_one_message(folder: Path, words: tuple[str, ...], message: str) -> None:
    done = crossxai(*words)
    assert done.exit_code == 2, (done.output, done.exception)
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_a_network_of_other_values_is_put_on_the_first_one_s_scale(folder: Path) -> None:
    """A Keras file that takes 0 to 255 beside a torch network that takes 0 to 1 and subtracts a mean, in either order."""
    given = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 127.5, offset=-1)(given))
    net = keras.Model(given, keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x)))
    net.save("scaled.keras")
    torch_net = {"name": "torch", "checkpoint": "by_name_own:net", "size": 16, "standardise": "imagenet"}
    pair = [torch_net, {"name": "keras", "checkpoint": "scaled.keras"}]
    for models, scale in ((pair, 1.0), (pair[::-1], 255.0)):
        loaded, failed, made, _ = reading.models_and_samples(
            check({"data": {"files": "pictures"}, "models": models, "folder": folder})
        )
        assert not failed
        images = made.inputs["image"]
        assert images.max() > 0.9 * scale
        outputs = {name: one.model.predict((images,)) for name, one in loaded.items()}
        np.testing.assert_allclose(outputs["keras"], net.predict(images * (255 / scale), verbose=0), atol=1e-5)
        alone = model(standardise="imagenet")
        np.testing.assert_allclose(outputs["torch"], alone.predict((images / np.float32(scale),)), atol=1e-4)
    words = (
        "compare",
        "--model",
        "by_name_own:net",
        "--model",
        "scaled.keras",
        "--data",
        "pictures",
        "--size",
        "16",
        "-q",
    )
    done = crossxai(*words, "-e", "captum.saliency", "--out", "both")
    assert done.exit_code == 0, done.output
    rows = xai.Run("both").scores
    deletion = rows[rows["metric"] == "deletion"]
    assert set(deletion["model"]) == {"net", "scaled"}
    assert deletion["value"].between(0, 1).all()  # probabilities of logits and of a softmax alike

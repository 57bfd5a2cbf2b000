"""Maps that travel: a file of maps is evaluated in the other framework, a recipe makes the same map there, plain arrays of the
libraries become attributions, and maps are written for other programs."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import keras
import nibabel
import numpy as np
import pytest
import torch
import xarray
from captum.attr import IntegratedGradients
from documented import commands, followed
from experiments import crossxai
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from test_imports import BLOCK, python
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from xplique.attributions import Saliency

import crossxai as xai
from crossxai.errors import install_command

IMAGES = (np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)) / 255).astype(np.float32)
MODULE = """
import torch
from torch import nn

def network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(392, 4)
    layers[-1].weight.data *= 20
    return nn.Sequential(*layers).eval()
"""
EXPLAIN = ("explain", "--data", "photos", "--size", "32", "--out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network as a function in a file, its port as a Keras file, pictures, and what the documented commands make of them."""
    place = tmp_path_factory.mktemp("explained")
    (place / "own_network.py").write_text(MODULE, encoding="utf-8")
    pictures(place)
    xai.port(network(), "keras", IMAGES, out=place)
    followed(place, commands("explanations.md"))
    return place


def pictures(place: Path) -> None:
    """The images as files in photos/."""
    (place / "photos").mkdir()
    for row, image in enumerate(IMAGES):
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(place / "photos" / f"{row}.png")


def network(seed: int = 0) -> nn.Module:
    names: dict[str, Any] = {}
    exec(MODULE, names)
    made: nn.Module = names["network"](seed)
    return made


def relative(one: xai.Attribution, other: xai.Attribution) -> float:
    (a,), (b,) = one.values, other.values
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def test_a_recipe_makes_the_same_map_in_the_other_framework(folder: Path) -> None:
    ours, theirs = (xai.Attribution.load(folder / "out" / name / "maps.h5") for name in ("explained", "again"))
    assert (ours.origin.framework, theirs.origin.framework) == ("torch", "tensorflow")
    assert (ours.ids, ours.profile, ours.params["steps"]) == (("0", "1", "2"), "canonical", 20)
    alone = xai.explain(network(), IMAGES, ours.explainer, profile="canonical", steps=20)
    assert max(relative(alone, ours), relative(ours, theirs)) <= 1e-4
    texts = [(folder / "out" / name / "recipe.toml").read_text(encoding="utf-8") for name in ("explained", "again")]
    assert texts[0] == texts[1]
    pictures = sorted((folder / "out" / "again" / "pictures").iterdir())
    assert [path.name for path in pictures] == ["000_0.png", "001_1.png", "002_2.png"]
    with Image.open(pictures[0]) as picture:
        assert picture.width > 100


def test_a_file_of_maps_is_evaluated_on_the_port(folder: Path) -> None:
    file = folder / "out" / "explained" / "maps.h5"
    measured = [
        xai.evaluate(m, attributions=file, metrics=["insertion"]) for m in (str(folder / "model.keras"), network())
    ]
    values = [found["captum.integrated_gradients"]["insertion"].value for found in measured]
    assert np.ptp(values[0]) > 1e-3
    np.testing.assert_allclose(*values, atol=1e-5)
    assert any("gives the outputs of 'network' (torch)" in note for note in measured[0].notes), measured[0].notes
    assert not any("gives the outputs" in note for note in measured[1].notes)
    shown = crossxai("evaluate", str(file), "--model", str(folder / "model.keras"), "--metrics", "insertion")
    assert f"{values[0].mean():.3f}" in shown.output


@pytest.mark.process
@pytest.mark.parametrize(
    ("explainer", "model", "other"),
    [
        ("captum.saliency", "own_network:network", "model.keras"),
        ("xplique.saliency", "model.keras", "own_network:network"),
    ],
)
def test_the_other_framework_need_not_be_installed(folder: Path, explainer: str, model: str, other: str) -> None:
    hidden = {"captum": {"tensorflow", "keras"}, "xplique": {"torch"}}
    library = explainer.partition(".")[0]
    words = {
        library: f"explain --model {model} --data photos --size 32 --explainer {explainer} --out out/{library}",
        ({*hidden} - {library}).pop(): f"evaluate out/{library}/maps.h5 --model {other} --metrics insertion",
    }
    for side, line in words.items():
        done = python(
            BLOCK.format(blocked=hidden[side])
            + f"import os; os.chdir({str(folder)!r}); sys.path.insert(0, '.')\nfrom crossxai.cli import app\n"
            f"app({line.split()}, standalone_mode=False)\nprint('LOADED', {hidden[side]!r} & {{*sys.modules}})"
        )
        assert done.stdout.strip().endswith("LOADED set()"), (line, done.stdout[-2000:], done.stderr[-2000:])
    assert "gives the outputs of" in done.stdout


def test_maps_of_another_model_or_of_other_samples_are_refused(folder: Path, tmp_path: Path) -> None:
    maps = xai.explain(network(), IMAGES, "captum.saliency", target=2)
    other = network(1)
    file = maps.save(tmp_path / "maps.h5")
    row, column = np.unravel_index(
        np.abs(xai.wrap(other).predict((IMAGES,)) - maps.origin.outputs).argmax(), maps.origin.outputs.shape
    )
    new, old = xai.wrap(other).predict((IMAGES,))[row, column], maps.origin.outputs[row, column]
    with pytest.raises(xai.InvalidInput) as caught:
        xai.evaluate(other, attributions=file)
    words = f"of sample '{row}', output {column} is {new:.6g} and was {old:.6g}"
    assert "is another function" in str(caught.value)
    assert words in str(caught.value)
    assert (
        "insertion"
        in xai.evaluate(other, attributions=file, metrics=["insertion"], other_model=True)["captum.saliency"]
    )
    with pytest.raises(xai.InvalidInput, match="these inputs are not those that were explained"):
        xai.evaluate(network(), IMAGES[::-1].copy(), file)
    wider = nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)).eval()
    with pytest.raises(xai.InvalidInput, match=r"have shape \(3, 4\); .* have \(3, 5\)"):
        xai.evaluate(xai.wrap(wider, modalities=(xai.Modality.image(),)), attributions=file)
    with pytest.raises(xai.InvalidInput, match="explain different targets"):
        xai.evaluate(network(), IMAGES, [maps, xai.explain(network(), IMAGES, "captum.saliency", target=1)])
    single, rounded = xai.explain(network(), IMAGES[:1], "captum.saliency", target=2), network()
    with torch.no_grad():
        rounded[-1].weight.mul_(1 + 1e-5)
    notes = xai.evaluate(rounded, attributions=single, metrics=["insertion"]).notes
    assert any("gives the outputs of" in note for note in notes)
    nudged = network()
    with torch.no_grad():
        nudged[-1].weight.mul_(1.01)
    with pytest.raises(xai.InvalidInput, match="is another function"):
        xai.evaluate(nudged, attributions=file)


def test_a_file_holds_what_was_explained_and_leaves_samples_out_if_asked(tmp_path: Path) -> None:
    model = xai.wrap(network(), standardise="imagenet", name="net")
    maps = xai.explain(model, IMAGES, "captum.saliency", target=[0, 1, 2])
    read = xai.Attribution.load(maps.save(tmp_path / "maps.h5"))
    assert read == maps
    assert read.target == xai.Target.classes([0, 1, 2], 4)
    np.testing.assert_array_equal(read.inputs[0], IMAGES)
    np.testing.assert_array_equal(read.origin.outputs, model.predict((IMAGES,)))
    assert (read.origin.model, len(read.origin.weights)) == ("net", 64)
    assert read.origin.preprocessing["standardise"]["image"][0] == [0.485, 0.456, 0.406]
    assert read.origin.versions["torch"] == version("torch")
    bare = xai.Attribution.load(maps.save(tmp_path / "bare.h5", inputs=False))
    assert bare.inputs is None
    with pytest.raises(xai.InvalidInput, match="came without the samples"):
        xai.evaluate(model, attributions=bare)
    with pytest.raises(xai.InvalidInput, match="is another function"):
        xai.evaluate(network(), IMAGES, bare)  # without its standardisation
    assert list(xai.evaluate(model, IMAGES, {"mine": bare}, metrics=["insertion"])) == ["mine"]


class Fusion(nn.Module):
    """A network of an image and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.head = nn.Conv2d(3, 4, 3), nn.Linear(6, 3)

    def forward(self, image: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.image(image).relu().mean((2, 3)), table], 1))


def test_what_was_explained_travels_with_arrays(tmp_path: Path) -> None:
    overlap = xai.Dice(np.ones((3, 32, 32)), 0, 2)
    for target, kept in ((2, 2), ([2, 1, 0], np.array([2, 1, 0])), (overlap, None), (None, None)):
        maps = xai.Attribution.of_array(IMAGES, layout="NHWC", explainer="mine", target=target)
        np.testing.assert_array_equal(xai.Attribution.load(maps.save(tmp_path / "maps.h5")).target, kept)
    for wrong in (1.5, [1, 2], "cat"):
        with pytest.raises(xai.InvalidInput, match="target is a class, or one for each of the 3 samples"):
            xai.Attribution.of_array(IMAGES, layout="NHWC", explainer="mine", target=wrong)


@pytest.mark.filterwarnings("error")  # xarray warns where an axis has no name
def test_every_axis_of_a_file_has_a_name_and_a_sample_is_a_chunk(tmp_path: Path) -> None:
    columns = xai.Modality.table(("age", "dose"))
    model = xai.wrap(Fusion().eval(), modalities=(xai.Modality.image(), columns))
    inputs = (IMAGES, np.eye(3, 2, dtype=np.float32))
    maps = xai.explain(model, inputs, "captum.integrated_gradients", target=1, steps=2)  # with its completeness gap
    file = maps.save(tmp_path / "maps.h5")
    with h5py.File(file) as opened:
        assert opened["values/image"].chunks == (1, 32, 32, 3)
    with xarray.open_dataset(file, group="values", engine="h5netcdf") as read:
        xarray.testing.assert_equal(read, maps.to_xarray())
        assert read["sample"].values.tolist() == ["0", "1", "2"]
        assert read["table_feature"].values.tolist() == ["age", "dose"]
    with xarray.open_datatree(file, engine="h5netcdf") as tree:
        assert tree["origin/inputs/image"].dims == ("sample", "image_y", "image_x", "image_channel")
        np.testing.assert_array_equal(tree["origin/outputs"].values, maps.origin.outputs)
        assert tree["extras/completeness_gap"].dims == ("sample",)
    assert xai.Attribution.load(file) == maps
    single = xai.Attribution.of_array(IMAGES[..., 0], layout="NHW", explainer="mine")
    with xarray.open_dataset(single.save(file), group="values", engine="h5netcdf") as read:
        xarray.testing.assert_equal(read, single.to_xarray())
    for name in ("sample", "image_y"):  # an input that is called like an axis is data all the same
        other = xai.wrap(Fusion().eval(), modalities=(xai.Modality.image(name), columns))
        named = xai.explain(other, inputs, "captum.integrated_gradients", target=1, steps=2)
        assert xai.Attribution.load(named.save(file)) == named


def test_several_modalities_and_damaged_files(tmp_path: Path) -> None:
    modalities = (xai.Modality.image(), xai.Modality.table(("age", "dose")))
    model = xai.wrap(Fusion().eval(), modalities=modalities)
    maps = xai.explain(model, (IMAGES, np.eye(3, 2, dtype=np.float32)), "captum.saliency", target=1)
    file = maps.save(tmp_path / "maps.h5")
    for name in ("image", "table"):
        found = xai.evaluate(model, attributions=file, metrics=[("deletion", {"modality": name, "fill": "zero"})])
        assert np.isfinite(found["captum.saliency"]["deletion"].value).all()
    assert len(list(maps.export(tmp_path / "pictures").glob("*_table.png"))) == 3
    for place, values, words in (
        ("origin/outputs", np.ones((2, 3)), "inputs, outputs or a target of others"),
        ("origin/inputs/image", IMAGES[..., :2], "expected shape"),
        ("target", np.ones(3, np.int8), "target weights need shape"),
    ):
        maps.save(file)
        with h5py.File(file, "a") as opened:
            attributes = dict(opened[place].attrs)
            del opened[place]
            opened[place] = values
            opened[place].attrs.update(attributes)
        with pytest.raises(xai.InvalidFile, match=words):
            xai.Attribution.load(file)


def test_arrays_of_the_libraries_themselves(folder: Path) -> None:
    net = network()
    tensors = torch.from_numpy(np.moveaxis(IMAGES, -1, 1).copy())
    of_captum = IntegratedGradients(net).attribute(tensors, target=2, n_steps=16)
    given = xai.Attribution.of_array(of_captum, layout="NCHW", explainer="captum.IntegratedGradients", target=2)
    np.testing.assert_array_equal(np.moveaxis(given.of("image"), -1, 1), of_captum.numpy())
    with GradCAM(model=net, target_layers=[net[2]]) as cam:
        of_cam = cam(input_tensor=tensors, targets=[ClassifierOutputTarget(2)] * 3)
    drawn = xai.Attribution.of_array(of_cam, layout="NHW", explainer="pytorch_grad_cam.GradCAM", target=[2, 2, 2])
    np.testing.assert_array_equal(drawn.of("image")[..., 0], of_cam)
    found = xai.evaluate(net, IMAGES, [given, drawn], metrics=["insertion"])
    same = xai.explain(net, IMAGES, IntegratedGradients, target=2, n_steps=16)
    alone = xai.evaluate(net, IMAGES, same, metrics=["insertion"])[same.explainer]["insertion"].value
    np.testing.assert_allclose(found["captum.IntegratedGradients"]["insertion"].value, alone, atol=1e-6)

    model = keras.saving.load_model(folder / "model.keras")
    of_xplique = Saliency(model)(IMAGES, np.eye(4, dtype=np.float32)[[2, 2, 2]])
    seen = xai.Attribution.of_array(of_xplique, layout="NHWC", explainer="xplique.Saliency", target=2)
    np.testing.assert_array_equal(seen.of("image"), np.asarray(of_xplique))
    untold = xai.Attribution.of_array(of_cam, layout="NHW", explainer="mine")
    notes = xai.evaluate(model, IMAGES, untold, metrics=["insertion"]).notes
    assert any("do not say what they explain" in note for note in notes)


@pytest.mark.parametrize(
    ("values", "layout", "words"),
    [
        (IMAGES, "NCHW", "has 32 channels; 'image' has 1 or 3"),
        (IMAGES, "NHW", "layout NHW has 3 axes, the array has shape (3, 32, 32, 3)"),
        (IMAGES, "HWC", "one of NCHW, NHWC, NHW; got 'HWC'"),
        (IMAGES > 0.5, "NHWC", "are floats, got bool"),
        (IMAGES[:0], "NHWC", "the array is empty"),
        ("maps.npy", "NHWC", "are floats, got <U8"),
    ],
)
def test_arrays_that_are_not_as_declared_are_refused(values: Any, layout: str, words: str) -> None:
    with pytest.raises(xai.InvalidInput) as caught:
        xai.Attribution.of_array(values, layout=layout, explainer="mine")
    assert words in str(caught.value)


def test_arrays_of_volumes_and_tables() -> None:
    volume = np.random.default_rng(1).random((2, 1, 4, 5, 6))
    given = xai.Attribution.of_array(volume, xai.Modality.volume(), layout="NCDHW", explainer="mine", ids="ab")
    assert given.of("volume").shape == (2, 4, 5, 6, 1)
    assert given.ids == ("a", "b")
    columns = xai.Modality.table(("age", "dose"))
    assert xai.Attribution.of_array(np.eye(2), columns, layout="NF", explainer="mine").of("table").shape == (2, 2)
    with pytest.raises(xai.InvalidInput, match="has 3 columns; 'table' has 2"):
        xai.Attribution.of_array(np.eye(3), columns, layout="NF", explainer="mine")
    with pytest.raises(xai.InvalidInput, match="3 samples need as many different ids"):
        xai.Attribution.of_array(IMAGES, layout="NHWC", explainer="mine", ids=["a", "a", "b"])


def test_maps_for_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = xai.Attribution.of_array(IMAGES, layout="NHWC", explainer="mine", ids=["x/1", "x/2", "y"])
    with np.load(maps.export(tmp_path / "maps.npz")) as file:
        np.testing.assert_array_equal(file["image"], IMAGES)
        assert file["ids"].tolist() == list(maps.ids)
    names = sorted(path.name for path in maps.export(tmp_path / "pictures").iterdir())
    assert names == ["000_x_1.png", "001_x_2.png", "002_y.png"]
    with pytest.raises(xai.UnknownName, match="tiff"):
        maps.export(tmp_path / "maps", "tiff")
    with pytest.raises(xai.InvalidInput, match=r"maps\.csv does not say what to write"):
        maps.export(tmp_path / "maps.csv")
    with pytest.raises(xai.InvalidInput, match=r"save writes \.h5"):
        maps.export(tmp_path / "maps.h5")
    with pytest.raises(xai.InvalidInput, match="affine says where the voxels of NIfTI lie; 'png' has none"):
        maps.export(tmp_path / "pictures", affine=np.eye(4))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(xai.MissingDependency, match=re.escape(install_command("medical"))):
        maps.export(tmp_path / "volumes", "nifti")


def test_a_volume_of_maps_lies_over_its_scan(tmp_path: Path) -> None:
    """A scan as nibabel reads it, handed over as z, y, x: its map has the same voxels at the same places in millimetres."""
    scan = nibabel.Nifti1Image(
        np.random.default_rng(0).random((4, 5, 6), np.float32),
        nibabel.affines.from_matvec(np.diag([-0.5, 0.7, 2]), [40, -30, 10]),
    )
    volume = np.moveaxis(scan.get_fdata(dtype=np.float32), (0, 1, 2), (2, 1, 0))[None, ..., None]
    maps = xai.Attribution.of_array(volume, xai.Modality.volume(), layout="NDHWC", explainer="mine")
    (file,) = maps.export(tmp_path / "volumes", "nifti", affine=scan.affine).iterdir()
    read = nibabel.load(file)
    np.testing.assert_array_equal(read.get_fdata(dtype=np.float32), scan.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(read.affine, scan.affine, atol=1e-6)
    assert nibabel.aff2axcodes(read.affine) == ("L", "A", "S")
    for wrong in (np.eye(3), np.zeros((2, 4, 4))):
        with pytest.raises(xai.InvalidInput, match=r"affine has shape \(4, 4\), or one for each of the 1 samples"):
            maps.export(tmp_path / "volumes", "nifti", affine=wrong)


def test_images_of_maps_as_nifti(tmp_path: Path) -> None:
    """Columns are x and run to the left, rows are y and run to the back, channels are the fourth axis."""
    maps = xai.Attribution.of_array(IMAGES[:, :20], layout="NHWC", explainer="mine", ids="abc")
    files = sorted(maps.export(tmp_path / "images", "nifti").iterdir())
    assert [file.name for file in files] == ["000_a.nii.gz", "001_b.nii.gz", "002_c.nii.gz"]
    read = nibabel.load(files[1])
    assert (read.shape, nibabel.aff2axcodes(read.affine)) == ((32, 20, 1, 3), ("L", "P", "S"))
    np.testing.assert_array_equal(read.dataobj[7, 11, 0], IMAGES[1, 11, 7])
    single = xai.Attribution.of_array(IMAGES[..., 0], layout="NHW", explainer="mine")
    alone = nibabel.load(sorted(single.export(tmp_path / "single", "nifti").iterdir())[2])
    np.testing.assert_array_equal(alone.dataobj, IMAGES[2, ..., 0].T[..., None])
    table = xai.Attribution.of_array(np.eye(2), xai.Modality.table(("a", "b")), layout="NF", explainer="mine")
    with pytest.raises(xai.InvalidInput, match="these maps are of tables"):
        table.export(tmp_path / "table", "nifti")


def test_a_recipe_in_python_makes_the_same_map_in_the_other_framework(folder: Path, tmp_path: Path) -> None:
    maps = xai.explain(network(), IMAGES, ("captum.gradient_shap", {"samples": 3, "seed": 7}), target=2)
    written = maps.recipe().save(tmp_path / "recipe.toml")
    stored = maps.save(tmp_path / "maps.h5")
    port = xai.wrap(str(folder / "model.keras"))
    for recipe in (maps.recipe(), written, str(stored)):
        assert relative(maps, xai.explain(port, IMAGES, recipe=recipe)) <= 1e-4
    other = xai.explain(port, IMAGES, ("captum.gradient_shap", {"samples": 3, "seed": 8}), target=2)
    assert relative(maps, other) > 1e-2
    assert xai.explain(port, IMAGES, recipe=written).recipe() == maps.recipe() == xai.Recipe.load(written)
    assert "seed = 7" in str(maps.recipe())
    moved = xai.explain(network(), IMAGES, recipe=written, target=1)  # what is written beside a recipe goes before it
    assert moved.recipe().target.of == 1
    own = xai.explain(network(), IMAGES, ("captum.gradient_shap", {"samples": 3, "seed": 7}), target=1)
    np.testing.assert_array_equal(moved.of("image"), own.of("image"))


def test_targets_of_recipes(folder: Path) -> None:
    net, alone = network(), xai.explain(network(), IMAGES, "captum.saliency")
    assert alone.recipe().target.of == "predicted"
    assert xai.explain(net, IMAGES, recipe=alone.recipe()).target == alone.target
    labelled = xai.explain(net, IMAGES, "captum.saliency", target=[3, 0, 1])
    assert labelled.recipe().target.of == "label"
    with pytest.raises(xai.InvalidInput, match="write target=labels"):
        xai.explain(net, IMAGES, recipe=labelled.recipe())
    data = TensorDataset(torch.from_numpy(np.moveaxis(IMAGES, -1, 1).copy()), torch.tensor([3, 0, 1]))
    loader = DataLoader(data, batch_size=2)
    again = xai.explain(xai.wrap(net, layout="NCHW"), loader, recipe=labelled.recipe())
    assert again.target == labelled.target
    np.testing.assert_array_equal(again.of("image"), labelled.of("image"))
    (folder / "linked.toml").write_text(
        'explainer = { name = "captum.saliency" }\ntarget = { of = 2, explain = "softmax" }\n'
    )
    linked = xai.explain(net, IMAGES, recipe=folder / "linked.toml")
    assert linked.target == xai.Target.classes([2, 2, 2], 4, "softmax")
    assert "probability of class 2" in linked.notes[0]
    np.testing.assert_array_equal(xai.explain(net, IMAGES, recipe=linked.recipe()).of("image"), linked.of("image"))


def test_maps_without_a_recipe_say_so() -> None:
    recipe = xai.explain(network(), IMAGES, "captum.saliency").recipe()
    given = xai.Target.classes([0, 1, 2], 4)
    for maps in (
        xai.Attribution.of_array(IMAGES, layout="NHWC", explainer="mine"),
        xai.explain(network(), IMAGES, IntegratedGradients, n_steps=2),
        xai.explain(network(), IMAGES, "captum.saliency", target=given),
    ):
        with pytest.raises(xai.InvalidInput, match="have no recipe: it needs an explainer that `crossxai list` shows"):
            maps.recipe()
    assert xai.explain(network(), IMAGES, recipe=recipe, target=given).target == given
    for words, said in (
        ({"explainer": "captum.saliency", "recipe": recipe}, "got an explainer beside it"),
        ({"recipe": recipe, "steps": 3}, "got steps beside it"),
        ({}, "write what explains"),
    ):
        with pytest.raises(xai.InvalidInput, match=said):
            xai.explain(network(), IMAGES, **words)


def test_maps_of_a_run_are_evaluated_in_the_other_framework(folder: Path, tmp_path: Path) -> None:
    names, metrics = ["captum.saliency", "gradcam.gradcam"], ["insertion"]
    run = xai.compare(
        {"net": network()}, IMAGES, explainers=names, metrics=metrics, target=1, out=tmp_path / "run", progress=False
    )
    file = tmp_path / "run" / "explanations" / "net" / "captum.saliency.h5"
    port = str(folder / "model.keras")
    scores = xai.evaluate(port, attributions=file, metrics=metrics)
    measured = run.scores.query("label == 'captum.saliency' and metric == 'insertion'")["value"]
    np.testing.assert_allclose(scores["captum.saliency"]["insertion"].value, measured, atol=1e-5)
    assert any("gives the outputs of 'net' (torch)" in note for note in scores.notes)
    assert "insertion" in crossxai("evaluate", str(file), "--model", port, "--metrics", "insertion").stdout
    with pytest.raises(xai.InvalidInput, match="is another function"):
        xai.evaluate(network(1), attributions=run.maps)
    again = xai.evaluate(network(), attributions=run.maps, metrics=metrics)
    assert {*names, "controls.random"} <= again.keys()
    assert relative(run.maps["captum.saliency"], xai.explain(port, IMAGES, recipe=str(file))) <= 1e-4
    moved = file.rename(tmp_path / "alone.h5")
    with pytest.raises(xai.InvalidFile, match=r"is part of a run, and .*samples\.h5 is not there"):
        xai.Attribution.load(moved)


def test_pictures_of_an_earlier_explanation_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for samples in (3, 1):
        done = crossxai(*EXPLAIN, "few", "--model", "own_network:network", "-e", "captum.saliency", "-n", str(samples))
        assert done.exit_code == 0, done.output
        Path("few/pictures/mine.png").touch()
    assert sorted(path.name for path in Path("few/pictures").iterdir()) == ["000_0.png", "mine.png"]


def test_wrong_recipes_and_options_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    text = 'seed = 3\n[explainer]\nname = "captum.occlusion"\nparams = { patch = 4, stride = 2 }\n[target]\nof = 1\n'
    Path("own.toml").write_text(text, encoding="utf-8")
    own = xai.Recipe.load(Path("own.toml"))
    Path("again.toml").write_text(own.toml(), encoding="utf-8")
    assert xai.Recipe.load(Path("again.toml")) == own
    for words, said in (
        ((), "write --explainer"),
        (("--recipe", "missing.h5"), "missing.h5 does not exist"),
        (("--recipe", "missing.toml"), "cannot read recipe missing.toml"),
        (("--recipe", "own.toml", "--seed", "1"), "change them in its file"),
        (("--explainer", "captum.saliencia"), "no explainer is called 'captum.saliencia'"),
        (("--explainer", "captum.saliency", "--param", "steps"), "a parameter is written name=value"),
        (("--explainer", "captum.saliency", "--param", "steps=3"), "steps"),
        (("--explainer", "captum.saliency", "--target", "best"), "target.of"),
    ):
        done = crossxai(*EXPLAIN, "c", "--model", "own_network:network", *words)
        assert done.exit_code == 2, (words, done.output)
        assert said in " ".join(done.stderr.split()), (words, done.stderr)
    Path("own.toml").write_text(text + 'measure = "dice"\n', encoding="utf-8")
    with pytest.raises(xai.InvalidInput, match="measure belongs to an evaluation"):
        xai.Recipe.load(Path("own.toml"))

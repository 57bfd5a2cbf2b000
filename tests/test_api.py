"""The verbs of `import crossxai as xai`: what wrap recognises, what inputs are read, what results show, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from experiments import crossxai
from PIL import Image
from torch import nn

import crossxai as xai

RNG = np.random.default_rng(0)
IMAGES = RNG.random((4, 12, 12, 3), np.float32)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    return nn.Sequential(*layers).eval()


def pictures(n: int = 3, size: tuple[int, int] = (12, 12)) -> list[Image.Image]:
    return [Image.fromarray(RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(n)]


def said(model: Any) -> str:
    return str(model.describe())


# wrap


def test_a_torch_module_is_told_by_its_first_layer() -> None:
    model = xai.wrap(network(), standardise="imagenet", name="net")
    assert (model.name, model.modalities) == ("net", (xai.Modality.image(),))
    assert model.standardise["image"][0] == (0.485, 0.456, 0.406)
    assert "torch module" in said(model)
    assert xai.wrap(nn.Sequential(nn.Linear(5, 2)).eval()).modalities[0].kind == "table"
    assert xai.wrap(model) is model


def test_networks_of_torchvision_and_timm_in_one_line() -> None:
    import timm
    import torchvision

    model = xai.wrap(torchvision.models.mobilenet_v3_small(weights=None).eval())
    assert "MobileNetV3 of torchvision" in said(model)
    assert "mean and sd: none (assumed" in said(model)
    other = xai.wrap(timm.create_model("resnet10t", pretrained=False).eval())
    assert "of timm" in said(other)
    assert other.standardise["image"][0] == pytest.approx(timm.create_model("resnet10t").pretrained_cfg["mean"])
    assert other.recognised.size is not None


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    hidden = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(hidden))
    path = tmp_path_factory.mktemp("keras") / "net.keras"
    keras.Model(inputs, outputs, name="small").save(path)
    return path


def test_a_keras_file_in_one_line(keras_file: Path) -> None:
    model = xai.wrap(keras_file)
    assert model.modalities[0].range == (0, 255)  # the network scales by itself
    assert model.recognised.size == (12, 12)
    a = xai.explain(model, pictures(2, (20, 16)), "xplique.saliency")
    assert a.of("image").shape[:3] == (2, 12, 12)
    assert any("cut to the middle 12 × 12" in note for note in a.notes)


def test_several_inputs_of_a_keras_model_keep_their_names() -> None:
    import keras

    image, table = keras.Input((8, 8, 1), name="ct"), keras.Input((3,), name="clinic")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), table])
    model = xai.wrap(keras.Model([image, table], keras.layers.Dense(2)(joined)))
    assert [(m.name, m.kind) for m in model.modalities] == [("ct", "image"), ("clinic", "table")]
    ct, clinic = RNG.random((2, 8, 8, 1), np.float32), RNG.random((2, 3), np.float32)
    by_name = xai.explain(model, {"clinic": clinic, "ct": ct}, "captum.saliency")
    in_order = xai.explain(model, (ct, clinic), "captum.saliency")
    for name in ("ct", "clinic"):
        np.testing.assert_array_equal(by_name.of(name), in_order.of(name))


def test_estimators_and_functions() -> None:
    from sklearn.linear_model import LogisticRegression

    frame = pd.DataFrame(RNG.normal(size=(20, 2)), columns=["age", "dose"])
    model = xai.wrap(LogisticRegression().fit(frame, frame["age"] > 0))
    assert model.modalities[0].features == ("age", "dose")
    a = xai.explain(model, frame[["dose", "age"]].head(3), "captum.feature_ablation")
    assert np.abs(a.of("table")[:, 0]).min() > np.abs(a.of("table")[:, 1]).max()  # age decides
    own = xai.wrap(lambda x: x.mean(axis=(1, 2)), modalities=(xai.Modality.image(),))
    assert own.predict((IMAGES,)).shape == (4, 3)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: lambda x: x, "a function does not say what it takes: write modalities="),
        (lambda: network().train(), "training mode"),
        (lambda: 3, "got int"),
        (lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4, 2)), "begins with Embedding"),
        (lambda: nn.Bilinear(3, 4, 2), "takes 2 inputs (input1, input2)"),
        (lambda: Path("weights.pt"), "does not exist"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_with_what_to_write(net: Any, words: str) -> None:
    with pytest.raises(xai.CrossXAIError) as caught:
        xai.wrap(net())
    assert words in str(caught.value)


def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "net.keras").write_text("no model")
    with pytest.raises(xai.InvalidFile, match="Keras cannot read"):
        xai.wrap(tmp_path / "net.keras")
    (tmp_path / "weights.pt").write_text("")
    with pytest.raises(xai.InvalidFile, match="torch cannot read"):
        xai.wrap(str(tmp_path / "weights.pt"))


# inputs


def test_all_ways_to_hand_over_the_same_images() -> None:
    import tensorflow as tf

    model = xai.wrap(network())
    nchw = torch.tensor(np.moveaxis(IMAGES, -1, 1).copy())
    labels = torch.tensor([0, 1, 2, 1])
    pairs = torch.utils.data.TensorDataset(nchw, labels)
    loader = torch.utils.data.DataLoader(pairs, batch_size=3)
    maps = [
        xai.explain(model, IMAGES, "captum.saliency"),
        xai.explain(model, list(IMAGES), "captum.saliency"),
        xai.explain(model, tf.constant(IMAGES), "captum.saliency"),
        xai.explain(model, {"image": IMAGES}, "captum.saliency"),
        xai.explain(model, nchw, "captum.saliency", layout="NCHW"),
        xai.explain(xai.wrap(network(), layout="NCHW"), nchw, "captum.saliency"),
        xai.explain(model, loader, "captum.saliency", layout="NCHW"),
        xai.explain(model, pairs, "captum.saliency", layout="NCHW"),
        xai.explain(model, tf.data.Dataset.from_tensor_slices((IMAGES, [0, 1, 2, 1])).batch(2), "captum.saliency"),
        xai.explain(model, tf.data.Dataset.from_tensor_slices(IMAGES), "captum.saliency"),
    ]
    for one in maps:
        np.testing.assert_allclose(one.of("image"), maps[0].of("image"), rtol=1e-5, atol=1e-7)
    first = xai.explain(model, loader, "captum.saliency", layout="NCHW", samples=2)
    assert len(first) == 2
    assert any("first 2 samples of the DataLoader (samples=2)" in note for note in first.notes)


def test_pictures_and_files(tmp_path: Path) -> None:
    model = xai.wrap(network(), size=12)
    given = pictures()
    for i, picture in enumerate(given):
        picture.save(tmp_path / f"photo_{i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    a = xai.explain(model, given, "captum.saliency")
    assert any("8-bit values of 'image' were scaled from 0 … 255 to 0 … 1" in note for note in a.notes)
    paths = [tmp_path / f"photo_{i}.png" for i in range(3)]
    by_path = xai.explain(model, paths, "captum.saliency")
    assert by_path.ids == ("photo_0", "photo_1", "photo_2")
    np.testing.assert_array_equal(by_path.of("image"), a.of("image"))
    np.testing.assert_array_equal(xai.explain(model, tmp_path, "captum.saliency").of("image"), a.of("image"))
    eight = np.stack([np.asarray(p) for p in given])
    np.testing.assert_array_equal(xai.explain(model, eight, "captum.saliency").of("image"), a.of("image"))
    assert len(xai.explain(model, given[0], "captum.saliency")) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.moveaxis(IMAGES, -1, 1), 'write layout="NCHW", or np.moveaxis(x, 1, -1)'),
        (IMAGES[0], "of one sample write x[None]"),
        (IMAGES * 255, "declared range (0.0, 1.0)"),
        (IMAGES * np.nan, "NaN"),
        (IMAGES[:0], "there is no sample"),
        ((IMAGES * 60000).astype(np.uint16), "divide by the largest value"),
        ((IMAGES, IMAGES), "the model takes 1 inputs (image), got 2"),
        ({"photo": IMAGES}, "the model takes image; got photo"),
        ("missing.png", "missing.png is not there"),
        (object(), "expected an array, a tensor, pictures (PIL)"),
        (["a.png", 3], "a.png is not there"),
        ([IMAGES[0], IMAGES[0, :9]], "different shapes"),
        (pictures(1) + pictures(1, (9, 8)), "write size=(224, 224)"),
    ],
)
def test_other_inputs_are_refused_with_what_to_write(given: Any, words: str) -> None:
    with pytest.raises(xai.CrossXAIError) as caught:
        xai.explain(xai.wrap(network()), given, "captum.saliency")
    assert words in str(caught.value)


# explain and evaluate


def test_samples_of_an_explainer_are_not_taken_for_inputs() -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(IMAGES)), batch_size=2)
    with pytest.raises(xai.InvalidInput, match=r'explainer=\(\'reference.rise\', {"samples": 9}\)'):
        xai.explain(network(), loader, "reference.rise", samples=9)
    assert len(xai.explain(network(), loader, ("reference.rise", {"samples": 9, "grid": 3}), samples=3)) == 3


def test_targets() -> None:
    model = xai.wrap(network())
    predicted = model.predict((IMAGES,)).argmax(axis=1)
    free = xai.explain(model, IMAGES, "captum.saliency")
    assert "explains the raw output of the predicted class" in free.notes
    np.testing.assert_array_equal(free.values[0], xai.explain(model, IMAGES, "captum.saliency", predicted).values[0])
    one = xai.explain(model, IMAGES, "captum.saliency", target=2)
    by_target = xai.explain(model, IMAGES, "captum.saliency", target=xai.Target.classes([2] * 4, 3))
    np.testing.assert_array_equal(one.values[0], by_target.values[0])
    with pytest.raises(xai.InvalidInput, match="labels of 3 classes lie in 0 … 2"):
        xai.explain(model, IMAGES, "captum.saliency", target=3)
    with pytest.raises(xai.UnknownName, match="saliency"):
        xai.explain(model, IMAGES, "captum.salience")


def test_evaluation_measures_the_class_that_was_explained() -> None:
    model = xai.wrap(network())
    maps = [xai.explain(model, IMAGES, name, target=1) for name in ("captum.saliency", "controls.random")]
    found = xai.evaluate(model, IMAGES, maps, metrics=[("deletion", {"steps": 4}), "insertion", "effective_area"])
    assert list(found) == ["captum.saliency", "controls.random"]
    scores = model.predict((IMAGES,)).astype(np.float64)
    probability = np.exp(scores)[:, 1] / np.exp(scores).sum(axis=1)
    np.testing.assert_allclose(found["captum.saliency"]["deletion"].curve[:, 0], probability, rtol=1e-4)
    assert any("probability of the class" in note for note in found.notes)
    assert found.scores.shape == (2 * 3 * 4, 5)
    assert found.summary["metric"].dtype == "category"
    assert found.summary["mean"].dtype == float
    assert "<table" in found._repr_html_()
    alone = xai.evaluate(model, IMAGES, maps[0], metrics=["insertion", ("deletion", {"steps": 4}), "deletion"])
    assert list(alone["captum.saliency"]) == ["insertion", "deletion", "deletion 2"]
    np.testing.assert_array_equal(
        alone["captum.saliency"]["deletion"].value, found["captum.saliency"]["deletion"].value
    )


def test_a_metric_that_asks_the_explainer_again() -> None:
    model = xai.wrap(network())
    a = xai.explain(model, IMAGES, "captum.saliency")
    found = xai.evaluate(model, IMAGES, a, metrics=[("local_lipschitz", {"draws": 2})])
    assert np.isfinite(found["captum.saliency"]["local_lipschitz"].value).all()


def test_check_takes_what_explain_takes() -> None:
    found = xai.check(network(), IMAGES, labels=[0, 1, 2, 1])
    assert not found.broken
    assert "<table" in found._repr_html_()
    broken = xai.check(network(), IMAGES * 255)
    assert broken.broken


# compare


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return xai.compare(
        xai.wrap(network(), name="net"),
        IMAGES,
        [0, 1, 2, 1],
        explainers=["captum.saliency", ("captum.integrated_gradients", {"steps": 4}), "gradcam.gradcam"],
        metrics=[("deletion", {"steps": 4}), ("insertion", {"steps": 4}), "effective_area"],
        classes=("a", "b", "c"),
        out=tmp_path_factory.mktemp("run") / "here",
        progress=False,
    )


def test_a_run_has_tables_words_and_a_page(run: Any) -> None:
    scores, summary = run.scores, run.summary
    assert {"captum.saliency", "controls.random", "controls.centre"} <= set(scores["label"])
    assert str(scores["explainer"].dtype) == "category"
    assert scores["value"].dtype == float
    one = summary[(summary["label"] == "captum.saliency") & (summary["metric"] == "deletion")].iloc[0]
    own = scores[(scores["label"] == "captum.saliency") & (scores["metric"] == "deletion")]["value"]
    assert one["mean"] == pytest.approx(own.mean())
    assert one["n"] == 4
    assert run.findings.startswith("- ")
    assert "**" not in run.findings
    assert run.page.is_file()
    assert "<table" in run._repr_html_()
    assert "\n" not in repr(run)
    assert run == xai.Run(run.folder)
    assert len({run, xai.Run(run.folder)}) == 1


def test_maps_of_a_run_are_attributions(run: Any) -> None:
    a = run.maps["captum.saliency"]
    direct = xai.explain(xai.wrap(network()), IMAGES, "captum.saliency")
    assert isinstance(a, xai.Attribution)
    np.testing.assert_allclose(a.of("image"), direct.of("image"), rtol=1e-6)
    with pytest.raises(xai.UnknownName):
        run.maps["captum.salience"]


def test_the_command_line_reads_the_folder(run: Any) -> None:
    before = run.page.read_text(encoding="utf-8")
    assert crossxai("report", str(run.folder)).exit_code == 0
    assert len(run.page.read_text(encoding="utf-8")) == len(before)
    done = crossxai("evaluate", str(run.folder), "--preset", "rise,xplique", "--limit", "4")
    assert done.exit_code != 0
    assert "handed over in Python" in " ".join(done.output.split())


def test_the_same_call_goes_on_where_the_last_one_was(run: Any) -> None:
    maps = sorted(run.folder.glob("explanations/*/*.h5"))
    before = {path.name: path.stat().st_mtime_ns for path in maps}
    again = xai.compare(
        xai.wrap(network(), name="net"),
        IMAGES,
        [0, 1, 2, 1],
        explainers=["captum.saliency", ("captum.integrated_gradients", {"steps": 4}), "gradcam.gradcam"],
        metrics=[("deletion", {"steps": 4}), ("insertion", {"steps": 4}), "effective_area"],
        classes=("a", "b", "c"),
        out=run.folder,
        progress=False,
    )
    assert {path.name: path.stat().st_mtime_ns for path in maps} == before
    manifest = json.loads((again.folder / "manifest.json").read_text())
    assert len(manifest["models"][0]["weights_sha256"]) == 64
    assert manifest["models"][0]["framework"] == "torch"


def test_several_models_loaders_and_no_labels(tmp_path: Path) -> None:
    found = xai.compare(
        {"one": network(), "two": network(1)},
        IMAGES,
        explainers=["captum.saliency"],
        metrics=[("deletion", {"steps": 3})],
        out=tmp_path,
        controls=False,
        progress=False,
    )
    assert set(found.maps) == {("one", "captum.saliency"), ("two", "captum.saliency")}
    with pytest.raises(xai.InvalidInput, match="write maps"):
        found.maps["captum.saliency"]
    assert "No labels were given" in json.loads((tmp_path / "manifest.json").read_text())["data"]["description"]


def test_one_failure_is_one_row(tmp_path: Path) -> None:
    def own(x: Any) -> Any:
        return x.mean(axis=(1, 2))

    model = xai.wrap(own, modalities=(xai.Modality.image(),))
    found = xai.compare(
        model,
        IMAGES,
        explainers=["captum.saliency", ("captum.occlusion", {"patch": 4, "stride": 4})],
        metrics=[("deletion", {"steps": 3})],
        out=tmp_path,
        progress=False,
    )
    assert "needs gradients" in found.refused["captum.saliency"]
    with pytest.raises(xai.InvalidInput, match="has no map"):
        found.maps["captum.saliency"]
    for wrong in ("captum.saliency", []):
        with pytest.raises(xai.InvalidInput, match="explainers is a list"):
            xai.compare(model, IMAGES, explainers=wrong, progress=False)


def brightest(images: Any) -> Any:
    """A function of a user's own: how bright each pixel is."""
    return images.mean(axis=-1)


def test_what_people_have_goes_into_the_comparison(tmp_path: Path) -> None:
    from captum.attr import Saliency

    found = xai.compare(
        xai.wrap(network()),
        IMAGES,
        explainers=[Saliency, "captum.saliency", ("captum.saliency", {"profile": "canonical"}), brightest],
        metrics=[("deletion", {"steps": 3})],
        out=tmp_path,
        controls=False,
        progress=False,
    )
    assert set(found.maps) == {"captum Saliency", "captum.saliency", "captum.saliency@canonical", "brightest"}
    ours, theirs = found.maps["captum.saliency"], found.maps["captum Saliency"]
    np.testing.assert_allclose(ours.of("image"), theirs.of("image"), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.maps["brightest"].of("image")[..., 0], IMAGES.mean(axis=-1), rtol=1e-6)
    assert len(xai.explain(network(), IMAGES, brightest)) == 4


def test_figures_of_all_kinds(run: Any) -> None:
    from matplotlib.figure import Figure

    for kind in ("grid", "curves", "ranking"):
        assert isinstance(run.plot(kind), Figure)
    with pytest.raises(xai.UnknownName, match="grid"):
        run.plot("gird")
    a = run.maps["captum.saliency"]
    assert isinstance(a.plot(samples=[0, 2]), Figure)
    assert "data:image/png;base64" in a._repr_html_()
    with pytest.raises(xai.UnknownName, match="modality"):
        a.plot("photo")


def test_an_attribution_in_a_file_and_in_xarray(run: Any, tmp_path: Path) -> None:
    a = run.maps["captum.saliency"]
    assert xai.Attribution.load(a.save(tmp_path / "maps.h5")) == a
    data = a.to_xarray()
    assert data["image"].dims == ("sample", "image_y", "image_x", "image_channel")
    assert list(data["image"].coords["image_channel"].values) == ["red", "green", "blue"]
    np.testing.assert_array_equal(data["image"].values, a.of("image"))
    (tmp_path / "maps.h5").write_bytes(b"no file")
    with pytest.raises(xai.InvalidFile):
        xai.Attribution.load(tmp_path / "maps.h5")


def test_scores_compare_and_show_themselves() -> None:
    a, b = (xai.Scores("deletion", np.array([0.1, np.nan, 0.3]), False) for _ in range(2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != xai.Scores("deletion", np.array([0.1, 0.2, 0.3]), False)
    assert "lower is better" in a._repr_html_()


# what holds for all


def test_public_names_are_lazy_and_none_is_a_module() -> None:
    code = (
        "import sys, crossxai as xai\n"
        "assert 'crossxai.api' not in sys.modules and 'numpy' in sys.modules\n"
        "heavy = ('torch', 'tensorflow', 'matplotlib', 'pandas', 'h5py')\n"
        "print([m for m in heavy if m in sys.modules])\n"
        "for name in xai.__all__: getattr(xai, name)\n"
        "print([m for m in ('torch', 'tensorflow', 'matplotlib') if m in sys.modules])\n"
        "import types; print([n for n in xai.__all__ if isinstance(getattr(xai, n), types.ModuleType)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split("\n")[:3] == ["[]", "[]", "[]"], done
    assert {"wrap", "Run", "Attribution"} <= set(dir(xai))
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        xai.explian  # noqa: B018

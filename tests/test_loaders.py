"""Networks by name and by file: the same numbers as the library's own, its preprocessing, and no code run from a file."""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import skimage
import timm
import torch
import torchvision
import transformers
from PIL import Image
from torch import nn

import crossxai as xai
from crossxai.data import arrays
from crossxai.errors import install_command
from crossxai.loaders import huggingface as of_huggingface
from crossxai.loaders import keras_applications as of_keras
from crossxai.loaders import loaded
from crossxai.loaders import onnx as of_onnx
from crossxai.loaders import timm as of_timm
from crossxai.loaders import torchvision as of_torchvision
from crossxai.loaders.loaded import Resize

IMAGES = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
NAME = "squeezenet1_1"
TRUST = "trust=True in Python, trust = true in an experiment file, --trust on the command line"


def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    return nn.Sequential(*layers).eval()


def own_answers(net: nn.Module, images: np.ndarray, preset: Any) -> np.ndarray:
    """What torch's own module gives for images that torchvision's own constants standardise."""
    x = torchvision.transforms.functional.normalize(torch.tensor(images).movedim(-1, 1), preset.mean, preset.std)
    with torch.no_grad():
        return net(x).numpy()


def lines(model: Any) -> str:
    return str(model.describe())


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "run")


# torchvision


def test_a_network_of_torchvision_with_weights_of_a_file_gives_torch_s_own_numbers(tmp_path: Path) -> None:
    net = torchvision.models.get_model(NAME, weights=None, num_classes=5).eval()
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "own.pt")
    model = xai.wrap(f"torchvision:{NAME}@{tmp_path / 'own.pt'}")
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    preset = torchvision.models.get_model_weights(NAME).DEFAULT.transforms()
    np.testing.assert_allclose(model.predict((images,)), own_answers(net, images, preset), rtol=1e-5, atol=1e-6)
    assert model.name == NAME
    assert "weights: own.pt, of 5 classes" in lines(model)
    assert model.recognised.classes == ()  # type: ignore[attr-defined]
    scaled = xai.wrap(f"torchvision:{NAME}@{tmp_path / 'own.pt'}", range=(0, 255))
    np.testing.assert_allclose(scaled.predict((images * 255,)), model.predict((images,)), rtol=1e-3, atol=1e-5)


def test_safetensors_hold_the_same_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    net = torchvision.models.get_model(NAME, weights=None)
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    model: Any = xai.wrap(f"torchvision:{NAME}@{tmp_path / 'own.safetensors'}")
    assert all(torch.equal(v, model.module.state_dict()[k]) for k, v in net.state_dict().items())
    assert model.recognised.classes[:2] == ("tench", "goldfish")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "own.safetensors").read_bytes()[:1000])
    with pytest.raises(xai.InvalidFile, match="safetensors cannot read"):
        xai.wrap(f"torchvision:{NAME}@{tmp_path / 'cut.safetensors'}")


@pytest.mark.parametrize("name", [NAME, "efficientnet_b0", "vit_b_16"])
@pytest.mark.parametrize("size", [(300, 451), (451, 300), (97, 64), (256, 256)])
def test_pictures_are_brought_to_a_network_as_torchvision_brings_them(name: str, size: tuple[int, int]) -> None:
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    values = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    picture = Image.fromarray(values)
    theirs = preset(picture).movedim(0, -1).numpy() * np.array(preset.std) + np.array(preset.mean)
    resize = of_torchvision.resize(preset)
    np.testing.assert_allclose(np.asarray(resize(picture)) / 255, theirs, atol=1e-6)


def test_a_picture_that_resizing_would_blow_up_is_refused() -> None:
    with pytest.raises(xai.InvalidInput, match=r"20000 × 1 pixels would be resized to 5120000 × 256: cut it first"):
        Resize(256, (224, 224))(Image.new("RGB", (20000, 1)))


def test_random_weights_are_said_and_drawn_by_a_seed_of_their_own() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = (xai.wrap(f"torchvision:{NAME}@random") for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    images = np.random.default_rng(0).random((2, 64, 64, 3), np.float32)
    np.testing.assert_array_equal(one.predict((images,)), two.predict((images,)))
    assert "random weights (seed 0): nobody trained this network" in lines(one)
    assert "the middle 224 × 224 cut out" in lines(one)
    assert "images of 64 × 64 pixels" in lines(xai.wrap(f"torchvision:{NAME}@random", size=64))


def test_torchvision_s_own_weights_come_from_its_cache_or_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", nowhere)
    for written in (f"torchvision:{NAME}", f"torchvision:{NAME}@IMAGENET1K_V1"):
        with pytest.raises(xai.InvalidFile, match=rf"write torchvision:{NAME}@FILE .* torchvision:{NAME}@random"):
            xai.wrap(written)
    net = torchvision.models.get_model(NAME, weights=None)
    file = torchvision.models.get_model_weights(NAME).DEFAULT.url.rpartition("/")[2]
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    torch.save(net.state_dict(), tmp_path / "checkpoints" / file)
    model: Any = xai.wrap(f"torchvision:{NAME}")
    assert all(torch.equal(v, model.module.state_dict()[k]) for k, v in net.state_dict().items())
    assert "weights: IMAGENET1K_V1 of torchvision" in lines(model)
    torch.save(Evil(tmp_path / "run"), tmp_path / "checkpoints" / file)  # whoever can write the cache
    with pytest.raises(xai.CrossXAIError):
        xai.wrap(f"torchvision:{NAME}")
    assert not (tmp_path / "run").exists()


def test_a_network_of_torchvision_for_segmentation_is_wrapped(tmp_path: Path) -> None:
    model = xai.wrap("torchvision:lraspp_mobilenet_v3_large@random", size=32)
    assert model.predict((np.zeros((1, 32, 32, 3), np.float32),)).shape == (1, 32, 32, 21)


# files


def test_a_pickle_is_not_run_until_it_is_trusted(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save(Evil(mark), tmp_path / "evil.pt")
    for written in (str(tmp_path / "evil.pt"), f"torchvision:{NAME}@{tmp_path / 'evil.pt'}"):
        with pytest.raises(xai.InvalidInput, match="reading it would run code from the file") as caught:
            xai.wrap(written)
        assert TRUST in str(caught.value)
        assert not mark.exists()
    with pytest.raises(xai.InvalidFile):
        xai.wrap(str(tmp_path / "evil.pt"), trust=True)
    assert mark.exists()  # so it would have been run


def test_whole_networks_of_torch_need_trust(tmp_path: Path) -> None:
    x, net = torch.rand(2, 3, 16, 16), small()
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(net, x), tmp_path / "script.pt")
        torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: batch},)), tmp_path / "exported.pt2")
        torch.export.save(torch.export.export(net, (x,)), tmp_path / "fixed.pt2")
    torch.save(net.train(), tmp_path / "pickled.pt")
    expected = xai.wrap(net.eval())
    own = xai.explain(expected, IMAGES, "captum.saliency").of("image")
    for name, reason in (
        ("script.pt", "a program whose operators can read and write files"),
        ("exported.pt2", "whose tensors and constants torch reads by unpickling"),
        ("pickled.pt", "run code from the file"),
    ):
        with pytest.raises(xai.InvalidInput, match=reason) as caught:
            xai.wrap(tmp_path / name)
        assert TRUST in str(caught.value)
        model = xai.wrap(tmp_path / name, trust=True)
        np.testing.assert_allclose(model.predict((IMAGES,)), expected.predict((IMAGES,)), atol=1e-6)
        np.testing.assert_allclose(xai.explain(model, IMAGES, "captum.saliency").of("image"), own, atol=1e-6)
        assert "trusted" in lines(model)
        assert "values of images from 0 to 1 (assumed" in lines(model)
    with pytest.raises(xai.InvalidInput, match=r"batches of exactly 2: export it with dynamic_shapes"):
        xai.wrap(tmp_path / "fixed.pt2", trust=True)


def test_weights_alone_ask_for_their_network(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "own.pth")
    with pytest.raises(xai.InvalidInput, match=r"holds weights alone: say of which network, torchvision:NAME@own\.pth"):
        xai.wrap(tmp_path / "own.pth")
    with pytest.raises(xai.InvalidFile, match=rf"are not those of torchvision's {NAME}: 52 missing .*; 4 unknown"):
        xai.wrap(f"torchvision:{NAME}@{tmp_path / 'own.pth'}")
    torch.save({"epoch": 3}, tmp_path / "log.pth")
    with pytest.raises(xai.InvalidFile, match="holds no weights by name"):
        xai.wrap(f"torchvision:{NAME}@{tmp_path / 'log.pth'}")


def test_code_in_a_keras_file_is_not_run_until_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mark, start = tmp_path / "mark", keras.Input((16, 16, 3))
    marked = keras.layers.Lambda(lambda x: (open("mark", "w").close(), x)[1], (16, 16, 3), name="marks")
    net = keras.Model(start, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(marked(start))))
    for name in ("net.keras", "net.h5"):
        net.save(tmp_path / name)
        mark.unlink(missing_ok=True)
        with pytest.raises(xai.InvalidInput, match="holds code, the layer 'marks' of class Lambda") as caught:
            xai.wrap(tmp_path / name)
        assert TRUST in str(caught.value)
        assert not mark.exists()
    model = xai.wrap(tmp_path / "net.keras", trust=True)
    np.testing.assert_allclose(model.predict((IMAGES,)), net(IMAGES), atol=1e-6)
    assert mark.exists()
    net.save_weights(tmp_path / "net.weights.h5")
    with pytest.raises(xai.InvalidFile, match="holds no model"):
        xai.wrap(tmp_path / "net.weights.h5")


def test_versions_whose_safe_mode_has_a_known_hole_need_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = torchvision.models.get_model(NAME, weights=None)
    torch.save(net.state_dict(), "own.pt")
    monkeypatch.setattr(loaded, "version", {"torch": "2.9.1+cpu", "keras": "3.11.2"}.get)
    with pytest.raises(xai.InvalidInput, match=r"makes torch 2\.9\.1\+cpu run code .* torch 2\.10 mends"):
        xai.wrap(f"torchvision:{NAME}@own.pt")
    assert "weights: own.pt" in lines(xai.wrap(f"torchvision:{NAME}@own.pt", trust=True))
    (tmp_path / "net.h5").write_bytes(b"")
    with pytest.raises(xai.InvalidInput, match=r"keras 3\.11\.3 mends"):
        xai.wrap("net.h5")


def test_a_saved_model_needs_trust_and_has_gradients(tmp_path: Path) -> None:
    start = keras.Input((16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(start))
    net = keras.Model(start, keras.layers.Dense(2)(pooled))
    net.export(tmp_path / "saved", verbose=False)
    with pytest.raises(xai.InvalidInput, match="is a SavedModel, a program of TensorFlow") as caught:
        xai.wrap(tmp_path / "saved")
    assert TRUST in str(caught.value)
    model, own = xai.wrap(tmp_path / "saved", trust=True), xai.wrap(net)
    np.testing.assert_allclose(model.predict((IMAGES,)), own.predict((IMAGES,)), atol=1e-6)
    maps = [xai.explain(m, IMAGES, "captum.saliency").of("image") for m in (model, own)]
    np.testing.assert_allclose(*maps, atol=1e-6)
    for name in ("captum.deep_lift", "xplique.guided_backprop", "gradcam.gradcam"):  # whose layers nobody sees
        with pytest.raises(xai.Unsupported):
            xai.explain(model, IMAGES, name)


@pytest.mark.parametrize(
    ("shape", "axes", "first", "size"),
    [
        (("n", 3, 16, 20), ("y", "x", "channel"), True, (16, 20)),
        ((1, "h", "w", 1), ("y", "x", "channel"), False, None),
        (("n", 7), ("feature",), False, None),
    ],
)
def test_what_an_onnx_input_is_by_its_shape(shape: Any, axes: Any, first: bool, size: Any) -> None:
    modality, channels_first, told = of_onnx.modality_of(Path("net.onnx"), shape)
    assert (modality.axes, channels_first, told) == (axes, first, size)


@pytest.mark.parametrize("shape", [("n", 3, 16, 3), ("n", "c", "h", "w"), ("n", 5, 16, 16, 3)])
def test_an_onnx_input_that_does_not_tell_is_refused(shape: Any) -> None:
    with pytest.raises(xai.InvalidInput, match="does not tell where its channels are"):
        of_onnx.modality_of(Path("net.onnx"), shape)


def test_a_function_s_values_are_standardised_where_that_is_declared() -> None:
    mean, sd = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)

    def score(images: Any) -> Any:
        return images.mean(axis=(1, 2))

    model = xai.wrap(score, modalities=(xai.Modality.image(),), standardise=(mean, sd))
    np.testing.assert_allclose(model.predict((IMAGES,)), score((IMAGES - mean) / sd), atol=1e-6)
    assert "standardised by the adapter with mean 0.1, 0.2, 0.3" in lines(model)


@pytest.mark.parametrize("module", ["vgg16", "mobilenet_v2", "densenet", "efficientnet"])
def test_keras_preprocessing_is_that_of_its_module(module: str) -> None:
    own = getattr(keras.applications, module).preprocess_input
    net = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()])
    theirs = np.asarray(net(own(IMAGES * 255)))
    mean, sd, turned = of_keras.preprocessing(net, own)
    model = xai.wrap(net, range=(0, 1), standardise=(mean, sd))
    np.testing.assert_allclose(model.predict((IMAGES,)), theirs, rtol=1e-4, atol=1e-4)
    assert turned == (module == "vgg16")


def test_a_network_of_keras_by_name(tmp_path: Path) -> None:
    model: Any = xai.wrap("keras:MobileNetV3Small@random")
    assert "random weights" in lines(model)
    net = keras.applications.MobileNetV3Small(weights=None)
    net.save_weights(tmp_path / "own.weights.h5")
    filled: Any = xai.wrap(f"keras:MobileNetV3Small@{tmp_path / 'own.weights.h5'}")
    for own, theirs in zip(filled.model.weights, net.weights, strict=True):
        np.testing.assert_array_equal(own, theirs)
    with pytest.raises(xai.InvalidFile, match="are not those of Keras' MobileNet:"):
        xai.wrap(f"keras:MobileNet@{tmp_path / 'own.weights.h5'}")
    with pytest.raises(xai.UnknownName, match="did you mean MobileNetV2"):
        xai.wrap("keras:MobilNetV2")

    def nowhere(*_: Any, **__: Any) -> None:
        raise Exception("URL fetch failure")  # as Keras does

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[keras.applications.MobileNetV3Small.__module__].file_utils, "get_file", nowhere)
        with pytest.raises(xai.InvalidFile, match="write keras:MobileNetV3Small@FILE for weights of a file"):
            xai.wrap("keras:MobileNetV3Small")


# names


def test_a_function_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loaders_own.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())"
        ".eval()\ndef broken():\n    return 1 / 0\n"
    )
    monkeypatch.chdir(tmp_path)
    model = xai.wrap("loaders_own:net", size=16)
    assert (model.name, model.predict((IMAGES,)).shape) == ("net", (4, 2))
    with pytest.raises(xai.CrossXAIError, match=r"factory 'loaders_own:broken' raises ZeroDivisionError"):
        xai.wrap("loaders_own:broken")


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("torchvision:resnet81", "no network of torchvision is called 'resnet81'; did you mean resnet18"),
        ("torchvison:resnet18", "no library of networks is called 'torchvison'; did you mean torchvision"),
        ("torchvision:resnet18@IMAGENET1K_V3", "did you mean IMAGENET1K_V1"),
        ("torchvision:resnet18@nowhere.pt", "no file of weights at nowhere.pt"),
        ("torchvision:vgg16@IMAGENET1K_FEATURES", "hold no trained classifier: write vgg16@IMAGENET1K_V1"),
        ("torchvision:inception_v3@nowhere.pt", "scales its inputs or not (transform_input)"),
        ("resnet18", "write library:name such as torchvision:resnet18"),
        ("nowhere:net", "factory 'nowhere:net' cannot be imported"),
        ("nowhere.keras", "does not exist; did you mean nowhere.h5"),
        ("nowhere.onnxx", "does not exist"),
        ("pictures", "a folder without saved_model.pb (TensorFlow) or config.json"),
        ("notes.txt", "a model's file ends with .keras"),
    ],
)
def test_wrong_names(written: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in ("nowhere.h5", "notes.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(xai.CrossXAIError) as caught:
        xai.wrap(written)
    assert words in str(caught.value)


# timm and Hugging Face


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_a_network_of_timm_gives_timm_s_own_numbers(name: str, tmp_path: Path) -> None:
    net = timm.create_model(name, num_classes=4).eval()
    torch.save(net.state_dict(), tmp_path / "own.pth")
    model: Any = xai.wrap(f"timm:{name}@{tmp_path / 'own.pth'}")
    config = timm.data.resolve_model_data_config(net)
    theirs = timm.data.create_transform(**config)
    for size in ((200, 300), (301, 170)):
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
        batch = arrays.read(model, picture)
        with torch.no_grad():
            np.testing.assert_allclose(model.predict(batch.inputs), net(theirs(picture)[None]), rtol=1e-4, atol=1e-5)
    assert "weights: own.pth, of 4 classes" in lines(model)
    assert "random weights" in lines(xai.wrap(f"timm:{name}@random"))
    with pytest.raises(xai.UnknownName, match="did you mean"):
        xai.wrap(f"timm:{name}x")


def test_timm_squashes_pads_and_cuts_as_its_configuration_says() -> None:
    given = {
        "input_size": (3, 32, 32),
        "interpolation": "bilinear",
        "mean": (0.0,) * 3,
        "std": (1.0,) * 3,
        "crop_pct": 0.9,
    }
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8))
    for mode in ("center", "squash"):
        config = {**given, "crop_mode": mode}
        theirs = timm.data.create_transform(**config)(picture).movedim(0, -1).numpy()
        made = of_timm.resize(config)
        assert made is not None
        np.testing.assert_allclose(np.asarray(made(picture)) / 255, theirs, atol=1e-6)
    assert of_timm.resize({**given, "crop_mode": "border"}) is None


def vit_folder(place: Path, **processor: Any) -> Any:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "bird"}, label2id={"cat": 0, "dog": 1, "bird": 2},
    )  # fmt: skip
    torch.manual_seed(0)
    net = transformers.ViTForImageClassification(config).eval()
    net.save_pretrained(place)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, **processor).save_pretrained(place)
    return net


def test_a_folder_of_hugging_face_gives_its_own_numbers(tmp_path: Path) -> None:
    net = vit_folder(tmp_path / "vit", image_mean=(0.4, 0.5, 0.6), image_std=(0.2, 0.3, 0.4))
    model: Any = xai.wrap(f"hf:{tmp_path / 'vit'}")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8))
    values = transformers.AutoImageProcessor.from_pretrained(tmp_path / "vit")(picture, return_tensors="pt")
    with torch.no_grad():
        theirs = net(values["pixel_values"]).logits
    np.testing.assert_allclose(model.predict(arrays.read(model, picture).inputs), theirs, atol=2e-3)  # PIL's bilinear
    assert (model.name, model.recognised.classes) == ("vit", ("cat", "dog", "bird"))
    assert "preprocessing: that of its ViTImageProcessor" in lines(model)
    assert xai.explain(model, picture, "attention.rollout").of("image").shape == (1, 32, 32, 1)


@pytest.mark.parametrize(
    "processor",
    [
        transformers.ViTImageProcessor(),
        transformers.CLIPImageProcessor(),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 224}),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 384}),
        transformers.EfficientNetImageProcessor(),
    ],
    ids=lambda processor: type(processor).__name__,
)
def test_image_processors_of_hugging_face_are_followed(processor: Any) -> None:
    picture = Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png").convert("RGB").crop((0, 0, 400, 300))
    theirs = processor(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    resize, (mean, sd) = of_huggingface.resized(processor.to_dict()), of_huggingface.standardised(processor)
    assert resize is not None
    ours = (np.asarray(resize(picture)) / 255 - mean) / sd
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(
        ours, theirs, atol=2.5 / 255 / min(sd)
    )  # torchvision's resizing rounds in another way than Pillow's
    assert abs(ours - theirs).mean() < 1e-3


def test_a_folder_of_hugging_face_with_code_or_another_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    config: dict[str, Any] = {"architectures": ["OwnForImageClassification"], "auto_map": {"AutoConfig": "own.Config"}}
    (tmp_path / "own" / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    (tmp_path / "own" / "config.json").write_text(json.dumps(config))
    with pytest.raises(xai.InvalidInput, match="brings code of its own, which loading would run") as caught:
        xai.wrap(f"hf:{tmp_path / 'own'}")
    assert TRUST in str(caught.value)
    assert not (tmp_path / "mark").exists()
    (tmp_path / "own" / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))
    with pytest.raises(xai.InvalidInput, match="is of the kind BertForMaskedLM"):
        xai.wrap(f"hf:{tmp_path / 'own'}")
    (tmp_path / "own" / "config.json").write_text("{")
    with pytest.raises(xai.InvalidFile, match=r"no folder with a config\.json"):
        xai.wrap(f"hf:{tmp_path / 'own'}")


def test_a_folder_that_is_not_there_is_not_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: Any, **__: Any) -> Any:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(transformers.PretrainedConfig, "get_config_dict", asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(xai.InvalidFile, match="hf:out/vit: there is no folder 'vit' in out"):
        xai.wrap("hf:out/vit")
    with pytest.raises(xai.InvalidFile, match="the hub was asked"):
        xai.wrap("hf:google/vit-base-patch16-224")


@pytest.mark.parametrize(
    ("package", "written", "extra"),
    [
        ("timm", "timm:test_vit@random", "timm"),
        ("transformers", "hf:vit", "huggingface"),
        ("onnxruntime", "net.onnx", "onnx"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    package: str, written: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(xai.MissingDependency, match=rf"needs {package}, .*: {re.escape(install_command(extra))}"):
        xai.wrap(written)

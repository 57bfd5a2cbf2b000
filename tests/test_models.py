"""The checkpoint, and ResNet-18 being the same function in PyTorch and in Keras."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

import crossxai
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.studies.networks import keras_networks, torch_networks, weight_files
from crossxai.studies.pcam import histology
from crossxai.studies.pcam.reading import PCam

META = {"architecture": "resnet18", "n_classes": 2}
MEAN, SD = np.array([0.7, 0.6, 0.5]), np.array([0.1, 0.2, 0.25])


def lively(seed: int = 0, n_classes: int = 2) -> Any:
    """A torch ResNet-18 whose batch norms have statistics, scales and shifts far from 0 and 1."""
    model = torch_networks.resnet18(n_classes, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


def arrays(model: Any) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in model.state_dict().items()}


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Four standardised patches of the embedded set, NHWC float32."""
    recipe = histology.Recipe(stride=16, train_per_class=2, valid_per_class=2, test_per_class=2)
    data = PCam(histology.build(tmp_path_factory.mktemp("data"), recipe), "test")
    return ((data.images(range(4)) - MEAN) / SD).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.npz"
    return weight_files.write(path, arrays(lively()), MEAN, SD, META)


def torch_outputs_and_gradients(model: Any, images: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_()
    outputs = model(x)
    (gradient,) = torch.autograd.grad((outputs * torch.from_numpy(weights)).sum(), x)
    return outputs.detach().numpy(), gradient.numpy().transpose(0, 2, 3, 1)


def keras_outputs_and_gradients(model: Any, images: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = model(x, training=False)
        score = tf.reduce_sum(outputs * weights)
    return outputs.numpy(), tape.gradient(score, x).numpy()


# The twin


def test_twin_in_float32(patches: np.ndarray, saved: Path) -> None:
    model = lively()
    with torch.no_grad():
        expected = model(torch.from_numpy(patches.transpose(0, 3, 1, 2).copy())).numpy()
    twin = keras_networks.load(saved, weight_files.read(saved))
    np.testing.assert_allclose(twin(patches, training=False).numpy(), expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected) > 0.1  # the agreement is not that of constants


@pytest.mark.parametrize("size", [96, 95, 64])
def test_twin_in_float64(patches: np.ndarray, size: int) -> None:
    """Outputs and input gradients; even and odd sizes, because SAME padding goes wrong for even ones only."""
    images = patches[:2, :size, :size].astype(np.float64)
    model = lively(3).double()
    weights = np.array([[1.0, 0.0], [-0.5, 2.0]])
    twin = keras_networks.resnet18(size=size, dtype="float64")
    keras_networks.set_weights_from(twin, arrays(model))
    outputs, gradients = torch_outputs_and_gradients(model, images, weights)
    twin_outputs, twin_gradients = keras_outputs_and_gradients(twin, images, weights)
    assert twin_outputs.dtype == twin_gradients.dtype == np.float64
    np.testing.assert_allclose(twin_outputs, outputs, rtol=0, atol=1e-9)
    np.testing.assert_allclose(twin_gradients, gradients, rtol=0, atol=1e-9 * np.abs(gradients).max())


def test_stages_have_the_same_name_and_activation(patches: np.ndarray) -> None:
    model = lively(1).double()
    twin = keras_networks.resnet18(dtype="float64")
    keras_networks.set_weights_from(twin, arrays(model))
    names = ["conv1", "bn1", "maxpool", "layer1", "layer2", "layer3", "layer4", "fc"]
    seen: dict[str, np.ndarray] = {}
    for name in names:
        # bn1's output is overwritten by torchvision's in-place ReLU: copy it before that.
        model.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.__setitem__(name, out.detach().clone().numpy())
        )
    images = patches[:1].astype(np.float64)
    model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    inner = keras.Model(twin.input, [twin.get_layer(name).output for name in names])
    for name, found in zip(names, inner(images, training=False), strict=True):
        expected = seen[name].transpose(0, 2, 3, 1) if seen[name].ndim == 4 else seen[name]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-9, err_msg=name)


def test_every_relu_is_a_layer_and_settings_are_torch_s() -> None:
    twin = keras_networks.resnet18()
    relus = [layer for layer in twin.layers if isinstance(layer, keras.layers.ReLU)]
    norms = [layer for layer in twin.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(relus) == 1 + 2 * 8
    assert {(n.epsilon, n.momentum) for n in norms} == {(1e-5, 0.9)}
    assert not [
        layer for layer in twin.layers if getattr(layer, "activation", None) not in (None, keras.activations.linear)
    ]
    assert "layer3_1_conv2" in {layer.name for layer in twin.layers}
    parameters = sum(p.numel() for p in torch_networks.resnet18(seed=0).parameters())
    assert sum(int(np.prod(w.shape)) for w in twin.trainable_weights) == parameters


def test_max_pool_ignores_the_padding(patches: np.ndarray) -> None:
    """Where all values are negative, zeros in the padding would win at the border."""
    pool = keras.Sequential([keras_networks.PadWithMinusInfinity(), keras.layers.MaxPooling2D(3, 2, "valid")])
    values = -1 - patches[:1] ** 2
    expected = torch.nn.MaxPool2d(3, 2, 1)(torch.from_numpy(values.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_array_equal(pool(values).numpy(), expected.numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_twin_loads_in_safe_mode(patches: np.ndarray, tmp_path: Path, dtype: str) -> None:
    twin = keras_networks.resnet18(dtype=dtype)
    keras_networks.set_weights_from(twin, arrays(lively(2)))
    twin.save(tmp_path / "twin.keras")
    again = keras.models.load_model(tmp_path / "twin.keras", safe_mode=True)
    images = patches.astype(dtype)
    np.testing.assert_array_equal(again(images, training=False).numpy(), twin(images, training=False).numpy())
    assert again.get_layer("layer4").compute_dtype == dtype


def test_other_numbers_of_classes(patches: np.ndarray) -> None:
    model = lively(n_classes=5)
    twin = keras_networks.resnet18(n_classes=5)
    keras_networks.set_weights_from(twin, arrays(model))
    assert twin(patches, training=False).shape == (4, 5)


def test_weights_that_do_not_fit_are_named(saved: Path) -> None:
    twin, state = keras_networks.resnet18(), arrays(lively())
    with pytest.raises(InvalidInput, match=r"lack fc\.weight, which layer 'fc' needs"):
        keras_networks.set_weights_from(twin, {k: v for k, v in state.items() if k != "fc.weight"})
    with pytest.raises(InvalidInput, match=r"takes arrays of shapes \[\(512, 2\), \(2,\)\].*give \[\(512, 3\)"):
        keras_networks.set_weights_from(twin, {**state, "fc.weight": np.zeros((3, 512))})
    with pytest.raises(InvalidInput, match=r"no layer of 'resnet18' takes layer5\.weight"):
        keras_networks.set_weights_from(twin, {**state, "layer5.weight": np.zeros(3)})
    held = weight_files.read(saved)
    three = replace(held, meta={**held.meta, "n_classes": 3})
    with pytest.raises(InvalidFile, match=r"model\.npz: layer 'fc' takes"):
        keras_networks.load(saved, three)
    with pytest.raises(InvalidFile, match=r"model\.npz: its weights do not fit ResNet-18 with 3 classes"):
        torch_networks.load(saved, three)


# The torch side


def test_torch_loads_its_own_weights(patches: np.ndarray, saved: Path) -> None:
    loaded, model = torch_networks.load(saved, weight_files.read(saved)), lively()
    x = torch.from_numpy(patches.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        np.testing.assert_array_equal(loaded(x).numpy(), model(x).numpy())
    assert not loaded.training


def test_a_seed_leaves_torch_s_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, second, other = (torch_networks.resnet18(seed=s).fc.weight for s in (4, 4, 5))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)


# The checkpoint


def test_checkpoint_round_trip(saved: Path, tmp_path: Path) -> None:
    held = weight_files.read(saved)
    expected = arrays(lively())
    assert list(held.weights) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(held.weights[name], values)
        assert held.weights[name].dtype == values.dtype
    np.testing.assert_array_equal(held.mean, MEAN.astype(np.float32))
    np.testing.assert_array_equal(held.sd, SD.astype(np.float32))
    assert (held.meta, held.n_classes) == (META, 2)
    again = weight_files.write(tmp_path / "again.npz", held.weights, held.mean, held.sd, held.meta)
    assert weight_files.read(again).digest == held.digest  # same content, same file


def test_checkpoint_holds_no_pickle(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "pickled.npz"
    np.savez(path, meta=np.array([{}], dtype=object))
    with pytest.raises(InvalidFile, match=r"not a whole \.npz of plain arrays \(it is something else\)"):
        weight_files.read(path)
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        weight_files.write(path, {"w": np.array([None])}, MEAN, SD, META)


def changed(saved: Path, path: Path, **changes: Any) -> Path:
    with np.load(saved) as archive:
        content = {name: archive[name] for name in archive.files if name == "meta" or name.startswith("standard")}
    content |= {name.replace("__", "."): values for name, values in changes.items()}
    np.savez(path, **{name: values for name, values in content.items() if values is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta": None}, "no meta: not a CrossXAI checkpoint"),
        ({"standardise__sd": None}, r"no standardise\.sd: not a CrossXAI checkpoint"),
        ({"standardise__sd": np.array([1, 0, 1])}, "three finite numbers, sd positive"),
        ({"standardise__mean": np.zeros(4)}, "three finite numbers"),
        ({"meta": np.array("{")}, "meta is not JSON"),
        ({"meta": np.array(3)}, "meta must be a JSON object"),
        ({"meta": np.array(json.dumps({"n_classes": 2}))}, "with architecture and n_classes"),
        ({"meta": np.array(json.dumps({**META, "architecture": "vgg"}))}, "architecture 'vgg', expected 'resnet18'"),
    ],
)
def test_foreign_archives(saved: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFile, match=message):
        weight_files.read(changed(saved, tmp_path / "other.npz", **changes))


def test_broken_files(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    with pytest.raises(InvalidFile, match=r"no such file; crossxai\.studies\.training\.fit writes"):
        weight_files.read(path)
    whole = saved.read_bytes()
    middle = bytearray(whole)
    middle[len(whole) // 2] ^= 0xFF
    for content in (b"", whole[:-1000], whole[: len(whole) // 3], bytes(middle), b"torch?" * 100):
        path.write_bytes(content)
        with pytest.raises(InvalidFile, match=r"broken\.npz: not a whole \.npz of plain arrays"):
            weight_files.read(path)
    np.save(tmp_path / "bare.npy", np.zeros(3))
    with pytest.raises(InvalidFile, match="not a CrossXAI checkpoint"):
        weight_files.read(tmp_path / "bare.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InvalidFile, match="not a CrossXAI checkpoint"):
        weight_files.read(path)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = weight_files.write(tmp_path / "model.npz", {"w": np.zeros(3)}, MEAN, SD, META)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Object arrays"):
        weight_files.write(path, {"w": np.array([None])}, MEAN, SD, META)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_write_refuses_what_read_would(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"called something\.npz, got 'model\.pt'"):
        weight_files.write(tmp_path / "model.pt", {}, MEAN, SD, META)
    with pytest.raises(InvalidInput, match=r"meta lacks \['n_classes'\]"):
        weight_files.write(tmp_path / "model.npz", {}, MEAN, SD, {"architecture": "resnet18"})


@pytest.mark.process
def test_a_checkpoint_is_read_without_a_framework(saved: Path) -> None:
    code = (
        "import sys, crossxai.studies.networks.weight_files as c; c.read(sys.argv[1])\n"
        "print([m for m in ('torch', 'tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert crossxai.__version__

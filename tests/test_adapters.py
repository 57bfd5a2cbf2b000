"""Adapters: the verbs against finite differences and torch itself, and an error that helps for each wrong input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import toys
from torch import nn

from crossxai import InvalidInput, Modality, Question, Target, UnknownName, Unsupported, check
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel

KINDS = ["torch", "functional", "sequential", "subclassed"]


def model(kind: str, dtype: str = "float32") -> Any:
    return toys.torch_model(dtype) if kind == "torch" else toys.keras_model(dtype, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_rows(kind: str) -> None:
    net, x = model(kind), toys.images(4)
    rows = np.concatenate([net.predict((x[i : i + 1],)) for i in range(4)])
    np.testing.assert_allclose(net.predict((x,)), rows, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("link", ["identity", "softmax", "sigmoid"])
def test_gradients_equal_finite_differences(kind: str, link: Any) -> None:
    net, x = model(kind, "float64"), toys.images(2, dtype="float64")
    question = Question(net, (x,), Target.classes([2, 0], 3, link))
    scores, (gradient,) = question.score_and_grad()
    np.testing.assert_allclose(scores, question.score(), atol=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(5):
        step = np.zeros_like(x)
        step[(slice(None), *(rng.integers(s) for s in x.shape[1:]))] = 1e-5
        numeric = (question.score((x + step,), [0, 1]) - question.score((x - step,), [0, 1])) / 2e-5
        np.testing.assert_allclose((gradient * step).sum(axis=(1, 2, 3)) / 1e-5, numeric, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_layer_gradients_equal_finite_differences(kind: str) -> None:
    """Through `replace`, so that reading and writing a layer are checked against each other."""
    net, x = model(kind, "float64"), toys.images(2, dtype="float64")
    question = Question(net, (x,), Target.classes([2, 0], 3))
    for layer in ("conv1", "conv2"):
        _, activation, gradient = question.layer_score_and_grad(layer)
        step = 1e-6 * np.random.default_rng(1).normal(size=activation.shape)
        moved = np.concatenate([activation + step, activation - step])
        up, down = question.score_replaced(layer, [0, 1, 0, 1], lambda rows, moved=moved: moved[rows]).reshape(2, 2)
        np.testing.assert_allclose((gradient * step).sum(axis=(1, 2, 3)) * 2, up - down, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_the_target_keeps_its_type(kind: str) -> None:
    question = Question(model(kind), (toys.images(2),), Target.classes([0, 1], 5))
    with pytest.raises(InvalidInput, match=r"outputs of shape \(5,\), the model gives \(3,\)"):
        question.score_and_grad()
    with pytest.raises(InvalidInput, match=r"outputs of shape \(5,\)"):
        question.score()


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_layer(kind: str) -> None:
    with pytest.raises(UnknownName, match=r"did you mean .*conv2"):
        toys.question(model(kind)).layer_score_and_grad("convv2")
    with pytest.raises(UnknownName, match=r"did you mean .*conv2"):
        toys.question(model(kind)).cam_layer("convv2")
    with pytest.raises(Unsupported, match="no space for a map"):
        toys.question(model(kind)).cam_layer("fc")


@pytest.mark.parametrize("kind", ["torch", "functional"])
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((np.zeros((2, 3, 32, 32), np.float32),), r"channels first: write np\.moveaxis\(x, 1, -1\)"),
        ((np.zeros((2, 32, 32, 3), np.uint8),), r"got uint8; write x\.astype\(np\.float32\) / 255"),
        ((np.zeros((2, 32, 32, 3), np.int64),), r"got int64; write x\.astype\(np\.float32\)"),
        ((np.full((2, 32, 32, 3), 128, np.float32),), r"declared range \(0\.0, 1\.0\), got values from 128 to 128"),
        ((np.full((2, 32, 32, 3), np.nan, np.float32),), "NaN or infinity"),
        ((np.zeros((2, 32, 32), np.float32),), r"expected 4 axes \(n, y, x, 3 channels\), got shape \(2, 32, 32\)"),
        ((np.zeros((2, 32, 32, 3), np.float32),) * 2, r"takes 1 modalities \(image\), got 2 arrays"),
        (np.zeros((2, 32, 32, 3), np.float32), r"got ndarray; write inputs=\(image,\)"),
    ],
)
def test_wrong_inputs(kind: str, inputs: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Question(model(kind), inputs, Target.classes([0, 1], 3))


@pytest.mark.parametrize("kind", ["torch", "functional"])
def test_wrong_layout_is_caught_by_the_adapter_too(kind: str) -> None:
    with pytest.raises(InvalidInput, match="channels first"):
        model(kind).predict((np.zeros((2, 3, 32, 32), np.float32),))


def test_training_mode() -> None:
    net = toys.torch_net().train()
    with pytest.raises(InvalidInput, match=r"training mode .*write module\.eval\(\) first"):
        TorchModel(net, (toys.IMAGE,))
    wrapped = TorchModel(net.eval(), (toys.IMAGE,))
    net.train()
    with pytest.raises(InvalidInput, match="training mode"):
        wrapped.predict((toys.images(1),))


def test_a_layer_that_runs_twice_is_refused() -> None:
    import keras

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.conv(self.relu(x))).mean(dim=(2, 3))

    start = keras.Input((32, 32, 3))
    relu = keras.layers.ReLU(name="relu")
    twice = keras.Model(
        start, keras.layers.GlobalAveragePooling2D()(relu(keras.layers.Conv2D(3, 1, name="conv")(relu(start))))
    )
    for net in (TorchModel(Twice().eval(), (toys.IMAGE,)), KerasModel(twice, (toys.IMAGE,))):
        assert "relu" not in net.activations((toys.images(1),))
        with pytest.raises(Unsupported, match="runs more than once"):
            toys.question(net).layer_score_and_grad("relu")
        assert toys.question(net).layer_score_and_grad("conv")[1].shape == (3, 32, 32, 3)


def test_wrong_models() -> None:
    with pytest.raises(InvalidInput, match=r"takes a torch\.nn\.Module, got function"):
        TorchModel(lambda x: x, (toys.IMAGE,))  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"takes a keras\.Model, got Sequential"):
        KerasModel(toys.torch_net(), (toys.IMAGE,))
    with pytest.raises(InvalidInput, match="takes a callable, got int"):
        FunctionModel(3, (toys.IMAGE,))  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="did you mean image"):
        TorchModel(toys.torch_net(), (toys.IMAGE,), standardise={"imag": (toys.MEAN, toys.SD)})
    with pytest.raises(InvalidInput, match="needs \\(mean, sd\\) with 3 finite numbers each and sd > 0"):
        KerasModel(toys.keras_net(), (toys.IMAGE,), standardise={"image": ((0.5,), (0.5,))})
    for net in (TorchModel(nn.Conv2d(3, 2, 1).eval(), (toys.IMAGE,)), FunctionModel(lambda x: x, (toys.IMAGE,))):
        with pytest.raises(InvalidInput, match='output_axes=\\("class",\\) for class scores'):
            net.predict((toys.images(1),))
    with pytest.raises(InvalidInput, match="returned float64 of shape \\(1, 2\\) for 3 samples"):
        FunctionModel(lambda x: np.zeros((1, 2)), (toys.IMAGE,)).predict((toys.images(3),))


def test_segmentation_outputs_put_the_class_last() -> None:
    """One target type for a mask: the mean logit of class 1 over a region."""
    import torch

    conv = nn.Conv2d(3, 2, 3, padding=1).eval()
    net = TorchModel(conv, (toys.IMAGE,), output_axes=("y", "x", "class"))
    x = toys.images(2)
    with torch.no_grad():
        expected = conv(torch.tensor(x).permute(0, 3, 1, 2))
    np.testing.assert_allclose(net.predict((x,)), expected.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    masks = np.zeros((2, 32, 32))
    masks[:, 4:9, 20:30] = 1
    question = Question(net, (x,), Target.regions(masks, 1, 2))
    np.testing.assert_allclose(question.score(), expected[:, 1, 4:9, 20:30].mean(dim=(1, 2)), atol=1e-6)
    _, (gradient,) = question.score_and_grad()
    assert not gradient[:, :3].any()
    assert gradient[:, 5:8, 21:29].all()


def test_two_modalities_on_both_frameworks() -> None:
    """An image and a table, fused; the table's gradient comes with the image's from one pass."""
    import keras
    import torch

    class Fusion(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(6, 2)

        def forward(self, image: Any, table: Any) -> Any:
            return self.fc(torch.cat([torch.tanh(self.conv(image)).mean(dim=(2, 3)), table], dim=1))

    net = Fusion().eval()
    image, table = keras.Input((8, 8, 3)), keras.Input((2,))
    conv, fc = keras.layers.Conv2D(4, 3, activation="tanh"), keras.layers.Dense(2)
    twin = keras.Model(
        [image, table],
        fc(keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(conv(image)), table])),
    )
    conv.set_weights([net.conv.weight.detach().numpy().transpose(2, 3, 1, 0), net.conv.bias.detach().numpy()])
    fc.set_weights([net.fc.weight.detach().numpy().T, net.fc.bias.detach().numpy()])
    modalities = (Modality.image(), Modality.table(("age", "dose")))
    rng = np.random.default_rng(0)
    inputs = (rng.random((3, 8, 8, 3), np.float32), rng.normal(size=(3, 2)).astype(np.float32))
    answers = []
    for model in (TorchModel(net, modalities), KerasModel(twin, modalities)):
        scores, gradients = Question(model, inputs, Target.classes([0, 1, 1], 2)).score_and_grad()
        answers.append((scores, *gradients))
        only = Question(model, inputs, Target.classes([0, 1, 1], 2)).only("table")
        copies = np.concatenate([inputs[1], inputs[1]])
        np.testing.assert_allclose(only.score((copies,), [0, 1, 2, 0, 1, 2]), np.tile(scores, 2), atol=1e-6)
    for a, b in zip(*answers, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_signals_keep_their_axes() -> None:
    """One axis of space: (n, time, channel) inputs and (n, time, class) outputs, also where both axes have the same size."""
    import torch

    signal = Modality("signal", ("time", "channel"), ("a", "b", "c", "d"))
    conv = nn.Conv1d(4, 4, 3, padding=1).double().eval()
    net = TorchModel(conv, (signal,), output_axes=("time", "class"))
    x = np.random.default_rng(0).normal(size=(2, 4, 4))
    with torch.no_grad():
        expected = conv(torch.tensor(x).movedim(-1, 1)).movedim(1, -1).numpy()
    np.testing.assert_allclose(net.predict((x,)), expected)
    weights = np.random.default_rng(1).normal(size=expected.shape)
    question = Question(net, (x,), Target(weights))
    _, (gradient,) = question.score_and_grad()
    step = 1e-6 * np.random.default_rng(2).normal(size=x.shape)
    change = question.score((x + step,), [0, 1]) - question.score((x - step,), [0, 1])
    np.testing.assert_allclose(2 * (gradient * step).sum(axis=(1, 2)), change, rtol=1e-6)


def test_a_module_that_keeps_tensors_is_left_usable() -> None:
    """No inference tensors may stay in the user's module, and a caller's inference mode must not reach into ours."""
    import torch

    class Caching(nn.Module):
        grid: Any = None

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            if self.grid is None:
                self.grid = torch.linspace(0, 1, x.shape[-1])[None, None, None]
            return self.fc((x * self.grid).mean(dim=(2, 3)))

    question = toys.question(TorchModel(Caching().eval(), (toys.IMAGE,)))
    question.score()
    with torch.inference_mode():
        _, (inside,) = question.score_and_grad()
    _, (outside,) = question.score_and_grad()
    np.testing.assert_array_equal(inside, outside)
    assert np.abs(outside).max() > 0


def test_a_call_of_the_user_s_own_survives() -> None:
    net = toys.keras_net()
    layer = net.get_layer("relu1")
    original = layer.call
    layer.call = lambda *args, **kwargs: 2 * original(*args, **kwargs)
    model = KerasModel(net, (toys.IMAGE,))
    before = net(toys.images(2)).numpy()
    Question(model, (toys.images(2),), Target.classes([0, 1], 3)).layer_score_and_grad("relu1")
    np.testing.assert_array_equal(net(toys.images(2)).numpy(), before)


@pytest.mark.parametrize("kind", ["torch", "functional"])
def test_several_threads_share_a_model(kind: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    question = toys.question(model(kind))

    def ask(layer: str) -> Any:
        return question.layer_score_and_grad(layer)[2]

    layers = ["conv1", "relu1", "conv2", "relu2"] * 3
    expected = {layer: ask(layer) for layer in set(layers)}
    with ThreadPoolExecutor(4) as pool:
        for layer, found in zip(layers, pool.map(ask, layers), strict=True):
            np.testing.assert_allclose(found, expected[layer], atol=1e-7)


@pytest.mark.parametrize("kind", ["torch", "functional"])
def test_a_model_that_loses_samples_is_refused(kind: str) -> None:
    import keras

    class Collapsing(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.mean(dim=(0, 2, 3))[None]

    if kind == "torch":
        net: Any = TorchModel(Collapsing().eval(), (toys.IMAGE,))
    else:
        start = keras.Input((32, 32, 3))
        net = KerasModel(
            keras.Model(start, keras.layers.Lambda(lambda x: keras.ops.mean(x, axis=(0, 1, 2))[None])(start)),
            (toys.IMAGE,),
        )
    with pytest.raises(InvalidInput, match=r"1 outputs for \d samples: keep the sample axis"):
        toys.question(net).score()


def test_wrong_modalities() -> None:
    for given in (Modality.image(), (), ("image",)):
        with pytest.raises(InvalidInput, match="modalities are a tuple"):
            TorchModel(toys.torch_net(), given)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="different names"):
        TorchModel(toys.torch_net(), (toys.IMAGE, toys.IMAGE))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_describes_and_checks_itself(kind: str) -> None:
    net, x = model(kind), toys.images(4)
    declared, measured = dict(net.describe().lines), dict(net.describe(x).lines)
    assert type(net.network).__name__ in declared["network"]
    assert net.framework in declared["network"]
    assert "1,443" in declared["network"]
    assert "values 0 to 1" in declared["input image"]
    assert "mean 0.4, 0.5, 0.6 and sd 0.2, 0.25, 0.3" in declared["input image"]
    assert "not declared" in declared["outputs"]
    assert measured["outputs"].startswith("(n, class), logits: ")
    assert "16 × 16 places" in measured["activation maps of image"]
    assert str(net.describe(x)).count("\n") == len(measured)
    assert "<th>outputs</th>" in net.describe(x)._repr_html_()
    assert repr(net).startswith(type(net).__name__)
    assert "\n" not in repr(net)
    assert net.check(x).facts == net.check((x,)).facts == check(net, x).facts
    assert not net.check(x, Target.classes([0, 1, 2, 0], 3), [0, 1, 2, 0]).broken


def test_a_function_says_that_it_has_no_gradients() -> None:
    net = FunctionModel(lambda x: x.mean(axis=(1, 2)), (Modality.image(),), outputs="values", name="mean colour")
    lines = dict(net.describe().lines)
    assert "none" in lines["gradients"]
    assert lines["outputs"] == "(n, class), values as declared"
    assert not any(subject.startswith("activation maps") for subject in lines)


def test_what_cannot_be_measured_is_said_in_the_description() -> None:
    net = TorchModel(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval(), (Modality.image(),))
    lines = dict(net.describe(np.random.default_rng(0).random((2, 2, 2, 3), np.float32)).lines)
    assert "layer" in lines["activation maps of image"]
    assert "drawn at" not in lines["activation maps of image"]

"""Twins compute what their models compute, values and gradients, and the hooks of explainer libraries work on them."""

from __future__ import annotations

from typing import Any

import keras
import nets
import numpy as np
import pytest
import torch
import toys
from captum.attr import DeepLift, GuidedBackprop
from torch import nn

from crossxai import Modality, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.graph import Graph, Node
from crossxai.model import Inputs, Traceable
from crossxai.models import resnet18_keras, resnet18_torch
from crossxai.porting import Twin, twin

LEFT, RIGHT, TABLE = Modality.image("left"), Modality.image("right"), Modality.table(("a", "b", "c", "d"))
FRAMEWORKS = ("torch", "keras")


def images(size: int = 32, n: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, size, size, 3))


def rebuilt(made: Twin, model: Any) -> Any:
    """The twin behind the adapter of its framework; its inputs are raw, so nothing is standardised here."""
    adapter = TorchModel if isinstance(made.module, nn.Module) else KerasModel
    return adapter(made.module, model.modalities, output_axes=model.output_axes)


def check_same(model: Any, inputs: Inputs, framework: Any, tolerance: float = 1e-9) -> Twin:
    """Outputs and input gradients of the twin are the model's, in float64; and so is what its layers give."""
    made = twin(model, inputs, framework)
    assert made.gap < tolerance
    shape = model.predict(inputs).shape
    weights = np.random.default_rng(7).normal(size=shape)
    other = rebuilt(made, model)
    (outputs, gradients), (found, slopes) = (m.vjp(inputs, lambda _out: weights) for m in (model, other))
    np.testing.assert_allclose(found, outputs, rtol=0, atol=tolerance * np.abs(outputs).max())
    assert np.ptp(outputs) > 1e-3  # the agreement is not that of constants
    for slope, gradient in zip(slopes, gradients, strict=True):
        np.testing.assert_allclose(slope, gradient, rtol=0, atol=tolerance * np.abs(gradient).max())
        assert gradient.std() > 0
    return made


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("source", FRAMEWORKS)
def test_resnet18(source: str, framework: str) -> None:
    net = nets.lively(resnet18_torch.build(3, 0))
    size = 64
    if source == "torch":
        model: Any = TorchModel(net, (toys.IMAGE,), standardise=toys.STANDARDISE)
    else:
        ported = resnet18_keras.build(3, size, "float64")
        resnet18_keras.set_weights_from(ported, {k: v.numpy() for k, v in net.state_dict().items()})
        model = KerasModel(ported, (toys.IMAGE,), standardise=toys.STANDARDISE)
    inputs = (images(size),)
    made = check_same(model, inputs, framework)
    other = rebuilt(made, model)
    for layer in ("bn1", "maxpool", "layer1", "layer4"):  # before an in-place ReLU, a pool, composite ones
        _, expected, gradient = model.layer_vjp(inputs, np.ones_like, layer)
        name = made.layers[layer]
        if framework == "torch":
            name = next(path for path, module in made.module.named_modules() if module is made.layers[layer])
        _, found, slope = other.layer_vjp(inputs, np.ones_like, name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max(), err_msg=layer)
        np.testing.assert_allclose(slope, gradient, rtol=0, atol=1e-9 * np.abs(gradient).max(), err_msg=layer)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", ["torch", "functional", "sequential", "subclassed"])
def test_toys(kind: str, framework: str) -> None:
    model = toys.torch_model("float64") if kind == "torch" else toys.keras_model("float64", kind)
    inputs = (toys.images(dtype="float64"),)
    made = check_same(model, inputs, framework)
    hidden = {"pad1", "pad2"}  # taken into the convolutions after them
    assert set(made.layers) == set(model.layers(inputs)) - hidden


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("size", [32, 64])
def test_functional_in_place_and_reused_activations(framework: str, size: int) -> None:
    model = TorchModel(nets.lively(nets.Tangled()), (toys.IMAGE,))
    if size == 64:
        model.module.head = nets.lively(nn.Linear(18 * 4 * 4, 5), 3)
    made = check_same(model, (images(size),), framework)
    ops = [node.op for node in made.graph.nodes]
    assert ops.count("relu") == 4  # relu twice, torch.relu, F.relu_
    assert "relu" not in made.layers  # it runs twice, so it names no one activation
    if framework == "torch":
        assert not any(getattr(m, "inplace", False) for m in made.module.modules())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_inputs(framework: str) -> None:
    rng = np.random.default_rng(1)
    standardise = {"table": ([1.0, 2, 3, 4], [0.5, 1, 2, 3])}
    fusion = TorchModel(
        nets.lively(nets.Fusion()), (toys.IMAGE, TABLE), standardise=standardise, output_axes=("y", "x", "class")
    )
    check_same(fusion, (images(16), rng.normal(size=(2, 4))), framework)
    pair = TorchModel(nets.lively(nets.Pair()), (LEFT, RIGHT))
    check_same(pair, (images(19), images(19, seed=1)), framework)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("size", [32, 31, 30, 29])
def test_same_padding_of_odd_and_even_sizes(framework: str, size: int) -> None:
    """One model of any size: the padding that TensorFlow's SAME comes to differs from size to size."""
    net = keras.Sequential(
        [
            keras.Input((None, None, 3), dtype="float64"),
            keras.layers.Conv2D(6, 4, 2, "same", activation="tanh", dtype="float64"),
            keras.layers.MaxPooling2D(3, 2, "same", dtype="float64"),
            keras.layers.Conv2DTranspose(5, 3, 2, "same", dtype="float64"),
            keras.layers.Conv2DTranspose(5, 2, 3, "valid", dtype="float64"),
            keras.layers.Conv2DTranspose(5, 2, 3, "same", activation="softplus", dtype="float64"),
            keras.layers.Conv2D(6, 3, 2, "same", dtype="float64"),
        ]
    )
    model = KerasModel(nets.lively_keras(net), (toys.IMAGE,), output_axes=("y", "x", "class"))
    made = check_same(model, (images(size),), framework)
    if framework == "torch":  # DeepLift meets minus infinity in a padding layer; the pool's own padding it knows
        assert not any(isinstance(m, nn.ConstantPad2d) and np.isinf(m.value) for m in made.module.modules())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_keras_layers(framework: str) -> None:
    model = KerasModel(nets.same_keras(32), (toys.IMAGE,))
    made = check_same(model, (images(32),), framework)
    assert made.graph.layers["stem"] == "stem.relu"  # a layer's output is after the activation fused into it
    assert "inner_conv" in made.layers
    again = check_same(rebuilt(made, model), (images(32),), "keras" if framework == "torch" else "torch")
    assert len(again.graph.nodes) <= len(made.graph.nodes) + 2


def test_flattening_keeps_the_layout_that_the_dense_layer_was_trained_on() -> None:
    net = keras.Sequential([keras.Input((6, 6, 3), dtype="float64"), keras.layers.Flatten(dtype="float64")])
    net.add(keras.layers.Dense(4, dtype="float64"))
    for framework in FRAMEWORKS:
        check_same(KerasModel(nets.lively_keras(net), (toys.IMAGE,)), (images(6),), framework)


def test_a_keras_twin_can_be_cloned_and_saved(tmp_path: Any) -> None:
    model = TorchModel(nets.lively(nets.Tangled()), (toys.IMAGE,), standardise=toys.STANDARDISE)
    made = twin(model, (images(),), "keras")
    clone = keras.models.clone_model(made.module)
    clone.set_weights(made.module.get_weights())
    made.module.save(tmp_path / "twin.keras")
    loaded = keras.models.load_model(tmp_path / "twin.keras")
    for copy in (clone, loaded):
        np.testing.assert_array_equal(copy(images(), training=False), made.module(images(), training=False))
    assert not any(isinstance(layer, keras.Model) for layer in made.module.layers)
    assert sum(isinstance(layer, keras.layers.ReLU) for layer in made.module.layers) == 4


# What twins are for


def nchw(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.transpose(0, 3, 1, 2).copy()).requires_grad_()


def test_guided_backprop_across_frameworks() -> None:
    """captum's on the twin of a Keras model, and Xplique's on the twin of a torch model, are captum's on the original."""
    from xplique.attributions import GuidedBackprop as XpliqueGuidedBackprop

    values, labels = toys.images(3), [0, 1, 2]
    plain = TorchModel(toys.torch_net(), (toys.IMAGE,))
    expected = (
        GuidedBackprop(plain.module).attribute(nchw(values), target=labels).detach().numpy().transpose(0, 2, 3, 1)
    )
    scale = np.abs(expected).max()

    of_keras = twin(KerasModel(toys.keras_net(), (toys.IMAGE,)), (values,), "torch")
    found = GuidedBackprop(of_keras.module).attribute(nchw(values), target=labels).numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4 * scale)

    of_torch = twin(plain, (values,), "keras")
    one_hot = np.eye(3, dtype=np.float32)[labels]
    guided = XpliqueGuidedBackprop(of_torch.module, reducer=None).explain(values, one_hot).numpy()
    np.testing.assert_allclose(guided, expected, atol=1e-4 * scale)
    _, (gradient,) = plain.vjp((values,), lambda _out: one_hot)
    assert np.abs(guided - gradient).max() > 0.1 * scale


def test_deeplift_of_a_network_whose_relu_is_reused_and_in_place() -> None:
    net = nets.lively(resnet18_torch.build(3, 0))
    made = twin(TorchModel(net, (toys.IMAGE,), standardise=toys.STANDARDISE), (images(64),), "torch")
    x = nchw(images(64))
    with pytest.warns(UserWarning, match=r"backward hooks|forward"):
        values, delta = DeepLift(made.module).attribute(x, torch.zeros_like(x), target=1, return_convergence_delta=True)
    assert float(delta.abs().max()) < 1e-8 * float(values.abs().sum())
    assert float(values.std()) > 0


def test_full_grad_finds_the_biases_of_a_keras_model() -> None:
    from pytorch_grad_cam import FullGrad

    made = twin(KerasModel(toys.keras_net(), (toys.IMAGE,)), (toys.images(),), "torch")
    assert [bias.shape for bias in FullGrad(made.module, []).bias_data] == [(8,), (16,)]


# The edges


def test_the_model_is_left_as_found() -> None:
    net = nets.lively(nets.Tangled())
    before = {k: v.clone() for k, v in net.state_dict().items()}
    model = TorchModel(net, (toys.IMAGE,))
    values = images()
    copy = values.copy()
    assert isinstance(model, Traceable)
    made = twin(model, (values,), "torch")
    np.testing.assert_array_equal(values, copy)
    for module in net.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert not module.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(p.requires_grad for p in net.parameters())
    for parameter in made.module.parameters():  # nor does the twin share memory with it
        parameter.data.zero_()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())

    keras_net = nets.same_keras(32)
    nodes = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in keras_net._flatten_layers()]
    weights = keras_net.get_weights()
    twin(KerasModel(keras_net, (toys.IMAGE,)), (values,), "torch")
    assert nodes == [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in keras_net._flatten_layers()]
    assert all(np.array_equal(a, b) for a, b in zip(weights, keras_net.get_weights(), strict=True))


def test_dtypes() -> None:
    model = toys.torch_model("float32")
    inputs = (toys.images(),)
    for framework in FRAMEWORKS:
        single, double = twin(model, inputs, framework), twin(model, inputs, framework, "float64")
        assert single.graph.dtype == np.float32
        assert single.gap < 1e-5
        assert double.gap < 1e-5
        weights = (single.module.parameters, double.module.parameters) if framework == "torch" else ()
        assert [str(next(w()).dtype) for w in weights] in ([], ["torch.float32", "torch.float64"])
    assert double.module.get_layer("fc").kernel.dtype == "float64"


class Steering(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.inner = nn.Sequential()
        self.inner.forward = function
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attend(x, x, x)[0]


def half_overwritten(x: torch.Tensor) -> torch.Tensor:
    row = x.flatten(1)
    x.relu_()
    return row


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Attention(), r"layer 'attend' \(MultiheadAttention\) has no translation"),
        (nn.Sequential(nn.InstanceNorm2d(3)), r"layer '0' \(InstanceNorm2d\) has no translation"),
        (Steering(), r"Steering cannot be traced by torch.fx \(TraceError: symbolically traced"),
        (Function(lambda x: x.cumsum(1)), r"\(cumsum\) has no translation"),
        (Function(lambda x: x[:, :2].mean((2, 3))), r"\(getitem\) has no translation: takes a part of an activation"),
        (Function(lambda x: x / (x + 1)), r"\(truediv\) has no translation: divides by an activation"),
        (Function(lambda x: x * 0), r"\(mul\) has no translation: .* multiplies by zero"),
        (Function(lambda x: x + torch.ones(16, 16)), r"with a constant of shape \(16, 16\)"),
        (Function(lambda x: x.mean(1)), r"\(mean\) has no translation: over axes 1; only over \(2, 3\)"),
        (Function(lambda x: x.view(2, 3, -1)), r"\(view\) has no translation: .*\(2, 3, 256\); only flattening"),
        (Function(lambda x: x * x.sum().item()), r"\(sum\) has no translation"),
        (Function(lambda x: nn.functional.dropout(x)), r"drops at random even in evaluation mode"),
        (Function(lambda x: nn.functional.interpolate(x, 24)), r"\(16, 16\) to \(24, 24\); only whole factors"),
        (Function(lambda x: nn.functional.interpolate(x, 32, mode="bicubic")), r"mode='bicubic'"),
        (Function(lambda x: nn.functional.pad(x, (1, 1), "reflect")), r"mode 'reflect'"),
        (Function(lambda x: nn.functional.softmax(x, 3)), r"over axis 3; only over the channels"),
        (Function(half_overwritten), r"it reads 'flatten' after a part or a view of it was changed|returns no single tensor"),
        (Function(lambda x: (x, x)), r"Function returns no single tensor"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")), r"padding_mode='circular'; only zeros"),
        (nn.Sequential(nn.ConvTranspose2d(3, 3, 3, groups=3)), r"groups=3, dilation=\(1, 1\); only 1"),
        (nn.Sequential(nn.AvgPool2d(3, 2, 1, count_include_pad=False)), r"count_include_pad=False with padding"),
        (nn.Sequential(nn.AvgPool2d(3, 2, ceil_mode=True)), r"a ceil_mode that adds a window"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(5)), r"\(16, 16\) to \(5, 5\): windows of different sizes"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2)), r"dilation=2; only 1"),
        (nn.Sequential(nn.Softplus(beta=2)), r"beta=2; only 1"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), r"normalises by the batch at hand"),
        (nn.Sequential(nn.Linear(16, 4)), r"takes an activation with 2 or 3 axes, here it gets \(2, 3, 16, 16\)"),
    ],
)  # fmt: skip
def test_what_torch_has_no_translation_for(net: nn.Module, said: str) -> None:
    axes = (("y", "x", "class"), ("class",))
    if isinstance(net, Attention):
        model = TorchModel(net.eval(), (Modality("words", ("token", "feature"), ("a", "b", "c")),), output_axes=axes[0])
        inputs: Inputs = (np.ones((2, 4, 3), np.float32),)
    else:
        model, inputs = TorchModel(net.eval(), (toys.IMAGE,), output_axes=axes[0]), (images(16),)
    with pytest.raises(Unsupported, match=said):
        twin(model, inputs, "torch")


def subclassed(function: Any) -> Any:
    class Subclassed(keras.Model):
        def call(self, x: Any) -> Any:
            return function(x)

    return Subclassed()


def stack(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((15, 15, 3)), *layers])


def again(layer: Any) -> Any:
    image = keras.Input((15, 15, 3))
    return keras.Model(image, layer(image, training=True))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: subclassed(np.asarray), r"cannot be traced \(.*write its call with Keras layers and keras.ops only"),
        (lambda: stack(keras.layers.LayerNormalization(name="ln")), r"layer 'ln' \(LayerNormalization\) has no translation"),
        (lambda: subclassed(keras.ops.cumsum), r"\(Cumsum\) has no translation"),
        (lambda: subclassed(lambda x: x[:, 1:]), r"\(GetItem\) has no translation: takes a part of an activation"),
        (lambda: subclassed(lambda x: keras.ops.mean(x, axis=-1)), r"\(Mean\) has no translation: over axes"),
        (lambda: stack(keras.layers.AveragePooling2D(2, padding="same")), r"padding='same' pads \(15, 15\)"),
        (lambda: stack(keras.layers.ReLU(max_value=3)), r"max_value=3"),
        (lambda: stack(keras.layers.Softmax(axis=1)), r"axis=1; only the last"),
        (lambda: stack(keras.layers.BatchNormalization(axis=1)), r"axis=1; only the last"),
        (lambda: stack(keras.layers.Permute((2, 1, 3))), r"dims=\(2, 1, 3\); only \(3, 1, 2\)"),
        (lambda: stack(keras.layers.Reshape((225, 3))), r"only flattening"),
        (lambda: stack(keras.layers.UpSampling2D(2, interpolation="bicubic")), r"interpolation='bicubic'"),
        (lambda: stack(keras.layers.Conv2D(4, 3, activation="mish")), r"its activation 'mish' has none"),
        (lambda: stack(keras.layers.Conv2D(4, 3, activation=lambda x: x)), r"its activation '<lambda>' has none"),
        (lambda: stack(keras.layers.Conv2DTranspose(4, 3, dilation_rate=2)), r"dilation_rate=\(2, 2\)"),
        (lambda: stack(keras.layers.Rescaling(0.0)), r"multiplies by zero"),
        (lambda: again(keras.layers.Dropout(0.5)), r"called with training=True"),
    ],
)  # fmt: skip
def test_what_keras_has_no_translation_for(make: Any, said: str) -> None:
    model = KerasModel(make(), (toys.IMAGE,), output_axes=("y", "x", "class"))
    with pytest.raises(Unsupported, match=said):
        twin(model, (images(15).astype(np.float32),), "torch")


def test_what_a_framework_has_no_layer_for() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, dilation=2))
    model = TorchModel(net.eval(), (toys.IMAGE,), output_axes=("y", "x", "class"))
    assert twin(model, (images(16),), "torch").gap == 0
    with pytest.raises(Unsupported, match=r"strides \(2, 2\) and dilation \(2, 2\); Keras takes one"):
        twin(model, (images(16),), "keras")


def test_a_wrong_twin_is_refused_with_its_gap() -> None:
    class Wrong(FunctionModel):
        def graph(self, inputs: Inputs) -> Graph:
            weights = {"kernel": np.full((4, 2), 1.01), "bias": np.zeros(2)}
            nodes = (
                Node("table", "input", settings={"shape": (4,)}),
                Node("dense", "dense", ("table",), weights=weights),
            )
            return Graph(("table",), nodes, "dense")

    model = Wrong(lambda x: x @ np.ones((4, 2)), (TABLE,))
    for framework in FRAMEWORKS:
        with pytest.raises(Unsupported, match=r"differs from it by 1.0e-02 of the largest output, more than 1e-08"):
            twin(model, (np.ones((3, 4)),), framework)
    with pytest.raises(Unsupported, match="cannot say what it is made of: wrap a torch module in TorchModel"):
        twin(FunctionModel(lambda x: x, (TABLE,)), (np.ones((3, 4)),), "torch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="framework is 'torch' or 'keras', got 'jax'"):
        twin(model, (np.ones((3, 4)),), "jax")  # type: ignore[arg-type]

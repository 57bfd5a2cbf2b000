"""What has no twin says so: the layer, its type and the reason; a twin that differs is refused with the number."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from networks import toys
from networks.to_port import Function, images
from torch import nn

from crossxai import Modality, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.model import Inputs
from crossxai.porting import twin
from crossxai.porting.graph import Graph, Node

TABLE = Modality.table(("a", "b", "c", "d"))
FRAMEWORKS = ("torch", "keras")


class Steering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.one(x).mean((2, 3)) else -x  # a number for one sample


def half_overwritten(x: torch.Tensor) -> torch.Tensor:
    means = x.mean((2, 3))
    view = means[:, :, None, None]
    means.relu_()
    return view + 1


class Attending(nn.Module):
    """Attention of an image's pixels with masks of the function's making."""

    def __init__(self, masks: Any, **named: Any) -> None:
        super().__init__()
        self.inner, self.masks = nn.MultiheadAttention(3, 1, batch_first=True, **named), masks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :2, :2].flatten(2).transpose(1, 2)
        return self.inner(x, x, x, **self.masks(x))[0]


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (
            Attending(lambda x: {"attn_mask": x @ x.transpose(1, 2)}),
            r"'inner' .*with a mask that depends on the inputs",
        ),
        (
            Attending(lambda x: {"key_padding_mask": torch.arange(4) > torch.arange(len(x))[:, None]}),
            r"with a mask that differs from sample to sample",
        ),
        (Attending(lambda x: {}, add_bias_kv=True), r"with bias_k or add_zero_attn"),
        (Steering(), r"Steering cannot be traced by torch.fx \(TraceError: symbolically traced"),
        (nn.Sequential(nn.Hardshrink()), r"layer '0' \(Hardshrink\) has no translation: add one by porting.rule"),
        (Function(lambda x: x.cumsum(1)), r"\(cumsum\) has no translation: add one by porting.rule"),
        (
            Function(lambda x: x * x.sum().item()),
            r"\(item\) has no translation|\(sum\) has no translation: over the samples",
        ),
        (Function(lambda x: x[:1] + x), r"\(getitem\) has no translation: takes a part of the samples"),
        (Function(lambda x: x.mean(0, keepdim=True) + x), r"\(mean\) has no translation: over the samples"),
        (Function(lambda x: torch.cat([x, x]).mean((2, 3))[:2]), r"puts samples beside samples"),
        (Function(lambda x: x.softmax(0)), r"\(softmax\) has no translation: over the samples"),
        (Function(lambda x: nn.functional.normalize(x, dim=0)), r"\(normalize\) has no translation: over the samples"),
        (
            Function(lambda x: nn.functional.layer_norm(x, x.shape)),
            r"\(layer_norm\) has no translation: over the samples",
        ),
        (
            Function(lambda x: (lambda m: m @ m.T)(x.mean((2, 3)))),
            r"\(matmul\) has no translation: .*no axis of samples first",
        ),
        (Function(lambda x: x.permute(1, 0, 2, 3).reshape(3, -1)), r"its samples are not along the first axis"),
        (
            Function(lambda x: x + torch.arange(2.0).view(2, 1, 1, 1)),
            r"with a constant that differs from sample to sample",
        ),
        (Function(lambda x: x.masked_fill(x > 0.5, 0)), r"\(gt\) has no translation"),
        (Function(lambda x: x**x), r"with an exponent that is a tensor"),
        (Function(lambda x: nn.functional.dropout(x)), r"drops at random even in evaluation mode"),
        (Function(lambda x: nn.functional.interpolate(x, 32, mode="bicubic")), r"mode='bicubic'"),
        (
            Function(half_overwritten),
            r"\(add\) has no translation: it reads 'getitem' after a part or a view of it was",
        ),
        (Function(lambda x: (x, x)), r"several of its tensors could be the outputs"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2)), r"dilation=2; only 1"),
        (nn.Sequential(nn.Softplus(beta=2)), r"beta=2; only 1"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), r"normalises by the batch at hand"),
    ],
)
def test_what_torch_has_no_translation_for(net: nn.Module, said: str) -> None:
    modality, inputs = toys.IMAGE, (images(16),)
    tensor = torch.from_numpy(inputs[0]).movedim(-1, 1)
    outputs = net.double().eval()(tensor[:1].contiguous())
    shape = outputs.shape if isinstance(outputs, torch.Tensor) else tensor.shape
    axes = {2: ("class",), 3: ("token", "class"), 4: ("y", "x", "class")}[len(shape)]
    model = TorchModel(net, (modality,), output_axes=axes)
    with pytest.raises(Unsupported, match=said):
        twin(model, inputs, "torch")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_tokens_that_torch_gets_features_first(framework: Any) -> None:
    words = Modality("words", ("token", "feature"), ("a", "b", "c"))
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    assert (
        twin(
            TorchModel(net.double().eval(), (words,)), (np.random.default_rng(0).normal(size=(2, 5, 3)),), framework
        ).gap
        < 1e-10
    )


def subclassed(function: Any) -> Any:
    class Subclassed(keras.Model):
        def call(self, x: Any) -> Any:
            return function(x)

    model = Subclassed()
    model.built = True
    return model


def stack(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((15, 15, 3)), *layers])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: subclassed(tf.nn.l2_loss),
            r"cannot be traced \(.*write its call with Keras layers and keras.ops only",
        ),
        (
            lambda: stack(keras.layers.RNN(keras.layers.SimpleRNNCell(3), name="rnn")),
            r"'rnn' \(RNN\) has no translation: add one by",
        ),
        (lambda: subclassed(keras.ops.cumsum), r"\(Cumsum\) has no translation: add one by porting.rule"),
        (lambda: subclassed(lambda x: keras.ops.flip(x, 0)), r"\(Flip\) has no translation: along the samples"),
        (
            lambda: subclassed(lambda x: x + keras.ops.mean(x, axis=0, keepdims=True)),
            r"\(Mean\) has no translation: over the samples",
        ),
        (lambda: stack(keras.layers.ReLU(threshold=3)), r"threshold=3"),
        (lambda: stack(keras.layers.BatchNormalization(axis=1)), r"axis=1; only the last"),
        (lambda: stack(keras.layers.UpSampling2D(2, interpolation="bicubic")), r"interpolation='bicubic'"),
        (lambda: stack(keras.layers.Conv2D(4, 3, activation="celu")), r"its activation 'celu' has none"),
        (lambda: stack(keras.layers.Conv2D(4, 3, activation=lambda x: x)), r"its activation '<lambda>' has none"),
        (lambda: stack(keras.layers.Conv2DTranspose(4, 3, dilation_rate=2)), r"dilation_rate=\(2, 2\)"),
        (
            lambda: subclassed(
                lambda x: keras.layers.MultiHeadAttention(1, 3)(x[:, 0], x[:, 0], attention_mask=x[:, 1, None, :, 0])
            ),
            r"with a mask that depends on the inputs",
        ),
        (
            lambda: subclassed(lambda x: keras.layers.MultiHeadAttention(1, 3, sliding_window=2)(x[:, 0], x[:, 0])),
            r"with sliding_window",
        ),
        (lambda: subclassed(lambda x: keras.layers.Dropout(0.5)(x, training=True)), r"called with training=True"),
    ],
)
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
        with pytest.raises(
            Unsupported, match=r"differs from it by \d.\de-02 of how far its outputs vary, more than 1e-08"
        ):
            twin(model, (np.arange(12.0).reshape(3, 4),), framework)
    with pytest.raises(Unsupported, match="cannot say what it is made of: wrap a torch module in TorchModel"):
        twin(FunctionModel(lambda x: x, (TABLE,)), (np.ones((3, 4)),), "torch")
    with pytest.raises(ValueError, match="framework is 'torch' or 'keras', got 'jax'"):
        twin(model, (np.ones((3, 4)),), "jax")  # type: ignore[arg-type]


def offset_head(layer: Any, units: int = 1) -> Any:
    bias = keras.initializers.Constant(1000.0)
    pool, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(units, bias_initializer=bias)
    return keras.Sequential([keras.Input((15, 15, 3)), layer, pool, dense])


def test_large_outputs_certify_nothing() -> None:
    """A twin is measured by how far outputs vary: a bias of 1000 neither hides a wrong one nor turns away a right one."""
    keras.utils.set_random_seed(0)
    values = (images(15).astype(np.float32),)
    net = offset_head(keras.layers.Conv2D(4, 3, activation="relu"))
    model = KerasModel(net, (toys.IMAGE,))
    for framework in FRAMEWORKS:
        assert twin(model, values, framework).gap < 1e-3
    graph = model.graph(values)
    nodes = tuple(
        Node(n.name, n.op, n.inputs, n.settings, {k: w * np.float32(1.2) for k, w in n.weights.items()})
        if n.op == "conv2d"
        else n
        for n in graph.nodes
    )
    model.graph = lambda _inputs: Graph(graph.inputs, nodes, graph.output)  # type: ignore[method-assign]
    for framework in FRAMEWORKS:
        with pytest.raises(Unsupported, match="of how far its outputs vary"):
            twin(model, values, framework)


class Standardised(keras.layers.Conv2D):  # type: ignore[misc]
    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, kernel - keras.ops.mean(kernel, (0, 1, 2)))


class Doubled(keras.layers.Dense):  # type: ignore[misc]
    def call(self, inputs: Any, training: Any = None) -> Any:
        return super().call(2 * inputs)


class Shifted(keras.layers.ReLU):  # type: ignore[misc]
    def call(self, inputs: Any) -> Any:
        return keras.ops.relu(inputs - 0.1)


class Renamed(keras.layers.Conv2D):  # type: ignore[misc]
    """Another initialiser and a config, which compute nothing."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, kernel_initializer="he_normal", **named)

    def get_config(self) -> Any:
        return {**super().get_config()}

    def norm(self) -> Any:
        return keras.ops.sum(self.kernel**2)


def patched() -> Any:
    layer = keras.layers.Conv2D(4, 3, name="patched")
    own = layer.call
    layer.call = lambda inputs, **named: keras.ops.cumsum(own(inputs, **named), 1)
    return layer


def test_a_keras_layer_with_a_method_of_its_own_is_another_layer() -> None:
    keras.utils.set_random_seed(0)
    values = (images(15).astype(np.float32),)
    for layer in (
        Doubled(4, name="doubled"),
        Shifted(),
        Renamed(4, 3),
        Standardised(4, 3, name="standard"),
    ):  # read from their code
        model = KerasModel(offset_head(layer), (toys.IMAGE,))
        assert twin(model, values, "torch").gap < 1e-4
    with pytest.raises(Unsupported, match=r"layer 'patched' \(Conv2D\) .* it overrides call of Conv2D"):
        KerasModel(offset_head(patched()), (toys.IMAGE,)).graph(values)


class StandardisedTorch(nn.Conv2d):
    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        return super()._conv_forward(input, weight - weight.mean((1, 2, 3), keepdim=True), bias)


class NormAct(nn.BatchNorm2d):
    def forward(self, x: Any) -> Any:
        return torch.relu(super().forward(x))


class Cubed(nn.Conv2d):
    def forward(self, x: Any) -> Any:
        return torch.special.erf(super().forward(x))


def test_a_torch_layer_with_a_method_of_its_own_is_read_from_its_code() -> None:
    torch.manual_seed(0)
    x = (images(15),)
    norm = NormAct(4)
    norm.running_mean = torch.randn(4).double()
    hooked = nn.Conv2d(3, 4, 3)
    hooked.forward = lambda v: 2 * nn.Conv2d.forward(hooked, v)  # type: ignore[method-assign]
    for net in (
        nn.Sequential(StandardisedTorch(3, 4, 3)),
        nn.Sequential(nn.Conv2d(3, 4, 3), norm),
        nn.Sequential(hooked),
    ):
        net.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
        model = TorchModel(net.double().eval(), (toys.IMAGE,))
        assert twin(model, x, "keras").gap < 1e-9
    model = TorchModel(nn.Sequential(Cubed(3, 4, 3)).double().eval(), (toys.IMAGE,), output_axes=("y", "x", "class"))
    with pytest.raises(Unsupported, match=r"layer '0' \(special_erf\) .*overrides forward of Conv2d"):
        model.graph(x)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_mixed_precision_says_that_it_is(framework: Any) -> None:
    def net(policy: str) -> Any:
        keras.utils.set_random_seed(0)
        x = start = keras.Input((12, 12, 3))
        x = keras.layers.Conv2D(4, 3, activation="relu", dtype=policy, name="conv")(x)
        x = keras.layers.GlobalAveragePooling2D(dtype=policy)(x)
        return keras.Model(start, keras.layers.Dense(2, dtype="float32")(x))

    values = (images(12).astype(np.float32),)
    mixed = net("mixed_bfloat16")
    with pytest.raises(
        Unsupported, match=r"less precision than its weights have \(mixed precision: 'conv' \(bfloat16\)\)"
    ):
        twin(KerasModel(mixed, (toys.IMAGE,)), values, framework)
    anew = net("float32")
    anew.set_weights(mixed.get_weights())
    assert twin(KerasModel(anew, (toys.IMAGE,)), values, framework).gap < 1e-3  # what the refusal says to write

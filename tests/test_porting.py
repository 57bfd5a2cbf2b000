"""Twins compute what their models compute, values and gradients, and the hooks of explainer libraries work on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import keras
import numpy as np
import pytest
import torch
from captum.attr import DeepLift, GuidedBackprop
from networks import to_port, toys
from networks.to_port import Function, images
from torch import nn

from crossxai import InvalidInput, Modality, Question, Target, UnknownName, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.model import Inputs
from crossxai.porting import Twin, twin
from crossxai.porting.graph import Traceable
from crossxai.studies.networks import keras_networks, torch_networks

LEFT, RIGHT, TABLE = Modality.image("left"), Modality.image("right"), Modality.table(("a", "b", "c", "d"))
FRAMEWORKS = ("torch", "keras")


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
    net = to_port.lively(torch_networks.resnet18(3, 0))
    size = 64
    if source == "torch":
        model: Any = TorchModel(net, (toys.IMAGE,), standardise=toys.STANDARDISE)
    else:
        ported = keras_networks.resnet18(3, size, "float64")
        keras_networks.set_weights_from(ported, {k: v.numpy() for k, v in net.state_dict().items()})
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
        # Layers give their own axes: torch's come with the channels first.
        expected, gradient = (np.moveaxis(a, 1, -1) if source == "torch" else a for a in (expected, gradient))
        found, slope = (np.moveaxis(a, 1, -1) if framework == "torch" else a for a in (found, slope))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.abs(expected).max(), err_msg=layer)
        np.testing.assert_allclose(slope, gradient, rtol=0, atol=1e-9 * np.abs(gradient).max(), err_msg=layer)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", ["torch", "functional", "sequential", "subclassed"])
def test_toys(kind: str, framework: str) -> None:
    model = toys.torch_model("float64") if kind == "torch" else toys.keras_model("float64", kind)
    inputs = (toys.images(dtype="float64"),)
    made = check_same(model, inputs, framework)
    hidden = {"pad1", "pad2"}  # taken into the convolutions after them
    assert set(made.layers) == set(model.activations(inputs)) - hidden


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("size", [32, 64])
def test_functional_in_place_and_reused_activations(framework: str, size: int) -> None:
    model = TorchModel(to_port.lively(to_port.Tangled()), (toys.IMAGE,))
    if size == 64:
        model.module.head = to_port.lively(nn.Linear(18 * 4 * 4, 5), 3)
    made = check_same(model, (images(size),), framework)
    ops = [node.op for node in made.graph.nodes]
    assert ops.count("relu") == 4  # relu twice, torch.relu, F.relu_
    assert "relu" not in made.layers  # it runs twice, so it names no one activation
    if framework == "torch":
        assert not any(getattr(m, "inplace", False) for m in made.module.modules())


class Made(nn.Module):
    """Makes modules without weights in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.MaxPool2d(2)(nn.ReLU()(self.first(x)))
        return cast("torch.Tensor", self.last(nn.Flatten()(nn.AdaptiveAvgPool2d(1)(x))))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_modules_that_the_forward_pass_makes(framework: str) -> None:
    made = check_same(TorchModel(to_port.lively(Made()), (toys.IMAGE,)), (images(16),), framework)
    assert "relu" in [node.op for node in made.graph.nodes]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_two_inputs(framework: str) -> None:
    rng = np.random.default_rng(1)
    standardise = {"table": ([1.0, 2, 3, 4], [0.5, 1, 2, 3])}
    fusion = TorchModel(
        to_port.lively(to_port.Fusion()), (toys.IMAGE, TABLE), standardise=standardise, output_axes=("y", "x", "class")
    )
    check_same(fusion, (images(16), rng.normal(size=(2, 4))), framework)
    pair = TorchModel(to_port.lively(to_port.Pair()), (LEFT, RIGHT))
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
    model = KerasModel(to_port.lively_keras(net), (toys.IMAGE,), output_axes=("y", "x", "class"))
    made = check_same(model, (images(size),), framework)
    if framework == "torch":  # DeepLift meets minus infinity in a padding layer; the pool's own padding it knows
        assert not any(isinstance(m, nn.ConstantPad2d) and np.isinf(m.value) for m in made.module.modules())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_keras_layers(framework: str) -> None:
    model = KerasModel(to_port.same_keras(), (toys.IMAGE,))
    made = check_same(model, (images(32),), framework)
    assert made.graph.layers["stem"] == "stem.relu"  # a layer's output is after the activation fused into it
    assert "inner_conv" in made.layers
    check_same(rebuilt(made, model), (images(32),), "keras" if framework == "torch" else "torch")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_slope_that_float32_cannot_hold(framework: str) -> None:
    """TensorFlow's leaky ReLU keeps its slope in float32, which is 1e-8 off."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.3), nn.Flatten())
    model = TorchModel(to_port.lively(net), (toys.IMAGE,))
    made = check_same(model, (images(8),), framework, 1e-12)
    check_same(rebuilt(made, model), (images(8),), "torch", 1e-12)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_names_that_no_scope_of_tensorflow_may_have(framework: str) -> None:
    modality = Modality.image("größe (CT)")
    net = to_port.lively(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()))
    model = TorchModel(net, (modality,), standardise={modality.name: ((0.5, 0.4, 0.3), (2.0, 3.0, 4.0))})
    check_same(model, (images(8),), framework)


def test_flattening_keeps_the_layout_that_the_dense_layer_was_trained_on() -> None:
    net = keras.Sequential([keras.Input((6, 6, 3), dtype="float64"), keras.layers.Flatten(dtype="float64")])
    net.add(keras.layers.Dense(4, dtype="float64"))
    for framework in FRAMEWORKS:
        check_same(KerasModel(to_port.lively_keras(net), (toys.IMAGE,)), (images(6),), framework)


def test_a_keras_twin_can_be_cloned_and_saved(tmp_path: Any) -> None:
    model = TorchModel(to_port.lively(to_port.Tangled()), (toys.IMAGE,), standardise=toys.STANDARDISE)
    made = twin(model, (images(),), "keras")
    clone = keras.models.clone_model(made.module)
    clone.set_weights(made.module.get_weights())
    made.module.save(tmp_path / "twin.keras")
    loaded = keras.models.load_model(tmp_path / "twin.keras")
    for copy in (clone, loaded):
        np.testing.assert_array_equal(copy(images(), training=False), made.module(images(), training=False))
    assert not any(isinstance(layer, keras.Model) for layer in made.module.layers)
    assert sum(isinstance(layer, keras.layers.ReLU) for layer in made.module.layers) == 4


@pytest.mark.parametrize("source", FRAMEWORKS)
def test_a_twin_has_the_layers_of_its_network_and_so_the_same_default(source: str) -> None:
    """Modules that run twice are no layers of the network; those that the twin makes of their runs are none of the twin."""
    if source == "torch":
        model: Any = TorchModel(to_port.lively(to_port.Tangled()), (toys.IMAGE,), standardise=toys.STANDARDISE)
    else:
        model = KerasModel(to_port.same_keras(), (toys.IMAGE,))
    values = images()
    made = twin(model, (values,), "keras")
    other = KerasModel(made.module, model.modalities)
    question, again = (
        Question(m, (values,), Target.outputs(0, len(values), m.predict((values,)).shape[1])) for m in (model, other)
    )
    before, after = model.activations((values,)), other.activations((values,))
    assert list(after) == [name for name in before if name in after]
    assert set(before) - set(after) <= {"pad1", "pad2", "pad"}
    layer = question.cam_layer()
    assert again.cam_layer() == layer
    (_, one, gradient), (_, two, slope) = (q.layer_score_and_grad(layer) for q in (question, again))
    np.testing.assert_allclose(np.sort(two, axis=None), np.sort(one, axis=None), atol=1e-9 * np.abs(one).max())
    np.testing.assert_allclose(
        np.sort(slope, axis=None), np.sort(gradient, axis=None), atol=1e-9 * np.abs(gradient).max()
    )
    third = twin(other, (values,), "torch")
    assert set(third.layers) == set(third.module.crossxai_layers) == set(made.layers)


def test_a_torch_twin_shows_the_layers_of_its_keras_network_by_their_names() -> None:
    """Where an activation, a map and a graph name them; and a misspelt name is told the original's names."""
    x = start = keras.Input((16, 16, 3))
    for width, name in ((4, "block.one"), (6, "block.two")):
        x = keras.layers.ReLU(name=f"{name}.act")(keras.layers.Conv2D(width, 3, name=name)(x))
    net = keras.Model(start, keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D(name="pool")(x)))
    values = (images(16).astype(np.float32),)
    model = KerasModel(net, (toys.IMAGE,))
    other = TorchModel(twin(model, values, "torch").module, model.modalities)
    before, after = model.activations(values), other.activations(values)
    assert list(after) == list(before) == ["block.one", "block.one.act", "block.two", "block.two.act", "pool", "head"]
    assert list(other.activations(values, ["block.two"])) == ["block.two"]
    assert list(other.graph(values).layers) == list(after)
    np.testing.assert_allclose(np.moveaxis(after["block.two"], 1, -1), before["block.two"], atol=1e-5)
    assert other.axes_of("block.two.act") == ("channel", "y", "x")
    assert other.kind_of("block.two") == "Conv2d"
    question, again = (Question(m, values, Target.outputs(0, len(values[0]), 3)) for m in (model, other))
    assert again.cam_layers() == question.cam_layers()
    for found, expected in zip(
        again.layer_score_and_grad("block.one"), question.layer_score_and_grad("block.one"), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(UnknownName, match=r"did you mean block\.two"):
        again.layer_score("block.twoo")


def test_a_twin_of_a_keras_network_folds() -> None:
    x = start = keras.Input((16, 16, 3))
    x = keras.layers.BatchNormalization(name="a.norm")(keras.layers.Conv2D(4, 3, name="a.conv")(x))
    net = keras.Model(start, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    net.get_layer("a.norm").moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    values = (images(16).astype(np.float32),)
    other = TorchModel(twin(KerasModel(net, (toys.IMAGE,)), values, "torch").module, (toys.IMAGE,))
    faster = other.folded(values)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in faster.module.modules())
    np.testing.assert_allclose(faster.predict(values), other.predict(values), atol=1e-5)


def test_how_images_lie_in_memory_is_asked_once_per_state_of_the_module() -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4 * 14 * 14, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.act(self.conv(x))
            return self.head(h.view(len(h), -1))  # fails on images that lie channels last

    net, values = Viewed().eval(), (images(16).astype(np.float32),)
    model = TorchModel(net, (toys.IMAGE,))
    runs: list[int] = []
    net.register_forward_hook(lambda _m, given, _o: runs.append(len(given[0])))
    first = model.graph(values)
    runs.clear()
    again = model.graph(values)
    once = len(runs)  # the hook itself may be traced
    assert [n.op for n in again.nodes] == [n.op for n in first.nodes]
    net.act = nn.Tanh().eval()
    runs.clear()
    assert "tanh" in {n.op for n in model.graph(values).nodes}
    assert len(runs) == once + 1, "a changed module is asked anew"


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_frozen_module_scores_and_has_gradients_and_says_what_it_cannot() -> None:
    """torch.jit.freeze makes constants of weights, and takes the layers, and `training`, away."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    net = to_port.lively(net).float().eval()
    values = (images(12).astype(np.float32),)
    frozen = torch.jit.freeze(torch.jit.script(net))
    plain, model = (TorchModel(m, (toys.IMAGE,)) for m in (net, frozen))
    target = Target.outputs(1, len(values[0]), 3)
    one, other = (Question(m, values, target) for m in (plain, model))
    np.testing.assert_allclose(other.score(), one.score(), atol=1e-5)
    np.testing.assert_allclose(other.score_and_grad()[1][0], one.score_and_grad()[1][0], atol=1e-5)
    assert model.dtype == torch.float32
    for ask in (other.cam_layer, lambda: model.graph(values), lambda: model.activations(values)):
        with pytest.raises(Unsupported, match=r".{20}"):
            ask()
    with pytest.raises(InvalidInput, match="training mode"):
        TorchModel(torch.jit.script(to_port.lively(net).train()), (toys.IMAGE,))


def test_layers_of_our_own_builders_have_the_same_names_in_both_frameworks() -> None:
    """But for containers of layers, which are layers in torch alone."""
    values = (images(64).astype(np.float32),)
    one, other = (
        TorchModel(torch_networks.resnet18(3, 0).eval(), (toys.IMAGE,)),
        KerasModel(keras_networks.resnet18(3, 64), (toys.IMAGE,)),
    )
    torch_names = {name.replace(".", "_") for name in one.activations(values)}
    keras_names = set(other.activations(values))
    containers = {f"layer{stage}_0_downsample" for stage in (2, 3, 4)}
    assert torch_names - keras_names == containers


# What twins are for


def nchw(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.transpose(0, 3, 1, 2).copy()).requires_grad_()


def test_guided_backprop_across_frameworks() -> None:
    """captum's on the twin of a Keras model, and Xplique's on the twin of a torch model, are captum's on the original."""
    from xplique.attributions import GuidedBackprop as XpliqueGuidedBackprop

    values, labels = toys.images(3), [0, 1, 2]

    def guided_backprop(module: nn.Module) -> np.ndarray:
        with pytest.warns(UserWarning, match="Setting backward hooks on ReLU activations"):
            found = GuidedBackprop(module).attribute(nchw(values), target=labels)
        return found.detach().numpy().transpose(0, 2, 3, 1)

    plain = TorchModel(toys.torch_net(), (toys.IMAGE,))
    expected = guided_backprop(plain.module)
    scale = np.abs(expected).max()

    of_keras = twin(KerasModel(toys.keras_net(), (toys.IMAGE,)), (values,), "torch")
    np.testing.assert_allclose(guided_backprop(of_keras.module), expected, atol=1e-4 * scale)

    of_torch = twin(plain, (values,), "keras")
    one_hot = np.eye(3, dtype=np.float32)[labels]
    guided = XpliqueGuidedBackprop(of_torch.module, reducer=None).explain(values, one_hot).numpy()
    np.testing.assert_allclose(guided, expected, atol=1e-4 * scale)
    _, (gradient,) = plain.vjp((values,), lambda _out: one_hot)
    assert np.abs(guided - gradient).max() > 0.1 * scale


def test_deeplift_of_a_network_whose_relu_is_reused_and_in_place() -> None:
    """captum's rule for overlapping max-pools is complete only where the baseline's pool is constant, hence black."""
    made = twin(TorchModel(to_port.lively(torch_networks.resnet18(3, 0)), (toys.IMAGE,)), (images(64),), "torch")
    x = nchw(images(64))
    with pytest.warns(UserWarning, match=r"hooks"):
        values, delta = DeepLift(made.module).attribute(x, torch.zeros_like(x), target=1, return_convergence_delta=True)
    assert float(delta.detach().abs().max()) < 1e-8
    assert float(values.detach().std()) > 0


def test_full_grad_finds_the_biases_of_a_keras_model() -> None:
    from pytorch_grad_cam import FullGrad

    made = twin(KerasModel(toys.keras_net(), (toys.IMAGE,)), (toys.images(),), "torch")
    assert [bias.shape for bias in FullGrad(made.module, []).bias_data] == [(8,), (16,)]


# The edges


def test_the_model_is_left_as_found() -> None:
    with_constant = TorchModel(
        Function(lambda x: x * torch.full((3, 1, 1), 2.0)).eval(), (toys.IMAGE,), output_axes=("y", "x", "class")
    )
    attributes = set(vars(with_constant.module))
    assert with_constant.graph((images(16),)).nodes[-1].op == "scale"
    assert set(vars(with_constant.module)) == attributes  # torch.fx keeps tensors made on the way in the module

    net = to_port.lively(to_port.Tangled())
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

    keras_net = to_port.same_keras()
    nodes = [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in keras_net._flatten_layers()]
    weights = keras_net.get_weights()
    twin(KerasModel(keras_net, (toys.IMAGE,)), (values,), "torch")
    assert nodes == [(len(x._inbound_nodes), len(x._outbound_nodes)) for x in keras_net._flatten_layers()]
    assert all(np.array_equal(a, b) for a, b in zip(weights, keras_net.get_weights(), strict=True))


def test_threads_read_graphs_while_others_predict() -> None:
    """torch.fx traces by replacing what every module's call is, for all threads."""

    def model() -> TorchModel:
        deep = [layer for _ in range(20) for layer in (nn.Conv2d(3, 3, 1), nn.ReLU())]
        return TorchModel(nn.Sequential(*deep, nn.Flatten()).double().eval(), (toys.IMAGE,))

    models = [model() for _ in range(4)]
    inputs, call = (images(4),), nn.Module.__call__
    verbs = [models[0].graph, models[1].graph, models[2].predict, models[3].predict]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(lambda verb=verb: [verb(inputs) for _ in range(15)]) for verb in verbs for _ in range(4)]
        for future in waiting:
            future.result()
    assert nn.Module.__call__ is call


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

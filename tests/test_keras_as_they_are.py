"""Keras models as people have them: every verb gives what the model itself gives, or refuses in words."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from crossxai import InvalidInput, Modality, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.errors import ModelFailed
from crossxai.porting import twin

IMAGE = (Modality.image(),)
SCANS = (Modality.image("t2", channels=("g",)), Modality.image("t1", channels=("g",)))


def images(n: int = 2, channels: int = 3, dtype: str = "float32") -> Any:
    return np.random.default_rng(0).random((n, 12, 12, channels)).astype(dtype)


def head(x: Any, n: int = 3) -> Any:
    return L.Dense(n, name="head")(L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="tanh", name="conv")(x)))


def slopes(model: KerasModel, *inputs: Any) -> None:
    """The gradient along a random direction is a central difference."""
    rng = np.random.default_rng(1)
    outputs, gradients = model.vjp(inputs, lambda y: np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape))
    weights = np.cos(np.arange(outputs.size)).reshape(outputs.shape)
    steps = [rng.normal(size=x.shape) for x in inputs]
    up, down = (
        model.predict(tuple((x + sign * 1e-2 * s).astype(x.dtype) for x, s in zip(inputs, steps, strict=True)))
        for sign in (1, -1)
    )
    numeric = float(((up - down) * weights).sum()) / 2e-2
    found = sum(float((g * s).sum()) for g, s in zip(gradients, steps, strict=True))
    assert abs(numeric) > 1e-3
    assert abs(found - numeric) < 2e-2 * abs(numeric), (found, numeric)


def two_scans(structure: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    first, second = keras.Input((12, 12, 1), name="t1"), keras.Input((12, 12, 1), name="t2")
    parts = [L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="tanh")(x)) for x in (first, second)]
    return keras.Model(structure(first, second), L.Dense(3)(L.Concatenate()(parts)))


@pytest.mark.parametrize(
    "structure",
    [lambda a, b: {"t1": a, "t2": b}, lambda a, b: {"t2": b, "t1": a}, lambda a, b: [a, b], lambda a, b: (a, b)],
)
def test_each_modality_goes_to_the_input_of_its_name(structure: Any) -> None:
    net = two_scans(structure)
    second, first = images(channels=1), images(channels=1)[::-1] * 0.5
    truth = np.asarray(net(structure(first, second)))
    model = KerasModel(net, SCANS)
    np.testing.assert_allclose(model.predict((second, first)), truth, atol=1e-6)
    assert np.abs(model.predict((first, second)) - truth).max() > 1e-3
    slopes(model, second, first)


def test_names_that_contradict_the_order_or_match_nothing() -> None:
    named = two_scans(lambda a, b: [a, b])
    KerasModel(named, (Modality.image("flair", channels=("g",)), Modality.image("dwi", channels=("g",))))  # by order
    with pytest.raises(InvalidInput, match="order and names contradict each other"):
        KerasModel(named, (Modality.image("t2", channels=("g",)), Modality.image("flair", channels=("g",))))
    with pytest.raises(InvalidInput, match="a dict with the inputs 't1', 't2', the modalities are 't2', 'flair'"):
        KerasModel(two_scans(lambda a, b: {"t1": a, "t2": b}), (SCANS[0], Modality.image("flair", channels=("g",))))
    with pytest.raises(InvalidInput, match=r"has 2 inputs \(t1, t2\), the modalities are 't2'"):
        KerasModel(named, SCANS[:1])
    with pytest.raises(Unsupported, match="nested structure of inputs"):
        KerasModel(two_scans(lambda a, b: {"t1": a, "rest": [b]}), SCANS)


def test_subclassed_models_take_arguments_lists_and_dicts() -> None:
    class Arguments(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.d = L.Dense(3)

        def call(self, t1: Any, t2: Any) -> Any:
            return self.d(keras.ops.mean(t1, (1, 2))) - self.d(keras.ops.mean(t2, (1, 2)))

    class Names(Arguments):
        def call(self, inputs: Any) -> Any:
            return super().call(inputs["t1"], inputs["t2"])

    class Items(Arguments):
        def call(self, inputs: Any) -> Any:
            return super().call(inputs[1], inputs[0])

    second, first = images(channels=1), images(channels=1)[::-1] * 0.5
    arguments, names, items = Arguments(), Names(), Items()
    names({"t1": first, "t2": second})
    for net, truth in (
        (arguments, lambda: arguments(first, second)),
        (names, lambda: names({"t1": first, "t2": second})),
        (items, lambda: items([second, first])),
    ):
        found = KerasModel(net, SCANS).predict((second, first))
        np.testing.assert_allclose(found, np.asarray(truth()), atol=1e-6)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_twin_of_a_model_with_inputs_and_outputs_by_name(framework: Any) -> None:
    net = two_scans(lambda a, b: {"t1": a, "t2": b})
    named = keras.Model(net.input, {"logits": net.output, "features": L.Dense(2)(net.output)})
    model = KerasModel(named, SCANS, output="logits")
    assert twin(model, (images(channels=1), images(channels=1)[::-1] * 0.5), framework).gap < 1e-4


def test_a_subclassed_model_of_a_dict_that_was_never_called() -> None:
    class Names(keras.Model):
        def call(self, inputs: Any) -> Any:
            return keras.ops.mean(inputs["t1"] - inputs["t2"], (1, 2))

    with pytest.raises(ModelFailed, match=r"list indices must be .*subclassed.*dict"):
        KerasModel(Names(), SCANS).predict((images(channels=1),) * 2)


def test_the_output_that_counts() -> None:
    x = keras.Input((12, 12, 3))
    logits = head(x)
    maps = L.Conv2D(3, 1, name="maps")(x)
    net = keras.Model(x, {"logits": logits, "maps": maps, "features": L.Dense(5)(logits)})
    values = images()
    truth = net(values)
    for name in ("logits", "features"):
        model = KerasModel(net, IMAGE, output=name)
        np.testing.assert_allclose(model.predict((values,)), truth[name], atol=1e-6)
        slopes(model, values)
    by_itself = KerasModel(net, IMAGE, output_axes=("y", "x", "class"))
    np.testing.assert_allclose(by_itself.predict((values,)), truth["maps"], atol=1e-6)
    assert by_itself.graph((values,)).output == "maps"
    with pytest.raises(Unsupported, match=r"several .* logits of shape .* features .*write output="):
        KerasModel(net, IMAGE).predict((values,))
    with pytest.raises(InvalidInput, match="no output 'logit'"):
        KerasModel(net, IMAGE, output="logit").predict((values,))
    listed = KerasModel(keras.Model(x, [maps, logits]), IMAGE)
    np.testing.assert_allclose(listed.predict((values,)), truth["logits"], atol=1e-6)


@pytest.mark.parametrize("squeeze", [keras.ops.squeeze, tf.squeeze, lambda v: v[:, 0]])
@pytest.mark.parametrize("n", [1, 3])
def test_a_squeezed_output(squeeze: Any, n: int) -> None:
    class Squeezed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.d = L.Conv2D(4, 3, activation="tanh", name="c"), L.Dense(1)

        def call(self, v: Any) -> Any:
            return squeeze(self.d(keras.ops.mean(self.c(v), (1, 2))))

    net, values = Squeezed(), images(n)
    truth = np.asarray(net(values)).reshape(n, 1)
    model = KerasModel(net, IMAGE)
    np.testing.assert_allclose(model.predict((values,)), truth, atol=1e-6)
    np.testing.assert_allclose(model.read((values,), "c")[0], truth, atol=1e-6)
    slopes(model, values)


def test_an_output_without_samples_is_refused() -> None:
    class Total(keras.Model):
        def call(self, v: Any) -> Any:
            return keras.ops.mean(v, (0, 1, 2))

    with pytest.raises(InvalidInput, match=r"shape \(3,\) for 2 samples; .*\(n, 1\)"):
        KerasModel(Total(), IMAGE).predict((images(),))


def channels_first_net(segmentation: bool) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((3, 12, 12))
    first = {"data_format": "channels_first"}
    h = L.AveragePooling2D(2, name="pool", **first)(
        L.Conv2D(4, 3, padding="same", activation="tanh", name="conv", **first)(x)
    )
    h = L.BatchNormalization(axis=1, name="norm")(h)
    if segmentation:
        return keras.Model(x, L.Conv2D(2, 1, name="maps", **first)(L.UpSampling2D(2, **first)(h)))
    return keras.Model(x, L.Dense(3)(L.GlobalAveragePooling2D(**first)(h)))


@pytest.mark.parametrize("subclassed", [False, True])
@pytest.mark.parametrize("segmentation", [False, True])
def test_channels_first(segmentation: bool, subclassed: bool) -> None:
    net, values = channels_first_net(segmentation), images()
    truth = np.asarray(net(np.moveaxis(values, -1, 1)))

    class Around(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def call(self, v: Any) -> Any:
            return self.net(v)

    axes = ("y", "x", "class") if segmentation else ("class",)
    model = KerasModel(Around() if subclassed else net, IMAGE, output_axes=axes)
    expected = np.moveaxis(truth, 1, -1) if segmentation else truth
    np.testing.assert_allclose(model.predict((values,)), expected, atol=1e-6)
    slopes(model, values)
    activation = model.read((values,), "norm")[1]
    assert activation.shape == (2, 4, 6, 6)  # the layer's own order
    np.testing.assert_allclose(model.replace((values,), "norm", activation), expected, atol=1e-6)
    assert model.axes_of("conv") == model.axes_of("pool") == ("channel", "y", "x")
    if not subclassed:
        assert model.axes_of("norm") == ("channel", "y", "x")  # carried along the graph
    with pytest.raises(Unsupported, match="channels first, which has no translation"):
        model.graph((values,))


def test_quantised_layers_and_half_precision() -> None:
    values = images()
    x = keras.Input((12, 12, 3))
    net = keras.Model(x, L.Dense(3, name="d")(L.GlobalAveragePooling2D()(x)))
    net.get_layer("d").quantize("int8")
    model = KerasModel(net, IMAGE)
    assert model.dtype == tf.float32
    with pytest.raises(Unsupported, match=r"layer 'd' \(Dense\) has no translation: it is quantised \(int8\)"):
        model.graph((values,))
    np.testing.assert_allclose(model.predict((values,)), np.asarray(net(values)), atol=1e-6)
    x = keras.Input((12, 12, 3))
    conv = L.Conv2D(4, 3, activation="tanh", dtype="mixed_float16", name="conv")(x)
    mixed = KerasModel(keras.Model(x, L.Dense(3, dtype="mixed_float16")(L.GlobalAveragePooling2D()(conv))), IMAGE)
    assert mixed.dtype == tf.float32
    outputs, activation, gradient = mixed.layer_vjp((values,), np.ones_like, "conv")
    assert {a.dtype for a in (outputs, activation, gradient, *mixed.activations((values,)).values())} == {
        np.dtype("float32")
    }
    np.testing.assert_allclose(mixed.replace((values,), "conv", activation), outputs, atol=1e-3)


def test_volumes() -> None:
    volume = Modality("ct", ("z", "y", "x", "channel"), ("hu",), (0.0, 1.0))
    x = keras.Input((6, 7, 8, 1))
    conv = L.Conv3D(4, 3, activation="tanh", name="conv")(x)
    model = KerasModel(keras.Model(x, L.Dense(2)(L.GlobalAveragePooling3D(name="pool")(conv))), (volume,))
    values = np.random.default_rng(0).random((2, 6, 7, 8, 1), np.float32)
    slopes(model, values)
    assert model.activations((values,))["conv"].shape == (2, 4, 5, 6, 4)
    assert model.axes_of("conv") == ("z", "y", "x", "channel")
    assert model.axes_of("pool") == ("channel",)


# Models changed after wrapping


TEMPERATURE = 1.0


class Settings:
    scale = 1.0


class Calibrated(keras.Model):
    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.d, self.temperature, self.weights_of = L.Dense(2, name="d"), 1.0, {"image": [1.0]}
        self.settings, self.mask, self.drop = Settings(), np.ones(3, np.float32), L.Dropout(0.5)
        self.blocks = [L.Dense(3, name="block")]
        offset = 0.0

        def shift(v: Any) -> Any:
            return v + offset

        def set_offset(value: float) -> None:
            nonlocal offset
            offset = value

        self.shift, self.set_offset = shift, set_offset

    def call(self, v: Any, training: Any = None) -> Any:
        v = self.blocks[0](keras.ops.mean(v, (1, 2)) * self.mask)
        v = self.shift(self.drop(v, training=training))
        return (
            self.d(v) / self.temperature * self.weights_of["image"][0] * self.settings.scale * self.factor / TEMPERATURE
        )


def temperature(net: Any) -> None:
    net.temperature = 4.0


def item(net: Any) -> None:
    net.weights_of["image"][0] = 3.0


def plain_object(net: Any) -> None:
    net.settings.scale = 5.0


def array(net: Any) -> None:
    net.mask[1] = 0


def closure(net: Any) -> None:
    net.set_offset(2.0)


def layer(net: Any) -> None:
    net.blocks[0] = L.Dense(3, name="another")


def activation(net: Any) -> None:
    net.d.activation = keras.activations.softmax


def weights(net: Any) -> None:
    net.d.set_weights([w + 1 for w in net.d.get_weights()])


def call_of_a_layer(net: Any) -> None:
    original = net.d.call
    net.d.call = lambda v, **_named: 2 * original(v)


def global_number(_net: Any) -> None:
    global TEMPERATURE
    TEMPERATURE *= 2


def class_attribute(net: Any) -> None:
    type(net).factor *= 2


@pytest.mark.parametrize(
    "change",
    [
        *(temperature, item, plain_object, array, closure, layer, activation, weights, call_of_a_layer),
        *(global_number, class_attribute),
    ],
)
def test_a_model_changed_after_wrapping(change: Any) -> None:
    keras.utils.set_random_seed(0)
    net, values = Calibrated(), images()
    model = KerasModel(net, IMAGE)
    before = model.predict((values,))
    model.vjp((values,), np.ones_like)
    np.testing.assert_allclose(before, np.asarray(net(values)), atol=1e-6)
    change(net)
    net(values)
    truth = np.asarray(net(values))
    assert np.abs(truth - before).max() > 1e-3
    np.testing.assert_allclose(model.predict((values,)), truth, atol=1e-5)
    np.testing.assert_allclose(model.vjp((values,), np.ones_like)[0], truth, atol=1e-5)


def test_a_sequential_model_that_gets_another_head() -> None:
    net = keras.Sequential([keras.Input((12, 12, 3)), L.GlobalAveragePooling2D(), L.Dense(3, activation="softmax")])
    model, values = KerasModel(net, IMAGE), images()
    model.predict((values,))
    net.pop()
    net.add(L.Dense(4))
    np.testing.assert_allclose(model.predict((values,)), np.asarray(net(values)), atol=1e-6)


def test_an_unchanged_model_is_traced_once() -> None:
    calls = []

    class Counted(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.d, self.calls, self.last = L.Dense(2), 0, None

        def call(self, v: Any) -> Any:
            calls.append(1)
            self.calls += 1
            self.last = v
            return self.d(keras.ops.mean(v, (1, 2)))

    model = KerasModel(Counted(), IMAGE)
    for n in (1, 2, 3):
        model.predict((images(n),))
        model.vjp((images(n),), np.ones_like)
    assert len(calls) == 4  # three to make its layers and trace, one more for the second kind of request


def test_what_no_trace_can_see() -> None:
    hidden = tf.Variable(1.0)
    rows = iter(range(1000))

    class Drawing(keras.Model):
        def __init__(self, drawing: bool) -> None:
            super().__init__()
            self.d, self.drawing = L.Dense(2), drawing

        def call(self, v: Any) -> Any:
            return self.d(keras.ops.mean(v, (1, 2))) * (next(rows) if self.drawing else hidden)

    steady, drawing = KerasModel(Drawing(False), IMAGE), KerasModel(Drawing(True), IMAGE)
    steady.predict((images(),))
    hidden.assign(3.0)
    assert steady.traced_matches((images(),))
    drawing.predict((images(),))
    assert not drawing.traced_matches((images(),))


def test_code_that_cannot_be_traced_runs_eagerly() -> None:
    class Branching(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.d = L.Conv2D(4, 3, activation="tanh", name="c"), L.Dense(2)

        def call(self, v: Any) -> Any:
            v = self.c(v)
            if keras.ops.sum(v) > 1e9:
                v = -v
            return self.d(keras.ops.mean(v, (1, 2))) * float(np.asarray(v.shape[0] > 0))

    net, values = Branching(), images()
    model = KerasModel(net, IMAGE)
    np.testing.assert_allclose(model.predict((values,)), np.asarray(net(values)), atol=1e-6)
    slopes(model, values)
    outputs, activation, _ = model.layer_vjp((values,), np.ones_like, "c")
    np.testing.assert_allclose(model.replace((values,), "c", activation), outputs, atol=1e-6)


def test_what_the_model_s_own_code_raises() -> None:
    class Broken(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.d = L.Dense(2, name="d")

        def call(self, v: Any) -> Any:
            if v.shape[1] == 12:
                raise KeyError("no such organ")
            return self.d(keras.ops.reshape(v, (-1, 7)))

    model = KerasModel(Broken(), IMAGE)
    for verb in (model.predict, lambda x: model.vjp(x, np.ones_like), model.activations, model.traced_matches):
        with pytest.raises(
            ModelFailed, match=r"model 'keras' failed on inputs of shape \(2, 12, 12, 3\): KeyError: .*no such organ"
        ):
            verb((images(),))
    with pytest.raises(ModelFailed, match=r"inputs of shape \(2, 5, 5, 3\)"):
        model.predict((np.zeros((2, 5, 5, 3), np.float32),))
    sized = KerasModel(keras.Model(x := keras.Input((8, 8, 3)), head(x)), IMAGE)
    with pytest.raises(ModelFailed, match=r"ValueError: .*expected shape=\(None, 8, 8, 3\)"):
        sized.predict((images(),))


def test_what_the_cotangent_raises_is_its_own() -> None:
    model = KerasModel(keras.Model(x := keras.Input((12, 12, 3)), head(x)), IMAGE)

    def broken(_outputs: Any) -> Any:
        raise ZeroDivisionError("of the measure")

    with pytest.raises(ZeroDivisionError, match="of the measure"):
        model.vjp((images(),), broken)


# What layers say of their axes


def test_axes_of_layers() -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((12, 12, 3), name="x")
    inner_in = keras.Input((10, 10, 4))
    inner = keras.Model(
        inner_in, L.ReLU(name="inner_relu")(L.LayerNormalization(name="inner_norm")(inner_in)), name="inner"
    )
    h = L.Rescaling(2.0, name="rescaled")(x)
    h = L.Conv2D(4, 3, name="conv")(h)
    h = inner(h)
    h = L.Add(name="sum")([L.Dense(4, name="mixed")(h), h])
    t = L.Reshape((100, 4), name="tokens")(h)
    t = L.LayerNormalization(name="token_norm")(t)

    class Doubled(L.Conv2D):
        def call(self, inputs: Any) -> Any:
            return 2 * super().call(inputs)

    class Named(L.Conv2D):
        def get_config(self) -> Any:
            return {**super().get_config()}

    own = L.GlobalAveragePooling2D(name="pool")(Named(2, 1, name="still")(Doubled(4, 3, name="changed")(h)))
    net = keras.Model(x, L.Dense(3, name="head")(L.Concatenate()([own, L.Flatten(name="flat")(t)])))
    model = KerasModel(net, IMAGE, layer_axes={"tokens": ("token", "channel")})
    image = ("y", "x", "channel")
    told = {name: model.axes_of(name) for name in model.activations((images(),)) if name != "x"}
    for name in ("rescaled", "conv", "inner_norm", "inner_relu", "inner", "mixed", "sum", "still"):
        assert told[name] == image, name
    for name in ("token_norm", "changed", "flat", "head"):
        assert told[name] is None, name
    assert told["pool"] == ("channel",)
    assert told["tokens"] == ("token", "channel")
    with pytest.raises(LookupError, match="did you mean conv"):
        model.axes_of("convv")
    with pytest.raises(LookupError, match="did you mean tokens"):
        KerasModel(net, IMAGE, layer_axes={"token": ("token", "channel")})

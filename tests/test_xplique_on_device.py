"""Xplique on a Keras model's device: tensors from end to end, and the maps of the bridge through arrays."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import zoo
from tensorflow.python.framework.ops import _EagerTensorBase

from crossxai import Largest, Modality, Question, Target, Unsupported
from crossxai.adapters.tensorflow import KerasModel
from crossxai.batching import watching
from crossxai.errors import BrokenAssumption, ModelFailed
from crossxai.explainers import get
from crossxai.explainers.families import PathMethod
from crossxai.explainers.tensor_scores import device_scores

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("saliency", {}),
    ("gradient_input", {"profile": "canonical"}),
    ("integrated_gradients", {"steps": 9}),
    ("forgrad", {"sigma": 5}),
    ("smooth_grad", {"samples": 4}),
    ("square_grad", {"samples": 40, "profile": "canonical"}),
    ("var_grad", {"samples": 4}),
    ("occlusion", {"patch": 4, "stride": 3}),
    ("rise", {"samples": 40}),
    ("sobol", {"grid": 3, "designs": 4}),
    ("hsic", {"grid": 3, "designs": 30}),
    ("lime", {"samples": 30, "segmentation": "grid", "patch": 6}),
    ("lime", {"samples": 30, "segmentation": "grid", "patch": 6, "profile": "canonical"}),
    ("kernel_shap", {"samples": 30, "segmentation": "grid", "patch": 6}),
]
NAMES = [f"{name}, {params.get('profile', '')}" for name, params in METHODS]


@pytest.fixture(scope="module")
def question() -> Question:
    """Of probabilities; an image, and a table that is held."""
    asked = zoo.question("keras", "image+table", "class")
    return Question(asked.model, asked.inputs, Target.classes([0, 1], 3, "softmax"), free=("t1",))


def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU taken for a device apart; the model takes no arrays from here on, and TensorFlow leaves its tensors nowhere."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("arrays were asked for")

    monkeypatch.setattr(KerasModel, "tensor_device", lambda self: "CPU:0")
    for verb in ("predict", "vjp"):
        monkeypatch.setattr(KerasModel, verb, refuse)
    monkeypatch.setattr(tf, "numpy_function", refuse)


QUICK = ("smooth_grad", "occlusion")  # gradients, and scores
EVERY = [
    pytest.param(*method, id=name, marks=() if name.rstrip(", ") in QUICK else pytest.mark.deep)
    for method, name in zip(METHODS, NAMES, strict=True)
]


@pytest.mark.parametrize(("name", "params"), EVERY)
def test_maps_are_those_of_the_bridge(
    monkeypatch: pytest.MonkeyPatch, question: Question, name: str, params: Any
) -> None:
    """In the same batches."""
    explainer = get(f"xplique.{name}", **params)
    monkeypatch.setattr(PathMethod, "completeness_gap", lambda *_: np.zeros(len(question)))  # is asked by arrays
    host, own, sizes = explainer(question), list[int](), list[int]()
    with watching(own.append):
        explainer(question)
    there(monkeypatch)
    with watching(sizes.append):
        found = explainer(question)
    assert [size for size in sizes if size] == [size for size in own if size]
    for ours, theirs in zip(found.values, host.values, strict=True):
        assert np.ptp(theirs) > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=3e-5 * np.abs(theirs).max())
    for key in host.extras:
        np.testing.assert_allclose(found.extras[key], host.extras[key], rtol=1e-3, atol=1e-4)


@pytest.mark.deep
@pytest.mark.parametrize("link", ["identity", "sigmoid"])
@pytest.mark.parametrize(("name", "params"), [METHODS[0], METHODS[7]], ids=["saliency", "occlusion"])
def test_links(monkeypatch: pytest.MonkeyPatch, question: Question, name: str, params: Any, link: Any) -> None:
    asked = Question(question.model, question.inputs, Target.classes([0, 1], 3, link), free=question.free, batch_size=1)
    test_maps_are_those_of_the_bridge(monkeypatch, asked, name, params)


@pytest.mark.deep
@pytest.mark.parametrize(("name", "params"), [METHODS[0], METHODS[11]], ids=["saliency", "lime"])
def test_regions_of_volumes(monkeypatch: pytest.MonkeyPatch, name: str, params: Any) -> None:
    """Which Xplique takes as planes; the target is a region."""
    keras.utils.set_random_seed(0)
    volume = keras.Input((5, 6, 7, 1), name="volume")
    network = keras.Model(volume, keras.layers.Conv3D(2, 3, padding="same", activation="tanh")(volume))
    model = KerasModel(network, (Modality.volume(),), output_axes=("z", "y", "x", "class"))
    values = np.random.default_rng(0).random((2, 5, 6, 7, 1), np.float32)
    target = Target.regions(values[..., 0] > 0.4, 1, 2)
    test_maps_are_those_of_the_bridge(monkeypatch, Question(model, (values,), target), name, {**params, **PARAMS[name]})


PARAMS: dict[str, dict[str, Any]] = {"saliency": {}, "lime": {"patch": 4, "fill": 0.2}}


class Enlarged(keras.layers.Layer):
    """To twice the size, which a graph does not know before it runs."""

    def call(self, x: Any) -> Any:
        return tf.image.resize(x, 2 * tf.shape(x)[1:3])

    def compute_output_shape(self, given: Any) -> Any:
        return given[0], None, None, given[3]


def test_regions_of_images_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3), name="t1")
    network = keras.Model(image, Enlarged()(keras.layers.Conv2D(2, 3, strides=2, padding="same")(image)))
    model = KerasModel(network, (zoo.T1,), output_axes=("y", "x", "class"), outputs="logits")
    values = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    target = Target.regions(values[..., 0] > 0.4, 1, 2)
    test_maps_are_those_of_the_bridge(monkeypatch, Question(model, (values,), target), "saliency", {})
    with pytest.raises(ModelFailed, match="not compatible with expected shape"):
        get("xplique.saliency")(Question(model, (values[:, :6],), target, check="off"))


def test_a_score_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's refusals: beside it a gradient is refused, no model is fitted to it, and a drop is no map."""
    image = keras.Input((16, 16, 3), name="t1")
    mean = keras.layers.GlobalAveragePooling2D()(image)
    outputs = keras.layers.Lambda(lambda x: x / tf.cast(tf.reduce_max(x, axis=1, keepdims=True) > 0.2, x.dtype))(mean)
    model = KerasModel(keras.Model(image, outputs), (zoo.T1,), outputs="logits")
    values = np.random.default_rng(0).random((2, 16, 16, 3), np.float32)
    values[1, ..., 0] = 0.0
    question = Question(model, (values,), Target.outputs(0, 2, 3))
    fit = {"samples": 12, "segmentation": "grid", "patch": 8, "fill": 0.0}

    def outcome() -> list[str]:
        words = []
        for name, params, kind in [
            ("integrated_gradients", {"steps": 4}, BrokenAssumption),
            ("kernel_shap", fit, Unsupported),
        ]:
            with pytest.raises(kind, match="NaN or infinite") as refused:  # type: ignore[call-overload]
                get(f"xplique.{name}", **params)(question)
            words.append(str(refused.value))
        return [*words, *get("xplique.occlusion", patch=16, stride=16)(question).notes]

    host = outcome()
    there(monkeypatch)
    assert outcome() == host


def test_weights_of_any_dtype(monkeypatch: pytest.MonkeyPatch, question: Question) -> None:
    """Also one after the other, of the same graph."""
    questions = [
        Question(question.model, question.inputs, Target(np.eye(3, dtype=dtype)[:2]), free=question.free, check="off")
        for dtype in (np.float32, np.float64, np.uint8, bool)
    ]
    saliency = get("xplique.saliency")
    host = saliency(questions[0]).values[0]
    there(monkeypatch)
    for asked in questions:
        np.testing.assert_allclose(saliency(asked).values[0], host, rtol=1e-4, atol=1e-6)


def test_memory_that_runs_out_halves_the_batch(monkeypatch: pytest.MonkeyPatch, question: Question) -> None:
    sizes = []
    own = KerasModel.gradients_there

    def small(model: KerasModel, inputs: list[Any], *how: Any) -> Any:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 4:
            raise MemoryError
        return own(model, inputs, *how)

    question.trusted(gradients=True)
    there(monkeypatch)
    monkeypatch.setattr(KerasModel, "gradients_there", small)
    get("xplique.smooth_grad", samples=10)(question)
    assert sizes == [20, 10, 5, *[2] * 10]


@pytest.mark.parametrize(
    ("name", "params"), [METHODS[4], METHODS[7], pytest.param(*METHODS[8], marks=pytest.mark.deep)]
)
def test_what_comes_back(monkeypatch: pytest.MonkeyPatch, question: Question, name: str, params: Any) -> None:
    """The maps, and scores where they have to be finite, with whose they are: once each, however many copies there are."""
    fetched: list[Any] = []
    fetch = _EagerTensorBase.numpy
    explainer = get(f"xplique.{name}", **params)
    question.trusted(gradients=True)
    there(monkeypatch)
    explainer(question)  # what is traced, is

    def numpy(tensor: Any) -> Any:
        fetched.extend([tuple(tensor.shape)] * (tensor.dtype.is_floating and tensor.shape.rank > 0))
        return fetch(tensor)

    monkeypatch.setattr(_EagerTensorBase, "numpy", numpy)
    explainer(question)
    copies = explainer.cost(question)[0] * len(question)
    gradients = name == "smooth_grad"
    maps = [(1, 16, 16, 1)] * 2 if name == "rise" else [(2, 16, 16, 1)]
    assert sorted(fetched) == sorted([*maps, *[(copies,)] * 2 * gradients])


def test_other_targets_and_models_take_the_bridge(monkeypatch: pytest.MonkeyPatch, question: Question) -> None:
    assert device_scores(question, "tensorflow") is None
    monkeypatch.setattr(KerasModel, "tensor_device", lambda self: "CPU:0")
    assert device_scores(question, "tensorflow") is not None
    assert device_scores(question, "torch") is None
    for target in (Largest(2, 3), Target.classes([0, 1], 3, "log_odds")):
        assert device_scores(Question(question.model, question.inputs, target), "tensorflow") is None

"""Copies trained anew on labels and on shuffled labels, never the user's network; maps that do not see the difference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from networks import zoo
from scipy.special import expit, softmax

import crossxai as xai
from crossxai import InvalidInput, Unsupported
from crossxai.adapters.retraining import Lesson
from crossxai.conventions import retraining
from crossxai.conventions.retraining import Retrained, retrain
from crossxai.conventions.sanity import sanity_of
from crossxai.evaluation.metrics import similarity
from crossxai.explainers import get
from crossxai.model import Array, Retrainable
from crossxai.testing.state import snapshot

N = 18
IMAGES = (np.random.default_rng(0).random((N, 16, 16, 3), np.float32),)
LABELS = np.arange(N) % 3
MODALITIES = (xai.Modality.image(),)


def torch_network(ending: str = "") -> Any:
    """Two convolutions with batch norms and a dropout, frozen weights, evaluation mode."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 8), (8, 16)):
        layers += [nn.Conv2d(before, after, 3, padding=1, stride=2), nn.BatchNorm2d(after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Dropout(0.5), nn.Flatten(), nn.Linear(256, 1 if ending == "one" else 3))
    for norm in (net[1], net[4]):  # statistics that fit no other weights
        norm.running_mean.fill_(0.3)
        norm.running_var.fill_(0.01)
    if ending == "softmax":
        net.append(nn.Softmax(1))
    return net.requires_grad_(False).eval()


def keras_network(ending: str = "") -> Any:
    """The same layers in Keras, with weights of its own."""
    import keras

    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((16, 16, 3))
    for number, after in enumerate((8, 16)):
        x = keras.layers.Conv2D(after, 3, padding="same", strides=2)(x)
        norm = keras.layers.BatchNormalization(name=f"norm{number}")
        x = keras.layers.ReLU()(norm(x))
        norm.set_weights([*norm.get_weights()[:2], np.full(after, 0.3), np.full(after, 0.01)])
    x = keras.layers.Flatten()(keras.layers.Dropout(0.5)(x))
    x = keras.layers.Dense(1 if ending == "one" else 3, activation="softmax" if ending == "softmax" else None)(x)
    model = keras.Model(inputs, x)
    model.trainable = False
    return model


def model_of(framework: str, ending: str = "", **options: Any) -> Any:
    from crossxai.adapters.tensorflow import KerasModel
    from crossxai.adapters.torch import TorchModel

    if framework == "torch":
        return TorchModel(torch_network(ending), MODALITIES, **options)
    return KerasModel(keras_network(ending), MODALITIES, **options)


@pytest.fixture(scope="module", params=["torch", "keras"])
def model(request: pytest.FixtureRequest) -> Any:
    return model_of(request.param)


@pytest.fixture(scope="module")
def retrained(model: Any) -> Retrained:
    return retrain(model, IMAGES, LABELS)


def weights_of(model: Any) -> dict[str, Array]:
    """Every weight and statistic by name."""
    if hasattr(model, "module"):
        return {name: value.numpy(force=True) for name, value in model.module.state_dict().items()}
    return {weight.path: np.asarray(weight) for weight in model.model.weights}


def test_shuffled_labels_are_memorised_and_the_network_is_as_it_was(model: Any) -> None:
    assert isinstance(model, Retrainable)
    outputs, before = model.predict(IMAGES), snapshot(model)
    shuffled = np.random.default_rng(1).permutation(LABELS)
    copy, learned = model.retrained(IMAGES, shuffled, 0, 200)
    assert learned == 1
    np.testing.assert_array_equal(copy.predict(IMAGES).argmax(axis=1), shuffled)  # in evaluation mode
    after = snapshot(model)
    assert all(after[name] == value for name, value in before.items())  # weights, modes, flags, random streams
    np.testing.assert_array_equal(model.predict(IMAGES), outputs)
    again, _ = model.retrained(IMAGES, shuffled, 0, 200)
    start, _ = model.retrained(IMAGES, LABELS, 0, 0)
    own, same, drawn = weights_of(copy), weights_of(again), weights_of(start)
    for name, values in own.items():
        np.testing.assert_array_equal(values, same[name])
        statistics = any(word in name for word in ("running_", "moving_", "num_batches"))
        assert np.array_equal(values, drawn[name]) == statistics, name  # frozen weights are trained, too


def test_batch_norms_fit_the_weights_that_were_drawn(model: Any) -> None:
    """With the statistics of other weights a network starts dead, or far away."""
    start, _ = model.retrained(IMAGES, LABELS, 0, 0)
    torch = hasattr(model, "module")
    for layer in ("1", "4") if torch else ("norm0", "norm1"):
        values = start.read(IMAGES, layer)[1]
        offset = weights_of(start)[f"{layer}.bias" if torch else f"{layer}/beta"]
        np.testing.assert_allclose(values.mean(axis=(0, 2, 3) if torch else (0, 1, 2)), offset, atol=1e-4)


def test_maps_that_ignore_labels_stay(model: Any, retrained: Retrained) -> None:
    training = retrained.training
    assert (training.n, training.source, training.learned, training.memorised) == (N, "data", 1, 1)
    assert training.moved == pytest.approx(2 / 3, abs=0.15)  # as by chance
    question = xai.Question(model, (IMAGES[0][:4],), xai.Target.classes(LABELS[:4], 3))
    blind = sanity_of(get("controls.edges"), question, retrained).labels
    assert list(blind) == ["own and labels", "own and shuffled", "labels and shuffled", "start and shuffled"]
    for likeness in blind.values():
        assert likeness == pytest.approx(dict.fromkeys(("spearman", "ssim", "hog"), 1))
    check = sanity_of(get("reference.gradient_x_input"), question, retrained)
    assert all(likeness["spearman"] < 0.8 for likeness in check.labels.values())
    own, other = (
        get("reference.gradient_x_input")(replace(question, model=m)).units("image")
        for m in (model, retrained.copies["shuffled"])
    )
    by_hand = similarity.between(own, other, "spearman").mean()
    assert check.labels["own and shuffled"]["spearman"] == pytest.approx(by_hand)


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("ending", ["softmax", "one"])
def test_other_endings_learn_too(framework: str, ending: str) -> None:
    model = model_of(framework, ending)
    labels = np.arange(N) % (2 if ending == "one" else 3)
    assert model.retrained(IMAGES, labels, 0, 200)[1] == 1
    if ending == "one":
        values = np.random.default_rng(2).normal(5, 2, N)
        copy, learned = model.retrained(IMAGES, values, 0, 200)
        assert learned >= 0.95
        residual = ((copy.predict(IMAGES)[:, 0] - values) ** 2).mean() / values.var()
        assert learned == pytest.approx(1 - residual, abs=1e-5)


@pytest.mark.parametrize("outputs", ["logits", "probabilities", "apart", "log_probabilities", "one", "one probability"])
def test_slopes_are_those_of_the_loss(outputs: str) -> None:
    """Against finite differences of the cross-entropy, written out."""
    rng = np.random.default_rng(0)
    rows, single = np.array([1, 0, 3]), outputs.startswith("one")
    logits = rng.normal(size=(3, 1 if single else 4))
    share = softmax(logits, axis=1)
    given = {
        "probabilities": share,
        "apart": expit(logits),
        "log_probabilities": np.log(share),
        "one probability": expit(logits),
    }
    kind = {"apart": "probabilities", "one": "logits", "one probability": "probabilities"}.get(outputs, outputs)
    labels = np.array([0, 1, 1, 0]) if single else np.array([2, 0, 1, 3])
    lesson = Lesson(labels[:, None].astype(float) if single else np.eye(4)[labels], kind)
    wanted = lesson.wanted[rows]

    def loss(values: Array) -> float:
        p = values
        if kind == "logits":
            p = expit(values) if single else softmax(values, axis=1)
        if kind == "log_probabilities":
            p = np.exp(values)
        others = (1 - wanted) * np.log(1 - p) if single or outputs == "apart" else 0
        return float(-(wanted * np.log(p) + others).sum() / 3)

    at = given.get(outputs, logits)
    slopes = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-6
        slopes[place] = (loss(at + step) - loss(at - step)) / 2e-6
    np.testing.assert_allclose(lesson.slope(rows, at), slopes, atol=1e-6)


def test_labels_that_models_give_themselves(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "EPOCHS", 1)
    monkeypatch.setattr(retraining, "FEWEST_MOVED", 0.0)
    training = retrain(model, IMAGES).training
    assert training.source == "model"
    assert "1 epochs did not suffice to memorise the" in training.refusal


def test_which_samples_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Array] = []

    class Model:
        name, modalities = "m", (xai.Modality.table(("a",)),)

        def predict(self, inputs: Any) -> Array:
            return np.zeros((len(inputs[0]), 2))

        def retrained(self, inputs: Any, labels: Any, seed: int, epochs: int) -> tuple[Any, float]:
            taken.append(inputs[0][:, 0])
            return self, 1.0

    for n, first in ((10, 3), (1000, 3), (1000, 80)):
        retrain(Model(), (np.arange(float(n))[:, None],), np.arange(n) % 2, first)
        assert set(range(first)) <= set(taken[-1])
        assert len(taken[-1]) == min(n, max(64, first + 1))
    assert taken[4].max() == 999


def test_refusals(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "EPOCHS", 3)
    for labels, reason in (
        (np.full(N, 2), "shuffling the labels changes only 0% of 18, as most are the same"),
        (np.arange(N), "labels of 3 classes lie in 0 … 2, got 0 … 17"),
        (np.linspace(0, 1, N), r"has 3 outputs; values to learn are finite numbers of shape (18, 3), got shape (18,)"),
    ):
        refused = retrain(model, IMAGES, labels)
        assert reason in refused.training.refusal
        assert not refused.copies
    declared = model_of("torch", outputs="values")
    with pytest.raises(InvalidInput, match="gives values, not classes: write its labels as floats"):
        declared.retrained(IMAGES, LABELS, 0, 1)
    twice = (np.concatenate([IMAGES[0][:6]] * 3),)  # of the same image nobody learns two labels
    training = retrain(model, twice, np.repeat([0, 1, 2], 6)).training
    assert training.memorised < 0.95
    assert "3 epochs did not suffice to memorise the" in training.refusal
    question = xai.Question(model, (IMAGES[0][:2],), xai.Target.classes(LABELS[:2], 3))
    check = sanity_of(get("reference.saliency"), question, Retrained(training))
    assert check.training == training
    assert not check.labels
    assert check.cascading is not None
    with pytest.raises(InvalidInput, match="epochs must be a whole number of at least 0, got -1"):
        model.retrained(IMAGES, LABELS, 0, -1)
    with pytest.raises(InvalidInput, match="17 labels for 18 samples"):
        model.retrained(IMAGES, LABELS[1:], 0, 1)


def test_models_that_cannot_be_trained() -> None:
    import torch
    from torch import nn

    from crossxai.adapters.torch import TorchModel

    function = xai.wrap(lambda x: x.mean((1, 2)), modalities=MODALITIES)
    assert "no weights that can be trained anew" in retrain(function, IMAGES, LABELS).training.refusal
    empty = TorchModel(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), MODALITIES)
    with pytest.raises(Unsupported, match="no layer with weights"):
        empty.retrained(IMAGES, LABELS, 0, 1)
    maps = TorchModel(nn.Conv2d(3, 2, 1).eval(), MODALITIES, output_axes=("y", "x", "class"))
    with pytest.raises(Unsupported, match="a map of scores: it is not trained anew"):
        maps.retrained(IMAGES, LABELS, 0, 1)

    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            with torch.no_grad():
                return self.last(x.mean((2, 3)))

    with pytest.raises(Unsupported, match="no gradient of model 'pytorch' reaches its weights"):
        TorchModel(Cut().eval(), MODALITIES).retrained(IMAGES, LABELS, 0, 1)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_models_of_several_inputs(framework: str) -> None:
    model, values = zoo.model(framework, "image+table"), zoo.values("image+table")
    labels = np.arange(len(values[0])) % 2
    assert model.retrained(values, labels, 0, 200)[1] == 1

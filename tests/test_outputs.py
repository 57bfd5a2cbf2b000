"""What a model's outputs are: declared, else by its graph or by what it gives; links that would be taken twice are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as L
from scipy.special import expit, log_softmax, softmax
from torch import nn

import crossxai
from crossxai import Dice, Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.errors import BrokenAssumption, InvalidInput, Unsupported
from crossxai.explainers import get
from crossxai.measures import Largest, predicted_region
from crossxai.model import Array
from crossxai.outputs import Kind, check_known, check_link, check_target, kind, probability_link, sums_to_one

RNG = np.random.default_rng(0)
X = RNG.random((3, 8, 8, 3)).astype(np.float32)
IMAGE = (Modality.image(),)
MAP = ("y", "x", "class")


def torch_net(*last: nn.Module, channels: int = 1) -> TorchModel:
    torch.manual_seed(0)
    return TorchModel(
        nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, channels, 1), *last).eval(),
        IMAGE,
        output_axes=MAP,
    )


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return x * self.factor


class Plus(Times):
    def forward(self, x: Any) -> Any:
        return x + self.factor


def keras_net(last: str | None, channels: int = 1, bias: float = 0.0) -> KerasModel:
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3))
    h = L.Conv2D(6, 3, padding="same", activation="relu")(i)
    return KerasModel(
        keras.Model(i, L.Conv2D(channels, 1, activation=last, bias_initializer=keras.initializers.Constant(bias))(h)),
        IMAGE,
        output_axes=MAP,
    )


class Subclassed(keras.Model):
    """No graph to translate."""

    def __init__(self, last: Any) -> None:
        super().__init__()
        self.conv, self.last = L.Conv2D(1, 3, padding="same"), last

    def call(self, x: Any) -> Any:
        return self.last(self.conv(keras.ops.sin(x) + x))


def function(f: Any) -> FunctionModel:
    return FunctionModel(f, IMAGE)


WEIGHTS = RNG.normal(size=(8, 8, 3, 4))


def four(v: Array) -> Array:
    return np.asarray(np.tensordot(v, WEIGHTS, ([1, 2, 3], [0, 1, 2])))


@pytest.mark.parametrize(
    ("model", "expected", "how"),
    [
        (lambda: torch_net(nn.Sigmoid()), "probabilities", "it ends in a sigmoid"),
        (lambda: torch_net(nn.Sigmoid(), nn.Upsample(scale_factor=2)), "probabilities", "it ends in a sigmoid"),
        (lambda: torch_net(), "logits", "outputs from"),
        (lambda: torch_net(nn.Softmax(1), channels=3), "probabilities", "the 3 outputs of each sample sum to 1"),
        (lambda: torch_net(nn.LogSoftmax(1), channels=3), "log_probabilities", "exp of the 3 outputs"),
        (lambda: keras_net("sigmoid"), "probabilities", "it ends in a sigmoid"),
        (lambda: keras_net("sigmoid", bias=1.0), "probabilities", "it ends in a sigmoid"),
        (lambda: keras_net("softmax", 3), "probabilities", "sum to 1"),
        (lambda: keras_net(None, bias=0.5), "logits", ""),
        (lambda: torch_net(nn.LogSigmoid()), "log_probabilities", "it ends in a log-sigmoid"),
        (lambda: torch_net(nn.Hardtanh(0, 1)), "probabilities", "near its ends"),
        (
            lambda: KerasModel(Subclassed(keras.ops.sigmoid), IMAGE, output_axes=MAP),
            "probabilities",
            "it ends in a sigmoid",
        ),
        (
            lambda: KerasModel(Subclassed(lambda v: 0.01 * v + 0.5), IMAGE, output_axes=MAP),
            "logits",
            "on extreme inputs",
        ),
        (lambda: torch_net(Plus(0.5), Times(1.0)), "logits", "outputs from"),
        (lambda: function(lambda v: expit(four(v) / 50)), "probabilities", "near its ends"),
        (lambda: function(lambda v: four(v) / 500 + 0.5), "logits", "on extreme inputs"),
        (lambda: function(lambda v: softmax(four(v), axis=1)), "probabilities", "sum to 1"),
        (lambda: function(lambda v: softmax(four(v), axis=1).astype(np.float16)), "probabilities", "sum to 1"),
        (lambda: function(lambda v: log_softmax(four(v), axis=1)), "log_probabilities", "exp of the 4"),
        (lambda: function(lambda v: 0.5 + 0.1 * np.sin(four(v))), "unknown", "lie in [0, 1]"),
        (lambda: FunctionModel(four, IMAGE, outputs="values"), "values", "declared"),
        (lambda: function(lambda v: 100 * softmax(four(v) / 50, axis=1)), "unknown", "sum to 100"),
        (lambda: function(lambda v: 0.3 * softmax(four(v) / 50, axis=1)), "unknown", "sum to 0.3"),
        (lambda: function(lambda v: 100 * expit(four(v)[:, :1] / 50)), "unknown", "however extreme"),
        (lambda: torch_net(nn.Softmax(1), Times(100.0), channels=3), "unknown", "sum to 100"),
        (lambda: torch_net(Times(0.5), nn.Tanh(), Times(0.4), Plus(0.5)), "unknown", "on extreme inputs, too"),
        (lambda: torch_net(Times(0.5), nn.Tanh(), Times(0.5), Plus(0.5)), "probabilities", "near its ends"),
        (lambda: torch_net(nn.Sigmoid(), Times(0.8), Plus(0.1)), "unknown", "on extreme inputs, too"),
        # Logits that are never negative, or that sum to the same.
        (lambda: torch_net(nn.ReLU(), Times(30.0), channels=3), "logits", "outputs from"),
        (lambda: function(lambda v: four(v) ** 2), "logits", "outputs from"),
        (lambda: function(lambda v: four(v) - four(v).mean(axis=1, keepdims=True)), "logits", "outputs from"),
        (lambda: function(lambda v: 0 * four(v) + [3.0, 1, 0.5, 2]), "logits", "outputs from"),
        (lambda: torch_net(Plus(5.0)), "logits", "outputs from"),
    ],
)
def test_what_outputs_are(model: Any, expected: str, how: str) -> None:
    made = model()
    for outputs in (None, made.predict((X,))):  # measured with a pass, and on outputs that are known
        found = kind(made, (X,), outputs)
        assert (found.kind, how in found.how) == (expected, True), found


def test_what_is_known_is_not_asked_again() -> None:
    passes: list[int] = []
    model = function(lambda v: passes.append(len(v)) or expit(four(v) / 50))
    for _ in range(3):
        kind(model, (X,))
    assert passes == [2, 4]


def test_codes_are_not_made_extreme() -> None:
    """An index that an embedding does not have is an error, and on a GPU the end of the process."""
    asked: list[Array] = []

    def f(v: Array) -> Array:
        asked.append(v)
        return np.asarray(expit(v[:, :1] * 0.01 + 0.1 * np.eye(5)[v[:, 1].astype(int), :1]))

    model = FunctionModel(f, (Modality.table(("age", "code")),))
    table = np.array([[0.3, 4.0], [0.7, 2.0], [0.1, 0.0]])
    assert kind(model, (table,)).kind == "probabilities"
    assert set(asked[-1][:, 1]) == {4.0}
    assert np.abs(asked[-1][:, 0]).max() > 100


def test_a_model_that_was_changed_shows_it() -> None:
    model = keras_net("sigmoid")
    assert kind(model, (X,), model.predict((X,))).kind == "probabilities"
    assert kind(model, (X,), 4 - model.predict((X,))).kind == "logits"


def test_logits_that_sum_to_1_by_chance_are_no_probabilities() -> None:
    assert not sums_to_one(np.array([[0.3, 0.7001]], np.float32))
    logits = RNG.normal(0.5, 0.01, (20000, 2)).astype(np.float32)  # an untrained network's
    alarms = sum(sums_to_one(logits[i : i + 2]) for i in range(0, len(logits), 2))
    assert alarms == 0
    p = softmax(RNG.normal(size=(64, 10)), axis=1)
    for dtype in (np.float16, np.float32, np.float64):
        assert sums_to_one(p.astype(dtype))
        assert sums_to_one(p[:1].astype(dtype)) or dtype == np.float16


def test_softmax_over_probabilities_is_refused() -> None:
    model = function(lambda v: softmax(four(v), axis=1))
    for target in (Target.classes([0, 1, 2], 4, "softmax"), Largest(3, 4)):
        with pytest.raises(InvalidInput, match=r"probabilities already.*a second softmax"):
            Question(model, (X,), target).score()
    with pytest.raises(InvalidInput, match="flatten every score"):
        Dice(np.ones((3, 2, 2)), 0, 2).score(softmax(RNG.normal(size=(3, 2, 2, 2)), axis=-1), np.arange(3))
    with pytest.raises(InvalidInput, match=r"a second sigmoid.*write link=\"identity\""):
        check_link("sigmoid", Kind("probabilities", "declared"), "net")
    with pytest.raises(InvalidInput, match="explains the logit"):
        check_link("log_odds", Kind("logits", "declared"), "net")
    with pytest.raises(InvalidInput, match='write link="softmax"'):
        check_link("sigmoid", Kind("log_probabilities", "declared"), "net")
    check_link("softmax", Kind("log_probabilities", "declared"), "net")
    ends = torch_net(nn.Sigmoid())
    for target in (Target.regions(np.ones((3, 8, 8)), 0, 1, "sigmoid"), Dice(np.ones((3, 8, 8)), 0, 1, "sigmoid")):
        with pytest.raises(InvalidInput, match="it ends in a sigmoid"):
            check_target(ends, (X,), target)
    for fine in (Target.regions(np.ones((3, 8, 8)), 0, 1), Dice(np.ones((3, 8, 8)), 0, 1, "identity")):
        check_target(ends, (X,), fine)


def test_unknown_outputs_are_to_be_declared() -> None:
    with pytest.raises(InvalidInput, match=r'outputs="logits", "probabilities", .* at the adapter'):
        check_known(Kind("unknown", "all outputs lie in [0, 1]"), "net", "where the predicted region is")
    links = {k: probability_link(Kind(k, ""), 3, "net") for k in ("logits", "probabilities", "log_probabilities")}
    assert links == {"logits": "softmax", "probabilities": "identity", "log_probabilities": "softmax"}
    assert probability_link(Kind("logits", ""), 1, "net") == "sigmoid"


@pytest.mark.parametrize("framework", ["numpy", "torch", "keras"])
def test_a_link_of_unknown_outputs_is_refused_until_they_are_declared(framework: str) -> None:
    """Hand-made sigmoids that do not reach 0 and 1: masked, scaled; a second sigmoid would pass unseen."""

    def made(outputs: Any = None) -> Any:
        if framework == "numpy":
            return FunctionModel(
                lambda v: 0.2 + 0.5 * expit(v.sum(axis=-1, keepdims=True) - 1), IMAGE, output_axes=MAP, outputs=outputs
            )
        net = torch_net(nn.Sigmoid(), Times(0.8), Plus(0.1)) if framework == "torch" else None
        if net is None:
            net = KerasModel(Subclassed(lambda v: 0.8 * keras.ops.sigmoid(v) + 0.1), IMAGE, output_axes=MAP)
        net.outputs = outputs
        return net

    inside = np.ones((3, 8, 8))
    asked = (
        Target.regions(inside, 0, 1, "sigmoid"),
        Dice(inside, 0, 1, "sigmoid"),
        Target.regions(inside, 0, 1, "log_odds"),
    )
    for target in asked:
        with pytest.raises(
            InvalidInput, match=r'="(sigmoid|log_odds)" makes of them; declare it: outputs="logits", "pro'
        ):
            Question(made(), (X,), target).score()
    assert Question(made("logits"), (X,), asked[0]).score().shape == (3,)
    assert Question(made("values"), (X,), asked[1]).score().shape == (3,)
    assert Question(made("probabilities"), (X,), asked[2]).score().shape == (3,)
    assert Question(made(), (X,), Target.regions(inside, 0, 1)).score().shape == (3,)  # the raw output is what it is
    with pytest.raises(InvalidInput, match="a second sigmoid"):
        Question(made("probabilities"), (X,), asked[0]).score()
    facts = {fact.name: fact for fact in crossxai.check(made(), X, asked[0]).facts}
    assert (facts["outputs"].verdict, facts["target"].verdict) == ("note", "broken")


def test_a_predicted_region_whose_threshold_cannot_be_told_is_refused() -> None:
    p = expit(RNG.normal(size=(2, 5, 5, 1)))
    for ask in (lambda: predicted_region(p, 0), lambda: predicted_region(p, 0, "unknown")):
        with pytest.raises(InvalidInput, match=r'write kind="logits" or "probabilities"'):
            ask()
    np.testing.assert_array_equal(predicted_region(4 * p - 2, 0), p[..., 0] > 0.5)
    assert predicted_region(np.concatenate([p, 1 - p], -1), 0).sum() == (p > 0.5).sum()


def test_the_predicted_region_is_that_of_the_logits() -> None:
    logits = RNG.normal(size=(2, 5, 5, 1))
    np.testing.assert_array_equal(predicted_region(expit(logits), 0, "probabilities"), logits[..., 0] > 0)
    np.testing.assert_array_equal(predicted_region(np.log(expit(logits)), 0, "log_probabilities"), logits[..., 0] > 0)
    np.testing.assert_array_equal(predicted_region(logits, 0, "logits"), logits[..., 0] > 0)


def test_a_hard_dice_of_one_map_of_probabilities_is_that_of_its_logits() -> None:
    logits, masks, rows = RNG.normal(size=(2, 5, 5, 1)), RNG.random((2, 5, 5)) > 0.5, np.arange(2)
    for hard in (False, True):
        expected = Dice(masks, 0, 1, "sigmoid", hard).score(logits, rows)
        np.testing.assert_allclose(Dice(masks, 0, 1, "identity", hard).score(expit(logits), rows), expected)
    with pytest.raises(InvalidInput, match='write probability="sigmoid"'):
        Dice(masks, 0, 1, "identity").score(logits, rows)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_odds_are_the_logits_and_so_is_their_slope(dtype: Any) -> None:
    logits = (RNG.normal(size=(3, 4)) * 3).astype(np.float64)
    others = np.array([np.log(np.exp(np.delete(row, k)).sum()) for row in logits for k in range(4)]).reshape(3, 4)
    target, rows = Target.classes([0, 1, 2], 4, "log_odds"), np.arange(3)
    own = (logits - others)[rows, rows]
    tolerance = {"rtol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12}
    for outputs in (softmax(logits, axis=1), log_softmax(logits, axis=1)):
        np.testing.assert_allclose(target.score(outputs.astype(dtype), rows), own, **tolerance)
    one = Target.classes([0, 0, 0], 1, "log_odds")
    np.testing.assert_allclose(one.score(expit(logits[:, :1]), rows), logits[:, 0], rtol=1e-9)
    np.testing.assert_allclose(
        one.cotangent(expit(logits[:, :1]), rows), 1 / (expit(logits[:, :1]) * expit(-logits[:, :1]))
    )

    def slope(squash: Any) -> Array:
        """Central differences through the squashing."""
        found = np.zeros((3, 4))
        for k in range(4):
            up, down = logits.copy(), logits.copy()
            up[:, k] += 1e-5
            down[:, k] -= 1e-5
            found[:, k] = (target.score(squash(up), rows) - target.score(squash(down), rows)) / 2e-5
        return found

    def pulled(z: Array) -> Array:
        """The cotangent pulled back through a softmax by hand."""
        p, g = softmax(z, axis=1), target.cotangent(softmax(z, axis=1), rows)
        return np.asarray(p * (g - (p * g).sum(1, keepdims=True)))

    np.testing.assert_allclose(pulled(logits), slope(lambda z: softmax(z, axis=1)), atol=1e-8)
    g = target.cotangent(log_softmax(logits, axis=1), rows)
    back = g - softmax(logits, axis=1) * g.sum(1, keepdims=True)
    np.testing.assert_allclose(back, slope(lambda z: log_softmax(z, axis=1)), atol=1e-8)


def test_log_odds_of_what_was_rounded_away_are_refused() -> None:
    target, rows = Target.classes([0], 3, "log_odds"), np.zeros(1, int)
    nearly = softmax(np.array([[40.0, 0, -2]], np.float32), axis=1)  # p is 1 in float32, the others are not 0
    assert nearly[0, 0] == 1
    np.testing.assert_allclose(target.score(nearly, rows), 40 - np.log(1 + np.exp(-2)), rtol=1e-5)
    unused = np.array([[0.6, 0.4, 0.0]], np.float32)  # the class that is 0 is not explained
    np.testing.assert_allclose(target.score(unused, rows), np.log(1.5), rtol=1e-5)
    assert np.isfinite(target.cotangent(unused, rows)).all()
    for outputs in (np.array([[1.0, 0, 0]]), np.array([[0.0, 0.5, 0.5]])):
        for ask in (target.score, target.cotangent):
            with pytest.raises(BrokenAssumption, match="exactly 0 or 1"):
                ask(outputs, rows)
    with pytest.raises(InvalidInput, match="these outputs go from -3 to 2"):
        target.score(np.array([[2.0, -3, 1]]), rows)


def test_a_saliency_of_log_odds_is_that_of_the_network_without_its_sigmoid() -> None:
    given, bare = (
        torch_net(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Sigmoid()),
        torch_net(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )
    for model in (given, bare):
        model.output_axes = ("class",)
    odds, logit = Target.outputs(0, 3, 1, "log_odds"), Target.outputs(0, 3, 1)
    for name in ("captum.saliency", "captum.integrated_gradients", "reference.saliency"):
        here, there = (get(name)(Question(m, (X,), t)).values[0] for m, t in ((given, odds), (bare, logit)))
        np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-5 * np.abs(there).max())
    with pytest.raises(Unsupported, match="log-odds are no layer"):
        get("captum.deep_lift")(Question(given, (X,), odds))


def test_a_link_stays_with_its_target() -> None:
    assert dataclasses.replace(Target.classes([0], 2), link="log_odds").link == "log_odds"

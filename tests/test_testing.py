"""The contract's checks, each shown something that breaks it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from networks import zoo

from crossxai import Attribution, InvalidInput, Question, Scores, Unsupported
from crossxai.explainers import Method, get
from crossxai.testing import Counting, check_explainer, check_metric, check_model, linear_question


@dataclass(frozen=True, kw_only=True)
class Good(Method):
    """The gradient, and whatever goes wrong in a subclass."""

    name: ClassVar = "bad.good"
    library: ClassVar = "bad"
    summary: ClassVar = "gradient"
    needs: ClassVar = "gradients"
    profiles: ClassVar = ("native",)
    joint: ClassVar = True

    seed: int = 0

    def explain(self, question: Question) -> Any:
        _, gradients = question.score_and_grad()
        return tuple(self.spoil(question, g) for g in gradients), {}

    def spoil(self, question: Question, maps: Any) -> Any:
        return maps


def broken(words: str, cost: int = 1, **members: Any) -> Any:
    """A case: the message, and an explainer with these members in place of Good's."""
    passes = {} if cost == 1 else {"passes": lambda self, question: (cost, 1)}
    kind = dataclass(frozen=True, kw_only=True)(type("Bad", (Good,), {"__doc__": "Bad.", **passes, **members}))
    return pytest.param(words, kind(), id=words[:40])


def leaving_a_hook(self: Any, question: Question, maps: Any) -> Any:
    question.model.module.head.register_forward_hook(lambda *_: None)  # type: ignore[attr-defined]
    return maps


def leaving_gradients(self: Any, question: Question, maps: Any) -> Any:
    question.model.module.head.weight.grad = torch.ones_like(question.model.module.head.weight)  # type: ignore[attr-defined]
    return maps


def in_place(self: Any, question: Question) -> Any:
    question.values[0][...] *= 0.5
    return Good()(question)


def without_gradients(self: Any, question: Question) -> Any:
    answer = Good()(question)
    torch.set_grad_enabled(False)  # `Method` itself puts it back after `explain`
    return answer


def changing(what: Any) -> Any:
    def spoil(self: Any, question: Question, maps: Any) -> Any:
        what()
        return maps

    return spoil


@pytest.mark.parametrize(
    ("words", "explainer"),
    [
        broken("is not a name of the form library.method", name="good"),
        broken("family is one of", family="magic"),
        broken("which does not broadcast to the input's", spoil=lambda self, q, m: m[:, :8]),
        broken("holds NaN or infinity", spoil=lambda self, q, m: m / 0),
        broken("holds int", spoil=lambda self, q, m: m.astype(int)),
        broken("two maps of 't1' for one seed", spoil=lambda self, q, m: np.random.default_rng().random(m.shape)),
        broken(r"changed NumPy's random stream", spoil=lambda self, q, m: np.random.random(m.shape)),
        broken(r"changed python's random stream", spoil=changing(random.random)),
        broken(r"changed torch's random stream", spoil=changing(lambda: torch.rand(1))),
        broken(r"changed torch's default dtype", spoil=changing(lambda: torch.set_default_dtype(torch.float64))),
        broken(r"changed torch's grad mode", __call__=without_gradients),
        broken("changed the hooks of module.head", spoil=leaving_a_hook),
        broken("changed the gradient of module.head.weight", spoil=leaving_gradients),
        broken("changed the inputs it was given", __call__=in_place),
        broken(
            r"made \(3, 3\) \(forward, backward\) passes .* for 3 samples, and announced \(6, 3\)",
            cost=2,
        ),
        broken("depend on the batch size", spoil=lambda self, q, m: m * q.batch_size),
        broken(
            "depend on the order of samples", spoil=lambda self, q, m: m * (1 + np.arange(len(m))).reshape(-1, 1, 1, 1)
        ),
        broken("depend on the other samples", spoil=lambda self, q, m: m - m.mean(axis=0)),
    ],
)
def test_broken_explainers(words: str, explainer: Method) -> None:
    question = zoo.question("torch", n=3)
    try:
        with np.errstate(all="ignore"), pytest.raises(AssertionError, match=words):
            check_explainer(explainer, question)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)


def test_what_passes() -> None:
    question = zoo.question("torch", n=3)
    assert isinstance(check_explainer(Good(), question), Attribution)

    @dataclass(frozen=True, kw_only=True)
    class Contrasting(Good):
        """Against the mean of the samples, which is what it is for."""

        contrasts: ClassVar[bool] = True

        def spoil(self, question: Question, maps: Any) -> Any:
            return maps - maps.mean(axis=0)

    assert isinstance(check_explainer(Contrasting(), question), Attribution)
    refused = check_explainer(get("gradcam.gradcam"), linear_question()[0])
    assert isinstance(refused, Unsupported)
    with pytest.raises(InvalidInput, match="at least two"):
        check_explainer(Good(), question[:1])


def test_a_refusal_needs_a_reason() -> None:
    class Silent(Good):
        """Refuses everything."""

        def explain(self, question: Question) -> Any:
            raise Unsupported("")

    with pytest.raises(AssertionError, match="without a reason"):
        check_explainer(Silent(), zoo.question("torch"))


def test_keras_layers_that_stay_wrapped() -> None:
    class Wrapping(Good):
        """Leaves a layer's call replaced."""

        def spoil(self, question: Question, maps: Any) -> Any:
            layer = question.model.model.get_layer("head")  # type: ignore[attr-defined]
            object.__setattr__(layer, "call", layer.call)
            return maps

    with pytest.raises(AssertionError, match=r"changed the call method of model\.head"):
        check_explainer(Wrapping(), zoo.question("keras"))


def test_tensorflow_s_seed_and_eager_switch() -> None:
    import tensorflow as tf

    def spoiled(what: Any) -> Any:
        kind = type("Bad", (Good,), {"__doc__": "Bad.", "spoil": changing(what)})
        return dataclass(frozen=True, kw_only=True)(kind)()

    with pytest.raises(AssertionError, match="changed TensorFlow's seed"):
        check_explainer(
            spoiled(lambda: tf.random.set_seed(tf.config.functions_run_eagerly() + 77)), zoo.question("keras")
        )
    with pytest.raises(AssertionError, match="changed TensorFlow's random stream"):
        check_explainer(spoiled(lambda: tf.random.uniform(())), zoo.question("keras"))
    try:
        with pytest.raises(AssertionError, match="changed TensorFlow's eager switch"):
            check_explainer(spoiled(lambda: tf.config.run_functions_eagerly(True)), zoo.question("keras"))
    finally:
        tf.config.run_functions_eagerly(False)


def test_counting_has_the_verbs_of_the_model_and_no_others() -> None:
    inner = zoo.model("torch")
    counting = Counting(inner)
    x = zoo.values("image", 2)
    counting.predict(x)
    counting.vjp(x, np.ones_like)  # type: ignore[attr-defined]
    counting.layer_vjp(x, np.ones_like, "head")  # type: ignore[attr-defined]
    counting.activations(x)  # type: ignore[attr-defined]
    assert (counting.forward, counting.backward) == (6, 4)
    assert not hasattr(Counting(linear_question()[0].model), "activations")


class Wrong:
    """A float64 model with one thing replaced."""

    def __init__(self, **verbs: Any) -> None:
        inner = zoo.model("torch", dtype="float64")
        self.name, self.modalities = inner.name, inner.modalities
        for verb in ("predict", "vjp", "activations", "layer_vjp", "read", "replace"):
            right = getattr(inner, verb)
            wrong = verbs.get(verb)
            setattr(self, verb, right if wrong is None else lambda *a, right=right, wrong=wrong: wrong(right(*a), *a))


def biased(outputs: Any, inputs: Any) -> Any:
    return outputs + inputs[0].mean()


def written(outputs: Any, inputs: Any) -> Any:
    inputs[0][0, 0, 0, 0] += 1e-9
    return outputs


@pytest.mark.parametrize(
    ("words", "verbs"),
    [
        ("a batch is not its rows one by one", {"predict": biased}),
        ("changed the inputs", {"predict": written}),
        ("gives NaN", {"predict": lambda y, x: y * np.nan}),
        ("the second time", {"predict": lambda y, x: y + np.random.default_rng().random()}),
        ("says .* in a direction in which the score has slope", {"vjp": lambda r, *a: (r[0], (r[1][0] * 1.01,))}),
        ("vjp gives other outputs than predict", {"vjp": lambda r, *a: (r[0] + 1, r[1])}),
        ("has shape", {"vjp": lambda r, *a: (r[0], (r[1][0][..., :1],))}),
        ("the gradient at layer 't1_conv1' says", {"layer_vjp": lambda r, *a: (r[0], r[1], -r[2])}),
        ("gives another activation than activations", {"layer_vjp": lambda r, *a: (r[0], r[1] + 1, r[2])}),
        ("read at .* gives another activation", {"read": lambda r, *a: (r[0], r[1] + 1)}),
        ("replaced by itself changes the outputs", {"replace": lambda r, *a: r + 1}),
    ],
)
def test_broken_models(words: str, verbs: Any) -> None:
    with pytest.raises(AssertionError, match=words):
        check_model(Wrong(**verbs), zoo.values("image", 2, "float64"))  # type: ignore[arg-type]


def test_the_unbroken_model() -> None:
    assert check_model(Wrong(), zoo.values("image", 2, "float64")) == ()  # type: ignore[arg-type]


@dataclass(frozen=True)
class Share:
    """Share of |relevance| in the middle, and whatever goes wrong in a subclass."""

    name: ClassVar[str] = "share"
    higher_is_better: ClassVar[bool] = True
    invariant_to: ClassVar[str] = "scale"

    def values(self, question: Question, maps: Any) -> Any:
        maps = np.abs(maps)
        return maps[:, 4:12, 4:12].sum(axis=(1, 2, 3)) / maps.sum(axis=(1, 2, 3))

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        return Scores(self.name, self.values(question, attribution.values[0]), self.higher_is_better)


class Upside(Share):
    higher_is_better = False


class Signed(Share):
    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        return replace(super().__call__(question, attribution), higher_is_better=False)


class Ranked(Share):
    invariant_to = "order"


class Relative(Share):
    def values(self, question: Question, maps: Any) -> Any:
        return super().values(question, maps) + 0.01 * len(maps)


class Deaf(Share):
    def values(self, question: Question, maps: Any) -> Any:
        return np.nan_to_num(super().values(question, maps))


class Absolute(Share):
    def values(self, question: Question, maps: Any) -> Any:
        return maps[:, 4:12, 4:12].sum(axis=(1, 2, 3))


class Short(Share):
    def values(self, question: Question, maps: Any) -> Any:
        return super().values(question, maps)[:1]


class Curved(Share):
    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        scores = super().__call__(question, attribution)
        return replace(scores, curve=np.zeros((len(question), 2)), fractions=np.array([0.0, 1.0]))


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ("the direction or the metric is wrong", Upside()),
        ("its scores say False", Signed()),
        ("changes when a map's order stays", Ranked()),
        ("depends on the other samples", Relative()),
        ("for a map of NaN: give NaN", Deaf()),
        ("changes with a map's scale", Absolute()),
        ("values of shape", Short()),
        ("neither end of the curve is the score of the untouched input", Curved()),
    ],
)
def test_broken_metrics(words: str, metric: Any) -> None:
    with pytest.raises(AssertionError, match=words):
        check_metric(metric)


def test_an_unbroken_metric_and_a_refusal() -> None:
    left_out = check_metric(Share())
    assert isinstance(left_out, tuple)
    assert len(left_out) == 2

    class Refusing(Share):
        def __call__(self, question: Question, attribution: Attribution) -> Scores:
            raise Unsupported("needs layers")

    assert str(check_metric(Refusing())) == "needs layers"

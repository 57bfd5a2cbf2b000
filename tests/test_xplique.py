"""Xplique through the question: every number against the library's own code, and against the definitions it meets others on."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import xplique.attributions as native
import zoo
from cheap_xplique import CHEAP
from xplique.attributions.global_sensitivity_analysis import LatinHypercubeRS
from xplique.attributions.gradient_statistics.gradient_statistic import GradientStatistic

from crossxai import InvalidInput, Question, Target, UnknownName, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import discover, get
from crossxai.explainers.coalitions import lime_samples, shap_coalitions
from crossxai.explainers.groups import groups
from crossxai.explainers.keras_twin import TwinScores
from crossxai.explainers.noise import noise
from crossxai.explainers.xplique_bridge import seeded, swapped
from crossxai.model import Array, Cotangent, Inputs

X = zoo.values("image")[0]
ONE_HOT = np.eye(3, dtype=np.float32)[:2]


def close(found: Array, expected: Any, tolerance: float = 3e-5) -> None:
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def net(task: str = "class") -> Any:
    """The very network that goes to Xplique."""
    made = zoo.keras_net("image", task)
    return keras.Model(made.inputs[0], made.outputs[0])


def asked(framework: str, task: str = "class", **options: Any) -> Question:
    """Without standardisation, so that the library sees the same numbers."""
    named: dict[str, Any] = {"output_axes": ("y", "x", "class") if task == "segmentation" else ("class",)}
    if framework == "keras":
        return Question(KerasModel(net(task), (zoo.T1,), **named), (X,), zoo.target(task), **options)
    return Question(TorchModel(zoo.torch_net("image", task), (zoo.T1,), **named), (X,), zoo.target(task), **options)


OWN: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("xplique.gradient_input", {}, "GradientInput", {}),
    ("xplique.gradcam_plus_plus", {"layer": "t1_conv2"}, "GradCAMPP", {"conv_layer": "t1_conv2"}),
    ("xplique.gradcam_plus_plus", {"layer": "t1_conv1_relu"}, "GradCAMPP", {"conv_layer": "t1_conv1_relu"}),
    ("xplique.guided_backprop", {}, "GuidedBackprop", {}),
    ("xplique.deconv_net", {}, "DeconvNet", {}),
    ("xplique.sobol", {"designs": 4}, "SobolAttributionMethod", {"nb_design": 4}),
    (
        "xplique.sobol",
        {"grid": 3, "designs": 8, "estimator": "glen", "perturbation": "blurring"},
        "SobolAttributionMethod",
        {
            "grid_size": 3,
            "nb_design": 8,
            "estimator": native.global_sensitivity_analysis.GlenEstimator(),
            "perturbation_function": "blurring",
        },
    ),
    ("xplique.hsic", {"designs": 50}, "HsicAttributionMethod", {"nb_design": 50}),
    (
        "xplique.hsic",
        {"grid": 4, "designs": 30, "estimator": "sobolev", "sampler": "halton"},
        "HsicAttributionMethod",
        {
            "grid_size": 4,
            "nb_design": 30,
            "estimator": native.global_sensitivity_analysis.SobolevEstimator(),
            "sampler": native.global_sensitivity_analysis.HaltonSequence(),
        },
    ),
]


@pytest.mark.parametrize(("name", "params", "method", "options"), OWN)
def test_the_library_s_own_numbers(name: str, params: Any, method: str, options: Any) -> None:
    expected = getattr(native, method)(net(), **options)(X, ONE_HOT)
    for framework in ("torch", "keras"):
        close(get(name, **params)(asked(framework)).values[0], expected)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_fem(framework: str) -> None:
    """Also batch by batch, as the library asks for activations."""
    expected = native.FEM(net(), conv_layer="t1_conv2", k=1.0)(X, None)
    for size in (1, 32):
        close(get("xplique.fem", layer="t1_conv2", k=1.0)(asked(framework, batch_size=size)).values[0], expected)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_region_of_a_segmentation_map(framework: str) -> None:
    """Through the library's own operator for segmentation."""
    targets = (zoo.target("segmentation").weights != 0).astype(np.float32)
    for name in ("gradient_input", "guided_backprop"):
        method = {"gradient_input": native.GradientInput, "guided_backprop": native.GuidedBackprop}[name]
        expected = method(net("segmentation"), operator="semantic segmentation")(X, targets)
        close(get(f"xplique.{name}")(asked(framework, "segmentation")).values[0], expected)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_forgrad(framework: str) -> None:
    from xplique.commons import forgrad

    expected = forgrad(native.Saliency(net())(X, ONE_HOT), sigma=5)
    close(get("xplique.forgrad", sigma=5)(asked(framework)).values[0][..., 0], expected)


STATISTICS = {"smooth_grad": "SmoothGrad", "square_grad": "SquareGrad", "var_grad": "VarGrad"}


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_under_noise(framework: str, name: str) -> None:
    """The library's code with the same noise; batches smaller and larger than the samples, which it groups differently."""
    question = asked(framework)
    method = getattr(native, STATISTICS[name])(net(), nb_samples=6, noise=0.3)
    expected = []
    for row in range(2):
        drawn = noise(question, row, 6, 1)[0]
        with swapped(GradientStatistic, _perturb_samples=lambda x, n, sd, drawn=drawn: x + np.float32(sd) * drawn[:n]):
            expected.append(method(X[row : row + 1], ONE_HOT[row : row + 1]).numpy())
    for size in (1, 32):
        found = get(f"xplique.{name}", samples=6, sd=0.3, seed=1)(asked(framework, batch_size=size)).values[0]
        close(found, np.concatenate(expected), 2e-4)


def test_canonical_statistics_are_their_definitions() -> None:
    """sd a share of the range, gradients signed, over n, per channel, then summed."""
    wide = zoo.Modality.image("t1", range=(-1.0, 3.0))
    question = Question(TorchModel(zoo.torch_net("image", "class"), (wide,)), (X,), zoo.target("class"))
    expected: dict[str, list[Array]] = {name: [] for name in STATISTICS}
    for row in range(2):
        copies = X[row] + np.float32(0.1 * 4) * noise(question, row, 8, 0)[0]
        _, (gradients,) = question.score_and_grad((copies,), np.full(8, row))
        expected["smooth_grad"].append(gradients.mean(0).sum(-1, keepdims=True))
        expected["square_grad"].append((gradients**2).mean(0).sum(-1, keepdims=True))
        expected["var_grad"].append(gradients.astype(np.float64).var(0).sum(-1, keepdims=True))
    for name, maps in expected.items():
        found = get(f"xplique.{name}", profile="canonical", samples=8, sd=0.1)(question).values[0]
        close(found, np.stack(maps), 1e-3)  # the library's variance is a difference of squares in float32


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("name", ["lime", "kernel_shap"])
def test_surrogates(framework: str, name: str) -> None:
    """The library's own segments, draws and regression, under the same seed."""
    question = asked(framework)
    expected = []
    for row in range(2):
        method = {"lime": native.Lime, "kernel_shap": native.KernelShap}[name](net(), nb_samples=40)
        method.pertub_func = method.pertub_func.python_function
        with seeded(None, int(question.rng(row, 3).integers(2**31))):
            expected.append(method(X[row : row + 1], ONE_HOT[row : row + 1]).numpy())
    for size in (3, 32):
        found = get(f"xplique.{name}", samples=40, seed=3)(asked(framework, batch_size=size))
        close(found.values[0], np.concatenate(expected), 1e-4)


def test_the_library_s_shared_regression_is_not_fitted() -> None:
    """Xplique's default is one Ridge object for all who explain; it must come out of our calls as it was."""
    shared = native.Lime.__init__.__defaults__[2]
    shared.coef_ = "untouched"
    get("xplique.lime", samples=20)(asked("torch"))
    assert shared.coef_ == "untouched"


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_a_latin_hypercube_per_sample(framework: str) -> None:
    question = asked(framework)
    expected = []
    for row in range(2):
        sampler = LatinHypercubeRS()
        draw = partial(sampler.qmc.LatinHypercube, seed=question.rng(row, 2))
        sampler.qmc = type("Seeded", (), {"LatinHypercube": staticmethod(draw)})
        method = native.SobolAttributionMethod(net(), grid_size=3, nb_design=8, sampler=sampler)
        expected.append(method(X[row : row + 1], ONE_HOT[row : row + 1]).numpy())
    explainer = get("xplique.sobol", grid=3, designs=8, sampler="latin_hypercube", seed=2)
    close(explainer(question).values[0], np.concatenate(expected), 1e-4)
    close(explainer(question[[1]]).values[0], expected[1], 1e-4)


def test_canonical_lime_is_lime_s_own_regression() -> None:
    """The lime library, given our segments, our binary samples and our fill."""
    from lime.lime_image import LimeImageExplainer

    question = asked("torch")
    found = get("xplique.lime", profile="canonical", samples=60, segmentation="slic", patch=4, fill=0.25)(question)
    for row in range(2):
        labels = groups(question, row, "slic", 4, 0)[0][..., 0]
        shown = lime_samples(question.rng(row, 0), 60, labels.max() + 1)
        explainer = LimeImageExplainer(feature_selection="none")
        explainer.random_state = type("Given", (), {"randint": lambda self, a, b, size, z=shown: z.ravel()})()
        answer = explainer.explain_instance(
            X[row],
            lambda images, row=row: question.score((images.astype(np.float32),), np.full(len(images), row))[:, None],
            labels=(0,),
            top_labels=None,
            hide_color=0.25,
            num_samples=60,
            segmentation_fn=lambda _image, labels=labels: labels,
            random_seed=0,
        )
        close(found.values[0][row, ..., 0], np.vectorize(dict(answer.local_exp[0]).get)(labels), 1e-4)
        fit = answer.score[0] if isinstance(answer.score, dict) else answer.score
        assert abs(found.extras["r2"][row] - fit) < 1e-4


def test_canonical_kernel_shap_is_the_constrained_regression() -> None:
    question = asked("torch")
    answer = get("xplique.kernel_shap", profile="canonical", samples=50, segmentation="grid", patch=8, fill=0.5)(
        question
    )
    labels = groups(question, 0, "grid", 8)[0]
    full, empty = question.score(), question.score((np.full_like(X, 0.5),), [0, 1])
    for row in range(2):
        values = answer.values[0][row, [0, 0, 8, 8], [0, 8, 0, 8], 0].astype(np.float64)
        assert abs(values.sum() - (full[row] - empty[row])) < 1e-5
        z = shap_coalitions(question.rng(row, 0), 50, 4)
        copies = np.where(z[:, labels] == 1, X[row], np.float32(0.5))
        y = question.score((copies,), np.full(50, row)).astype(np.float64) - empty[row]
        # Lagrange: minimise |z v - y|² with sum(v) = total.
        system = np.block([[z.T @ z, np.ones((4, 1))], [np.ones((1, 4)), np.zeros((1, 1))]])
        solved = np.linalg.solve(system, np.append(z.T @ y, full[row] - empty[row]))[:4]
        np.testing.assert_allclose(values, solved, atol=1e-5)
    native_answer = get("xplique.kernel_shap", samples=50, segmentation="grid", patch=8, fill=0.5)(question).values[0]
    assert abs(native_answer[0, [0, 0, 8, 8], [0, 8, 0, 8], 0].sum() - (full[0] - empty[0])) > 1e-4


def test_canonical_gradcam_plus_plus_has_the_paper_s_sums() -> None:
    question = asked("torch")
    _, a, g = question.layer_score_and_grad("t1_conv2_relu")
    denominator = 2 * g**2 + a.sum((1, 2), keepdims=True) * g**3
    alpha = np.divide(g**2, denominator, out=np.zeros_like(g), where=g != 0)
    weights = (alpha * np.maximum(g, 0)).sum((1, 2), keepdims=True)
    from crossxai.resize import bilinear

    expected = bilinear(np.maximum((weights * a).sum(-1), 0), 16, 16)[..., None]
    close(get("xplique.gradcam_plus_plus", profile="canonical", layer="t1_conv2_relu")(question).values[0], expected)


def awkward(kind: str) -> Any:
    """Networks whose ReLUs the library does not find: inside another model, or fused with a pre-activation."""
    x = start = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3)(x)
    if kind == "nested":
        inner = keras.Input(x.shape[1:])
        x = keras.Model(inner, keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(keras.layers.ReLU()(inner))))(x)
    else:
        x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Activation("relu")(x))
    model = keras.Model(start, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * 0.4)
    return model


@pytest.mark.parametrize("name", ["guided_backprop", "deconv_net"])
@pytest.mark.parametrize("kind", ["nested", "fused", "torch"])
def test_no_relu_keeps_its_gradient(name: str, kind: str) -> None:
    """Against the same network written out by hand; and it is not the plain gradient, which the library gives for a nested
    model."""
    model = zoo.model("torch") if kind == "torch" else KerasModel(awkward(kind), (zoo.T1,))
    question = Question(model, (X,), zoo.target("class"))
    found = get(f"xplique.{name}")(question)
    plain = question.score_and_grad()[1][0].mean(-1, keepdims=True)
    assert np.abs(found.values[0] - plain).max() > 0.1 * np.abs(plain).max()
    assert found.extras["twin_gap"].shape == (2,)
    assert found.extras["twin_gap"].max() < 1e-5
    method = {"guided_backprop": native.GuidedBackprop, "deconv_net": native.DeconvNet}[name]
    if kind == "nested":
        close(method(awkward(kind))(X, ONE_HOT).numpy(), plain)
    if kind != "torch":
        given = awkward(kind).get_weights()
        x = start = keras.Input((16, 16, 3))
        x = keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(x))
        x = keras.layers.ReLU()(keras.layers.Conv2D(4, 3)(x))
        flat = keras.Model(start, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
        flat.set_weights(given)
        close(found.values[0], method(flat)(X, ONE_HOT))


@pytest.mark.parametrize("inputs", zoo.INPUTS)
@pytest.mark.parametrize("link", ["identity", "softmax", "sigmoid"])
def test_the_twin_s_operator_is_the_question(inputs: str, link: Any) -> None:
    """Held modalities, weights and link, in TensorFlow, for copies of rows in any order: scores and gradients."""
    import tensorflow as tf

    task = "segmentation" if link == "softmax" else "class"
    for part in Question(
        zoo.model("torch", inputs, task), zoo.values(inputs, 3), Target(zoo.target(task, 3).weights, link)
    ).parts():
        scores = TwinScores(part)
        rows = np.array([2, 0, 0, 1])
        x = tf.constant(part.values[0][rows] * np.float32(0.9))
        with tf.GradientTape() as tape:
            tape.watch(x)
            found = scores.operator(scores.found.module, x, rows[:, None].astype(np.float32))
        expected, (gradient,) = part.score_and_grad((x.numpy(),), rows)
        close(found.numpy(), expected)
        close(tape.gradient(found, x).numpy(), gradient, 1e-3)
        np.testing.assert_array_equal(scores.seen, found.numpy()[[2, 3, 0]])


def test_rewriting_is_refused_with_the_reason() -> None:
    inner = zoo.model("torch")
    function = FunctionModel(lambda x: inner.predict((x,)), (zoo.T1,))
    with pytest.raises(Unsupported, match="cannot say what it is made of"):
        get("xplique.guided_backprop")(Question(function, (X,), zoo.target("class")))
    start = keras.Input((16, 16, 3))
    smooth = keras.Model(start, keras.layers.Dense(3)(keras.layers.Flatten()(start)))
    with pytest.raises(Unsupported, match=r"changes the gradient at ReLUs, and model 'keras' has none: use xplique\."):
        get("xplique.deconv_net")(Question(KerasModel(smooth, (zoo.T1,)), (X,), zoo.target("class")))


CASES = [(name, profile) for name, kind in discover().items() if kind.library == "xplique" for profile in kind.profiles]


class Counting:
    """A model that counts the samples passing through it forwards and backwards."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.name, self.modalities = inner, inner.name, inner.modalities
        self.forward = self.backward = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def predict(self, inputs: Inputs) -> Array:
        self.forward += len(inputs[0])
        return self.inner.predict(inputs)

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> Any:
        self.forward, self.backward = self.forward + len(inputs[0]), self.backward + len(inputs[0])
        return self.inner.vjp(inputs, cotangent)

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> Any:
        self.forward, self.backward = self.forward + len(inputs[0]), self.backward + len(inputs[0])
        return self.inner.layer_vjp(inputs, cotangent, layer)


@pytest.mark.parametrize(("name", "profile"), CASES)
def test_contract(name: str, profile: str) -> None:
    """Passes as announced; the same answer in other batches and another order; TensorFlow's stream goes on."""
    import tensorflow as tf

    layer = {"layer": "t1_conv2"} if discover()[name].needs == "layers" else {}
    explainer: Any = get(name, profile=profile, **CHEAP.get(name, {}), **layer)
    counting = Counting(zoo.model("torch", "image+table"))
    question = Question(counting, zoo.values("image+table", 3), zoo.target("class", 3), batch_size=3)
    tf.random.set_seed(1)
    following = [float(tf.random.uniform(())) for _ in range(2)][1]
    tf.random.set_seed(1)
    tf.random.uniform(())
    answer = explainer(question)
    assert float(tf.random.uniform(())) == following
    forward, backward = explainer.cost(question)
    # On a twin, the map's own passes run there, and the model's are the score's and the certificate's (of four samples).
    expected_passes = (3 * forward, 0 if explainer.needs == "module" else 3 * backward)
    assert (counting.forward, counting.backward) == expected_passes
    assert all(np.isfinite(values).all() for values in answer.values)
    assert max(np.ptp(values) for values in answer.values) > 0
    again = explainer(Question(counting, question.inputs, question.target, batch_size=1)[[2, 0]])
    # Every window of a max-pool is a tie on a constant baseline, where the path starts: rounding, so the batch, decides.
    tolerance = 0.3 if name == "xplique.integrated_gradients" else 2e-5
    for found, expected in zip(again.values, answer.values, strict=True):
        np.testing.assert_allclose(found, expected[[2, 0]], atol=tolerance * np.abs(expected).max())


def test_nothing_is_kept() -> None:
    """Not the question, whose gradient TensorFlow registers for ever when it traces one, and neither twins nor their copies."""
    cached = dict(native.Saliency._cache_models)
    explainers = [get("xplique.saliency"), get("xplique.guided_backprop"), get("xplique.lime", samples=10)]

    def ask() -> weakref.ref[Question]:
        question = asked("keras")
        for explainer in explainers:
            explainer(question)
        return weakref.ref(question)

    def alive() -> tuple[int, float]:
        gc.collect()
        with open("/proc/self/statm") as file:
            return len(gc.get_objects()), int(file.read().split()[1]) * 4096 / 2**20

    question = asked("keras")
    for _ in range(3):
        explainers[1](question)
    objects, megabytes = alive()
    for _ in range(20):
        explainers[1](question)
    more, now = alive()
    assert more - objects < 2000  # a traced network of this size leaves 2000 behind at every call
    assert now - megabytes < 8
    assert native.Saliency._cache_models == cached
    gone = ask()
    gc.collect()
    assert gone() is None


def test_traces_are_shared_between_questions() -> None:
    from crossxai.explainers.xplique_bridge import _traced

    gradient, _ = _traced()
    get("xplique.saliency")(asked("torch"))
    before = gradient.experimental_get_tracing_count()
    for name in ("xplique.saliency", "xplique.gradient_input", "xplique.forgrad"):
        get(name, **CHEAP.get(name, {}))(asked("torch"))
    assert gradient.experimental_get_tracing_count() == before


@pytest.mark.parametrize(
    ("name", "params", "error", "words"),
    [
        ("xplique.lime", {"segmentation": "scalars"}, InvalidInput, "write grid, not scalars"),
        ("xplique.lime", {"segmentation": "squares"}, InvalidInput, "segmentation is one of"),
        ("xplique.kernel_shap", {"samples": 1}, InvalidInput, "samples ≥ 2"),
        ("xplique.var_grad", {"samples": 1}, InvalidInput, "samples ≥ 2"),
        ("xplique.smooth_grad", {"sd": 0.0}, InvalidInput, "sd > 0"),
        ("xplique.sobol", {"designs": 6}, InvalidInput, "power of two"),
        ("xplique.sobol", {"grid": 24}, InvalidInput, "scipy_sobol"),
        ("xplique.sobol", {"estimator": "jensen"}, UnknownName, "did you mean jansen"),
        ("xplique.hsic", {"sampler": "dice"}, UnknownName, "sampler of xplique.hsic"),
        ("xplique.fem", {"k": -1.0}, InvalidInput, "k must be at least 0"),
        ("xplique.forgrad", {"sigma": 0}, InvalidInput, "sigma must be at least 1"),
    ],
)
def test_bad_parameters(name: str, params: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        get(name, **params)


def test_what_the_library_cannot_do_is_said() -> None:
    question = asked("torch")
    with pytest.raises(InvalidInput, match="sigma 17 is larger"):
        get("xplique.forgrad", sigma=17)(question)
    for profile in ("native", "canonical"):
        with pytest.raises(Unsupported, match=r"there is only 1|has only one"):
            get("xplique.kernel_shap", profile=profile, segmentation="modalities")(question)
    two = zoo.Modality.image("pair", channels=("a", "b"))
    pair = FunctionModel(lambda x: x.mean(axis=(1, 2)), (two,))
    odd = Question(pair, (X[:, :, :12, :2].copy(),), Target.outputs(0, 2, 2))
    with pytest.raises(Unsupported, match="1 or 3 channels"):
        get("xplique.lime")(odd)
    assert np.ptp(get("xplique.lime", segmentation="grid", patch=4, fill=0.0)(odd).values[0]) > 0
    differentiable = TorchModel(zoo.torch_net("image", "class"), (zoo.T1,))
    wide = Question(differentiable, (X[:, :, :12].copy(),), zoo.target("class"))
    with pytest.raises(Unsupported, match="square images; modality 't1' is 16 × 12"):
        get("xplique.forgrad")(wide)

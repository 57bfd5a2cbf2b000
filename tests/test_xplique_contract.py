"""What Xplique's explainers promise beyond their numbers: passes, order, memory, errors, and meeting other libraries."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import xplique.attributions as native
from cheap import CHEAP
from networks import zoo
from test_xplique import X, asked

from crossxai import InvalidInput, Question, Target, UnknownName, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.adapters.torch import TorchModel
from crossxai.explainers import discover, get
from crossxai.testing import Counting

CASES = [(name, profile) for name, kind in discover().items() if kind.library == "xplique" for profile in kind.profiles]


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
    if explainer.needs == "module":  # the map's own passes run on the twin; the model gives the score beside it
        forward, backward = forward // 2, 0
    expected_passes = (3 * forward, 3 * backward)
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
    from crossxai.explainers.xplique import _traced

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
        ("xplique.kernel_shap", {"samples": 1}, InvalidInput, "samples must be at least 2"),
        ("xplique.var_grad", {"samples": 1}, InvalidInput, "samples must be at least 2"),
        ("xplique.smooth_grad", {"sd": 0.0}, InvalidInput, "sd must be positive"),
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


NOISE = {"samples": 6, "sd": 0.1}
XPLIQUE = {"samples": 60, "segmentation": "grid", "patch": 4, "fill": 0.3}
GROUPS = {"samples": 60, "segmentation": "grid", "patch": 4, "baseline": 0.3}


@pytest.mark.parametrize(
    ("name", "other", "params", "theirs"),
    [
        ("gradient_input", "captum.input_x_gradient", {}, {}),
        ("smooth_grad", "captum.smooth_grad", NOISE, NOISE),
        ("square_grad", "captum.smooth_grad_sq", NOISE, NOISE),
        ("var_grad", "captum.var_grad", NOISE, NOISE),
        ("gradcam_plus_plus", "gradcam.gradcam_plus_plus", {}, {}),
        ("occlusion", "captum.occlusion", {"patch": 4, "stride": 4}, {"patch": 4, "stride": 4}),
        ("lime", "lime.image", {"samples": 60, "fill": 0.25}, {"samples": 60, "fill": 0.25}),
        ("lime", "captum.lime", XPLIQUE, GROUPS),
        ("lime", "reference.lime", XPLIQUE, GROUPS),
        ("kernel_shap", "captum.kernel_shap", XPLIQUE, GROUPS),
        ("kernel_shap", "reference.kernel_shap", XPLIQUE, GROUPS),
        ("guided_backprop", "captum.guided_backprop", {}, {}),
        ("deconv_net", "captum.deconvolution", {}, {}),
    ],
)
def test_libraries_meet(name: str, other: str, params: Any, theirs: Any) -> None:
    """On each modality of an image + table network in Keras, the other held, for a region of a segmentation map."""
    for part in zoo.question("keras", "image+table", "segmentation").parts():
        (modality,) = part.modalities
        if any(modality.kind not in discover()[one].kinds for one in (f"xplique.{name}", other)):
            continue
        found = get(f"xplique.{name}", profile="canonical", **params)(part).values[0]
        expected = get(other, profile="canonical", **theirs)(part).values[0]
        assert np.ptp(expected) > 0
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())

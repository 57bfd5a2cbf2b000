"""Making explainers by name, parameters and profiles; what single libraries do at the edges."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from networks import toys

from crossxai import InvalidInput, Modality, Question, Target, UnknownName, Unsupported
from crossxai.adapters.numpy import FunctionModel
from crossxai.documentation import PAPERS
from crossxai.explainers import discover, get


def test_the_list() -> None:
    assert set(discover()) >= {
        "captum.saliency",
        "captum.integrated_gradients",
        "captum.input_x_gradient",
        "captum.occlusion",
        "gradcam.gradcam",
        "gradcam.hirescam",
        "gradcam.gradcam_plus_plus",
        "lime.image",
        "xplique.saliency",
        "xplique.integrated_gradients",
        "xplique.gradcam",
        "xplique.occlusion",
        "xplique.rise",
        "attention.rollout",
        "attention.relevance",
        "controls.random",
        "controls.centre",
        "controls.edges",
        "controls.oracle",
    }
    for name, kind in discover().items():
        assert kind.name == name
        assert name.startswith(f"{kind.library}.")
        assert kind.summary
        assert (kind.__doc__ or "").strip()
        assert kind.profiles in (("native", "canonical"), ("native",), ("canonical",))


def test_every_parameter_is_documented_with_its_default_and_every_paper_in_full() -> None:
    for name, kind in discover().items():
        lines = (kind.__doc__ or "").splitlines()
        for field in dataclasses.fields(kind):
            (header,) = [line for line in lines if line.startswith(f"{field.name} : ")]
            assert header.endswith(f", default {field.default!r}"), (name, header)
            assert lines[lines.index(header) + 1].startswith("    ")
        assert ("References" in lines) == bool(kind.reference), name
        assert not kind.reference or kind.reference in PAPERS or kind.reference in OPEN, name
        assert {f"Profile {p!r}: {kind.conventions[p]}." for p in kind.profiles if p in kind.conventions} <= set(lines)


OPEN = ("Chung & Ying 2025", "arXiv 2605.14641, 2026")
"""Papers that the library names without a title."""


@pytest.mark.parametrize(
    ("name", "params", "error", "message"),
    [
        (
            "captum.salience",
            {},
            UnknownName,
            r"no explainer is called 'captum\.salience'; did you mean captum\.saliency",
        ),
        ("captum.saliency", {"step": 3}, UnknownName, "no parameter of captum.saliency is called 'step'"),
        ("captum.integrated_gradients", {"step": 3}, UnknownName, "did you mean steps"),
        ("captum.saliency", {"profile": "paper"}, InvalidInput, "no profile 'paper': write native or canonical"),
        ("xplique.rise", {"profile": "canonical"}, InvalidInput, "no profile 'canonical': write native"),
        ("captum.integrated_gradients", {"steps": 1}, InvalidInput, "steps must be at least 2, got 1"),
        ("captum.occlusion", {"patch": 4, "stride": 8}, InvalidInput, "stride ≤ patch"),
        ("xplique.occlusion", {"stride": 0}, InvalidInput, "stride ≤ patch"),
        ("lime.image", {"samples": 1}, InvalidInput, "samples must be at least 2"),
        ("xplique.rise", {"keep": 1.0}, InvalidInput, "0 < keep < 1"),
        ("controls.centre", {"sd": 0}, InvalidInput, "sd must be positive"),
        ("controls.centre", {"sd": "x"}, InvalidInput, "sd is a finite number, got 'x'"),
        ("controls.centre", {"sd": float("nan")}, InvalidInput, "sd is a finite number, got nan"),
        ("controls.oracle", {"ids": (1, 2)}, InvalidInput, "ids are the samples' names"),
        ("controls.random", {"seed": -1}, InvalidInput, "seed must be at least 0"),
        ("controls.random", {"seed": 1.5}, InvalidInput, "seed is a whole number, got 1.5"),
        ("captum.integrated_gradients", {"steps": 2.5}, InvalidInput, "steps is a whole number, got 2.5"),
        ("captum.integrated_gradients", {"baseline": "black"}, InvalidInput, "baseline is a finite number"),
        ("lime.image", {"fill": "grey"}, InvalidInput, "fill is a finite number or nothing, got 'grey'"),
        ("gradcam.gradcam", {"layer": 3}, InvalidInput, "layer is a text, got 3"),
    ],
)
def test_wrong_names_and_parameters(name: str, params: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        get(name, **params)


def test_canonical_profiles_make_the_libraries_meet() -> None:
    """What the profile is for: the same definition, whichever library computes it."""
    question = toys.question(toys.torch_model())
    pairs: list[tuple[str, str, dict[str, Any]]] = [
        ("captum.saliency", "xplique.saliency", {}),
        ("captum.integrated_gradients", "xplique.integrated_gradients", {"steps": 15, "baseline": 0.2}),
        ("gradcam.gradcam", "xplique.gradcam", {"layer": "conv2"}),
        ("captum.occlusion", "xplique.occlusion", {"patch": 8, "stride": 4}),
    ]
    for first, second, params in pairs:
        canonical, native = (
            [get(name, profile=p, **params)(question).values[0] for name in (first, second)]
            for p in ("canonical", "native")
        )
        scale = np.abs(canonical[0]).max()
        np.testing.assert_allclose(canonical[0], canonical[1], atol=5e-6 * scale, err_msg=first)
        gap = np.abs(native[0] - native[1]).max() / np.abs(native[0]).max()
        assert gap > 0.01, (
            f"{first} and {second} agree without the canonical profile: the conventions page is out of date"
        )


def test_occlusion_that_leaves_a_border_is_refused_where_it_would_lie() -> None:
    question = toys.question(toys.torch_model())
    with pytest.raises(Unsupported, match=r"patches of 8 at stride 5 leave a border of \(32, 32\) uncovered"):
        get("xplique.occlusion", profile="canonical", patch=8, stride=5)(question)
    for name in ("captum.occlusion", "xplique.occlusion"):
        with pytest.raises(InvalidInput, match=r"patch 64 is larger than modality 'image' \(32, 32\)"):
            get(name, patch=64, stride=8)(question)


def test_many_samples_are_explained_in_chunks() -> None:
    """More samples than fit in one chunk: extras and maps keep their order."""
    x = toys.images(11)
    model = toys.torch_model()
    whole = Question(model, (x,), Target.classes(np.arange(11) % 3, 3), batch_size=64)
    small = Question(model, (x,), Target.classes(np.arange(11) % 3, 3), batch_size=2)
    for name, params in (("captum.integrated_gradients", {"steps": 4}), ("xplique.integrated_gradients", {"steps": 4})):
        a, b = (get(name, **params)(q) for q in (whole, small))
        np.testing.assert_allclose(a.values[0], b.values[0], atol=1e-6)
        np.testing.assert_allclose(a.extras["completeness_gap"], b.extras["completeness_gap"], atol=1e-5)
    cam = [get("gradcam.gradcam", layer="conv2")(q).values[0] for q in (whole, small)]
    np.testing.assert_allclose(cam[0], cam[1], atol=1e-5)


def test_one_channel_and_tables() -> None:
    grey = Modality.image(channels=("grey",))
    model = FunctionModel(lambda x: x.reshape(len(x), -1)[:, :2], (grey,))
    question = Question(model, (toys.images(2)[..., :1],), Target.classes([0, 1], 2))
    for name, params in (("lime.image", {"samples": 20}), ("xplique.rise", {"samples": 20}), ("controls.edges", {})):
        assert get(name, **params)(question).values[0].shape == (2, 32, 32, 1)
    two = Modality.image(channels=("t1", "t2"))
    question = Question(
        FunctionModel(lambda x: x.reshape(len(x), -1)[:, :2], (two,)),
        (toys.images(2)[..., :2],),
        Target.classes([0, 1], 2),
    )
    assert get("lime.image", samples=20)(question).values[0].shape == (2, 32, 32, 1)
    table = Modality.table(("a", "b", "c", "d"))
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    weights = np.array([1.0, -2.0, 0.5, 3.0], np.float32)
    question = Question(FunctionModel(lambda x: (x @ weights)[:, None], (table,)), (rows,), Target.outputs(0, 3, 1))
    np.testing.assert_allclose(get("captum.occlusion")(question).values[0], rows * weights, atol=1e-6)
    np.testing.assert_allclose(
        get("xplique.occlusion", patch=1, stride=1)(question).values[0], rows * weights, atol=1e-6
    )
    with pytest.raises(InvalidInput, match=r"patch 5 is larger than modality 'table' \(4,\)"):
        get("xplique.occlusion", patch=5, stride=1)(question)
    for name in ("controls.centre", "controls.edges", "lime.image"):
        with pytest.raises(Unsupported, match="table"):
            get(name)(question)


def test_the_question_decides_what_is_explained() -> None:
    """Probability instead of logit is a property of the question, not of the explainer."""
    model, x = toys.torch_model(), toys.images(2)
    logit, probability = (Question(model, (x,), Target.classes([0, 1], 3, link)) for link in ("identity", "softmax"))
    a, b = (get("captum.saliency")(q).values[0] for q in (logit, probability))
    assert not np.allclose(a, b)
    assert (np.abs(b).sum(axis=(1, 2, 3)) < np.abs(a).sum(axis=(1, 2, 3))).all()


@pytest.mark.parametrize("name", ["gradcam.gradcam", "xplique.gradcam", "lime.image"])
def test_maps_of_space_need_an_image(name: str) -> None:
    """A table beside the image: the reason, not a crash."""
    modalities = (Modality.image(), Modality.table(("a", "b")))
    question = Question(
        image_and_table()(modalities), (toys.images(2), np.zeros((2, 2), np.float32)), Target.outputs(0, 2, 1)
    )
    with pytest.raises(
        Unsupported, match=r"explains images and volumes; there is only modality 'table' \(axes feature\)"
    ):
        get(name)(question.only("table"))


def image_and_table() -> Any:
    """A model of an image and a table with one layer, for tests of what is refused."""

    class Net:
        name = "both"

        def __init__(self, modalities: tuple[Modality, ...]) -> None:
            self.modalities = modalities

        def predict(self, inputs: Any) -> Any:
            return inputs[0].mean(axis=(1, 2, 3))[:, None] + inputs[1].sum(axis=1, keepdims=True)

        def vjp(self, inputs: Any, cotangent: Any) -> Any:
            raise AssertionError("not asked here")

        def activations(self, inputs: Any) -> Any:
            return {"image": inputs[0]}

        def layer_vjp(self, inputs: Any, cotangent: Any, layer: str) -> Any:
            raise AssertionError("not asked here")

        def read(self, inputs: Any, layer: str) -> Any:
            raise AssertionError("not asked here")

        def replace(self, inputs: Any, layer: str, activation: Any) -> Any:
            raise AssertionError("not asked here")

    return Net


def test_xplique_refuses_volumes() -> None:
    """It reduces channels of 2-D images only, and would give maps per channel under another name."""
    volume = Modality("volume", ("z", "y", "x", "channel"), ("t1", "t2"))
    model = FunctionModel(lambda v: v.reshape(len(v), -1)[:, :1], (volume,))
    question = Question(model, (np.zeros((2, 4, 4, 4, 2), np.float32),), Target.outputs(0, 2, 1))
    for name in ("xplique.occlusion", "xplique.rise"):
        with pytest.raises(Unsupported, match=r"explains images and tables; .* 'volume' \(axes z, y, x, channel\)"):
            get(name)(question)


def test_tensorflow_s_random_stream_goes_on() -> None:
    """RISE seeds TensorFlow for its masks; the user's next draw must be the next, not an old one."""
    import tensorflow as tf

    tf.random.set_seed(1)
    expected = [float(tf.random.uniform(())) for _ in range(3)]
    tf.random.set_seed(1)
    found = [float(tf.random.uniform(()))]
    get("xplique.rise", samples=10)(toys.question(toys.torch_model(), n=1))
    found += [float(tf.random.uniform(())) for _ in range(2)]
    assert found == expected


def test_an_error_of_the_question_keeps_its_type_through_xplique() -> None:
    question = Question(toys.torch_model(), (toys.images(2),), Target.classes([0, 1], 5))
    for name in ("xplique.saliency", "xplique.occlusion"):
        with pytest.raises(InvalidInput, match=r"outputs of shape \(5,\)"):
            get(name)(question)


def test_the_oracle_is_the_truth_that_it_is_told() -> None:
    question = toys.question(toys.torch_model())
    n, side = len(question), question.inputs[0].shape[1]
    masks = np.zeros((n, side, side))
    masks[0, :3], masks[1, 4:6, 2] = 1, 1  # the last sample's truth is not known
    oracle = get("controls.oracle", masks=masks, ids=question.ids)
    answer = oracle(question)
    np.testing.assert_array_equal(answer.values[0][:2, ..., 0], masks[:2] != 0)
    assert np.isnan(answer.values[0][2]).all()
    assert answer.degenerate().tolist() == ["", "", "nan"]
    swapped = oracle(question[[1, 0]])
    np.testing.assert_array_equal(swapped.values[0], answer.values[0][[1, 0]])
    named = question.modalities[0].name
    by_name = get("controls.oracle", masks={named: masks}, ids=question.ids)
    np.testing.assert_array_equal(by_name(question).values[0], answer.values[0])
    assert repr(oracle) == repr(get("controls.oracle", masks=masks != 0, ids=question.ids))
    assert repr(oracle) != repr(get("controls.oracle", masks=masks[::-1], ids=question.ids))
    assert oracle == get("controls.oracle", masks=masks, ids=question.ids) != by_name
    for params, error, message in (
        ({}, Unsupported, "needs the truth, and none is known here: give masks="),
        ({"masks": masks[:2]}, InvalidInput, r"masks have shape \(2, 32, 32\)"),
        ({"masks": masks[:2], "ids": question.ids[:2]}, InvalidInput, "no mask for samples"),
        ({"masks": masks[:2], "ids": question.ids}, InvalidInput, "2 masks for 3 ids"),
        ({"masks": {"other": masks}}, Unsupported, "knows the truth of other, not of"),
    ):
        with pytest.raises(error, match=message):
            get("controls.oracle", **params)(question)

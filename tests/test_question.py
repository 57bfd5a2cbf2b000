"""Question, Target, Modality and Attribution: arithmetic by hand, and an error that helps for each wrong use."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from networks import toys, zoo

from crossxai import Attribution, InvalidInput, Modality, Question, Target, UnknownName
from crossxai.adapters.numpy import FunctionModel
from crossxai.explainers.families import bilinear
from crossxai.explainers.groups import FiniteQuestion

RNG = np.random.default_rng(0)


def test_target_scores_by_hand() -> None:
    outputs = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    rows = np.arange(2)
    np.testing.assert_allclose(Target.classes([1, 2], 3).score(outputs, rows), [2.0, 3.0])
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(Target.classes([1, 2], 3, "softmax").score(outputs, rows), [p[0, 1], p[1, 2]])
    np.testing.assert_allclose(
        Target.classes([1, 2], 3, "sigmoid").score(outputs, rows), 1 / (1 + np.exp([-2.0, -3.0]))
    )
    np.testing.assert_allclose(Target.outputs(0, 2, 3).score(outputs, rows), [1.0, 0.0])
    np.testing.assert_allclose(Target.classes([1, 2], 3).score(outputs[[1, 0, 1]], np.array([0, 0, 1])), [-1, 2, 3])


def test_regions_are_means_over_the_mask() -> None:
    outputs = RNG.random((2, 4, 4, 3))
    masks = RNG.random((2, 4, 4)) > 0.5
    expected = [outputs[i, ..., 2][masks[i]].mean() for i in range(2)]
    np.testing.assert_allclose(Target.regions(masks, 2, 3).score(outputs, np.arange(2)), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Target.classes([0, 2], 2), r"labels of 2 classes lie in 0 … 1, got 0 … 2"),
        (lambda: Target.classes([-1, 0], 2), r"labels of 2 classes lie in 0 … 1"),
        (lambda: Target.classes([0.5], 2), "labels must be integers of shape"),
        (lambda: Target.classes([[0]], 2), r"got int64 of shape \(1, 1\)"),
        (lambda: Target.classes([0], 2, "logit"), "unknown link 'logit': write one of identity, softmax, sigmoid"),  # type: ignore[arg-type]
        (lambda: Target.regions(np.zeros((1, 2, 2)), 0, 2), r"the masks of samples \[0\] are empty"),
        (lambda: Target.classes([0], 1, "softmax"), 'softmax over one output is always 1: write link="sigmoid"'),
        (lambda: Modality.table("age"), "names are a tuple"),  # type: ignore[arg-type]
        (lambda: Modality.image(range=(1, 0)), "range is \\(smallest, largest\\)"),
        (lambda: Target(np.zeros(3)), r"weights need shape \(n, \*out\)"),
        (lambda: Modality("x", ("y", "x"), ("a",)), "axes must end with 'channel' or 'feature'"),
        (lambda: Modality.table(()), "name the features"),
    ],
)
def test_wrong_targets_and_modalities(make: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


def test_wrong_questions() -> None:
    model, x = toys.torch_model(), toys.images(2)
    target = Target.classes([0, 1], 3)
    with pytest.raises(InvalidInput, match="different numbers of samples"):
        Question(model, (x,), Target.classes([0], 3))
    with pytest.raises(InvalidInput, match="ids must be 2 different strings"):
        Question(model, (x,), target, ids=("a", "a"))
    with pytest.raises(UnknownName, match="did you mean image"):
        Question(model, (x,), target).only("imagee")
    for wrong in (0, 2.5, "3"):
        with pytest.raises(InvalidInput, match="batch_size must be a whole number of at least 1"):
            Question(model, (x,), target, batch_size=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no sample to explain"):
        Question(model, (x[:0],), target[:0])
    with pytest.raises(InvalidInput, match=r"write Target\.classes"):
        Question(model, (x,), None)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="takes a Model, got Sequential: wrap it"):
        Question(toys.torch_net(), (x,), target)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"write question\[\[1\]\]"):
        Question(model, (x,), target)[1]  # type: ignore[index]
    with pytest.raises(InvalidInput, match="name the modalities to explain: image"):
        Question(model, (x,), target).only()
    with pytest.raises(InvalidInput, match="rows must be sample numbers 0 … 1"):
        Question(model, (x,), target).score((x,), [0, 2])
    with pytest.raises(InvalidInput, match="one array per free modality"):
        Question(model, (x,), target).score((x[:1],), [0, 1])


def test_scores_do_not_depend_on_batches() -> None:
    seen: list[int] = []

    def function(x: Any) -> Any:
        seen.append(len(x))
        return x.reshape(len(x), -1).sum(axis=1, keepdims=True)

    model = FunctionModel(function, (toys.IMAGE,))
    x = toys.images(7)
    question = Question(model, (x,), Target.outputs(0, 7, 1), batch_size=3, check="off")
    np.testing.assert_allclose(question.score(), x.reshape(7, -1).sum(axis=1), rtol=1e-5)
    assert seen == [3, 3, 1]


def test_a_part_of_a_question_keeps_names_and_draws() -> None:
    question = toys.question(toys.torch_model(), n=3, ids=("a", "b", "c"))
    part = question[[2, 0]]
    assert part.ids == ("c", "a")
    assert part.rng(0, 5).random() == question.rng(2, 5).random() != question.rng(2, 6).random()
    assert len(question[1:]) == 2


def test_attributions_know_their_units_and_their_faults() -> None:
    maps = RNG.normal(size=(4, 2, 2, 3))
    maps[1], maps[2], maps[3, 0, 0, 0] = 0, 7, np.inf
    answer = Attribution((maps,), (toys.IMAGE,), ("a", "b", "c", "d"), "test")
    assert answer.degenerate().tolist() == ["", "zero", "constant", "nan"]
    np.testing.assert_allclose(answer.units("image")[0], maps[0].sum(axis=-1))
    np.testing.assert_allclose(answer.units("image", "abs_max")[0], np.abs(maps[0]).max(axis=-1))
    with pytest.raises(InvalidInput, match=r"map of 'image' has shape \(4, 2, 2, 2\)"):
        Attribution((maps[..., :2],), (toys.IMAGE,), ("a", "b", "c", "d"), "test")
    with pytest.raises(InvalidInput, match="4 maps for 1 samples"):
        Attribution((maps,), (toys.IMAGE,), ("a",), "test")
    with pytest.raises(InvalidInput, match="write sum, mean, abs_sum or abs_max"):
        answer.units("image", "median")  # type: ignore[arg-type]


@pytest.mark.parametrize(("old", "new"), [((3, 3), (96, 96)), ((7, 5), (32, 40)), ((1, 1), (8, 8)), ((12, 12), (5, 6))])
def test_bilinear_equals_torch_tensorflow_and_opencv(old: tuple[int, int], new: tuple[int, int]) -> None:
    import cv2
    import tensorflow as tf
    import torch

    maps = RNG.normal(size=(2, *old)).astype(np.float32)
    found = bilinear(maps, *new)
    by_torch = torch.nn.functional.interpolate(torch.tensor(maps)[:, None], new, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, by_torch[:, 0], atol=2e-6)
    np.testing.assert_allclose(found, tf.image.resize(maps[..., None], new)[..., 0], atol=2e-6)
    np.testing.assert_allclose(found, np.stack([cv2.resize(m, new[::-1]) for m in maps]), atol=2e-6)


def test_a_deep_copy_has_its_own_arrays_and_asks_the_same_model() -> None:
    """Adapters hold locks, which cannot be copied; equality asks for the same model, too."""
    question = Question(zoo.model("torch"), zoo.values("image", 2), zoo.target("class", 2), ("a", "b"), batch_size=3)
    expected = question.score()
    copied = deepcopy(question)
    assert copied == question
    assert copied.model is question.model
    copied.inputs[0][:] = 0
    copied.target.weights[:] = 0
    np.testing.assert_array_equal(question.score(), expected)
    assert not np.allclose(copied.score(), expected)
    finite_one = deepcopy(FiniteQuestion(**vars(question), who="someone"))
    assert (finite_one.who, finite_one.ids) == ("someone", ("a", "b"))

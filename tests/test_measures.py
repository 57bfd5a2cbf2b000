"""What is no weighted sum of outputs: Dice, the largest class, accuracy; and targets of thousands of classes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import BOTH, crossxai, toml
from networks import zoo
from networks.counting import Counting, answer, inputs_of, some_map
from scipy.special import expit, softmax

from crossxai import Accuracy, Dice, InvalidInput, Largest, Question, Target, Unsupported, evaluation, explainers, files
from crossxai.evaluation.curves import Deletion, Insertion, evaluate
from crossxai.model import Array
from crossxai.testing import linear_question

RNG = np.random.default_rng(0)
MASKS = np.zeros((3, 4, 5))
for i, mask in enumerate(MASKS):
    mask[i : i + 2, 1:4] = 1
LOGITS = RNG.normal(size=(3, 4, 5, 2))
ALL = np.arange(3)


def test_dice_by_hand() -> None:
    p = softmax(LOGITS, axis=-1)[..., 1]
    soft = [2 * (p[i] * MASKS[i]).sum() / (p[i].sum() + MASKS[i].sum()) for i in range(3)]
    np.testing.assert_allclose(Dice(MASKS, 1, 2).score(LOGITS, ALL), soft)
    region = LOGITS[..., 1] > LOGITS[..., 0]
    hard = [2 * (region[i] & (MASKS[i] > 0)).sum() / (region[i].sum() + MASKS[i].sum()) for i in range(3)]
    np.testing.assert_allclose(Dice(MASKS, 1, 2, hard=True).score(LOGITS, ALL), hard)
    above = expit(LOGITS[..., 0]) > 0.5
    hard = [2 * (above[i] & (MASKS[i] > 0)).sum() / (above[i].sum() + MASKS[i].sum()) for i in range(3)]
    np.testing.assert_allclose(Dice(MASKS, 0, 2, "sigmoid", hard=True).score(LOGITS, ALL), hard)
    perfect = np.stack([1 - MASKS, MASKS], axis=-1)
    for dice in (Dice(MASKS, 1, 2, "identity"), Dice(MASKS, 1, 2, hard=True)):
        assert dice.score(perfect, ALL).tolist() == [1, 1, 1]
        assert dice.score(1 - perfect, ALL).tolist() == [0, 0, 0]


@pytest.mark.parametrize("probability", ["softmax", "sigmoid", "identity"])
def test_the_slope_of_dice_is_that_of_finite_differences(probability: Any) -> None:
    dice, outputs, rows = Dice(MASKS, 1, 2, probability), LOGITS, np.array([2, 0, 1])
    outputs = softmax(outputs, axis=-1) if probability == "identity" else outputs
    slope = dice.cotangent(outputs, rows)
    assert slope.shape == outputs.shape
    for _ in range(5):
        way = RNG.normal(size=outputs.shape)
        step = 1e-6
        found = (dice.score(outputs + step * way, rows) - dice.score(outputs - step * way, rows)) / (2 * step)
        np.testing.assert_allclose((slope * way).sum(axis=(1, 2, 3)), found, atol=1e-9)


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_dice_of_a_network_has_gradients_and_maps(framework: str) -> None:
    masks = np.zeros((2, zoo.SIZE, zoo.SIZE))
    masks[:, 4:12, 2:9] = 1
    model = zoo.model(framework, "image", "segmentation", "float64")
    question = Question(model, zoo.values("image", 2, "float64"), Dice(masks, 1, 2))
    _, (gradient,) = question.score_and_grad()
    way, step = RNG.normal(size=gradient.shape), 1e-6
    (x,) = question.inputs
    moved = [question.score((x + sign * step * way,)) for sign in (1, -1)]
    np.testing.assert_allclose((gradient * way).sum(axis=(1, 2, 3)), (moved[0] - moved[1]) / (2 * step), atol=1e-7)
    for name in ("captum.saliency", "gradcam.gradcam", "captum.occlusion"):
        assert np.ptp(explainers.get(name)(question).values[0]) > 0
    with pytest.raises(Unsupported, match="no weighted sum of outputs"):
        explainers.get("captum.guided_backprop")(question)


def test_deletion_measures_dice() -> None:
    masks = np.zeros((3, 8, 8))
    masks[:, 2:6, 2:6] = 1
    question = Question(
        Counting(task="segmentation"), inputs_of(linear_question()[0].modalities, 3), Dice(masks, 1, 2), batch_size=5
    )
    scores = Deletion(4)(question, answer(question, some_map(question)))
    np.testing.assert_allclose(scores.curve[:, 0], question.score())  # type: ignore[index]
    assert scores.params["link"] == "soft dice of softmax"
    assert ((scores.value > 0) & (scores.value < 1)).all()
    reverse = question[[2, 0]]
    np.testing.assert_allclose(reverse.score(), question.score()[[2, 0]])


def classes(target: Any, n: int = 4) -> Question:
    return Question(Counting(), inputs_of(linear_question()[0].modalities, n), target, batch_size=5)


def test_the_largest_class_and_accuracy_along_a_curve() -> None:
    n = 4
    question = classes(Largest(n, 3))
    maps = answer(question, some_map(question))
    probabilities = [Deletion(4)(classes(Target.classes([c] * n, 3, "softmax")), maps).curve for c in range(3)]
    every: Array = np.stack(probabilities)  # type: ignore[arg-type]
    np.testing.assert_allclose(Deletion(4)(question, maps).curve, every.max(axis=0))  # type: ignore[arg-type]
    labels = every[:, :, 0].argmax(axis=0)
    right = Deletion(4)(classes(Accuracy(labels, 3)), maps)
    np.testing.assert_array_equal(right.curve, every.argmax(axis=0) == labels[:, None])  # type: ignore[arg-type]
    assert (right.curve[:, 0] == 1).all()  # type: ignore[index]
    assert 0 < right.curve.mean() < 1  # type: ignore[union-attr]
    (both,) = evaluate(classes(Accuracy(labels, 3)), [maps], [Deletion(4), Insertion(4)])
    assert [s.params["link"] for s in both] == ["accuracy"] * 2
    assert Accuracy([0, 1], 2).score(np.array([[1, 0], [np.nan, 1]]), np.arange(2)).tolist()[0] == 1
    assert np.isnan(Accuracy([0, 1], 2).score(np.array([[1, 0], [np.nan, 1]]), np.arange(2))[1])
    assert Largest(2, 2, "identity").score(np.array([[3.0, 1], [2, 4]]), np.arange(2)).tolist() == [3, 4]
    assert len(Largest(5, 2)[np.array([1, 3])]) == 2


@pytest.mark.parametrize("target", [Largest(12, 2, "identity"), Accuracy([0] * 12, 2), Dice(np.ones((12, 1)), 0, 2)])
def test_what_has_no_weights_or_gradient_says_so(target: Any) -> None:
    with pytest.raises(Unsupported, match="ask about a Target"):
        _ = target.weights
    if not isinstance(target, Dice):
        with pytest.raises(Unsupported, match=r"explain Target\.classes"):
            target.cotangent(np.zeros((1, 2)), np.zeros(1, np.intp))


def test_metrics_that_need_a_class_refuse_measures() -> None:
    question = classes(Largest(4, 3))
    for name in ("random_logit", "grid_pointing"):
        with pytest.raises(Unsupported, match="ask about a Target"):
            evaluation.get(name).check(question)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Dice(np.zeros((1, 2, 2)), 0, 2), r"masks of samples \[0\] are empty"),
        (lambda: Dice(np.ones((2, 2)), 2, 2), "label must lie in 0 … 1"),
        (lambda: Dice(np.ones(2), 0, 2), r"masks need shape \(n, \*space\)"),
        (lambda: Dice(np.ones((2, 2)), 0, 2, "logit"), "unknown probability 'logit'"),  # type: ignore[arg-type]
        (lambda: Dice(np.ones((2, 2)), 0, 1), 'write probability="sigmoid"'),
        (lambda: Dice(np.ones((2, 2)), 0, 1), '"identity" for probabilities'),
        (lambda: Dice(np.ones((2, 2)), 0, 2, hard=True).cotangent(np.zeros((2, 2, 2)), ALL[:2]), "write hard=False"),
        (lambda: Dice(np.ones((2, 3)), 0, 2).score(np.zeros((2, 2, 2)), ALL[:2]), "the model gives"),
        (lambda: Largest(2, 1), "softmax over one output is always 1"),
        (lambda: Accuracy([0, 1], 1), "at least two classes"),
        (lambda: Accuracy([0, 2], 2), "labels of 2 classes lie in 0 … 1"),
        (lambda: Accuracy([0.5], 2), "labels must be integers"),
    ],
)
def test_wrong_measures(wrong: Any, words: str) -> None:
    with pytest.raises((InvalidInput, Unsupported), match=words):
        wrong()


def test_thousands_of_classes_take_a_byte_each() -> None:
    n, many = 200, 5000
    tracemalloc.start()
    try:
        target = Target.classes(np.arange(n), many, "softmax")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.1 * n * many
    outputs = RNG.normal(size=(n, many)).astype(np.float32)
    rows = np.arange(n)
    np.testing.assert_allclose(target.score(outputs, rows), softmax(outputs, axis=-1)[rows, rows], rtol=1e-5)
    assert target.cotangent(outputs, rows).dtype == np.float32


@pytest.mark.parametrize(
    ("measure", "words", "link"),
    [
        ("largest", "largest probability of any class", "largest softmax"),
        ("accuracy", "accuracy (1 where the model's answer is the labelled class, else 0)", "accuracy"),
    ],
)
def test_in_an_experiment_file(tmp_path: Path, measure: str, words: str, link: str) -> None:
    (tmp_path / "both.py").write_text(BOTH)
    content = {
        "data": {"factory": "both:data"},
        "target": {"of": "label", "measure": measure},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [{"name": "captum.occlusion", "params": {"patch": 8, "stride": 8}}],
        "metrics": [{"name": "deletion", "params": {"steps": 4, "modality": "image"}}],
    }
    (tmp_path / "own.toml").write_text(toml(content))
    result = crossxai("compare", str(tmp_path / "own.toml"), "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    predictions = files.read_predictions(tmp_path / "out/predictions/fusion.h5")
    assert predictions.target == words
    p = softmax(predictions.outputs, axis=1)
    expected = p.max(axis=1) if measure == "largest" else p.argmax(axis=1) == [0, 1, 1]
    np.testing.assert_allclose(predictions.score, expected, rtol=1e-6)
    scores = files.read_result(tmp_path / "out/explanations/fusion/captum.occlusion.h5").scores["deletion"]
    assert scores.params["link"] == link
    np.testing.assert_allclose(scores.curve[:, 0], expected, rtol=1e-6)  # type: ignore[index]
    assert words in (tmp_path / "out/report.md").read_text(encoding="utf-8")

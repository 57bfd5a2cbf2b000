"""Gini, entropy, effective area and total variation: against Xplique, closed forms, and where undefined."""

import numpy as np
import pytest

from crossxai import Attribution, InvalidInput, Modality, Question, Target, Unsupported
from crossxai.evaluation.metrics.complexity import EffectiveArea, Entropy, Sparseness, TotalVariation

N, SIDE = 4, 8
MAPS = np.random.default_rng(0).normal(size=(N, SIDE, SIDE, 1))
KINDS = (Sparseness, Entropy, EffectiveArea, TotalVariation)


class Never:
    name = "never"
    modalities = (Modality.image(),)

    def predict(self, inputs):
        raise AssertionError("complexity needs no forward pass")


QUESTION = Question(Never(), (np.full((N, SIDE, SIDE, 3), 0.5, np.float32),), Target.classes([0] * N, 2))


def answer(values):
    return Attribution((values,), QUESTION.modalities, QUESTION.ids, "test")


def test_xplique_says_the_same():
    from xplique import metrics
    from xplique.metrics.complexity import Complexity

    found = Sparseness()(QUESTION, answer(MAPS)).value
    np.testing.assert_allclose(found, metrics.Sparseness().detailed_evaluate(MAPS.astype(np.float32)), atol=1e-5)
    found = Entropy()(QUESTION, answer(MAPS)).value
    np.testing.assert_allclose(found, Complexity().detailed_evaluate(MAPS.astype(np.float32)), atol=1e-5)


def test_closed_forms():
    units = SIDE * SIDE
    one, even = np.zeros((1, SIDE, SIDE)), np.full((1, SIDE, SIDE), -3.0)
    one[0, 4, 4] = 1e-200
    assert Sparseness().measure(one)[0] == pytest.approx(1 - 1 / units)
    assert Sparseness().measure(even)[0] == pytest.approx(0)
    assert Entropy().measure(one)[0] == pytest.approx(0)
    assert Entropy().measure(even)[0] == pytest.approx(np.log(units))
    assert EffectiveArea().measure(one)[0] == pytest.approx(1 / units)
    assert EffectiveArea().measure(1e300 * even)[0] == pytest.approx(1)
    assert TotalVariation().measure(one)[0] == pytest.approx(4)
    assert TotalVariation().measure(even)[0] == 0
    half = np.where(np.arange(SIDE) < 4, 1.0, 0.0)[None, None] * np.ones((1, SIDE, 1))
    assert EffectiveArea().measure(half)[0] == pytest.approx(0.5)
    assert Sparseness().measure(half)[0] == pytest.approx(0.5)
    assert TotalVariation().measure(half)[0] == pytest.approx(SIDE / (units / 2))


def test_gini_is_the_mean_difference_of_pairs():
    shares = np.abs(MAPS).reshape(N, -1)
    pairs = np.abs(shares[:, :, None] - shares[:, None]).mean(axis=(1, 2)) / (2 * shares.mean(axis=1))
    np.testing.assert_allclose(Sparseness().measure(MAPS[..., 0]), pairs)


def test_total_variation_by_plain_loops():
    for i, image in enumerate(MAPS[..., 0]):
        steps = sum(abs(image[y, x] - image[y, x - 1]) for y in range(SIDE) for x in range(1, SIDE))
        steps += sum(abs(image[y, x] - image[y - 1, x]) for y in range(1, SIDE) for x in range(SIDE))
        assert TotalVariation().measure(MAPS[..., 0])[i] == pytest.approx(steps / np.abs(image).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_undefined_samples_are_nan(kind):
    maps = MAPS.copy()
    maps[0, 0, 0], maps[1], maps[2] = np.inf, 0, -np.abs(maps[2])
    found = kind()(QUESTION, answer(maps))
    assert np.isnan(found.value).tolist() == [True, True, False, False]
    assert found.extras["degenerate"].tolist() == [1, 1, 0, 0]


def test_tables_and_one_unit():
    model = Never()
    model.modalities = (Modality.table(("a",)),)
    question = Question(model, (np.ones((2, 1), np.float32),), Target.classes([0, 1], 2))
    column = Attribution((np.array([[2.0], [0.0]]),), question.modalities, question.ids, "test")
    for kind, expected in ((Sparseness, 0), (Entropy, 0), (EffectiveArea, 1)):
        np.testing.assert_allclose(kind()(question, column).value, [expected, np.nan])
    with pytest.raises(Unsupported, match="columns have no order"):
        TotalVariation()(question, column)
    with pytest.raises(InvalidInput, match="unknown reduction"):
        Entropy(reduction="max")

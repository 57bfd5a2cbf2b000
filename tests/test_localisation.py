"""Relevance inside masks and the pointing game: known shares, undefined cases, alignment of masks with samples."""

import numpy as np
import pytest

from crossxai import Attribution, InvalidInput, Modality, Question, Target, UnknownName, Unsupported
from crossxai.evaluation.metrics.localisation import (
    CentreShare,
    MaskShare,
    Pointing,
    centre_mask,
    pointing,
    relevance_mass,
)

N, SIDE = 3, 6


class Never:
    name = "never"
    modalities = (Modality.image(),)

    def predict(self, inputs):
        raise AssertionError("localisation needs no forward pass")


QUESTION = Question(
    Never(), (np.full((N, SIDE, SIDE, 3), 0.5, np.float32),), Target.classes([0] * N, 2), ("a", "b", "c")
)


def answer(values, question=QUESTION):
    return Attribution((np.asarray(values),), question.modalities, question.ids, "test")


def some_map(channels=3):
    return np.random.default_rng(0).normal(size=(N, SIDE, SIDE, channels)).astype(np.float32)


def test_shares_are_the_positive_part_of_the_channel_sum():
    masks = np.random.default_rng(1).random((N, SIDE, SIDE)) > 0.6
    scores = MaskShare(masks)(QUESTION, answer(some_map()))
    for i in range(N):
        positive = np.clip(some_map()[i].astype(np.float64).sum(axis=-1), 0, None)
        assert scores.value[i] == pytest.approx(positive[masks[i]].sum() / positive.sum(), abs=1e-6)
        assert scores.extras["area_share"][i] == pytest.approx(masks[i].mean())
    assert scores.higher_is_better
    assert scores.metric == "mask_share"


def test_inside_outside_and_uniform():
    centre = centre_mask((SIDE, SIDE), 2)
    assert centre.sum() == 4
    assert centre[2:4, 2:4].all()
    inside = np.where(centre, 1.0, -5.0)
    maps = np.stack([inside, 1.0 - centre, np.ones((SIDE, SIDE))])[..., None]
    scores = CentreShare(2)(QUESTION, answer(maps))
    np.testing.assert_allclose(scores.value, [1, 0, 4 / 36])
    np.testing.assert_allclose(scores.extras["area_share"], 4 / 36)
    np.testing.assert_array_equal(scores.extras["degenerate"], [0, 0, 1])
    assert scores.params == {"reduction": "sum", "modality": "image", "size": 2}
    np.testing.assert_allclose(CentreShare(size=SIDE)(QUESTION, answer(maps)).value, 1)
    assert CentreShare(2) == CentreShare(size=2) != CentreShare(3)


def test_undefined_samples_are_nan():
    maps = some_map(1)
    maps[0] = -np.abs(maps[0])
    maps[1, 0, 0] = np.nan
    masks = np.ones((N, SIDE, SIDE))
    assert np.isnan(MaskShare(masks)(QUESTION, answer(maps)).value).tolist() == [True, True, False]
    masks[2] = 0
    assert np.isnan(MaskShare(masks)(QUESTION, answer(maps)).value).all()
    assert np.isnan(Pointing(masks)(QUESTION, answer(maps)).value).tolist() == [False, True, True]
    huge = np.full((1, 2, 2), 1e308)
    assert relevance_mass(huge, np.array([[[True, False], [False, False]]]))[0] == pytest.approx(0.25)


def test_pointing_shares_ties():
    relevance = np.array([[[0, 3, 1, 2]], [[5, 5, 5, 1]], [[-1, -2, -3, -4]]], dtype=np.float64)
    masks = np.broadcast_to(np.array([[True, False, True, True]]), relevance.shape)
    np.testing.assert_allclose(pointing(relevance, masks), [0, 2 / 3, 1])
    maps = np.zeros((N, SIDE, SIDE, 1))
    maps[0, 3, 3], maps[1, 0, 0], maps[2, 2, 2] = 1, 1, 1
    np.testing.assert_array_equal(Pointing(size=2)(QUESTION, answer(maps)).value, [1, 0, 1])


def test_masks_follow_their_ids():
    masks = np.random.default_rng(1).random((N, SIDE, SIDE)) > 0.5
    whole = MaskShare(masks)(QUESTION, answer(some_map()))
    rows = np.array([2, 0])
    part, values = QUESTION[rows], some_map()[rows]
    named = MaskShare(masks, ids=QUESTION.ids)(part, answer(values, part))
    np.testing.assert_array_equal(named.value, whole.value[rows])
    with pytest.raises(InvalidInput, match="expected \\(2, 6, 6\\)"):
        MaskShare(masks)(part, answer(values, part))
    with pytest.raises(InvalidInput, match=r"several masks of one id \(a\)"):  # the last one would have been taken
        MaskShare(masks, ids=("a", "a", *QUESTION.ids[2:]))(part, answer(values, part))
    with pytest.raises(InvalidInput, match="no mask for samples c"):
        MaskShare(masks[:2], ids=("a", "b"))(part, answer(values, part))
    with pytest.raises(InvalidInput, match="3 masks for 1 ids"):
        MaskShare(masks, ids=("a",))(part, answer(values, part))
    holed = np.where(masks, 1.0, np.nan)
    with pytest.raises(InvalidInput, match="none of them NaN or infinite"):  # NaN is not zero, and was inside
        MaskShare(holed)(QUESTION, answer(some_map()))
    one = MaskShare(masks[0])(QUESTION, answer(some_map()))
    assert one.value[0] == pytest.approx(whole.value[0])


def test_bad_inputs():
    a = answer(some_map())
    with pytest.raises(InvalidInput, match="cannot be 32 × 32"):
        CentreShare()(QUESTION, a)
    with pytest.raises(InvalidInput, match="cannot be 0 × 0"):
        CentreShare(0)(QUESTION, a)
    with pytest.raises(InvalidInput, match="unknown reduction"):
        CentreShare(reduction="max")
    with pytest.raises(UnknownName):
        CentreShare(modality="imag")(QUESTION, a)
    with pytest.raises(InvalidInput, match="same shape"):
        relevance_mass(np.ones((2, 3)), np.ones((2, 4), dtype=bool))
    model = Never()
    model.modalities = (Modality.table(("a", "b")),)
    table = Question(model, (np.ones((1, 2), np.float32),), Target.classes([0], 2))
    with pytest.raises(Unsupported, match="needs an image"):
        CentreShare(1)(table, answer(np.ones((1, 2)), table))
    assert MaskShare([[True, False]])(table, answer(np.array([[3.0, 1.0]]), table)).value[0] == 0.75

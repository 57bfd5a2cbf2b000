"""Ranks, top-k, average precision, IoU and Dice of maps and masks: against scikit-learn, plain loops, and where undefined."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from crossxai import Attribution, InvalidInput, Modality, Question, Target
from crossxai.evaluation.metrics.overlap import AveragePrecision, MaskDice, MaskIoU, RelevanceRank, TopK

N, SIDE = 6, 7
RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(N, SIDE, SIDE))
MASKS = RNG.random((N, SIDE, SIDE)) > 0.7
TIED = np.round(MAPS, 0)


class Never:
    name = "never"
    modalities = (Modality.image(),)

    def predict(self, inputs):
        raise AssertionError("localisation needs no forward pass")


QUESTION = Question(Never(), (np.full((N, SIDE, SIDE, 3), 0.5, np.float32),), Target.classes([0] * N, 2))


def answer(values):
    return Attribution((np.asarray(values)[..., None],), QUESTION.modalities, QUESTION.ids, "test")


@pytest.mark.parametrize("maps", [MAPS, TIED, np.zeros_like(MAPS)], ids=["distinct", "tied", "constant"])
def test_average_precision_is_scikit_learns(maps):
    found = AveragePrecision(MASKS)(QUESTION, answer(maps))
    expected = [average_precision_score(m.ravel(), v.ravel()) for v, m in zip(maps, MASKS, strict=True)]
    np.testing.assert_allclose(found.value, expected, atol=1e-12)
    np.testing.assert_allclose(found.extras["chance"], MASKS.mean(axis=(1, 2)))


def test_ranks_and_top_k_by_hand():
    for i, (values, mask) in enumerate(zip(MAPS, MASKS, strict=True)):
        ranked = [mask.ravel()[p] for p in sorted(range(SIDE * SIDE), key=lambda p, v=values: -v.ravel()[p])]
        assert RelevanceRank(MASKS).measure(MAPS, MASKS)[i] == pytest.approx(np.mean(ranked[: mask.sum()]))
        assert TopK(MASKS, share=0.25, of="k").measure(MAPS, MASKS)[i] == pytest.approx(np.mean(ranked[:13]))
    np.testing.assert_allclose(RelevanceRank(MASKS)(QUESTION, answer(MASKS * 1.0)).value, 1)
    assert TopK(MASKS, share=0.25)(QUESTION, answer(MAPS)).params["share"] == 0.25


def test_a_share_that_is_whole_but_for_rounding_is_no_unit_more():
    values, inside = np.arange(100.0).reshape(1, 10, 10), np.zeros((1, 10, 10), dtype=bool)
    inside[0, -1, -7:] = True  # the seven largest, and 0.07 · 100 is 7.000000000000001
    assert TopK(inside, share=0.07, of="k").measure(values, inside)[0] == 1


def test_ties_are_the_mean_over_their_orders():
    rng = np.random.default_rng(1)
    exact = RelevanceRank(MASKS).measure(TIED, MASKS)
    broken = [RelevanceRank(MASKS).measure(TIED + 1e-6 * rng.random(TIED.shape), MASKS) for _ in range(3000)]
    np.testing.assert_allclose(np.mean(broken, axis=0), exact, atol=0.02)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (5, 5), (20, 30), (40, 60)])
def test_a_perfect_map_of_any_lesion_gets_1(rows, columns):
    """By shares of the image, 20 of them, it got 0.33 of a lesion of 1 %: by `by="share"` and `of="k"` it still does."""
    mask = np.zeros((1, 50, 60), bool)
    mask[:, 5 : 5 + rows, 7 : 7 + columns][:, :40, :50] = True
    question = Question(Never(), (np.full((1, 50, 60, 3), 0.5, np.float32),), Target.classes([0], 2))
    perfect = Attribution((mask[..., None] * 1.0,), question.modalities, question.ids, "test")
    for kind in (MaskDice, MaskIoU, TopK, RelevanceRank, AveragePrecision):
        assert kind(mask)(question, perfect).value[0] == 1, kind
    found = MaskDice(mask)(question, perfect)
    assert found.extras["best_threshold"][0] == pytest.approx(mask.mean())
    assert found.curve[0][found.fractions == 1] == 1
    if (rows, columns) == (5, 5):
        assert MaskDice(mask, by="share")(question, perfect).value[0] == pytest.approx(2 * 25 / (150 + 25))
        assert TopK(mask, of="k")(question, perfect).value[0] == pytest.approx(25 / 300)


def test_chance_of_top_k_is_the_mean_of_random_maps():
    rng = np.random.default_rng(0)
    for of, share in (("attainable", 0.1), ("attainable", 0.5), ("k", 0.1)):
        found = [TopK(MASKS, share=share, of=of)(QUESTION, answer(rng.random(MAPS.shape))) for _ in range(300)]
        mean = np.mean([f.value for f in found], axis=0)
        np.testing.assert_allclose(mean, found[0].extras["chance"], atol=0.03)


@pytest.mark.parametrize("by", ["mask", "share", "value"])
def test_iou_and_dice_by_plain_loops(by):
    iou, dice = (kind(MASKS, steps=5, by=by)(QUESTION, answer(MAPS)) for kind in (MaskIoU, MaskDice))
    for i, (values, mask) in enumerate(zip(MAPS, MASKS, strict=True)):
        for j, threshold in enumerate((0.2, 0.4, 0.6, 0.8, 1.0)):
            if by != "value":
                whole = mask.sum() * 5 / 3 if by == "mask" else SIDE * SIDE  # multiples 1/3, 2/3, 1 … of the mask
                k = min(int(np.ceil(threshold * whole - 1e-9)), SIDE * SIDE)
                inside = values >= np.sort(values.ravel())[-k]
            else:
                inside = (values - values.min()) / np.ptp(values) >= 1 - threshold
            assert iou.curve[i, j] == pytest.approx((inside & mask).sum() / (inside | mask).sum())
            assert dice.curve[i, j] == pytest.approx(2 * (inside & mask).sum() / (inside.sum() + mask.sum()))
    np.testing.assert_allclose(dice.curve, 2 * iou.curve / (1 + iou.curve))  # an identity of the two
    np.testing.assert_allclose(iou.value, iou.curve.max(axis=1))
    best = iou.fractions[iou.curve.argmax(axis=1)]
    if by != "mask":
        np.testing.assert_allclose(iou.curve[:, -1], MASKS.mean(axis=(1, 2)))
    np.testing.assert_allclose(
        iou.extras["best_threshold"], np.ceil(best * MASKS.sum(axis=(1, 2)) - 1e-9) / SIDE**2 if by == "mask" else best
    )
    mean = MaskIoU(MASKS, steps=5, by=by, take="mean")(QUESTION, answer(MAPS))
    np.testing.assert_allclose(mean.value, iou.curve.mean(axis=1))


@pytest.mark.parametrize("kind", [RelevanceRank, TopK, AveragePrecision, MaskIoU, MaskDice])
def test_undefined_samples_are_nan(kind):
    maps, masks = MAPS.copy(), MASKS.copy()
    maps[0, 0, 0], maps[1, 0, 0] = np.nan, np.inf
    masks[2] = False
    maps[3], maps[4] = -np.abs(maps[3]), 1e308 * np.sign(maps[4])
    found = kind(masks)(QUESTION, answer(maps))
    assert np.isnan(found.value).tolist() == [True, True, True, False, False, False]
    assert kind.higher_is_better


def test_a_constant_map_has_no_values_between():
    found = MaskIoU(MASKS, by="value")(QUESTION, answer(np.ones_like(MAPS)))
    assert np.isnan(found.value).all()
    assert found.extras["degenerate"].all()


def test_bad_parameters():
    for words, make in (
        ("share must be a share above 0", lambda: TopK(MASKS, share=0)),
        ("steps must be a whole number", lambda: MaskIoU(MASKS, steps=0)),
        ("unknown by 'rank': write mask or share or value", lambda: MaskDice(MASKS, by="rank")),
        ("unknown take", lambda: MaskDice(MASKS, take="worst")),
    ):
        with pytest.raises(InvalidInput, match=words):
            make()

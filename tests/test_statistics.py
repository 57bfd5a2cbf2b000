"""Intervals and paired tests against scipy, closed forms and the degenerate cases."""

import numpy as np
import pytest
from scipy import stats

from crossxai import InvalidInput
from crossxai.evaluation.statistics import compare, holm, summarise

RNG = np.random.default_rng(0)
SKEWED = RNG.exponential(size=40)


def test_interval_agrees_with_scipy():
    got = summarise(SKEWED, resamples=50_000)
    want = stats.bootstrap((SKEWED,), np.mean, method="BCa", n_resamples=50_000, random_state=1).confidence_interval
    assert got.mean == pytest.approx(SKEWED.mean())
    assert (got.low, got.high) == pytest.approx((want.low, want.high), abs=0.01)
    narrow = summarise(SKEWED, confidence=0.5)
    assert got.low < narrow.low < got.mean < narrow.high < got.high


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    hits = [
        s.low <= 1 <= s.high
        for s in (summarise(row, resamples=500) for row in np.random.default_rng(5).exponential(size=(400, 50)))
    ]
    assert 0.90 <= np.mean(hits) <= 0.98


def test_summaries_are_seeded_and_leave_nan_out():
    assert summarise(SKEWED) == summarise(SKEWED)
    assert summarise(SKEWED) != summarise(SKEWED, seed=1)
    with_nan = np.concatenate([[np.nan], SKEWED, [np.nan]])
    a, b = summarise(with_nan), summarise(SKEWED)
    assert (a.mean, a.low, a.high, a.n, a.n_missing) == (b.mean, b.low, b.high, 40, 2)


def test_degenerate_samples():
    one, equal, none = summarise([0.5]), summarise([0.3] * 5), summarise([np.nan, np.nan])
    assert (one.mean, one.n) == (0.5, 1)
    assert np.isnan([one.low, one.high]).all()
    assert (equal.low, equal.high) == (0.3, 0.3)
    assert np.isnan([none.mean, none.low, none.high]).all()
    assert (none.n, none.n_missing) == (0, 2)
    assert summarise([]).n == 0
    two = summarise([0.0, 1.0])
    assert 0 <= two.low <= two.high <= 1
    tiny = summarise([0.0, 1e-300])
    assert np.isfinite([tiny.low, tiny.high]).all()


@pytest.mark.parametrize("n", [3, 8, 13])
def test_exact_sign_flips_agree_with_scipy(n):
    a, b = np.round(RNG.normal(0.3, 1, n), 1), np.round(RNG.normal(0, 1, n), 1)
    want = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=9999,
    )
    assert compare(a, b, True).p == pytest.approx(want.pvalue, abs=1e-12)


def test_drawn_sign_flips_agree_with_scipy():
    a, b = RNG.normal(0.25, 1, 60), RNG.normal(0, 1, 60)
    got = compare(a, b, True, resamples=40_000)
    assert got.p == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.01)
    assert got.p == compare(a, b, True, resamples=40_000).p
    assert got.p == pytest.approx(compare(b, a, True, resamples=40_000).p)


def test_direction_pairs_and_ties():
    a = np.linspace(0, 1, 30)
    up = compare(a + 0.1, a, higher_is_better=True)
    assert up.better
    assert not compare(a + 0.1, a, higher_is_better=False).better
    assert compare(a - 0.1, a, higher_is_better=False).better
    assert up.difference == pytest.approx(0.1)
    assert up.p == pytest.approx(1 / 10_000)
    hole = np.where(np.arange(30) % 3 == 0, np.nan, a)
    assert compare(hole + 0.1, a, True).n == compare(a + 0.1, hole, True).n == 20
    same = compare(a, a, True)
    assert (same.p, same.better, same.low, same.high) == (1.0, False, 0, 0)
    single = compare([0.9], [0.1], True)
    assert (single.p, single.n, single.better) == (1.0, 1, False)
    none = compare([np.nan], [0.1], True)
    assert np.isnan([none.p, none.difference]).all()
    assert not none.better


def test_false_alarms_are_rare_under_no_difference():
    draws = np.random.default_rng(2).normal(size=(300, 2, 12))
    assert np.mean([compare(a, b, True).p < 0.05 for a, b in draws]) < 0.09


def test_many_samples_stay_small_in_memory():
    many = RNG.normal(size=20_000)
    assert summarise(many, resamples=200).n == 20_000
    assert compare(many, 0 * many, True, resamples=200).n == 20_000


def test_holm():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.5, 0.9]), [0.03, np.nan, 1, 1])
    assert holm([]).shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: summarise([[1.0]]), "shape"),
        (lambda: summarise([np.inf]), "infinity"),
        (lambda: summarise([1.0], confidence=95), "confidence"),
        (lambda: summarise([1.0], resamples=0), "resamples"),
        (lambda: compare([1.0], [1.0, 2.0], True), "got 1 and 2"),
        (lambda: holm([1.5]), "between 0 and 1"),
    ],
)
def test_bad_inputs(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()


def test_rounding_is_no_difference() -> None:
    """Correlations of 1 that differ in the sixteenth digit, all the same way."""
    control = np.ones(12)
    found = compare(control - 3e-16, control, False)
    assert (found.difference, found.p, found.better) == (0.0, 1.0, False)
    small = compare(np.full(12, 1e-300), np.zeros(12), True)
    assert small.better  # a small value is still one


def test_intervals_and_sign_flips_are_scipys():
    """What is computed by hand, for its speed, is what scipy computes."""
    values = np.random.default_rng(0).normal(0.3, 1, 12)
    mine = summarise(values, resamples=500, seed=1)
    other = stats.bootstrap((values,), np.mean, n_resamples=500, rng=np.random.default_rng(1), method="BCa")
    np.testing.assert_allclose([mine.low, mine.high], other.confidence_interval, rtol=1e-12)
    flips = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert compare(values, np.zeros(12), True).p == pytest.approx(flips.pvalue, abs=1e-12)

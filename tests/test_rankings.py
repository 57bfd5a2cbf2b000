"""Wilcoxon, Friedman with Nemenyi's critical difference, rank stability and power: scipy, published tables, simulation."""

import numpy as np
import pytest
from scipy import stats

from crossxai import InvalidInput
from crossxai.evaluation.statistics import compare
from crossxai.evaluation.statistics.certainty import across, detectable, power_of, resample, samples_needed, spread
from crossxai.evaluation.statistics.comparison import friedman

RNG = np.random.default_rng(0)

# Demšar 2006, table 6: AUC of C4.5 and three variants of it on 14 data sets.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],  # printed alike, but ranked 2 and 3 in his table
        [0.957, 0.978, 0.946, 0.970],
    ]
)


@pytest.mark.parametrize("n", [1, 5, 12, 40])
def test_wilcoxon_without_ties_is_scipy_s_exact_one(n):
    a, b = RNG.normal(0.4, 1, n), RNG.normal(0, 1, n)
    assert compare(a, b, True, test="wilcoxon").p == pytest.approx(
        stats.wilcoxon(a, b, method="exact").pvalue, abs=1e-12
    )


@pytest.mark.parametrize("n", [30, 80])
def test_wilcoxon_with_ties_and_zeros_is_scipy_s_normal_one(n):
    a, b = np.round(RNG.normal(0.3, 1, n), 1), np.round(RNG.normal(0, 1, n), 1)
    a[:4] = b[:4]
    want = stats.wilcoxon(np.round(a - b, 9), zero_method="pratt", method="approx", correction=False)
    assert compare(a, b, True, test="wilcoxon").p == pytest.approx(want.pvalue, abs=1e-9)


def test_wilcoxon_directions_and_degenerate_pairs():
    a = np.linspace(0, 1, 30) ** 2
    up = compare(a + 0.1 + a / 7, a, True, test="wilcoxon")
    assert up.better
    assert up.p == pytest.approx(2 / 2**30)
    assert not compare(a + 0.1, a, False, test="wilcoxon").better
    assert compare(a - 0.1, a, False, test="wilcoxon").better
    same, none = compare(a, a, True, test="wilcoxon"), compare([np.nan], [1.0], True, test="wilcoxon")
    assert (same.p, same.better) == (1.0, False)
    assert np.isnan(none.p)
    assert not none.better
    # One huge loss: the ranks go up, the mean goes down, and neither is called better.
    d = np.linspace(0.1, 1, 30)
    d[0] = -1000
    split = compare(d, 0 * d, True, test="wilcoxon")
    assert split.p < 0.05
    assert not split.better
    assert not compare(d, 0 * d, False, test="wilcoxon").better


@pytest.mark.parametrize(("n", "k", "digits"), [(12, 3, 9), (40, 7, 9), (15, 5, 1), (2, 4, 9)])
def test_friedman_is_scipy_s(n, k, digits):
    scores = np.round(RNG.normal(size=(n, k)) + np.arange(k) / 4, digits)
    want = stats.friedmanchisquare(*scores.T)
    got = friedman(scores, True)
    assert got.statistic == pytest.approx(want.statistic)
    assert got.p == pytest.approx(want.pvalue)
    np.testing.assert_allclose(friedman(scores, False).ranks, k + 1 - got.ranks)
    assert got.ranks.sum() == pytest.approx(k * (k + 1) / 2)


def test_friedman_reproduces_the_published_example():
    """Demšar 2006, sections 3.2.2 and 3.2.3; he leaves out the correction for ties, so his statistics are a little smaller."""
    got = friedman(DEMSAR, True)
    np.testing.assert_allclose(got.ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    plain = 12 * 14 / 20 * ((got.ranks - 2.5) ** 2).sum()
    assert plain == pytest.approx(9.28, abs=0.01)
    assert got.statistic >= plain
    assert got.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert friedman(DEMSAR, True, alpha=0.1).critical_difference == pytest.approx(1.12, abs=5e-3)
    # At 0.10 he finds C4.5 worse than both variants with m, and C4.5+cf not told apart from any.
    at_ten = friedman(DEMSAR, True, alpha=0.1)
    np.testing.assert_array_equal(np.abs(at_ten.ranks[0] - at_ten.ranks) > at_ten.critical_difference, [0, 1, 0, 1])
    assert at_ten.groups == ((3, 1, 2), (2, 0))


@pytest.mark.parametrize(
    ("alpha", "published"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_critical_values_are_the_published_ones(alpha, published):
    """Demšar 2006, table 5(a), two to ten classifiers."""
    for k, q in enumerate(published, start=2):
        got = friedman(RNG.normal(size=(10, k)), True, alpha=alpha).critical_difference
        assert got / np.sqrt(k * (k + 1) / 60) == pytest.approx(q, abs=2e-3)


def test_pairs_groups_and_critical_difference_agree():
    scores = RNG.normal(size=(30, 5)) + np.array([0, 0.1, 0.8, 0.9, 3])
    got = friedman(scores, True)
    far = np.abs(got.ranks[:, None] - got.ranks) > got.critical_difference
    np.testing.assert_array_equal(got.p_pairs < 0.05, far)
    assert (np.diag(got.p_pairs) == 1).all()
    for i in range(5):
        for j in range(i):
            assert far[i, j] != any(i in group and j in group for group in got.groups)
    assert got.p_f < got.p < 0.001


def test_false_alarms_of_the_family_are_rare():
    draws = np.random.default_rng(3).normal(size=(300, 20, 4))
    alarms = [(np.ptp(f.ranks) > f.critical_difference, f.p < 0.05) for f in (friedman(d, True) for d in draws)]
    assert (np.mean(alarms, axis=0) < 0.09).all()


def test_friedman_on_degenerate_tables():
    hole = DEMSAR.copy()
    hole[2, 1] = np.nan
    a, b = friedman(hole, True), friedman(np.delete(DEMSAR, 2, axis=0), True)
    assert (a.statistic, a.n, a.n_missing) == (b.statistic, 13, 1)
    tied = friedman(np.ones((5, 3)), True)
    assert (tied.statistic, tied.p, tied.groups) == (0, 1, ((0, 1, 2),))
    alike = friedman(np.tile([1.0, 2.0, 3.0], (6, 1)), True)
    assert (alike.statistic_f, alike.p_f) == (np.inf, 0)
    single = friedman([[1.0, 2.0]], True)
    assert np.isnan(single.p_f)
    assert single.groups == ((1, 0),)
    none = friedman([[np.nan, 1.0]], True)
    assert np.isnan([none.p, none.critical_difference]).all()
    assert none.groups == ()


def test_friedman_ties_what_differs_in_rounding_only():
    table = np.stack([DEMSAR[:, 0], DEMSAR[:, 0] * (1 + 1e-15), DEMSAR[:, 1]], axis=1)
    exact = friedman(DEMSAR[:, [0, 0, 1]], True)
    assert friedman(table, True).ranks.tolist() == exact.ranks.tolist()
    assert exact.ranks[0] == exact.ranks[1]
    two = friedman(DEMSAR[:, :2], True)  # with two explainers, the sign test's statistic
    a, b = (DEMSAR[:, 0] > DEMSAR[:, 1]).sum(), (DEMSAR[:, 0] < DEMSAR[:, 1]).sum()
    assert two.statistic == pytest.approx((a - b) ** 2 / (a + b))
    zero = friedman(np.zeros((3, 2)), False)
    assert (zero.p, zero.ranks.tolist()) == (1, [1.5, 1.5])


def test_flips_and_wins_under_resampling():
    n = 50
    scores = np.stack([RNG.normal(0, 1, n), RNG.normal(0, 1, n), RNG.normal(3, 1, n)], axis=1)
    got = resample(scores, True)
    assert got.best[2] == 1
    assert got.best.sum() == pytest.approx(1)
    np.testing.assert_allclose(got.flips, got.flips.T)
    assert got.flips[2, 0] == got.flips[0, 0] == 0
    # The bootstrap distribution of a mean difference is nearly normal: the flip rate is its mass beyond 0.
    d = scores[:, 0] - scores[:, 1]
    want = stats.norm.cdf(-abs(d.mean()) / (d.std() / np.sqrt(n)))
    assert got.flips[0, 1] == pytest.approx(want, abs=0.03)
    assert got.same_order == pytest.approx(1 - got.flips[0, 1])
    down = resample(-scores, False)
    np.testing.assert_array_equal(down.best, got.best)
    assert resample(scores, True, seed=1).flips[0, 1] != got.flips[0, 1]
    assert resample(scores, False).best[2] == 0


def test_resampling_ties_and_degenerate_tables():
    a = RNG.normal(size=30)
    twins = resample(np.stack([a, a], axis=1), True)
    assert twins.flips[0, 1] == 0
    np.testing.assert_array_equal(twins.best, [0.5, 0.5])
    assert twins.same_order == 1
    shuffled = resample(np.stack([a, a[::-1]], axis=1), True)  # tied on the whole, hardly ever in a draw
    assert shuffled.flips[0, 1] == pytest.approx(0.5, abs=0.01)
    one = resample([[0.1, 0.2]], True)
    assert (one.flips == 0).all()
    assert one.best.tolist() == [0, 1]
    none = resample([[np.nan, 1]], True)
    assert np.isnan(none.best).all()
    assert none.n_missing == 1


def test_orders_across_settings():
    base = RNG.normal(size=(20, 4)) / 100 + np.arange(4)
    got = across([base, base * 2, base[:7]], True)
    assert (got.flip_rate, got.best.tolist()) == (0, [0, 0, 0, 1])
    np.testing.assert_allclose(got.agreement, 1)
    swapped = base[:, [1, 0, 2, 3]]
    got = across([base, base, swapped], True)
    assert got.flips[0, 1] == pytest.approx(2 / 3)
    assert got.flip_rate == pytest.approx(2 / 3 / 6)
    for i in range(3):
        for j in range(3):
            want = stats.kendalltau(got.means[i], got.means[j]).statistic
            assert got.agreement[i, j] == pytest.approx(want)
    reverse = across([base, -base], [True, False])
    assert reverse.flip_rate == 0
    assert across([base, -base], True).flip_rate == 1
    tied = across([base, np.ones((3, 4))], True)
    assert np.isnan(tied.agreement[0, 1])
    assert tied.flip_rate == 0.5


@pytest.mark.parametrize(("effect", "sd"), [(0.05, 0.1), (0.4, 0.5), (-1.0, 0.9)])
def test_power_is_what_simulation_finds(effect, sd):
    plan = samples_needed(effect, sd)
    draws = np.random.default_rng(8).normal(effect, sd, size=(500, plan.n))
    seen = [compare(d, 0 * d, True, resamples=499, confidence=0.5).p < 0.05 for d in draws]
    assert np.mean(seen) == pytest.approx(plan.power, abs=0.06)
    assert 0.8 <= plan.power < 0.95


def test_power_functions_invert_each_other():
    plan = samples_needed(0.05, 0.1, power=0.9, alpha=0.01)
    assert power_of(plan.n, 0.05, 0.1, alpha=0.01).power >= 0.9
    assert power_of(plan.n - 1, 0.05, 0.1, alpha=0.01).power < 0.9
    assert detectable(plan.n, 0.1, power=0.9, alpha=0.01).difference == pytest.approx(0.05, rel=0.02)
    assert samples_needed(0.5, 1.0).n == 34  # a paired t-test needs 34 (G*Power, d = 0.5, power 0.8)
    assert samples_needed(0.2, 1.0).n == 199
    assert samples_needed(1.0, 0.0).n == samples_needed(100.0, 1.0).n == 6
    assert power_of(5, 100, 1).power == 0
    assert detectable(5, 1.0).difference == np.inf
    assert spread([1.0, 2.0, np.nan, 4.0], [0.0, 0.0, 0.0, 1.0]) == pytest.approx(1)
    assert np.isnan(spread([1.0], [0.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare([1.0], [1.0], True, test="t"), "sign_flip or wilcoxon"),
        (lambda: friedman([1.0, 2.0], True), "samples, explainers"),
        (lambda: friedman([[1.0], [2.0]], True), "two or more explainers"),
        (lambda: friedman([[1.0, np.inf]], True), "infinity"),
        (lambda: friedman(DEMSAR, True, alpha=5), "alpha"),
        (lambda: resample(DEMSAR, True, resamples=0), "resamples"),
        (lambda: across([DEMSAR], True), "two or more settings"),
        (lambda: across([DEMSAR, DEMSAR[:, :2]], True), "same explainers"),
        (lambda: across([DEMSAR, [[np.nan, 1, 1, 1]]], True), "leave it out"),
        (lambda: across([DEMSAR, DEMSAR], [True]), "one direction per setting"),
        (lambda: samples_needed(0, 1), "other than 0"),
        (lambda: samples_needed(1, float("nan")), "pilot"),
        (lambda: samples_needed(1e-300, 1.0), "nothing beside a spread"),
        (lambda: samples_needed(1, 1, power=1), "power"),
        (lambda: detectable(10, 1, power=0), "power"),
        (lambda: power_of(0, 1, 1), "at least 1"),
        (lambda: power_of(5, 1, 1, alpha=0), "alpha"),
        (lambda: spread([1.0], [1.0, 2.0]), "got 1 and 2"),
    ],
)
def test_bad_inputs(call, message):
    with pytest.raises(InvalidInput, match=message):
        call()

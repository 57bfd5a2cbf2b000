"""Intervals and paired tests against scipy, closed forms and the degenerate cases."""

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from crossxai import InvalidInput
from crossxai.evaluation.statistics import (
    bands,
    compare,
    effective,
    friedman,
    holm,
    intervals,
    resample,
    samples_needed,
    spread,
    summarise,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from intervals import DIFFERENCES, MEANS, covered, covered_in_groups

RNG = np.random.default_rng(0)
SKEWED = RNG.exponential(size=40)


def by_hand(x, labels, resamples, seed):
    """The interval of the mean, one draw of groups after the other."""
    groups = [x[labels == label] for label in dict.fromkeys(labels.tolist())]
    share = np.array([len(group) / len(x) for group in groups])
    pulled = [(group - x.mean()).sum() / len(x) for group in groups]
    error = np.sqrt(sum(r**2 / (1 - p) for r, p in zip(pulled, share, strict=True)))
    ratios = []
    for places in np.random.default_rng(seed).integers(0, len(groups), size=(resamples, len(groups))):
        drawn = np.concatenate([groups[i] for i in places])
        residuals = np.array([(groups[i] - drawn.mean()).sum() for i in places]) / len(drawn)
        own = np.sqrt(len(groups) / (len(groups) - 1) * (residuals**2).sum())
        ratios.append((drawn.mean() - x.mean()) / max(own, 0.3 * error))
    down, up = np.quantile(ratios, [0.025, 0.975])
    student = stats.t.ppf(0.975, max(1 / (share**2).sum() - 1, 1))
    return x.mean() - max(student, up) * error, x.mean() + max(student, -down) * error


@pytest.mark.parametrize("sizes", [[1] * 12, [5] * 7, [1, 2, 3, 9, 4, 1, 6], [30, 1, 1, 2]])
def test_intervals_are_what_a_loop_over_draws_gives(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    x = np.random.default_rng(3).exponential(size=len(labels)) + labels / 3
    got = summarise(x, groups=labels, resamples=300, seed=4)
    np.testing.assert_allclose([got.low, got.high], by_hand(x, labels, 300, 4), rtol=1e-10)
    assert got.n_groups == (0 if max(sizes) == 1 else len(sizes))


def test_intervals_of_many_draws_are_nested_and_lie_outside_student_s():
    got, narrow = summarise(SKEWED, resamples=50_000), summarise(SKEWED, confidence=0.5)
    assert got.mean == pytest.approx(SKEWED.mean())
    assert got.low < narrow.low < got.mean < narrow.high < got.high
    student = stats.ttest_1samp(SKEWED, 0).confidence_interval()
    assert got.low == pytest.approx(student.low)  # towards the short tail
    assert got.high > student.high + 0.05
    low, high = bands(np.stack([SKEWED, -SKEWED, 0 * SKEWED], axis=1))
    alone = summarise(SKEWED)
    np.testing.assert_allclose([low[0], high[0]], [alone.low, alone.high], rtol=1e-12)
    assert (low[2], high[2]) == (0, 0)


@pytest.mark.parametrize("scores", [MEANS[0], MEANS[1], MEANS[8], DIFFERENCES[1], DIFFERENCES[5]], ids=lambda s: s.name)
def test_intervals_of_ten_samples_cover_the_mean(scores):
    assert covered(scores, 10, 600, 1)[0] > 0.925


@pytest.mark.parametrize("scores", [MEANS[0], MEANS[8], DIFFERENCES[0]], ids=lambda s: s.name)
def test_intervals_of_groups_cover_the_mean(scores):
    with_groups, without, worth = covered_in_groups(scores, 12, "equal", 400, 1)
    assert with_groups > 0.92
    assert without < 0.87
    assert worth == 12


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
    two, twins = summarise([0.0, 1.0]), summarise([0.3, 0.3])
    assert np.isnan([two.low, two.high]).all()
    assert (twins.low, twins.high) == (0.3, 0.3)
    three, tiny = summarise([0.0, 0.5, 1.0]), summarise([0.0, 0.0, 1e-300])
    assert three.low < 0 < 1 < three.high < 10
    assert 0 < tiny.high < 1e-298
    almost = summarise([1.0] * 11 + [0.0])  # most draws have no spread at all
    assert -1 < almost.low < almost.mean < almost.high < 1.5
    halves = summarise([0.0, 1.0, 0.0, 1.0, 0.0, 1.0], groups="aabbcc")
    assert (halves.low, halves.high) == pytest.approx((0.5, 0.5))  # all groups have one mean
    one_patient, two_patients = summarise([0.1, 0.5, 0.9], groups="aaa"), summarise([0.1, 0.5, 0.9], groups="aab")
    assert np.isnan([one_patient.low, one_patient.high, two_patients.low]).all()
    assert (one_patient.n_groups, two_patients.n_groups) == (1, 2)


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


@pytest.mark.parametrize("grouped", [False, True])
def test_draws_of_parts_say_what_draws_of_all_samples_say(monkeypatch, grouped):
    rng = np.random.default_rng(3)
    n, of = 6001, np.arange(6001) // 2 if grouped else None
    skewed, other = rng.lognormal(0, 1, n), rng.lognormal(0, 1, n)
    change = np.where(rng.random(n) < 0.5, 0.03, 0.0)  # a difference that chance could well make
    rows = np.stack([other, other + change + rng.normal(0, 1, n)], axis=1)

    def answers():
        own = summarise(skewed, groups=of, resamples=1000)
        pair = compare(rows[:, 1], rows[:, 0], True, groups=of, resamples=1000)
        assert (own.n, pair.n) == (n, n)
        return own, pair, resample(rows, True, groups=of, resamples=1000), bands(rows, groups=of, resamples=1000)

    few = answers()
    monkeypatch.setattr(intervals, "MANY", n)
    every = answers()
    half = every[0].high - every[0].mean
    assert few[0].mean == every[0].mean
    assert half > 1.03 * (every[0].mean - every[0].low)  # the long tail is still told
    assert (few[0].low, few[0].high) == pytest.approx((every[0].low, every[0].high), abs=0.1 * half)
    assert few[1].p == pytest.approx(every[1].p, abs=0.02)
    assert 1e-3 < few[1].p < 0.2
    np.testing.assert_allclose(few[2].best, every[2].best, atol=0.05)
    width = every[3][1] - every[3][0]
    assert (np.abs(np.array(few[3]) - np.array(every[3])) < 0.05 * width).all()
    if not grouped:
        assert few[1].p == pytest.approx(stats.ttest_rel(rows[:, 1], rows[:, 0]).pvalue, abs=0.02)


def test_a_million_samples_take_little_memory_and_time():
    many = np.random.default_rng(0).normal(size=1_000_000)
    tracemalloc.start()
    own, pair = summarise(many), compare(many, 0 * many, True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert own.n == pair.n == 1_000_000
    assert (own.low, own.high) == pytest.approx(stats.ttest_1samp(many, 0).confidence_interval(), abs=2e-4)
    assert peak < 300e6  # draws of the samples themselves would be 16 GB


def test_numbers_of_groups_are_labels_of_groups():
    labels = np.array([3, 3, 1, 1, 1, 7, 7, 2, 2, 5])
    values = np.r_[np.nan, np.nan, RNG.normal(size=8)]
    as_words = [f"patient {label}" for label in labels]
    assert summarise(values, groups=labels) == summarise(values, groups=as_words)
    assert summarise(values[2:7], groups=[1, 2, 3, 4, 5]) == summarise(values[2:7], groups=np.arange(5))


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
        (lambda: summarise([1.0, 0.2], groups=["a"]), "got 1 for 2"),
        (lambda: summarise([1.0, 0.2], groups=["a", ""]), "label of its own"),
        (lambda: compare([1.0, 0.2], [0.0, 0.0], True, groups=[1.0, np.nan]), "label of its own"),
        (lambda: friedman([[1.0, 0.2]], True, groups=[None]), "label of its own"),
        (lambda: summarise([1.0, 2.0], hits=True), "from 0 to 1"),
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


def test_sign_flips_are_scipys():
    """What is computed by hand, for its speed, is what scipy computes."""
    values = np.random.default_rng(0).normal(0.3, 1, 12)
    flips = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert compare(values, np.zeros(12), True).p == pytest.approx(flips.pvalue, abs=1e-12)


def test_samples_written_down_five_times_say_nothing_more():
    """Five copies of every sample, a group each, are the samples themselves, in every statistic."""
    scores = np.random.default_rng(6).gamma(2, size=(11, 3)) * np.array([1, 1.2, 2])
    often, groups = np.tile(scores, (5, 1)), np.tile([f"patient {i}" for i in range(11)], 5)
    a, b = often[:, 0], often[:, 1]
    once, five = summarise(scores[:, 0]), summarise(a, groups=groups)
    np.testing.assert_allclose([five.low, five.mean, five.high], [once.low, once.mean, once.high], rtol=1e-12)
    assert (five.n, five.n_groups) == (55, 11)
    assert summarise(a).high < five.high
    for test in ("sign_flip", "wilcoxon"):
        pair = compare(scores[:, 0], scores[:, 1], True, test=test)
        pairs = compare(a, b, True, test=test, groups=groups)
        assert (pairs.p, pairs.low, pairs.high) == pytest.approx((pair.p, pair.low, pair.high), rel=1e-12)
        assert (pairs.n, pairs.n_groups, pair.n_groups) == (55, 11, 0)
    ranked, rows = friedman(often, True, groups=groups), friedman(scores, True)
    assert (ranked.p, ranked.p_f, ranked.critical_difference) == pytest.approx(
        (rows.p, rows.p_f, rows.critical_difference)
    )
    assert (ranked.n, ranked.n_groups) == (55, 11)
    drawn, alone = resample(often, True, groups=groups), resample(scores, True)
    np.testing.assert_array_equal(drawn.flips, alone.flips)
    assert (drawn.n_groups, alone.n_groups) == (11, 0)
    assert spread(a, b, groups=groups) == pytest.approx(spread(scores[:, 0], scores[:, 1]))
    assert samples_needed(0.3, spread(a, b, groups=groups)).n == samples_needed(0.3, spread(*scores.T[:2])).n


def test_groups_of_one_are_no_groups_and_missing_values_leave_theirs():
    singles = [f"patient {i}" for i in range(40)]
    assert summarise(SKEWED, groups=singles) == summarise(SKEWED)
    assert compare(SKEWED, 0 * SKEWED, True, groups=singles) == compare(SKEWED, 0 * SKEWED, True)
    labels = np.arange(40) // 4
    holes = np.where(labels == 3, np.nan, SKEWED)
    got, want = summarise(holes, groups=labels), summarise(SKEWED[labels != 3], groups=labels[labels != 3])
    assert (got.low, got.high, got.n_groups, got.n_missing) == (want.low, want.high, 9, 4)
    order = np.random.default_rng(0).permutation(40)
    shuffled, ordered = summarise(SKEWED[order], groups=labels[order]), summarise(SKEWED, groups=labels)
    assert shuffled.high == pytest.approx(ordered.high, rel=0.05)  # other draws of the same groups
    assert effective(np.array([5.0, 5, 5])) == 3
    assert effective(np.array([98.0, 1, 1])) < 1.1


@pytest.mark.parametrize("test", ["sign_flip", "wilcoxon"])
def test_false_alarms_are_rare_with_groups_and_not_without(test):
    rng = np.random.default_rng(9)
    labels = np.repeat(np.arange(10), 6)
    rows = rng.normal(size=(300, 10))[:, labels] + rng.normal(size=(300, 60))
    alarms = [
        [compare(d, 0 * d, True, test=test, groups=g, resamples=999).p < 0.05 for d in rows] for g in (labels, None)
    ]
    assert np.mean(alarms[0]) < 0.09
    assert np.mean(alarms[1]) > 0.2


def not_rejected(hits, n, shares):
    """Whether Blaker's test of each share has p > 0.05: tails no larger than the smaller one of the hits found, by counting."""
    k = np.arange(n + 1)[:, None]
    tails = np.minimum(stats.binom.cdf(k, n, shares), stats.binom.sf(k - 1, n, shares))
    return (stats.binom.pmf(k, n, shares) * (tails <= tails[hits] * (1 + 1e-9))).sum(axis=0) > 0.05


def test_hits_have_blaker_s_interval_of_a_share():
    of_ten = summarise([1.0] * 3 + [0.0] * 7, hits=True)
    assert (of_ten.low, of_ten.high) == pytest.approx((0.08726443, 0.61941066), abs=1e-8)  # R, BlakerCI 1.0-6
    shares = np.linspace(0, 1, 2001)
    for hits, n in ((0, 4), (1, 1), (2, 12), (10, 10), (31, 60), (57, 60)):
        got = summarise([1.0] * hits + [0.0] * (n - hits), hits=True)
        kept = shares[not_rejected(hits, n, shares)]
        assert (got.low, got.high) == pytest.approx((kept[0], kept[-1]), abs=5.1e-4)
        wider = stats.binomtest(hits, n).proportion_ci()
        assert wider.low - 1e-12 <= got.low < got.high <= wider.high + 1e-12
    ends = np.array([[s.low, s.high] for s in (summarise([1.0] * k + [0.0] * (12 - k), hits=True) for k in range(13))])
    held = (ends[:, :1] <= shares + 1e-9) & (shares - 1e-9 <= ends[:, 1:])
    chance = stats.binom.pmf(np.arange(13)[:, None], 12, shares)
    assert (chance * held).sum(axis=0).min() >= 0.95
    for hits in ([0.5], [1.0, 0.0], [0.5, 0.5, 1.0], [1.0, 0.25] * 6):  # equal tails; hits shared by several places
        for confidence in (0.5, 0.8, 0.99):
            got = summarise(hits, hits=True, confidence=confidence)
            mirrored = summarise([1 - hit for hit in hits], hits=True, confidence=confidence)
            assert 0 <= got.low <= got.mean <= got.high <= 1
            assert (got.low, got.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-9)
    assert np.isnan(summarise([], hits=True).low)
    # Every patient all or nothing: the patients count. Everybody hit: as many hits as patients.
    labels = np.repeat(np.arange(12), 5)
    patients = (labels < 8).astype(float)
    grouped, alone = summarise(patients, groups=labels, hits=True), stats.binomtest(8, 12).proportion_ci()
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), abs=0.04)
    every = summarise(np.ones(60), groups=labels, hits=True)
    assert every.low == pytest.approx(stats.binomtest(12, 12).proportion_ci().low)


@pytest.mark.parametrize(("n", "digits"), [(51, 9), (80, 9), (12, 1), (40, 1)])
def test_wilcoxon_s_normal_approximation_is_exactly_scipy_s(n, digits):
    """To nine digits, of which a thousandth more in the mean or the spread of the rank sum would change the fourth."""
    d = np.round(np.random.default_rng(n).normal(0.15, 1, n), digits)
    d[:2] = 0.0 if digits == 1 else d[:2]
    got = compare(d, 0 * d, True, test="wilcoxon").p
    want = stats.wilcoxon(d, zero_method="pratt", method="asymptotic", correction=False).pvalue
    assert got == pytest.approx(want, rel=1e-9)
    ranks = stats.rankdata(np.abs(d))[d != 0]
    total = stats.rankdata(np.abs(d))[d > 0].sum()

    def p(mean, spread):
        return 2 * stats.norm.sf(abs(total - mean) / spread)

    mean, sd = ranks.sum() / 2, np.sqrt((ranks**2).sum()) / 2
    assert 1e-4 < got < 0.9
    assert got == pytest.approx(p(mean, sd), rel=1e-9)
    assert got != pytest.approx(p(mean * 1.001, sd), rel=1e-4)
    assert got != pytest.approx(p(mean, sd * 1.001), rel=1e-4)

"""Agreement between maps against scipy, with ties, constants and missing values."""

import numpy as np
import pytest
from scipy import stats

from crossxai import InvalidInput
from crossxai.evaluation.metrics.similarity import MEASURES, matrix, pearson, per_sample, spearman

RNG = np.random.default_rng(0)
A = RNG.normal(size=(4, 5, 6))
B = A + RNG.normal(size=A.shape)
TIED = np.round(B, 0)


def cosine(a, b):
    return per_sample([a, b])["cosine"][:, 0, 1]


def top_k(a, b, share=0.1):
    return per_sample([a, b], share)["top_k"][:, 0, 1]


@pytest.mark.parametrize("other", [B, TIED])
def test_agrees_with_scipy(other):
    for i in range(4):
        a, b = A[i].ravel(), other[i].ravel()
        assert spearman(A, other)[i] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
        assert pearson(A, other)[i] == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
        assert cosine(A, other)[i] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)


def test_top_k_counts_shared_largest_units():
    want = [
        len(set(np.argsort(-a.ravel())[:3]) & set(np.argsort(-b.ravel())[:3])) / 3 for a, b in zip(A, B, strict=True)
    ]
    np.testing.assert_allclose(top_k(A, B, 0.1), want)
    np.testing.assert_allclose(top_k(A, B, 1.0), 1)


def test_tied_units_share_the_remaining_places():
    # k = 2: one sure place, and three units tied for the other one hold a third of it each
    a, b = np.array([[9, 5, 5, 5, 0.0, 1, 2, 3]]), np.array([[9, 8, 0, 0, 0.0, 1, 2, 3]])
    assert top_k(a, b, 0.25)[0] == pytest.approx((1 + 1 / 3) / 2)
    assert top_k(a, a, 0.25)[0] == pytest.approx(1)


def test_identical_opposite_and_scaled_maps():
    for f in (spearman, pearson, cosine):
        np.testing.assert_allclose(f(A, A), 1)
        np.testing.assert_allclose(f(A, -A), -1)
        np.testing.assert_allclose(f(A, A * 1e-200), 1)
    np.testing.assert_allclose(spearman(A, np.exp(A)), 1)
    np.testing.assert_allclose(top_k(A, np.exp(A)), 1)


def test_constant_and_broken_maps_are_undefined():
    broken = B.copy()
    broken[0], broken[1], broken[2, 1, 1] = 0, 3, np.nan
    for f in (spearman, pearson, cosine, top_k):
        np.testing.assert_array_equal(np.isnan(f(A, broken)), [True, True, True, False])


def test_matrix_means_over_usable_samples():
    broken, dead = B.copy(), np.zeros_like(B)
    broken[0] = 1
    table = matrix([A, broken, TIED, dead])
    assert set(table) == {*MEASURES, "n"}
    np.testing.assert_array_equal(table["n"], [[4, 3, 4, 0], [3, 3, 3, 0], [4, 3, 4, 0], [0, 0, 0, 0]])
    for name, f in (("spearman", spearman), ("pearson", pearson), ("cosine", cosine), ("top_k", top_k)):
        np.testing.assert_allclose(table[name], table[name].T, atol=1e-12)
        np.testing.assert_allclose(np.diag(table[name])[:3], 1)
        assert table[name][0, 2] == pytest.approx(f(A, TIED).mean())
        assert table[name][0, 1] == pytest.approx(f(A, B)[1:].mean())
        assert np.isnan(table[name][3]).all()
    assert matrix([])["n"].shape == (0, 0)


def test_bad_inputs():
    with pytest.raises(InvalidInput, match="share one shape"):
        per_sample([A, A[:, :3]])
    with pytest.raises(InvalidInput, match="share one shape"):
        per_sample([np.ones(3)])
    with pytest.raises(InvalidInput, match="share must lie"):
        top_k(A, B, 0)

"""Localisation and complexity against Quantus' own numbers on the same maps and masks; what sets the two apart is asserted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from beside_quantus import SIDE, N, beside

from crossxai.evaluation import get


@pytest.fixture
def masks() -> Any:
    inside = np.zeros((N, SIDE, SIDE), dtype=bool)
    for i in range(N):
        inside[i, 2 + i : 9 + 2 * i, 3 : 12 - i] = True
    return inside


def test_ranks(quantus: Any, masks: Any) -> None:
    both = beside()
    values = both.maps()
    values[:2][masks[:2]] += 2  # a map without ties, that hits
    answer = both.answer(values)
    pairs = {"pointing": quantus.PointingGame, "relevance_rank": quantus.RelevanceRankAccuracy}
    for name, kind in pairs.items():
        found = get(name, masks=masks)(both.question, answer).value
        np.testing.assert_allclose(found, both.call(kind, values, masks), atol=1e-5)
    assert 0 < get("pointing", masks=masks)(both.question, answer).value.mean() < 1
    found = get("top_k_intersection", masks=masks, share=0.1)(both.question, answer).value
    np.testing.assert_allclose(found, both.call(quantus.TopKIntersection, values, masks, k=26), atol=1e-5)
    # concept_influence: over the mask's share of the area, which we keep beside it
    influence = both.call(quantus.TopKIntersection, values, masks, k=26, concept_influence=True)
    np.testing.assert_allclose(found / masks.mean(axis=(1, 2)), influence, atol=1e-5)


def test_tied_maxima_are_a_fraction_here_and_any_hit_there(quantus: Any, masks: Any) -> None:
    both = beside()
    values = np.zeros((N, SIDE, SIDE, 1), np.float32)
    values[:, 5, 5] = values[:, 0, 0] = values[:, 0, 1] = 1
    assert masks[:, 5, 5].all()
    np.testing.assert_allclose(get("pointing", masks=masks)(both.question, both.answer(values)).value, 1 / 3)
    assert np.all(both.call(quantus.PointingGame, values, masks))


def test_mass(quantus: Any, masks: Any) -> None:
    """Theirs sums signed relevance unless told otherwise; of its positive part, all three are one number."""
    both = beside()
    values = both.maps()
    found = get("mask_share", masks=masks)(both.question, both.answer(values)).value
    positive = np.maximum(values, 0)
    np.testing.assert_allclose(found, both.call(quantus.RelevanceMassAccuracy, positive, masks), atol=1e-5)
    inside = both.call(quantus.AttributionLocalisation, values, masks, positive_attributions=True)
    np.testing.assert_allclose(found, inside, atol=1e-5)
    signed = np.array(both.call(quantus.RelevanceMassAccuracy, values, masks))
    flat, own = values.reshape(N, -1), masks.reshape(N, -1)
    np.testing.assert_allclose(signed, (flat * own).sum(axis=1) / flat.sum(axis=1), rtol=1e-4)
    assert (np.abs(signed - found) > 0.01).all()


def test_their_auc_is_of_another_curve(quantus: Any, masks: Any) -> None:
    """The receiver operating characteristic: 1/2 by chance whatever the mask; ours, precision-recall, has the mask's share."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    both = beside()
    values = both.maps()
    found, theirs = get("auprc", masks=masks)(both.question, both.answer(values)).value, []
    for row in range(N):
        assert found[row] == pytest.approx(average_precision_score(masks[row].ravel(), values[row].ravel()), abs=1e-9)
        theirs.append(roc_auc_score(masks[row].ravel(), values[row].ravel()))
    np.testing.assert_allclose(both.call(quantus.AUC, values, masks), theirs, atol=1e-9)


def test_complexity(quantus: Any) -> None:
    both = beside()
    values = both.maps()
    answer = both.answer(values)
    for name, kind in (("sparseness", quantus.Sparseness), ("entropy", quantus.Complexity)):
        found = get(name)(both.question, answer).value
        np.testing.assert_allclose(found, both.call(kind, values, abs=True), atol=1e-5)
    # "Effective" there is a count of values above a threshold; ours weighs them, and has no threshold.
    counted = both.call(quantus.EffectiveComplexity, values, abs=True, eps=0.5)
    np.testing.assert_array_equal(counted, (np.abs(values) > 0.5).reshape(N, -1).sum(axis=1))
    even = np.zeros_like(values)
    even[:, 3:7, 3:7] = 0.7
    share = get("effective_area")(both.question, both.answer(even)).value
    np.testing.assert_allclose(share * SIDE * SIDE, both.call(quantus.EffectiveComplexity, even, abs=True), rtol=1e-6)

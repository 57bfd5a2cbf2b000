"""How the numbers that libraries take from one curve hang together, as docs/evaluation.md states it, on real curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import toys

from crossxai import Attribution, Question, Target
from crossxai.evaluation.curves import Deletion, Insertion, evaluate


@pytest.mark.parametrize("kind", [Deletion, Insertion])
@pytest.mark.parametrize("n", [2, 16, 64])
def test_identities_over_equal_steps(kind: Any, n: int) -> None:
    question = Question(toys.torch_model(), (toys.images(4),), Target.classes(np.arange(4) % 3, 3, "softmax"))
    values = np.random.default_rng(0).normal(size=(4, toys.SIZE, toys.SIZE, 1))
    given = Attribution((values,), question.modalities, question.ids, "test")
    areas = ("fractions", "trapezoid", "mean", "over_len", "raw")
    metrics = [kind(n, fill="zero", area=area) for area in areas]
    metrics.append(kind(n, fill="zero", area="trapezoid", endpoints="no_start"))
    found = evaluate(question, [given], metrics)[0]
    s = found[0].curve
    assert s is not None
    assert s.shape == (4, n + 1)
    assert np.ptp(s, axis=1).min() > 0.01
    t, trapezoid, m, over_len, raw, without = (scores.value for scores in found)
    np.testing.assert_allclose(trapezoid, t, atol=1e-12)
    np.testing.assert_allclose(m - t, ((s[:, 0] + s[:, -1]) / 2 - m) / n, atol=1e-12)
    np.testing.assert_allclose(raw, n * t, atol=1e-12)
    np.testing.assert_allclose(over_len, n / (n + 1) * t, atol=1e-12)
    np.testing.assert_allclose(without - t, (without - (s[:, 0] + s[:, 1]) / 2) / n, atol=1e-12)
    assert (np.abs(m - t) > 0).all()

"""Masks are booleans, or 0 and 1; what else is given for one is refused with what to write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crossxai import Dice, Target
from crossxai.errors import InvalidInput
from crossxai.evaluation.metrics.localisation import relevance_mass
from crossxai.target import SampleMasks, as_mask

INSIDE = np.zeros((2, 4, 4), bool)
INSIDE[:, 1:3, 1:3] = True
LABEL_MAP = np.where(INSIDE, 1, 2).astype(np.uint8)
LABEL_MAP[:, 0, 0] = 255
NOT_FINITE = np.where(INSIDE, np.nan, 0.0)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
def test_zero_and_one_of_any_type_are_a_mask(kind: Any) -> None:
    np.testing.assert_array_equal(as_mask(INSIDE.astype(kind)), INSIDE)
    np.testing.assert_array_equal(SampleMasks(INSIDE.astype(kind)).values, INSIDE)
    assert Target.regions(INSIDE.astype(kind), 0, 2).weights[..., 0].sum() == pytest.approx(2)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        (LABEL_MAP, "label_map == k, such as label_map == 1"),
        (INSIDE * np.uint8(255), "write mask == 255"),
        (INSIDE * 2, "write mask == 2"),
        (-INSIDE.astype(int), "write mask == -1"),
        (INSIDE * 0.7, "write mask > 0.5"),
        (NOT_FINITE, "NaN or infinite"),
        (np.where(INSIDE, np.inf, 0.0), "NaN or infinite"),
        (np.full((2, 4, 4), "in"), "booleans"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(given: Any, remedy: str) -> None:
    for use in (
        as_mask,
        lambda m: Target.regions(m, 1, 3),
        lambda m: Dice(m, 1, 3),
        SampleMasks,
        lambda m: relevance_mass(np.ones((2, 4, 4)), m),
    ):
        with pytest.raises(InvalidInput, match=r"booleans, or.* 0 and 1") as caught:
            use(given)
        assert remedy in str(caught.value)

"""Samples are checked where they are made: layout, unit, labels, masks, missing values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from crossxai.assumptions.inputs import missing_values
from crossxai.errors import InvalidInput
from crossxai.files import Samples
from crossxai.model import Modality

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 8, 6, 3)).astype(np.float32)
TABLE = RNG.normal(60, 10, (3, 2)).astype(np.float32)
COLUMNS = Modality.table(("age", "dose"))


def samples(images: Any = IMAGES, table: Any = TABLE, labels: Any = (0, 1, 1), **given: Any) -> Samples:
    inputs = {"image": images, "table": table}
    modalities = (Modality.image(), COLUMNS)
    given = {"classes": ("no", "yes")} | given
    return Samples(("a", "b", "c"), modalities, inputs, np.asarray(labels), **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"images": np.moveaxis(IMAGES, -1, 1)}, r"np.moveaxis\(x, 1, -1\)"),
        ({"images": IMAGES * 255}, "declared range"),
        ({"images": (IMAGES * 255).astype(np.uint8)}, "/ 255"),
        ({"labels": (0, 1, 2)}, "labels are numbers 0 … 1 of the 2 classes .* from 0 to 2"),
        ({"labels": (-1, 0, 1)}, "from -1 to 1"),
        ({"labels": (1, 2, 2), "task": "segmentation"}, "name every class"),
        ({"table": np.array([[50, np.nan]] * 3, np.float32)}, "lacks values: dose: NaN in 3 of 3"),
        ({"masks": {"tumour": np.full((3, 8, 6), 255)}}, "masks 'tumour' are booleans.*mask == 255"),
        ({"truth": {"image": np.arange(144).reshape(3, 8, 6)}}, "truth 'image' are booleans.*label_map == k"),
    ],
)
def test_samples_that_are_not_as_declared_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        samples(**given)


def test_samples_as_declared_are_taken() -> None:
    found = samples(masks={"tumour": np.ones((3, 8, 6), np.uint8)})
    assert found.masks["tumour"].dtype == bool
    samples(labels=(0.5, 900.0, -3.0), task="regression")  # a regression's labels are values


def test_sentinels_are_reported_and_values_are_not() -> None:
    rng = np.random.default_rng(1)
    n = 200
    columns = {
        "age": np.where(rng.random(n) < 0.05, 999, rng.integers(20, 90, n)),
        "stage": np.where(rng.random(n) < 0.05, 99, rng.integers(1, 5, n)),
        "size": np.where(rng.random(n) < 0.05, -1, rng.gamma(2, 3, n)),
        "pressure": np.where(rng.random(n) < 0.05, -999, rng.normal(120, 15, n)),
        "sign": rng.choice([-1, 1], n),
        "level": rng.choice([-1, 0, 1, 2], n) + 0.0,
        "score": rng.normal(0, 1, n),
        "percent": rng.integers(80, 100, n),  # 99 among 98 and 97 is a value
        "holed": np.where(np.arange(n) == 7, np.nan, rng.normal(0, 1, n)),
    }
    modality = Modality.table(tuple(columns))
    found = {m.column: m for m in missing_values(np.stack(list(columns.values()), 1).astype(np.float32), modality)}
    assert {name: m.value for name, m in found.items() if name != "holed"} == {
        **{"age": 999, "stage": 99, "size": -1, "pressure": -999},
        "level": -1,  # a suspicion: the only negative value
    }
    assert np.isnan(found["holed"].value)
    assert found["holed"].count == 1
    assert "999 in" in found["age"].words
    assert missing_values(IMAGES, Modality.image()) == ()

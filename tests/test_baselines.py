"""Fills: each against its definition, on images and tables, and every bad fill."""

import numpy as np
import pytest

from crossxai import InvalidInput, Modality, UnknownName, Unsupported
from crossxai.evaluation.curves.fills import Blur, DatasetMean, Mean, Zero, describe, filled, resolve

IMAGE = Modality.image()
TABLE = Modality.table(("age", "size"))
X = np.random.default_rng(0).random((3, 8, 9, 3), dtype=np.float32)
T = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)


def test_zero_and_means():
    np.testing.assert_array_equal(filled("zero", IMAGE, X), np.zeros_like(X))
    np.testing.assert_array_equal(filled("zero", TABLE, T), np.zeros_like(T))
    mean = filled("mean", IMAGE, X)
    np.testing.assert_allclose(mean[1, 4, 2], [X[1, :, :, c].mean() for c in range(3)], rtol=1e-6)
    assert np.ptp(mean, axis=(1, 2)).max() == 0
    np.testing.assert_allclose(filled(DatasetMean((0.1, 0.2, 0.3)), IMAGE, X)[2, 0, 5], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(filled({"dataset_mean": [4, -5]}, TABLE, T), np.tile(np.float32([4, -5]), (3, 1)))
    for fill in ("zero", "mean", "blur"):
        assert filled(fill, IMAGE, X).dtype == np.float32
        assert filled(fill, IMAGE, X.astype(np.float64)).dtype == np.float64


def test_blur_equals_a_gaussian_sum_and_keeps_samples_and_channels_apart():
    sigma, radius = 1.0, 4
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    got = filled({"blur": sigma}, IMAGE, X)
    padded = np.pad(X[1, :, :, 2].astype(np.float64), radius, mode="symmetric")
    want = sum(
        kernel[a] * kernel[b] * padded[a : a + 8, b : b + 9] for a in range(len(kernel)) for b in range(len(kernel))
    )
    np.testing.assert_allclose(got[1, :, :, 2], want, atol=1e-6)
    np.testing.assert_array_equal(filled("blur", IMAGE, X[1:2])[0], filled("blur", IMAGE, X)[1])


def test_a_function_fills_and_cannot_change_the_inputs():
    kept = X.copy()

    def in_place(values):
        values[:] = 0.25
        return values

    assert (filled(in_place, IMAGE, X) == 0.25).all()
    np.testing.assert_array_equal(X, kept)
    assert filled(lambda v: v.astype(np.float64), IMAGE, X).dtype == np.float32


def test_plain_data_round_trip():
    for fill in (Zero(), Mean(), Blur(2), DatasetMean((1, 2))):
        assert resolve(describe(fill)) == fill
        assert resolve(fill) is fill
    assert describe(len) == "len"
    assert DatasetMean(np.array([0.5, 1])) == DatasetMean((0.5, 1.0))


@pytest.mark.parametrize(
    ("fill", "error", "message"),
    [
        ("blurr", UnknownName, "did you mean blur"),
        ({"blurr": 2}, UnknownName, "did you mean blur"),
        ("dataset_mean", InvalidInput, "needs its values"),
        ({"zero": 1}, InvalidInput, "takes no value"),
        ({"blur": 1, "zero": 1}, InvalidInput, "one name with one value"),
        ({"blur": 0}, InvalidInput, "finite number above 0"),
        ({"blur": "2"}, InvalidInput, "finite number above 0"),
        (3.0, InvalidInput, "a name or a function"),
        (DatasetMean((0.5,)), InvalidInput, "1 values given, the inputs have 3"),
        (DatasetMean((127, 127, 127)), InvalidInput, "raw units"),
        (lambda v: v[:, :4], InvalidInput, "keep the shape"),
        (lambda v: v * np.nan, InvalidInput, "not finite"),
        (lambda v: v.astype(str), InvalidInput, "not finite numbers"),
    ],
)
def test_bad_fills(fill, error, message):
    with pytest.raises(error, match=message):
        filled(fill, IMAGE, X)


@pytest.mark.parametrize("fill", ["blur", "mean"])
def test_fills_that_need_space_refuse_tables(fill):
    with pytest.raises(Unsupported, match="write fill='zero'"):
        filled(fill, TABLE, T)


@pytest.mark.parametrize("values", [(), (np.nan,), ((1, 2), (3, 4))])
def test_bad_dataset_means(values):
    with pytest.raises(InvalidInput, match="one finite number per channel"):
        DatasetMean(values)

"""LIME against its own library: other segments, other numbers of channels, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import toys, zoo
from test_native import close

from crossxai import InvalidInput, Modality, Question, Target
from crossxai.adapters.numpy import FunctionModel
from crossxai.errors import InvalidFile
from crossxai.explainers import get
from crossxai.explainers.groups import groups, lime_samples
from crossxai.model import Array


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("segmentation", ["grid", "slic", "felzenszwalb", "file"])
def test_other_segments(framework: str, segmentation: str, tmp_path: Path) -> None:
    from lime.lime_image import LimeImageExplainer

    model = toys.torch_model() if framework == "torch" else toys.keras_model()
    question = toys.question(model, n=2)
    if segmentation == "file":
        segmentation = str(tmp_path / "segments.npz")
        np.savez(segmentation, **{i: np.arange(1024).reshape(32, 32) // (100 + 50 * int(i)) for i in "01"})
    found = get("lime.image", samples=50, segmentation=segmentation, patch=8)(question)
    for row in range(2):
        (labels,) = groups(question, row, segmentation, 8)
        rng = question.rng(row, 0)
        answer = LimeImageExplainer(random_state=np.random.RandomState(rng.integers(2**32))).explain_instance(
            toys.images(2)[row],
            lambda batch: model.predict((batch.astype(np.float32),)),
            labels=(row,),
            top_labels=None,
            num_samples=50,
            segmentation_fn=lambda _image, labels=labels: labels[..., 0],
            random_seed=0,  # or lime would draw one
        )
        weights = dict(answer.local_exp[row])
        close(found.values[0][row, ..., 0], np.vectorize(weights.get)(labels[..., 0]).astype(np.float32), 1e-4)


def ridge(shown: Array, scores: Array) -> Array:
    """LIME's weights, written out: cosine distance of the binary samples, width 0.25, Ridge(1)."""
    distance = 1 - np.sqrt(shown.mean(axis=1))
    weight = np.exp(-(distance**2) / (2 * 0.25**2))
    centred = shown - np.average(shown, axis=0, weights=weight)
    gram = centred.T @ (weight[:, None] * centred) + np.eye(shown.shape[1])
    return np.asarray(np.linalg.solve(gram, centred.T @ (weight * (scores - np.average(scores, weights=weight)))))


@pytest.mark.parametrize("profile", ["native", "canonical"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels(profile: Any, channels: int) -> None:
    """lime's own colours are three; hidden segments are filled with the mean of each channel, or with one value."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(12, 12, channels)).astype(np.float32)
    x = rng.random((2, 12, 12, channels)).astype(np.float32)
    modality = Modality.image(channels=tuple("abcde"[:channels]))
    model = FunctionModel(lambda v: np.tanh((v * kernel).sum((1, 2, 3)))[:, None], (modality,))
    question = Question(model, (x,), Target.outputs(0, 2, 1))
    found = get("lime.image", profile=profile, samples=60, segmentation="grid", patch=4, fill=None)(question)
    segments = groups(question, 1, "grid", 4)[0][..., 0]
    draws = question.rng(1, 0)
    if profile == "canonical":
        shown, hidden = lime_samples(draws, 60, 9), np.zeros_like(x[1])
    else:
        shown = np.random.RandomState(draws.integers(2**32)).randint(0, 2, 60 * 9).reshape(60, 9)
        shown[0] = 1
        hidden = np.stack([x[1][segments == s].mean(axis=0) for s in range(9)])[segments]
    copies = np.where(shown[:, segments][..., None] == 1, x[1], hidden)
    weights = ridge(shown, question.score((copies,), np.ones(60)))
    close(found.values[0][1, ..., 0], weights[segments].astype(np.float32), 2e-4)


def test_canonical_samples_are_the_first_draws() -> None:
    """So that other libraries, given the same segments, fit the same samples."""
    question = toys.question(toys.torch_model(), n=1, check="off")
    asked: list[Array] = []
    inner = question.model.predict
    question.model.predict = lambda inputs: asked.append(inputs[0]) or inner(inputs)  # type: ignore[method-assign]
    get("lime.image", profile="canonical", samples=30, segmentation="grid", patch=8)(question)
    shown = lime_samples(question.rng(0, 0), 30, 16)
    segments = groups(question, 0, "grid", 8)[0][..., 0]
    np.testing.assert_array_equal(
        np.concatenate(asked), np.where(shown[:, segments][..., None] == 1, question.inputs[0], 0)
    )


@pytest.mark.parametrize("segmentation", ["quickshift", "grid"])
@pytest.mark.parametrize("other", ["captum.lime", "xplique.lime", "reference.lime"])
def test_canonical_maps_meet(segmentation: str, other: str) -> None:
    question = zoo.question("torch", "image+image").only("t1")
    options = {"samples": 50, "segmentation": segmentation, "patch": 4}
    here, there = (get(n, profile="canonical", **options)(question).values[0] for n in ("lime.image", other))
    close(here, there, 1e-5)


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("stored", [False, True])
def test_tables(framework: str, stored: bool, tmp_path: Path) -> None:
    """The image held at each sample's own; with a background lime's quartiles, without one a normal around the sample."""
    from lime.lime_tabular import LimeTabularExplainer

    question = zoo.question(framework, "image+table", "class").only("table")
    values = question.values[0]
    background = np.random.default_rng(5).normal(size=(40, 3)) * [1, 2, 3]
    options: dict[str, Any] = {"sd": 0.5}
    if stored:
        np.save(tmp_path / "background.npy", background)
        options = {"background": str(tmp_path / "background.npy")}
    found = get("lime.tabular", samples=70, features=2, **options)(question)
    assert found.values[0].shape == (2, 3)
    for row in range(2):
        state = np.random.RandomState(question.rng(row, 0).integers(2**32))
        own = values[row].astype(np.float64)
        training = background if stored else np.stack([own - 0.5, own + 0.5])
        explainer = LimeTabularExplainer(
            training, "regression", discretize_continuous=stored, sample_around_instance=not stored, random_state=state
        )
        answer = explainer.explain_instance(
            own,
            lambda rows, row=row: question.score((rows.astype(np.float32),), np.full(len(rows), row)),
            num_features=2,
            num_samples=70,
        )
        expected = np.zeros(3, np.float32)
        for column, weight in answer.local_exp[1]:
            expected[column] = weight
        close(found.values[0][row], expected, 1e-5)
        assert np.count_nonzero(expected) == 2
        np.testing.assert_allclose(found.extras["r2"][row], answer.score, rtol=1e-4)
    alone = get("lime.tabular", samples=70, features=2, **options)(question[[1]])
    np.testing.assert_array_equal(alone.values[0][0], found.values[0][1])


def test_a_linear_table_gets_its_weights() -> None:
    """One unit of a column is one `sd` of it; a declared range is what `sd` is a share of."""
    weights = np.array([3.0, -2.0, 0.0])
    for limits, scale in ((None, 0.25), ((0.0, 4.0), 1.0)):
        table = Modality("table", ("feature",), ("a", "b", "c"), limits)
        model = FunctionModel(lambda x: (x @ weights)[:, None], (table,))
        question = Question(model, (np.full((1, 3), 2.0),), Target.outputs(0, 1, 1))
        found = get("lime.tabular", sd=0.25)(question)
        np.testing.assert_allclose(found.values[0][0], weights * scale, rtol=2e-3, atol=1e-3)
        assert found.extras["r2"][0] > 0.999


def test_wrong_parameters(tmp_path: Path) -> None:
    for options, message in (
        ({"segmentation": "scalars"}, "segmentation is one of quickshift, slic, felzenszwalb, grid"),
        ({"patch": 0}, "patch must be at least 1"),
    ):
        with pytest.raises(InvalidInput, match=message):
            get("lime.image", **options)
    for options, message in (
        ({"sd": 0.0}, "sd must be positive"),
        ({"features": 0}, "features must be at least 1"),
        ({"background": "table.csv"}, "path of a .npy file"),
    ):
        with pytest.raises(InvalidInput, match=message):
            get("lime.tabular", **options)
    question = zoo.question("torch", "image+table", "class")
    with pytest.raises(InvalidFile, match="no background file"):
        get("lime.tabular", background=str(tmp_path / "none.npy"))(question)
    np.save(tmp_path / "narrow.npy", np.zeros((5, 2)))
    with pytest.raises(InvalidInput, match=r"numbers of shape \(rows, 3\) are needed"):
        get("lime.tabular", background=str(tmp_path / "narrow.npy"))(question)


@pytest.mark.parametrize("content", ["text", "pickled", "cut short"])
def test_files_that_are_no_arrays(content: str, tmp_path: Path) -> None:
    segments, background = tmp_path / "segments.npz", tmp_path / "background.npy"
    for path, save in ((segments, lambda p, v: np.savez(p, **{"0": v, "1": v})), (background, np.save)):
        save(path, np.full((40, 40), None) if content == "pickled" else np.zeros((40, 40)))
        if content == "text":
            path.write_text("0 1 2", encoding="ascii")
        elif content == "cut short":
            path.write_bytes(path.read_bytes()[:200])
    question = zoo.question("torch", "image+table", "class")
    for name in ("lime.image", "captum.feature_ablation"):
        with pytest.raises(InvalidFile, match=r"segments\.npz is no \.npz file of plain arrays"):
            get(name, segmentation=str(segments))(question)
    with pytest.raises(InvalidFile, match=r"background\.npy is no \.npy file of plain numbers"):
        get("lime.tabular", background=str(background))(question)

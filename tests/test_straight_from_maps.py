"""Figures and tables straight from maps and scores, as a notebook asks for them, without a run's folder."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from fused_run import PAIRS, run

from crossxai import Attribution, InvalidInput, Scores
from crossxai.model import Array
from crossxai.report import analysis
from crossxai.report.plots import plot_curves
from crossxai.report.plots.grids import representative_samples
from crossxai.report.scorecard import frames, scorecards
from crossxai.studies import medical
from crossxai.studies.medical import exploratory
from crossxai.studies.networks import torch_networks, weight_files
from crossxai.studies.networks.loading import load


def maps_of(samples: medical.MedicalSet, names: tuple[str, ...]) -> Attribution:
    rng = np.random.default_rng(0)
    chosen = tuple(m for m in PAIRS[samples.task] if m.name in names)
    return Attribution(
        tuple(rng.normal(size=samples.inputs[m.name].shape) for m in chosen), chosen, samples.ids, "some.explainer"
    )


@pytest.mark.parametrize("task", medical.TASKS)
def test_a_gallery_of_a_medical_set(task: str) -> None:
    samples = medical.generate(task, n=7, seed=1, size=32)
    images = tuple(samples.truth)
    region = samples.masks["tumour"] if task == "segmentation" else None
    figure = exploratory.set_gallery(
        samples, maps_of(samples, tuple(samples.inputs)), [f"no. {i}" for i in range(7)], region
    )
    said = [axes.get_title() for axes in figure.axes if axes.get_title()]
    sizes = None if region is None else region.sum(axis=(1, 2))
    rows = representative_samples(task, samples.labels, sizes)
    assert said == [f"{samples.ids[i]}\nno. {i}" for i in rows]
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel() and axes.get_ylabel() != "attribution"]
    prediction = ["prediction"] if task == "segmentation" else []
    assert labels == [*images, *prediction, *(f"map of {name}" for name in images)]
    with pytest.raises(InvalidInput, match=f"maps of 7 samples, {task} set of 7"):
        exploratory.set_gallery(replace(samples, ids=samples.ids[::-1]), maps_of(samples, images))


def scores(curve: Array, fractions: Array | None) -> Scores:
    return Scores("deletion", curve.mean(axis=1), False, curve, fractions)


def test_curves_are_means_over_usable_samples() -> None:
    curve = np.array([[1, 0.5, 0], [0, 0.5, 1], [np.nan] * 3])
    own = np.tile([0, 0.5, 1], (3, 1))
    figure = plot_curves(
        {"one": {"a": scores(curve[:2], own[0]), "b": scores(curve, own)}, "two": {"a": scores(curve, own)}}
    )
    first, second = figure.axes
    assert (first.get_title(), second.get_title()) == ("One", "Two")
    for line in first.lines:
        np.testing.assert_allclose(line.get_xydata(), [[0, 0.5], [0.5, 0.5], [1, 0.5]])
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["a  0.50", "b  0.50"]
    with pytest.raises(InvalidInput, match="no curve"):
        plot_curves({"one": {"a": Scores("pointing", np.ones(3), True)}})
    for nothing in ({}, {"one": {}}):
        with pytest.raises(InvalidInput, match="nothing to draw"):
            plot_curves(nothing)


def test_a_scorecard_as_data_frames(tmp_path: Path) -> None:
    made = run(tmp_path)
    (card,) = scorecards(made, analysis.table(made))
    found = frames(card)
    assert list(found) == [table.title for table in card.tables]
    for table in card.tables:
        frame = found[table.title]
        assert frame.shape == (len(table.lines), len(table.columns))
        for (_, row), line in zip(frame.iterrows(), table.lines, strict=True):
            for cell, figure in zip(row, line.figures, strict=True):
                assert (cell == "–") == bool(figure.missing)
                assert cell.endswith(" *") == figure.best
                if not figure.missing:
                    assert cell.startswith(f"{figure.mean:.3f}".replace("-", "−"))


def test_inputs_as_a_model_takes_them(tmp_path: Path) -> None:
    """In the model's order, whatever the mapping's, and the table in standard units if they were asked for."""
    samples = medical.generate("classification", n=3, seed=0, size=32)
    modalities = PAIRS["classification"]
    rows = samples.inputs["table"]
    constants = {
        "ct": (np.array([0.4], np.float32), np.array([0.2], np.float32)),
        "table": (rows.mean(axis=0), rows.std(axis=0) + 1),
    }
    weights = {k: v.numpy() for k, v in torch_networks.fusion_network("fusion_classifier", seed=0).state_dict().items()}
    meta = {"architecture": "fusion_classifier", "task": "classification", "n_classes": 2, "size": 32}
    path = tmp_path / "classification.npz"
    weight_files.write_modalities(path, weights, constants, {**meta, "modalities": [asdict(m) for m in modalities]})
    raw, standard = load(path, "torch"), load(path, "torch", standard_tables=True)
    given = dict(reversed(list(samples.inputs.items())))
    ct, table = standard.inputs(given)
    np.testing.assert_array_equal(ct, samples.inputs["ct"])
    np.testing.assert_allclose(table, (rows - constants["table"][0]) / constants["table"][1], rtol=1e-6)
    assert table.dtype == np.float32
    assert raw.inputs(given)[1] is rows
    np.testing.assert_allclose(standard.model.predict((ct, table)), raw.model.predict(raw.inputs(given)), atol=1e-5)
    with pytest.raises(InvalidInput, match="the model needs table; given are ct"):
        raw.inputs({"ct": ct})

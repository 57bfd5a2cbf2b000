"""Figures that notebooks and papers use: what is drawn is what was given, and what cannot be drawn is refused in words."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from crossxai.attribution import Scores
from crossxai.errors import InvalidInput
from crossxai.model import Modality
from crossxai.report import plot_curves, plot_grid, plot_map, plot_ranking
from crossxai.report.plots.style import own_colours

RNG = np.random.default_rng(0)
IMAGE = RNG.random((8, 10, 3))
SIGNED = RNG.normal(size=(8, 10, 3))
TABLE = Modality.table(("age", "size", "grade"))


def test_a_map_lies_over_the_image_in_its_own_colours() -> None:
    figure = plot_map(SIGNED, IMAGE, title="one")
    axes, bar = figure.axes
    under, over = axes.images
    np.testing.assert_array_equal(under.get_array(), IMAGE)
    np.testing.assert_allclose(over.get_array(), SIGNED.sum(axis=-1))
    low, high = over.get_clim()
    assert low == -high
    assert bar.get_ylabel() == "attribution"
    assert axes.get_title() == "one"


def test_a_map_without_a_sign_starts_at_zero() -> None:
    (_, over) = plot_map(np.abs(SIGNED[..., 0]), IMAGE).axes[0].images
    assert over.get_clim()[0] == 0


def test_a_map_may_be_drawn_into_axes() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_map(SIGNED, IMAGE, ax=right) is figure
    assert not left.images
    assert len(right.images) == 2


@pytest.mark.parametrize(("values", "note"), [(np.zeros((8, 10)), "zero"), (np.full((8, 10), np.nan), "not finite")])
def test_a_map_of_nothing_says_so(values: np.ndarray, note: str) -> None:
    assert plot_map(values, IMAGE).axes[0].texts[0].get_text() == f"the map is {note}"


def test_a_volume_shows_its_middle_slice() -> None:
    volume = Modality.volume()
    values, image = RNG.normal(size=(5, 8, 10, 1)), RNG.random((5, 8, 10, 1))
    axes = Figure().subplots()
    plot_map(values, image, volume, ax=axes)
    under, over = axes.images
    np.testing.assert_allclose(over.get_array(), values[2, ..., 0])
    np.testing.assert_allclose(under.get_array()[..., 0], image[2, ..., 0])


def test_a_grid_of_volumes_names_its_slice() -> None:
    figure = plot_grid({"a": RNG.normal(size=(2, 5, 8, 10, 1))}, RNG.random((2, 5, 8, 10, 1)), Modality.volume())
    assert "slice z = 3 of 5" in figure.get_supxlabel()


def test_colours_are_those_of_the_declared_range() -> None:
    bytes_ = Modality.image(range=(0.0, 255.0))
    np.testing.assert_allclose(own_colours(IMAGE * 255, bytes_), IMAGE)
    assert own_colours(IMAGE * 4 - 2).max() == 1


def test_a_table_is_bars_largest_on_top() -> None:
    axes = plot_map(np.array([0.1, -0.5, 0.3]), np.array([50.0, 2.5, 1]), TABLE).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["age = 50", "grade = 1", "size = 2.5"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.3, -0.5]


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidInput, match="does not lie over"):
        plot_map(SIGNED[:5], IMAGE)
    with pytest.raises(InvalidInput, match="3 features"):
        plot_map(np.ones(4), modality=TABLE)


def test_a_grid_has_a_row_of_inputs_and_one_per_explainer() -> None:
    images, maps = RNG.random((4, 8, 10, 3)), RNG.normal(size=(4, 8, 10, 1))
    given = {"captum.saliency": np.abs(maps), "xplique.rise@canonical": maps}
    axes = plot_grid(given, images, titles=list("abcd"), samples=[2, 0]).axes
    assert [a.get_title() for a in axes[:2]] == ["c", "a"]
    assert [a.get_ylabel() for a in axes[::2]] == ["input", "captum.\nsaliency", "xplique.\nrise\n@canonical"]
    np.testing.assert_array_equal(axes[0].images[0].get_array(), images[2])
    np.testing.assert_allclose(axes[2].images[1].get_array(), np.abs(maps[2, ..., 0]))
    assert axes[2].images[1].get_clim()[0] == 0 > axes[4].images[1].get_clim()[0]


def test_a_grid_of_tables_keeps_the_columns_in_order() -> None:
    values = RNG.normal(size=(2, 3))
    axes = plot_grid({"captum.saliency": values}, modality=TABLE).axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list(TABLE.features)
    assert [bar.get_width() for bar in axes[1].patches] == values[1].tolist()


def test_a_grid_of_nothing_or_of_other_samples_is_refused() -> None:
    images = RNG.random((4, 8, 10, 3))
    with pytest.raises(InvalidInput, match="nothing to draw"):
        plot_grid({}, images)
    with pytest.raises(InvalidInput, match="same samples; got 3 a, 4 images"):
        plot_grid({"a": images[:3]}, images)
    with pytest.raises(InvalidInput, match="from 0 to 3"):
        plot_grid({"a": images}, images, samples=[4])


def scores(value: list[float], metric: str = "deletion") -> Scores:
    return Scores(metric, np.array(value), metric == "insertion")


ROUGH = np.linspace(-0.05, 0.05, 12)


def test_a_ranking_has_the_best_on_top_and_controls_last() -> None:
    by = {name: scores(list(0.5 + shift + 0.3 * ROUGH)) for name, shift in (("a.good", -0.3), ("a.bad", 0.2))}
    by |= {"controls.random": scores(list(0.5 + ROUGH)), "controls.centre": scores(list(0.4 + ROUGH))}
    figure = plot_ranking(by)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a.good", "a.bad", "controls.centre"]
    assert axes.get_title() == "Deletion"
    points = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([p.get_xdata()[0] for p in points], [-0.3, 0.2, -0.1])
    assert "lower is better" in axes.get_xlabel()


def test_a_ranking_of_two_metrics_stands_side_by_side() -> None:
    given = {
        m: {"a.b": scores(list(0.4 + 0.2 * ROUGH), m), "controls.random": scores(list(0.5 + ROUGH), m)}
        for m in ("deletion", "insertion")
    }
    left, right = plot_ranking(given).axes
    assert "lower is better" in left.get_xlabel()
    assert "higher is better" in right.get_xlabel()
    shades = {line.get_color() for axes in (left, right) for line in axes.lines if line.get_marker() == "o"}
    assert len(shades) == 2  # better by deletion, worse by insertion


def test_a_ranking_without_its_control_names_what_there_is() -> None:
    with pytest.raises(InvalidInput, match=r"no scores of 'controls\.random'.* there are a\.b"):
        plot_ranking({"a.b": scores([0.1, 0.2])})
    with pytest.raises(InvalidInput, match="nothing to compare"):
        plot_ranking({"controls.random": scores([0.1, 0.2])})


def test_curves_of_one_metric_need_no_panel_and_controls_are_grey() -> None:
    curve = RNG.random((3, 5))
    one = Scores("deletion", curve.mean(axis=1), False, curve, np.linspace(0, 1, 5))
    (axes,) = plot_curves({"a.b": one, "controls.random": one}).axes
    assert axes.get_title() == "Deletion"
    assert axes.lines[0].get_color() != axes.lines[1].get_color() == "#6b7280"
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() < curve.mean(axis=0).min() < curve.mean(axis=0).max() < band.max()

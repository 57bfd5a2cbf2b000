"""Figures of maps and scores that a notebook shows and a paper prints: every function returns a matplotlib `Figure`."""

from __future__ import annotations

from crossxai.report.plots.charts import modality_shares, plot_curves, plot_ranking, table_bars
from crossxai.report.plots.grids import gallery, plot_grid
from crossxai.report.plots.maps import decomposition, overlay, pair, plot_map

__all__ = [
    "decomposition",
    "gallery",
    "modality_shares",
    "overlay",
    "pair",
    "plot_curves",
    "plot_grid",
    "plot_map",
    "plot_ranking",
    "table_bars",
]

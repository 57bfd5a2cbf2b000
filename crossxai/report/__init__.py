"""From a run directory to a report: `write_report` reads the files and writes HTML, Markdown, CSV and JSON beside them.

The figures of `crossxai.report.plots` can be imported from here, too; matplotlib loads when the first of them is asked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossxai.report.plots import (
        decomposition,
        gallery,
        modality_shares,
        overlay,
        pair,
        plot_curves,
        plot_grid,
        plot_map,
        plot_ranking,
        table_bars,
    )

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
    "write_report",
]


def write_report(directory: Path) -> Path:
    """Write report.html, report.md, report.json, summary.csv and scores (`score_files`) in a run directory; return report.html.

    Reads only files (samples.h5, predictions/, explanations/, manifest.json), so it needs neither a framework nor an
    explainer library, and can run again on a copied directory. Raises `InvalidFile` when those files are not there.
    """
    # matplotlib and jinja2 load here, so that importing crossxai.report costs nothing.
    from crossxai.report.contents import gather, write_exports
    from crossxai.report.html import write_page

    contents = gather(directory)
    write_exports(contents)
    return write_page(contents)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from crossxai.report import plots

    return getattr(plots, name)

"""From a run directory to a report: `write_report` reads the files and writes HTML, Markdown, CSV and JSON beside them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_report"]


def write_report(directory: Path) -> Path:
    """Write report.html, report.md, scores.csv, summary.csv and report.json in a run directory; return report.html.

    Reads only files (samples.h5, predictions/, explanations/, manifest.json), so it needs neither a framework nor an
    explainer library, and can run again on a copied directory. Raises `InvalidFile` when those files are not there.
    """
    # matplotlib and jinja2 load here, so that importing crossxai.report costs nothing.
    from crossxai.report.contents import gather
    from crossxai.report.exports import write_exports
    from crossxai.report.html import write_page

    contents = gather(directory)
    write_exports(contents)
    return write_page(contents)

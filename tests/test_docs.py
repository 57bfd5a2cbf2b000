"""Generated pages are fresh, and every block of Python in the documentation runs, page by page, top to bottom."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from experiments import crossxai

from crossxai import evaluation
from crossxai.cli import catalogue
from crossxai.evaluation.curves import Deletion, presets
from crossxai.explainers import discover
from crossxai.explainers.method import FAMILIES

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.S)


def test_the_table_of_explainers_is_fresh() -> None:
    page = (ROOT / "docs" / "explainers.md").read_text(encoding="utf-8")
    assert page == catalogue.explainer_page(), "run: crossxai list --markdown > docs/explainers.md"


def test_the_table_of_metrics_is_fresh() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page == catalogue.metric_page(), "run: crossxai list --metrics --markdown > docs/metrics.md"
    assert crossxai("list", "--metrics", "--markdown").stdout == page
    alone = crossxai("list", "--metrics").stdout
    assert "noise_correlation" in alone
    assert "captum.saliency" not in alone


def test_every_metric_says_what_the_table_needs() -> None:
    for row in map(catalogue.metric_row, catalogue.metric_entries()):
        assert "–" not in (row["axis"], row["cost"], row["source"]), row


def test_every_parameter_of_a_metric_is_documented_with_its_default_and_every_paper_is_named() -> None:
    for entry in evaluation.discover():
        lines = (entry.metric.__doc__ or "").splitlines()
        for field in dataclasses.fields(entry.metric):
            (header,) = [line for line in lines if line.startswith(f"{field.name} : ")]
            if field.default is not dataclasses.MISSING:
                assert header.endswith(f", default {field.default!r}"), (entry.name, header)
            assert lines[lines.index(header) + 1].startswith("    "), (entry.name, header)
        assert ("References" in lines) == (entry.metric.source != "ours"), entry.name


def test_every_explainer_says_what_the_table_needs() -> None:
    for name, kind in discover().items():
        assert kind.family in FAMILIES, name
        assert kind.summary, name
        assert kind.reference or kind.family == "control", name
        assert set(kind.kinds) <= {"image", "volume", "table"}, name


def test_every_preset_and_axis_is_documented() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page.partition("## Presets")[2].partition("## The axes")[0], re.M) == list(
        presets.PRESETS
    )
    axes = page.partition("## The axes")[2]
    for field in dataclasses.fields(Deletion):
        assert f"`{field.name}`" in axes, field.name


PAGES = (
    "bring",
    "certificate",
    "check",
    "inputs",
    "evaluation",
    "explanations",
    "medical",
    "models",
    "parity",
    "python",
    "report",
    "statistics",
)


@pytest.mark.parametrize("page", [f"{name}.md" for name in PAGES])
def test_the_documentation_s_python(
    page: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a page writes its runs
    names: dict[str, object] = {"__name__": "documentation"}
    for block in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        exec(block, names)
    print(capsys.readouterr().out)


def test_every_page_is_linked_and_every_link_leads_to_a_file() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    linked = set()
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links {target}, which is not there"
                linked |= {(page.parent / target).resolve()} - {page}
    assert not [page.name for page in pages if page.name != "README.md" and page not in linked]

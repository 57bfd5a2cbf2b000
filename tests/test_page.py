"""The page for a reader in a hurry: what it begins with, what folds, what a click on a heading does; without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
import quickjs
from test_report import LABELS, page, write_run

from crossxai.files import read_samples, write_samples
from crossxai.report import contents, front
from crossxai.report.samples import samples

VOID = {"br", "circle", "img", "input", "line", "link", "meta", "wbr"}


class Page(HTMLParser):
    """Every element as (tag, attributes, path of tags and classes above it), and the text inside each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        above = tuple(f"{self.elements[i][0]}.{self.elements[i][1].get('class', '')}" for i in self._open)
        self.elements.append((tag, given, above))
        self.texts.append("")
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for i in self._open:
            self.texts[i] += data

    def all(self, tag: str, **wanted: str) -> Iterator[tuple[dict[str, str], str]]:
        """(attributes, text) of the elements of a tag whose attributes hold these words."""
        for (name, given, _), text in zip(self.elements, self.texts, strict=True):
            if name == tag and all(word in given.get(key.rstrip("_"), "").split() for key, word in wanted.items()):
                yield given, " ".join(text.split())


def with_classes(directory: Path, n_classes: int) -> Path:
    """The same run, its samples of so many classes."""
    data = read_samples(directory / "samples.h5")
    classes = tuple(f"kind {i}" for i in range(n_classes))
    labels = np.arange(len(data.ids)) % n_classes
    write_samples(directory / "samples.h5", replace(data, labels=labels, classes=classes))
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_run(
        tmp_path_factory.mktemp("run"),
        (*LABELS, "captum.deep_lift"),
        n=12,
        deletion={"captum.saliency": 0.2},
        insertion={"captum.saliency": 0.8},
        unsupported={"captum.deep_lift": "it rewrites modules"},
    )
    page(made)
    return made


@pytest.fixture(scope="module")
def parsed(directory: Path) -> Page:
    return Page((directory / "report.html").read_text(encoding="utf-8"))


def test_it_begins_with_one_verdict(parsed: Page, directory: Path) -> None:
    ((_, text),) = parsed.all("p", class_="conclusion")
    assert text == contents.gather(directory).verdict.headline.replace("`", "")
    order = [given.get("class", given.get("id", "")) for tag, given, _ in parsed.elements if tag in ("p", "section")]
    assert order.index("conclusion warning" if "conclusion warning" in order else "conclusion good") < order.index(
        "forest"
    )
    assert order.index("forest") < order.index("strip") < order.index("findings")


def test_headings_are_in_order(parsed: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in parsed.elements if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_every_explainer_is_in_the_forest_plot(directory: Path) -> None:
    found = front.forest(contents.gather(directory))
    assert [axis.title for axis in found.axes] == ["Deletion", "Insertion"]
    assert found.lines[0].label == "captum.saliency"
    assert {line.label for line in found.lines} == {*LABELS, "captum.deep_lift"} - {"controls.random"}
    assert [line.control for line in found.lines] == sorted(line.control for line in found.lines)
    best = found.lines[0]
    assert [[point.verdict for point in points] for points in best.points] == [["better"] * 2] * 2
    for axis, sign, points in zip(found.axes, (-1, 1), best.points, strict=True):
        for point in points:
            assert point.low <= point.dot <= point.high
            assert axis.zero is not None
            assert sign * (point.dot - axis.zero) > 0
    (missing,) = (line for line in found.lines if line.missing)
    assert (missing.label, missing.missing) == ("captum.deep_lift", "Unsupported: it rewrites modules")
    assert found.lacks == ""


def test_a_run_without_a_random_control_says_what_it_lacks(tmp_path: Path) -> None:
    text = page(write_run(tmp_path, LABELS[:3], {"pytorch": "torch"}, n=4, size=18))
    found = front.forest(contents.gather(tmp_path))
    assert "no scored random control" in found.lacks
    assert all(axis.zero is None for axis in found.axes)
    assert all(len(points) == 1 for line in found.lines for points in line.points)
    assert any("controls.random" in note for _, note in Page(text).all("p", class_="note"))


def test_a_run_without_scores_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, n=3, size=18, scored=False)
    found = front.forest(contents.gather(tmp_path))
    assert (found.axes, found.lacks) == ((), "This run has no scores, so explainers cannot be compared.")


@pytest.mark.parametrize("n_classes", [2, 4, 10])
def test_three_samples_are_of_several_classes(tmp_path: Path, n_classes: int) -> None:
    write_run(tmp_path, LABELS[:3], {"pytorch": "torch"}, n=10, size=18)
    gathered = contents.gather(with_classes(tmp_path, n_classes))
    shown = front.strip(gathered, samples(gathered.run))
    assert shown is not None
    assert len({s.label for s in shown.samples}) == min(3, n_classes)
    assert len({s.number for s in shown.samples}) == 3
    assert [label for label, _ in shown.rows] == [x for x in dict.fromkeys(label for label, _ in shown.rows)]
    assert all(drawing is not None for _, drawings in shown.rows for drawing in drawings)


def test_a_table_shows_bars_at_a_glance(tmp_path: Path) -> None:
    write_run(tmp_path, LABELS[:3], {"pytorch": "torch"}, n=4, table=True, masks=False)
    gathered = contents.gather(tmp_path)
    shown = front.strip(gathered, samples(gathered.run))
    assert shown is not None
    assert all(drawing is not None and drawing.bars for _, drawings in shown.rows for drawing in drawings)


def test_no_map_is_no_strip(tmp_path: Path) -> None:
    write_run(tmp_path, n=2, size=18, unsupported=dict.fromkeys(LABELS, "no gradient"))
    gathered = contents.gather(tmp_path)
    assert front.strip(gathered, samples(gathered.run)) is None


def test_findings_fold_their_details(parsed: Page) -> None:
    inside = [above for tag, given, above in parsed.elements if tag == "summary" and given.get("class") == "headline"]
    assert inside
    assert all("ol.findings" in above and "details." in above for above in inside)


def test_every_sample_can_be_read_without_scripts(parsed: Page, directory: Path) -> None:
    ids = read_samples(directory / "samples.h5").ids
    summaries = [text for given, text in parsed.all("details", class_="sample")]
    assert len(summaries) == len(ids)
    assert all(name in text for name, text in zip(ids, summaries, strict=True))
    needy = [given for given, _ in parsed.all("section", class_="needs-js")]
    assert [given["id"] for given in needy] == ["browser"]


def test_the_browser_embeds_no_picture_and_the_first_screen_few(parsed: Page) -> None:
    pictures = [above for tag, given, above in parsed.elements if tag == "img" and given.get("class") == "heat"]
    assert not [above for above in pictures if any("needs-js" in a for a in above)]
    assert len([above for above in pictures if "div.glance" in above]) == 9
    assert len([above for above in pictures if "div.tiles" in above]) == 12 * 2 * len(LABELS)


def test_sortable_headings_say_how_they_are_sorted(parsed: Page) -> None:
    sortable = [
        given
        for (tag, given, above) in parsed.elements
        if tag == "th" and "thead." in above and any(a.startswith("table.") and "sortable" in a for a in above)
    ]
    with_button = [i for i, (tag, _, above) in enumerate(parsed.elements) if tag == "button" and "thead." in above]
    assert with_button
    assert sum("aria-sort" in given for given in sortable) == len(with_button)
    rows = [given for given, _ in parsed.all("tr") if "data-library" in given]
    assert {row["data-library"] for row in rows} >= {"captum", "gradcam", "xplique", "controls"}
    chosen = [given for given, _ in parsed.all("button") if "aria-pressed" in given]
    assert [b["value"] for b in chosen] == ["", "captum", "gradcam", "xplique"]


def test_every_anchor_has_its_place(parsed: Page) -> None:
    ids = [given["id"] for _, given, _ in parsed.elements if "id" in given]
    assert len(ids) == len(set(ids))
    assert {given["href"][1:] for given, _ in parsed.all("a")} <= set(ids)


def test_print_opens_what_is_folded(directory: Path) -> None:
    text = (directory / "report.html").read_text(encoding="utf-8")
    style = text[text.index("@media print") : text.index("</style>")]
    assert "details::details-content" in style
    assert "beforeprint" in text


@pytest.fixture(scope="module")
def script() -> quickjs.Context:
    """The page's own functions that touch no page."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("crossxai.report", "templates"), autoescape=True)
    context = quickjs.Context()
    context.eval(environment.get_template("sorting.js.j2").render())
    return context


def call(script: quickjs.Context, name: str, *arguments: Any) -> Any:
    given = ", ".join(json.dumps(argument) for argument in arguments)
    return json.loads(script.eval(f"JSON.stringify({name}({given}))"))


def test_sorting_puts_numbers_in_order_and_what_is_missing_last(script: quickjs.Context) -> None:
    keys = ["10", "", "-2.5", "9", "", "1e-07"]
    assert call(script, "sorted", keys, True) == [2, 5, 3, 0, 1, 4]
    assert call(script, "sorted", keys, False) == [0, 3, 5, 2, 1, 4]


def test_sorting_puts_names_in_order_and_keeps_ties_in_place(script: quickjs.Context) -> None:
    assert call(script, "sorted", ["xplique.rise", "captum.saliency", "lime.image"], True) == [1, 2, 0]
    assert call(script, "sorted", ["1", "1.0", "0"], True) == [2, 0, 1]
    assert call(script, "sorted", ["1", "1.0", "0"], False) == [0, 1, 2]


def test_sorting_agrees_with_numpy(script: quickjs.Context) -> None:
    values = np.random.default_rng(0).normal(size=60)
    assert call(script, "sorted", [repr(float(v)) for v in values], True) == np.argsort(values).tolist()


def test_a_filter_keeps_controls(script: quickjs.Context) -> None:
    libraries = ["captum", "xplique", "controls", None]
    assert [call(script, "hidden", library, "captum") for library in libraries] == [False, True, False, False]
    assert not any(call(script, "hidden", library, "") for library in libraries)


def test_the_sample_browser_goes_round(script: quickjs.Context) -> None:
    assert call(script, "neighbour", ["0", "1", "2"], "2", 1) == "0"
    assert call(script, "neighbour", ["0", "1", "2"], "0", -1) == "2"


def test_the_whole_script_runs_on_a_page_without_anything() -> None:
    """Whatever a run lacks, the script must not stop: each lookup finds nothing here."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("crossxai.report", "templates"), autoescape=True)
    context = quickjs.Context()
    context.eval(
        "var classes = []; var window = {addEventListener: function () {}};"
        "var document = {documentElement: {classList: {add: function (c) { classes.push(c); }}},"
        "getElementById: function () { return null; }, querySelectorAll: function () { return []; }};"
    )
    context.eval(environment.get_template("report.js.j2").render())
    assert context.eval("classes.join()") == "js"

"""Which modality, the scorecard and the figures of hand-written runs of the three fusion tasks."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import BOTH, crossxai, toml
from fused_run import CT, FEATURES, METRICS, PAIRS, run
from PIL import Image

from crossxai import InvalidInput, UnknownName
from crossxai.attribution import Scores
from crossxai.evaluation.statistics import Summary
from crossxai.report import analysis, comparison, modalities, run_figures, scorecard, tables
from crossxai.report.contents import find
from crossxai.report.html import environment
from crossxai.report.modality_findings import HardlyUsedModality, LeadingModality, UninformativeModality, facts
from crossxai.report.plots import decomposition, modality_shares, overlay, pair, table_bars
from crossxai.report.plots.grids import representative_samples
from crossxai.report.plots.style import number, see_through
from crossxai.report.run import RunRecord, load
from crossxai.report.score_findings import Steady
from crossxai.report.words import Finding, small, write

HOSTILE = "<script>alert(1)</script>"


def rendered(template: str, **context: Any) -> str:
    templates = environment(template.endswith(".html.j2"))
    templates.filters["small"] = small
    return templates.get_template(template).render(context)


def found_by(made: RunRecord) -> dict[str, Finding]:
    """What a run says of its modalities, by key."""
    return {fact.key: write(fact) for fact in facts(made, analysis.table(made))}


def test_shares_of_a_run_are_those_of_its_maps(tmp_path: Path) -> None:
    made = run(tmp_path)
    (table,) = modalities.tables(made)
    assert table.modalities == ("ct", "table")
    assert table.rows[0].label == "captum.modality_ablation"
    assert table.rows[-1].control
    rows = {r.label: r for r in table.rows}
    maps = made.of("fused")["captum.integrated_gradients"].maps
    by_sum = np.abs(maps["ct"]).sum(axis=(1, 2, 3)) / (
        np.abs(maps["ct"]).sum(axis=(1, 2, 3)) + np.abs(maps["table"]).sum(axis=1)
    )
    answer = rows["captum.integrated_gradients"].answers["sum"]
    np.testing.assert_allclose(answer.per_sample[:, 0], by_sum, rtol=1e-5)
    share = answer.shares["ct"]
    assert share.mean == pytest.approx(by_sum.mean(), rel=1e-5)
    assert share.low < share.mean < share.high
    assert answer.net["table"].mean == pytest.approx(maps["table"].sum(axis=1).mean(), rel=1e-4)
    assert not rows["captum.saliency"].answers["sum"].net  # it does not say that it adds up
    assert rows["gradcam.gradcam"].missing == "no map of table"
    assert table.ablation is not None
    assert table.ablation.leader == "table"
    assert "576 pixels of ct and 12 columns of table" in table.why
    assert "by 0, in raw units," in table.why
    assert modalities.tables(replace(made, samples=replace(made.samples, modalities=(CT,)))) == []


def test_maps_of_one_number_per_pixel_or_of_one_in_all_count_alike(tmp_path: Path) -> None:
    """A map whose axes are broadcast weighs in the sum as if it were written out."""
    made = run(tmp_path)
    one = made.of("fused")["captum.saliency"]
    ct, table = one.attribution.values
    sums = []
    for size in (1, ct.shape[1]):
        values = (np.full((made.n, size, size, 1), 0.25, np.float32), table)
        changed = replace(one, attribution=replace(one.attribution, values=values))
        sums.append(modalities.units(made, changed)[0].sum(axis=(1, 2)))
    first, second = sums
    np.testing.assert_allclose(first, second)


def test_explainers_that_disagree_with_the_model_are_named(tmp_path: Path) -> None:
    made = run(tmp_path, share={"fused": 0.2})  # the model goes by ct, the maps' means by the table
    finding = found_by(made)["leading_modality"]
    assert isinstance(finding.facts, LeadingModality)
    leading = finding.facts.leading["fused"]
    assert (leading.modality, leading.explainers, len(leading.other)) == ("ct", 2, 2)
    answers = leading.other["captum.integrated_gradients"]
    assert [(a.of, a.modality) for a in answers] == [("mean", "table"), ("sum", "table")]
    assert answers[0].share.mean > 0.99
    assert "both explainers" in finding.headline
    assert any("`captum.integrated_gradients`" in p and "table by the mean (99" in p for p in finding.points)
    (table,) = modalities.tables(made)
    assert any("`captum.saliency`" in s and "table first by the mean" in s for s in table.sentences)
    agreeing = run(tmp_path, share={"fused": 0.9})
    assert found_by(agreeing)["leading_modality"].tone == "good"


def test_a_leader_must_be_told_apart() -> None:
    def answer(low: float, high: float) -> modalities.Shares:
        first, second = Summary(0.51, low, 0.53, 9, 0), Summary(0.49, 0.47, high, 9, 0)
        return modalities.Shares({"flair": first, "t1ce": second}, np.zeros((9, 2)), {})

    assert answer(0.505, 0.495).leader == "flair"
    assert answer(0.495, 0.505).leader == ""


@pytest.mark.parametrize("how", ["by design", "in training"])
def test_a_modality_that_tells_nothing(tmp_path: Path, how: str) -> None:
    given: dict[str, Any] = {"structure": {"table": "uninformative"}} if how == "by design" else {"without": "table"}
    found = found_by(run(tmp_path, share={"fused": 0.02}, **given))
    finding = found["uninformative_modality"]
    assert finding.tone == "warning"
    assert isinstance(finding.facts, UninformativeModality)
    (silent,) = finding.facts.silent
    assert (silent.model, silent.modality) == ("fused", "table")
    assert silent.why == ("design" if how == "by design" else "training")
    (ablation,) = [a for a in silent.answers if not a.label]
    assert (ablation.of, ablation.limit) == ("ablation", "at most")
    assert 0.015 < ablation.share.mean < 0.035
    limits = {(a.label, a.of): a.limit for a in silent.answers}
    assert limits["captum.integrated_gradients", "mean"] == "more"
    assert any("ablation of the model" in p and "at most 5%" in p.lower() for p in finding.points)
    assert "hardly_used_modality" not in found  # nobody expects it to


def test_where_nothing_tells_anything_no_share_can_be_small(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("ct", "table"), "uninformative")
    assert "uninformative_modality" not in found_by(run(tmp_path, structure=nothing))


def test_what_the_model_hardly_uses_and_how_it_was_found_out(tmp_path: Path) -> None:
    made = run(tmp_path, share={"fused": 0.97, "variant": 0.03}, second=True, without="table")
    finding = found_by(made)["hardly_used_modality"]
    assert isinstance(finding.facts, HardlyUsedModality)
    assert (finding.facts.modality, list(finding.facts.shares)) == ("ct", ["fused"])
    (variant,) = finding.facts.variants
    assert (variant.model, variant.shuffled) == ("variant", "table")
    assert variant.share is not None
    assert variant.share.mean > 0.9
    means = {
        m: np.mean(made.of(m)["captum.integrated_gradients"].scores["pointing of ct"].value)
        for m in ("fused", "variant")
    }
    (best,) = [sides for metric, *sides in variant.best if metric == "pointing"]
    assert [(b.model, b.label) for b in best] == [(m, "captum.integrated_gradients") for m in means]
    np.testing.assert_allclose([b.mean for b in best], list(means.values()))
    assert any(all(f"{mean:.2f} on {m}" in p for m, mean in means.items()) for p in finding.points)
    alone = found_by(run(tmp_path, share={"fused": 0.97}))["hardly_used_modality"].facts
    assert isinstance(alone, HardlyUsedModality)
    assert alone.variants == ()
    assert "hardly_used_modality" not in found_by(run(tmp_path, share={"fused": 0.6}))


def cards(made: RunRecord) -> list[scorecard.Scorecard]:
    return scorecard.scorecards(made, analysis.table(made))


def test_the_scorecard_groups_axes_and_marks_what_it_says(tmp_path: Path) -> None:
    made = run(tmp_path)
    (card,) = cards(made)
    assert [t.title for t in card.tables] == ["Faithfulness", "Plausibility", "Stability", "Cross-modal"]
    assert all(len(t.columns) <= tables.WIDEST for t in card.tables)
    faithful, plausible, stable, cross = card.tables
    titles = [c.title for c in faithful.columns]
    assert titles[:2] == ["Deletion of ct", "Deletion of table"]
    assert "Aopc of ct" in titles
    lines = {line.label: line for line in faithful.lines}
    assert list(lines)[-1] == "controls.random"
    best = [line.label for line in faithful.lines if line.figures[0].best]
    assert best == ["captum.integrated_gradients"]  # lower is better there
    gradcam = lines["gradcam.gradcam"]
    assert gradcam.figures[1].missing == "no map of table"
    assert gradcam.figures[titles.index("Joint deletion")].missing.startswith("joint_deletion compares both")
    assert "`gradcam.gradcam`, Deletion of table: no map of table" in faithful.reasons
    dice = plausible.lines[0].figures[0]
    assert re.fullmatch(r"best at the top \d\.\d%", dice.notes[0])
    assert [line.figures[0].notes[0] for line in stable.lines if line.label == "captum.integrated_gradients"] == [
        "meets 0.95"
    ]
    assert stable.lines[-1].figures[0].notes[0] == "below 0.95"
    share = [c.title for c in cross.columns].index("Modality share of table")
    assert cross.columns[share].better == ""
    assert not any(line.figures[share].best for line in cross.lines)


def test_what_is_not_told_apart_from_random_says_so(tmp_path: Path) -> None:
    made = run(tmp_path)
    random = made.of("fused")["controls.random"].scores["pointing of ct"]
    same = [
        replace(e, scores={**e.scores, "pointing of ct": random}) if e.label == "captum.saliency" else e
        for e in made.explanations
    ]
    (card,) = cards(replace(made, explanations=tuple(same)))
    plausible = card.tables[1]
    place = [c.title for c in plausible.columns].index("Pointing of ct")
    notes = {line.label: line.figures[place].notes for line in plausible.lines}
    assert notes["captum.saliency"] == ("not told apart from random",)
    assert notes["captum.integrated_gradients"] == ()


def test_many_metrics_of_an_axis_are_several_tables(tmp_path: Path) -> None:
    made = run(tmp_path)
    more = []
    for e in made.explanations:
        copies = {f"pointing of ct, {i}": replace(s, params={**s.params, "size": i})
                  for i in range(5) if (s := e.scores.get("pointing of ct"))}  # fmt: skip
        more.append(replace(e, scores={**e.scores, **copies}))
    (card,) = cards(replace(made, explanations=tuple(more)))
    titles = [t.title for t in card.tables]
    assert titles[1:3] == ["Plausibility, 1 of 2", "Plausibility, 2 of 2"]
    columns = [c.title for t in card.tables[1:3] for c in t.columns]
    assert len(set(columns)) == 10  # those of one name are told apart by their labels


def test_fewer_than_three_axes_are_no_scorecard(tmp_path: Path) -> None:
    made = run(tmp_path)
    few = [replace(e, scores={k: s for k, s in e.scores.items() if s.metric in ("deletion", "pointing")})
           for e in made.explanations]  # fmt: skip
    assert cards(replace(made, explanations=tuple(few))) == []
    assert cards(run(tmp_path, scored=False)) == []


@pytest.mark.parametrize("task", list(PAIRS))
def test_sections_as_html_and_markdown(tmp_path: Path, task: str) -> None:
    made = run(tmp_path, task, second=True)
    hostile = replace(made.explanations[1], label=f"captum.{HOSTILE}")
    made = replace(made, explanations=(made.explanations[0], hostile, *made.explanations[2:]))
    context = {"modality_tables": modalities.tables(made), "scorecards": cards(made)}
    for name in ("modalities", "scorecard"):
        html, markdown = rendered(f"{name}.html.j2", **context), rendered(f"{name}.md.j2", **context)
        for text in (html, markdown):
            assert HOSTILE not in text
            assert "<script" not in text
            assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", text)
        # Each cell of a Markdown table has its column.
        blocks = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.M)
        assert blocks
        for block in blocks:
            rows = [re.sub(r"\\\|", "", line).count("|") for line in block.strip().splitlines()]
            assert len(set(rows)) == 1, block
        assert html.count("<table") == html.count("</table>") == len(blocks)
        assert not rendered(f"{name}.html.j2", modality_tables=[], scorecards=[]).strip()
        assert not rendered(f"{name}.md.j2", modality_tables=[], scorecards=[]).strip()


EXPECTED = {
    "classification": {"overlay", "parts", "table", "gallery", "modalities"},
    "regression": {"pair", "parts_t1", "gallery", "modalities"},
    "segmentation": {"pair", "parts_flair", "gallery", "modalities"},
}


@pytest.mark.parametrize("task", list(PAIRS))
def test_the_figures_of_each_task(tmp_path: Path, task: str) -> None:
    made = run(tmp_path, task, n=14)
    paths = run_figures.write_figures(made)
    assert set(paths) == EXPECTED[task]
    for path in paths.values():
        assert path.parent == tmp_path / "figures"
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("L"))
        # Nothing touches the edge, where it would be cut off, and nothing is blank.
        assert (
            np.concatenate([pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel(), pixels[:, -2:].ravel()])
            == 255
        ).all()
        assert (pixels < 128).mean() > 0.005
    page = run_figures.embedded(made)
    assert len(page) == len(paths)
    assert sum(len(figure["uri"]) for figure in page) < run_figures.BUDGET
    for figure in page:
        with Image.open(io.BytesIO(base64.b64decode(figure["uri"].partition(",")[2]))) as picture:
            assert picture.size == (figure["width"], figure["height"])
    html = rendered("run_figures.html.j2", run_figures=page)
    assert html.count("<img") == len(page)
    assert not rendered("run_figures.html.j2", run_figures=[]).strip()


def test_figures_are_of_the_best_explainer_or_the_one_named(tmp_path: Path) -> None:
    made = run(tmp_path)
    assert run_figures.choose_explainer(made, "fused") == "captum.integrated_gradients"
    assert run_figures.choose_explainer(run(tmp_path, scored=False), "fused") == "captum.integrated_gradients"
    # Without the metrics of regions, the better insertion decides.
    turned = []
    for e in made.explanations:
        insertion = e.scores["insertion of ct"]
        value = np.full(made.n, 0.99 if e.label == "captum.saliency" else 0.1)
        turned.append(replace(e, scores={"insertion of ct": replace(insertion, value=value)}))
    assert run_figures.choose_explainer(replace(made, explanations=tuple(turned)), "fused") == "captum.saliency"
    drawn = {d.name: d for d in run_figures.figures(made, "gradcam.gradcam")}
    assert set(drawn) == {"overlay", "gallery", "modalities"}  # one sign, and no map of the table
    with pytest.raises(UnknownName, match=r"did you mean captum\.saliency"):
        run_figures.figures(made, "captum.salience")
    with pytest.raises(UnknownName, match="model of this run"):
        run_figures.figures(made, model="other")


def test_broken_maps_are_not_drawn(tmp_path: Path) -> None:
    made = run(tmp_path)
    zero = [replace(e.attribution, values=tuple(v * 0 for v in e.attribution.values), extras={})
            for e in made.explanations]  # fmt: skip
    nothing = tuple(replace(e, degenerate=("zero",) * made.n, attribution=maps)
                    for e, maps in zip(made.explanations, zero, strict=True))  # fmt: skip
    assert run_figures.figures(replace(made, explanations=nothing)) == []
    refused = tuple(replace(e, status="unsupported", attribution=replace(e.attribution, values=(), modalities=()))
                    for e in made.explanations)  # fmt: skip
    assert run_figures.figures(replace(made, explanations=refused)) == []


def test_which_samples_a_gallery_shows() -> None:
    assert representative_samples("classification", np.array([1, 0, 0, 1, 0, 0, 0.0])) == [1, 2, 4, 5, 0, 3]
    assert representative_samples("regression", np.array([3.0, 1, 2, 9, 5, 4, 8, 7])) == [1, 2, 5, 4, 6, 3]
    assert representative_samples("segmentation", np.zeros(3), np.array([30.0, 10, 20])) == [1, 2, 0]


def test_scales_are_symmetric_and_say_their_ends() -> None:
    image = np.random.default_rng(0).random((20, 24))
    relevance = np.linspace(-2, 1, 480).reshape(20, 24)
    figure = overlay(image, relevance, image > 2, limit=(0, 1))  # an empty truth is no line and no caption
    ticks = [t.get_text() for t in figure.axes[-1].get_yticklabels()]
    assert ticks == ["−1.97", "−0.985", "0", "0.985", "1.97"]
    assert figure.get_supxlabel() == ""
    parts = decomposition(image, relevance)
    sums = [axes.get_title().partition("\n")[2] for axes in parts.axes[:3]]
    signs = np.maximum(relevance, 0).sum(), np.minimum(relevance, 0).sum(), relevance.sum()
    assert sums == [f"sum {number(float(total))}" for total in signs]
    assert number(-320.4) == "−320"
    scales = {axes.images[1].get_clim() for axes in parts.axes[:3]}
    assert len(scales) == 1
    two = pair({"t1": image, "t2": image}, {"t1": relevance, "t2": relevance * 3})
    assert {axes.images[1].get_clim() for axes in two.axes[2:4]} == {two.axes[2].images[1].get_clim()}
    table = see_through()(np.linspace(0, 1, 256))
    np.testing.assert_allclose(table[:, 3], table[::-1, 3])
    assert table[127, 3] < 0.02
    with pytest.raises(InvalidInput, match="does not lie over an image"):
        overlay(image, relevance[:5])


def test_table_bars_are_ordered_by_size_and_coloured_by_sign() -> None:
    values = np.array([0.1, -3.0, 2.0])
    axes = table_bars(values, ("a", "b", "c"), np.array([1.5, 2, 64.123456])).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a = 1.5", "c = 64.12", "b = 2"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [0.1, 2.0, -3.0]
    assert axes.patches[2].get_facecolor() != axes.patches[1].get_facecolor() == axes.patches[0].get_facecolor()
    with pytest.raises(InvalidInput, match="one value per feature: 12 features"):
        table_bars(values, FEATURES)


def test_modality_shares_draw_their_intervals() -> None:
    one = {"ct": Summary(0.25, 0.2, 0.35, 9, 0), "table": Summary(0.75, 0.65, 0.8, 9, 0)}
    none = {name: Summary(np.nan, np.nan, np.nan, 0, 9) for name in one}
    figure = modality_shares({"mean per unit": one, "sum over units": none, "ablation": one})
    assert [axes.get_title() for axes in figure.axes] == ["mean per unit", "ablation", "with 95% intervals"]
    assert figure.axes[0].get_xlabel() == "ct 25%\ntable 75%"
    lines = [c for c in figure.axes[-1].collections]
    segments = lines[0].get_segments()  # type: ignore[attr-defined]
    np.testing.assert_allclose(segments[0][:, 1], [0.2, 0.35])
    with pytest.raises(InvalidInput, match="no share to draw"):
        modality_shares({"mean": none})


def test_small_shares_are_not_written_as_nothing() -> None:
    assert [small(s) for s in (0, 0.0001, 0.004, 0.05, 0.5, 0.996, 0.99999, 1)] == [
        "0%", "<0.1%", "0.4%", "5%", "50%", "99.6%", ">99.9%", "100%",
    ]  # fmt: skip


def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    """What is written by a run is read here: drops as extras, scores of several modalities, refusals with their reasons."""
    (tmp_path / "both.py").write_text(BOTH)
    content = {
        "data": {"factory": "both:data", "description": "Made for a test."},
        "models": [{"name": "fusion", "factory": "both:model"}],
        "explainers": [
            {"name": "captum.occlusion", "params": {"patch": 8, "stride": 8}},
            {"name": "captum.modality_ablation"},
            {"name": "controls.centre"},
        ],
        "metrics": [{"name": "modality_share", "params": {"modality": "table"}}, {"name": "modality_agreement"}],
    }
    (tmp_path / "e.toml").write_text(toml(content))
    done = crossxai("compare", str(tmp_path / "e.toml"), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, (done.output, done.exception)
    made = load(tmp_path / "out")
    (table,) = modalities.tables(made)
    # The score is a product of both, so that either one's loss is all of it.
    assert table.ablation is not None
    np.testing.assert_allclose(table.ablation.per_sample, 0.5, atol=1e-6)
    assert "By ablation no modality clearly comes first: image 50%" in table.sentences[0]
    occlusion = made.of("fusion")["captum.occlusion"]
    row = next(r for r in table.rows if r.label == "captum.occlusion")
    np.testing.assert_allclose(
        occlusion.scores["modality_share"].value, row.answers["mean"].per_sample[:, 1], rtol=1e-5
    )
    drops = made.of("fusion")["captum.modality_ablation"].attribution.extras["modality_drop"]
    np.testing.assert_allclose(occlusion.scores["modality_agreement"].extras["drop.image"], drops[:, 0], rtol=1e-4)


def test_every_metric_of_the_fixture_exists() -> None:
    from crossxai.evaluation import discover

    known = {entry.name for entry in discover()}
    assert {metric for listed in METRICS.values() for metric, _ in listed} <= known


def test_a_regression_that_leaves_its_scale_says_so(tmp_path: Path) -> None:
    made = run(tmp_path)
    curves = np.array([[2.0, 60.0, 3.0], [4.0, 58.0, 3.0]])
    scores = Scores("deletion", curves.mean(axis=1), False, curve=curves, fractions=np.array([0.0, 0.5, 1.0]))
    explanations = tuple(replace(e, scores={"deletion": scores}) for e in made.explanations if e.status == "ok")
    labels = np.linspace(0.8, 5.7, made.n)
    scored = replace(made.samples, task="regression", labels=labels)
    bent = replace(made, samples=scored, explanations=explanations)
    (scale,) = analysis.off_scale(bent, "deletion").values()
    assert (scale.low, scale.high, scale.highest) == (2, 4, 59)
    assert not analysis.off_scale(replace(bent, samples=made.samples), "deletion")


def test_who_stays_under_noise_is_a_finding(tmp_path: Path) -> None:
    made = run(tmp_path)
    found = [f for f in find(made, analysis.table(made), comparison.compare(made)) if f.key == "steady"]
    noise = [f.facts for f in found]
    assert [f.metric for f in noise if isinstance(f, Steady)] == [
        "noise_correlation of ct",
        "noise_correlation of table",
    ]
    rows = {r.label: r for r in analysis.table(made) if not r.control}
    metric = "noise_correlation of ct"
    above = [x for x, r in rows.items() if metric in r.cells and r.cells[metric].summary.low >= 0.95]
    below = [x for x, r in rows.items() if metric in r.cells and r.cells[metric].summary.high < 0.95]
    assert above or below
    for phrase, labels in (("Above it", above), ("Below it", below)):
        points = [point for point in found[0].points if point.startswith(phrase)]
        assert [re.findall("`(.*?)`", point) for point in points] == ([labels] if labels else [])
    for label in (*above, *below):
        assert any(f"`{label}`" in p for p in found[0].points)

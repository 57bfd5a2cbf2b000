"""The report: its numbers, its words and its robustness, on synthetic runs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.ndimage import gaussian_filter
from skimage import data

from crossxai.attribution import Attribution, Scores
from crossxai.cli import tables as terminal
from crossxai.errors import InvalidFile
from crossxai.files import (
    Predictions,
    Result,
    Samples,
    read_result,
    read_samples,
    write_predictions,
    write_result,
    write_samples,
)
from crossxai.model import Modality
from crossxai.report import write_report
from crossxai.report.analysis import area_share
from crossxai.report.plots import style
from crossxai.report.words import listing

LABELS = (
    "captum.integrated_gradients",
    "captum.saliency",
    "gradcam.gradcam",
    "xplique.integrated_gradients",
    "xplique.rise",
    "controls.centre",
    "controls.random",
)
MODELS = MappingProxyType({"pytorch": "torch", "keras": "tensorflow"})
NOTHING: Mapping[str, Any] = MappingProxyType({})
SEEDED = ("rise", "lime", "random", "smooth_grad", "kernel_shap")
HOSTILE = "<script>alert(1)</script>"


def synthetic_maps(label: str, n: int, size: int, model: int) -> np.ndarray:
    """Maps with something of each method's look; "@canonical" has the same maps in every library."""
    method = label.split("@")[0].split(".")[1]
    library = "any" if "@" in label else label.split(".")[0]
    noise = np.random.default_rng([len(method), sum(map(ord, method)), model if method in SEEDED else 0])
    own = np.random.default_rng([len(library), sum(map(ord, library))])
    if method in ("integrated_gradients", "input_x_gradient", "gradient_input"):
        maps = gaussian_filter(noise.normal(size=(n, size, size, 3)), (0, 1, 1, 0))
        if library == "xplique":
            maps = (maps + 0.6 * gaussian_filter(own.normal(size=maps.shape), (0, 1, 1, 0))).mean(-1, keepdims=True)
    elif method in ("saliency", "random"):
        maps = np.abs(noise.normal(size=(n, size, size, 1 if library == "xplique" else 3)))
    elif method in ("centre", "edges"):
        y, x = np.mgrid[:size, :size] / (size - 1) - 0.5
        maps = np.tile(np.exp(-8 * (x**2 + y**2))[None, ..., None], (n, 1, 1, 1))
        maps = maps if method == "centre" else 1 - maps
    else:
        maps = np.maximum(gaussian_filter(noise.normal(size=(n, size, size, 1)), (0, size / 9, size / 9, 0)), 0)
    return np.asarray(maps * (1 + 1e-7 * model), dtype=np.float32)


def curve_scores(metric: str, value: np.ndarray, tie_rate: float) -> Scores:
    """A curve whose area is `value`, falling from (deletion) or rising to (insertion) about 0.9."""
    fractions = np.linspace(0, 1, 25)
    power = np.clip(0.9 / np.clip(value, 0.02, 0.88) - 1, 0.02, 40)[:, None]
    curve = 0.9 * (1 - fractions) ** power if metric == "deletion" else 0.9 * fractions**power
    extras = {"tie_rate": np.full(len(value), tie_rate), "degenerate": np.zeros(len(value))}
    params = {"steps": 24, "fill": "zero" if metric == "deletion" else "blur", "reduction": "sum", "link": "softmax"}
    return Scores(metric, value, metric == "insertion", curve, fractions, extras, params)


def write_run(
    directory: Path,
    labels: tuple[str, ...] = LABELS,
    models: Mapping[str, str] = MODELS,
    n: int = 8,
    size: int = 24,
    deletion: Mapping[str, float] = NOTHING,
    insertion: Mapping[str, float] = NOTHING,
    unsupported: Mapping[str, str] = NOTHING,
    degenerate: Mapping[str, str] = NOTHING,
    masks: bool = True,
    scored: bool = True,
    table: bool = False,
    ids: tuple[str, ...] = (),
    spread: float = 0.02,
) -> Path:
    """Write a synthetic run. deletion, insertion: each label's true mean area (0.5 otherwise)."""
    photo = data.immunohistochemistry() / np.float32(255)
    corners = np.random.default_rng(5).integers(0, 512 - size, (n, 2))
    images = np.stack([photo[y : y + size, x : x + size] for y, x in corners]).astype(np.float32)
    ids = ids or tuple(f"ihc-{i:02d}" for i in range(n))
    if table:
        modality = Modality.table(("age", "size", "grade", "nodes"), "table")
        inputs = np.random.default_rng(1).normal(size=(n, 4)).astype(np.float32)
    else:
        modality, inputs = Modality.image(), images
    brown = gaussian_filter(images[..., 0] - images[..., 2], (0, 1, 1)) > 0.22
    samples = Samples(
        ids,
        (modality,),
        {modality.name: inputs},
        np.arange(n) % 2,
        ("normal", "tumour"),
        {"stain": brown} if masks else {},
    )
    write_samples(directory / "samples.h5", samples)
    for m, (model, framework) in enumerate(models.items()):
        tumour = 0.5 + 0.45 * np.sin(np.arange(n) * 2.3)
        outputs = np.stack([1 - tumour, tumour], axis=1).astype(np.float32)
        target = "probability of the predicted class"
        write_predictions(
            directory / f"predictions/{model}.h5", Predictions(model, framework, outputs, outputs.max(1), target)
        )
        for label in labels:
            path = directory / f"explanations/{model}/{label}.h5"
            name, _, profile = label.partition("@")
            params: dict[str, Any] = {"seed": 0} if name.split(".")[1] in SEEDED else {}
            if name.endswith("integrated_gradients"):
                params["method"] = "trapezoid" if profile or "xplique" in name else "gausslegendre"
            about = (model, framework, label, name.split(".")[0])
            how: dict[str, Any] = {"explainer": name, "profile": profile or "native", "params": params}
            if label in unsupported:
                none = Attribution((), (), (), **how)
                write_result(path, Result(*about, none, status="unsupported", reason=unsupported[label]))
                continue
            if table:
                values = np.random.default_rng(len(label)).normal(size=(n, 4)).astype(np.float32)
            else:
                values = synthetic_maps(label, n, size, m)
            kinds = [""] * n
            if label in degenerate:
                kinds = [degenerate[label]] * n
                values[:] = {"nan": np.nan, "zero": 0.0, "constant": 1.0}[degenerate[label]]
            rng = np.random.default_rng([7, sum(map(ord, label))])
            ties = 0.86 if label in ("gradcam.gradcam", "lime.image") else 0.0
            scores = {}
            for metric, means in (("deletion", deletion), ("insertion", insertion)):
                area = means.get(label, 0.5) + spread * rng.normal(size=n)
                scores[metric] = curve_scores(metric, np.where(np.array(kinds) == "nan", np.nan, area), ties)
            weight = np.abs(values).sum(-1)
            if not table and label not in degenerate:
                share = np.full(n, (size // 3) ** 2 / size**2)
                middle = weight[:, size // 3 : -(size // 3), size // 3 : -(size // 3)]
                centre = middle.sum((1, 2)) / weight.sum((1, 2))
                scores["centre_share"] = Scores(
                    "centre_share", centre, True, extras={"area_share": share}, params={"size": size // 3}
                )
                if masks:
                    inside = (weight * brown).sum((1, 2)) / weight.sum((1, 2))
                    scores["mask_share"] = Scores(
                        "mask_share", inside, True, extras={"area_share": brown.mean((1, 2))}, params={"mask": "stain"}
                    )
            write_result(
                path,
                Result(
                    *about,
                    Attribution((values,), (modality,), ids, seconds=0.3 + len(label) / 9, **how),
                    scores if scored else {},
                    tuple(kinds),
                ),
            )
    manifest = {
        "title": "Synthetic run",
        "created": "2025-11-22T00:00:00+00:00",
        "crossxai": "0.1.0",
        "python": "3.11.7",
        "platform": "Linux",
        "versions": {"torch": "2.14.1", "captum": "0.9.0", "tensorflow": "2.20.0", "xplique": "2.0.2"},
        "seed": 0,
        "batch_size": 32,
        "target": "probability of the predicted class",
        "data": {
            "source": "synthetic",
            "split": "test",
            "n": n,
            "fingerprint": "sha256:0123",
            "description": "Crops of one immunohistochemistry photograph. Labels are made up.",
        },
        "models": [
            {
                "name": model,
                "framework": framework,
                "weights_sha256": "ab" * 32,
                "metrics": {"balanced_accuracy": 0.91, "auc": 0.97},
            }
            for model, framework in models.items()
        ],
        "settings": {"profiles": ["native"], "metrics": {"deletion": {"steps": 24}}},
        "seconds": 93.0,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def page(directory: Path) -> str:
    return write_report(directory).read_text(encoding="utf-8")


def findings(directory: Path) -> dict[str, dict[str, Any]]:
    """A report's findings by key; those that are about one metric by key and metric."""
    report = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    every = [report["verdict"], *report["findings"]]
    return {" ".join(filter(None, (f["key"], f["facts"].get("metric")))): f for f in every}


def labels_with(finding: dict[str, Any], verdict: str, model: str = "pytorch") -> list[str]:
    """Explainers with a verdict against random, as a finding's facts have it."""
    return [c["label"] for c in finding["facts"]["comparisons"][model] if c["verdict"] == verdict]


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with something of everything, and its report."""
    directory = write_run(
        tmp_path_factory.mktemp("run"),
        (
            *LABELS,
            "captum.deep_lift",
            "captum.integrated_gradients@canonical",
            "xplique.integrated_gradients@canonical",
        ),
        n=12,
        deletion={"captum.saliency": 0.2, "xplique.rise": 0.8},
        insertion={"captum.saliency": 0.8},
        unsupported={"captum.deep_lift": "it rewrites <b>modules</b>"},
        degenerate={"gradcam.gradcam": "constant"},
        ids=(HOSTILE, *(f"s{i}" for i in range(11))),
    )
    write_report(directory)
    return directory


@pytest.mark.parametrize(
    ("winner", "other"), [("captum.saliency", "xplique.rise"), ("xplique.rise", "captum.saliency")]
)
def test_findings_follow_the_numbers(tmp_path: Path, winner: str, other: str) -> None:
    labels = ("captum.saliency", "xplique.rise", "controls.random")
    write_report(write_run(tmp_path, labels, n=12, deletion={winner: 0.2}, insertion={winner: 0.8}))
    found = findings(tmp_path)
    for metric, sign in (("deletion", -1), ("insertion", 1)):
        finding = found[f"beats_random {metric}"]
        for model in MODELS:
            assert labels_with(finding, "better", model) == [winner]
            assert labels_with(finding, "not told apart", model) == [other]
        assert all(sign * c["difference"] > 0 for c in finding["facts"]["comparisons"]["keras"] if c["label"] == winner)
        assert "1 of 2 explainers" in finding["headline"]
        assert f"`{winner}`" in finding["points"][0]
    assert found["verdict"]["facts"]["beat"] == [winner]
    assert found["verdict"]["facts"]["best"] == winner
    assert found["best_explainers"]["facts"]["leaders"]["deletion"]["keras"]["label"] == winner
    assert f"`{winner}`" in found["best_explainers"]["points"][0]


def test_worse_than_random_is_said(report: Path) -> None:
    finding = findings(report)["beats_random deletion"]
    assert labels_with(finding, "worse") == ["xplique.rise"]
    assert any("`xplique.rise` +0." in p for p in finding["points"])


def test_a_control_that_beats_explainers_makes_the_headline(tmp_path: Path) -> None:
    write_report(write_run(tmp_path, n=12, size=18, deletion={"controls.centre": 0.1}))
    finding = findings(tmp_path)["simple_controls"]
    assert finding["weight"] > 88
    assert finding["tone"] == "warning"
    assert all(text in finding["headline"] for text in ("`controls.centre`", "all 5 explainers", "deletion"))
    (centre, *_) = finding["facts"]["comparisons"]
    assert (centre["metric"], centre["control"]) == ("deletion", "controls.centre")
    assert [len(centre["models"][m]["worse"]) for m in MODELS] == [5, 5]


def test_too_few_samples_are_said(tmp_path: Path) -> None:
    write_report(write_run(tmp_path, n=4, deletion={"captum.saliency": 0.1}))
    found = findings(tmp_path)
    finding = found["beats_random deletion"]
    assert (finding["tone"], finding["facts"]["n"], finding["facts"]["family"]) == ("warning", 4, 6)
    assert finding["facts"]["smallest_p"] == 6 * 2.0**-3
    assert any("0.75" in p for p in finding["points"])
    assert found["verdict"]["facts"]["needed"] == 8  # 6 / 2^7 < 0.05


def test_curves_with_little_room_are_said(tmp_path: Path) -> None:
    write_run(tmp_path, n=3, size=18)
    for path in tmp_path.glob("explanations/*/*.h5"):
        e = read_result(path)
        insertion = replace(e.scores["insertion"], curve=0.9 + 0.1 * np.asarray(e.scores["insertion"].curve))
        write_result(path, replace(e, scores={**e.scores, "insertion": insertion}))
    write_report(tmp_path)
    found = findings(tmp_path)
    ends = found["beats_random insertion"]["facts"]["alike_ends"]
    assert set(ends) == set(MODELS)
    assert ends["keras"] == {"start": pytest.approx(0.9), "end": pytest.approx(0.99), "extreme": None}
    assert any("0.900" in p for p in found["beats_random insertion"]["points"])
    assert not found["beats_random deletion"]["facts"]["alike_ends"]


def test_area_counts_only_samples_that_a_share_is_defined_for() -> None:
    value, area = np.array([0.5, np.nan]), np.array([0.4, 0.0])
    assert area_share(Scores("mask_share", value, True, extras={"area_share": area})) == 0.4


def test_libraries_and_frameworks(report: Path) -> None:
    found = findings(report)
    pairs = {(p["model"], p["profile"]): p for p in found["libraries_agree"]["facts"]["pairs"]}
    native, canonical = pairs["pytorch", "native"], pairs["pytorch", "canonical"]
    assert native["differences"]["kinds"] == [{"signed": True, "per": "channel"}, {"signed": True, "per": "pixel"}]
    assert native["differences"]["parameters"] == [["method", "gausslegendre", "trapezoid"]]
    assert native["spearman"]["mean"] < 0.999 < canonical["spearman"]["mean"]
    said = " ".join(found["libraries_agree"]["points"])
    assert "signed value per channel" in said
    assert re.search(r"0\.\d{3} with the libraries’ defaults, 1\.000 with the canonical profile", said)
    frameworks = found["frameworks_agree"]
    fixed = [p for p in frameworks["facts"]["pairs"] if not p["stochastic"]]
    assert len(fixed) == 5
    assert all(p["spearman_min"] > 0.9995 for p in fixed)
    assert frameworks["facts"]["weights"] == "same"
    assert "all 5 deterministic explainers" in frameworks["headline"]
    assert any("`xplique.rise`" in p for p in frameworks["points"])


def test_degenerate_ties_and_unsupported_are_findings(report: Path) -> None:
    found = findings(report)
    degenerate = found["degenerate"]
    assert degenerate["facts"]["maps"] == 216
    assert [(b["label"], b["kinds"]) for b in degenerate["facts"]["broken"]] == [
        ("gradcam.gradcam", {"constant": 12})
    ] * 2
    assert "24 of 216 maps (11.1%)" in degenerate["headline"]
    assert found["ties"]["facts"]["rates"]["keras"] == {"gradcam.gradcam": pytest.approx(0.86)}
    (reason,) = found["unsupported"]["facts"]["reasons"]
    assert (reason["labels"], reason["models"]) == (["captum.deep_lift"], list(MODELS))
    assert reason["reason"] == "it rewrites <b>modules</b>"
    assert reason["reason"] in found["unsupported"]["points"][0]
    text = (report / "report.html").read_text(encoding="utf-8")
    assert "Unsupported: it rewrites &lt;b&gt;modules&lt;/b&gt;" in text
    assert "Degenerate: constant" in text


def test_page_asks_nobody_for_anything(report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"https?://|//[a-z]+\.", text)
    assert all(target.startswith(("data:", "#")) for target in re.findall(r'(?:src|href)="([^"]*)"', text))
    assert all(target.startswith("data:") for target in re.findall(r"url\(([^)]*)\)", text))
    assert len(text) < 10_000_000


def test_hostile_ids_are_escaped(report: Path) -> None:
    for name in ("report.html", "report.md"):
        text = (report / name).read_text(encoding="utf-8")
        assert HOSTILE not in text
        assert "<b>modules</b>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in (report / "report.html").read_text(encoding="utf-8")


def test_page_is_well_formed(report: Path) -> None:
    text = re.sub(r"<(script|style)>.*?</\1>", "", (report / "report.html").read_text(encoding="utf-8"), flags=re.S)
    for tag in ("div", "section", "table", "tr", "td", "figure", "details", "ul", "li", "code", "small", "span"):
        assert len(re.findall(rf"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag
    assert all("alt=" in image for image in re.findall(r"<img [^>]*>", text))
    assert all("scope=" in cell for cell in re.findall(r"<th[ >][^>]*>?", text))


def test_csv_round_trip(report: Path) -> None:
    rows = [r for r in lines(report / "scores.csv") if r["model"] == "keras" and r["label"] == "captum.saliency"]
    stored = read_result(report / "explanations/keras/captum.saliency.h5")
    for metric, scores in stored.scores.items():
        chosen = [r for r in rows if r["metric"] == metric]
        assert [r["sample"] for r in chosen] == list(stored.attribution.ids)
        np.testing.assert_array_equal([float(r["value"]) for r in chosen], scores.value)
    summary = {(r["model"], r["label"]): r for r in lines(report / "summary.csv")}
    own = summary["keras", "captum.saliency"]
    assert float(own["deletion_mean"]) == pytest.approx(stored.scores["deletion"].value.mean())
    assert float(own["deletion_versus_random_p_holm"]) < 0.05
    assert summary["keras", "captum.deep_lift"]["status"] == "unsupported"
    assert len(summary) == 20


def test_signed_maps_have_symmetric_limits() -> None:
    values = np.random.default_rng(0).normal(0.5, 1.0, (40, 40))
    low, high = style.limits(values, style.is_signed(values))
    assert low == -high == -np.percentile(np.abs(values), 99)
    assert style.limits(np.abs(values), style.is_signed(np.abs(values)))[0] == 0
    assert style.colour(0.0, low, high, True) == style.colour(0.0, -1, 1, True)


def test_undershoot_of_upsampling_is_not_a_sign() -> None:
    values = np.ones((10, 10))
    values[0, 0] = -0.1
    assert not style.is_signed(values)


CASES: dict[str, dict[str, Any]] = {
    "one model": {"models": {"pytorch": "torch"}},
    "three models": {"models": {"a": "torch", "b": "tensorflow", "c": "torch"}},
    "no masks": {"masks": False},
    "one sample": {"n": 1},
    "no controls": {"labels": LABELS[:4]},
    "only controls": {"labels": LABELS[-2:]},
    "one explainer": {"labels": LABELS[:1]},
    "table": {"table": True, "masks": False},
    "no scores": {"scored": False},
    "all constant": {"degenerate": dict.fromkeys(LABELS, "constant")},
    "all zero": {"degenerate": dict.fromkeys(LABELS, "zero")},
    "all not finite": {"degenerate": dict.fromkeys(LABELS, "nan")},
    "all unsupported": {"unsupported": dict.fromkeys(LABELS, "no gradient")},
    "no explanations": {"labels": ()},
}


@pytest.mark.parametrize("case", CASES)
def test_unusual_runs(tmp_path: Path, case: str) -> None:
    text = page(write_run(tmp_path, **{"n": 3, "size": 18, **CASES[case]}))
    assert "Findings" in text
    assert ">nan" not in text
    assert not re.search(r"\bNone\b(?! of )", re.sub(r"base64,[^\"')]*", "", text))
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    if case.startswith("all "):
        assert "Unsupported: no gradient" in text or "42 of 42" in text
    found = findings(tmp_path)
    if case == "no controls":
        assert found["beats_random deletion"]["facts"]["comparisons"] == {}
    for finding in found.values():
        for said in (finding["topic"], finding["headline"], *finding["points"]):
            assert said.strip() == said != ""
            assert not re.search(r"\bnan\b|\bNone\b(?! of )|  |\{|\}|\(\)|\.\.| [.,;:)]|[,;:]\.", said), said


def test_bare_manifest(tmp_path: Path) -> None:
    write_run(tmp_path, n=2, size=18)
    (tmp_path / "manifest.json").write_text("{}")
    assert "CrossXAI report" in page(tmp_path)


def test_explanations_of_other_samples_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, n=3, size=18)
    samples = read_samples(tmp_path / "samples.h5")
    write_samples(tmp_path / "samples.h5", replace(samples, ids=("x", "y", "z")))
    with pytest.raises(InvalidFile, match="explains other samples"):
        write_report(tmp_path)


def test_missing_and_damaged_manifest(tmp_path: Path) -> None:
    write_run(tmp_path, n=2, size=18)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InvalidFile, match=r"manifest\.json"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").unlink()
    assert "This run was stopped" in write_report(tmp_path).read_text(encoding="utf-8")


def test_nothing_is_left_behind(report: Path) -> None:
    expected = {"report.html", "report.md", "report.json", "scores.csv", "scores.parquet", "summary.csv"}
    assert expected <= {p.name for p in report.iterdir()}
    assert not [p.name for p in report.rglob(".*")]


def test_same_numbers_same_page(tmp_path: Path) -> None:
    write_run(tmp_path, n=2, size=18)
    assert page(tmp_path) == page(tmp_path)


AXES = ("aopc", "entropy", "irof", "max_sensitivity", "model_randomisation", "road", "road_morf", "own_metric")


def test_many_metrics_have_a_table_per_axis(tmp_path: Path) -> None:
    """Each metric once, under its axis with the axis' question, its range and its direction; one of no sample is said to be."""
    write_run(tmp_path, ("captum.saliency", "controls.random"), {"pytorch": "torch"}, n=6)
    for path in tmp_path.glob("explanations/*/*.h5"):
        e = read_result(path)
        more = {m: Scores(m, np.full(6, np.nan if m == "irof" else 0.25), m != "entropy") for m in AXES}
        write_result(path, replace(e, scores={**e.scores, **more}))
    text = page(tmp_path)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    scores = markdown.partition("## Scores on pytorch")[2].partition("\n## ")[0]
    titles = [line[4:] for line in scores.splitlines() if line.startswith("### ")]
    axes = ["Localisation", "Stability", "Randomisation", "Complexity", "Other metrics", "Maps"]
    assert titles == ["Faithfulness, 1 of 2", "Faithfulness, 2 of 2", *axes]
    assert [f'<h4 class="axis">{title}</h4>' in text for title in titles] == [True] * 8
    for heading in ("AOPC (higher is better)", "Entropy (0 or more, lower is better)", "ROAD MoRF (", "Own metric ("):
        assert scores.count(f"| {heading}") == 1
    for table in scores.split("### ")[1:]:
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len(rows) == 4
        assert len({line.count("|") for line in rows}) == 1
    assert scores.count("degenerate | tie rate | time") == 1
    assert "to be worse than random is no fault here" in scores
    assert findings(tmp_path)["no_value"]["facts"]["metrics"] == ["irof"]


def test_the_terminal_shows_what_fits(tmp_path: Path) -> None:
    write_run(tmp_path, ("captum.saliency", "controls.random"), {"pytorch": "torch"}, n=6)
    page(tmp_path)
    names = ["deletion", "insertion", "centre share", "mask share"]
    for width in (60, 80, 200):
        table, rest = terminal.summary(tmp_path, width)
        console = Console(width=width, record=True, file=StringIO())
        console.print(table)
        text = console.export_text()
        headings = [str(column.header) for column in table.columns]
        shown = [name for name in names if name in headings]
        assert headings == ["explainer", *shown, "than random", "seconds"]
        assert shown == names[: len(shown)]
        assert rest == ([f"In the report, too: {listing(names[len(shown) :])}."] if len(shown) < 4 else [])
        assert "seconds" in text  # and so the rightmost column is whole
        assert "…" not in text
    assert len(shown) == 4


def _bent(folder: Path, kind: str, curve: Callable[[np.ndarray], np.ndarray]) -> None:
    for path in folder.glob("explanations/*/*.h5"):
        e = read_result(path)
        bent = replace(e.scores[kind], curve=curve(np.asarray(e.scores[kind].curve)))
        write_result(path, replace(e, scores={**e.scores, kind: bent}))


def test_curves_that_dip_between_like_ends_have_room(tmp_path: Path) -> None:
    write_run(tmp_path, n=3, size=18)

    def dip(curve: np.ndarray) -> np.ndarray:
        flat = np.full_like(curve, 0.9)
        flat[:, 1:-1] = 0.1
        return flat

    _bent(tmp_path, "deletion", dip)
    write_report(tmp_path)
    finding = findings(tmp_path)["beats_random deletion"]
    assert {m: e["extreme"] for m, e in finding["facts"]["alike_ends"].items()} == dict.fromkeys(
        MODELS, pytest.approx(0.1)
    )
    assert any("reaches 0.1" in p for p in finding["points"])


def test_degenerate_maps_say_of_which_class_they_are(tmp_path: Path) -> None:
    write_run(tmp_path, n=4, size=18)
    path = sorted(tmp_path.glob("explanations/*/captum.saliency.h5"))[0]
    e, labels = read_result(path), read_samples(tmp_path / "samples.h5").labels
    write_result(path, replace(e, degenerate=tuple("zero" if label else "" for label in labels)))
    write_report(tmp_path)
    finding = findings(tmp_path)["degenerate"]
    (broken,) = [b for b in finding["facts"]["broken"] if b["label"] == "captum.saliency"]
    assert broken["classes"] == [["normal", 0, 2], ["tumour", 2, 2]]
    assert any("(0 of 2 normal and 2 of 2 tumour)" in p for p in finding["points"])

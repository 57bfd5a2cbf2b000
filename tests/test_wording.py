"""The words of findings: every fact has a template, and no placeholder, missing number or row of names comes out of one."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from importlib.resources import files
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from fused_run import run
from jinja2 import DictLoader, UndefinedError
from test_report import LABELS, MODELS, write_run

from crossxai.report import analysis, comparison, words
from crossxai.report.contents import find, gather
from crossxai.report.run_findings import Verdict
from crossxai.report.words import Fact, Finding, write

BROKEN = re.compile(r"\bnan\b|\binf\b|\bNone\b(?! of )|  |[{}]|\(\)|``|\.\.| [.,;:)]|[,;:]\.|^\W*$")
NAMES = re.compile(r"(?:`[^`]+`(?:, | and )){3}`")


def check(finding: Finding) -> None:
    """A topic, a headline that is one sentence with three names in a row at most, and details that are sentences."""
    assert finding.topic
    for text in (finding.topic, finding.headline, *finding.points):
        assert not BROKEN.search(text), text
        assert text == text.strip()
    assert finding.headline.endswith((".", "?"))
    assert finding.headline[0].isupper() or finding.headline[0] in "`0123456789"
    assert not NAMES.search(finding.headline), finding.headline


def facts() -> list[type[Fact]]:
    def below(kind: type[Fact]) -> list[type[Fact]]:
        return [x for sub in kind.__subclasses__() for x in (sub, *below(sub))]

    found = [kind for kind in below(Fact) if hasattr(kind, "key") and kind.__module__.startswith("crossxai.")]
    return sorted(found, key=lambda kind: kind.key)


def test_every_fact_has_a_template_and_every_template_a_fact() -> None:
    folder = files("crossxai.report") / "templates" / "findings"
    templates = sorted(path.name.removesuffix(".md.j2") for path in folder.iterdir())
    assert [kind.key for kind in facts()] == templates
    assert len(templates) > 20
    table = (Path(__file__).parents[1] / "docs" / "report.md").read_text(encoding="utf-8").partition("| key |")[2]
    documented = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table.partition("\n\n")[0], flags=re.M)))
    assert sorted(documented) == [
        key for key in templates if key not in ("certainty", "leading_ninths", "which_modality")
    ]  # of their sections


VERDICT = Verdict(
    models=("pytorch", "keras"),
    n=12,
    counts="sample",
    maps=60,
    stopped=False,
    failed=0,
    lost=(),
    metrics=("deletion", "insertion"),
    compared=tuple("abcdef"),
    by_metric={"deletion": tuple("abcdef"), "insertion": tuple("abcdef")},
    beat=tuple("abcdef"),
    partly=(),
    best="a",
    level=tuple("bcdef"),
    needed=0,
    control="",
)
NONE: dict[str, Any] = {"beat": (), "best": "", "level": ()}
CASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "all": ({}, ("6 explainers", "both models", "`a`", "2 others")),
    "one best": ({"level": ()}, ("`a`",)),
    "one of several": ({"beat": ("a",), "partly": ("b",), "level": ()}, ("only `a`",)),
    "a control is better": ({"control": "controls.centre"}, ("`controls.centre`",)),
    "by one metric": ({**NONE, "partly": ("a",), "by_metric": {"deletion": ("a",), "insertion": ()}}, ("1 does by deletion",)),
    "in part": ({**NONE, "partly": ("a",), "by_metric": {"deletion": (), "insertion": ()}}, ("`a` does in part",)),
    "none": (NONE, ("do not read these maps as explanations",)),
    "few samples": ({**NONE, "n": 3, "needed": 8}, ("3 samples", "8")),
    "one explainer": ({"compared": ("a",), "beat": ("a",), "level": ()}, ("`a` beats",)),
    "one explainer in part": ({**NONE, "compared": ("a",), "partly": ("a",)}, ("only in part",)),
    "no random control": ({**NONE, "compared": ()}, ("not show",)),
    "no maps": ({**NONE, "maps": 0, "compared": ()}, ("No explainer",)),
    "failures": ({"failed": 2}, ("2 failures",)),
    "lost": ({"failed": 2, "lost": ("keras",)}, ("keras could not",)),
    "stopped": ({"stopped": True}, ("stopped",)),
    "one model": ({"models": ("m",)}, ("6 explainers",)),
    "many metrics": ({"metrics": tuple(f"deletion of {x}" for x in "abcd")}, ("all 4",)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_says_what_the_facts_are(case: str) -> None:
    changes, said = CASES[case]
    finding = write(replace(VERDICT, **changes))
    check(finding)
    assert finding.points == ()
    for text in said:
        assert text in finding.headline


def test_every_mix_of_a_verdict_is_a_sentence() -> None:
    """Each pair of cases together, also those that no run has."""
    for a, b in combinations(CASES.values(), 2):
        mixed = replace(VERDICT, **{**a[0], **b[0]})
        check(write(replace(mixed, best="a" if mixed.beat else "")))
    for total, stopped in product((1, 2), (False, True)):
        check(write(replace(VERDICT, compared=tuple("ab")[:total], beat=("a",), level=(), stopped=stopped)))


@pytest.mark.parametrize("n", [1, 3, 12])
def test_findings_of_whole_runs_are_sentences(tmp_path: Path, n: int) -> None:
    means = {"captum.saliency": 0.2, "xplique.rise": 0.8, "controls.centre": 0.1}
    insertion = {"captum.saliency": 0.8, "controls.oracle": 0.7}
    folder = write_run(
        tmp_path,
        (*LABELS, "captum.deep_lift", "controls.oracle", "lime.image"),
        n=n,
        size=18,
        deletion=means,
        insertion=insertion,
        unsupported={"captum.deep_lift": "it rewrites modules"},
        degenerate={"gradcam.gradcam": "constant"},
    )
    contents = gather(folder)
    keys = {f.key for f in contents.findings}
    assert {"beats_random", "simple_controls", "known_truth", "libraries_agree", "frameworks_agree"} <= keys
    assert {"degenerate", "ties", "unsupported", "in_region", "best_explainers"} <= keys
    assert contents.run.models == tuple(MODELS)
    for finding in (contents.verdict, *contents.findings):
        check(finding)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_findings_of_several_modalities_are_sentences(tmp_path: Path, share: float) -> None:
    structure = {"table": "uninformative"} if share < 0.1 else {}
    made = run(tmp_path, share={"fused": share, "variant": 0.03}, second=True, without="table", structure=structure)
    found = find(made, analysis.table(made), comparison.compare(made))
    keys = {f.key for f in found}
    assert {"steady", "uninformative_modality", "completeness"} <= keys
    assert "frameworks_agree" not in keys  # both models are of torch
    for finding in found:
        check(finding)


@dataclass(frozen=True)
class Own(Fact):
    """A fact of a test."""

    value: Any


@pytest.mark.parametrize("value", [None, float("nan"), 0.5, ["a"], True])
def test_what_no_filter_made_into_words_is_refused(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    environment = words._findings().overlay(loader=DictLoader({"own.md.j2": "# Own\n{{ f.value }}"}))
    monkeypatch.setattr(words, "_findings", lambda: environment)
    with pytest.raises(TypeError, match="which no filter made into words"):
        write(Own(models=("m",), value=value))


def test_a_template_is_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# Own\n{% set weight = 1.5 %}\n"
    text += "{{ f.value }} has{{ f.models | on }}\n  two lines.\n\n- A detail,\n  more.\n- {{ 3 | count('sample') }}.\n"
    environment = words._findings().overlay(loader=DictLoader({"own.md.j2": text}))
    monkeypatch.setattr(words, "_findings", lambda: environment)
    fact = Own(models=("a", "b"), value="`x`\nwith a line")
    finding = write(fact)
    assert (finding.topic, finding.headline) == ("Own", "`x` with a line has on both models two lines.")
    assert finding.points == ("A detail, more.", "3 samples.")
    assert (finding.key, finding.weight, finding.tone, finding.facts) == ("own", 1.5, "plain", fact)
    environment = environment.overlay(loader=DictLoader({"own.md.j2": "# Own\n{{ f.missing }}"}))
    with pytest.raises(UndefinedError, match="missing"):
        write(fact)


def test_facts_hold_what_json_can_say() -> None:
    """Numbers, names and containers of them: no arrays, and nothing of the run itself."""
    for kind in facts():
        for field in fields(kind):
            assert not re.search(r"Run|Result|Array|Numbers", str(field.type)), (kind.key, field.name)

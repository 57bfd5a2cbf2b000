"""The support matrix: every explainer on two frameworks × three kinds of input × three kinds of output, as docs/support.md
says. `python tests/test_support.py` writes that page from what it finds; the tests hold that every row of it is still true."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cheap import CHEAP
from networks import zoo

from crossxai import Question, Unsupported
from crossxai.attribution import Attribution
from crossxai.explainers import discover, get

PAGE = Path(__file__).parents[1] / "docs" / "support.md"
FRAMEWORKS = {"torch": "PyTorch", "keras": "Keras"}
GREEN, RED, IMPOSSIBLE = "✓", "✗", "·"
INTRODUCTION = """# What works on what

Found by `tests/test_support.py`, which runs every explainer on nine small networks (one image, image + table, image + image;
each for a class, a regression value and a region of a segmentation map), with identical weights in PyTorch and in Keras, and
compares the two. {green} of {possible} possible cells work; {explainers} explainers, {libraries} libraries and ours.

Three marks per cell: class, regression, segmentation. {GREEN} works, and both frameworks give the same map. {RED} is refused.
{IMPOSSIBLE} is not possible: the network lacks what the explainer is about (a table, attention). The reasons stand below.
"maps of" names the modalities that get a map; the others are held at their own values. Attention is tested on transformers,
with one and with two modalities, in both frameworks (`tests/test_attention.py`).
"""


@cache
def question(framework: str, inputs: str, task: str) -> Question:
    return zoo.question(framework, inputs, task)


def answer(name: str, framework: str, inputs: str, task: str) -> Attribution | str:
    """The maps, checked, or the reason why there are none."""
    asked = question(framework, inputs, task)
    try:
        found = get(name, **CHEAP.get(name, {}))(asked)
    except Unsupported as reason:
        return str(reason)
    expected = [m.name for m in asked.modalities if m.kind in discover()[name].kinds]
    assert [m.name for m in found.modalities] == expected
    for values in found.values:
        assert np.isfinite(values).all()
    assert any(np.ptp(values) > 0 for values in found.values), "every map is constant"
    return found


def _named(found: Attribution) -> set[str]:
    return {m.name for m in found.modalities}


def close(here: Attribution, there: Attribution) -> None:
    """The same weights in both frameworks: the same maps, up to rounding in float32."""
    for a, b in zip(here.values, there.values, strict=True):
        assert np.linalg.norm(a - b) <= 2e-3 * max(np.linalg.norm(a), 1e-6)


def row(name: str) -> tuple[str, str]:
    """One line of the table, and one of reasons ("" if everything works)."""
    cells, reasons = [], []
    kind = discover()[name]
    found: dict[tuple[str, str, str], Attribution | str] = {}
    for framework in FRAMEWORKS:
        for inputs in zoo.INPUTS:
            marks = []
            possible = kind.needs != "attention" and any(m.kind in kind.kinds for m in zoo.MODALITIES[inputs])
            for task in zoo.TASKS:
                one = found[framework, inputs, task] = answer(name, framework, inputs, task)
                marks.append(GREEN if isinstance(one, Attribution) else RED if possible else IMPOSSIBLE)
                if isinstance(one, str):
                    reasons.append(one.partition(": give its adapter")[0])
            cells.append(" ".join(marks))
    for (framework, inputs, task), here in found.items():
        there = found["keras", inputs, task]
        if framework == "torch" and isinstance(here, Attribution) and isinstance(there, Attribution):
            close(here, there)
    for name_of in {m.name for one in found.values() if isinstance(one, Attribution) for m in one.modalities}:
        maps_of = [one.of(name_of) for one in found.values() if isinstance(one, Attribution) and name_of in _named(one)]
        assert any(np.ptp(values) > 0 for values in maps_of), f"every map of {name_of!r} is constant"
    maps = ", ".join(f"{k}s" for k in kind.kinds if k != "volume")
    why = f"- `{name}`: {'; '.join(dict.fromkeys(reasons))}." if reasons else ""
    return f"| `{name}` | {maps} | {' | '.join(cells)} |", why


DIAGONAL = tuple(zip(zoo.INPUTS, zoo.TASKS, strict=True))


@pytest.mark.parametrize("name", discover())
def test_the_page_s_diagonal(name: str) -> None:
    """A third of the cells: each kind of input once and each kind of output once, in both frameworks."""
    line = next(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` "))
    marks = dict(zip(itertools.product(FRAMEWORKS, zoo.INPUTS), line.split("|")[3:-1], strict=True))
    for at, (inputs, task) in enumerate(DIAGONAL):
        both = [answer(name, framework, inputs, task) for framework in FRAMEWORKS]
        for framework, one in zip(FRAMEWORKS, both, strict=True):
            assert (marks[framework, inputs].split()[at] == GREEN) == isinstance(one, Attribution), one
        if all(isinstance(one, Attribution) for one in both):
            close(*both)  # type: ignore[arg-type]


@pytest.mark.process
@pytest.mark.parametrize("name", discover())
def test_the_page_tells_the_truth(name: str) -> None:
    lines = ["", *PAGE.read_text(encoding="utf-8").splitlines()]
    for line in row(name):
        assert line in lines, f"docs/support.md is out of date: python tests/test_support.py\n{line}"


def test_the_page_has_every_explainer_and_no_other() -> None:
    """At least 55 explainers, at least 95 % of what is possible works."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text.splitlines()
    names = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert names == list(discover())
    assert len([name for name in names if not name.startswith("controls.")]) >= 55
    marks = "".join("|".join(line.split("|")[3:-1]) for line in lines if line.startswith("| `"))
    green, possible = marks.count(GREEN), marks.count(GREEN) + marks.count(RED)
    assert green >= 0.95 * possible
    assert f"{green} of {possible} possible cells work; {len(names)} explainers" in text


def page() -> str:
    rows = [row(name) for name in discover()]
    heads = [
        "explainer",
        "maps of",
        *(f"{f}: {i.replace('+', ' + ')}" for f in FRAMEWORKS.values() for i in zoo.INPUTS),
    ]
    table = [line for line, _ in rows]
    marks = "".join("|".join(line.split("|")[3:-1]) for line in table)
    introduction = INTRODUCTION.format(
        green=marks.count(GREEN),
        possible=marks.count(GREEN) + marks.count(RED),
        explainers=len(rows),
        libraries=4,
        GREEN=GREEN,
        RED=RED,
        IMPOSSIBLE=IMPOSSIBLE,
    )
    table = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *table]
    return "\n".join([introduction, *table, "", "## Why not", "", *(why for _, why in rows if why)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

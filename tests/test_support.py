"""The support matrix: every explainer on two frameworks × three kinds of input × three kinds of output, as docs/support.md
says. `python tests/test_support.py` writes that page from what it finds; the tests hold that every row of it is still true."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import zoo
from cheap import CHEAP

from crossxai import Question, Unsupported
from crossxai.attribution import Attribution
from crossxai.explainers import discover, get

PAGE = Path(__file__).parents[1] / "docs" / "support.md"
FRAMEWORKS = {"torch": "PyTorch", "keras": "Keras"}
GREEN = "✓"
INTRODUCTION = """# What works on what

Found by `tests/test_support.py`, which runs every explainer on nine small networks (one image, image + table, image + image;
each for a class, a regression value and a region of a segmentation map), with identical weights in PyTorch and in Keras, and
compares the two. {green} of {possible} possible cells work; {explainers} explainers, {libraries} libraries and ours.

One mark per output: class, regression, segmentation. "not possible" is counted apart: these networks lack what the method is
about. "maps of" names the modalities that get a map; the others are held at each sample's own values.
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


def close(here: Attribution, there: Attribution) -> None:
    """The same weights in both frameworks: the same maps, up to rounding in float32."""
    for a, b in zip(here.values, there.values, strict=True):
        assert np.linalg.norm(a - b) <= 2e-3 * max(np.linalg.norm(a), 1e-6)


def row(name: str) -> tuple[str, dict[str, int]]:
    """One line of the table and its counts of green, red and impossible cells."""
    cells, counts = [], {GREEN: 0, "red": 0, "impossible": 0}
    found: dict[tuple[str, str, str], Attribution | str] = {}
    for framework in FRAMEWORKS:
        for inputs in zoo.INPUTS:
            marks = []
            for task in zoo.TASKS:
                one = found[framework, inputs, task] = answer(name, framework, inputs, task)
                possible = not (isinstance(one, str) and discover()[name].needs == "attention")
                marks.append(GREEN if isinstance(one, Attribution) else one if possible else f"not possible: {one}")
                counts[GREEN if isinstance(one, Attribution) else "red" if possible else "impossible"] += 1
            cells.append(" ".join(marks) if set(marks) == {GREEN} else "; ".join(dict.fromkeys(marks)))
    for (framework, inputs, task), here in found.items():
        there = found["keras", inputs, task]
        if framework == "torch" and isinstance(here, Attribution) and isinstance(there, Attribution):
            close(here, there)
    maps = ", ".join(f"{kind}s" for kind in discover()[name].kinds if kind != "volume")
    return f"| `{name}` | {maps} | {' | '.join(cells)} |", counts


@pytest.mark.parametrize("name", discover())
def test_the_page_tells_the_truth(name: str) -> None:
    line, _ = row(name)
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert line in lines, f"docs/support.md is out of date: python tests/test_support.py\n{line}"


def test_the_page_has_every_explainer_and_no_other() -> None:
    """At least 55 explainers, at least 95 % of what is possible works."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text.splitlines()
    names = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert names == list(discover())
    assert len([name for name in names if not name.startswith("controls.")]) >= 55
    cells = [cell for line in lines if line.startswith("| `") for cell in line.split("|")[3:-1]]
    possible = 3 * len([cell for cell in cells if "not possible" not in cell])
    green = sum(cell.count(GREEN) for cell in cells)
    assert green >= 0.95 * possible
    assert f"{green} of {possible} possible cells work; {len(names)} explainers" in text


def page() -> str:
    rows, total = [], {GREEN: 0, "red": 0, "impossible": 0}
    for name in discover():
        line, counts = row(name)
        print(line)
        rows.append(line)
        total = {key: total[key] + counts[key] for key in total}
    heads = [
        "explainer",
        "maps of",
        *(f"{f}: {i.replace('+', ' + ')}" for f in FRAMEWORKS.values() for i in zoo.INPUTS),
    ]
    introduction = INTRODUCTION.format(
        green=total[GREEN],
        possible=total[GREEN] + total["red"],
        explainers=len(rows),
        libraries=4,
    )
    return "\n".join([introduction, f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

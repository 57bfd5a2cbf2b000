"""docs/conventions.md and docs/parity.md say what the data say: what each library chooses, what there is to choose, and what each
method promises.

`python tests/test_conventions_page.py` writes those parts of the pages anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crossxai.conventions.axioms import AXIOMS, PROMISES
from crossxai.conventions.convention import CANONICAL, CONVENTIONS, Option, Setting
from crossxai.conventions.libraries import USAGES, explainers_of, setting_of
from crossxai.explainers import get
from crossxai.report.parity import METHODS

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- from the data, by tests/test_conventions_page.py -->\n", "<!-- until here -->\n"


def words(name: str, option: Option) -> str:
    if name not in CONVENTIONS or option not in CONVENTIONS[name].options:
        return f"{option:g}" if isinstance(option, int | float) else str(option)
    return CONVENTIONS[name].options[option]


def tables() -> Iterator[str]:
    """One table per method: the conventions in which a library's own profile is not the definition."""
    for method, canonical in CANONICAL.items():
        names = [n for n in explainers_of(method) if not n.startswith("reference.")]
        settings: list[Setting] = [canonical, *(setting_of(get(n, profile="native")) for n in names)]
        rows = [
            [CONVENTIONS[key].about, *(words(key, setting[key]) for setting in settings)]
            for key in canonical
            if key in CONVENTIONS and len({setting[key] for setting in settings}) > 1
        ]
        rows.append(["decided in", "", *(f"`{USAGES[n].source}`" for n in names)])
        header = ["", "canonical", *(f"`{n}`" for n in names)]
        yield f"\n### {METHODS[method][0].upper()}{METHODS[method][1:]}\n"
        yield from (f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def choices() -> Iterator[str]:
    """One table of all conventions with their options, the slips that no library makes among them."""
    yield "\n### Every convention and its options\n"
    yield "| | options |\n| --- | --- |"
    for c in CONVENTIONS.values():
        numbers = f"a number; a search tries {', '.join(f'{o:g}' for o in c.candidates)}"
        options = "; ".join(c.options.values()) or (
            numbers if c.candidates else "a name; a search tries all of the model"
        )
        yield f"| `{c.name}`: {c.about} | {options}{' and one more or less' if c.near else ''} |"


def promises() -> Iterator[str]:
    """The axioms, and which method promises them."""
    says = [[name, axiom.about, axiom.measured] for name, axiom in AXIOMS.items()]
    kept = [[METHODS[method], *("yes" if name in some else "" for name in AXIOMS)] for method, some in PROMISES.items()]
    for header, rows in ((["axiom", "says", "measured"], says), (["", *AXIOMS], kept)):
        yield ""
        yield from (f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


PAGES = {"conventions.md": lambda: (*tables(), *choices()), "parity.md": promises}


def generated(page: str) -> str:
    return BEGIN + "\n".join(PAGES[page]()) + "\n\n" + END


@pytest.mark.parametrize("page", PAGES)
def test_the_page_says_what_the_data_say(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert generated(page) in text, f"docs/{page} is out of date: python tests/test_conventions_page.py"


if __name__ == "__main__":
    for name in PAGES:
        before, _, rest = (DOCS / name).read_text(encoding="utf-8").partition(BEGIN)
        (DOCS / name).write_text(before + generated(name) + rest.partition(END)[2], encoding="utf-8")

"""docs/conventions.md says what the data say: what each library chooses, method by method, and what can be chosen.

`python tests/test_conventions_page.py` writes that part of the page anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossxai.conventions.convention import CANONICAL, CONVENTIONS, Option, Setting
from crossxai.conventions.libraries import USAGES, explainers_of, setting_of
from crossxai.explainers import get
from crossxai.report.parity import METHODS

PAGE = Path(__file__).parents[1] / "docs" / "conventions.md"
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
        options = (
            "; ".join(c.options.values()) or f"a number; a search tries {', '.join(f'{o:g}' for o in c.candidates)}"
        )
        yield f"| `{c.name}`: {c.about} | {options}{' and one more or less' if c.near else ''} |"


def generated() -> str:
    return BEGIN + "\n".join((*tables(), *choices())) + "\n\n" + END


def test_the_page_says_what_the_data_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert generated() in page, "docs/conventions.md is out of date: python tests/test_conventions_page.py"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + generated() + rest.partition(END)[2], encoding="utf-8")

"""Docstrings of explainers and metrics: their own words, the parameters that they inherit, and where their papers appeared."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from types import MappingProxyType

SECTION = re.compile(r"^(Parameters|Notes|References)\n-+\n", re.M)
PAPERS = {
    "Abnar & Zuidema 2020": "arXiv:2005.00928",
    "Adebayo et al. 2018": "arXiv:1810.03292",
    "Alvarez-Melis & Jaakkola 2018": "arXiv:1806.08049",
    "Ancona et al. 2018": "arXiv:1711.06104",
    "Arras et al. 2022": "Information Fusion 81",
    "Bach et al. 2015": "PLOS ONE 10(7)",
    "Bell & Dean 1970": "Discussions of the Faraday Society 50",
    "Bhatt et al. 2020": "arXiv:2005.00631",
    "Böhle et al. 2021": "arXiv:2104.00032",
    "Cai 2025": "arXiv:2501.06261",
    "Castro et al. 2009": "Computers & Operations Research 36(5)",
    "Chalasani et al. 2020": "arXiv:1810.06583",
    "Chattopadhyay et al. 2018": "arXiv:1710.11063",
    "Chefer, Gur & Wolf 2021": "arXiv:2103.15679",
    "Choe et al. 2020": "arXiv:2001.07437",
    "Davis & Goadrich 2006": "ICML",
    "Desai & Ramaswamy 2020": "WACV",
    "DeYoung et al. 2020": "arXiv:1911.03429",
    "Dice 1945": "Ecology 26(3)",
    "Draelos & Carin 2020": "arXiv:2011.08891",
    "Fel et al. 2021": "arXiv:2111.04138",
    "Fisher et al. 2019": "arXiv:1801.01489",
    "Fu et al. 2020": "arXiv:2008.02312",
    "Fuad et al. 2020": "IPTA",
    "Gildenblat 2021": "https://github.com/jacobgil/pytorch-grad-cam",
    "Hooker et al. 2019": "arXiv:1806.10758",
    "Jiang et al. 2021": "IEEE TIP 30",
    "Karmani et al. 2024": "arXiv:2410.00267",
    "Kindermans et al. 2019": "arXiv:1711.00867",
    "Kokhlikyan et al. 2020": "arXiv:2009.07896",
    "Lundberg & Lee 2017": "arXiv:1705.07874",
    "Muhammad & Yeasin 2020": "arXiv:2008.00299",
    "Muzellec et al. 2023": "arXiv:2307.09591",
    "Novello et al. 2022": "arXiv:2206.06219",
    "Parcalabescu & Frank 2023": "arXiv:2212.08158",
    "Petsiuk et al. 2018": "arXiv:1806.07421",
    "Petsiuk et al. 2021": "arXiv:2006.03204",
    "Ribeiro et al. 2016": "arXiv:1602.04938",
    "Rieger & Hansen 2020": "arXiv:2003.08747",
    "Rong et al. 2022": "arXiv:2202.00449",
    "Rudin et al. 1992": "Physica D 60",
    "Samek et al. 2017": "arXiv:1509.06321",
    "Selvaraju et al. 2017": "arXiv:1610.02391",
    "Shapley 1953": "Contributions to the Theory of Games II",
    "Shrikumar et al. 2016": "arXiv:1605.01713",
    "Shrikumar et al. 2017": "arXiv:1704.02685",
    "Simonyan et al. 2013": "arXiv:1312.6034",
    "Sixt et al. 2020": "arXiv:1912.09818",
    "Smilkov et al. 2017": "arXiv:1706.03825",
    "Springenberg et al. 2014": "arXiv:1412.6806",
    "Srinivas & Fleuret 2019": "arXiv:1905.00780",
    "Sundararajan et al. 2017": "arXiv:1703.01365",
    "Theiner et al. 2022": "arXiv:2104.14995",
    "Tursun et al. 2022": "arXiv:2207.01769",
    "Wang et al. 2020": "arXiv:1910.01279",
    "Wang, Bovik & Evans 2000": "ICIP",
    "Yeh et al. 2019": "arXiv:1901.09392",
    "Zeiler & Fergus 2014": "arXiv:1311.2901",
    "Zhang et al. 2018": "IJCV 126(10)",
    "Zhang et al. 2025": "arXiv:2501.11309",
}
"""Where papers appeared, by the short names that classes give as `reference` or `source`."""


ONE_LINE = re.compile(r"((?:\{[^}]*\}|[^,{])+), (.+)")
"""A parameter that one line explains: its type, and the words, which `complete` puts below it."""


def sections(doc: str) -> dict[str, str]:
    """A numpydoc docstring by its headings; what comes before the first is under ""."""
    first, *rest = SECTION.split(doc)
    return {"": first.strip(), **{name: text.strip() for name, text in zip(rest[::2], rest[1::2], strict=True)}}


def parameters(text: str) -> dict[str, str]:
    """A section of parameters by their names: the type, and the words below it."""
    entries = re.split(r"^(\w+) : ", text, flags=re.M)[1:]
    return dict(zip(entries[::2], (entry.rstrip() for entry in entries[1::2]), strict=True))


def papers(source: str) -> str:
    """The papers that a source names, numbered, and where they appeared; the source itself where none of them is known."""
    named = sorted((source.replace(" and ", " & ").find(name), name) for name in PAPERS)
    known = [name for place, name in named if place >= 0]
    if not known:
        return "" if source.startswith("ours") else source
    return "\n".join(f".. [{i}] {name}. {PAPERS[name]}." for i, name in enumerate(known, start=1))


def complete(kind: type, shared: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write into a class's docstring its defaults, conventions and paper, and what it inherits; again once more is
    known of it. shared: what parameters mean where a class documents nothing else."""
    own = vars(kind).get("_written") or vars(kind).get("__doc__")
    if not own:
        return
    parts = sections(inspect.cleandoc(own))
    given: dict[str, str] = {}
    for base in reversed(kind.__mro__[1:]):
        given |= vars(base).get("_parameters", {})
    given |= parameters(parts.get("Parameters", ""))
    given |= {name: shared[name] for name in inspect.get_annotations(kind) if name in shared and name not in given}
    inherited = [note for base in kind.__mro__[1:] if (note := vars(base).get("_notes"))]
    profiles = getattr(kind, "profiles", ())
    conventions: Mapping[str, str] = getattr(kind, "conventions", {})
    clauses = [f"Profile {name!r}: {clause}." for name, clause in conventions.items() if name in profiles]
    notes = "\n\n".join(filter(None, [parts.get("Notes", ""), *dict.fromkeys(inherited), "\n".join(clauses)]))
    kind._parameters, kind._notes, kind._written = given, parts.get("Notes", ""), own  # type: ignore[attr-defined]
    lines = []
    for name, entry in given.items():
        declared, _, words = entry.partition("\n")
        if not words and (one_line := ONE_LINE.fullmatch(declared)):
            declared, words = one_line[1], f"    {one_line[2][0].upper()}{one_line[2][1:]}."
        if hasattr(kind, name) and not isinstance(getattr(kind, name), dataclasses.Field):
            declared = f"{declared.partition(', default ')[0]}, default {getattr(kind, name)!r}"
        lines.append(f"{name} : {declared}\n{words}".rstrip())
    source: str = getattr(kind, "reference", "") or getattr(kind, "source", "")
    own_paper = parts.get("References", papers(source))
    full = {"": parts[""], "Parameters": "\n".join(lines), "Notes": notes, "References": own_paper}
    kind.__doc__ = "\n\n".join(f"{h}\n{'-' * len(h)}\n{text}" if h else text for h, text in full.items() if text)

"""From facts to words: a fact is a dataclass of numbers and names, and the template of its key writes its sentences.

A template of the folder `templates/findings` is Markdown: `# topic`, the headline, then a line `- …` for every detail, the most
important first. It sees the fact as `f`. It prints strings and whole numbers; other numbers go through a filter, so that neither
`None` nor `nan` reaches a reader. Names of explainers and of parameters stand between backticks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined, pass_context
from jinja2.runtime import Context

from crossxai.evaluation.statistics import Summary
from crossxai.report import words

Tone = Literal["plain", "good", "warning"]
Macro = Callable[..., str]


@dataclass(frozen=True)
class Fact:
    """One thing the numbers say. models: all models of the run. Subclasses add their numbers and set `key`.

    rank, mood: weight and tone of those whose numbers do not change them.
    """

    key: ClassVar[str]
    rank: ClassVar[float] = 0
    mood: ClassVar[Tone] = "plain"
    models: tuple[str, ...]

    @property
    def weight(self) -> float:
        """Findings are sorted by it, the largest first."""
        return self.rank

    @property
    def tone(self) -> Tone:
        """Whether it is good news, a warning, or neither."""
        return self.mood


@dataclass(frozen=True)
class Finding:
    """A fact in words. points: the details, most important first. weight: findings are sorted by it."""

    topic: str
    headline: str
    points: tuple[str, ...]
    weight: float
    tone: Tone
    key: str
    facts: Fact


def write(fact: Fact) -> Finding:
    """Render a fact with the template of its key."""
    topic, headline, points = "", "", list[str]()
    for line in _environment().get_template(f"{fact.key}.md.j2").render(f=fact).splitlines():
        text = " ".join(line.split())
        if text.startswith("# "):
            topic = text[2:]
        elif text.startswith("- "):
            points.append(text[2:])
        elif text and points:
            points[-1] += f" {text}"
        elif text:
            headline += f" {text}" if headline else text
    return Finding(topic, headline, tuple(points), fact.weight, fact.tone, fact.key, fact)


@cache
def _environment() -> Environment:
    # The words are plain text: the page and its Markdown twin escape them, each in its own way.
    environment = Environment(
        loader=PackageLoader("crossxai.report", "templates/findings"),
        autoescape=False,
        undefined=StrictUndefined,
        finalize=_printable,
        extensions=["jinja2.ext.do"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "num": words.number,
        "signed": words.signed,
        "brief": words.brief,
        "interval": words.interval,
        "p": words.p_value,
        "percent": words.percent,
        "small": words.small,
        "share": _share,
        "value": words.value,
        "count": words.count,
        "listing": words.listing,
        "metric": words.metric,
        "library": words.library,
        "kind": words.kind,
        "code": code,
        "names": names,
        "some": some,
        "tally": tally,
        "upper_first": words.capital,
        "on": _on,
        "by_models": _by_models,
        "per_model": _per_model,
        "together": _together,
    }
    return environment


def _printable(value: Any) -> str:
    """What a template may print, on one line."""
    if isinstance(value, bool) or not isinstance(value, str | int | Undefined):
        raise TypeError(f"a finding prints {value!r}, which no filter made into words")
    return re.sub(r"\s+", " ", str(value))


def code(label: str) -> str:
    """A name as code."""
    return f"`{label}`"


def names(labels: Sequence[str], most: int = 0) -> str:
    """Names as code: `a`, `b` and `c`."""
    return words.listing([code(label) for label in labels], most)


def some(labels: Sequence[str]) -> str:
    """Names as code in a headline: three at most, and how many others there are."""
    return names(labels, 3)


def on(models: Sequence[str], every: Sequence[str]) -> str:
    """`on both models`, `on pytorch`, or nothing when there is only one model."""
    if len(every) == 1:
        return ""
    if len(models) == len(every):
        return " on both models" if len(every) == 2 else f" on all {len(every)} models"
    return f" on {words.listing(models)}"


def per_model(texts: Mapping[str, str], every: Sequence[str], rest: str = "") -> str:
    """What holds on each model, once where it is the same: `9 of 12 beat random on pytorch, 8 of 12 on keras`.

    rest: what follows the first text only.
    """
    groups: dict[str, list[str]] = {}
    for model, text in texts.items():
        groups.setdefault(text, []).append(model)
    parts = []
    for i, (text, models) in enumerate(groups.items()):
        where = on(models, every)
        if text.startswith(("none ", "no ")) and " and " not in text and len(models) == len(every) > 1:
            where = " on either model" if len(every) == 2 else " on any model"
        parts.append(f"{text}{rest if i == 0 else ''}{where}")
    return ", ".join(parts)


def tally(n: int, total: int, noun: str = "explainer") -> str:
    """`9 of 12 explainers`, `none of 12 …`, `all 12 explainers`, `both explainers`, `the one explainer` or `no explainer`."""
    if total and n == total:
        return f"all {words.count(total, noun)}" if total > 2 else f"both {noun}s" if total == 2 else f"the one {noun}"
    if total == 1:
        return f"no {noun}"
    return f"{n or 'none'} of {words.count(total, noun)}"


def by_models(labels_by_model: Mapping[str, Sequence[str]], every: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(where, labels): labels of the same models together, those of most models first."""
    places: dict[str, list[str]] = {}
    for model, labels in labels_by_model.items():
        for label in labels:
            places.setdefault(label, []).append(model)
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, models in places.items():
        groups.setdefault(tuple(models), []).append(label)
    return [(on(models, every), labels) for models, labels in sorted(groups.items(), key=lambda g: -len(g[0]))]


def _share(share: Summary) -> str:
    """A mean share in percent with its interval in square brackets."""
    between = (
        f" [{words.small(share.low)} to {words.small(share.high)}]" if math.isfinite(share.low + share.high) else ""
    )
    return f"{words.small(share.mean)}{between}"


@pass_context
def _on(context: Context, models: Sequence[str]) -> str:
    return on(models, context["f"].models)


@pass_context
def _by_models(context: Context, labels: Mapping[str, Sequence[str]]) -> list[tuple[str, list[str]]]:
    return by_models(labels, context["f"].models)


@pass_context
def _per_model(context: Context, items: Mapping[str, Any], macro: Macro, rest: str = "") -> str:
    """What a macro says of each model's item, once where it says the same."""
    return per_model({model: macro(item) for model, item in items.items()}, context["f"].models, rest)


@pass_context
def _together(context: Context, items: Mapping[str, Any], macro: Macro) -> Iterator[tuple[str, Any]]:
    """(where, item): the first item of the models of which a macro says the same, and on which models that is; nothing where it
    says nothing."""
    groups: dict[str, list[str]] = {}
    for model, item in items.items():
        if text := macro(item).strip():
            groups.setdefault(text, []).append(model)
    for models in groups.values():
        yield on(models, context["f"].models), items[models[0]]

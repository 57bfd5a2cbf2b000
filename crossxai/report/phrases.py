"""Finding, and the phrases that findings share: names of explainers, of models, and lists of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from crossxai.report import words

Tone = Literal["plain", "good", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing the numbers say. points: the details, most important first. weight: findings are sorted by it."""

    topic: str
    headline: str
    points: tuple[str, ...]
    weight: float
    tone: Tone = "plain"


def code(label: str) -> str:
    """A name as code."""
    return f"`{label}`"


def names(labels: Sequence[str], most: int = 0) -> str:
    """Names as code: `a`, `b` and `c`."""
    return words.listing([code(label) for label in labels], most)


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
        if text.startswith("none") and " and " not in text and len(models) == len(every) > 1:
            where = " on either model" if len(every) == 2 else " on any model"
        parts.append(f"{text}{rest if i == 0 else ''}{where}")
    return ", ".join(parts)


def together(texts: Mapping[str, str], every: Sequence[str]) -> list[str]:
    """Sentences of several models, said once where they are the same; `{where}` in them becomes `on pytorch`."""
    groups: dict[str, list[str]] = {}
    for model, text in texts.items():
        groups.setdefault(text, []).append(model)
    return [text.replace("{where}", on(models, every)) for text, models in groups.items()]


def tally(n: int, total: int, noun: str = "explainer") -> str:
    """`9 of 12 explainers`, `none of 12 explainers`, `all 12 explainers`."""
    if total and n == total:
        return f"all {words.count(total, noun)}" if total > 1 else f"the one {noun}"
    return f"{n or 'none'} of {words.count(total, noun)}"


def sentence(text: str) -> str:
    """The same text, its first letter a capital."""
    return text[:1].upper() + text[1:]


def by_models(found: Mapping[str, Sequence[str]], every: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(where, labels): labels found on the same models together, those on most models first."""
    places: dict[str, list[str]] = {}
    for model, labels in found.items():
        for label in labels:
            places.setdefault(label, []).append(model)
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, models in places.items():
        groups.setdefault(tuple(models), []).append(label)
    return [(on(models, every), labels) for models, labels in sorted(groups.items(), key=lambda g: -len(g[0]))]

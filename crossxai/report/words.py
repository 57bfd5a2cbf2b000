"""Facts in words. Numbers, lists and names as text; and findings: a fact is a dataclass of numbers and names, and the template of
its key writes its sentences.

A template of the folder `templates/findings` is Markdown: `# topic`, the headline, then a line `- …` for every detail, the most
important first. It sees the fact as `f`, and sets the `weight` that findings are sorted by, and a `tone` that is not "plain". It
prints strings and whole numbers; other numbers go through a filter, so that neither `None` nor `nan` reaches a reader. Names of
explainers and of parameters stand between backticks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined, pass_context, pass_environment
from jinja2.runtime import Context

from crossxai.evaluation.statistics import Summary

Tone = Literal["plain", "good", "warning"]
Macro = Callable[..., str]
LIBRARIES = {"captum": "Captum", "gradcam": "pytorch-grad-cam", "lime": "LIME", "xplique": "Xplique"}
FRAMEWORKS = {"torch": "PyTorch", "pytorch": "PyTorch", "tensorflow": "TensorFlow", "keras": "Keras", "numpy": "NumPy"}
MINUS = "−"
NONE = "–"
METRICS = {
    "aopc": "AOPC",
    "auprc": "AUPRC",
    "irof": "IROF",
    "mask_dice": "mask Dice",
    "mask_iou": "mask IoU",
    "morf_lerf": "MoRF–LeRF",
    "mu_fidelity": "MuFidelity",
    "road": "ROAD",
    "road_lerf": "ROAD LeRF",
    "road_morf": "ROAD MoRF",
    "sensitivity_n": "sensitivity-n",
}
# What a training reports of a model.
FIGURES = {"auc": "AUC", "rmse": "RMSE", "mae": "MAE", "dice": "Dice", "iou": "IoU"}
KINDS = {"nan": "not finite", "zero": "all zero"}


def number(value: float, digits: int = 3) -> str:
    """A fixed number of decimals with a true minus sign, or a dash for a missing value."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """As `number`, with a plus sign for positive values."""
    text = number(value, digits)
    return text if text[0] in (MINUS, NONE) or float(text) == 0 else f"+{text}"


def brief(value: float) -> str:
    """Two significant digits, for quantities of any size; whole hundreds are written out."""
    if not math.isfinite(value):
        return NONE
    return (f"{value:.0f}" if 100 <= abs(value) < 1e5 else f"{value:.2g}").replace("-", MINUS)


def interval(low: float, high: float, digits: int = 3) -> str:
    """A 95% interval, or nothing if there is none (one sample)."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{number(low, digits)} to {number(high, digits)}"


def p_value(p: float) -> str:
    """`p = 0.012`, `p < 0.001`, or "no test" when there is none."""
    if not math.isfinite(p):
        return "no test"
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.0995 else f"p = {p:.2f}"


def percent(share: float, digits: int = 0) -> str:
    """A share as a percentage."""
    return f"{share * 100:.{digits}f}%".replace("-", MINUS) if math.isfinite(share) else NONE


def small(share: float) -> str:
    """A share in percent, with a decimal below 1% and above 99%, so that little is not written as nothing."""
    if 0 < share < 0.0005 or 0.9995 < share < 1:
        return "<0.1%" if share < 1 / 2 else ">99.9%"
    return percent(share, 0 if 0.01 <= share <= 0.99 or share in (0, 1) else 1)


def seconds(value: float) -> str:
    """A duration: 0.42 s, 12 s, 3 min 20 s, 5.2 h."""
    if not math.isfinite(value):
        return NONE
    if value < 10:
        return f"{value:.2g} s" if value >= 0.1 else f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{int(value) // 60} min {int(value) % 60} s"
    return f"{value / 3600:.1f} h" if value < 360_000 else f"{value / 3600:.0f} h"


def count(n: int, noun: str) -> str:
    """`1 sample`, `8 samples`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listing(items: Sequence[str], most: int = 0) -> str:
    """`a, b and c`; with `most`, the first ones and how many others there are."""
    shown = list(items)
    if most and len(shown) > most + 1:
        shown = [*shown[:most], f"{len(shown) - most} others"]
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def shortened(text: str, most: int = 160) -> str:
    """The first so many characters, up to a word's end."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most].rpartition(' ')[0] or text[:most]} …"


def library(name: str) -> str:
    """A library's own spelling."""
    return LIBRARIES.get(name, name)


def metric(name: str) -> str:
    """A metric as papers write it: ROAD, mask IoU, max sensitivity."""
    return METRICS.get(name, name.replace("_", " ").replace(".", " "))


def capital(text: str) -> str:
    """The same text, its first letter a capital, and no other changed."""
    return text[:1].upper() + text[1:]


def framework(name: str) -> str:
    """A framework's own spelling."""
    return FRAMEWORKS.get(name, name) or "framework unknown"


def kind(name: str) -> str:
    """What is wrong with a degenerate map."""
    return KINDS.get(name, name)


def value(setting: Any) -> str:
    """A setting on one line."""
    if isinstance(setting, float):
        return f"{setting:.6g}"
    if isinstance(setting, Mapping):
        # What an experiment leaves empty says nothing.
        kept = {key: item for key, item in setting.items() if item not in (None, "", [], {})}
        first = [str(kept.pop("name"))] if "name" in kept else []
        return ", ".join([*first, *(f"{key} {value(item)}" for key, item in kept.items())]) or NONE
    if isinstance(setting, list | tuple):
        return ", ".join(value(item) for item in setting) or NONE
    return str(setting)


def code(label: str) -> str:
    """A name as code."""
    return f"`{label}`"


def names(labels: Sequence[str], most: int = 0) -> str:
    """Names as code: `a`, `b` and `c`."""
    return listing([code(label) for label in labels], most)


def where(models: Sequence[str], every: Sequence[str]) -> str:
    """`on both models`, `on pytorch`, or nothing when there is only one model."""
    if len(every) == 1:
        return ""
    if len(models) == len(every):
        return " on both models" if len(every) == 2 else f" on all {len(every)} models"
    return f" on {listing(models)}"


@pass_context
def on(context: Context, models: Sequence[str]) -> str:
    """`where` among the models of the fact."""
    return where(models, context["f"].models)


@pass_context
def per_model(context: Context, items: Mapping[str, Any], macro: Macro, rest: str = "") -> str:
    """What a macro says of each model's item, once where it says the same: `9 of 12 beat random on pytorch, 8 of 12 on keras`.
    rest: what follows the first text only."""
    every, groups = context["f"].models, dict[str, list[str]]()
    for model, item in items.items():
        groups.setdefault(macro(item), []).append(model)
    parts = []
    for i, (text, models) in enumerate(groups.items()):
        place = where(models, every)
        if text.startswith(("none ", "no ")) and " and " not in text and len(models) == len(every) > 1:
            place = " on either model" if len(every) == 2 else " on any model"
        parts.append(f"{text}{rest if i == 0 else ''}{place}")
    return ", ".join(parts)


def tally(n: int, total: int, noun: str = "explainer") -> str:
    """`9 of 12 explainers`, `none of 12 …`, `all 12 explainers`, `both explainers`, `the one explainer` or `no explainer`."""
    if total and n == total:
        return f"all {count(total, noun)}" if total > 2 else f"both {noun}s" if total == 2 else f"the one {noun}"
    if total == 1:
        return f"no {noun}"
    return f"{n or 'none'} of {count(total, noun)}"


@pass_context
def by_models(context: Context, labels_by_model: Mapping[str, Sequence[str]]) -> list[tuple[str, list[str]]]:
    """(where, labels): labels of the same models together, those of most models first."""
    places: dict[str, list[str]] = {}
    for model, labels in labels_by_model.items():
        for label in labels:
            places.setdefault(label, []).append(model)
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, models in places.items():
        groups.setdefault(tuple(models), []).append(label)
    ordered = sorted(groups.items(), key=lambda g: -len(g[0]))
    return [(where(models, context["f"].models), labels) for models, labels in ordered]


def share(mean: Summary) -> str:
    """A mean share in percent with its interval in square brackets."""
    known = math.isfinite(mean.low + mean.high)
    return f"{small(mean.mean)} [{small(mean.low)} to {small(mean.high)}]" if known else small(mean.mean)


@pass_context
def together(context: Context, items: Mapping[str, Any], macro: Macro) -> Iterator[tuple[str, Any]]:
    """(where, item): the first item of the models of which a macro says the same, and on which models that is; nothing where it
    says nothing."""
    groups: dict[str, list[str]] = {}
    for model, item in items.items():
        if text := macro(item).strip():
            groups.setdefault(text, []).append(model)
    for models in groups.values():
        yield where(models, context["f"].models), items[models[0]]


@pass_environment
def labelled(
    environment: Environment, items: Mapping[str, Sequence[Any]], attribute: str, test: str, value: Any
) -> dict[str, list[str]]:
    """Model → the labels of those whose attribute passes a test: `labelled("low", "ge", 0.95)`."""
    passes: Any = environment.tests[test]
    return {model: [x.label for x in one if passes(getattr(x, attribute), value)] for model, one in items.items()}


def environment(folder: str, **options: Any) -> Environment:
    """The templates of a folder with the filters that write numbers and names."""
    loader = PackageLoader("crossxai.report", folder)
    templates = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)
    numbers = (signed, brief, interval, percent, small, seconds, count, value)
    texts = (listing, shortened, library, metric, capital, framework, kind)
    templates.filters |= {"num": number, "p": p_value} | {f.__name__: f for f in (*numbers, *texts)}
    templates.tests["finite"] = math.isfinite
    return templates


@dataclass(frozen=True)
class Fact:
    """One thing the numbers say. models: all models of the run. Subclasses add their numbers; key: their name in snake case."""

    key: ClassVar[str]
    models: tuple[str, ...]

    def __init_subclass__(cls) -> None:
        cls.key = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


@dataclass(frozen=True)
class Finding:
    """A fact in words. points: the details, most important first. weight: findings are sorted by it, the largest first."""

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
    template: Any = _findings().get_template(f"{fact.key}.md.j2").make_module({"f": fact})
    for line in str(template).splitlines():
        text = " ".join(line.split())
        if text.startswith("# "):
            topic = text[2:]
        elif text.startswith("- "):
            points.append(text[2:])
        elif text and points:
            points[-1] += f" {text}"
        elif text:
            headline += f" {text}" if headline else text
    tone: Tone = getattr(template, "tone", "plain")
    return Finding(topic, headline, tuple(points), getattr(template, "weight", 0), tone, fact.key, fact)


@cache
def _findings() -> Environment:
    # The words are plain text: the page and its Markdown twin escape them, each in its own way.
    templates = environment("templates/findings", finalize=_printable, extensions=["jinja2.ext.do"])
    templates.filters |= {
        f.__name__: f for f in (share, code, names, tally, on, by_models, per_model, together, labelled)
    }
    return templates


def _printable(value: Any) -> str:
    """What a template may print, on one line."""
    if isinstance(value, bool) or not isinstance(value, str | int | Undefined):
        raise TypeError(f"a finding prints {value!r}, which no filter made into words")
    return re.sub(r"\s+", " ", str(value))

"""Numbers in words: how the report writes means, intervals, p values, lists and names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
    """A duration: 0.42 s, 12 s, 3 min 20 s."""
    if not math.isfinite(value):
        return NONE
    if value < 10:
        return f"{value:.2g} s" if value >= 0.1 else f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.0f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


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


def limits(low: float | None, high: float | None) -> str:
    """What values a metric can have: `0 to 1`, `0 or more`; nothing if any."""
    if low is None or high is None:
        return (
            f"{low:g} or more".replace("-", MINUS) if low is not None else f"up to {high:g}" if high is not None else ""
        )
    return f"{low:g} to {high:g}".replace("-", MINUS)


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


def settings(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, value) lines, in its own order."""
    if not isinstance(tree, Mapping):
        return [(prefix, value(tree))]
    lines: list[tuple[str, str]] = []
    for key, item in tree.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(item, Mapping) and item:
            lines += settings(item, name)
        elif isinstance(item, list) and any(isinstance(part, Mapping) for part in item):
            lines += [(f"{name} {i}", value(part)) for i, part in enumerate(item, 1)]
        elif item not in (None, "", [], {}):
            lines.append((name, value(item)))
    return lines

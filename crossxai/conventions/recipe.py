"""A method in two parts: what its model is asked, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crossxai.conventions.convention import Setting
from crossxai.model import Array
from crossxai.question import Question


@dataclass(frozen=True)
class Recipe:
    """One definition of a method.

    passes: what the model answers to a question with one free image, in a setting. combine: the raw map (n, y, x, channels), or
    (n, h, w, 1) on a layer's grid, of those answers. later: the conventions that only `combine` looks at; settings that differ in
    nothing else share their passes. draws: the options of "draws" that the method has.
    """

    passes: Callable[[Question, Setting], Any]
    combine: Callable[[Question, Setting, Any], Array]
    later: tuple[str, ...] = ()
    draws: tuple[str, ...] = ()

"""The referee: canonical definitions in NumPy, written straight from the equations, short and slow.

A library's canonical profile has to equal them on the same question (`tests/test_reference.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from crossxai.attribution import Profile
from crossxai.explainers.method import Method


@dataclass(frozen=True, kw_only=True)
class Referee(Method):
    """A definition that libraries are compared with: canonical alone, and one call for all free modalities."""

    library: ClassVar = "reference"
    profiles: ClassVar[tuple[Profile, ...]] = ("canonical",)
    joint: ClassVar = True

    profile: Profile = "canonical"

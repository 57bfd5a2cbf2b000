"""Parity as an assertion, for the tests of those who carry a model or an explanation between libraries and frameworks."""

from __future__ import annotations

from typing import Any

from crossxai.conventions.result import Parity


def assert_parity(models: Any, inputs: Any, method: Any, expect: str = "equal to rounding", **options: Any) -> Parity:
    """Raise `AssertionError`, with what parts them, unless all libraries agree on a method's definition on all models.

    Parameters
    ----------
    models, inputs, method, **options
        As of `crossxai.parity`.
    expect : str, default 'equal to rounding'
        The rung that the canonical profiles must reach: "identical", "equal to rounding", "equal up to a scale", "same ranking"
        or "same region".

    Returns
    -------
    Parity
    """
    from crossxai.api import parity

    result = parity(models, inputs, method, **options)
    if not result.meets(expect):
        parted = [f"{one} and {other} are not one function" for (one, other), m in result.models.items() if not m.equal]
        apart = [f"{p.one.label} and {p.other.label}: {p.rung}" for p in result.pairs if p.one.profile == "canonical"]
        raise AssertionError(f"{result.method}: expected {expect}; {'; '.join(parted or apart)}")
    return result

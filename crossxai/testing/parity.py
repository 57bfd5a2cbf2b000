"""Parity as an assertion, for the tests of those who carry a model or an explanation between libraries and frameworks."""

from __future__ import annotations

from typing import Any

from crossxai.conventions.agreement import RUNGS
from crossxai.conventions.result import Parity


def assert_parity(models: Any, inputs: Any, method: Any, expect: str = "equal to rounding", **options: Any) -> Parity:
    """Raise `AssertionError`, with what parts them, unless all libraries agree on a method's definition on all models.

    Parameters
    ----------
    models, inputs, method, **options
        As of `crossxai.parity`.
    expect : str, default 'equal to rounding'
        The rung that the canonical profiles must reach: "identical", "equal to rounding", "equal up to a scale", "same ranking"
        or "same region". It fails, too, where fewer than two answers could be compared, or maps from outside are not what they
        are said to be.

    Returns
    -------
    Parity
    """
    from crossxai.api import parity

    result = parity(models, inputs, method, **options)
    if not result.meets(expect):
        reasons = [
            f"{one} and {other} are not one function" for (one, other), m in result.models.items() if not m.equal
        ]
        reasons += [f"{entry.label} is not what it is said to be" for entry in result.strangers]
        reasons += [
            f"{pair.one.label} and {pair.other.label}: {pair.rung} ({pair.causes})"
            for pair in result.pairs
            if pair.one.profile == "canonical" and RUNGS.index(pair.rung) > RUNGS.index(expect)
        ]
        if not result.compared("canonical"):
            reasons += ["nothing was compared", *dict.fromkeys(e.refusal for e in result.entries if e.refusal)]
        raise AssertionError(f"{result.method}: expected {expect}; {'; '.join(reasons)}")
    return result

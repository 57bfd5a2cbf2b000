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
        or "same region". It fails, too, where fewer than two answers could be compared, or maps from outside are not what they
        are said to be.

    Returns
    -------
    Parity
    """
    from crossxai.api import parity

    result = parity(models, inputs, method, **options)
    if reasons := result.shortfalls(expect):
        raise AssertionError("\n".join(reasons))
    return result

"""Which tensor of what a model returns counts, and class scores without a class axis."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from crossxai import InvalidInput, Unsupported
from crossxai.adapters.checks import as_rows, one_output, overridden

LOGITS, FEATURES, MAPS = np.zeros((2, 3)), np.ones((2, 5)), np.zeros((2, 4, 4, 3))


@dataclass
class Output:
    logits: Any
    hidden: Any = None


Pair = namedtuple("Pair", ["logits", "hidden"])


def chosen(outputs: Any, output: Any = None, axes: tuple[str, ...] = ("class",)) -> Any:
    return one_output(outputs, output, axes, "net", lambda v: v.shape if isinstance(v, np.ndarray) else None)


@pytest.mark.parametrize(
    "outputs",
    [
        LOGITS,
        [LOGITS],
        {"logits": LOGITS, "maps": MAPS, "loss": None},
        (LOGITS, MAPS),
        Pair(LOGITS, (MAPS, MAPS)),
        Output(LOGITS, {"a": [MAPS]}),
        {"logits": LOGITS, "loss": np.zeros(())},
    ],
)
def test_the_only_candidate_counts(outputs: Any) -> None:
    assert chosen(outputs) is LOGITS


def test_the_one_that_is_named() -> None:
    both = {"logits": LOGITS, "features": FEATURES}
    assert chosen(both, "features") is FEATURES
    assert chosen((LOGITS, FEATURES), 1) is FEATURES
    assert chosen(Output(LOGITS, [FEATURES]), "hidden.0") is FEATURES
    assert chosen(LOGITS, 0) is LOGITS
    assert chosen((LOGITS, MAPS), axes=("y", "x", "class")) is MAPS
    assert chosen({"score": LOGITS[:, 0], "maps": MAPS}).shape == (2,)


def test_what_could_be_several_is_refused_with_their_names() -> None:
    with pytest.raises(
        Unsupported, match=r"several of its .* logits of shape \(2, 3\), features of shape \(2, 5\): write output="
    ):
        chosen({"logits": LOGITS, "features": FEATURES})
    with pytest.raises(Unsupported, match=r"none of its .* 0 of shape \(2, 4, 4, 3\)"):
        chosen([MAPS])
    with pytest.raises(Unsupported, match=r"returns str, .* it gives no tensor, only str"):
        chosen("yes")
    with pytest.raises(InvalidInput, match=r"gives no output 'logit'; it gives logits of shape \(2, 3\)"):
        chosen({"logits": LOGITS}, "logit")


def test_a_squeezed_class_axis_comes_back() -> None:
    assert as_rows((3,), 3, ("class",), "net") == (3, 1)
    assert as_rows((), 1, ("class",), "net") == (1, 1)
    assert as_rows((1,), 1, ("class",), "net") == (1, 1)
    assert as_rows((3, 2), 3, ("class",), "net") == (3, 2)
    for shape in ((3,), ()):
        with pytest.raises(InvalidInput, match=r"for 4 samples; .*\(n, 1\)"):
            as_rows(shape, 4, ("class",), "net")
    with pytest.raises(InvalidInput, match="declares 3 axes"):
        as_rows((3, 2), 3, ("y", "x", "class"), "net")


def test_what_a_subclass_computes_its_own_way() -> None:
    class Known:
        def compute(self) -> int:
            return self.part()

        def part(self) -> int:
            return 1

        def describe(self) -> str:
            return "known"

    class Extended(Known):
        def __init__(self) -> None:
            self.extra = 2

        def another(self) -> int:
            return 3

        def describe(self) -> str:
            return "extended"

    class Changed(Extended):
        def part(self) -> int:
            return 2

    harmless = frozenset({"__init__", "describe"})
    assert overridden(Known(), Known, harmless) is None
    assert overridden(Extended(), Known, harmless) is None
    assert overridden(Changed(), Known, harmless) == "part"
    patched = Known()
    patched.part = lambda: 5  # type: ignore[method-assign]
    assert overridden(patched, Known, harmless) == "part"

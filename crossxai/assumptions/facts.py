"""Facts about a model: what was found, how, what it breaks and what to write; kept as long as the model stays as it is."""

from __future__ import annotations

import html
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from crossxai.model import Inputs

Verdict = Literal["holds", "broken", "note", "unknown"]


@dataclass(frozen=True)
class Fact:
    """One row of a check.

    name: what was measured, such as "deterministic". verdict: "holds"; "broken", where results that rely on it would be wrong;
    "note", where they are right and something should be known; "unknown", where it is unclear. found: the finding, with
    numbers. how: the measurement. breaks: what is wrong because of it. write: what to do or to declare instead.
    """

    name: str
    verdict: Verdict
    found: str
    how: str
    breaks: str = ""
    write: str = ""

    def sentence(self) -> str:
        """The fact as a message: what was found, what it breaks, what to write."""
        parts = [self.found, self.breaks, self.write and f"write {self.write}"]
        return "; ".join(part for part in parts if part)


def html_table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text for a notebook."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{html.escape(caption)}</caption><tr>{head}</tr>{body}</table>"


T = TypeVar("T")
_KNOWN: dict[int, tuple[Any, dict[Hashable, Any]]] = {}


def itself(model: Any) -> Any:
    """The model that another one only watches (its `watches`), or the model."""
    while getattr(model, "watches", None) is not None:
        model = model.watches
    return model


def kind_of(inputs: Inputs) -> tuple[Hashable, ...]:
    """What makes inputs of one kind: sizes and dtypes, not the number of samples or their values."""
    return tuple((values.shape[1:], values.dtype.str) for values in inputs)


def known(model: Any, key: Hashable, find_out: Callable[[], T]) -> T:
    """What `find_out` gave for this key and this state of the model (its `fingerprint`, if it has one) the first time.

    A model that cannot be referred to weakly is measured every time. What is raised is raised again by the next call.
    """
    model = itself(model)
    number = id(model)
    if number not in _KNOWN or _KNOWN[number][0]() is not model:
        try:
            _KNOWN[number] = (weakref.ref(model, lambda _gone: _KNOWN.pop(number, None)), {})
        except TypeError:
            return find_out()
    facts = _KNOWN[number][1]
    state = model.fingerprint() if hasattr(model, "fingerprint") else None
    if (state, key) not in facts:
        facts[state, key] = find_out()
    return facts[state, key]  # type: ignore[no-any-return]


def hints_of(model: Any) -> dict[str, Any]:
    """What a model shows of itself without a pass (its `hints`); nothing for one without."""
    return dict(model.hints()) if hasattr(model, "hints") else {}

"""Every operation that a network may be read with, by a tiny network in float64, rebuilt in both frameworks; and docs/porting.md
says which. `python tests/test_porting_rules.py` writes that part of the page anew."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import operations, to_port

from crossxai import InvalidInput
from crossxai.adapters.tensorflow import KerasModel
from crossxai.adapters.torch import TorchModel
from crossxai.porting import rule, torch_source, twin
from crossxai.porting.graph import OPS

PAGE = Path(__file__).parents[1] / "docs" / "porting.md"
BEGIN, END = "<!-- by tests/test_porting_rules.py -->\n", "<!-- until here -->\n"


@cache
def network(source: str, name: str) -> tuple[Any, np.ndarray]:
    """A network of `operations` behind its adapter, and inputs for it."""
    torch.manual_seed(0)
    kind, make = (operations.TORCH if source == "torch" else operations.KERAS)[name]
    modalities = (operations.MODALITIES[kind],)
    if source == "torch":
        return TorchModel(make().double().eval(), modalities), operations.values(kind)
    return KerasModel(to_port.lively_keras(make()), modalities), operations.values(kind)


def check_ported(model: Any, values: np.ndarray) -> None:
    """Rebuilt in either framework the network is the same to rounding."""
    assert np.ptp(model.predict((values,)), axis=0).max() > 1e-3  # it is not constant
    for framework in ("torch", "keras"):
        rebuilt = twin(model, (values,), framework)
        assert rebuilt.gap <= 1e-10
        if framework == "torch":  # its Python file, run alone, gives the same
            torch_source.check(torch_source.source(rebuilt.module, "about", "inputs", "output"), rebuilt.module)


@pytest.mark.parametrize("name", operations.TORCH)
def test_from_torch(name: str) -> None:
    check_ported(*network("torch", name))


@pytest.mark.parametrize("name", operations.KERAS)
def test_from_keras(name: str) -> None:
    check_ported(*network("keras", name))


def test_rules_that_say_nothing_are_refused() -> None:
    for what, to in (("relu", None), ("relu", "jax"), (torch.nn.ReLU, "keras"), (3, None)):
        with pytest.raises(InvalidInput, match=r"porting\.rule"):
            rule(what, to=to)


# The page


def ops_of(source: str, name: str) -> set[str]:
    model, values = network(source, name)
    return {node.op for node in model.graph((values,)).nodes}


def lines() -> Iterator[str]:
    yield "| operation | read from torch in | read from Keras in |"
    yield "|---|---|---|"
    networks = {"torch": operations.TORCH, "keras": operations.KERAS}
    found = {source: {name: ops_of(source, name) for name in names} for source, names in networks.items()}
    kinds = sorted({op[:-2] + "?d" if op[:-2] + "1d" in OPS else op for op in OPS - {"input"}})
    for kind in kinds:
        every = {kind.replace("?", n) for n in "123"} & OPS or {kind}
        names = [[name for name, ops in found[source].items() if ops & every] for source in networks]
        cells = ["; ".join(read[:4]) + "; …" * (len(read) > 4) for read in names]
        yield f"| `{kind}` | {cells[0] or '–'} | {cells[1] or '–'} |"


def generated() -> str:
    return BEGIN + "\n".join(lines()) + "\n" + END


def test_the_page_says_what_was_read_and_every_operation_was() -> None:
    assert generated() in PAGE.read_text(encoding="utf-8"), (
        "docs/porting.md is out of date: python tests/test_porting_rules.py"
    )
    assert not [line for line in lines() if line.endswith("| – | – |")]


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + generated() + rest.partition(END)[2], encoding="utf-8")

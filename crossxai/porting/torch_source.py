"""A rebuilt torch network as a Python file that somebody can read, train and keep, without this package."""

from __future__ import annotations

import json
import keyword
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from crossxai.adapters.returned import entries, leaves
from crossxai.errors import ModelFailed
from crossxai.porting import torch_layers as ours
from crossxai.porting.excerpt import excerpt
from crossxai.porting.to_torch import TorchGraph
from crossxai.porting.torch_constructors import constructor, is_ours, literal, missing_weights, named

HEAD = '''"""{about}

network = load()  # with weights.pt, beside this file

Takes {inputs}; gives {output}.
"""

from __future__ import annotations
'''
LOAD = '''def load() -> Network:
    """The network in evaluation mode, with weights.pt, beside this file."""
    network = Network(){to}
    network.load_state_dict(torch.load(Path(__file__).with_name("weights.pt"), weights_only=True))
    return network.eval()'''
SPARE = {torch.float64: 1e-12, torch.float32: 1e-4}
"""The largest difference of outputs, as a share of the largest output, that the order of sums may make."""
Step = tuple[str, str, tuple[str, ...]]


def source(network: TorchGraph, about: str, inputs: str, output: str) -> str:
    """The file: the layers that torch has not, and `Network`, whose `state_dict` has the names of `weights_of(network)`."""
    names = _names(network)
    layers = {attribute: network.get_submodule(attribute) for _, attribute, _ in _steps(network)}
    kept = {names[attribute]: module for attribute, module in layers.items() if not _written(module)}
    own: dict[str, set[str]] = {}
    for module in (part for layer in kept.values() for part in layer.modules() if is_ours(part) and not _written(part)):
        own.setdefault(type(module).__module__, set()).add(type(module).__name__)
    norms = (part for layer in kept.values() for part in layer.modules())
    if any(missing_weights(part) for part in norms):
        own.setdefault(ours.__name__, set()).add("without")
    imports, definitions = ["import torch", "import torch.nn.functional as F", "from torch import nn"], []
    for place, kinds in own.items():
        more = excerpt(sys.modules[place], kinds)
        imports += [line for line in more[0] if line not in imports]
        definitions += more[1]
    arguments = [_identifier(name, {"self"}) for name in network.inputs]
    made = [f"self.{name} = {constructor(module)}" for name, module in kept.items()]
    lines = [
        "class Network(nn.Module):",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *(f"        {line}" for line in made),
        "",
        f"    def forward(self, {', '.join(f'{a}: torch.Tensor' for a in arguments)}) -> {_annotation(network.returns)}:",
        *(f"        {line}" for line in _forward(network, names)),
    ]
    definitions.append("\n".join(lines))
    definitions.append(LOAD.format(to=".double()" if network.graph.dtype == "float64" else ""))
    imports = ["from pathlib import Path", *_merged(imports)]
    text = "\n\n\n".join(definitions)
    if "F." not in text:
        imports.remove("import torch.nn.functional as F")
    if "partial(" in text:
        imports.insert(0, "from functools import partial")
    return HEAD.format(about=about, inputs=inputs, output=output) + "\n" + "\n".join(imports) + f"\n\n\n{text}\n"


def _annotation(returns: Any) -> str:
    """What `forward` returns, as Python writes types."""
    inner = entries(returns)
    if inner is None:
        return "torch.Tensor"
    parts = [_annotation(part) for _, part in inner]
    if isinstance(returns, tuple):
        return f"tuple[{', '.join(parts)}]"
    one = " | ".join(dict.fromkeys(parts))
    return f"list[{one}]" if isinstance(returns, list) else f"dict[str, {one}]"


def _returned(returns: Any, values: dict[str, str]) -> str:
    """The expression of what `forward` returns."""
    inner = entries(returns)
    if inner is None:
        return values[returns]
    parts = [(name, _returned(part, values)) for name, part in inner]
    if isinstance(returns, dict):
        return f"{{{', '.join(f'{json.dumps(name)}: {part}' for name, part in parts)}}}"
    text = ", ".join(part for _, part in parts)
    return f"[{text}]" if isinstance(returns, list) else f"({text}{',' * (len(parts) == 1)})"


def _merged(imports: list[str]) -> list[str]:
    """One line per module, in order."""
    names: dict[str, set[str]] = {}
    for line in imports:
        if line.startswith("from "):
            place, _, taken = line.removeprefix("from ").partition(" import ")
            names.setdefault(place, set()).update(taken.split(", "))
    grouped = [f"from {place} import {', '.join(sorted(names[place]))}" for place in names]
    return [*(line for line in imports if not line.startswith("from ")), *grouped]


def weights_of(network: TorchGraph) -> dict[str, Tensor]:
    """The weights by the names that the file gives its layers."""
    names = _names(network)
    weights = {}
    for key, values in network.state_dict().items():
        child, _, rest = key.partition(".")
        weights[f"{names[child]}.{rest}"] = values.clone()
    return weights


def check(text: str, network: TorchGraph) -> nn.Module:
    """The network that the file builds, run alone; raises `ModelFailed` unless it gives what the network gives, but for the last
    bits of sums."""
    space: dict[str, Any] = {"__name__": "network"}
    exec(compile(text, "network.py", "exec"), space)  # text of ours: names are letters, and values are literals
    dtype = getattr(torch, str(network.graph.dtype))
    alone: nn.Module = space["Network"]().to(dtype).eval()
    alone.load_state_dict(weights_of(network))
    given = examples(network, 2)
    with torch.no_grad():
        outputs, theirs = network(*given), alone(*given)
    if not agree(outputs, theirs):
        raise ModelFailed("the Python file of the network gives other outputs than the network")
    return alone


def agree(one: Any, other: Any) -> bool:
    """Whether outputs are equal, but for what the order of sums makes."""
    ours, theirs = dict(leaves(one)), dict(leaves(other))
    return ours.keys() == theirs.keys() and all(_close(ours[path], theirs[path]) for path in ours)


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= SPARE[one.dtype] * one.abs().max())


def examples(network: TorchGraph, n: int) -> tuple[Tensor, ...]:
    """Inputs of noise between 0 and 1, the same every time."""
    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, str(network.graph.dtype))
    shapes = [(n, *node.settings["shape"]) for node in network.graph.nodes if node.op == "input"]
    return tuple(torch.rand(s, generator=generator, dtype=dtype).movedim(-1, 1).contiguous() for s in shapes)


def _steps(network: TorchGraph) -> list[Step]:
    """(node, attribute, what it reads) of everything but inputs."""
    return [step for step in network.steps if step[0] not in network.inputs]


def _names(network: TorchGraph) -> dict[str, str]:
    """Submodule -> the attribute of the file."""
    taken: set[str] = set(dir(nn.Module)) | {"self"}
    return {name: _identifier(name, taken) for name, _ in network.named_children()}


def _identifier(name: str, taken: set[str]) -> str:
    """A Python name, new among those that are taken, and taken from now on."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    name = f"layer{name}" if not name[:1].isalpha() else name
    while name in taken or keyword.iskeyword(name):
        name += "_"
    taken.add(name)
    return name


OPERATORS = {ours.Add: "+", ours.Subtract: "-", ours.Multiply: "*", ours.Divide: "/"}


def _written(module: nn.Module) -> bool:
    """Whether a step is written as an expression, having no weights, and not kept as a layer."""
    if type(module) is nn.Sequential:
        return all(_written(part) for part in module)
    return type(module) in EXPRESSIONS or type(module) in OPERATORS


def _operator(module: nn.Module, given: list[str]) -> str:
    return f"{given[0]} {OPERATORS[type(module)]} {given[1]}"


def _function(module: Any, given: list[str]) -> str:
    settings = [f"{name}={literal(value)}" for name, value in module.settings.items()]
    return f"{named(module.function)}({', '.join([*given, *settings])})"


def _affine(module: Any, given: list[str]) -> str:
    product = given[0] if module.factor == 1 else f"{given[0]} * {module.factor!r}"
    return f"{product} {'-' if module.term < 0 else '+'} {abs(module.term)!r}" if module.term else product


def _slice(module: Any, given: list[str]) -> str:
    bounds = ["" if end is None else str(end) for end in (module.part.start, module.part.stop)]
    step = "" if module.part.step in (None, 1) else f":{module.part.step}"
    return f"{given[0]}[{':, ' * module.axis}{':'.join(bounds)}{step}]"


EXPRESSIONS: dict[type[nn.Module], Any] = {
    nn.Identity: lambda m, given: given[0],
    ours.Maximum: lambda m, given: f"torch.maximum({', '.join(given)})",
    ours.Minimum: lambda m, given: f"torch.minimum({', '.join(given)})",
    ours.Concatenate: lambda m, given: f"torch.cat(({', '.join(given)}), dim={m.axis})",
    ours.Einsum: lambda m, given: f'torch.einsum("{m.equation}", {", ".join(given)})',
    ours.Permute: lambda m, given: f"{given[0]}.permute{literal(tuple(m.axes))}",
    ours.Reshape: lambda m, given: f"{given[0]}.reshape{literal((-1, *m.shape))}",
    ours.FlattenChannelsLast: lambda m, given: f"{given[0]}.movedim(1, -1).flatten(1)",
    ours.Function: _function,
    ours.Slice: _slice,
    ours.Affine: _affine,
}


def _expression(module: nn.Module, given: list[str]) -> str:
    """What a step without weights computes; operators in brackets where something is done to their result."""
    if type(module) in OPERATORS:
        return _operator(module, given)
    if type(module) is nn.Sequential:
        for part in module:
            given = [_expression(part, given)]
        return given[0]
    return str(EXPRESSIONS[type(module)](module, given))


def _forward(network: TorchGraph, names: dict[str, str]) -> Iterator[str]:
    """One line per step; a value that only the next line reads is called x."""
    steps, readers = _steps(network), dict(Counter(path for path in network.ends))
    for _, _, sources in steps:
        for name in sources:
            readers[name] = readers.get(name, 0) + 1
    values = {name: _identifier(name, {"self"}) for name in network.inputs}
    taken = {"x", "self", "torch", "nn", "F", *values.values()}
    for name, size in network.sizes.items():
        yield f"if {values[name]}.shape[2:] != {size}:"
        yield f'    raise ValueError(f"this network takes {size}, got {{tuple({values[name]}.shape[2:])}}")'
    for place, (node, attribute, sources) in enumerate(steps):
        following = steps[place + 1][2] if place + 1 < len(steps) else network.ends
        module, given = network.get_submodule(attribute), [values[s] for s in sources]
        passing = readers.get(node, 0) == 1 and node in following
        values[node] = "x" if passing else _identifier(names[attribute], taken)
        what = _expression(module, given) if _written(module) else f"self.{names[attribute]}({', '.join(given)})"
        if what != values[node]:
            yield f"{values[node]} = {what}"
    yield f"return {_returned(network.ends[0] if network.returns is None else network.returns, values)}"

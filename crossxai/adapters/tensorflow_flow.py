"""What the operations of a traced pass were computed from: attention that no recorded layer computes, and ways that are cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

_PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum")
_VIEWS = ("Identity", "Cast", "Reshape", "Transpose", "Squeeze", "ExpandDims")
_LEAVES = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If", "StatelessIf")


def ancestors(tensor: Any) -> set[Any]:
    """All operations that a tensor was computed by."""
    found, waiting = set(), [tensor.op]
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting += [t.op for t in operation.inputs]
    return found


def unread(inputs: Iterable[Any], outputs: Any, probabilities: Iterable[Any]) -> str | None:
    """An operation that may mix activations as attention does, outside the recorded layers; None if there is none.

    Attention is two products of matrices of activations; those around recorded probabilities are accounted for. What leaves
    TensorFlow, and functions with products in them, count as such, because nobody sees what they do.
    """
    live = {t.op for t in inputs}
    for operation in outputs.graph.get_operations():  # in the order of their making
        if any(t.op in live for t in operation.inputs):
            live.add(operation)
    known = {o for p in probabilities for o in (*_before(p.op), *_after(p))}
    for operation in ancestors(outputs) & live:
        activations = [t for t in operation.inputs if t.op in live]
        if operation.type in _PRODUCTS and len(activations) > 1 and operation not in known:
            return str(operation.name)
        if operation.type in _CALLS and any(n in _PRODUCTS for n in _inside(operation)):
            return str(operation.name)
        if operation.type in _LEAVES:
            return str(operation.name)
        if operation.type == "Mul" and len(activations) > 1 and any(_softmax(t) for t in activations):
            return str(operation.name)
    return None


def _before(operation: Any) -> Iterator[Any]:
    """The nearest products of matrices that an operation's inputs come from."""
    found, waiting = {operation}, [operation]
    while waiting:
        for tensor in waiting.pop().inputs:
            if tensor.op.type in _PRODUCTS:
                yield tensor.op
            elif tensor.op not in found:
                found.add(tensor.op)
                waiting.append(tensor.op)


def _after(tensor: Any) -> Iterator[Any]:
    """The products of matrices that take a tensor as it is, from any side."""
    for operation in tensor.consumers():
        if operation.type in _PRODUCTS:
            yield operation
        elif operation.type in _VIEWS:
            for output in operation.outputs:
                yield from _after(output)


def _softmax(tensor: Any) -> bool:
    while tensor.op.type in (*_VIEWS, "StridedSlice"):
        tensor = tensor.op.inputs[0]
    return bool(tensor.op.type == "Softmax")


def _inside(operation: Any) -> Iterator[str]:
    """The types of all operations in the functions that an operation calls."""
    library = {f.signature.name: f for f in operation.graph.as_graph_def().library.function}
    waiting = [v.func.name for v in operation.node_def.attr.values() if v.HasField("func")]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in library:
            continue
        seen.add(name)
        for node in library[name].node_def:
            yield node.op
            waiting += [v.func.name for v in node.attr.values() if v.HasField("func")]

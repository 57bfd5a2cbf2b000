"""What Keras's multi-head attention attends to, recorded while a graph is traced; other mixing in the graph is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from crossxai.adapters.tensorflow_layers import to_array, wrapped_methods
from crossxai.attention import AttentionMap, check_recorded
from crossxai.errors import Unsupported
from crossxai.model import Array

RECORDED = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
OTHERS = (keras.layers.Attention, keras.layers.AdditiveAttention)
KIND = "keras.layers.MultiHeadAttention"
Method = Callable[..., Any]
NONE = f"{KIND} layer, the one kind whose attention can be recorded"


def traced(
    run: Callable[..., Any],
    weigh: Callable[[Any], Any] | None,
    named: Callable[[], Mapping[str, Any]],
    model: str,
    count: int,
) -> Callable[..., Any]:
    """A function to trace: tensors → (outputs, layer names, probabilities, gradients at them or nothing).

    The first `count` tensors are the model's inputs, others nudges (see `crossxai.attention.Attentive`). run: the model's pass.
    weigh: the cotangent of the outputs, None for no backward pass. named: the model's layers.
    """

    def both(*given: Any) -> Any:
        tensors, nudges = given[:count], given[count:]
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            recording(named(), tape, model, nudges) as recorded,
        ):
            outputs = run(*tensors)
        other = None if nudges else unread(tensors, outputs, [p for _, p in recorded])
        if other is not None:
            raise Unsupported(
                f"model {model!r} mixes activations in {other!r}, outside the layers whose attention can be recorded ({KIND}): "
                "attention methods would miss what this does"
            )
        # Shapes are known while tracing, but for the number of samples.
        check_recorded([(name, tuple(p.shape)) for name, p in recorded], None, model, NONE)
        names, probabilities = tf.constant([name for name, _ in recorded]), [p for _, p in recorded]
        if weigh is None:
            return outputs, names, probabilities, []
        gradients = tape.gradient(outputs, probabilities, weigh(outputs))
        reached = ancestors(outputs)
        for (name, p), gradient in zip(recorded, gradients, strict=True):
            if gradient is None and p.op in reached:
                raise Unsupported(
                    f"the outputs depend on layer {name!r}, but the gradient's way to it is cut (tf.stop_gradient): only "
                    "attention.rollout needs none"
                )
        zeros = [tf.zeros_like(p) if g is None else g for p, g in zip(probabilities, gradients, strict=True)]
        return outputs, names, probabilities, zeros

    return both


def maps(names: Any, probabilities: Any, gradients: Any, n: int, model: str) -> tuple[AttentionMap, ...]:
    """What a traced function gave, as arrays."""
    recorded = [(name.decode(), to_array(p).copy()) for name, p in zip(names.numpy(), probabilities, strict=True)]
    check_recorded([(name, p.shape) for name, p in recorded], n, model, NONE)
    at: list[Array | None] = [to_array(g).copy() for g in gradients] or [None] * len(recorded)
    return tuple(AttentionMap(name, p, g) for (name, p), g in zip(recorded, at, strict=True))


@contextmanager
def recording(
    layers: Mapping[str, Any], tape: Any, model: str, nudges: Sequence[Any] = ()
) -> Iterator[list[tuple[str, Any]]]:
    """Within it, every attention layer forms its probabilities, which are watched and kept in order of execution.

    Asking a layer for its scores is the one public way past Keras's fused kernel; no switch of the process is touched.
    Raises `Unsupported` afterwards for attention that would be missing from what was recorded.
    """
    recorded: list[tuple[str, Any]] = []
    ran: list[str] = []
    missed: list[str] = []

    def scored(layer: str, call: Method, *args: Any, return_attention_scores: bool = False, **kwargs: Any) -> Any:
        ran.append(layer)
        output, scores = call(*args, return_attention_scores=True, **kwargs)
        return (output, scores) if return_attention_scores else output

    def record(layer: str, softmax: Method, *args: Any, **kwargs: Any) -> Any:
        probabilities = tf.identity(softmax(*args, **kwargs))
        tape.watch(probabilities)
        recorded.append((layer, probabilities))
        return probabilities * (1 + nudges[len(recorded) - 1]) if nudges else probabilities

    def noted(layer: str, call: Method, *args: Any, **kwargs: Any) -> Any:
        missed.append(layer)
        return call(*args, **kwargs)

    read = [(n, x) for n, x in layers.items() if isinstance(x, RECORDED)]
    wrappers = [(x, "call", partial(scored, n)) for n, x in read]
    wrappers += [(x, "_masked_softmax", partial(record, n)) for n, x in read]
    wrappers += [(x, "call", partial(noted, n)) for n, x in layers.items() if isinstance(x, OTHERS)]
    with wrapped_methods(wrappers):
        yield recorded
    if missed:
        raise Unsupported(
            f"layer {missed[0]!r} of model {model!r} has attention that cannot be recorded, only {KIND}'s can: a map without "
            "that layer would be wrong"
        )
    if ran != [name for name, _ in recorded]:
        raise Unsupported(f"an attention layer of model {model!r} ({', '.join(ran)}) forms probabilities its own way")


_PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum")
_VIEWS = ("Identity", "Cast", "Reshape", "Transpose", "Squeeze", "ExpandDims")
_LEAVES = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If", "StatelessIf")


def ancestors(tensor: Any) -> set[Any]:
    """All operations that a tensor was computed by."""
    operations, waiting = set(), [tensor.op]
    while waiting:
        operation = waiting.pop()
        if operation not in operations:
            operations.add(operation)
            waiting += [t.op for t in operation.inputs]
    return operations


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
    visited, waiting = {operation}, [operation]
    while waiting:
        for tensor in waiting.pop().inputs:
            if tensor.op.type in _PRODUCTS:
                yield tensor.op
            elif tensor.op not in visited:
                visited.add(tensor.op)
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

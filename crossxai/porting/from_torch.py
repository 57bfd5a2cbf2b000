"""A torch module read as a graph: traced by torch.fx, run once on examples, which settles sizes, constants and sharing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from crossxai.errors import CrossXAIError, Unsupported
from crossxai.graph import Graph
from crossxai.model import Modality
from crossxai.model_checks import MeanSd
from crossxai.porting.building import Builder, untranslated
from crossxai.porting.from_torch_ops import Call, Ref
from crossxai.porting.from_torch_tables import FUNCTIONS, METHODS, MODULES, NUMBERS_OF


def graph_of(
    module: nn.Module,
    tensors: Sequence[Tensor],
    modalities: tuple[Modality, ...],
    standardise: Mapping[str, MeanSd] | None = None,
) -> Graph:
    """The graph of a module in evaluation mode, for tensors of these sizes (images channels first), one per modality.

    The module is left as found. Raises `Unsupported` if it cannot be traced or holds a layer without a translation.
    """
    tracer = _Tracer(len(tensors))
    try:
        traced = tracer.trace(module)
    except CrossXAIError:
        raise
    except Exception as error:  # whatever the module's own code says when its inputs are symbols
        raise Unsupported(
            f"{type(module).__name__} cannot be traced by torch.fx ({type(error).__name__}: {_first_line(error)}): its "
            "forward may depend on no value of its inputs"
        ) from error
    shapes = [tuple(t.movedim(1, -1).shape[1:] if t.ndim > 3 else t.shape[1:]) for t in tensors]
    floating = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    dtype = "float64" if floating == torch.float64 else "float32"
    reader = _Reader(module, traced, Builder(modalities, shapes, standardise, dtype), tracer.ends)
    with torch.no_grad():
        # Two samples, so that the sample axis is told from an axis of one; copies, as the module may write to them.
        reader.run(*(t[[0, -1]].clone() for t in tensors))
    return reader.graph_read()


class _Tracer(fx.Tracer):
    """Remembers, for every module that runs, composite ones too, which value it returns and when."""

    def __init__(self, n_inputs: int) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.ends: list[tuple[str, fx.Node, fx.Node]] = []  # path, its value, the last operation before it returns

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        # As many symbols as modalities: what else the forward takes keeps its default, and may steer control flow.
        symbols = [self.create_proxy("placeholder", f"input_{i}", (), {}) for i in range(self.n_inputs)]
        return root_fn, [self.root, *symbols]

    def path_of_module(self, mod: nn.Module) -> str:
        # The first name of a module that has several, as everything else that walks `named_modules` calls it.
        path = next((name for name, module in self.root.named_modules() if module is mod), None)
        return super().path_of_module(mod) if path is None else path

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if isinstance(output, fx.Proxy):
            self.ends.append((self.path_of_module(m), output.node, next(iter(reversed(self.graph.nodes)))))
        return output


class _Reader(fx.Interpreter):
    """Runs the traced operations one by one and writes each down."""

    def __init__(
        self, module: nn.Module, traced: fx.Graph, builder: Builder, ends: list[tuple[str, fx.Node, fx.Node]]
    ) -> None:
        super().__init__(module, garbage_collect_values=False, graph=traced)
        self.root = module
        self.builder = builder
        self.ends = ends
        self.values: dict[
            fx.Node, Any
        ] = {}  # all of them, so that no memory is used twice and shared memory means sharing
        self.refs: dict[fx.Node, Ref | None] = {}  # None: overwritten since, and of another shape than what did it
        self.layers: dict[str, str] = {}
        self.runs: dict[str, int] = {}
        self.last = ""
        self.extra_traceback = False  # it would be written into our errors

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n] = result
        if n.op == "placeholder":
            self.refs[n] = Ref(self.builder.start[len(self.refs)], result)
        elif n.op == "output":
            self._end(n)
        elif n.op != "get_attr" and any(i in self.refs for i in n.all_input_nodes):
            self._translate(n, result)
        for path, value, last in self.ends:
            ref = self.refs.get(value)
            if last is n and path:
                self.runs[path] = self.runs.get(path, 0) + 1
                if ref is not None and not ref.open:
                    self.layers[path] = ref.name
        return result

    def graph_read(self) -> Graph:
        """What was read; layers that run more than once are left out, as the adapter leaves them out."""
        return self.builder.graph(self.last, {p: name for p, name in self.layers.items() if self.runs[p] == 1})

    def _end(self, n: fx.Node) -> None:
        ref = self.refs.get(n.args[0]) if isinstance(n.args[0], fx.Node) else None
        if ref is None or ref.open:
            raise Unsupported(
                f"{type(self.root).__name__} returns no single tensor of its own that depends on the inputs"
            )
        self.last = ref.name

    def _translate(self, n: fx.Node, result: Any) -> None:
        layer, kind = self._place(n)
        handler: Any = None
        leaf: nn.Module | None = None
        if n.op == "call_module":
            leaf = self.fetch_attr(str(n.target))
            handler = next((MODULES[t] for t in type(leaf).__mro__ if t in MODULES), None)
        elif n.op == "call_method":
            handler = METHODS.get(str(n.target))
        else:
            handler = FUNCTIONS.get(n.target)
        if not isinstance(result, Tensor) and (kind in NUMBERS_OF or result is None):
            return  # sizes and assertions: numbers, not activations
        if handler is None or not isinstance(result, Tensor):
            raise untranslated(layer, kind)
        call = Call(
            self.builder, layer if leaf is not None else ".".join(p for p in (layer, kind) if p), layer, kind, result
        )
        args, kwargs = fx.map_arg((n.args, n.kwargs), lambda node: self._argument(node, layer, kind))
        try:
            ref = handler(call, *(() if leaf is None else (leaf,)), *args, **kwargs)
        except TypeError as error:  # an argument that the translation does not know
            raise untranslated(layer, kind, _first_line(error)) from error
        if not call.view:
            self._overwrite(result, ref)
        self.refs[n] = ref

    def _argument(self, node: fx.Node, layer: str, kind: str) -> Any:
        if node not in self.refs:
            return self.values[node]
        ref = self.refs[node]
        if ref is None:
            raise untranslated(layer, kind, f"it reads {node.name!r} after a part or a view of it was changed in place")
        return ref

    def _overwrite(self, result: Tensor, ref: Ref) -> None:
        """After an in-place operation every name of the memory it wrote to means the new value."""
        memory = result.untyped_storage().data_ptr()
        for node, value in self.values.items():
            if node not in self.refs or value.untyped_storage().data_ptr() != memory:
                continue
            same = value.shape == result.shape and value.stride() == result.stride()
            self.refs[node] = ref if same and value.storage_offset() == result.storage_offset() else None

    def _place(self, n: fx.Node) -> tuple[str, str]:
        """The layer that an operation belongs to and what it is: (path, type) of a module, (path around it, function)."""
        if n.op == "call_module":
            return str(n.target), type(self.fetch_attr(str(n.target))).__name__
        around = [path for path, _type in (n.meta.get("nn_module_stack") or {}).values()]
        kind = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", str(n.target))
        return (str(around[-1]) if around else ""), str(kind)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]

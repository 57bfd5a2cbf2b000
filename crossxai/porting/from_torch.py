"""A torch module read as a graph: traced by torch.fx, every operation run at once on examples, so that sizes are known."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn

from crossxai.adapters.checks import MeanSd, overridden
from crossxai.adapters.returned import leaves, mapped
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.model import Modality
from crossxai.porting import from_torch_dropout as dropouts
from crossxai.porting import from_torch_programs as programs
from crossxai.porting import layout, rules
from crossxai.porting.building import Builder, first_line, untranslated
from crossxai.porting.from_torch_ops import Call, Ref
from crossxai.porting.from_torch_symbols import Several, Sized, ends
from crossxai.porting.from_torch_symbols import shape_of as shape_of
from crossxai.porting.from_torch_tables import FUNCTIONS, METHODS, MODULES
from crossxai.porting.graph import Graph

# While torch.fx traces, calls of all modules of the process go through its tracer: two traces at once would leave it there.
_ONE_AT_A_TIME = threading.RLock()


def graph_of(
    module: nn.Module,
    tensors: Sequence[Tensor],
    modalities: tuple[Modality, ...],
    standardise: Mapping[str, MeanSd] | None = None,
    choose: Callable[[Any], Any] = lambda outputs: outputs,
    whole: bool = False,
) -> Graph:
    """The graph of a module in evaluation mode, for tensors of these sizes (images channels first), one per modality.
    choose: what the module returns → the tensor that counts; `shape_of` tells the shapes of what it sees. whole: with every
    tensor that it returns. The module is left as found. Raises `Unsupported` if it cannot be traced or holds a layer without a
    translation."""
    shapes = [tuple(t.movedim(1, -1).shape[1:]) for t in tensors]
    floating = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    builder = Builder(modalities, shapes, standardise, "float64" if floating == torch.float64 else "float32")
    tracer = _Tracer(_Reader(module, builder, [_example(t) for t in tensors]), partial(ends, choose, whole))
    before = [(m, dict(vars(m))) for m in module.modules()]
    try:
        with _ONE_AT_A_TIME, torch.no_grad():
            traced = tracer.trace(module)
        return tracer.reader.graph_read(*next(iter(reversed(traced.nodes))).args[0])
    except CrossXAIError:
        raise
    except Exception as error:  # whatever the module's own code says when its inputs are symbols
        raise Unsupported(
            f"{type(module).__name__} cannot be traced by torch.fx ({type(error).__name__}: {first_line(error)}): its "
            "forward may depend on no value of its inputs"
        ) from error
    finally:
        for m, attributes in before:  # torch.fx keeps tensors there, and a module what its forward sees: symbols, here
            vars(m).clear()
            vars(m).update(attributes)
        tracer.reader.forget()


def _example(tensor: Tensor) -> Tensor:
    """A copy, as the module may write to it, of two samples, so that the sample axis differs from an axis of one.
    Images keep the adapter's layout in memory: it decides whether a flattened activation is a view or a copy."""
    if tensor.is_contiguous():
        return tensor[[0, -1]].clone()
    return tensor.movedim(1, -1)[[0, -1]].contiguous().clone().movedim(-1, 1)


class _Tracer(fx.Tracer):
    """Hands every operation to the reader at once, which knows its value when the module's own code asks for sizes."""

    def __init__(self, reader: _Reader, choose: Callable[[Any], Any]) -> None:
        super().__init__()
        self.reader, self.choose = reader, choose
        self.running = False  # while an operation runs on tensors, the calls inside it are not traced
        self.thread = threading.get_ident()  # nor are those of other threads, whose modules are not this one's

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        # As many symbols as modalities: what else the forward takes keeps its default, and may steer control flow.
        symbols = [self.create_proxy("placeholder", f"input_{i}", (), {}) for i in range(len(self.reader.examples))]
        return lambda *args: self.choose(root_fn(*args)), [self.root, *symbols]

    def proxy(self, node: fx.Node) -> Any:
        self.running = True
        try:
            value = self.reader.read(node)
        finally:
            self.running = False
        if node not in self.reader.refs:
            return value  # nothing that an input changes: the module's own code may go on with it
        return Sized(node, self, value) if isinstance(value, Tensor) else Several(node, self, value)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any) -> Any:
        # Functions that their authors keep torch.fx out of (torch.fx.wrap) are read like any other code.
        own = (
            kind == "call_function" and isinstance(target, FunctionType) and not target.__module__.startswith("torch.")
        )
        if own and target not in FUNCTIONS:
            return target(*args, **kwargs)
        return super().create_proxy(kind, target, args, kwargs, *rest, **named)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        return attr_val  # weights are constants

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # A layer that computes its own way is not the layer that it is made from: its own code is read instead.
        opened = type(m).__module__ == "torch.nn.modules.transformer" or changed(m) is not None
        known = super().is_leaf_module(m, module_qualified_name) and not opened
        return known or rules.reader(m) is not None or dropouts.by_name(m) is not None

    def _untraced(self) -> bool:
        return self.running or threading.get_ident() != self.thread

    def _made_in_forward(self, m: nn.Module) -> bool:
        """Whether a module without weights, nn.ReLU()(x), is made anew in every pass: its own code is read."""
        return not any(m is one for one in self.root.modules()) and not m.state_dict()

    def path_of_module(self, mod: nn.Module) -> str:
        # The first name of a module that has several, as everything else that walks `named_modules` calls it.
        path = next((name for name, module in self.root.named_modules() if module is mod), None)
        return super().path_of_module(mod) if path is None else path

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._untraced() or self._made_in_forward(m):
            return forward(*args, **kwargs)
        output = super().call_module(m, forward, args, kwargs)
        self.reader.returned(self.path_of_module(m), output.node if isinstance(output, fx.Proxy) else None)
        return output


HARMLESS = frozenset({"__init__", "__repr__", "__str__", "__setstate__", "__getstate__", "__reduce__", "__reduce_ex__",
                      "__deepcopy__", "extra_repr", "reset_parameters", "train", "eval", "_load_from_state_dict",
                      "_save_to_state_dict", "from_float"})  # fmt: skip
"""Methods of torch layers that do not compute outputs."""


def changed(module: nn.Module) -> str | None:
    """ "forward of Conv2d" of a module that overrides a method of a known layer; None for the layer itself and unknown ones."""
    known = next((kind for kind in type(module).__mro__ if kind in MODULES), None)
    name = None if known is None else overridden(module, known, HARMLESS)
    return None if known is None or name is None else f"{name} of {known.__name__}"


SAID = frozenset({
    "is_floating_point", "is_complex", "is_contiguous", "get_device", "stride", "element_size", torch.ops.aten.sym_size.int,
})  # fmt: skip
"""Methods, and what programs call in their place, that tell of a tensor what does not depend on its values."""
LIKE = frozenset({"new_zeros", "new_ones", "new_full", "new_tensor", "new_empty"})
LIKE_FUNCTIONS = frozenset({torch.zeros_like, torch.ones_like, torch.full_like})
"""What depends on the sizes of a tensor alone."""


def _of_sizes(target: Any) -> bool:
    """Whether an operation, or its operator in a program, depends on no value of a tensor."""
    return target in SAID | LIKE | LIKE_FUNCTIONS or programs.name_of(target) in LIKE | {
        f.__name__ for f in LIKE_FUNCTIONS
    }


class _Reader(fx.Interpreter):
    """Runs the traced operations one by one and writes each down."""

    def __init__(self, module: nn.Module, builder: Builder, examples: Sequence[Tensor]) -> None:
        super().__init__(module, garbage_collect_values=False, graph=fx.Graph())
        self.root = module
        self.builder = builder
        self.examples = list(examples)
        self.extra_traceback = False  # it would be written into our errors
        # `env` keeps the values of all nodes, so that no memory is used twice and shared memory means sharing.
        self.refs: dict[fx.Node, Any] = {}  # None: overwritten since, and of another shape than what did it
        self.layers: dict[str, str] = {}
        self.runs: dict[str, int] = {}

    def read(self, n: fx.Node) -> Any:
        """The value of an operation on the examples; what it does to activations is written down."""
        if n.op == "placeholder":
            value = self.examples[len(self.refs)]
            self.env[n] = value
            self.refs[n] = Ref(self.builder.start[len(self.refs)], value, layout.channels_first(value.ndim))
        else:
            for i in n.all_input_nodes:
                if i not in self.env:  # a buffer, which torch.fx makes no symbol of
                    self.env[i] = self.fetch_attr(str(i.target))
            self.env[n] = self.run_node(n)
            if any(i in self.refs for i in n.all_input_nodes) and not _of_sizes(n.target):
                self._translate(n, self.env[n])
        return self.env[n]

    def forget(self) -> None:
        """Let go of every value: the tracer and what it made refer to each other, and would keep them for a while."""
        self.env.clear()
        self.refs.clear()
        self.examples.clear()

    def returned(self, path: str, node: fx.Node | None) -> None:
        """A module, maybe a composite one, ran and gave the value of a node."""
        self.runs[path] = self.runs.get(path, 0) + 1
        ref = None if node is None else self.refs.get(node)
        if (
            path
            and isinstance(ref, Ref)
            and ref.order in (layout.plain(ref.value.ndim), layout.channels_first(ref.value.ndim))
        ):
            self.layers[path] = ref.name

    def graph_read(self, output: Any, returned: Any) -> Graph:
        """What was read; layers that run more than once are left out, as the adapter leaves them out."""
        ref = self._end(output, "output")
        rank = ref.value.ndim
        name = Call(self.builder, "output", "", "output", ref.value).image(ref, rank).name  # classes are last
        if rank == 1 and returned is None:
            name = self.builder.add("output", "reshape", (name,), shape=(1,))
        returns = None
        if returned is not None:
            places = {node: path for path, node in leaves(returned)}
            returns = mapped(returned, lambda node: name if node is output else self._other_end(node, places[node]))
        return self.builder.graph(name, {p: node for p, node in self.layers.items() if self.runs[p] == 1}, returns)

    def _end(self, node: Any, name: str) -> Ref:
        ref = self.refs.get(node) if isinstance(node, fx.Node) else None
        if not isinstance(ref, Ref):
            raise Unsupported(f"{type(self.root).__name__}: {name} is no tensor of its own that depends on the inputs")
        return ref

    def _other_end(self, node: fx.Node, path: str) -> str:
        """An output that does not count: channels last where it lies as convolutions lay it, else with torch's own axes."""
        ref = self._end(node, f"output {path!r}")
        rank = ref.value.ndim
        if not rank or ref.axis(0) != 0:
            raise Unsupported(f"{type(self.root).__name__}: output {path!r} has no axis of samples first")
        call = Call(self.builder, f"output.{path}", "", "output", ref.value)
        return (ref if ref.order == layout.channels_first(rank) else call.plain(ref)).name

    def _translate(self, n: fx.Node, result: Any) -> None:
        layer, kind = self._place(n)
        handler: Any = None
        leaf: nn.Module | None = None
        if n.op == "call_module":
            leaf = self.fetch_attr(str(n.target))
            known = next((MODULES[t] for t in type(leaf).__mro__ if t in MODULES), None)
            handler = rules.reader(leaf) or known or dropouts.by_name(leaf)
        elif n.op == "call_method":
            handler = METHODS.get(str(n.target))
        else:
            handler = rules.reader(n.target) or FUNCTIONS.get(n.target) or programs.translation(n.target)
        if result is None:
            return  # an assertion
        if handler is None or not isinstance(result, Tensor | tuple | list):
            own = changed(self.root.get_submodule(layer))
            why = f"it is in the layer's own code, which overrides {own}" if own else programs.taken_apart(n.target)
            raise untranslated(layer, kind, why)
        call = Call(
            self.builder, layer if leaf is not None else ".".join(p for p in (layer, kind) if p), layer, kind, result
        )
        args, kwargs = fx.map_arg((n.args, n.kwargs), lambda node: self._argument(node, layer, kind))
        try:
            ref = handler(call, *(() if leaf is None else (leaf,)), *args, **kwargs)
        except TypeError as error:  # an argument that the translation does not know
            raise untranslated(layer, kind, first_line(error)) from error
        if isinstance(result, Tensor) and not call.view:
            self._overwrite(result, ref)
        self.refs[n] = ref

    def _argument(self, node: fx.Node, layer: str, kind: str) -> Any:
        if node not in self.refs:
            return self.env[node]
        ref = self.refs[node]
        if ref is None:
            raise untranslated(layer, kind, f"it reads {node.name!r} after a part or a view of it was changed in place")
        return ref

    def _overwrite(self, result: Tensor, ref: Ref) -> None:
        """After an in-place operation every name of the memory it wrote to means the new value."""
        memory = result.untyped_storage().data_ptr()
        for node, value in self.env.items():
            if not isinstance(self.refs.get(node), Ref) or value.untyped_storage().data_ptr() != memory:
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

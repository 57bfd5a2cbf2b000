"""How a torch module computes: in less precision than its weights have where that is asked for, and compiled for plain passes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.adapters.checks import Precision, check_precision
from crossxai.adapters.torch_flow import version
from crossxai.adapters.torch_running import eager
from crossxai.errors import CrossXAIError, InvalidInput, ModelFailed
from crossxai.model import Inputs, Model
from crossxai.porting.certificate import TOLERANCE, difference, probe_inputs

REDUCED = {"bf16": torch.bfloat16}
MARK = "_is_torch_compile"
DEFAULT_BACKEND = "inductor"
GUARDS: dict[str, Any] = {
    "skip_nnmodule_hook_guards": False,
    "cache_size_limit": 256,
    "accumulated_cache_size_limit": 1024,
}
"""Of torch.compile, which by itself takes what it made of one network for another of the same layers whatever their hooks, and
after eight graphs of networks of one class compiles no more, which only a log tells."""
OTHERWISE = "write compile=False, or a backend that needs no compiler of C++, such as compile='aot_eager'"


def precision_of(given: Any, dtype: torch.dtype) -> Precision:
    """The precision as declared; raises `InvalidInput` where it is none, or the module's own dtype is none to begin with."""
    precision = check_precision(given)
    if precision in REDUCED and dtype != torch.float32:
        own = str(dtype).removeprefix("torch.")
        raise InvalidInput(
            f"precision={precision!r} runs a float32 module under torch.autocast, and this one's parameters are {own}: write "
            "module.float() first, or leave precision out, which runs it as it is"
        )
    return precision


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """Inside, a module's forward pass runs in this precision; torch differentiates it so outside, too."""
    dtype = REDUCED.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def backend_of(given: bool | str, module: nn.Module) -> str:
    """The backend of torch.compile that `compile` names, "" for none; raises `InvalidInput` unless torch has it, for this."""
    if given and isinstance(module, torch.jit.ScriptModule):
        raise InvalidInput("the module is TorchScript, which torch.compile leaves as it is: leave compile out")
    if isinstance(given, bool):
        return DEFAULT_BACKEND * given
    known = torch.compiler.list_backends(exclude_tags=())
    if given and given not in known:
        raise InvalidInput(
            f"compile is True ({DEFAULT_BACKEND!r}), False, or a backend of torch.compile, got {given!r}; there are "
            f"{', '.join(known)}"
        )
    return given


def compiled(module: nn.Module, backend: str) -> Callable[..., Any]:
    """The module's forward pass as torch.compile makes it, for batches of any size; the module's own where a gradient is wanted,
    or a hook has come or gone since then, by which somebody reads or replaces layers."""
    marked = MARK in vars(module)
    run, hooks = torch.compile(module, backend=backend), _hooks(module)
    if not marked:
        vars(module).pop(MARK, None)  # torch means its wrapper, which hands it on to the user's module

    def forward(*tensors: Tensor) -> Any:
        if torch.is_grad_enabled() or _hooks(module) != hooks:
            with eager(module):
                return module(*tensors)
        for tensor in tensors:
            # One more size is no reason to compile again, unless the backend itself has another way for it.
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        with torch._dynamo.config.patch(GUARDS):
            return run(*tensors)

    return forward


def weights_state(module: nn.Module) -> list[Any]:
    """Changes when weights do: torch counts writes, but for those by `.data`, which show in norms."""
    weights = [*module.parameters(), *module.buffers()]
    norms = [torch.linalg.vector_norm(w.detach().float()) for w in weights if w.is_floating_point()]
    return [*((id(w), version(w)) for w in weights), *(torch.stack(norms).tolist() if norms else [])]


def _hooks(module: nn.Module) -> list[int]:
    """The hooks of a module's forward pass."""
    return [id(h) for m in module.modules() for own in (m._forward_pre_hooks, m._forward_hooks) for h in own.values()]


def compiled_difference(model: Model, copy: Model, full: Model, inputs: Inputs, backend: str) -> float:
    """The largest difference between outputs of a model and of its compiled copy, as a share of how far outputs vary.

    full: the model in the precision of its weights, which is the model itself unless it runs in less. Raises `InvalidInput` where
    the copy cannot be compiled, or differs by more than rounding: in less precision, where it is more than twice as far from the
    full one as the model is.
    """
    given = probe_inputs(inputs, model.modalities)
    own = np.concatenate([model.predict(values) for values in given])
    exact = own if full is model else np.concatenate([full.predict(values) for values in given])
    try:
        outputs = np.concatenate([copy.predict(values) for values in given])
    except ModelFailed as error:
        raise InvalidInput(
            f"model {model.name!r} cannot be compiled by {backend!r} ({_reason(error)}): {OTHERWISE}"
        ) from error
    limit = TOLERANCE["float64" if exact.dtype == np.float64 else "float32"]
    if full is not model:
        limit = max(limit, 2 * difference(own, exact))
    largest = difference(outputs, exact)
    if not largest <= limit:  # NaN included
        raise InvalidInput(
            f"model {model.name!r} as {backend!r} compiles it differs by {largest:.1e} of how far its outputs vary, more than "
            f"rounding explains ({limit:.0e}): write compile=False"
        )
    return float(difference(outputs, own))


def _reason(error: CrossXAIError) -> str:
    """Why a module was not compiled, on one line."""
    text = str(error.__cause__ or error)
    if "No working C++ compiler" in text:
        return "no compiler of C++ is found: install g++, or name one by the environment variable CXX"
    return " ".join(text.split("\n\n")[0].split())[:300]

"""How a torch module is run: without the wrappers of torch.compile and of data parallelism, and when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from crossxai.errors import CrossXAIError, OutOfMemory
from crossxai.model import Array


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch.compile and of data parallelism, which compute the same."""
    while True:
        inner: Any = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            break
        module = inner
    return module


def eager(module: nn.Module) -> AbstractContextManager[Any]:
    """Parts that torch.compile has compiled run as they were written, so that their layers can be read."""
    if any(m._compiled_call_impl is not None or hasattr(m, "_orig_mod") for m in module.modules()):
        return cast(AbstractContextManager[Any], torch.compiler.set_stance("force_eager"))
    return nullcontext()


@contextmanager
def memory() -> Iterator[None]:
    """What torch raises when memory runs out, as `OutOfMemory`; on a CPU that is a RuntimeError told by its words alone."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if isinstance(error, CrossXAIError) or not no_memory(str(error)):
            raise
        raise OutOfMemory(str(error)) from error


def shape(value: Any) -> tuple[int | None, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def no_memory(words: str) -> bool:
    return "can't allocate memory" in words or "not enough memory" in words


def array(tensor: Tensor) -> Array:
    """A contiguous NumPy array; half precision becomes float32."""
    full = tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
    return np.ascontiguousarray(full.detach().cpu().numpy())

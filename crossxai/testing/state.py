"""What a call must leave as it found it: process-wide switches and random streams, and the networks inside a model."""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from crossxai.model import Inputs, Model

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def require(holds: object, message: str) -> None:
    """Raise `AssertionError` with the message unless `holds`; unlike an assert statement, also under python -O."""
    if not holds:
        raise AssertionError(message)


def snapshot(model: Model) -> dict[str, Any]:
    """Name → value of everything that a call must leave alone; frameworks count only if they are loaded."""
    state: dict[str, Any] = {
        "python's random stream": random.getstate(),
        "NumPy's random stream": _of_numpy(),
        "NumPy's error handling": np.geterr(),
    }
    if "torch" in sys.modules:
        state |= _of_torch(sys.modules["torch"])
    if "tensorflow" in sys.modules:
        state |= _of_tensorflow(sys.modules["tensorflow"])
    for name, network in _networks(model):
        state |= network_state(name, network)
    return state


def require_same(before: Mapping[str, Any], after: Mapping[str, Any], who: str) -> None:
    """Raise `AssertionError` naming what differs between two snapshots; what only one of them has was loaded in between."""
    changed = [name for name, value in before.items() if name in after and after[name] != value]
    require(not changed, f"{who} changed {', '.join(changed[:5])}: put it back as it was found")


def require_untouched(before: Inputs, after: Inputs, who: str) -> None:
    """Raise `AssertionError` if inputs were written to."""
    same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    require(same, f"{who} changed the inputs it was given: work on a copy")


def _of_numpy() -> tuple[Any, ...]:
    state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - the global one is what is watched
    return zlib.crc32(state["state"]["key"].tobytes()), state["state"]["pos"], state["has_gauss"], state["gauss"]


def _of_torch(torch: Any) -> dict[str, Any]:
    everywhere = torch.nn.modules.module
    return {
        "torch's random stream": torch.get_rng_state().numpy().tobytes(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's inference mode": torch.is_inference_mode_enabled(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": str(torch.get_default_device()),
        "torch's number of threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's anomaly mode": torch.is_anomaly_enabled(),
        "the hooks of all torch modules": [
            [*map(id, getattr(everywhere, f"_global{kind}").values())] for kind in HOOKS
        ],
        "the call of all torch modules": (id(torch.nn.Module.__call__), id(torch.nn.Module.__getattr__)),
    }


def _of_tensorflow(tf: Any) -> dict[str, Any]:
    from tensorflow.python.eager import context

    state = vars(context.context())
    stream = state.get("_rng")
    state = {
        "TensorFlow's eager switch": tf.config.functions_run_eagerly(),
        "TensorFlow's seed": state.get("_seed"),
        "TensorFlow's number of threads": (
            tf.config.threading.get_inter_op_parallelism_threads(),
            tf.config.threading.get_intra_op_parallelism_threads(),
        ),
    }
    if stream is not None:
        state["TensorFlow's random stream"] = stream.getstate()
    if "keras" in sys.modules:
        keras = sys.modules["keras"]
        state["Keras's float type"] = keras.config.floatx()
        state["Keras's dtype policy"] = keras.config.dtype_policy().name
    return state


def _networks(model: Any, seen: frozenset[int] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Networks that a model holds in its attributes, by attribute; a model around a model is looked into."""
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    kinds = (*((torch.nn.Module,) if torch else ()), *((keras.Model,) if keras else ()))
    for name, value in vars(model).items() if hasattr(model, "__dict__") else ():
        if isinstance(value, kinds):
            yield name, value
        elif hasattr(value, "predict") and hasattr(value, "modalities") and id(value) not in seen:
            yield from _networks(value, seen | {id(value)})


def network_state(name: str, network: Any) -> dict[str, Any]:
    """Modes, hooks, weights and their gradients of a torch module or a Keras model, layer by layer."""
    return _of_module(name, network) if hasattr(network, "named_modules") else _of_keras(name, network)


def _of_module(name: str, module: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for path, part in module.named_modules():
        where = f"{name}.{path}".rstrip(".")
        state[f"the training mode of {where}"] = part.training
        state[f"the hooks of {where}"] = [tuple(map(id, getattr(part, kind).values())) for kind in HOOKS]
        state[f"the forward method of {where}"] = id(vars(part).get("forward"))
    for path, values in module.named_parameters():
        state[f"requires_grad of {name}.{path}"] = values.requires_grad
        state[f"the weights {name}.{path}"] = _digest(values)
        state[f"the gradient of {name}.{path}"] = None if values.grad is None else _digest(values.grad)
    for path, values in module.named_buffers():
        state[f"the buffer {name}.{path}"] = _digest(values)
    return state


def _digest(tensor: Any) -> tuple[int, str]:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy().tobytes()), str(tensor.dtype)


def _of_keras(name: str, model: Any) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for layer in model._flatten_layers():
        where = f"{name}.{layer.path}"
        state[f"the call method of {where}"] = id(vars(layer).get("call"))
        state[f"the activation of {where}"] = id(getattr(layer, "activation", None))
        state[f"the trainable flag of {where}"] = layer.trainable
    for weight in model.weights:
        state[f"the weights {name}.{weight.path}"] = zlib.crc32(np.ascontiguousarray(weight.numpy()).tobytes())
    return state

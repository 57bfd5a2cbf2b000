"""What other libraries' and users' own code runs on: the network of a question from raw inputs to outputs, left as it was; names
of libraries and random generators exchanged for as long as a call lasts."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.adapters.checks import as_rows, constants, one_output
from crossxai.errors import Unsupported
from crossxai.model import Array, Modality
from crossxai.process import ALONE, streams_kept
from crossxai.question import Question

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def class_labels(question: Question, who: str) -> npt.NDArray[np.intp]:
    """The one output per sample, (n,), that the target consists of; `Unsupported` if it is anything else."""
    weights = getattr(question.target, "weights", np.zeros(0))
    if weights.ndim != 2 or not ((weights != 0).sum(axis=1) == 1).all() or not (weights.sum(axis=1) == 1).all():
        raise Unsupported(
            f"{who} takes the number of one output per sample as its target, and this one is a region, a mixture or a measure: "
            "write Target.classes(labels, n_classes), or take an explainer of `crossxai list`"
        )
    return np.asarray(weights.argmax(axis=1))


def reduced(model: Any) -> str:
    """The precision that a model runs its network in, where that is less than the network's own; "" for none."""
    precision = str(getattr(model, "precision", "float32"))
    return "" if precision == "float32" else precision


def tensor(values: Array, modality: Modality, model: Any) -> Any:
    """An array of a modality as a torch model takes it: images and volumes channels first, in its dtype, on its device."""
    import torch

    moved = np.moveaxis(values, -1, 1) if modality.spatial else values
    return torch.tensor(np.ascontiguousarray(moved), dtype=model.dtype, device=model.device)


def standardised(tensors: list[Any], question: Question) -> list[Any]:
    """The free modalities' tensors as the module that the model wraps takes them."""
    layers = dict(zip((m.name for m in question.model.modalities), _standardise(question.model), strict=True))
    return [layers[m.name](x) for m, x in zip(question.modalities, tensors, strict=True)]


def torch_network(question: Question) -> Any:
    """A torch module from the free modalities, raw, to outputs (n, classes): the user's own wherever that is one already, else
    one that standardises, chooses the output, and holds the other modalities at those of sample number `row`, its attribute."""
    import torch
    from torch import nn

    model: Any = question.model
    layers = _standardise(model)
    plain = all(isinstance(layer, nn.Identity) for layer in layers) and model.output is None and not reduced(model)
    if plain and len(question.free) == len(model.modalities):
        with torch.no_grad():
            outputs = model.module(
                *(tensor(v[:1], m, model) for m, v in zip(model.modalities, question.inputs, strict=True))
            )
        if isinstance(outputs, torch.Tensor) and outputs.ndim == 2:
            return model.module

    class Network(nn.Module):
        row = 0

        def __init__(self) -> None:
            super().__init__()
            self.standardise = nn.ModuleList(layers)
            self.network = model.module

        def __getattr__(self, name: str) -> Any:
            try:
                return super().__getattr__(name)
            except AttributeError:  # layers go by the names that they have in the user's module
                return getattr(super().__getattr__("network"), name)

        def forward(self, *free: Any) -> Any:
            given, every = iter(free), []
            for modality, own, layer in zip(model.modalities, question.inputs, layers, strict=True):
                if modality.name in question.free:
                    every.append(layer(next(given)))
                else:
                    held = tensor(own[self.row : self.row + 1], modality, model)
                    every.append(layer(held.expand(len(free[0]), *held.shape[1:])))
            with model.autocast():
                returned = self.network(*every)
            chosen = one_output(
                returned,
                model.output,
                model.output_axes,
                model.name,
                lambda value: tuple(value.shape) if isinstance(value, torch.Tensor) else None,
            )
            chosen = chosen.float() if reduced(model) else chosen
            return chosen.reshape(as_rows(tuple(chosen.shape), len(free[0]), model.output_axes, model.name))

    return Network().eval()


def _standardise(model: Any) -> list[Any]:
    """One layer per modality of the model: (x - mean) / sd, an identity where nothing is declared."""
    import torch
    from torch import nn

    from crossxai.porting.torch_layers import Standardise

    def layer(modality: Modality, mean: Array, sd: Array) -> Any:
        if not mean.any() and (sd == 1).all():
            return nn.Identity()
        shape = (1, -1, *[1] * (len(modality.axes) - 1))
        return Standardise(
            *(torch.tensor(v.reshape(shape), dtype=model.dtype, device=model.device) for v in (mean, sd))
        )

    pairs = constants(model.standardise, model.modalities)
    return [layer(m, mean, sd) for m, (mean, sd) in zip(model.modalities, pairs, strict=True)]


def keras_network(model: Any) -> Any:
    """A Keras model from raw inputs to outputs: the user's own, or one that standardises before it."""
    if not model.standardise:
        return model.model
    import keras

    pairs = constants(model.standardise, model.modalities)
    starts = [keras.Input((*[None] * (len(m.axes) - 1), len(m.features)), name=m.name) for m in model.modalities]
    own = [(x - m.astype(np.float32)) / sd.astype(np.float32) for x, (m, sd) in zip(starts, pairs, strict=True)]
    return keras.Model(starts[0] if len(starts) == 1 else starts, model.model(own[0] if len(own) == 1 else own))


def given_network(question: Question) -> Any:
    """What a user's function of the network gets: a torch module or Keras model from raw inputs to outputs, or the function."""
    model: Any = question.model
    if hasattr(getattr(model, "module", None), "modules"):
        return torch_network(replace(question, free=()))
    return keras_network(model) if hasattr(model, "model") else getattr(model, "function", model)


@contextmanager
def layers_left_alone(network: Any) -> Iterator[None]:
    """Layers of a Keras model have their own `call` afterwards, and not the `result` that Xplique keeps there."""
    before = [
        (layer, {key: vars(layer)[key] for key in ("call", "result") if key in vars(layer)})
        for layer in network._flatten_layers()
    ]
    try:
        yield
    finally:
        for layer, own in before:
            for key in ("call", "result"):
                vars(layer).pop(key, None)
            vars(layer).update(own)


@contextmanager
def forgotten(kind: Any, network: Any) -> Iterator[None]:
    """Xplique keeps every Keras model it has seen, for ever, in its classes: not this one."""
    try:
        yield
    finally:
        cache = kind._cache_models
        for key in [key for key, model in cache.items() if model is network]:
            del cache[key]


@contextmanager
def left_alone(*networks: Any) -> Iterator[None]:
    """Torch modules among these have their layers, hooks, modes, gradients and frozen parameters afterwards as before."""
    modules = list(
        {id(m): m for network in networks if hasattr(network, "modules") for m in network.modules()}.values()
    )
    parameters = list({id(p): (p, p.requires_grad, p.grad) for m in modules for p in m.parameters()}.values())
    before = [(m, m.training, dict(m._modules), [set(getattr(m, kind)) for kind in HOOKS]) for m in modules]
    for parameter, _, _ in parameters:
        parameter.grad = None
    try:
        yield
    finally:
        for module, training, children, hooks in before:
            module.training = training
            module._modules.update(children)
            for kind, keys in zip(HOOKS, hooks, strict=True):
                for key in set(getattr(module, kind)) - keys:
                    del getattr(module, kind)[key]
        for parameter, wanted, gradient in parameters:
            parameter.requires_grad_(wanted)
            parameter.grad = gradient


@contextmanager
def patched(owners: Sequence[Any], **members: Any) -> Iterator[None]:
    """Modules or classes with these members inside; put back, or taken away, as they were found. One thread at a time."""
    with ALONE:
        before = [{name: vars(owner)[name] for name in members if name in vars(owner)} for owner in owners]
        try:
            for owner in owners:
                for name, member in members.items():
                    setattr(owner, name, member)
            yield
        finally:
            for owner, own in zip(owners, before, strict=True):
                for name in members:
                    if name in own:
                        setattr(owner, name, own[name])
                    elif name in vars(owner):
                        delattr(owner, name)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and (if it is loaded) torch's global generators start from `seed` inside, and go on as before."""
    torch = sys.modules.get("torch")
    with streams_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the generator that libraries draw from
        if torch is not None:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch other devices' generators too
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Without Captum's reminders that it is about to set hooks."""
    with ALONE, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Setting (forward, )?backward", category=UserWarning)
        yield

"""What a user brings as an explainer, and the plain kind of it: a function from a batch to maps."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.method import NATIVE, Maps, Method, Passes
from crossxai.explainers.native import class_labels, given_network, left_alone
from crossxai.model import Inputs, Modality
from crossxai.question import Question

NETWORKS = ("model", "module", "net", "network", "forward_func", "m")
RULE = (
    "a function is told by its required parameters: f(images), f(images, labels) and f(model, images, labels) return maps; one "
    f"alone that is called {', '.join(NETWORKS[:-1])} or {NETWORKS[-1]} gets the network and returns an attribution object of "
    "Captum, pytorch-grad-cam or Xplique"
)


LIBRARIES = {"captum": "captum", "pytorch_grad_cam": "gradcam", "xplique": "xplique", "lime": "lime"}


def library_of(given: Any) -> str:
    """The library that a class, or an object's class, derives from; "" if none of them."""
    kinds = (given if inspect.isclass(given) else type(given)).__mro__
    roots = (kind.__module__.partition(".")[0] for kind in kinds)
    return next((LIBRARIES[root] for root in roots if root in LIBRARIES), "")


@dataclass(frozen=True, kw_only=True, eq=False)
class UserExplainer(
    Method, library="user", summary="brought by the user", needs="module", profiles=NATIVE, joint=True, copied=4
):
    """given: what the user brought. options: its keyword arguments. label: its name in tables."""

    given: Any
    options: Any
    label: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.label)
        super().__post_init__()

    def passes(self, question: Question) -> Passes:
        raise Unsupported(f"how many passes {self.name} makes is not known")

    def parameters(self) -> dict[str, Any]:
        return {"profile": self.profile, **{key: _recordable(value) for key, value in self.options.items()}}


def _recordable(value: Any) -> Any:
    """A parameter as a file can hold it."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, list | tuple):
        return [_recordable(entry) for entry in value]
    return getattr(value, "__name__", type(value).__name__)


def as_maps(returned: Sequence[Any], modalities: Sequence[Modality], values: Inputs, who: str) -> Inputs:
    """Maps in the shape of an `Attribution`, (n, *axes) or with one channel; raises `InvalidInput` for what does not fit."""
    if len(returned) != len(modalities):
        raise InvalidInput(
            f"{who} returned {len(returned)} maps for {len(modalities)} modalities: return one for each, in a tuple"
        )
    maps = []
    for one, modality, own in zip(returned, modalities, values, strict=True):
        array = np.asarray(one.detach().cpu().numpy() if hasattr(one, "detach") else one)
        fits = (*own.shape[:-1], "1 or " * modality.spatial + str(own.shape[-1]))
        if array.dtype.kind not in "fiub":
            raise InvalidInput(f"{who} returned {array.dtype} for modality {modality.name!r}: numbers are needed")
        if modality.spatial and array.ndim == own.ndim - 1:
            array = array[..., None]
        try:
            target = (*own.shape[:-1], array.shape[-1] if modality.spatial and array.ndim else own.shape[-1])
            wide = np.broadcast_to(array, target)
            fitting = array.ndim == own.ndim and len(array) == len(own) and target[-1] in (1, own.shape[-1])
        except ValueError:
            fitting = False
        if not fitting:
            first = modality.spatial and array.shape == (len(own), own.shape[-1], *own.shape[1:-1])
            hint = "write np.moveaxis(maps, 1, -1)" if first else "enlarge maps of a layer to the input's size first"
            raise InvalidInput(
                f"{who} returned a map of shape {array.shape} for modality {modality.name!r}; it has to be "
                f"({', '.join(map(str, fits))}){', or without the last axis' * modality.spatial}: {hint}"
            )
        maps.append(np.array(wide, dtype=own.dtype))
    return tuple(maps)


@dataclass(frozen=True, kw_only=True, eq=False)
class Function(UserExplainer, needs="scores"):
    """A function from NumPy arrays, channels last, to maps; it gets a batch of samples at most, and all modalities."""

    arity: int

    def explain(self, question: Question) -> Maps:
        copies = tuple(v.copy() for v in question.inputs)
        images = copies if len(copies) > 1 else copies[0]
        arguments = (images,) if self.arity == 1 else (images, class_labels(question, self.name))
        model: Any = question.model
        with left_alone(getattr(model, "module", None)):
            returned = self.given(*([given_network(question)] if self.arity == 3 else []), *arguments, **self.options)
        if library_of(returned):
            raise InvalidInput(f"{self.name} returned an object of {library_of(returned)}, not maps: {RULE}")
        every = returned if isinstance(returned, tuple) else (returned,)
        maps = as_maps(every, model.modalities, question.inputs, self.name)
        return tuple(v for v, m in zip(maps, model.modalities, strict=True) if m.name in question.free), {}

"""Explainers: one folder per library; `get` makes one by name, `discover` lists them, and neither loads any library."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from crossxai import plugins
from crossxai.attribution import Explainer
from crossxai.errors import InvalidInput, UnknownName
from crossxai.explainers.functions import NETWORKS, RULE, Function, library_of
from crossxai.explainers.library_objects import KINDS, Factory
from crossxai.explainers.method import Method

__all__ = ["Method", "as_explainer", "broken", "discover", "get"]

GROUP = "crossxai.explainers"


@cache
def _catalogue() -> tuple[dict[str, type[Method]], tuple[plugins.Broken, ...]]:
    catalogue: dict[str, type[Method]] = {}
    modules = [importlib.import_module(info.name) for info in pkgutil.walk_packages(__path__, f"{__name__}.")]
    classes = [
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if member.__module__ == module.__name__ and issubclass(member, Method) and "name" in vars(member)
    ]
    for kind in classes:
        if kind.name in catalogue:
            raise InvalidInput(f"two explainers are called {kind.name!r}: {catalogue[kind.name]} and {kind}")
        catalogue[kind.name] = kind
    unusable = plugins.add(GROUP, catalogue, _problem)
    return dict(sorted(catalogue.items())), unusable


def _problem(kind: Any) -> str:
    if not (inspect.isclass(kind) and issubclass(kind, Method) and dataclasses.is_dataclass(kind)):
        return f"is {kind!r}, not a dataclass that derives from crossxai.explainers.Method"
    lacking = [
        name for name in ("name", "library", "summary", "needs") if not isinstance(getattr(kind, name, None), str)
    ]
    return f"{kind.__name__} does not say its {', '.join(lacking)}" if lacking else ""


def discover() -> dict[str, type[Method]]:
    """Name → class of every explainer, installed plug-ins (entry-point group `crossxai.explainers`) included."""
    return dict(_catalogue()[0])


def broken() -> tuple[plugins.Broken, ...]:
    """The plug-ins that could not be used, with the reasons."""
    return _catalogue()[1]


def get(name: str, /, **params: Any) -> Explainer:
    """An explainer by name ("captum.saliency") with its parameters; raises `UnknownName` or `InvalidInput`."""
    catalogue, unusable = _catalogue()
    if name not in catalogue:
        raise UnknownName("explainer", name, catalogue, [str(plugin) for plugin in unusable])
    return _make(catalogue[name], name, params)


def _make(kind: type[Method], name: str, params: Mapping[str, Any]) -> Method:
    known = {f.name for f in dataclasses.fields(kind)}
    for param in params:
        if param not in known:
            raise UnknownName(f"parameter of {name}", param, known)
    return kind(**params)


def as_explainer(given: Any, name: str | None = None, **params: Any) -> Explainer:
    """An explainer, of whatever people have that explains.

    Parameters
    ----------
    given : str, tuple, mapping, Explainer, class, object or function
        A name of `crossxai list`; (name, parameters); {"name": …, parameter: …}; an explainer of this package or of a plug-in.
        A class or an object of Captum (`captum.attr.IntegratedGradients`), pytorch-grad-cam (`GradCAM`) or Xplique
        (`xplique.attributions.Saliency`), or a function of the network that makes one (`lambda m: IntegratedGradients(m)`).
        A function from a batch to maps: `f(images)`, `f(images, labels)` or `f(model, images, labels)`, told apart by the
        number of required parameters.
    name : str, optional
        What tables call a class, an object or a function; "captum:IntegratedGradients" or the function's name if not given.
    **params
        Parameters of a named explainer, keyword arguments of the library's class and call (`n_steps=20`), or of the function.
        `layer="layer4"` names the layer of an activation map; the last one with space if not given.

    Returns
    -------
    Explainer
        It gives an `Attribution` for a `Question`, and refuses in words what it cannot explain.

    Raises
    ------
    UnknownName, InvalidInput
        For unknown names and parameters, and for what is no explainer.

    Notes
    -----
    A library's object runs on the torch module or Keras model itself, one sample at a time (Xplique: a batch), and gives what
    the library's own call gives. A class is made of the network from raw inputs to outputs, standardisation included. An object
    that exists already is accepted where its network's output is the question's score, for raw or for standardised inputs.
    The target has to be one output per sample. Draws from Python's, NumPy's and torch's generators start from the sample's name.

    Functions get copies of NumPy arrays, channels last, at most a batch of samples (a tuple, if the model has several
    modalities), and `labels` (n,); `model` is the torch module (channels first) or Keras model from raw inputs to outputs. They
    return maps (n, y, x), (n, y, x, channels) or (n, features), one per modality.
    """
    if isinstance(given, Mapping | tuple | list):
        named, own = plugins.name_and_params(given, "captum.saliency")
        return as_explainer(named, name, **own, **params)
    ours = isinstance(given, str) or (inspect.isclass(given) and issubclass(given, Method))
    finished = (
        not ours and not inspect.isclass(given) and all(hasattr(given, part) for part in ("name", "needs", "profile"))
    )
    if name is not None and (ours or finished):
        raise InvalidInput(f"{given!r} has a name: leave out name={name!r}")
    if finished:
        if params:
            raise InvalidInput(f"{given.name} has its parameters: give {', '.join(params)} where it is made")
        return given  # type: ignore[no-any-return]
    if isinstance(given, str):
        return get(given, **params)
    return _make(given, given.name, params) if ours else _adapted(given, name, params)


def _adapted(given: Any, name: str | None, params: Mapping[str, Any]) -> Method:
    """What a user brings as an explainer; raises `InvalidInput`, with what to write, for what is none."""
    own = given.func if isinstance(given, partial) else given
    library = library_of(own)
    if library == "lime":
        raise InvalidInput(
            "lime draws and segments through this package: write 'lime.image', or 'lime.tabular' for tables"
        )
    if not callable(given) and not library:
        raise InvalidInput(
            f"an explainer is a name of `crossxai list`, (name, parameters), an object or a class of Captum, pytorch-grad-cam or "
            f"Xplique, or a function; got {type(given).__name__}"
        )
    owner = library_of(getattr(given, "__self__", None))
    if owner:
        raise InvalidInput(f"{given.__qualname__} is a method of an object of {owner}: give the object itself")
    if not library and (inspect.isclass(given) or hasattr(given, "state_dict") or hasattr(given, "trainable_weights")):
        raise InvalidInput(f"{given!r:.60} is no explainer: {RULE}")
    kind = type(own) if library and not inspect.isclass(own) else own
    plain = getattr(kind, "__name__", type(kind).__name__).strip("<>")
    label = name or (f"{library}:{plain}" if library else plain)
    if library:
        return KINDS[library](given=given, options=params, label=label)
    return _of_function(given, params, label)


def _of_function(given: Callable[..., Any], params: Mapping[str, Any], label: str) -> Method:
    """What a function is told to be by its required parameters: see `RULE`."""
    try:
        parameters = inspect.signature(given).parameters.values()
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{label} has no signature to read: {RULE}") from error
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p.name for p in parameters if p.default is p.empty and p.kind in places]
    if len(required) == 1 and required[0] in NETWORKS:
        return Factory(given=given, options=params, label=label)  # parameters belong to the library's call
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for param in params:
            if param not in (names := [p.name for p in parameters]):
                raise UnknownName(f"parameter of {label}", param, names)
    left = [name for name in required if name not in params]
    if len(left) not in (1, 2, 3) or (len(left) == 2 and left[0] in NETWORKS):
        raise InvalidInput(f"{label} requires ({', '.join(left)}): {RULE}")
    return Function(given=given, options=params, label=label, arity=len(left))

"""What a user's network is, told by its type and its first layers, without importing any framework; and the adapter for it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crossxai.adapters.checks import MeanSd, check_levels, check_orientation, needed_arguments, require_torch
from crossxai.adapters.describing import Layout, Recognised, Size
from crossxai.adapters.sliding_window import Join, in_windows
from crossxai.errors import InvalidInput
from crossxai.loaders import by_name, torch_files
from crossxai.loaders.loaded import Loaded, image_of
from crossxai.model import Modality, Model

IMAGENET: MeanSd = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNSTATED = "mean and sd: none (assumed; write standardise=(mean, sd) or 'imagenet' if the training subtracted one)"
MODALITIES = "modalities=(xai.Modality.image(),) or (xai.Modality.table(('age', 'dose')),), one per input in order"


def is_adapter(net: Any) -> bool:
    """Whether an object has the verbs of a model of ours."""
    return callable(getattr(net, "predict", None)) and hasattr(net, "modalities")


def is_a(value: Any, package: str, name: str) -> bool:
    """Whether a class of this name, from a module of this package, is among the types of an object."""
    return any(c.__name__ == name and c.__module__.split(".")[0] == package for c in type(value).__mro__)


def wrap(
    net: Any,
    *,
    name: str = "",
    modalities: Sequence[Modality] | None = None,
    range: tuple[float, float] | None = None,
    standardise: Mapping[str, MeanSd] | MeanSd | Literal["imagenet"] | None = None,
    size: int | Size | None = None,
    layout: Layout = "NHWC",
    levels: tuple[float, float] | Literal["scan"] | None = None,
    orientation: str = "",
    batch_size: int | None = None,
    trust: bool = False,
    window: int | Sequence[int] | None = None,
    overlap: float | None = None,
    join: Join | None = None,
    **options: Any,
) -> Model:
    """Make a model of a network: recognise what it is, and say what it was taken for.

    Parameters
    ----------
    net : torch module, Keras model, name, path, callable or adapter
        A `torch.nn.Module` in evaluation mode (torchvision, timm and Hugging Face included), a program of torch.export, a Keras
        model, a scikit-learn estimator, or a function of arrays; an adapter is returned as it is. Or text: a name such as
        "torchvision:resnet18@weights.pt", the path of a model's file, or "package.module:function"; see docs/models.md.
    name : str, the name in reports and folders; the network's own if not given
    modalities : sequence of Modality, optional
        The inputs in order; by default those of the network's first layer, and required where it does not determine them.
    range : (float, float), optional, the smallest and largest value of images; (0, 1) unless the network scales by itself
    standardise : (mean, sd), "imagenet" or mapping, optional
        What is subtracted and divided by per channel before the network, so that inputs and maps stay in plain values.
    size : int or (height, width), of volumes (depth, height, width), optional
        To which pictures are brought, by their shorter side and cut to the middle, and scans, trilinearly, each axis by itself;
        the network's own where it says one.
    layout : {"NHWC", "NCHW"}, how images are handed over
    levels : (float, float) or "scan", optional
        Of scans in files: the values that become the ends of `range`, such as (-160, 240) Hounsfield units, beyond which they are
        cut off; "scan" for each scan's smallest and largest. As they are if not given, or by the window that a series names.
    orientation : str, optional
        Of scans in files: to which side x, y and z run, "LPS" (left, back, head) if not given; "file" leaves them as they are.
    batch_size : int, optional
        The most samples that the network sees at once; 32, and for long streams what measures fastest, if not given.
    trust : bool, whether a file may run code of its own when it is read, as pickles and Lambda layers do
    window : int or tuple of int, optional
        Pixels of a window that moves over images larger than the network takes: see `adapters.sliding_window.SlidingWindow`.
    overlap : float in [0, 1), how much of a window its neighbour sees, too; 0.5 if not given
    join : {"mean", "max"}, how classes or values of all windows become one output; "mean" if not given
    **options : passed to the adapter: outputs, output_axes, output, streams, layer_axes, data_format; of torch networks device,
        precision and compile, as of `adapters.torch.TorchModel`; of a detector boxes, n_classes and detections, as of
        `adapters.torch_detection.TorchDetector`.

    Returns
    -------
    Model, whose `describe()` says what was recognised and what was assumed: a `TorchModel`, `KerasModel` or `FunctionModel`

    Raises
    ------
    InvalidInput: where the inputs of the network cannot be determined, with what to write
    InvalidFile, UnknownName, MissingDependency: where a name or a file does not give a network, with what to write
    """
    if window is not None:
        if options.get("compile"):
            raise InvalidInput(
                "compile is of a network that sees whole images, and this one is asked for windows: leave it out"
            )
        one = wrap(
            net, name=name, modalities=modalities, range=range, standardise=standardise, layout=layout, batch_size=batch_size,
            trust=trust, levels=levels, orientation=orientation, **options,
        )  # fmt: skip
        return in_windows(one, window, 0.5 if overlap is None else overlap, join or "mean", size)
    if overlap is not None or join is not None:
        raise InvalidInput("overlap and join are of windows: write window=224, say, beside them")
    if isinstance(net, str | Path):
        net = by_name.load(net, trust=trust)
    if is_a(net, "torch", "ExportedProgram"):
        net = torch_files.of_program(net)
    loaded = net if isinstance(net, Loaded) else Loaded(net, "")
    net, name = loaded.net, name or loaded.name
    if is_adapter(net) and not is_a(net, "keras", "Model"):
        given = {"modalities": modalities, "range": range, "standardise": standardise, **options}
        if wrong := [key for key, value in given.items() if value is not None]:
            raise InvalidInput(f"{type(net).__name__} is an adapter already: declare {', '.join(wrong)} there")
        return net  # type: ignore[no-any-return]
    low, high = range or (0.0, 1.0)
    limits = range or ((low, high) if loaded.standardise else None)
    if modalities is None and loaded.modalities is not None:
        shown = tuple(replace(m, range=limits or m.range) if m.spatial else m for m in loaded.modalities)
        found = recognise(net, shown, limits)
        unstated = [UNSTATED] if any(m.spatial for m in shown) and UNSTATED not in found.assumed else []
        found = replace(found, assumed=(*_assumed(shown, limits), *found.assumed, *unstated))
    else:
        found = recognise(net, modalities, limits)
    if standardise is None and loaded.standardise is not None:  # in the units of images from 0 to 1
        mean, sd = (np.asarray(part) * (high - low) for part in loaded.standardise)
        standardise = (low + mean).tolist(), sd.tolist()
    if standardise is not None:
        constants = _constants(standardise, found.modalities)
        assumed = tuple(line for line in found.assumed if not line.startswith("mean"))
        found = replace(found, standardise=constants, assumed=assumed)
    if isinstance(size, int):
        size = (size,) * (3 if any(len(m.axes) == 4 for m in found.modalities) else 2)
    resize = None if size else loaded.resize
    found = replace(
        found, size=size or (resize.cut if resize else loaded.size) or found.size, layout=layout, batch_size=batch_size,
        told=loaded.told, resize=resize, classes=loaded.classes, random=loaded.random, levels=check_levels(levels),
        orientation=orientation and check_orientation(orientation),
    )  # fmt: skip
    if "torch" not in found.adapter:
        require_torch(options, found.taken_for)
        options = {key: value for key, value in options.items() if key not in ("device", "precision", "compile")}
    if "boxes" in options:
        if options.pop("precision", "float32") != "float32" or options.pop("compile", False):
            raise InvalidInput(
                "a detector runs in the precision of its weights, as it is: leave precision and compile out"
            )
        found = replace(found, adapter="crossxai.adapters.torch_detection:TorchDetector", options={})
    return adapt(net, replace(found, options={**found.options, **loaded.options, **options}), name)


def _constants(
    given: Mapping[str, MeanSd] | MeanSd | Literal["imagenet"], modalities: tuple[Modality, ...]
) -> dict[str, MeanSd]:
    """(mean, sd) by modality; a pair alone, or "imagenet", is of the only image."""
    if isinstance(given, Mapping):
        return dict(given)
    images = [m.name for m in modalities if m.spatial] or [m.name for m in modalities]
    if isinstance(given, str) and given != "imagenet":
        raise InvalidInput(f"standardise is (mean, sd), 'imagenet' or a dict by modality, got {given!r}")
    if len(images) != 1:
        raise InvalidInput(f"standardise: say whose, {{{images[0]!r}: (mean, sd)}}; there are {', '.join(images)}")
    return {images[0]: IMAGENET if isinstance(given, str) else given}


def recognise(net: Any, modalities: Sequence[Modality] | None, limits: tuple[float, float] | None) -> Recognised:
    """What the object is; raises `InvalidInput` with what to write where its inputs cannot be told."""
    declared = None if modalities is None else tuple(modalities)
    if is_a(net, "torch", "Module"):
        return _torch(net, declared, limits)
    if is_a(net, "keras", "Model"):
        return _keras(net, declared, limits)
    if hasattr(net, "n_features_in_") and hasattr(net, "predict"):
        return _estimator(net, declared)
    if not callable(net):
        raise InvalidInput(
            f"wrap takes a torch module, a Keras model, a name or a path of a model, an adapter or a function of arrays; got "
            f"{type(net).__name__}"
        )
    if declared is None:
        raise InvalidInput(f"a function does not say what it takes: write {MODALITIES}")
    return Recognised("a function of arrays, without gradients", "crossxai.adapters.numpy:FunctionModel", declared)


def adapt(net: Any, found: Recognised, name: str) -> Model:
    """The adapter of a recognised network, which remembers what it was taken for as `recognised`."""
    module, _, kind = found.adapter.partition(":")
    make: Callable[..., Any] = getattr(importlib.import_module(module), kind)
    given = {"standardise": dict(found.standardise)} if found.standardise else {}
    if not name:  # for reports and folders: the class's, or the function's own
        own = getattr(net, "name", None) if is_a(net, "keras", "Model") else getattr(net, "__name__", None)
        text = own if isinstance(own, str) and own != "<lambda>" else type(net).__name__
        name = re.sub(r"[^\w.@+-]+", "_", text).strip("._") or "model"
    adapted: Any = make(
        _table_function(net) if hasattr(net, "n_features_in_") else net,
        found.modalities,
        **given,
        **found.options,
        name=name,
    )
    adapted.recognised = found
    return adapted  # type: ignore[no-any-return]


def _modality_of(kind: str, size: int, limits: tuple[float, float] | None, name: str = "") -> Modality:
    """An image, a volume or a table of so many channels or columns, called after its kind if it has no name."""
    if kind == "image":
        return image_of(size, limits, name or kind)
    if kind == "table":
        return Modality.table(tuple(f"feature_{i}" for i in range(size)), name or kind)
    names = ("value",) if size == 1 else tuple(f"channel_{i}" for i in range(size))
    return Modality.volume(name or kind, names, limits or (0.0, 1.0))


def _assumed(modalities: tuple[Modality, ...], limits: tuple[float, float] | None, known: str = "") -> list[str]:
    """What nobody said about images' values."""
    low, high = next((m.range or (0, 1) for m in modalities if m.spatial), (None, None))
    if low is None or limits is not None:
        return []
    assumed = "assumed; write range=(0, 255), say, if it takes others"
    return [f"values of images from {low:g} to {high:g} ({known or assumed})"]


def _torch(net: Any, declared: tuple[Modality, ...] | None, limits: tuple[float, float] | None) -> Recognised:
    origin = type(net).__module__.split(".")[0]
    config: Any = getattr(net, "pretrained_cfg", None) if origin == "timm" else getattr(net, "config", None)
    size, standardise, assumed = _declared_size(net, config), dict[str, MeanSd](), list[str]()
    modalities = declared or _first_of_torch(net, limits)
    if declared is None:
        assumed += _assumed(modalities, limits)
    images = [m for m in modalities if m.spatial]
    mean, sd = (config.get(key) for key in ("mean", "std")) if isinstance(config, Mapping) else (None, None)
    if mean is not None and sd is not None and len(images) == 1 and len(mean) == len(images[0].features):
        standardise[images[0].name] = (tuple(mean), tuple(sd))
        assumed.append(f"mean {tuple(mean)} and sd {tuple(sd)} are those of timm's configuration of these weights")
    elif images:
        assumed.append(UNSTATED)
    options: dict[str, Any] = {}
    if "segmentation" in type(net).__module__ or type(net).__name__.endswith("ForSemanticSegmentation"):
        options["output_axes"] = ("y", "x", "class")
    library = {"torch": "", "timm": " of timm", "torchvision": " of torchvision", "transformers": " of Hugging Face"}
    words = f"a torch module, {type(net).__name__}{library.get(origin, '')}, of {_listed(modalities)}"
    adapter = "crossxai.adapters.torch:TorchModel"
    return Recognised(words, adapter, modalities, standardise, options, size, assumed=tuple(assumed))


def _declared_size(net: Any, config: Any) -> Size | None:
    """(height, width) as timm's, Hugging Face's or torchvision's network says it; None where any will do, or it does not say."""
    if isinstance(config, Mapping):
        shape = config.get("input_size")
        return (int(shape[1]), int(shape[2])) if shape is not None else None
    given = getattr(net if config is None else config, "image_size", None)
    if isinstance(given, int):
        return given, given
    return (int(given[0]), int(given[1])) if isinstance(given, Sequence) and len(given) == 2 else None


def _first_of_torch(net: Any, limits: tuple[float, float] | None) -> tuple[Modality, ...]:
    """The modality that a module's first layer with weights takes; asked for where it takes several inputs, or none is plain."""
    name, needed = type(net).__name__, needed_arguments(net.forward)
    if len(needed) > 1:
        raise InvalidInput(f"{name}.forward takes {len(needed)} inputs ({', '.join(needed)}): write {MODALITIES}")
    flat = False
    for layer in (layer for layer in net.modules() if next(layer.children(), None) is None):
        kind = type(layer).__name__
        flat |= kind == "Flatten"
        if kind in ("Conv2d", "Conv3d"):
            return (_modality_of("image" if kind == "Conv2d" else "volume", layer.in_channels, limits),)
        if kind == "Linear" and not flat:
            return (_modality_of("table", layer.in_features, limits),)
        if next(layer.parameters(), None) is not None and kind not in ("BatchNorm1d", "LayerNorm"):
            raise InvalidInput(f"{name} begins with {kind}, which does not tell what it takes: write {MODALITIES}")
    raise InvalidInput(f"no layer of {name} says what it takes: write {MODALITIES}")


def _keras(net: Any, declared: tuple[Modality, ...] | None, limits: tuple[float, float] | None) -> Recognised:
    try:
        tensors = [(str(t.name), tuple(t.shape)) for t in net.inputs or ()]
    except (AttributeError, ValueError):  # what Keras says of a model without symbolic inputs
        tensors = []
    layers = list(getattr(net, "layers", ()))
    first = any(getattr(layer, "data_format", "") == "channels_first" for layer in layers)
    scale = next((layer.scale for layer in layers if type(layer).__name__ == "Rescaling"), None)
    known, own = "", limits or (0.0, 1.0)
    if limits is None and isinstance(scale, int | float) and 0 < abs(scale) < 0.05:
        known, own = f"the network itself multiplies by {scale:.3g}", (0.0, 255.0)
    if declared is None and not tensors:
        raise InvalidInput(f"{type(net).__name__} was not built from inputs that say their shapes: write {MODALITIES}")
    modalities = declared or _modalities_of_keras(tensors, own, first)
    assumed = [] if declared else _assumed(modalities, limits, known)
    if any(m.spatial for m in modalities) and not any(type(x).__name__ == "Normalization" for x in layers):
        assumed += [] if known else [UNSTATED]
    spatial = [shape for _, shape in tensors if len(shape) in (4, 5)]
    sizes = {s[2:] if first else s[1:-1] for s in spatial}
    size = next(iter(sizes)) if len(sizes) == 1 and None not in next(iter(sizes)) else None
    words = f"a Keras model, {net.name}, of {_listed(modalities)}"
    shape = getattr(net, "output_shape", ())
    options = {"output_axes": ("y", "x", "class")} if isinstance(shape, tuple) and len(shape) == 4 else {}
    adapter = "crossxai.adapters.tensorflow:KerasModel"
    return Recognised(words, adapter, modalities, {}, options, size, assumed=tuple(assumed))


def _modalities_of_keras(
    tensors: list[tuple[str, tuple[Any, ...]]], limits: tuple[float, float], first: bool
) -> tuple[Modality, ...]:
    found = []
    for name, shape in tensors:
        kind = {2: "table", 4: "image", 5: "volume"}.get(len(shape), "")
        channels = shape[1 if first and len(shape) > 2 else -1]
        if not kind or channels is None:
            raise InvalidInput(f"input {name!r} of shape {shape} is no table, image or volume: write {MODALITIES}")
        # One input keeps the plain name; several are told apart by their own.
        label = kind if len(tensors) == 1 else name.partition(":")[0]
        found.append(_modality_of(kind, channels, limits, label))
    return tuple(found)


def _estimator(net: Any, declared: tuple[Modality, ...] | None) -> Recognised:
    """A scikit-learn estimator: its probabilities, or a regression's value, of a table."""
    names = getattr(net, "feature_names_in_", None)
    n = int(net.n_features_in_)
    columns = _modality_of("table", n, None) if names is None else Modality.table(tuple(map(str, names)))
    classifies = hasattr(net, "predict_proba")
    words = f"an estimator, {type(net).__name__}, of {n} columns, without gradients"
    options = {"outputs": "probabilities" if classifies else "values"}
    return Recognised(words, "crossxai.adapters.numpy:FunctionModel", declared or (columns,), {}, options)


def _table_function(net: Any) -> Callable[[Any], Any]:
    """An estimator's function of a table, whose columns bear the names it was fitted with."""
    names = getattr(net, "feature_names_in_", None)

    def predict(table: Any) -> Any:
        if names is not None:
            import pandas as pd

            table = pd.DataFrame(table, columns=names)
        outputs = net.predict_proba(table) if hasattr(net, "predict_proba") else net.predict(table)
        return np.asarray(outputs).reshape(len(table), -1)

    return predict


def _listed(modalities: tuple[Modality, ...]) -> str:
    return " and ".join(
        f"{m.kind} {m.name!r} of {len(m.features)} {m.axes[-1]}{'s' if len(m.features) > 1 else ''}" for m in modalities
    )

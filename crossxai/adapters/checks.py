"""What every adapter checks and does the same way: declarations, inputs and outputs, failures, weights drawn anew."""

from __future__ import annotations

import inspect
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from crossxai.adapters.returned import leaves
from crossxai.errors import InvalidInput, ModelFailed, UnknownName, Unsupported
from crossxai.model import Array, Inputs, Modality

MeanSd = tuple[Sequence[float], Sequence[float]]
Precision = Literal["float32", "bf16"]
"""What a network computes in: "float32" is that of its own weights, whatever they are."""
WITHOUT_GRADIENTS = "explainers that ask for scores alone still answer: occlusion, RISE, LIME, KernelSHAP"
"""What to take where there is no gradient."""
LARGEST_COPY = 2**30
"""Bytes of the weights of a copy in float64 that a model is measured with; larger models are measured as they are."""
ITSELF = "(itself)"
"""The layer that weights of the network itself belong to."""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FRAMES = (
    *("Exception encountered when calling", "Graph execution error", "Detected at node", "Traceback", "File ", "{{"),
)


def constants(standardise: Mapping[str, MeanSd] | None, modalities: tuple[Modality, ...]) -> list[tuple[Array, Array]]:
    """(mean, sd) per modality as float64 arrays (channels,); zero and one where none is given."""
    given = dict(standardise or {})
    for name in given:
        if name not in {m.name for m in modalities}:
            raise UnknownName("modality to standardise", name, [m.name for m in modalities])
    pairs: list[tuple[Array, Array]] = []
    for modality in modalities:
        size = len(modality.features)
        pair = given.get(modality.name, (np.zeros(size), np.ones(size)))
        try:
            mean, sd = (np.asarray(v, dtype=np.float64) for v in pair)
        except (TypeError, ValueError):
            mean = sd = np.full(0, np.nan)
        if mean.shape != (size,) or sd.shape != (size,) or not (np.isfinite(mean).all() and (sd > 0).all()):
            raise InvalidInput(
                f"standardise[{modality.name!r}] needs (mean, sd) with {size} finite numbers each and sd > 0, got {pair}"
            )
        pairs.append((mean, sd))
    return pairs


def check_precision(given: Any) -> Precision:
    """The precision that is declared; raises `InvalidInput` unless there is such a one."""
    if given not in get_args(Precision):
        raise InvalidInput(
            f"precision is 'float32', the network as it is, or 'bf16'; got {given!r} (float16 is none: gradients underflow there)"
        )
    return given  # type: ignore[no-any-return]


def require_torch(options: Mapping[str, Any], taken_for: str) -> None:
    """Raise `InvalidInput` where options that torch networks alone have are given to another one."""
    if options.get("device", "auto") not in ("", "auto"):
        raise InvalidInput(
            f"device is of torch networks, and this is {taken_for}: TensorFlow takes the GPUs that "
            "CUDA_VISIBLE_DEVICES names"
        )
    if check_precision(options.get("precision", "float32")) != "float32":
        raise InvalidInput(
            f"precision is of torch networks, and this is {taken_for}: a Keras network is built in its own, by "
            "keras.config.set_dtype_policy('mixed_bfloat16') before its layers are made"
        )
    if options.get("compile"):
        raise InvalidInput(f"compile is torch.compile, of torch networks, and this is {taken_for}: leave it out")


SCAN = "scan"
FILE = "file"
BODY = ("LR", "PA", "SI")
"""The sides of the body, in pairs: left and right, back (posterior) and front (anterior), head (superior) and feet (inferior)."""


def check_levels(levels: Any) -> tuple[float, float] | Literal["scan"] | None:
    """The values of scans that become the ends of a model's range; raises `InvalidInput` unless they are two, or "scan"."""
    if levels is None or levels == SCAN:
        return levels  # type: ignore[no-any-return]
    try:
        low, high = (float(level) for level in levels)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise InvalidInput(
            f'levels are (low, high), the values that become the ends of the range, or "scan"; got {levels!r}'
        )
    return low, high


def check_orientation(sides: str) -> str:
    """A side for each of x, y and z, each of another axis of the body, or "file"; raises `InvalidInput` for anything else."""
    known = isinstance(sides, str) and len(sides) == 3 and all(sum(s in pair for s in sides) == 1 for pair in BODY)
    if sides != FILE and not known:
        raise InvalidInput(
            f'orientation says to which side x, y and z run, such as "LPS" or "RAS", or "file"; got {sides!r}'
        )
    return sides


def check_modalities(modalities: tuple[Modality, ...]) -> tuple[Modality, ...]:
    """The modalities; raises `InvalidInput` unless they are a tuple of different ones."""
    if not isinstance(modalities, tuple) or not modalities or not all(isinstance(m, Modality) for m in modalities):
        raise InvalidInput(f"modalities are a tuple, such as (Modality.image(),); got {modalities!r}")
    names = [m.name for m in modalities]
    if len(set(names)) < len(names):
        raise InvalidInput(f"modalities need different names, got {', '.join(names)}")
    return modalities


def check_inputs(inputs: Inputs, modalities: tuple[Modality, ...], model: str) -> None:
    """Raise `InvalidInput` unless there is one array per modality with the declared axes and channels."""
    if not isinstance(inputs, tuple) or len(inputs) != len(modalities):
        names = ", ".join(m.name for m in modalities)
        given = f"{len(inputs)} arrays" if isinstance(inputs, tuple) else type(inputs).__name__
        raise InvalidInput(f"model {model!r} takes a tuple of {len(modalities)} arrays ({names}), got {given}")
    for modality, values in zip(modalities, inputs, strict=True):
        if values.ndim != len(modality.axes) + 1 or values.shape[-1] != len(modality.features):
            modality.check(values, f"model {model!r}, ")


def check_outputs(shape: tuple[int, ...], axes: tuple[str, ...], model: str) -> None:
    """Raise `InvalidInput` unless outputs (n, *out) have the declared axes."""
    if len(shape) != len(axes) + 1:
        raise InvalidInput(
            f"model {model!r} gives outputs of shape {shape}; output_axes={axes} declares {len(axes)} axes after the sample "
            'axis: write output_axes=("class",) for class scores or ("y", "x", "class") for a segmentation map'
        )


def one_output(
    outputs: Any,
    output: str | int | None,
    axes: tuple[str, ...],
    model: str,
    shape: Callable[[Any], tuple[int | None, ...] | None],
) -> Any:
    """The tensor that counts, out of what a model returns.

    outputs: a tensor, or a dict, a list, a (named) tuple, a dataclass or any nesting of these. output: the name ("logits") or the
    position of the one that counts; not given, the only tensor with the declared axes counts. shape: the shape of a tensor,
    None for anything else. Raises `InvalidInput` if `output` names nothing, `Unsupported` if no tensor or several could be meant.
    """
    tensors = {name: (value, size) for name, value in leaves(outputs) if (size := shape(value)) is not None}
    if output is not None:
        name = str(output)
        if name == "0" and "" in tensors:  # a model that returns one tensor
            name = ""
        if name not in tensors:
            raise InvalidInput(
                f"model {model!r} gives no output {output!r}; it gives {_listed(tensors, outputs)}: write output= with one "
                "of these names or positions"
            )
        return tensors[name][0]
    if "" in tensors:
        return tensors[""][0]
    fitting = [name for name, (_, size) in tensors.items() if len(size) == len(axes) + 1]
    if not fitting and axes == ("class",):
        fitting = [name for name, (_, size) in tensors.items() if len(size) == 1]
    if len(fitting) != 1:
        which = "several" if fitting else "none"
        raise Unsupported(
            f"model {model!r} returns {type(outputs).__name__}, not one tensor, and {which} of its tensors could be the outputs "
            f"with output_axes={axes}; it gives {_listed(tensors, outputs)}: write output= with the name or position of one"
        )
    return tensors[fitting[0]][0]


def _listed(tensors: Mapping[str, tuple[Any, tuple[int | None, ...]]], outputs: Any) -> str:
    if not tensors:
        return f"no tensor, only {type(outputs).__name__}"
    return ", ".join(f"{name or 'one tensor'} of shape {size}" for name, (_, size) in tensors.items())


def as_rows(shape: tuple[int, ...], n: int, axes: tuple[str, ...], model: str) -> tuple[int, ...]:
    """The shape to give outputs of this shape: itself, or (n, 1) for class scores that lost their class axis to a squeeze; raises
    `InvalidInput` unless it has the declared axes."""
    if axes == ("class",) and len(shape) < 2:
        if shape == (n,) or (shape == () and n == 1):
            return n, 1
        raise InvalidInput(
            f"model {model!r} gives outputs of shape {shape} for {n} samples; class scores have the shape (n, classes), those "
            "of a single output (n, 1): return x[:, None], or leave out a squeeze()"
        )
    check_outputs(shape, axes, model)
    return shape


def needed_arguments(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments that a function has to be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    every = inspect.signature(function).parameters.values()
    return [p.name for p in every if p.kind in kinds and p.default is p.empty]


def original_layers(network: Any) -> Mapping[str, str]:
    """Of a twin: layer of the network that it was made from → its own layer that gives the same; empty for other networks."""
    return getattr(network, "crossxai_layers", None) or {}


def own_names(network: Any, layers: Collection[str] | None) -> set[str] | None:
    """What layers that a caller names are called in the network itself; None, which is all of them, for None."""
    original = original_layers(network)
    return None if layers is None else {original.get(name, name) for name in layers}


def overridden(layer: object, known: type, harmless: frozenset[str]) -> str | None:
    """The first method of a known kind of layer that this layer, or a class between the two, computes its own way; None if there
    is none. harmless: names of methods that do not compute outputs."""
    kinds = type(layer).__mro__
    for kind in kinds[: kinds.index(known)]:
        for name, value in vars(kind).items():
            method = callable(value) or isinstance(value, property | classmethod | staticmethod)
            if name not in harmless and method and hasattr(known, name):
                return name
    for name, value in vars(layer).items():
        if name not in harmless and callable(value) and callable(getattr(known, name, None)):
            return name
    return None


def model_failed(error: Exception, model: str, inputs: Sequence[Any], hint: str = "") -> ModelFailed:
    """The error of a model whose own code raised: its message without the frameworks' frames, and what may help."""
    lines = (line.strip() for line in _COLOURS.sub("", str(error)).splitlines())
    message = next((line for line in lines if line and not line.startswith(_FRAMES)), "")
    shapes = ", ".join(str(tuple(np.shape(values))) for values in inputs)
    cause = f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__
    return ModelFailed(f"the code of model {model!r} failed on inputs of shape {shapes}: {cause}{hint and f'; {hint}'}")


def redrawn(values: npt.NDArray[Any], layer: str, number: int, seed: int) -> npt.NDArray[np.float64]:
    """Normal draws with the mean and standard deviation of a layer's weight number `number`, same shape.

    Trained scales are kept, so that a randomised network neither dies nor explodes. Draws depend on the layer's name, never on
    how many other layers are drawn.
    """
    rng = np.random.default_rng([seed, zlib.crc32(layer.encode()), number])
    exact = np.asarray(values, dtype=np.float64)
    return rng.normal(exact.mean(), exact.std(), exact.shape)

"""Functions of a user's own that return models and samples: found beside the experiment file, their errors put in words."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.errors import CrossXAIError, InvalidInput
from crossxai.failures import in_words
from crossxai.files import Samples
from crossxai.process import foreign


def call(factory: str, folder: Path, kind: type[CrossXAIError]) -> Any:
    """What a function of the user's returns; its module is looked for beside the experiment file first.

    What its own code raises becomes an error of this kind, which says where.
    """
    module, _, name = factory.partition(":")
    if not module or not name:
        raise InvalidInput(f"a factory is written 'package.module:function', got {factory!r}")
    sys.path.insert(0, str(folder.resolve()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InvalidInput(
            f"factory {factory!r} cannot be imported from {folder} or the environment: {error}"
        ) from error
    except _raised() as error:
        raise InvalidInput(f"factory {factory!r} cannot be imported: its module raises {_where(error)}") from error
    finally:
        sys.path.remove(str(folder.resolve()))
    if not callable(function):
        raise InvalidInput(f"factory {factory!r} is {type(function).__name__}, not a function")
    try:
        return function()
    except CrossXAIError:
        raise
    except _raised() as error:
        raise kind(f"factory {factory!r} raises {_where(error)}") from error


def _raised() -> tuple[type[Exception], ...]:
    return (*foreign(), OSError, ImportError)


def _where(error: BaseException) -> str:
    """An error in words, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{in_words(error)}{place}"


def check_samples(found: Samples, factory: str) -> None:
    """Raise `InvalidInput` for arrays that no file can hold and no model can take, such as images of different sizes."""
    columns: dict[str, Any] = {m.name: found.inputs[m.name] for m in found.modalities}
    columns |= {f"mask {name}": mask for name, mask in found.masks.items()}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and values.dtype != object:
            continue
        shapes = list(dict.fromkeys(np.shape(value) for value in values))
        if len(shapes) > 1:
            listed = ", ".join(map(str, shapes[:3])) + (", …" if len(shapes) > 3 else "")
            raise InvalidInput(
                f"data factory {factory}: the samples of {name!r} have different shapes ({listed}); a model takes them "
                "together: resize, crop or pad them to one size, then write np.stack(values).astype(np.float32)"
            )
        raise InvalidInput(f"data factory {factory}: {name!r} is no array of numbers: write np.stack(values)")
    for modality in found.modalities:
        modality.check(found.inputs[modality.name], f"data factory {factory}: ")

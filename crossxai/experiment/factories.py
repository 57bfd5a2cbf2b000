"""Functions of a user's own that return models and samples: found beside the experiment file, their errors put in words."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crossxai.errors import CrossXAIError, InvalidInput
from crossxai.experiment.failures import in_words

RAISED = (Exception, SystemExit)
"""What a user's own code may raise, exceptions of its own and `sys.exit` among it: one model's end, not the run's. Ctrl-C is not
among it."""


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
    except RAISED as error:
        raise InvalidInput(f"factory {factory!r} cannot be imported: its module raises {_where(error)}") from error
    finally:
        sys.path.remove(str(folder.resolve()))
    if not callable(function):
        raise InvalidInput(f"factory {factory!r} is {type(function).__name__}, not a function")
    return guarded(function, f"factory {factory!r}", kind)


def guarded(function: Callable[[], Any], name: str, kind: type[CrossXAIError]) -> Any:
    """What a function of the user's returns; what its own code raises becomes an error of this kind, which says where."""
    try:
        return function()
    except CrossXAIError:
        raise
    except RAISED as error:
        raise kind(f"{name} raises {_where(error)}") from error


def _where(error: BaseException) -> str:
    """An error in words, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{in_words(error)}{place}"

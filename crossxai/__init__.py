"""CrossXAI: the same question to different explainability libraries, on PyTorch and TensorFlow, measured by one harness.

`import crossxai as xai` gives the verbs `wrap`, `check`, `explain`, `evaluate`, `compare`, `merge`, `parity`, `port` and
`certify`, and the classes of what they take and return. Importing this package loads neither torch nor TensorFlow; each name is
imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crossxai.process import guard
from crossxai.version import __version__ as __version__

if TYPE_CHECKING:
    from crossxai.api import certify, check, compare, evaluate, explain, merge, parity, port, wrap
    from crossxai.assumptions.checking import Check
    from crossxai.attribution import Attribution, Scores
    from crossxai.conventions.result import Parity
    from crossxai.data.declared import Files
    from crossxai.errors import (
        BrokenAssumption,
        CrossXAIError,
        InvalidFile,
        InvalidInput,
        LibraryFailed,
        MissingDependency,
        ModelFailed,
        UnknownName,
        Unsupported,
    )
    from crossxai.experiment.recipe import Recipe
    from crossxai.experiment.results import Evaluation, Run
    from crossxai.files import Samples
    from crossxai.measures import Accuracy, Dice, Largest
    from crossxai.measures.detection import Box
    from crossxai.model import Modality
    from crossxai.on_demand import OnDemand
    from crossxai.question import Question
    from crossxai.target import Target

__all__ = [
    "Accuracy",
    "Attribution",
    "Box",
    "BrokenAssumption",
    "Check",
    "CrossXAIError",
    "Dice",
    "Evaluation",
    "Files",
    "InvalidFile",
    "InvalidInput",
    "Largest",
    "LibraryFailed",
    "MissingDependency",
    "Modality",
    "ModelFailed",
    "OnDemand",
    "Parity",
    "Question",
    "Recipe",
    "Run",
    "Samples",
    "Scores",
    "Target",
    "UnknownName",
    "Unsupported",
    "certify",
    "check",
    "compare",
    "evaluate",
    "explain",
    "merge",
    "parity",
    "port",
    "wrap",
]

_PLACES = {
    "api": ("certify", "check", "compare", "evaluate", "explain", "merge", "parity", "port", "wrap"),
    "assumptions.checking": ("Check",),
    "attribution": ("Attribution", "Scores"),
    "conventions.result": ("Parity",),
    "data.declared": ("Files",),
    "experiment.recipe": ("Recipe",),
    "experiment.results": ("Evaluation", "Run"),
    "files": ("Samples",),
    "measures.detection": ("Box",),
    "measures": ("Accuracy", "Dice", "Largest"),
    "model": ("Modality",),
    "on_demand": ("OnDemand",),
    "question": ("Question",),
    "target": ("Target",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, from the module that defines it (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'crossxai' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"crossxai.{_MODULES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


guard()

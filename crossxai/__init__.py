"""CrossXAI: the same question to different explainability libraries, on PyTorch and TensorFlow, judged by one harness.

Importing this package loads neither torch nor TensorFlow; adapters and explainers load what they need when they are used.
"""

from crossxai.assumptions.checking import Check, check
from crossxai.attribution import Attribution, Scores
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
from crossxai.measures import Accuracy, Dice, Largest
from crossxai.model import Modality
from crossxai.process import guard
from crossxai.question import Question
from crossxai.target import Target

__version__ = "0.5.0"

__all__ = [
    "Accuracy",
    "Attribution",
    "BrokenAssumption",
    "Check",
    "CrossXAIError",
    "Dice",
    "InvalidFile",
    "InvalidInput",
    "Largest",
    "LibraryFailed",
    "MissingDependency",
    "Modality",
    "ModelFailed",
    "Question",
    "Scores",
    "Target",
    "UnknownName",
    "Unsupported",
    "check",
]

guard()

"""The contract of models, explainers and metrics, as functions that a plug-in's own tests call; no test framework needed.

Each raises `AssertionError` with a sentence on what is broken, and returns what could not be checked, or was refused, in words.
"""

from crossxai.testing.explainers import check_explainer
from crossxai.testing.metrics import check_metric
from crossxai.testing.models import check_model
from crossxai.testing.oracles import Counting, colours_question, linear_question
from crossxai.testing.parity import assert_parity

__all__ = [
    "Counting",
    "assert_parity",
    "check_explainer",
    "check_metric",
    "check_model",
    "colours_question",
    "linear_question",
]

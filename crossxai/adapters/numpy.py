"""Any callable on NumPy arrays as a model: scores only, for perturbation explainers and for every metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from crossxai.adapters.checks import MeanSd, check_inputs, check_outputs, constants, model_failed
from crossxai.adapters.describing import Described
from crossxai.errors import CrossXAIError, InvalidInput
from crossxai.model import Array, Inputs, Modality
from crossxai.outputs import Outputs
from crossxai.process import foreign


class FunctionModel(Described):
    """A function of one array per modality that returns outputs (n, *out), class axis last, such as `predict_proba`.

    Parameters
    ----------
    function : callable, called with one array (n, *axes) per modality, copies that it may keep; it gives no gradients
    modalities : tuple of Modality, the inputs in the order of the function's arguments
    standardise : mapping of str to (mean, sd), optional, by modality: subtracted and divided by, so that maps stay in raw values
    output_axes : tuple of str, the axes of the outputs after the sample axis, ("class",) or ("y", "x", "class")
    outputs : {"logits", "probabilities", "log_probabilities", "values"}, optional, what they are; measured if not given
    name : str, the name in messages, files and reports

    Raises
    ------
    InvalidInput: if the function cannot be called, or a declaration does not fit
    """

    framework = "a function of NumPy arrays"

    def __init__(
        self,
        function: Callable[..., Any],
        modalities: tuple[Modality, ...],
        *,
        standardise: Mapping[str, MeanSd] | None = None,
        output_axes: tuple[str, ...] = ("class",),
        outputs: Outputs | None = None,
        name: str = "function",
    ) -> None:
        if not callable(function):
            raise InvalidInput(f"FunctionModel takes a callable, got {type(function).__name__}")
        super().__init__(name, modalities, output_axes, outputs)
        self.function = function
        self.standardise = dict(standardise or {})
        self._pairs = constants(standardise, self.modalities)

    @property
    def network(self) -> Callable[..., Any]:
        """The function."""
        return self.function

    def predict(self, inputs: Inputs) -> Array:
        """Outputs (n, *out) of the function, checked: as many rows as samples, real numbers."""
        check_inputs(inputs, self.modalities, self.name)
        try:  # with copies, which the function may keep: streams of metrics use their arrays again
            outputs = np.asarray(self.function(*map(self._standardised, inputs, self._pairs)))
        except CrossXAIError:
            raise
        except foreign() as error:
            raise model_failed(error, self.name, inputs) from error
        check_outputs(outputs.shape, self.output_axes, self.name)
        if len(outputs) != len(inputs[0]) or not np.issubdtype(outputs.dtype, np.number) or np.iscomplexobj(outputs):
            raise InvalidInput(
                f"model {self.name!r} returned {outputs.dtype} of shape {outputs.shape} for {len(inputs[0])} samples"
            )
        return outputs if np.issubdtype(outputs.dtype, np.floating) else outputs.astype(np.float64)

    @staticmethod
    def _standardised(values: Array, pair: tuple[Array, Array]) -> Array:
        """A copy, standardised; the values as they are where nothing is declared."""
        mean, sd = pair
        if not mean.any() and (sd == 1).all():
            return values.copy()
        standardised: Array = ((values - mean) / sd).astype(values.dtype)
        return standardised

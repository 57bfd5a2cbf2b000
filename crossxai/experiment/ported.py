"""A model brought to the other framework: the network, its certificate, and the files that a colleague gets."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.adapters import recognition
from crossxai.conventions.certificate import certify
from crossxai.conventions.certificate_result import Certificate, LayerPair
from crossxai.errors import InvalidInput
from crossxai.experiment.loading import weights_digest
from crossxai.files.atomic import replacing, write_text
from crossxai.files.tasks import version
from crossxai.model import Model
from crossxai.porting import Framework, twin
from crossxai.question import Question
from crossxai.version import __version__

PACKAGES = ("torch", "tensorflow", "keras", "numpy")


@dataclass(frozen=True, eq=False)
class Ported:
    """A model in the other framework.

    Attributes
    ----------
    module : keras.Model or torch.nn.Module
        The network, of ordinary layers, with the standardisation of its inputs; images channels last in Keras, first in torch.
    model : Model
        The same, wrapped.
    certificate : Certificate
        How far it is the same function, and explains alike.
    """

    module: Any
    model: Model
    certificate: Certificate
    original: Model
    framework: Framework

    def __repr__(self) -> str:
        return f"Ported({self.original.name} to {self.framework}; {self.certificate!r})"

    def save(self, folder: str | Path) -> Path:
        """Write the network and its certificate into a folder, made if there is none.

        Of Keras: model.keras, and layers.py where it has layers that Keras has not, to be imported before `load_model`. Of
        torch: network.py, which builds the network and needs torch alone, and weights.pt, its state_dict. Both: certificate.json.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.framework == "keras":
            from crossxai.porting import keras_source

            with replacing(folder / "model.keras") as temporary:
                named = temporary.with_name(f"{temporary.name}.keras")  # Keras asks for its ending
                try:
                    self.module.save(named)
                    named.replace(temporary)
                finally:
                    named.unlink(missing_ok=True)
            if text := keras_source.source(self.module):
                write_text(folder / "layers.py", text)
        else:
            import torch

            from crossxai.porting import torch_source

            text = torch_source.source(self.module, self._about, *self._ends)
            torch_source.check(text, self.module)
            write_text(folder / "network.py", text)
            with replacing(folder / "weights.pt") as temporary:
                torch.save(torch_source.weights_of(self.module), temporary)
        write_text(folder / "certificate.json", json.dumps(self.facts(), indent=1))
        return folder

    def facts(self) -> dict[str, Any]:
        """The certificate with what it is about, as JSON takes it."""
        return {
            **facts(self.certificate),
            "to": self.framework,
            "weights": {"original": weights_digest(self.original), "ported": weights_digest(self.model)},
        }

    @property
    def _about(self) -> str:
        name = re.sub(r"[^\w .:@/-]", "_", self.original.name)  # it stands in a docstring
        return f"The network {name}, ported to PyTorch by CrossXAI {__version__}."

    @property
    def _ends(self) -> tuple[str, str]:
        given = [
            f"{m.name} ({', '.join(('n', m.axes[-1], *m.axes[:-1]) if m.spatial else ('n', *m.axes))})"
            for m in self.original.modalities
        ]
        axes = getattr(self.original, "output_axes", ("class",))
        return ", ".join(given) + ", raw values", f"(n, {', '.join((axes[-1], *axes[:-1]))})"


def port_model(question: Question, to: Framework) -> Ported:
    """The question's model in the other framework, with a certificate on its samples."""
    model = question.model
    if to not in ("keras", "torch"):
        raise InvalidInput(f'to is "keras" or "torch", got {to!r}')
    rebuilt = twin(model, question.inputs, to, trains=True)
    declared: dict[str, Any] = {
        "output_axes": getattr(model, "output_axes", ("class",)),
        "outputs": getattr(model, "outputs", None),
    }
    ported = recognition.wrap(rebuilt.module, name=f"{model.name}-{to}", modalities=model.modalities, **declared)
    certificate = certify(question, replace(question, model=ported))
    return Ported(rebuilt.module, ported, certificate, model, to)


def facts(certificate: Certificate) -> dict[str, Any]:
    """A certificate as JSON takes it."""
    first = certificate.first
    return {
        "one": certificate.one,
        "other": certificate.other,
        "holds": certificate.holds,
        "first_layer_that_differs": None if first is None else _pair(first),
        "causes": [[str(switch) for switch in some] for some in certificate.causes],
        "lines": [
            {
                **asdict(line),
                "value": line.value if np.isfinite(line.value) else None,
                "limit": line.limit,
                "holds": line.holds,
            }
            for line in certificate.lines
        ],
        "layers_dtype": certificate.layers_dtype,
        "layers": [_pair(pair) for pair in certificate.layers],
        "norms": [_pair(pair) for pair in certificate.norms],
        "versions": {"crossxai": __version__, **{name: found for name in PACKAGES if (found := version(name))}},
    }


def _pair(pair: LayerPair) -> dict[str, Any]:
    """JSON knows no infinity."""
    return {**asdict(pair), "distance": pair.distance if np.isfinite(pair.distance) else None}

"""A model brought to the other framework: the network, its certificate, and the files that a colleague gets."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossxai.adapters import recognition
from crossxai.adapters.returned import entries, leaves
from crossxai.conventions.certificate import certify
from crossxai.conventions.certificate_result import Certificate
from crossxai.errors import InvalidInput, Unsupported
from crossxai.experiment.loading import about_network, framework_of, weights_digest
from crossxai.files.atomic import replacing, write_text
from crossxai.model import Model
from crossxai.porting import Framework, twin
from crossxai.question import Question
from crossxai.version import __version__


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

    def _repr_html_(self) -> str:
        return self.certificate._repr_html_()

    def save(self, folder: str | Path, *, samples: str = "", command: str = "") -> Path:
        """Write the network and its certificate into a folder, made if there is none.

        Of Keras: model.keras, and layers.py where it has layers that Keras has not, to be imported before `load_model`. Of
        torch: network.py, which builds the network and needs torch alone, weights.pt, its state_dict, and network.pt2, a program
        of torch.export for samples of this size, with a warning where torch cannot write one. Both: certificate.json and
        certificate.html, the page, which shows one of the samples.

        Parameters
        ----------
        folder : path
        samples : str, where the samples come from, in words for the page
        command : str, what measures again, for the page; lines of Python if not given

        Returns
        -------
        Path, the folder's
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = self._save_keras(folder) if self.framework == "keras" else self._save_torch(folder)
        place = folder / "certificate.json"
        save_certificate(place, self.certificate, self.original, self.model, self.framework, files, samples, command)
        return folder

    def _save_keras(self, folder: Path) -> list[Path]:
        from crossxai.porting import keras_source

        model, layers = folder / "model.keras", folder / "layers.py"
        with replacing(model) as temporary:
            named = temporary.with_name(f"{temporary.name}.keras")  # Keras asks for its ending
            try:
                self.module.save(named)
                named.replace(temporary)
            finally:
                named.unlink(missing_ok=True)
        if not (text := keras_source.source(self.module)):
            return [model]
        write_text(layers, text)
        return [model, layers]

    def _save_torch(self, folder: Path) -> list[Path]:
        import torch

        from crossxai.porting import torch_program, torch_source

        network, weights, program = (folder / name for name in ("network.py", "weights.pt", "network.pt2"))
        text = torch_source.source(self.module, self._about, *self._ends)
        alone = torch_source.check(text, self.module)
        write_text(network, text)
        with replacing(weights) as temporary:
            torch.save(torch_source.weights_of(self.module), temporary)
        try:
            exported = torch_program.program(alone, self.module)
        except Unsupported as error:
            program.unlink(missing_ok=True)  # that of an earlier port
            warnings.warn(f"{program.name} is not written: {error}", stacklevel=3)
            return [network, weights]
        with replacing(program) as temporary:
            torch.export.save(exported, temporary)
        return [network, weights, program]

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
        shape, returns = f"(n, {', '.join((axes[-1], *axes[:-1]))})", self.module.graph.returns
        if entries(returns) is None:
            return ", ".join(given) + ", raw values", shape
        every = ", ".join(path for path, _ in leaves(returns))
        return ", ".join(
            given
        ) + ", raw values", f"a {type(returns).__name__} of {every}; {self.module.graph.path}: {shape}"


def port_model(question: Question, to: Framework) -> Ported:
    """The question's model in the other framework, with a certificate on its samples."""
    model = question.model
    if to not in ("keras", "torch"):
        raise InvalidInput(f'to is "keras" or "torch", got {to!r}')
    rebuilt = twin(model, question.inputs, to, trains=True)
    declared: dict[str, Any] = {
        "output_axes": getattr(model, "output_axes", ("class",)),
        "outputs": getattr(model, "outputs", None),
        "output": rebuilt.graph.path or None,
    }
    ported = recognition.wrap(rebuilt.module, name=f"{model.name}-{to}", modalities=model.modalities, **declared)
    certificate = certify(question, replace(question, model=ported))
    return Ported(rebuilt.module, ported, certificate, model, to)


def save_certificate(
    path: Path,
    certificate: Certificate,
    one: Model,
    other: Model,
    ported: str = "",
    files: Sequence[Path] = (),
    samples: str = "",
    command: str = "",
) -> Path:
    """Write the certificate of two models as JSON to a path, and as a page beside it; return the path of the page."""
    from crossxai.report.certificate import About, Network, write_certificate  # draws, with matplotlib

    ours, theirs = (
        Network(model.name, framework_of(model), weights_digest(model), **about_network(model))
        for model in (one, other)
    )
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return write_certificate(path, certificate, About((ours, theirs), ported, hashes, samples, command))

"""The page of a certificate: are two networks one function, by how much do they differ, and where first?"""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossxai.conventions.certificate_result import LIMITS, Certificate, LayerPair, Line
from crossxai.conventions.convention import convention
from crossxai.files.atomic import write_text
from crossxai.files.tasks import versions
from crossxai.report import words
from crossxai.report.html import environment
from crossxai.report.plots.certificate import layers_picture, maps_picture
from crossxai.version import __version__

PACKAGES = ("torch", "tensorflow", "keras", "captum", "numpy")


@dataclass(frozen=True)
class Network:
    """One of both networks.

    framework: its adapter's. weights: their sha256. recognised: what it was taken for, a sentence each. random: whether nobody
    trained it.
    """

    name: str
    framework: str = ""
    weights: str = ""
    recognised: Sequence[str] = ()
    random: bool = False


@dataclass(frozen=True)
class About:
    """What a certificate is of.

    ported: where the other network was made of the one by us, the framework that it was brought to. files: name -> sha256.
    samples: where they come from, in words. command: what measures again.
    """

    networks: tuple[Network, Network]
    ported: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    samples: str = ""
    command: str = ""


@dataclass(frozen=True)
class Measured:
    """One thing that was measured, in both precisions where it was."""

    name: str
    single: Line | None
    double: Line | None

    @property
    def lines(self) -> list[Line]:
        """Those there are."""
        return [line for line in (self.single, self.double) if line is not None]

    @property
    def holds(self) -> bool:
        """Whether all of them are rounding."""
        return all(line.holds for line in self.lines)

    @property
    def reason(self) -> str:
        """Why it was not measured; "" where it was."""
        return next((line.reason for line in self.lines if line.reason), "")


@dataclass(frozen=True)
class Group:
    """All of one kind."""

    kind: str
    rows: tuple[Measured, ...]

    @property
    def holds(self) -> bool:
        """Whether all of it is rounding."""
        return all(row.holds for row in self.rows)

    @property
    def reason(self) -> str:
        """Why none of it was measured; "" where some was."""
        return min(self.rows, key=lambda row: bool(row.reason)).reason

    @property
    def single(self) -> Line | None:
        """The worst in float32."""
        return _worst(row.single for row in self.rows)

    @property
    def double(self) -> Line | None:
        """The worst in float64."""
        return _worst(row.double for row in self.rows)


@dataclass(frozen=True)
class Verdict:
    """What the page begins with.

    quoted: the line whose number is told, the worst of the first kind that fails, else of the outputs. digits: how many digits
    outputs agree to in float64, as a share of how far they vary; 0 where that was not measured. causes: the conventions that make
    the one behave as the other does, what each is about and its option; turned: the other as the one.
    """

    holds: bool
    quoted: Line | None
    digits: int
    trains_otherwise: bool
    other_shapes: bool
    causes: tuple[tuple[str, str], ...]
    turned: bool
    first: LayerPair | None


def write_certificate(path: Path, certificate: Certificate, about: About) -> Path:
    """Write the certificate as JSON to a path and as a page beside it; return the path of the page."""
    facts = certificate_facts(certificate, about)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path.with_suffix(".json"), json.dumps(facts, indent=1))
    page = path.with_suffix(".html")
    write_text(page, _rendered("certificate.html.j2", certificate, about=about, facts=facts, file=path.stem))
    return page


def certificate_html(certificate: Certificate) -> str:
    """The verdict, the layers and the worst of each kind, for a notebook."""
    return _rendered("certificate_short.html.j2", certificate)


def certificate_facts(certificate: Certificate, about: About) -> dict[str, Any]:
    """A certificate with what it is of, as JSON takes it."""
    first = certificate.first
    return {
        "one": certificate.one,
        "other": certificate.other,
        "holds": certificate.holds,
        "first_layer_that_differs": None if first is None else _pair(first),
        "causes": [[str(switch) for switch in some] for some in certificate.causes],
        "lines": [
            {**asdict(line), "value": _finite(line.value), "limit": line.limit, "holds": line.holds}
            for line in certificate.lines
        ],
        "layers_dtype": certificate.layers_dtype,
        "layers": [_pair(pair) for pair in certificate.layers],
        "norms": [_pair(pair) for pair in certificate.norms],
        "weight_gradients": [_pair(pair) for pair in certificate.weights],
        "networks": [asdict(network) for network in about.networks],
        "to": about.ported,
        "samples": {"about": about.samples, "shapes": certificate.shapes, "sha256": certificate.sha256},
        "files": dict(about.files),
        "command": about.command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "crossxai": __version__,
            **versions(PACKAGES),
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
    }


def _rendered(template: str, certificate: Certificate, **more: Any) -> str:
    templates = environment(True)
    templates.filters["parts"] = parts
    return templates.get_template(template).render(
        certificate=certificate,
        one=certificate.one,
        other=certificate.other if certificate.other != certificate.one else f"{certificate.other} (2)",
        verdict=_verdict(certificate),
        groups=_groups(certificate),
        layers_limit=LIMITS["layers", certificate.layers_dtype],
        norms_limit=LIMITS["training", "float64"],
        weights_limit=LIMITS["weights", "float64"],
        larger=any(line.name.startswith("larger") and not line.reason for line in certificate.lines),
        layers_picture=layers_picture,
        maps_picture=maps_picture,
        **more,
    )


def _verdict(certificate: Certificate) -> Verdict:
    failing = [line for line in certificate.lines if not line.holds]
    outputs = [line for line in certificate.lines if line.kind == "outputs"]
    exact = max((line.value for line in outputs if line.dtype == "float64"), default=float("nan"))
    return Verdict(
        holds=certificate.holds,
        quoted=_worst([line for line in failing if line.kind == failing[0].kind] if failing else outputs),
        digits=int(-np.log10(max(exact, 1e-15))) if 0 <= exact < 1 else 0,
        trains_otherwise=certificate.trains_otherwise,
        other_shapes=certificate.other_shapes,
        causes=tuple(
            (convention(s.convention).about, convention(s.convention).words(s.option))
            for s in (certificate.causes[0] if certificate.causes else ())
        ),
        turned=certificate.models.turned,
        first=certificate.first,
    )


def _groups(certificate: Certificate) -> list[Group]:
    """Measurements by kind and by what they are on, in the certificate's order."""
    kinds: dict[str, dict[str, dict[str, Line]]] = {}
    for line in certificate.lines:
        kinds.setdefault(line.kind, {}).setdefault(line.name, {})[line.dtype] = line
    return [
        Group(kind, tuple(Measured(name, of.get("float32"), of.get("float64")) for name, of in rows.items()))
        for kind, rows in kinds.items()
    ]


def _worst(lines: Iterable[Line | None]) -> Line | None:
    """The largest of those beyond their limits, else the largest; in float32 where both are as bad."""
    known = [line for line in lines if line is not None and not line.reason]
    return max(
        known,
        key=lambda line: (not line.holds, line.dtype == "float32", np.nan_to_num(line.value, nan=np.inf)),
        default=None,
    )


def parts(share: float, whole: str = "") -> str:
    """A share of something, so that a reader can picture it: 34% of it, or 1 part in 490,000 of it."""
    of = f" of {whole}" if whole else ""
    if not np.isfinite(share):
        return "beyond measure"
    if share >= 10:
        return f"{words.brief(share)} times {whole or 'as much'}"
    if share >= 1e-3:
        return f"{words.percent(share, 0 if share >= 0.1 else 1)}{of}"
    if share < 1e-12:
        return f"less than 1 part in a million million{of}"
    one_in = float(f"{1 / share:.2g}")
    for size, name in ((1e9, " billion"), (1e6, " million")):
        if one_in >= size:
            return f"1 part in {one_in / size:g}{name}{of}"
    return f"1 part in {one_in:,.0f}{of}"


def _pair(pair: LayerPair) -> dict[str, Any]:
    return {**asdict(pair), "distance": _finite(pair.distance)}


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if np.isfinite(value) else None

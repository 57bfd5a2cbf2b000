"""What tells one task from another: hashes of samples, explainers, metrics and models, and the versions of libraries."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from typing import Any

import numpy as np

from crossxai.attribution import Metric, SampleMasks
from crossxai.files import Samples


def fingerprint(found: Samples) -> str:
    """sha256 over ids, labels and inputs."""
    digest = hashlib.sha256(repr(found.ids).encode())
    digest.update(found.labels.tobytes())
    for name, values in found.inputs.items():
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def version(package: str) -> str:
    """A package's installed version, "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def content(metric: Metric) -> list[str]:
    """A metric's name and parameters as built, arrays by their hash, so that other masks or seeds are another metric."""
    values = {name: getattr(metric, name) for name in getattr(metric, "__dataclass_fields__", {})}
    digests = {
        name: hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest() if isinstance(v, np.ndarray) else repr(v)
        for name, v in values.items()
    }
    return [metric.name, *(f"{name}={digest}" for name, digest in digests.items())]


def plain(params: Any) -> Any:
    """Parameters as JSON can hold them: masks by their size and hash."""
    if isinstance(params, dict):
        return {name: plain(value) for name, value in params.items()}
    return repr(params) if isinstance(params, SampleMasks) else params


def digest(content: dict[str, Any]) -> str:
    """sha256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

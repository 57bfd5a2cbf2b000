"""The HDF5 files that join explaining, evaluating and reporting; the format is specified in docs/file-format.md.

Every file is written under a temporary name and renamed, so that under its final name it is always whole.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from crossxai.errors import InvalidFile
from crossxai.files import remote
from crossxai.files.maps import read_attribution as read_attribution
from crossxai.files.maps import write_attribution as write_attribution
from crossxai.files.opening import FORMAT as FORMAT
from crossxai.files.opening import VERSION as VERSION
from crossxai.files.opening import ours as ours
from crossxai.files.records import Origin as Origin
from crossxai.files.records import Predictions as Predictions
from crossxai.files.records import Result as Result
from crossxai.files.records import Samples as Samples
from crossxai.files.records import Task as Task
from crossxai.files.results import read_result as read_result
from crossxai.files.results import write_result as write_result
from crossxai.files.samples import read_predictions as read_predictions
from crossxai.files.samples import read_samples as read_samples
from crossxai.files.samples import write_predictions as write_predictions
from crossxai.files.samples import write_samples as write_samples


def writable_folder(path: Path) -> Path:
    """Make a folder, and prove that a file can be written in it; raises `InvalidFile`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InvalidFile(f"cannot write in {path}: {error.strerror or error}; choose another by --out") from error
    remote.prove_writable(path)
    return path

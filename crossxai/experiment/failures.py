"""One failure is one row: its reason in words, and the traceback in a text file beside the run."""

from __future__ import annotations

import datetime
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from crossxai.errors import (
    BrokenAssumption,
    CrossXAIError,
    InvalidInput,
    MissingDependency,
    ModelFailed,
    UnknownName,
    Unsupported,
)
from crossxai.files.atomic import write_text
from crossxai.version import __version__

FOLDER = "failures"
HEAD = "CrossXAI failure"
LONGEST = 400  # characters of another library's message; the file has all of it
Status = Literal["unsupported", "failed"]


@dataclass(frozen=True)
class Failure:
    """model, and which explainer and metric on it, "" for the model itself; traceback: a file, relative to the run's folder."""

    model: str
    explainer: str
    metric: str
    reason: str
    traceback: str


class Failures:
    """Those of one run, in the folder `failures`; fresh: files of the last one are taken away."""

    def __init__(self, out: Path, fresh: bool = True) -> None:
        self._out = out
        self.rows: list[Failure] = []
        for path in out.glob(f"{FOLDER}/*/*.txt"):
            if fresh and _ours(path):
                path.unlink()

    def row(self, error: Exception, model: str, explainer: str = "", metric: str = "") -> tuple[Status, str]:
        """The status and the reason of a row: a clean refusal is "unsupported", anything else has "failed" and is kept.

        A model that cannot be asked at all, breaks what answers rely on, or raises has failed, however clear the words are.
        """
        if "KeyboardInterrupt" in repr(error):  # TensorFlow makes an error of its own of Ctrl-C
            raise KeyboardInterrupt from error
        refusals = (Unsupported, InvalidInput, UnknownName, MissingDependency)
        if explainer and isinstance(error, refusals) and not isinstance(error, BrokenAssumption | ModelFailed):
            return "unsupported", str(error)
        name = f"{explainer or 'model'}{f'.{metric}' if metric else ''}.txt"
        path = Path(FOLDER) / model / name
        about = f"{HEAD}: {explainer or 'the model'}{f', measured by {metric},' if metric else ''} on {model}"
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        trace = "".join(traceback.format_exception(error))
        write_text(self._out / path, f"{about}\ncrossxai {__version__}, {when}\n\n{trace}")
        # What was measured says all; of what was raised elsewhere the place may matter.
        ours = isinstance(error, CrossXAIError) and error.__cause__ is None
        reason = in_words(error) if ours else f"{in_words(error)} (traceback: {path.as_posix()})"
        self.rows.append(Failure(model, explainer, metric, reason, path.as_posix()))
        return "failed", reason

    def document(self) -> list[dict[str, Any]]:
        """For the manifest."""
        return [asdict(failure) for failure in self.rows]


def in_words(error: BaseException) -> str:
    """Our own messages as they are; another library's after its kind, on one line and not too long."""
    if isinstance(error, CrossXAIError):
        return str(error)
    text = " ".join(str(error).split())
    text = f"{text[:LONGEST]} …" if len(text) > LONGEST else text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(len(HEAD)) == HEAD
    except (OSError, UnicodeDecodeError):
        return False

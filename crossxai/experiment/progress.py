"""How far a run is: a bar on a terminal, elsewhere a line now and then; what its steps cost; and which of them failed."""

from __future__ import annotations

import datetime
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars

from crossxai.attribution import Attribution, Explainer, Metric, needs_explainer
from crossxai.batching import watching
from crossxai.errors import (
    BrokenAssumption,
    CrossXAIError,
    InvalidInput,
    MissingDependency,
    ModelFailed,
    StorageFailed,
    UnknownName,
    Unsupported,
    in_words,
)
from crossxai.evaluation import curves
from crossxai.explainers import Method
from crossxai.files.atomic import remove, write_text
from crossxai.files.remote import fetched
from crossxai.process import foreign
from crossxai.question import Question
from crossxai.version import __version__

EVERY = 30.0
"""Seconds between two lines, where there is no terminal."""


class Progress:
    """Counts the passes of one stage after the other, and says how much time each has left at its own pace, of which a
    model's first answer and what comes before it (loading, measuring assumptions) are no part."""

    def __init__(
        self,
        console: Console,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
        silent: bool = False,
        unit: str = "passes",
    ) -> None:
        self._console, self._every, self._clock, self._silent, self._unit = console, every, clock, silent, unit
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        rest = (TextColumn(unit), TextColumn("{task.fields[left]}"))
        self._bars = Bars(*columns, *rest, console=console, disable=silent or not console.is_terminal)
        self.stage("", 0)

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, title: str, total: int) -> None:
        """Begin a stage of so many passes."""
        self._name = title
        self._total, self._done = float(total), 0.0
        self._start = self._before = math.nan  # when the pace began, and passes that were done then; none yet
        self._last_line = self._clock()
        self._task = self._bars.add_task(title, total=total, left="", visible=total > 0)

    @contextmanager
    def step(self, name: str, cost: int, samples: int, announce: bool = True) -> Iterator[None]:
        """A step of the stage that costs so many passes, `samples` of them forward, which are counted as models run. At
        the end all of its cost is done, whatever was counted. announce: whether its end is worth a line."""
        until = min(self._total, self._done + cost)
        each = cost / max(1, samples)
        start, started = self._clock(), False

        def count(n: int) -> None:
            nonlocal started
            if not started:
                self._start, started = self._start + self._clock() - start, True
            self._advance(min(n * each, until - self._done))

        self.say(name)
        try:
            with watching(count):
                yield
        finally:
            # A method that runs the network by itself is seen at its end only.
            self._advance(until - self._done, silent=True)
        if announce:
            self._line(" done")

    def advance(self, passes: int) -> None:
        """So many passes more are done, which nobody watched."""
        self._advance(min(float(passes), max(0.0, self._total - self._done)))

    def skip(self, passes: int) -> None:
        """So many were done before, by a run that was stopped: they are no pace."""
        self._done += passes
        self._before += passes
        self._bars.update(self._task, completed=round(self._done), left=self._left())

    def finish(self, name: str) -> None:
        """The stage is done, with fewer passes than announced perhaps."""
        self._done = self._total
        self.say(name)
        if self._total:
            self._line()

    def say(self, name: str) -> None:
        """What is being done now."""
        self._name = name
        self._bars.update(self._task, description=name, completed=round(self._done), left=self._left())

    def seconds_left(self) -> float:
        """What this stage still takes at its pace so far; NaN before the second answer."""
        own = self._done - self._before
        return (self._clock() - self._start) / own * (self._total - self._done) if own > 0 else math.nan

    def _advance(self, passes: float, silent: bool = False) -> None:
        self._done += passes
        if passes and math.isnan(self._start):
            self._start, self._before = self._clock(), self._done
        self._bars.update(self._task, completed=round(self._done), left=self._left())
        if not silent and self._clock() - self._last_line >= self._every:
            self._line()

    def _line(self, state: str = "") -> None:
        if self._silent or self._console.is_terminal:
            return
        self._last_line = self._clock()
        left = f", {left}" if (left := self._left()) else ""
        self._console.print(
            f"{self._name}{state}: {round(self._done)} of {round(self._total)} {self._unit}{left}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip

    def _left(self) -> str:
        seconds = self.seconds_left()
        if not seconds > 0:
            return ""
        if seconds < 90:
            return f"{max(1, round(seconds))} s left"
        minutes = round(seconds / 60)
        return f"{minutes} min left" if minutes < 90 else f"{minutes / 60:.1f} h left"


def evaluation_cost(metric: Metric, question: Question, explainer: Explainer) -> tuple[int, int]:
    """(passes, forward ones) of a metric of the explained question, as `explaining_cost`; of its explanations, too."""
    try:
        own = len(question) * int(metric.passes(question)) if hasattr(metric, "passes") else 0
        if not needs_explainer(metric):
            return own, own
        times, (cost, forward) = metric.explanations(question, explainer), explaining_cost(explainer, question)
        return own + times * cost, own + times * forward
    except _expected():  # the same error is reported when its turn comes
        return len(question), len(question)


def explaining_cost(explainer: Explainer, question: Question) -> tuple[int, int]:
    """(passes, forward ones) of an explainer, a backward one counted as two; at least one, so that every task moves the bar."""
    try:
        forward, backward = explainer.cost(question) if isinstance(explainer, Method) else (1, 0)
    except _expected():  # the same error is reported when its turn comes
        forward, backward = 1, 0
    return len(question) * max(1, forward + 2 * backward), len(question) * max(1, forward)


def stream_cost(metrics: Mapping[str, Metric], question: Question, maps: Sequence[Attribution]) -> int:
    """Passes of metrics of the measured question."""
    try:
        return curves.passes(question, maps, [*metrics.values()])
    except _expected():  # the same error is reported when its turn comes
        return len(question)


def _expected() -> tuple[type[Exception], ...]:
    """What a cost may raise: refusals, errors of models and libraries, missing packages or files, too little memory."""
    return (CrossXAIError, *foreign(), ImportError, OSError, MemoryError)


FOLDER = "failures"
HEAD = "CrossXAI failure"
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
        for path in fetched(out, f"{FOLDER}/*/*.txt") if fresh else ():
            if _ours(path):
                remove(path)

    def row(self, error: Exception, model: str, explainer: str = "", metric: str = "") -> tuple[Status, str]:
        """The status and the reason of a row: a clean refusal is "unsupported", anything else has "failed" and is kept;
        so has a model that cannot run or breaks an assumption, however clear the message is. Raises a disk's `StorageFailed`."""
        if "KeyboardInterrupt" in repr(error):  # TensorFlow makes an error of its own of Ctrl-C
            raise KeyboardInterrupt from error
        if isinstance(error, StorageFailed):  # which is nobody's row
            raise error
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


def _ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(len(HEAD)) == HEAD
    except (OSError, UnicodeDecodeError):
        return False

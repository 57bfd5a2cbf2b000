"""Where commands print: results on stdout, for people or as JSON for programs, and everything else on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

WIDE = 10_000
"""Characters of a line where nobody sees a terminal: tables and sentences stay whole in a file or a pipe."""
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on stdout, and everything else on stderr.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print no progress and no notes: the result and errors alone.")
]


def results(as_json: bool = False, quiet: bool = False) -> Console:
    """The console of results for people: stdout, or stderr where stdout is for a program. As wide as it takes where it is no
    terminal, unless the environment says COLUMNS; without colours where it says NO_COLOR."""
    stream = sys.stderr if as_json else sys.stdout
    known = stream.isatty() or os.environ.get("COLUMNS", "").isdecimal()
    return Console(stderr=as_json, width=None if known else WIDE, quiet=quiet)


def notes(quiet: bool = False) -> Console:
    """The console of progress and notes: stderr."""
    return Console(stderr=True, quiet=quiet)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(plain(document), indent=1, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """What JSON can say: dataclasses, arrays and paths taken apart, NaN and infinity as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value

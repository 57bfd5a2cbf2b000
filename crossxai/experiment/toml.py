"""Keys and values as TOML writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else value(name)


def value(given: Any) -> str:
    """A value; entries of a table that are None are left out, since TOML has no word for them."""
    if isinstance(given, Mapping):
        inside = ", ".join(f"{key(str(name))} = {value(item)}" for name, item in given.items() if item is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(given, list | tuple):
        return f"[{', '.join(map(value, given))}]"
    if isinstance(given, bool | str):  # JSON's words, but for its pairs of surrogates and one control that TOML forbids
        return json.dumps(given, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(given)

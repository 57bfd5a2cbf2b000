"""Classes of our modules, with all that they use, as the text of a file of its own."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Collection
from types import ModuleType

OWN = "crossxai"


def excerpt(module: ModuleType, names: Collection[str]) -> tuple[list[str], list[str]]:
    """(imports, definitions): the named classes and functions and everything that they use, in the module's order.

    What comes from elsewhere in this package is taken in, too, so that the text needs none of it.
    """
    text = inspect.getsource(module)
    statements = ast.parse(text).body
    defined = {name: s for s in statements for name in _bound(s)}
    wanted, ahead = set(), list(names)
    while ahead:
        name = ahead.pop()
        if name in defined and name not in wanted:
            wanted.add(name)
            ahead += _names(defined[name])
    chosen = [s for s in statements if wanted.intersection(_bound(s))]
    used = {name for s in chosen for name in _names(s)}
    imports, definitions = [], []
    for s in statements:
        if not isinstance(s, ast.Import | ast.ImportFrom):
            continue
        taken = [a for a in s.names if (a.asname or a.name).partition(".")[0] in used]
        if not taken:
            continue
        if isinstance(s, ast.ImportFrom) and (s.module or "").partition(".")[0] == OWN:
            more = excerpt(importlib.import_module(str(s.module)), [a.name for a in taken])
            imports += more[0]
            definitions += more[1]
        else:
            s.names = taken
            imports.append(ast.unparse(s))
    definitions += [_text(text, s) for s in chosen]
    return list(dict.fromkeys(imports)), list(dict.fromkeys(definitions))


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a statement of a module defines."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [t.id for t in targets if isinstance(t, ast.Name)]


def _names(statement: ast.stmt) -> list[str]:
    return [node.id for node in ast.walk(statement) if isinstance(node, ast.Name)]


def _text(text: str, statement: ast.stmt) -> str:
    """A statement as it is written, its decorators included, without what only a type checker reads."""
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
    lines = text.splitlines()[first - 1 : statement.end_lineno]
    return "\n".join(line.partition("  # type: ignore")[0] for line in lines)

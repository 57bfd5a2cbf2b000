"""Prints one table of how the package is built: its size, its imports, its names, and what one deletion curve runs through.

    python benchmarks/structure.py [FOLDER …]

Each folder holds a `crossxai` (this repository if none is given), so that two versions stand side by side.
"""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

TRACE = """
import os, sys
import numpy as np
import crossxai
from crossxai import Attribution, Modality, Question, Target
from crossxai.evaluation.curves import Deletion

class Small:
    name, modalities = "small", (Modality.image(),)
    def predict(self, inputs):
        flat = inputs[0].reshape(len(inputs[0]), -1)
        return np.stack([flat.mean(axis=1), -flat.std(axis=1)], axis=1)

images = np.random.default_rng(0).random((4, 16, 16, 3)).astype(np.float32)
question = Question(Small(), (images,), Target.classes([0, 1, 0, 1], 2))
question.trusted()  # what is measured once per model is not the metric's
maps = Attribution((images,), Small.modalities, question.ids, "image")
seen, package = set(), os.path.dirname(crossxai.__file__) + os.sep
def profile(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(package) and code.co_name[0] != "<":
        seen.add((code.co_filename, code.co_qualname))
metric = Deletion(24)
sys.setprofile(profile)
metric(question, maps)
sys.setprofile(None)
print(len({file for file, _ in seen}), len({name for _, name in seen}))
"""


def main(folders: list[Path]) -> None:
    columns = [measures(folder) for folder in folders]
    print(f"| measure | {' | '.join(str(folder) for folder in folders)} |")
    print(f"| --- |{' ---: |' * len(folders)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(str(column[name]) for column in columns)} |")
    for folder in folders:
        for circle in circles(folder):
            print(f"circle: {', '.join(sorted(circle))}")


def measures(folder: Path) -> dict[str, int | float | str]:
    """Every measure of the package in a folder, by name."""
    package = folder / "crossxai"
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    found = circles(folder)
    twice = [name for name, count in Counter(_defined(trees)).items() if count > 1]
    documented = [len(doc.splitlines()) for doc in _public_docstrings(trees)]
    files, functions = _trace(folder)
    return {
        "Python files": len(texts),
        "lines": sum(text.count("\n") for text in texts.values()),
        "modules at the top": len([p for p in package.glob("*.py") if not p.name.startswith("__")]),
        "import circles (modules in them)": f"{len(found)} ({sum(map(len, found))})",
        "names defined in several modules": len(twice),
        "median docstring lines of public names": statistics.median(documented),
        "files that one Deletion(24) calls": files,
        "functions that one Deletion(24) calls": functions,
    }


def circles(folder: Path) -> list[set[str]]:
    """Sets of modules that import each other."""
    names = {_module(folder, path): path for path in sorted((folder / "crossxai").rglob("*.py"))}
    trees = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in names.items()}
    graph = {module: _imports(module, tree, names) for module, tree in trees.items()}
    return [component for component in _components(graph) if len(component) > 1]


def _module(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(module: str, tree: ast.Module, names: dict[str, Path]) -> set[str]:
    """Modules of ours that a module imports anywhere in it, inside functions and for type checkers too."""
    targets: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            targets.update(name if name in names else node.module for name in inner)
    return {target for target in targets if target in names and target != module}


def _components(graph: dict[str, set[str]]) -> Iterator[set[str]]:
    """Sets of modules that reach each other (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            found.append(set())
            while node not in found[-1]:
                found[-1].add(stack.pop())

    sys.setrecursionlimit(10_000)
    for node in graph:
        if node not in index:
            visit(node)
    yield from found


def _defined(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Names of classes and functions at the top of a module, once per module."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for tree in trees.values():
        yield from {node.name for node in tree.body if isinstance(node, kinds)}


def _public_docstrings(trees: dict[Path, ast.Module]) -> Iterator[str]:
    """Docstrings of public classes and functions at the top of a module; "" for none."""
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                yield ast.get_docstring(node) or ""


def _trace(folder: Path) -> tuple[int, int]:
    """Files and functions of ours that one deletion curve calls."""
    run = subprocess.run(
        [sys.executable, "-c", TRACE],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    files, functions = run.stdout.split()
    return int(files), int(functions)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent.parent
    main([Path(argument).resolve() for argument in sys.argv[1:]] or [here])

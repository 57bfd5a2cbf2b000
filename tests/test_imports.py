"""What importing costs and who may import whom; process safety in fresh interpreters, in both orders."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crossxai.errors import install_command

PACKAGE = Path(__file__).parents[1] / "crossxai"
HEAVY = ("torch", "tensorflow", "keras", "captum", "pytorch_grad_cam", "lime", "xplique", "cv2", "matplotlib")


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.process
@pytest.mark.parametrize(
    "code",
    [
        "import crossxai",
        "from crossxai.explainers import discover; assert len(discover()) >= 16",
        "from crossxai.evaluation import discover; assert len(discover()) >= 4",
        "import crossxai.experiment.run, crossxai.report",
        "import sys; sys.argv = ['crossxai', '--help']; from crossxai.cli import app\ntry: app()\nexcept SystemExit: pass",
        "import sys; sys.argv = ['crossxai', 'list']; from crossxai.cli import app\ntry: app()\nexcept SystemExit: pass",
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    done = python(f"{code}\nimport sys\nprint('LOADED', [m for m in {HEAVY!r} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("LOADED []")


STEP = "p = torch.zeros(1, requires_grad=True); p.sum().backward(); torch.optim.Adam([p]).step()"


@pytest.mark.process
@pytest.mark.parametrize(
    "imports",
    [
        "import crossxai, tensorflow, torch, torchvision",
        "import crossxai, torch, tensorflow, torchvision",
        "import crossxai, keras, torchvision, torch",
        "import tensorflow, crossxai, torchvision, torch",
        "import torch, tensorflow, crossxai, torchvision",
        "import torchvision, torch, tensorflow, crossxai",
        "import crossxai.adapters.tensorflow, crossxai.adapters.torch, torchvision, torch",
        "import crossxai, xplique.attributions, pytorch_grad_cam, torch",
    ],
)
def test_no_import_order_crashes(imports: str) -> None:
    """TensorFlow before triton kills the interpreter when torchvision or an optimiser comes: never with crossxai around."""
    done = python(f"{imports}\n{STEP}\nimport tensorflow as tf; print('ALIVE', float(tf.reduce_sum(tf.ones(3))))")
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert "ALIVE 3.0" in done.stdout


@pytest.mark.process
def test_one_core_is_enough() -> None:
    """Xplique's graph calls Python, which runs a Keras graph; with one TensorFlow thread they would wait for each other."""
    done = python(
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import sys; sys.path.insert(0, 'tests'); from networks import toys; from crossxai.explainers import get\n"
        "print('ALIVE', get('xplique.saliency')(toys.question(toys.keras_model())).values[0].shape)"
    )
    assert "ALIVE (3, 32, 32, 1)" in done.stdout, done.stderr[-2000:]


@pytest.mark.process
def test_openmp_waits_passively_unless_told() -> None:
    code = "import crossxai, os; print(os.environ['OMP_WAIT_POLICY'])"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "passive"
    assert python(code, OMP_WAIT_POLICY="active").stdout.strip() == "active"


@pytest.mark.process
def test_another_keras_backend_is_named() -> None:
    code = (
        "from crossxai.adapters.tensorflow import KerasModel; from crossxai import Modality; import keras\n"
        "try: KerasModel(keras.Sequential(), (Modality.image(),))\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    done = python(code, KERAS_BACKEND="torch")
    assert re.search("^InvalidInput .*torch.*KERAS_BACKEND=tensorflow", done.stdout)


BLOCK = """
import sys
class Hiding:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition('.')[0] in {blocked!r} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Hiding, sys.meta_path)
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("blocked", "name", "extra"),
    [
        ("captum", "captum.saliency", "captum"),
        ("pytorch_grad_cam", "gradcam.gradcam", "gradcam"),
        ("lime", "lime.image", "lime"),
        ("xplique", "xplique.saliency", "xplique"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(blocked: str, name: str, extra: str) -> None:
    code = BLOCK.format(blocked={blocked}) + (
        "sys.path.insert(0, 'tests')\nimport crossxai\nfrom networks import toys\nfrom crossxai.explainers import get\n"
        f"try: get({name!r})(toys.question(toys.torch_model()))\n"
        "except crossxai.MissingDependency as e: print('SAID', e)"
    )
    done = python(code)
    assert re.search(rf"SAID {name} .*{blocked}.*{re.escape(install_command(extra))}", done.stdout), done


@pytest.mark.process
def test_the_torch_half_runs_without_tensorflow_and_the_other_way_round() -> None:
    for blocked, model, names in (
        ({"tensorflow", "keras", "xplique"}, "torch_model", ("captum.saliency", "gradcam.gradcam", "lime.image")),
        ({"torch", "torchvision", "captum", "pytorch_grad_cam"}, "keras_model", ("xplique.saliency", "lime.image")),
    ):
        # The Keras toy takes its weights from torch, so the TensorFlow half gets a network of its own here.
        make = (
            "toys.torch_model()"
            if model == "torch_model"
            else "KerasModel(keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3), "
            "keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]), (toys.IMAGE,))"
        )
        setup = "" if model == "torch_model" else "import keras; from crossxai.adapters.tensorflow import KerasModel\n"
        code = BLOCK.format(blocked=blocked) + (
            "sys.path.insert(0, 'tests')\nfrom networks import toys\nfrom crossxai.explainers import get\n"
            f"{setup}question = toys.question({make})\n"
            f"for name in {names!r}: print(name, get(name)(question).values[0].shape)"
        )
        done = python(code)
        assert done.returncode == 0, done.stderr[-2000:]
        assert all(f"{name} (3, 32, 32" in done.stdout for name in names)


CORE = {
    "attention",
    "attribution",
    "batching",
    "device_stream",
    "devices",
    "documentation",
    "errors",
    "measures.detection",
    "measures",
    "model",
    "on_demand",
    "outputs",
    "plugins",
    "process",
    "question",
    "resizing",
    "target",
}
"""The seam: the modules at the top, and what a question measures of its model."""
CORE |= {
    f"assumptions.{name}"
    for name in (
        "cam_layers",
        "facts",
        "gradients",
        "inputs",
        "layout",
        "placing",
        "probes",
        "repeating",
        "slopes",
        "trust",
    )
}
# Files of the folders that need the seam and NumPy alone, which anyone may use.
CORE |= {
    "adapters.checks",
    "adapters.returned",
    "explainers.attention_tokens",
    "porting.graph",
    "version",
}
SHARED = {
    f"explainers.{path.stem}"
    for path in (PACKAGE / "explainers").glob("*.py")
    if path.stem != "__init__" and "    name: ClassVar = " not in path.read_text(encoding="utf-8")
}
"""What explainers share: the files of their folder that name no explainer themselves. A library's folder is its own."""
MAY: dict[str, set[str]] = {
    "adapters": CORE
    | {"porting", "loaders", "assumptions.checking", "assumptions.layer_facts", "assumptions.layer_table"}
    | {"adapters.describing", "adapters.retraining"}
    | {f"adapters.{path.stem}" for path in (PACKAGE / "adapters").glob("*.py") if "_" in path.stem},
    "explainers": CORE | {"porting"} | SHARED,
    "assumptions": CORE | {"assumptions", "porting"},
    "porting": CORE | {"porting"},
    "evaluation": CORE | {"evaluation"},
    "conventions": CORE | {"conventions", "explainers", "evaluation", "porting"},
    "testing": CORE | {"testing", "explainers.method", "api", "conventions"},
    "files": CORE | {"files"},
    "report": CORE
    | {"files", "report", "evaluation"}
    | {
        f"conventions.{name}"
        for name in (
            "agreement",
            "axioms",
            "certificate_result",
            "convention",
            "disagreement",
            "libraries",
            "result",
            "retraining",
            "sanity",
        )
    },
    "data": CORE | {"files", "data"},
    "loaders": CORE | {"loaders", "porting"},
    "experiment": CORE
    | {
        "adapters.recognition",
        "data",
        "evaluation",
        "experiment",
        "explainers",
        "files",
        "loaders",
        "report",
        "assumptions",
    }
    | {f"conventions.{name}" for name in ("agreement", "certificate", "certificate_result", "convention")}
    | {"porting"},
}


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere in it, without the package's name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crossxai"):
            module = (node.module or "").removeprefix("crossxai").lstrip(".")
            names = [a.name for a in node.names]
            inside = [n for n in names if (PACKAGE / module.replace(".", "/") / f"{n}.py").is_file()]
            found |= {f"{module}.{n}".lstrip(".") for n in inside}
            if len(inside) < len(names):
                found.add(module)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("crossxai").lstrip(".") for a in node.names if a.name.startswith("crossxai")}
    return found


@pytest.mark.parametrize("folder", sorted(MAY))
def test_who_may_import_whom(folder: str) -> None:
    place = PACKAGE / folder
    paths = [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else list(place.rglob("*.py"))
    assert paths
    for path in paths:
        for module in imported(path) - {""}:
            allowed = any(module == name or module.startswith(f"{name}.") for name in MAY[folder])
            allowed |= path.name == "__init__.py" and module.startswith(folder) and path.parent == place
            allowed |= (
                folder == "explainers"
                and path.parent != place
                and f"{module}.".startswith(f"explainers.{path.parent.name}.")
            )
            assert allowed, f"{path.relative_to(PACKAGE)} imports {module}"


def test_the_core_imports_nothing_above_it() -> None:
    for name in CORE:
        place = PACKAGE / name.replace(".", "/")
        above = (
            imported(place / "__init__.py" if place.is_dir() else place.with_suffix(".py")) - CORE - {"", "assumptions"}
        )
        assert not above, f"{name} imports {above}"
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(PACKAGE).as_posix()
        if not module.startswith(("cli/", "studies/")) and module != "__main__.py":
            assert not any(name.split(".")[0] in ("cli", "studies") for name in imported(path)), path


@pytest.mark.process
def test_the_command_line_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crossxai", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("crossxai ")

"""Plug-ins, installed for real: found, held to the contract, and named when they are broken."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from crossxai import Modality, Question, explainers, plugins
from crossxai.data import sources
from crossxai.errors import InvalidInput
from crossxai.experiment import loading, specification
from crossxai.explainers import Method
from crossxai.files import Samples
from crossxai.files.tasks import fingerprint
from crossxai.testing import linear_question

HERE = Path(__file__).parent
PLUGIN = HERE / "plugin"
DOCS = HERE.parent / "docs" / "plugins.md"


def install(source: Path, target: Path, built: Path) -> None:
    """With pip, from a copy, since building writes beside the source."""
    shutil.copytree(source, built)
    words = [
        "install",
        "--quiet",
        "--upgrade",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--disable-pip-version-check",
    ]
    subprocess.run([sys.executable, "-m", "pip", *words, "--target", str(target), str(built)], check=True, timeout=120)


def python(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        check=False,
    )


LIST = ("-c", "from crossxai.cli import app; app(['list'])")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    install(PLUGIN, target, tmp_path_factory.mktemp("source") / "plugin")
    return target


@pytest.mark.process
def test_a_plugin_is_listed(site: Path) -> None:
    done = python(site, *LIST)
    assert done.returncode == 0, done.stderr
    assert re.search(r"example\.contrast +│ gradients +│ native +│ gradient times difference", done.stdout)
    assert re.search(r"example\.top_drop +│ scores +│ higher +│ Drop of the score when", done.stdout)
    assert "not installed: pip install 'crossxai[example]'" not in done.stdout
    assert "Left out" not in done.stdout


@pytest.mark.process
def test_a_plugin_is_used_by_name_and_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    code = (
        "from crossxai import evaluation, explainers; from crossxai.testing import linear_question\n"
        "question, _ = linear_question()\n"
        "answer = explainers.get('example.contrast', times=0.0)(question)\n"
        "print('DROP', evaluation.get('example.top_drop')(question, answer).value.mean())"
    )
    done = python(site, "-c", code)
    assert float(done.stdout.split("DROP")[1]) > 0.1, done.stderr
    alone = shutil.copy(PLUGIN / "test_example.py", tmp_path)  # so that only the installed package is found
    done = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(alone))
    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.process
def test_a_data_source_is_used_by_name(site: Path) -> None:
    code = (
        "from crossxai.experiment import loading, specification\n"
        "given = {'models': [{'name': 'm'}], 'explainers': [{'name': 'controls.random'}], 'metrics': [{'name': 'deletion'}]}\n"
        "made = specification.check({**given, 'data': {'source': 'stripes', 'n': 4}})\n"
        "samples, about = loading.samples(made)\n"
        "print('FOUND', samples.classes, about['source'], len(samples.ids))\n"
        "try: specification.check({**given, 'data': {'source': 'stripes', 'root': '.'}})\n"
        "except Exception as error: print('SAID', error)"
    )
    done = python(site, "-c", code)
    assert "FOUND ('lies', 'stands') stripes 4" in done.stdout, done.stderr
    assert "data: stripes are drawn anew" in done.stdout


PACKAGE = """
[build-system]
requires = ["setuptools>=70"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1"
[project.entry-points."crossxai.explainers"]
{explainers}
[project.entry-points."crossxai.metrics"]
{metrics}
[tool.setuptools]
py-modules = ["{module}"]
"""

BROKEN = """
from dataclasses import dataclass
from typing import ClassVar
from crossxai.explainers import Method

@dataclass(frozen=True, kw_only=True)
class Thief(Method):
    name: ClassVar = "captum.saliency"
    library: ClassVar = "captum"
    summary: ClassVar = "mine"
    needs: ClassVar = "nothing"

@dataclass(frozen=True, kw_only=True)
class Twin(Thief):
    name: ClassVar = "example.contrast"

class Plain:
    name = "plain"

@dataclass(frozen=True)
class Deletion:
    name: ClassVar = "deletion"
    higher_is_better: ClassVar = True
    def __call__(self, question, attribution): ...

@dataclass(frozen=True)
class Mute:
    name: ClassVar = "mute"
    higher_is_better: ClassVar = True

@dataclass(frozen=True)
class Wordy:
    name: ClassVar = "wordy"
    higher_is_better: ClassVar = "yes"
    def __call__(self, question, attribution): ...

"""


@pytest.mark.process
def test_broken_plugins_are_named_and_break_nothing_else(
    site: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path / "zz"
    source.mkdir()
    (source / "zz_broken.py").write_text(BROKEN, encoding="utf-8")
    explainers = [
        'absent = "zz_absent_module:Thing"',
        'gone = "zz_broken:Gone"',
        'plain = "zz_broken:Plain"',
        'taken = "zz_broken:Twin"',
        'thief = "zz_broken:Thief"',
    ]
    metrics = ['deletion = "zz_broken:Deletion"', 'mute = "zz_broken:Mute"', 'wordy = "zz_broken:Wordy"']
    text = PACKAGE.format(
        name="zz-broken", module="zz_broken", explainers="\n".join(explainers), metrics="\n".join(metrics)
    )
    (source / "pyproject.toml").write_text(text, encoding="utf-8")
    both = tmp_path_factory.mktemp("both")
    shutil.copytree(site, both, dirs_exist_ok=True)
    install(source, both, tmp_path / "built")

    done = python(both, *LIST)
    assert done.returncode == 0, done.stderr
    assert "example.contrast" in done.stdout
    assert "captum.saliency" in done.stdout
    said = [line.partition("Left out: ")[2] for line in done.stdout.splitlines() if line.startswith("Left out: ")]
    wanted = [
        r"'absent' of package zz-broken: cannot be loaded: ModuleNotFoundError: No module named 'zz_absent_module'",
        r"'gone' of package zz-broken: cannot be loaded: AttributeError: module 'zz_broken' has no attribute 'Gone'",
        r"'plain' of package zz-broken: is <class 'zz_broken.Plain'>, not a dataclass that derives from",
        r"'taken' of package zz-broken: 'example.contrast' is a name that crossxai_example uses already",
        r"'thief' of package zz-broken: 'captum.saliency' is a name that CrossXAI uses already: choose another",
        r"'deletion' of package zz-broken: 'deletion' is a name that CrossXAI uses already: choose another",
        r"'mute' of package zz-broken: Mute lacks __call__",
        r"'wordy' of package zz-broken: Wordy lacks higher_is_better: bool",
    ]
    assert len(said) == len(wanted), said
    for line, words in zip(said, wanted, strict=True):
        assert re.search(words, line), (words, line)

    code = "from crossxai import explainers\ntry: explainers.get('zz.thing')\nexcept LookupError as e: print('SAID', e)"
    done = python(both, "-c", code)
    assert "SAID no explainer is called 'zz.thing'" in done.stdout
    assert "plug-in 'absent' of package zz-broken: cannot be loaded" in done.stdout


def test_the_documented_example_is_the_tested_one() -> None:
    text = DOCS.read_text(encoding="utf-8")
    blocks = [block for _, block in re.findall(r"```(python|toml)\n(.*?)```", text, flags=re.DOTALL)]
    assert (PLUGIN / "pyproject.toml").read_text(encoding="utf-8") in blocks
    assert (PLUGIN / "crossxai_example.py").read_text(encoding="utf-8") in blocks
    assert (PLUGIN / "test_example.py").read_text(encoding="utf-8") in blocks


def test_registered_commands_are_imported_when_they_are_called() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom crossxai.cli import app\n"
        "for words in (['--version'], ['--help'], ['data', 'medical', '--help']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0, words\n"
        "    print(sorted(m for m in sys.modules if m.startswith('crossxai.studies.') and m.endswith('.cli')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines() == ["[]", "[]", "['crossxai.studies.medical.cli']"], done.stderr


def test_a_source_without_tasks_refuses_one_in_its_own_words() -> None:
    for name in ("embedded", "pcam"):
        with pytest.raises(InvalidInput, match=f"source = '{name}' is a classification of patches and takes no task"):
            specification.check({"data": {"source": name, "task": "regression", "root": "."}})


def mistaken(returned: object) -> type[Method]:
    """An explainer whose `explain` returns this."""

    @dataclass(frozen=True, kw_only=True)
    class Mistaken(Method):
        name: ClassVar = "mistaken"
        library: ClassVar = "mine"
        summary: ClassVar = "wrong"
        needs: ClassVar = "nothing"

        def explain(self, question: Question) -> Any:
            return returned

    return Mistaken


@pytest.mark.parametrize("returned", [np.zeros((12, 8, 8, 1)), (np.zeros((12, 8, 8, 1)),), ((), {}), None])
def test_an_explainer_that_does_not_return_maps_and_extras_is_told_what_to_write(returned: object) -> None:
    question, _ = linear_question()
    with pytest.raises(InvalidInput, match=re.escape("explain must return (maps, extras)")):
        mistaken(returned)()(question)


class Source:
    """A data source as a newcomer writes it."""

    def __init__(self, given: object) -> None:
        self.given = given

    def problem(self, data: object) -> str:
        return ""

    def samples(self, experiment: object) -> object:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


def drawn(given: object, monkeypatch: pytest.MonkeyPatch) -> tuple[Samples, dict[str, Any]]:
    monkeypatch.setattr(sources, "get", lambda name: Source(given))
    return loading.samples(specification.check(EXPERIMENT))


EXPERIMENT = {
    "data": {"source": "mine"},
    "models": [{"name": "m"}],
    "explainers": [{"name": "controls.random"}],
    "metrics": [{"name": "deletion"}],
}


def test_a_source_may_return_samples_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"image": np.zeros((2, 8, 8, 3), np.float32)}
    given = Samples(["a", "b"], [Modality.image()], images, np.array([0, 1]), ["no", "yes"])  # type: ignore[arg-type]
    samples, about = drawn(given, monkeypatch)
    assert (samples.ids, samples.classes) == (("a", "b"), ("no", "yes"))
    assert about == {"source": "mine", "split": "", "n": 2, "description": "", "fingerprint": fingerprint(samples)}
    assert drawn((given, {"of": 9}), monkeypatch)[1]["of"] == 9


@pytest.mark.parametrize(
    ("given", "words"), [(None, "must return"), (KeyError("label"), "raises KeyError: 'label' (test_")]
)
def test_a_source_s_mistake_is_named(given: object, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match=re.escape("source 'mine'") + ".*" + re.escape(words)):
        drawn(given, monkeypatch)


def test_the_code_of_somebody_else_s_explainer_decides_its_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who edits a plug-in without a new version does not get the maps of before."""
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "zz_edited.py"
    module.write_text("class Edited: ...\n", encoding="utf-8")
    import zz_edited  # type: ignore[import-not-found]

    old = zz_edited.Edited
    before = plugins.code_of(old)
    module.write_text("class Edited: ...  # otherwise\n", encoding="utf-8")
    importlib.reload(zz_edited)
    assert before
    assert plugins.code_of(zz_edited.Edited) != before
    assert plugins.code_of(old) == before  # what runs is the code that was loaded
    assert plugins.code_of(type(explainers.get("captum.saliency"))) == ""

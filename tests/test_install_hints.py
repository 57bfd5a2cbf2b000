"""The command that a message tells to install what is missing works for how this package was installed."""

from __future__ import annotations

import json
from importlib import metadata
from typing import Any

import pytest

from crossxai.errors import MissingDependency, install_command

COMMIT = "0123abc"


@pytest.mark.parametrize(
    ("told", "command"),
    [
        (None, "pip install 'crossxai[timm]'"),  # from an index
        (
            {"url": "file:///home/me/my%20code", "dir_info": {"editable": True}},
            "pip install -e '/home/me/my code[timm]'",
        ),
        ({"url": "file:///home/me/crossxai", "dir_info": {}}, "pip install '/home/me/crossxai[timm]'"),
        (
            {"url": "file:///tmp/crossxai-1.0-py3-none-any.whl", "archive_info": {}},
            "pip install 'crossxai[timm] @ file:///tmp/crossxai-1.0-py3-none-any.whl'",
        ),
        (
            {"url": "https://host/crossxai.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
            f"pip install 'crossxai[timm] @ git+https://host/crossxai.git@{COMMIT}'",
        ),
    ],
)
def test_the_command_is_of_how_the_package_was_installed(
    told: dict[str, Any] | None, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            return json.dumps(told) if told and name == "direct_url.json" else None

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    assert install_command("timm") == command
    assert (
        str(MissingDependency("timm", "timm", "reading it"))
        == f"reading it needs timm, which is not installed: {command}"
    )


def test_a_package_that_is_not_installed_at_all_is_installed_from_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", lost)
    assert install_command("onnx") == "pip install 'crossxai[onnx]'"

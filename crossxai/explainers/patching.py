"""Names of a library's modules and classes, exchanged for as long as a call lasts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from crossxai.process import ALONE


@contextmanager
def patched(owners: Sequence[Any], **members: Any) -> Iterator[None]:
    """Modules or classes with these members inside; put back, or taken away, as they were found. One thread at a time."""
    with ALONE:
        before = [{name: vars(owner)[name] for name in members if name in vars(owner)} for owner in owners]
        try:
            for owner in owners:
                for name, member in members.items():
                    setattr(owner, name, member)
            yield
        finally:
            for owner, own in zip(owners, before, strict=True):
                for name in members:
                    if name in own:
                        setattr(owner, name, own[name])
                    elif name in vars(owner):
                        delattr(owner, name)

"""Names of a frontend that are imported when they are first used, so that a solve does not wait for them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def late(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """``__getattr__`` of the module ``package``, for the names of each of janode's modules."""
    homes = {name: home for home, own in names.items() for name in own}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(f"janode.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)
        return found

    return find

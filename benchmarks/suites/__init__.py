"""The suites of the benchmarks, one file each; the name of a file is the name of its suite."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def find_suite(name: str) -> Any:
    """The module of a suite."""
    return import_module(f"{__name__}.{name}")

"""The suite that proves on the user's machine that all libraries give the same numbers.

``compare`` and ``assert_conforms`` do the same for a user's own model. Nothing is loaded before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import ModelReport, assert_conforms, compare

__all__ = ["ModelReport", "assert_conforms", "compare"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import models

    return getattr(models, name)

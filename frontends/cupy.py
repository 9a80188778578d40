"""janode for CuPy: solve, and manual backprop through the solve. Arrays need a CUDA device; importing needs none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .late import late
from .manual_names import *  # noqa: F403
from .manual_names import LATE, NAMES

if TYPE_CHECKING:
    from .manual_late import *  # noqa: F403

__all__ = sorted(NAMES)

__getattr__ = late(__name__, LATE)


def __dir__() -> list[str]:
    return __all__

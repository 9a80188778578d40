"""janode for NumPy: solve, and manual backprop through the solve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .late import late
from .manual_names import *  # noqa: F403
from .manual_names import LATE, NAMES

if TYPE_CHECKING:
    from .manual_late import *  # noqa: F403
    from .numpy_ivp import IvpGradients as IvpGradients
    from .numpy_ivp import IvpResult as IvpResult
    from .numpy_ivp import IvpSolution as IvpSolution
    from .numpy_ivp import solve_ivp as solve_ivp
    from .numpy_ivp import solve_ivp_vjp as solve_ivp_vjp

_OWN = ("IvpGradients", "IvpResult", "IvpSolution", "solve_ivp", "solve_ivp_vjp")
__all__ = sorted([*NAMES, *_OWN])

__getattr__ = late(__name__, {**LATE, "numpy_ivp": _OWN})


def __dir__() -> list[str]:
    return __all__

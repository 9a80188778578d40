"""What LATE of manual_names stands for, for type checkers, which take it for names like any other."""

from __future__ import annotations

from .controls import *  # noqa: F403
from .manual_explain import *  # noqa: F403
from .manual_jvp import solve_jvp as solve_jvp
from .validity import *  # noqa: F403

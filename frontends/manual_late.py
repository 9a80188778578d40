"""What LATE of manual_names stands for, for type checkers, which take it for names like any other."""

from __future__ import annotations

from janode.core.auto import Auto as Auto
from janode.core.backsolve import Backsolve as Backsolve
from janode.core.events import Event as Event
from janode.core.revolve import Revolve as Revolve

from .controls import *  # noqa: F403
from .manual_explain import *  # noqa: F403
from .manual_jvp import solve_jvp as solve_jvp
from .validity import *  # noqa: F403

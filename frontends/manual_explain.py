"""What a gradient by manual backprop would take."""

from __future__ import annotations

from janode.core.plan import Plan

from .explain import make_explain
from .manual import solve_vjp

__all__ = ["Plan", "explain"]

explain = make_explain(solve_vjp)

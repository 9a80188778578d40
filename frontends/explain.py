"""What a gradient would take, before any step: the table of all exact adjoints for a problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from janode.core.auto import Explained
from janode.core.errors import InputError
from janode.core.plan import Plan, Planned


def explained(solve: Callable[..., Any], *problem: Any, memory_budget: float | None, **options: Any) -> Plan:
    """Print and return the plan of a solve and its gradient."""
    if "adjoint" in options:
        raise InputError(
            "explain: adjoint must not be given, for all are compared; got "
            f"{options['adjoint']!r}. Leave it out, and give memory_budget."
        )
    try:
        solve(*problem, adjoint=Explained(memory_budget), **options)
    except Planned as found:
        print(found.plan)
        return found.plan
    raise InputError(
        "explain: the problem must want a gradient; nothing in it does. Let y0, params, controls or ts require one."
    )


def make_explain(solve: Callable[..., Any]) -> Callable[..., Plan]:
    """``explain`` for the solve of a library."""

    def explain(
        field: Any, y0: Any, ts: Any, params: Any = None, *, memory_budget: float | None = None, **options: Any
    ) -> Plan:
        """Print what every exact gradient of a solve would take, and which one ``adjoint="auto"`` would choose.

        Args:
            field, y0, ts, params: the problem, as for ``solve``.
            memory_budget: as for :class:`Auto`.
            options: everything else that ``solve`` takes, but for the adjoint.

        Returns:
            The :class:`Plan`, whose text is what was printed.

        Raises:
            InputError: an argument breaks a rule of ``solve``; no gradient is wanted; or the budget is too small for
                any exact gradient: the least is named.

        Cost: one evaluation of the field and one with its pullback, if they were not measured before; no steps.
        """
        return explained(solve, field, y0, ts, params, memory_budget=memory_budget, **options)

    return explain

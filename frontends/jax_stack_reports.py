"""How near a stack of JAX blocks is to its inverse and to an ODE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.ode_gap import OdeGap, check_substeps, measure
from janode.core.protocols import Array, State

from .jax_residual import pose_stack
from .jax_stack import Unrolled


def residual_errors(
    block: Any, params: Any, x: Any, *extra: Any, scheme: str = "euler", step: float | None = None
) -> Array:
    """||x~_n - x_n|| / ||x_n|| for n = 0 .. N - 1: by how much the way back from x_N misses the states of a stack.

    Args: those of :func:`residual_stack`. The last entry is the error of one inverse step, the first that of all; the
    gradient by ``adjoint="reconstruct"`` is off by as much as the first, roughly.

    Raises:
        InputError: as :func:`residual_stack`.

    Cost: 2 e N evaluations and N states, e as there.
    """
    program, (state, *others), _ = pose_stack(block, params, x, extra, scheme, "reconstruct", step)
    return jnp.stack(program.stack(*others).reconstruction_errors(state))


def ode_gap(
    block: Any,
    params: Any,
    x: Any,
    *extra: Any,
    scheme: str = "euler",
    step: float | None = None,
    substeps: int = 4,
) -> OdeGap:
    """How far the states of a stack are from the ODE through its blocks. Not for use under ``jit``.

    Args: those of :func:`residual_stack`; ``substeps`` steps of rk4, >= 1, resolve the ODE between two blocks.

    Returns:
        Distances, the factors of the bound, depth doubling, smoothness: see :class:`OdeGap`.

    Raises:
        InputError: as :func:`residual_stack`; or substeps is less than 1.

    Cost: about 7 substeps N evaluations, one after the other, and N states.
    """
    check_substeps(substeps)
    program, (state, shared, constants, given), _ = pose_stack(block, params, x, extra, scheme, "symplectic", step)
    stack = program.stack(shared, constants, given)
    rows = list(given)
    if not program.is_listed:
        rows = [tuple(leaf[n] for leaf in given) for n in range(program.num_blocks)]
        field: Any = _Compiled(stack.field)
        backend: Any = Unrolled()
        stack = replace(stack, backend=backend, field=field, rows=(rows, [*rows[1:], rows[-1]]))
    return measure(stack, state, rows, substeps)


class _Compiled:
    """The field of equal blocks, each evaluation by one compiled function."""

    needs_time = False

    def __init__(self, field: Any) -> None:
        self._value = jax.jit(lambda y, row: field(None, y, row))
        self._pull = jax.jit(lambda y, row, f_bar: field.linearize(None, y, row).pull(f_bar)[1])

    def __call__(self, t: None, y: State, row: State) -> State:
        """The value of a block."""
        return self._value(y, row)

    def linearize(self, t: None, y: State, row: State) -> Any:
        """What pulls back to the block's input alone."""
        return _Pulled(lambda f_bar: self._pull(y, row, f_bar))


@dataclass(frozen=True)
class _Pulled:
    pullback: Callable[[State], State]

    def pull(self, f_bar: State) -> tuple[None, State, State]:
        """The cotangent of the block's input."""
        return None, self.pullback(f_bar), ()

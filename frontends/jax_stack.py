"""A stack of JAX blocks as a function of arrays alone: forward, and with the gradient of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from janode.backends.jax import JaxBackend
from janode.backends.registry import find_backend
from janode.core.loops import Loops
from janode.core.protocols import Array, Linearization, State
from janode.core.records import Carries, Nothing
from janode.core.residual import MEMORY_FREE, Stack, find_scheme

from .jax_cotangents import Wanted, filled, in_places, values
from .jax_field import ClosedField, JaxField

WHERE = "residual_stack"


class Unrolled(JaxBackend):
    """JAX's arithmetic with Python's loop: for blocks that differ."""

    scan = Loops.scan


class _Blocks:
    """The field of a stack: block n gets what all blocks share, and its own parameters."""

    needs_time = False

    def __init__(self, fields: Sequence[JaxField], shared: State, rows: Sequence[State] | None) -> None:
        self.fields, self.shared, self.rows = fields, shared, rows

    def __call__(self, t: None, y: State, row: Any) -> State:
        """The value of a block."""
        field, clock, theta = self._at(y, row)
        return field(clock, y, theta)

    def linearize(self, t: None, y: State, row: Any) -> Linearization:
        """The value and the pullback."""
        field, clock, theta = self._at(y, row)
        return field.linearize(clock, y, theta)

    def _at(self, y: State, row: Any) -> tuple[JaxField, Array, State]:
        clock = jnp.zeros((), y[0].real.dtype)
        if self.rows is None:
            return self.fields[0], clock, self.shared + row
        return self.fields[row], clock, self.shared + self.rows[row]


@dataclass(frozen=True, eq=False)
class Program:
    """What of a stack does not depend on the values of arrays; ``closed`` has one field, or one for each block."""

    scheme: str
    adjoint: str
    step: float
    num_blocks: int
    closed: tuple[ClosedField, ...]
    is_listed: bool

    def stack(self, shared: State, constants: Any, params: Any, wanted: Sequence[bool] = ()) -> Stack:
        """The steps for these arrays."""
        method = find_scheme(WHERE, self.scheme)
        if self.is_listed:
            fields: list[Any] = [JaxField(*each, False, wanted) for each in zip(self.closed, constants, strict=True)]
            last = self.num_blocks - 1
            rows: tuple[Any, ...] = ([*range(last + 1)], [*range(1, last + 1), last])
            backend: Any = Unrolled()
            listed: Any = _Blocks(fields, shared, params)
            return Stack(backend, method, listed, self.step, last + 1, rows)
        blocks: Any = _Blocks([JaxField(self.closed[0], constants, False, wanted)], shared, None)
        rows = (
            (params, tuple(jnp.concatenate([leaf[1:], leaf[-1:]]) for leaf in params)) if self.has_ends else (params,)
        )
        return Stack(find_backend("jax"), method, blocks, self.step, self.num_blocks, rows)

    @property
    def has_ends(self) -> bool:
        """Whether a step evaluates the next block at its end."""
        return self.scheme == "heun"

    def run(self, x: State, shared: State, constants: Any, params: Any) -> State:
        """The last state."""
        return self.stack(shared, constants, params).run(x)

    def differentiable(self) -> Callable[..., State]:
        """``run`` with the gradient of the core."""
        apply = jax.custom_vjp(self.run)

        def fwd(*primals: Any) -> tuple[State, Any]:
            wanted = Wanted.of(primals[1])
            x, *others = values(primals)
            stack = self.stack(*others)
            record: Any = Nothing() if self.adjoint in MEMORY_FREE else Carries()
            last, records = stack.forward(x, record)
            tape = last if self.adjoint in MEMORY_FREE else records
            return stack.method.output(last), (wanted, others, tape)

        def bwd(residuals: Any, bars: Any) -> tuple[Any, ...]:
            wanted, (shared, constants, params), tape = residuals
            stack = self.stack(shared, constants, params, wanted)
            some = tuple(leaf for is_wanted, leaf in zip(wanted, shared, strict=True) if is_wanted)
            start = stack.start_bars(filled(bars), some)
            if self.adjoint in MEMORY_FREE:
                _, found, sent = stack.pull_from_last(self.adjoint, tape, start)
            else:
                found, sent = stack.pull_kept(tape, start)
            shared_bar = in_places(found.shared, wanted, shared)
            params_bar = _of_listed(sent, self.has_ends) if self.is_listed else _of_stacked(sent, self.has_ends)
            return stack.method.start_vjp(found.carry), shared_bar, None, params_bar

        apply.defvjp(fwd, bwd, symbolic_zeros=True)
        return apply


def _of_stacked(sent: Any, has_ends: bool) -> State:
    """The cotangents of stacked parameters, from what the steps of each phase sent to the blocks of their stages."""
    starts = tuple(jnp.concatenate(leaves) for leaves in zip(*[phase[0] for phase in sent], strict=True))
    if not has_ends:
        return starts
    ends = sent[0][1]
    return tuple(a.at[1:].add(b[:-1]).at[-1].add(b[-1]) for a, b in zip(starts, ends, strict=True))


def _of_listed(sent: Any, has_ends: bool) -> tuple[State, ...]:
    """The same for blocks in a list."""
    steps = [step for phase in sent for step in phase]
    bars = [step[0] for step in steps]
    for n, step in enumerate(steps if has_ends else []):
        following = min(n + 1, len(bars) - 1)
        bars[following] = tuple(a + b for a, b in zip(bars[following], step[1], strict=True))
    return tuple(bars)

"""Events and dense output in JAX: what the solve reads from inside its steps, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.continuous import ContinuousRungeKutta
from janode.core.errors import InputError
from janode.core.events import Event, Happened, Watch
from janode.core.protocols import Array, Backend, State
from janode.core.solution import EventResult, Report
from janode.core.taps import Dense

jax.tree_util.register_dataclass(EventResult)


@dataclass(frozen=True)
class ClosedEvents:
    """Events as pure functions of their arrays: the jaxpr takes (constants they closed over, t, leaves of y)."""

    jaxpr: Any
    directions: tuple[int, ...]
    samples: int

    def watch(self, constants: Sequence[Array]) -> Watch:
        """What watches for them."""

        def values(t: Array, y: State, theta: State) -> tuple[Array, ...]:
            return tuple(map(jnp.asarray, jax.core.eval_jaxpr(self.jaxpr, constants, t, *y)))

        return Watch(values, self.directions, self.samples)


@dataclass(frozen=True)
class Taps:
    """What one solve reads from inside its steps."""

    events: tuple[Event, ...]
    is_dense: bool
    tree: Any
    """The structure of the state."""
    args: Sequence[Any]
    """What the field takes after t and y."""
    clock: int

    def closed_events(self, state: State) -> tuple[ClosedEvents | None, Sequence[Array]]:
        """(events closed over nothing, their constants, without gradient)."""
        if not self.events:
            return None, ()
        t = jax.ShapeDtypeStruct((), state[self.clock].real.dtype)
        closed = jax.make_jaxpr(self._values)(t, state)
        directions, samples = tuple(e.direction for e in self.events), max(e.samples for e in self.events)
        constants = jax.lax.stop_gradient([jnp.asarray(constant) for constant in closed.consts])
        return ClosedEvents(closed.jaxpr, directions, samples), constants

    def _values(self, t: Array, y: State) -> list[Array]:
        """The values of all events."""
        return [_value(event, t, jax.tree.unflatten(self.tree, y), self.args) for event in self.events]

    def result(self, report: Report, times: Array) -> EventResult[Any] | None:
        """The event that ended the solve; its time and state are functions of all that the solve depends on.

        The time follows from fn(t, y(t)) = 0: dt = -(change of fn with the time held fixed) / (d fn / dt).
        """
        if not self.events:
            return None
        happened: Happened = report.event
        found = happened.index >= 0
        t = jnp.where(found, happened.time, times[0])
        y = tuple(jnp.where(found, leaf, last) for leaf, last in zip(happened.y, report.last, strict=True))
        slope = tuple(jnp.where(found, leaf, 0.0) for leaf in happened.slope)

        def value(t: Array, y: State) -> Array:
            values = self._values(t.astype(y[self.clock].real.dtype), y)
            return jnp.take(jnp.stack(values), jnp.clip(happened.index, 0))

        fixed = jax.lax.stop_gradient((t, y, slope))
        _, rate = jax.jvp(value, fixed[:2], (jnp.ones_like(t), fixed[2]))
        rate = jax.lax.stop_gradient(jnp.where(found, rate, 1.0))
        shift = _shift(value(t, y), rate)
        missing = jnp.where(found, 0.0, jnp.nan)
        moved = [
            leaf + k * shift.astype(k.real.dtype) + missing.astype(k.real.dtype)
            for leaf, k in zip(y, slope, strict=True)
        ]
        return EventResult(happened.index, t + shift.astype(t.dtype) + missing, jax.tree.unflatten(self.tree, moved))

    def interpolant(self, ops: Backend, method: Any, report: Report, times: Array) -> ContinuousSolution | None:
        """The solution as a function of time."""
        if not self.is_dense:
            return None
        end = report.time if report.event is None else jnp.where(report.event.index < 0, report.time, report.event.time)
        return ContinuousSolution(ops, ContinuousRungeKutta(method.tableau), self.tree, report.dense, times[0], end)


def _value(event: Event, t: Array, y: Any, args: Sequence[Any]) -> Array:
    value = jnp.asarray(event.fn(t, y, *args))
    if value.size != 1 or jnp.iscomplexobj(value):
        raise InputError(
            f"solve: an event must return one real number; got shape {value.shape} and dtype {value.dtype}. Give "
            "several events as a list."
        )
    return value.reshape(())


@jax.custom_jvp
def _shift(value: Array, rate: Array) -> Array:
    """-(value - its present value) / rate: zero, with a first derivative alone."""
    return jnp.zeros_like(value)


@_shift.defjvp
def _shift_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    value, rate = primals
    return _shift(value, rate), _factor(rate, value) * tangents[0]


@jax.custom_jvp
def _factor(rate: Array, value: Array) -> Array:
    """-1 / rate, which depends on the value and cannot be differentiated again."""
    return -1.0 / rate


@_factor.defjvp
def _factor_jvp(primals: Any, tangents: Any) -> Any:
    raise InputError(
        "solve: events must be differentiated once; got a gradient of an event to differentiate again. Take finite "
        "differences of its gradient."
    )


@jax.tree_util.register_pytree_node_class
class ContinuousSolution:
    """y(t) between the ends of a solve, as each step's continuous extension has it; a pytree.

    It is continuous, and continuously differentiable if the extension is; its order is that of the extension, at least
    the method's less one for bosh3, dopri5, tsit5 and dopri8, and at most 3 for the other pairs. Gradients flow through
    it to all that the solve depends on, and to t. Outside the solve it is NaN.

    Attributes:
        t0, t1: the times between which it is known.

    Cost: room for the extended stages of ``max_steps`` steps is set aside.
    """

    def __init__(self, ops: Backend, pair: ContinuousRungeKutta, tree: Any, rows: Dense, t0: Array, t1: Array) -> None:
        self._ops, self._pair, self._tree, self._rows, self.t0, self.t1 = ops, pair, tree, rows, t0, t1

    def __call__(self, t: Any) -> Any:
        """The same as :meth:`evaluate`."""
        return self.evaluate(t)

    def evaluate(self, t: Any) -> Any:
        """The state at time t, or the states at an array of times along a new leading axis."""
        return self._mapped(t, is_slope=False)

    def derivative(self, t: Any) -> Any:
        """dy/dt of the continuous extension at time t, or at an array of times along a new leading axis."""
        return self._mapped(t, is_slope=True)

    def _mapped(self, t: Any, is_slope: bool) -> Any:
        times = jnp.asarray(t, dtype=self._rows.t.dtype)
        rises = jnp.where(self.t1 > self.t0, 1.0, -1.0)

        def at(t: Array) -> State:
            n = jnp.clip(jnp.searchsorted(rises * self._rows.t, rises * t, side="right") - 1, 0)
            row: Dense = self._ops.take(self._rows, n)
            x = (t - row.t) / row.h
            is_inside = (rises * (t - self.t0) >= 0.0) & (rises * (self.t1 - t) >= 0.0)
            found = (
                self._pair.slope(self._ops, row.slopes, x)
                if is_slope
                else self._pair.value(self._ops, row.y, row.slopes, row.h, x)
            )
            return tuple(jnp.where(is_inside, leaf, jnp.nan) for leaf in found)

        leaves = at(times) if times.ndim == 0 else jax.vmap(at)(times)
        return jax.tree.unflatten(self._tree, leaves)

    def tree_flatten(self) -> tuple[Any, Any]:
        """The arrays, and the rest."""
        return (self._rows, self.t0, self.t1), (self._ops, self._pair, self._tree)

    @classmethod
    def tree_unflatten(cls, rest: Any, arrays: Any) -> ContinuousSolution:
        """From the arrays and the rest."""
        return cls(*rest, *arrays)

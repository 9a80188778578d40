"""A field that brings its own VJP, as the user gives it and as the core sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from janode.core import arguments
from janode.core.errors import InputError
from janode.core.protocols import Array, Cotangent, State
from janode.core.solution import Stats

from .trees import Tree


@dataclass(frozen=True)
class Field:
    """A vector field together with its vector-Jacobian product, its Jacobian-vector product, or both.

    Args:
        fn: ``fn(t, y)``, with parameters and controls ``fn(t, y, params, control)``, or with one of them; returns
            dy/dt with the structure of y.
        vjp: takes what ``fn`` takes plus the cotangent ``f_bar`` of its output, and returns the cotangents of
            ``fn``'s arguments in their order, from ``(t_bar, y_bar)`` to ``(t_bar, y_bar, params_bar, control_bar)``;
            None stands for zero. Complex leaves: gradients are dL/dx + i dL/dy.
        jvp: takes what ``fn`` takes plus the tangents of these arguments in their order, from ``(t_dot, y_dot)`` to
            ``(t_dot, y_dot, params_dot, control_dot)``, each with the structure, shapes and dtypes of its argument,
            zeros included; returns the derivative of ``fn`` along them, with the structure of y.

    Example:
        >>> import numpy as np
        >>> decay = Field(lambda t, y, k: -k * y, lambda t, y, k, f_bar: (None, -k * f_bar, -np.sum(y * f_bar)))
    """

    fn: Callable[..., Any]
    vjp: Callable[..., Any] | None = None
    jvp: Callable[..., Any] | None = None

    def __call__(self, t: Array, y: Any, *args: Any) -> Any:
        """The value of the field."""
        return self.fn(t, y, *args)


def pushed(field: Any, point: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """(value, its derivative along the tangents) of what a user gave as field."""
    if hasattr(field, "push"):
        found: tuple[Any, Any] = field.push(*point, *tangents)
        return found
    return field(*point), field.jvp(*point, *tangents)


def check_count(where: str, bars: Any, expected: int) -> None:
    """Refuse what a user's vjp returned unless it is a tuple of as many cotangents."""
    if not isinstance(bars, tuple) or len(bars) != expected:
        got = f"{len(bars)} entries" if isinstance(bars, tuple) else type(bars).__name__
        raise InputError(
            f"{where}: the field's vjp must return a tuple of {expected} cotangents, one for each argument of "
            f"fn; got {got}. Return None for a cotangent that is zero."
        )


class _Pullback:
    """A field at one point, differentiated by the user's vjp; its value is computed once, if asked for."""

    def __init__(self, field: ManualField, t: Array, y: State, theta: State) -> None:
        self._field, self._t, self._y, self._theta = field, t, y, theta

    @cached_property
    def f(self) -> State:
        return self._field(self._t, self._y, self._theta)

    def pull(self, f_bar: State) -> tuple[Array | None, State, Cotangent]:
        field, t, y = self._field, self._t, self._y
        args = field.args(self._theta)
        bars = field.user.vjp(t, field.state.build(y), *args, field.state.build(f_bar))
        return field.cotangents(bars, t, y, self._theta)


class _Graph:
    """A network at one point, with its activations kept."""

    def __init__(self, field: ManualField, t: Array, y: State, theta: State) -> None:
        field.stats.num_field_evals += 1
        out, self._pull = field.user.linearize(t, field.state.build(y), *field.args(theta))
        self.f = field.checked(out, y)
        self._field, self._t, self._y, self._theta = field, t, y, theta

    def pull(self, f_bar: State) -> tuple[Array | None, State, Cotangent]:
        return self._field.cotangents(self._pull(self._field.state.build(f_bar)), self._t, self._y, self._theta)


class ManualField:
    """The user's field as the core sees it."""

    needs_time = True

    def __init__(
        self, where: str, user: Any, state: Tree, params: Tree, controls: Tree, zeros: Callable[..., State]
    ) -> None:
        self.where, self.user, self.state, self.params, self.controls = where, user, state, params, controls
        self.parts = [part for part in (params, controls) if part.spec is not None]
        self.stats = Stats()
        self._zeros = zeros
        self._args: tuple[State | None, list[Any]] = (None, [])
        self._is_pull_checked = False
        self._linearization = _Graph if hasattr(user, "linearize") else _Pullback

    def __call__(self, t: Array, y: State, theta: State) -> State:
        """The value, checked."""
        self.stats.num_field_evals += 1
        return self.checked(self.user(t, self.state.build(y), *self.args(theta)), y)

    def args(self, theta: State) -> list[Any]:
        """The pytrees of params and control, built once for calls with the same theta."""
        if self._args[0] is not theta:
            self._args = (theta, [part.build(leaves) for part, leaves in self.divided(theta)])
        return self._args[1]

    def divided(self, theta: State) -> Iterator[tuple[Tree, State]]:
        """The pytrees in theta, each with its leaves."""
        first = 0
        for part in self.parts:
            yield part, theta[first : first + len(part.leaves)]
            first += len(part.leaves)

    def checked(self, f: Any, y: State) -> State:
        """The leaves of what the field returned at y, after refusing what is not like y."""
        leaves, spec = self.state.flatten(f)
        arguments.check_structure(self.where, spec, self.state.spec)
        arguments.check_slope(self.where, leaves, y, self.state.paths)
        self.checked = self._checked_again  # type: ignore[method-assign]
        return leaves

    def _checked_again(self, f: Any, y: State) -> State:
        leaves, spec = self.state.flatten(f)
        if spec != self.state.spec or not arguments.is_like(leaves, y):
            return type(self).checked(self, f, y)  # which says what is wrong
        return leaves

    def linearize(self, t: Array, y: State, theta: State) -> Any:
        """The pullback at one point."""
        return self._linearization(self, t, y, theta)

    def push(
        self, t: Array, y: State, theta: State, t_dot: Array, y_dot: State, theta_dot: State
    ) -> tuple[State, State]:
        """(value, its derivative along the tangents), checked."""
        point = t, self.state.build(y), *self.args(theta)
        tangents = t_dot, self.state.build(y_dot), *[part.build(leaves) for part, leaves in self.divided(theta_dot)]
        self.stats.num_field_evals += 1
        f, f_dot = pushed(self.user, point, tangents)
        leaves = self.state.match(self.where, f_dot, "the output of the field's jvp", "Return a derivative like y.")
        value = self.checked(f, y)
        if any(leaf is None for leaf in leaves) or not arguments.is_like(leaves, y):
            got = [None if leaf is None else (tuple(leaf.shape), str(leaf.dtype)) for leaf in leaves]
            raise InputError(
                f"{self.where}: the field's jvp must return the derivative of fn, with the shapes and dtypes of y; got "
                f"{got}. Return zeros where it is zero."
            )
        return value, leaves

    def wanted(self, theta: State) -> State:
        """All of theta."""
        return theta

    def cotangents(self, bars: Any, t: Array, y: State, theta: State) -> tuple[Array | None, State, Cotangent]:
        """What a vjp of the user returned, checked, as leaves."""
        self.stats.num_vjps += 1
        check_count(self.where, bars, 2 + len(self.parts))
        y_bar = self.state.match(self.where, bars[1], "y_bar")
        theta_bar: Cotangent = ()
        for (part, leaves), bar in zip(self.divided(theta), bars[2:], strict=True):
            matched = part.match(self.where, bar, f"{part.name}_bar")
            if not self._is_pull_checked:
                arguments.check_cotangents(self.where, f"{part.name}_bar", matched, leaves, part.paths)
            theta_bar += matched
        if not self._is_pull_checked:
            arguments.check_cotangents(self.where, "t_bar", (bars[0],), (t,), ("t",))
            arguments.check_cotangents(self.where, "y_bar", y_bar, y, self.state.paths)
            self._is_pull_checked = True
        return bars[0], self.filled(y_bar, y), theta_bar

    def filled(self, bars: Cotangent, leaves: State) -> State:
        """The cotangents with zeros for None."""
        if all(bar is not None for bar in bars):
            return bars
        return tuple(z if bar is None else bar for z, bar in zip(self._zeros(leaves), bars, strict=True))

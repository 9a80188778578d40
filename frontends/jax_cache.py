"""Compiled solves for calls outside ``jit``, found again by what they compute.

Two solves share one compiled program if everything static in them is equal: method, grid, preset, and the structure of
the field's jaxpr with the values of its literals. Arrays, captured ones included, are arguments of the program, so none
of them can be stale. What cannot be compared by value, a callback for example, is compiled for each call.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from .jax_problem import Problem
from .jax_trees import is_traced

MAX_PROGRAMS = 128
_RULES = ("custom_jvp_call", "custom_vjp_call")


class _Entry:
    """A problem, equal to another if both have the same key."""

    def __init__(self, problem: Problem, key: Hashable) -> None:
        self.problem, self.key, self._hash = problem, key, hash(key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Entry) and self.key == other.key


@functools.lru_cache(maxsize=MAX_PROGRAMS)
def _program(entry: _Entry) -> Callable[..., Any]:
    return jax.jit(entry.problem.run)


def program(problem: Problem, is_transformed: bool) -> Callable[..., Any]:
    """``problem.run``, compiled once for all equal problems; ``is_transformed`` if it may be differentiated."""
    if is_traced(jnp.zeros(())):
        return problem.run  # within a jit, which compiles it
    if problem.bar is not None:
        return jax.jit(problem.run)  # a program holds its bar
    try:
        entry = _Entry(problem, _key(problem, is_transformed))
    except (TypeError, ValueError, NotImplementedError):  # no value to know it by, or no pullback
        return jax.jit(problem.run)
    return _program(entry)


def _key(problem: Problem, is_transformed: bool) -> Hashable:
    """All that the program depends on; a TypeError if something is not known by its value."""
    for part in (problem.method, problem.recovery):
        if part is not None and not getattr(getattr(part, "__dataclass_params__", None), "frozen", False):
            raise TypeError(f"{part!r} may change and is not known by its value")
    rest = [
        getattr(problem, entry.name) for entry in dataclasses.fields(problem) if entry.name not in ("field", "steps")
    ]
    reader, jaxpr = _Reader(), problem.field.jaxpr
    rest.append(problem.steps.known_by(reader.value))
    parts = [*problem.field[1:], reader.jaxpr(jaxpr, ())]
    if is_transformed and reader.rules:
        constants, inputs = ([atom.aval for atom in atoms] for atoms in (jaxpr.constvars, jaxpr.invars))
        closed = jax.make_jaxpr(lambda consts, args: jax.core.eval_jaxpr(jaxpr, consts, *args))(constants, inputs)
        known: set[Hashable] = set()
        # A rule is a Python function, known by what it does: by the jaxpr of the pullback. A rule that this one uses is
        # known by the pullback of that, and so on until no other turns up.
        while not reader.rules <= known:
            known = set(reader.rules)
            closed = _pullback(closed)
            parts.append(reader.value(closed))
    return (*rest, *parts)


def _pullback(closed: ClosedJaxpr) -> ClosedJaxpr:
    """The pullback of a closed jaxpr, (arguments, cotangents) -> cotangents, for all that has a derivative."""
    inputs, outputs = (
        [i for i, aval in enumerate(avals) if jnp.issubdtype(aval.dtype, jnp.inexact)]
        for avals in (closed.in_avals, closed.out_avals)
    )

    def pull(args: list[Any], bars: list[Any]) -> Any:
        def partial(*values: Any) -> list[Any]:
            given = dict(zip(inputs, values, strict=True))
            results = jax.core.eval_jaxpr(
                closed.jaxpr, closed.consts, *[given.get(i, arg) for i, arg in enumerate(args)]
            )
            return [results[i] for i in outputs]

        return jax.vjp(partial, *[args[i] for i in inputs])[1](bars)

    return jax.make_jaxpr(pull)(list(closed.in_avals), [closed.out_avals[i] for i in outputs])


class _Reader:
    """Writes jaxprs as nested tuples, equal only if the programs are; notes functions with a rule of their own."""

    def __init__(self) -> None:
        self.rules: set[Hashable] = set()

    def jaxpr(self, jaxpr: Jaxpr, consts: Sequence[Any]) -> Hashable:
        names: dict[Any, int] = {}

        def read(atom: Any) -> Hashable:
            return (atom.aval, self.value(atom.val)) if isinstance(atom, Literal) else names[atom]

        def write(variables: Sequence[Any]) -> Hashable:
            return tuple((names.setdefault(variable, len(names)), variable.aval) for variable in variables)

        parts: list[Hashable] = [write(jaxpr.constvars), write(jaxpr.invars), self.value(tuple(consts))]
        for eqn in jaxpr.eqns:
            inputs = tuple(map(read, eqn.invars))
            parts.append((eqn.primitive, eqn.ctx, self.parameters(eqn), inputs, write(eqn.outvars)))
        return (*parts, tuple(map(read, jaxpr.outvars)))

    def parameters(self, eqn: Any) -> Hashable:
        if eqn.primitive.name not in _RULES:
            return self.value(eqn.params)
        function = self.value(eqn.params["call_jaxpr"])
        self.rules.add(function)
        return function

    def value(self, value: Any) -> Hashable:
        if isinstance(value, ClosedJaxpr):
            return self.jaxpr(value.jaxpr, value.consts)
        if isinstance(value, Jaxpr):
            return self.jaxpr(value, ())
        if isinstance(value, tuple | list | frozenset):
            return (type(value), *map(self.value, value))
        if isinstance(value, dict):
            return tuple((name, self.value(value[name])) for name in sorted(value))
        if value is None or isinstance(value, bool | int | str | np.dtype | enum.Enum | type):
            return (type(value), value)
        if isinstance(value, float | complex) or hasattr(value, "__array__"):
            array = np.asarray(value)
            return (type(value), array.dtype, array.shape, hashlib.sha256(array.tobytes()).digest())
        is_constant = getattr(value, "__closure__", ()) is None or isinstance(value, jax.sharding.Mesh)
        is_plain = not callable(value) and not hasattr(value, "call_wrapped")
        if (is_constant or is_plain) and _module(value) in ("jax", "jaxlib"):
            return (type(value), value)
        raise TypeError(f"{value!r} is not known by its value")


def _module(value: Any) -> str:
    owner = value if hasattr(value, "__closure__") else type(value)
    return str(owner.__module__).split(".")[0]

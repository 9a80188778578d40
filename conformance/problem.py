"""What a problem of the suite is: a field written once for every array library, its inputs, and its true solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import optree

from janode.core.controls import control_times
from janode.core.events import Event
from janode.core.knots import Knots
from janode.core.methods import find_method

Tree = Any
"""A pytree of NumPy arrays."""


@dataclass(frozen=True)
class Problem:
    """An initial value problem whose solution is known.

    Attributes:
        name: as it stands in the ids of cases.
        field: the field on Array API calls, with its hand-written VJP: ``janode.array.Field`` or a network of
            ``janode.core.layers``. The manual frontends use both parts, torch and JAX only the value.
        draw: ``draw(rng) -> (y0, params)``, in float64 or complex128, from a NumPy Generator.
        ts: the times, all exact in float32.
            Methods that need equal steps run on the first of them that are equally spaced.
        steps: steps between neighbouring times when libraries are compared; few, for every method stays stable.
        condition: by how much rounding errors may grow on the way to a solution or a gradient; see ``tolerance``.
        solution: ``solution(y0, params, ts) -> ys``, exact or to more digits than float64 has; None if there is none.
        value: the field's value for complex arguments, where ``field`` refuses them.
        controls: ``controls(params, times)``, the controls at these times, or None for a field without.
        sampling: what the controls belong to: nodes, steps or knots.
        slopes: ``slopes(y0, params, times, ts)``, the gradient of the sum of the last state with respect to the
            controls as functions of time, where it is known in closed form.
        steps_back: whether it can be followed backwards in time, where what decays grows.
        tolerances: (rtol, atol) of a problem that is solved adaptively; ``steps`` then goes unused.
        extras: further options of the solve, as (name, value).
        knots, kind: the times of controls on knots, and how they are interpolated.
        event: what ends the solve, before the last of ts: only the states before it are compared, and the event itself.
        place: a time between steps at which the solution is read, too, or None.
    """

    name: str
    field: Any
    draw: Callable[[np.random.Generator], tuple[Tree, Tree]]
    ts: tuple[float, ...]
    steps: int
    condition: float
    solution: Callable[[Tree, Tree, tuple[float, ...]], Tree] | None
    value: Callable[..., Any] | None = None
    controls: Callable[[Tree, Any], Tree] | None = None
    sampling: str = "nodes"
    slopes: Callable[[Tree, Tree, Any, tuple[float, ...]], Tree] | None = None
    steps_back: bool = True
    tolerances: tuple[float, float] | None = None
    extras: tuple[tuple[str, Any], ...] = ()
    knots: tuple[float, ...] = ()
    kind: str = "linear"
    event: Event | None = None
    place: float | None = None

    def times(self, method: str) -> tuple[float, ...]:
        """The times at which a method solves the problem."""
        if not find_method(method).needs_equal_steps:
            return self.ts
        gaps = [b - a for a, b in pairwise(self.ts)]
        return self.ts[: 1 + next((i for i, gap in enumerate(gaps) if gap != gaps[0]), len(gaps))]

    @property
    def is_sampled(self) -> bool:
        """Whether it has controls at nodes or steps, which corrections are for."""
        return self.controls is not None and not self.knots

    def stepping(self) -> dict[str, Any]:
        """The steps, and what is read from inside them, as options of a solve."""
        if self.tolerances is None:
            return {"steps": self.steps, **dict(self.extras)}
        read: dict[str, Any] = {} if self.event is None else {"event": self.event}
        if self.place is not None:
            read["dense"] = True
        return {"rtol": self.tolerances[0], "atol": self.tolerances[1], **read, **dict(self.extras)}

    def given(self, controls: Tree) -> dict[str, Any]:
        """Controls, of any library, as the option of a solve."""
        if controls is None:
            return {}
        return {"controls": Knots(self.knots, controls, self.kind) if self.knots else controls}

    def states(self, ys: Tree) -> Tree:
        """The states at ts, those before the event."""
        return ys if self.event is None else optree.tree_map(lambda leaf: leaf[:-1, ...], ys)


@dataclass(frozen=True)
class Inputs:
    """What every target starts from: NumPy arrays whose values are exact in the target's precision."""

    y0: Tree
    params: Tree
    ts: tuple[float, ...]
    ys_bar: Tree
    controls: Tree = None
    event_bar: tuple[Any, Tree] | None = None
    """The cotangents of the time and the state of the event."""
    place_bar: Tree = None
    """That of the solution between steps."""


def draw_inputs(problem: Problem, method: str, single: bool) -> Inputs:
    """The inputs of a problem in double precision, after rounding them to single precision if asked for.

    ``ys_bar``, the cotangent of the states at all times, makes every gradient a random linear functional.
    """
    rng = np.random.default_rng(20_240_607)
    y0, params = problem.draw(rng)
    ts, controls = problem.times(method), None
    if problem.controls is not None:
        controls = problem.controls(params, np.asarray(_control_times(problem, method, ts)))

    def random(shape: tuple[int, ...], is_complex: bool = False) -> Any:
        bar = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)
        return bar + 1j * rng.uniform(0.5, 1.5, shape) if is_complex else bar

    def cotangent(leaf: np.ndarray[Any, Any], *first: int) -> Any:
        return random((*first, *leaf.shape), np.iscomplexobj(leaf))

    def rounded(leaf: np.ndarray[Any, Any]) -> Any:
        narrow = np.complex64 if np.iscomplexobj(leaf) else np.float32
        return leaf.astype(narrow).astype(leaf.dtype) if single else leaf

    ys_bar = optree.tree_map(lambda leaf: cotangent(leaf, len(ts)), y0)
    event_bar: Any = None
    place_bar: Any = None
    if problem.event is not None:
        for leaf in optree.tree_leaves(ys_bar):
            leaf[-1] = 0.0  # behind the event there is no solution
        event_bar = (random(()), optree.tree_map(cotangent, y0))
    if problem.place is not None:
        place_bar = optree.tree_map(cotangent, y0)
    trees: Any = (y0, params, ys_bar, controls, event_bar, place_bar)
    y0, params, ys_bar, controls, event_bar, place_bar = (optree.tree_map(rounded, tree) for tree in trees)
    return Inputs(y0, params, ts, ys_bar, controls, event_bar, place_bar)


def _control_times(problem: Problem, method: str, ts: tuple[float, ...]) -> Any:
    """Where controls are given: at their knots, in the middle of the intervals between them, or where steps sample."""
    if not problem.knots:
        return control_times(method, ts, steps=problem.steps, sampling=problem.sampling)
    if problem.kind == "constant":
        return [(a + b) / 2 for a, b in pairwise(problem.knots)]
    return problem.knots

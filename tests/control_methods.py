"""Discrete solves with time-dependent controls and their exact adjoints, by plain loops in NumPy.

Nothing here knows of the solver, so that it can be held against this. Complex controls pass through the forward solves:
a complex step differentiates them to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from janode.core.tableaus import EULER, Tableau
from tests.control_problems import Array, Problem, T


@dataclass(frozen=True)
class Run:
    """A discrete solve and its exact adjoint.

    Attributes:
        times: t_0 .. t_N.
        controls: the value of every node; ``places[m]`` is its time in steps from t_0.
        zs: z_0 .. z_N.
        lams: the total derivatives dL/dz_0 .. dL/dz_N.
        raw: dL/d(node), for all nodes.
        end: the value whose gradient this is, z_N or Gragg's smoothed one, as a function of the nodes.
        end_bar: its cotangent.
        stages: for Runge-Kutta dL/d(stage's control), shape (N, s, ...), before nodes shared by stages are summed.
    """

    times: Array
    places: tuple[Fraction, ...]
    controls: Array
    zs: Array
    lams: Array
    raw: Array
    end: Callable[[Array], Array]
    end_bar: Array
    stages: Any = None

    @property
    def h(self) -> float:
        """The first step; the only one of a multistep method."""
        return float(self.times[1] - self.times[0])

    @property
    def node_times(self) -> Array:
        """The time of every node."""
        return time_of(self.times, self.places)

    def at_steps(self, rows: Array) -> Array:
        """The rows of the nodes t_0 .. t_N among those of all nodes."""
        return rows[[m for m, place in enumerate(self.places) if place.denominator == 1]]


def time_of(times: Array, places: Sequence[Fraction]) -> Array:
    """The times of places given in steps from t_0."""
    cells = [min(int(place), len(times) - 2) for place in places]
    return np.array(
        [times[n] + float(place - n) * (times[n + 1] - times[n]) for n, place in zip(cells, places, strict=True)]
    )


def uniform(num_steps: int) -> Array:
    return T * np.arange(num_steps + 1) / num_steps


# Explicit Runge-Kutta methods.


@cache
def used(tableau: Tableau) -> tuple[list[Fraction], list[list[float]], list[float]]:
    """(c, a, b) of the stages that the solution uses."""
    s = tableau.num_solution_stages
    return list(tableau.c[:s]), [list(row) for row in tableau.floats.a[:s]], list(tableau.floats.b[:s])


def _stages(problem: Problem, tableau: Tableau, z: Array, h: float, controls: Sequence[Array]) -> tuple[list, list]:
    """The stage inputs and values of one step."""
    _, a, _ = used(tableau)
    inputs: list[Array] = []
    k: list[Array] = []
    for row, theta in zip(a, controls, strict=True):
        inputs.append(z + h * sum((w * slope for w, slope in zip(row, k, strict=True)), 0.0 * z))
        k.append(problem.f(inputs[-1], theta))
    return inputs, k


def _pull_stages(
    problem: Problem, tableau: Tableau, inputs: list, h: float, controls: Sequence[Array], lam: Array, extra: Array
) -> tuple[Array, list[Array]]:
    """(dL/dz_n, stage gradients) from lam = dL/dz_{n+1} and an extra cotangent of k_1."""
    _, a, b = used(tableau)
    s = len(b)
    pulled: dict[int, Array] = {}
    raw: dict[int, Array] = {}
    for i in reversed(range(s)):
        v = h * (b[i] * lam + sum((a[j][i] * pulled[j] for j in range(i + 1, s)), 0.0 * lam))
        pulled[i], raw[i] = problem.pull(inputs[i], controls[i], v + extra if i == 0 else v)
    return lam + sum(pulled.values()), [raw[i] for i in range(s)]


def rk_places(tableau: Tableau, num_steps: int) -> tuple[list[list[int]], tuple[Fraction, ...]]:
    """(the node of each stage of each step, the places of the nodes); equal times are one node."""
    c, _, _ = used(tableau)
    places = sorted({n + node for n in range(num_steps) for node in c})
    rank = {place: m for m, place in enumerate(places)}
    return [[rank[n + node] for node in c] for n in range(num_steps)], tuple(places)


def rk_states(problem: Problem, tableau: Tableau, times: Array, nodes: list, controls: Array) -> list[Array]:
    """z_0 .. z_N."""
    _, _, b = used(tableau)
    zs = [problem.z0]
    for n, h in enumerate(np.diff(times)):
        _, k = _stages(problem, tableau, zs[-1], h, controls[nodes[n]])
        zs.append(zs[-1] + h * sum(w * slope for w, slope in zip(b, k, strict=True)))
    return zs


def runge_kutta(problem: Problem, tableau: Tableau, times: Array) -> Run:
    """A Runge-Kutta solve on any grid."""
    num_steps = len(times) - 1
    nodes, places = rk_places(tableau, num_steps)
    controls = problem.theta(time_of(times, places))
    zs = rk_states(problem, tableau, times, nodes, controls)
    end_bar = lam = problem.loss_bar(zs[-1])
    lams, stages = [lam], []
    raw = np.zeros_like(controls)
    for n in reversed(range(num_steps)):
        h = times[n + 1] - times[n]
        inputs, _ = _stages(problem, tableau, zs[n], h, controls[nodes[n]])
        lam, bars = _pull_stages(problem, tableau, inputs, h, controls[nodes[n]], lam, np.zeros_like(lam))
        lams.append(lam)
        stages.append(bars)
        np.add.at(raw, nodes[n], bars)

    def end(controls: Array) -> Array:
        return rk_states(problem, tableau, times, nodes, controls)[-1]

    stages_raw = np.array(stages[::-1])
    return Run(times, places, controls, np.array(zs), np.array(lams[::-1]), raw, end, end_bar, stages_raw)


# Leapfrog.


def _start_controls(problem: Problem, h: float, controls: Array, start: Tableau) -> Array:
    """The Euler start reads the node t_0; any other start reads controls of its own."""
    return controls[:1] if start is EULER else problem.theta(h * np.array(used(start)[0], dtype=float))


def leapfrog_states(problem: Problem, h: float, controls: Array, start: Tableau) -> list[Array]:
    """z_0 .. z_N."""
    _, _, b = used(start)
    _, k = _stages(problem, start, problem.z0, h, _start_controls(problem, h, controls, start))
    zs = [problem.z0, problem.z0 + h * sum(w * slope for w, slope in zip(b, k, strict=True))]
    for n in range(1, len(controls) - 1):
        zs.append(zs[n - 1] + 2 * h * problem.f(zs[n], controls[n]))
    return zs


def leapfrog(problem: Problem, num_steps: int, start: Tableau = EULER, ending: str = "plain") -> Run:
    """A leapfrog solve; ending "plain", "straight_through" or "smoothed"."""
    times = uniform(num_steps)
    h = times[1] - times[0]
    controls = problem.theta(times)

    def end(controls: Array) -> Array:
        zs = leapfrog_states(problem, h, controls, start)
        return zs[-1] if ending == "plain" else (zs[-1] + zs[-2] + h * problem.f(zs[-1], controls[-1])) / 2

    zs = leapfrog_states(problem, h, controls, start)
    end_bar = problem.loss_bar(end(controls) if ending == "smoothed" else zs[-1])
    raw = np.zeros_like(controls)
    lams = [np.zeros_like(problem.z0) for _ in range(num_steps + 2)]
    lams[num_steps] = end_bar
    if ending != "plain":
        pulled, raw[-1] = problem.pull(zs[-1], controls[-1], h * end_bar / 2)
        lams[num_steps], lams[num_steps - 1] = end_bar / 2 + pulled, end_bar / 2
    for n in range(num_steps - 1, 0, -1):
        pulled, raw[n] = problem.pull(zs[n], controls[n], 2 * h * lams[n + 1])
        lams[n] = lams[n] + lams[n + 2] + pulled
    start_controls = _start_controls(problem, h, controls, start)
    inputs, _ = _stages(problem, start, problem.z0, h, start_controls)
    lam, bars = _pull_stages(problem, start, inputs, h, start_controls, lams[1], 0.0 * problem.z0)
    lams[0] = lam + lams[2]
    if start is EULER:
        raw[0] = bars[0]
    places = tuple(Fraction(n) for n in range(num_steps + 1))
    return Run(times, places, controls, np.array(zs), np.array(lams[: num_steps + 1]), raw, end, end_bar)


# Adams-Bashforth methods.

BETA = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}


def ab_places(order: int, num_steps: int, start: Tableau) -> tuple[list[list[int]], tuple[Fraction, ...]]:
    """(the node of each stage of each start step, the places of the nodes); equal times are one node."""
    c, _, _ = used(start)
    inner = {n + node for n in range(order - 1) for node in c}
    places = sorted(inner | {Fraction(n) for n in range(num_steps + 1)})
    rank = {place: m for m, place in enumerate(places)}
    return [[rank[n + node] for node in c] for n in range(order - 1)], tuple(places)


def ab_states(
    problem: Problem, order: int, h: float, start: Tableau, nodes: list, grid: list[int], controls: Array
) -> list[Array]:
    """z_0 .. z_N; ``grid`` holds the nodes at t_0 .. t_N."""
    _, _, b = used(start)
    zs, fs = [problem.z0], []
    for n in range(len(grid) - 1):
        fs.append(problem.f(zs[-1], controls[grid[n]]))
        if n < order - 1:
            _, k = _stages(problem, start, zs[-1], h, controls[nodes[n]])
            slope = sum(w * s for w, s in zip(b, k, strict=True))
        else:
            slope = sum(beta * fs[n - j] for j, beta in enumerate(BETA[order]))
        zs.append(zs[-1] + h * slope)
    return zs


def adams_bashforth(problem: Problem, order: int, num_steps: int, start: Tableau) -> Run:
    """An Adams-Bashforth solve of order 2 to 4, started by a Runge-Kutta method."""
    times = uniform(num_steps)
    h = times[1] - times[0]
    nodes, places = ab_places(order, num_steps, start)
    grid = [m for m, place in enumerate(places) if place.denominator == 1]
    controls = problem.theta(time_of(times, places))
    zs = ab_states(problem, order, h, start, nodes, grid, controls)
    raw = np.zeros_like(controls)
    f_bars = [np.zeros_like(problem.z0) for _ in range(num_steps)]
    end_bar = lam = problem.loss_bar(zs[-1])
    lams = [lam]
    for n in range(num_steps - 1, -1, -1):
        if n >= order - 1:
            for j, beta in enumerate(BETA[order]):
                f_bars[n - j] = f_bars[n - j] + h * beta * lam
            pulled, bar = problem.pull(zs[n], controls[grid[n]], f_bars[n])
            lam = lam + pulled
            raw[grid[n]] += bar
        else:
            inputs, _ = _stages(problem, start, zs[n], h, controls[nodes[n]])
            lam, bars = _pull_stages(problem, start, inputs, h, controls[nodes[n]], lam, f_bars[n])
            np.add.at(raw, nodes[n], bars)
        lams.append(lam)

    def end(controls: Array) -> Array:
        return ab_states(problem, order, h, start, nodes, grid, controls)[-1]

    return Run(times, places, controls, np.array(zs), np.array(lams[::-1]), raw, end, end_bar)

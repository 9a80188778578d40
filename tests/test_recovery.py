"""What each recovery keeps, how often it calls the field, and how many field graphs live at a time."""

from collections.abc import Callable, Generator
from typing import Any, ClassVar

import numpy as np
import optree
import pytest

import janode.numpy as jo
from janode.backends.numpy import BACKEND
from janode.core.adjoint import RECOVERIES
from janode.core.grids import equal_steps
from janode.core.layers import MLP
from janode.core.methods import find_method
from janode.core.protocols import Carry, Moment, State
from janode.core.records import Carries, Nothing
from janode.core.recovery import Kept, Restart
from janode.core.runge_kutta import RungeKutta
from janode.core.sweep import Sweep
from janode.core.tableaus import RK4

from .problems import TS, Y0, YS_BAR, Counted, params

PRESETS = list(RECOVERIES)
NUM_STAGES = {"euler": 1, "rk4": 4, "dopri5": 6, "dopri8": 13}
NUM_STEPS = 6

Count = Callable[[int, int], int]
# Field evaluations of N steps of s stages: forward, and backward.
EVALS: dict[str, tuple[Count, Count]] = {
    "backprop": (lambda n, s: n * s, lambda n, s: 0),
    "stages": (lambda n, s: n * s, lambda n, s: n * s),
    "aca": (lambda n, s: n * s, lambda n, s: n * s),
    "symplectic": (lambda n, s: n * s, lambda n, s: n * (2 * s - 1)),
    "restart": (lambda n, s: n * s, lambda n, s: n * (3 * s - 1)),
    "revolve": (lambda n, s: n * s, lambda n, s: n * (2 * s - 1)),  # no more steps than checkpoints
}
KEPT: dict[str, Count] = {
    "backprop": lambda n, s: n * (1 + s),  # the state, which is the input of the first stage anyway
    "stages": lambda n, s: n * s,
    "aca": lambda n, s: n,
    "symplectic": lambda n, s: n,
    "restart": lambda n, s: 1,
    "revolve": lambda n, s: n,
}
ALIVE: dict[str, Count] = {
    "backprop": lambda n, s: n * s,
    "stages": lambda n, s: 1,
    "aca": lambda n, s: s,
    "symplectic": lambda n, s: 1,
    "restart": lambda n, s: 1,
    "revolve": lambda n, s: 1,
}


# The counts of the table in core/adjoint.py.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", NUM_STAGES)
def test_counts(method: str, preset: str) -> None:
    counted, s = Counted(), NUM_STAGES[method]
    forward, backward = (count(NUM_STEPS, s) for count in EVALS[preset])
    solution, pullback = jo.solve_vjp(counted.field, Y0, TS, params(), method=method, steps=3, adjoint=preset)
    assert (counted.num_field_evals, counted.num_vjps) == (forward, 0)
    pullback(YS_BAR)
    assert (counted.num_field_evals, counted.num_vjps) == (forward + backward, NUM_STEPS * s)
    assert solution.stats == jo.Stats(NUM_STEPS, NUM_STEPS, 0, forward + backward, NUM_STEPS * s)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", NUM_STAGES)
def test_counts_with_a_network(method: str, preset: str) -> None:
    net = MLP((2, 3, 2))
    s = NUM_STAGES[method]
    solution, pullback = jo.solve_vjp(
        net, Y0, TS, net.init(np.random.default_rng(0), np, np.float64), method=method, steps=3, adjoint=preset
    )
    pullback(YS_BAR)
    total = sum(count(NUM_STEPS, s) for count in EVALS[preset])
    assert solution.stats == jo.Stats(NUM_STEPS, NUM_STEPS, 0, total, NUM_STEPS * s)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_second_pullback_costs_as_much_as_the_first(preset: str) -> None:
    counted, s = Counted(), NUM_STAGES["rk4"]
    _, pullback = jo.solve_vjp(counted.field, Y0, TS, params(), method="rk4", steps=3, adjoint=preset)
    pullback(YS_BAR)
    first = counted.num_field_evals
    pullback(YS_BAR)
    assert counted.num_field_evals - first == EVALS[preset][1](NUM_STEPS, s)


def test_the_default_is_the_fastest_that_fits() -> None:
    solution, pullback = jo.solve_vjp(Counted().field, Y0, TS, params(), method="rk4", steps=3)
    pullback(YS_BAR)
    assert solution.stats.num_field_evals == sum(count(NUM_STEPS, 4) for count in EVALS["backprop"])


# What lives, and how long.


class Graph:
    """The activations of one evaluation, which know how many of their kind live."""

    alive = peak = 0
    alive_at_pull: ClassVar[list[int]] = []

    def __init__(self) -> None:
        Graph.alive += 1
        Graph.peak = max(Graph.peak, Graph.alive)

    def __del__(self) -> None:
        Graph.alive -= 1

    def pull(self, f_bar: Any) -> Any:
        Graph.alive_at_pull.append(Graph.alive)
        return None, -f_bar


@pytest.fixture(autouse=True)
def graphs() -> None:
    assert Graph.alive == 0
    Graph.peak = 0
    Graph.alive_at_pull = []


class Network:
    """dy/dt = -y, as a network of janode.core.layers sees it."""

    def __call__(self, t: Any, y: Any) -> Any:
        return -y

    def linearize(self, t: Any, y: Any) -> Any:
        return -y, Graph().pull


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", NUM_STAGES)
def test_graphs_alive(method: str, preset: str) -> None:
    _, pullback = jo.solve_vjp(Network(), Y0, TS, method=method, steps=3, adjoint=preset)
    pullback(YS_BAR)
    assert Graph.peak == ALIVE[preset](NUM_STEPS, NUM_STAGES[method])


def test_a_step_linearized_at_once_gives_its_graphs_back_one_by_one() -> None:
    _, pullback = jo.solve_vjp(Network(), Y0, TS, method="rk4", steps=3, adjoint="aca")
    pullback(YS_BAR)
    assert Graph.alive_at_pull == [4, 3, 2, 1] * NUM_STEPS


class Point:
    """The linearization of dy/dt = -y."""

    def __init__(self, y: State) -> None:
        self.f = tuple(-leaf for leaf in y)

    def pull(self, f_bar: State) -> Any:
        return None, tuple(-leaf for leaf in f_bar), ()


class Decay:
    """dy/dt = -y, as the core sees a field."""

    needs_time = True

    def __call__(self, t: Any, y: State, theta: State) -> State:
        return tuple(-leaf for leaf in y)

    def linearize(self, t: Any, y: State, theta: State) -> Point:
        return Point(y)

    def wanted(self, theta: State) -> State:
        return theta


def sweep(method: Any = "rk4") -> Sweep:
    return Sweep(BACKEND, find_method(method), Decay(), equal_steps(3, 3), TS, ())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", NUM_STAGES)
def test_kept(method: str, preset: str) -> None:
    _, tape = RECOVERIES[preset].forward(sweep(method), (Y0,))
    assert len(optree.tree_leaves(tape)) == KEPT[preset](NUM_STEPS, NUM_STAGES[method])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_way_forward_is_that_of_a_plain_solve(preset: str) -> None:
    expected, nothing = Kept(Nothing()).forward(sweep(), (Y0,))
    outputs, _ = RECOVERIES[preset].forward(sweep(), (Y0,))
    np.testing.assert_array_equal(outputs, expected)
    assert optree.tree_leaves(nothing) == []


class Logged(Carries):
    """Notes every step it records."""

    steps: ClassVar[list[Any]] = []

    def advance(self, sweep: Any, carry: Carry, moment: Moment) -> tuple[Carry, Any]:
        self.steps.append(moment)
        return super().advance(sweep, carry, moment)


def test_restart_records_nothing_on_the_way_forward() -> None:
    Logged.steps.clear()
    _, pullback = jo.solve_vjp(Counted().field, Y0, TS, params(), method="rk4", steps=3, adjoint=Restart(Logged()))
    assert Logged.steps == []
    pullback(YS_BAR)
    assert len(Logged.steps) == NUM_STEPS


def test_a_solve_that_keeps_nothing_has_no_pullback() -> None:
    counted = Counted()
    _, pullback = jo.solve_vjp(counted.field, Y0, TS, params(), steps=1, adjoint=Kept(Nothing()))
    with pytest.raises(AssertionError, match="a solve that keeps nothing has no pullback"):
        pullback(YS_BAR)
    assert counted.num_vjps == 0


class Greedy(RungeKutta):
    """Asks for one value more than it has abscissae."""

    def step(self, ops: Any, carry: Carry, h: Any) -> Generator[State, State, Carry]:
        carry = yield from super().step(ops, carry, h)
        yield carry[0]
        return carry


@pytest.mark.parametrize("preset", PRESETS)
def test_a_step_that_asks_for_too_much_is_refused(preset: str) -> None:
    with pytest.raises(AssertionError, match="a step asked for more field values than its"):
        jo.solve_vjp(Counted().field, Y0, TS, params(), method=Greedy(RK4), steps=1, adjoint=preset)

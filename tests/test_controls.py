"""Controls: which node each stage reads, and that every frontend gives them their exact gradient."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import janode.array
import janode.jax
import janode.numpy as jo
import janode.torch
from janode.core.adjoint import RECOVERIES
from janode.core.controls import NodeLayout, node_layout
from janode.core.methods import find_method
from janode.core.multistep import Leapfrog
from janode.core.protocols import Phase

from .controlled import FIELD, LIBRARIES, METHODS, Y0, P, assert_close, by_numpy, controls, field_of, packed, ys_bar_of

TS = (0.0, 0.5, 1.0)
N = 12


def num_nodes(method: Any, sampling: str = "nodes", num_steps: int = N) -> int:
    return node_layout("", find_method(method), num_steps, sampling).num_nodes


# Times and lengths.


@pytest.mark.parametrize(
    ("method", "per_step", "more"),
    [
        ("euler", 1, 0),
        ("midpoint", 2, 0),
        ("ralston", 2, 0),
        ("heun2", 1, 1),
        ("rk4", 2, 1),
        ("kutta3", 2, 1),
        ("dopri5", 5, 1),
        ("leapfrog", 1, 1),
        ("ab2", 1, 1),
        ("ab3", 1, 1 + 2 * 2),  # two start steps of heun3, with two nodes inside each
        ("ab4", 1, 1 + 3),  # three start steps of rk4, with one node inside each
        (Leapfrog("rk4"), 1, 2),
        (Leapfrog(ending="smoothed"), 1, 1),
    ],
)
def test_number_of_nodes(method: Any, per_step: int, more: int) -> None:
    assert len(jo.control_times(method, TS, steps=N // 2)) == num_nodes(method) == per_step * N + more


@pytest.mark.parametrize("method", METHODS)
def test_number_of_steps(method: str) -> None:
    times = jo.control_times(method, TS, steps=6, sampling="steps")
    np.testing.assert_allclose(times, (np.arange(N) + 0.5) / N, rtol=1e-15)


@pytest.mark.parametrize("ts", [TS, (1.0, 0.25, -0.5), (2.0, 1.0)], ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_every_stage_reads_the_control_of_its_time(method: str, ts: Any) -> None:
    """With the times as controls the field sees its own time."""
    times = np.array(jo.control_times(method, ts, steps=3))
    seen = []

    def field(t: Any, y: Any, u: Any) -> Any:
        seen.append((float(t), float(u)))
        return -y

    jo.solve(field, Y0, ts, controls=times, method=method, steps=3)
    np.testing.assert_allclose(*np.transpose(seen), rtol=0.0, atol=4e-16)
    assert np.all(np.diff(times) * (ts[1] - ts[0]) > 0)


@pytest.mark.parametrize("method", METHODS)
def test_every_stage_reads_the_control_of_its_step(method: str) -> None:
    """With the numbers of the steps as controls the field sees in which step it is."""
    seen = []

    def field(t: Any, y: Any, u: Any) -> Any:
        seen.append((float(t) * N, float(u)))
        return -y

    jo.solve(field, Y0, TS, controls=np.arange(float(N)), sampling="steps", method=method, steps=6)
    times, numbers = np.transpose(seen)
    assert sorted(set(numbers)) == list(range(N))
    assert np.all(times - numbers > -1e-12)
    assert np.all(times - numbers < 1.0 + 1e-12)


def test_nodes_are_shared_between_steps() -> None:
    """The end of a step and the start of the next are one node."""
    seen: list[float] = []

    def field(t: Any, y: Any, u: Any) -> Any:
        seen.append(float(u))
        return -y

    jo.solve(field, Y0, (0.0, 1.0), controls=np.array([10.0, 20.0, 30.0]), method="heun2", steps=2)
    assert seen == [10.0, 20.0, 20.0, 30.0]


def test_steps_of_size() -> None:
    ts = (0.0, 0.3, 1.0)
    times = jo.control_times("euler", ts, step_size=0.25)
    np.testing.assert_allclose(times, [0.0, 0.15, 0.3, 0.3 + 0.7 / 3, 0.3 + 1.4 / 3], rtol=1e-15)


@pytest.mark.parametrize("frontend", [janode.array, jo, janode.torch, janode.jax])
@pytest.mark.parametrize(
    "ts",
    [[0.0, 1.0], np.array([0.0, 1.0]), torch.tensor([0.0, 1.0], requires_grad=True), jnp.array([0.0, 1.0])],
    ids=["list", "numpy", "torch", "jax"],
)
def test_times_are_floats_in_every_frontend(frontend: Any, ts: Any) -> None:
    times = frontend.control_times("midpoint", ts, steps=2)
    assert times == [0.0, 0.25, 0.5, 0.75]
    assert {type(t) for t in times} == {float}


# The layout against a loop without thought.


@dataclass(frozen=True)
class Stub:
    """A stepper that has abscissae and nothing else."""

    c: tuple[float, ...]


ABSCISSAE = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=4).map(tuple)
LAYOUTS = st.builds(
    NodeLayout,
    st.lists(st.builds(Phase, ABSCISSAE.map(Stub), st.integers(1, 3)), min_size=1, max_size=3).map(tuple),
    st.sampled_from(["nodes", "steps"]),
    st.booleans(),
)


@given(layout=LAYOUTS, seed=st.integers(0, 9))
def test_gather_sums_what_is_read_at_one_time(layout: NodeLayout, seed: int) -> None:
    rng = np.random.default_rng(seed)
    stages = [[rng.standard_normal((phase.num_steps, 2)) for _ in phase.stepper.c] for phase in layout.phases]
    totals: dict[float, np.ndarray] = {}
    reads_ends = any(1.0 in phase.stepper.c for phase in layout.phases)
    n = 0
    for phase, arrays in zip(layout.phases, stages, strict=True):
        for i in range(phase.num_steps):
            if layout.sampling == "nodes" and reads_ends:
                totals.setdefault(float(n), np.zeros(2))  # a start is a node wherever a step before may read it
            for c, array in zip(phase.stepper.c, arrays, strict=True):
                place = n + c if layout.sampling == "nodes" else n + 0.5
                totals[place] = totals.get(place, np.zeros(2)) + array[i]
            n += 1
    if layout.sampling == "nodes" and layout.has_end_node:
        totals.setdefault(float(n), np.zeros(2))
    got = layout.gather(np, stages)
    assert got.shape == (layout.num_nodes, 2) == (len(totals), 2)
    np.testing.assert_allclose(got, [totals[place] for place in sorted(totals)], rtol=1e-13, atol=1e-13)


# Exact gradients.


def complex_step(ts: Any, u: Any, direction: Any, ys_bar: np.ndarray, **options: Any) -> float:
    """The derivative of sum ys_bar ys along a direction of the controls, to rounding."""
    moved = jax.tree.map(lambda leaf, dot: leaf + 1e-30j * dot, u, direction)
    ys = jo.solve(field_of(np), Y0.astype(complex), ts, P.astype(complex), controls=moved, **options).ys
    return float(np.sum(ys_bar * ys).imag / 1e-30)


SAMPLED = [
    *((method, sampling) for method in (*METHODS, Leapfrog("rk4")) for sampling in ("nodes", "steps")),
    (Leapfrog(ending="smoothed"), "nodes"),
    (Leapfrog("rk4", "smoothed"), "nodes"),
]


@pytest.mark.parametrize("adjoint", RECOVERIES)
@pytest.mark.parametrize(("method", "sampling"), SAMPLED, ids=str)
def test_gradient_is_exact(method: Any, adjoint: str, sampling: str) -> None:
    options = {"method": method, "steps": 6, "sampling": sampling}
    count = num_nodes(method, sampling)
    u, direction = controls(count), controls(count, seed=1)
    found = by_numpy(TS, u, ys_bar_of(3), adjoint=adjoint, **options)[3]
    expected = complex_step(TS, u, direction, ys_bar_of(3), **options)
    np.testing.assert_allclose(np.sum(found * packed(direction)), expected, rtol=2e-14)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_of_every_node(method: str) -> None:
    """One node at a time, in reversed time."""
    ts, count = (1.0, 0.2), num_nodes(method, num_steps=4)
    u = controls(count)
    found = by_numpy(ts, u, ys_bar_of(2), method=method, steps=4)[3]
    expected = np.empty_like(found)
    for k in range(count):
        here = np.arange(count) == k
        for j, unit in enumerate(np.eye(5)):
            direction = {"s": here * unit[0], "w": [np.outer(here, unit[1:3]), np.outer(here, unit[3:5])]}
            expected[k, j] = complex_step(ts, u, direction, ys_bar_of(2), method=method, steps=4)
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-15)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("rk4", "dopri5", "heun2")])
def test_a_last_node_that_no_step_reads_has_no_gradient(method: str) -> None:
    found = by_numpy(TS, controls(num_nodes(method)), ys_bar_of(3), method=method, steps=6)[3]
    assert np.all(found[-1] == 0.0) == find_method(method).has_end_node


CASES = [
    (method, adjoint, sampling)
    for method in ("midpoint", "dopri5", "leapfrog", "ab3")
    for adjoint, sampling in [*((name, "nodes") for name in RECOVERIES), ("symplectic", "steps")]
]


@pytest.mark.parametrize(("method", "adjoint", "sampling"), CASES)
def test_torch_agrees_with_numpy(method: str, adjoint: str, sampling: str) -> None:
    options = {"method": method, "steps": 6, "sampling": sampling}
    u, ys_bar = controls(num_nodes(method, sampling)), ys_bar_of(3)
    assert_close(
        LIBRARIES["torch"](TS, u, ys_bar, adjoint=adjoint, **options), by_numpy(TS, u, ys_bar, **options), 1e-12
    )


JAX_CASES = [
    *((method, "symplectic", "nodes") for method in ("midpoint", "dopri5", "leapfrog", "ab3")),
    *(("leapfrog", adjoint, "nodes") for adjoint in ("aca", "stages", "restart", "backprop")),
    ("ab3", "symplectic", "steps"),
]


@pytest.mark.parametrize(("method", "adjoint", "sampling"), JAX_CASES)
def test_jax_agrees_with_numpy(method: str, adjoint: str, sampling: str) -> None:
    """Under jit and grad, with times that are traced."""
    options = {"method": method, "steps": 6, "sampling": sampling}
    u, ys_bar = controls(num_nodes(method, sampling)), ys_bar_of(3)
    assert_close(LIBRARIES["jax"](TS, u, ys_bar, adjoint=adjoint, **options), by_numpy(TS, u, ys_bar, **options), 1e-12)


def test_jax_maps_over_controls() -> None:
    """vmap of grad over a batch of controls, outside jit."""
    batch = [controls(num_nodes("leapfrog"), seed) for seed in range(3)]
    ys_bar = ys_bar_of(3)

    def loss(u: Any) -> Any:
        ys = janode.jax.solve(
            field_of(jnp), jnp.asarray(Y0), TS, jnp.asarray(P), controls=u, method="leapfrog", steps=6
        ).ys
        return (ys * ys_bar).sum()

    found = jax.vmap(jax.grad(loss))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *batch))
    expected = [by_numpy(TS, u, ys_bar, method="leapfrog", steps=6)[3] for u in batch]
    got = [packed({"s": s, "w": w}) for s, *w in zip(found["s"], *found["w"], strict=True)]
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=1e-12)


# Dtypes.


@pytest.mark.parametrize("method", ["midpoint", "leapfrog", "ab2"])
def test_single_precision_stays_so(method: str) -> None:
    u = controls(num_nodes(method))
    narrow = {"s": u["s"].astype(np.float32), "w": [leaf.astype(np.float32) for leaf in u["w"]]}
    y0, p = Y0.astype(np.float32), P.astype(np.float32)
    solution, pullback = jo.solve_vjp(FIELD, y0, TS, p, controls=narrow, method=method, steps=6)
    gradients = pullback(ys_bar_of(3).astype(np.float32))
    leaves = [solution.ys, gradients.y0, gradients.controls["s"], *gradients.controls["w"]]
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    expected = by_numpy(TS, u, ys_bar_of(3), method=method, steps=6)[3]
    np.testing.assert_allclose(packed(gradients.controls), expected, rtol=0.0, atol=3e-6)


def rotate(t: Any, y: Any, u: Any) -> Any:
    return 1j * u * y


def rotate_vjp(t: Any, y: Any, u: Any, f_bar: Any) -> Any:
    """The cotangents dL/dx + i dL/dy."""
    return None, np.conj(1j * u) * f_bar, np.sum(np.conj(1j * y) * f_bar)


@cache
def complex_gradients(method: str) -> dict[str, np.ndarray]:
    """Of the real loss Re sum conj(bar) y(1) with respect to complex controls, in the convention of NumPy and torch."""
    rng = np.random.default_rng(3)
    count = num_nodes(method, num_steps=8)
    u = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    y0, bar = np.array([1.0 + 0.5j, -0.3j]), np.array([0.2 - 1.0j, 0.7 + 0.1j])
    options: dict[str, Any] = {"method": method, "steps": 8}
    _, pullback = jo.solve_vjp(jo.Field(rotate, rotate_vjp), y0, [0.0, 1.0], controls=u, **options)
    leaf = torch.tensor(u, requires_grad=True)
    ys = janode.torch.solve(rotate, torch.tensor(y0), [0.0, 1.0], controls=leaf, **options).ys
    (torch.tensor(bar).conj() * ys[-1]).sum().real.backward()
    found = {"numpy": pullback(np.stack([0 * bar, bar])).controls, "torch": leaf.grad.numpy()}

    def loss(u: Any) -> Any:
        ys = janode.jax.solve(rotate, jnp.asarray(y0), [0.0, 1.0], controls=u, **options).ys
        return (np.conj(bar) * ys[-1]).sum().real

    found["jax"] = np.conj(jax.grad(loss)(jnp.asarray(u)))
    found["differences"] = np.zeros(count, dtype=complex)
    for k in range(count):
        for unit in (1.0, 1.0j):
            step = 1e-6 * unit * (np.arange(count) == k)
            up, down = (
                jo.solve(rotate, y0, [0.0, 1.0], controls=u + sign * step, **options).ys[-1] for sign in (1.0, -1.0)
            )
            found["differences"][k] += unit * np.sum(np.conj(bar) * (up - down)).real / 2e-6
    return found


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("method", ["midpoint", "leapfrog"])
def test_complex_controls(method: str, library: str) -> None:
    found = complex_gradients(method)
    np.testing.assert_allclose(found[library], found["differences"], rtol=0.0, atol=1e-9)
    np.testing.assert_allclose(found[library], found["numpy"], rtol=0.0, atol=1e-14)


# Refining.


def cubic(t: Any) -> Any:
    return 1.0 - 2.0 * t + 0.5 * t**3


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun2", "dopri5", "leapfrog", "ab3"])
def test_refining_keeps_cubics(method: str) -> None:
    """Beyond the last node too, where the finer grid has nodes and the coarser one has none."""
    old, new = (np.array(jo.control_times(method, TS, steps=n)) for n in (6, 13))
    refined = jo.refine_controls({"u": cubic(old)}, old, new)
    np.testing.assert_allclose(refined["u"], cubic(new), rtol=1e-13)


def test_refining_linearly() -> None:
    refined = jo.refine_controls(np.array([[0.0], [1.0], [4.0]]), [0.0, 1.0, 2.0], [0.0, 0.5, 1.0, 1.5, 2.0], order=2)
    np.testing.assert_allclose(refined, [[0.0], [0.5], [1.0], [2.5], [4.0]], rtol=1e-15)


def refined_sum(frontend: Any, u: Any, weights: Any) -> Any:
    return (frontend.refine_controls({"u": u}, [0.0, 1.0, 2.0, 3.0], [0.5, 2.5])["u"] * weights).sum()


def test_refining_is_differentiable_in_torch_and_jax() -> None:
    u, weights = np.array([0.3, -1.0, 2.0, 0.1]), np.array([1.0, 10.0])
    leaf = torch.tensor(u, requires_grad=True)
    refined_sum(janode.torch, leaf, torch.tensor(weights)).backward()
    expected = [refined_sum(jo, unit, weights) for unit in np.eye(4)]  # it is linear
    np.testing.assert_allclose(leaf.grad, expected, rtol=1e-14)
    found = jax.jit(jax.grad(lambda u: refined_sum(janode.jax, u, weights)))(jnp.asarray(u))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


# What must be caught.


def ends_read_at_starts(layout: NodeLayout, phase: Phase, *c: Any) -> tuple[int | None, ...]:
    return tuple(place or 0 for place in PLACES(layout, phase, *c))


def one_node_late(layout: NodeLayout, phase: Phase, *c: Any) -> tuple[int | None, ...]:
    return tuple(place and place - 1 for place in PLACES(layout, phase, *c))


PLACES = NodeLayout.places


@pytest.mark.parametrize("broken", [ends_read_at_starts, one_node_late])
def test_a_wrong_node_is_caught(broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NodeLayout, "places", broken)
    with pytest.raises((AssertionError, janode.numpy.InputError)):
        test_every_stage_reads_the_control_of_its_time("rk4", TS)


def test_a_node_that_forgets_one_of_its_readers_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = NodeLayout.gather

    def broken(layout: NodeLayout, xp: Any, stages: Any) -> Any:
        return gather(layout, xp, [[*arrays[:-1], 0.0 * arrays[-1]] for arrays in stages])

    monkeypatch.setattr(NodeLayout, "gather", broken)
    with pytest.raises(AssertionError):
        test_gradient_of_every_node("heun2")

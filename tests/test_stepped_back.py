"""Stepping back: the same gradients with one carry kept, how wrong an approximate inverse is, and what it costs."""

import tracemalloc
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.array
import janode.jax
import janode.numpy as jo
import janode.torch
from janode.core.adjoint import RECOVERIES
from janode.core.methods import find_method
from janode.core.multistep import Leapfrog
from janode.core.reversible import AsynchronousLeapfrog, ReversibleCoupling
from janode.core.tableaus import RK4

from .controlled import LIBRARIES, by_numpy, controls, ys_bar_of
from .jax_reference import jit
from .problems import FIELD, TARGETS, TS, Y0, YS_BAR, A, B, Counted, packed, params
from .test_torch_costs import Live
from .torch_oracle import Net, one_thread

__all__ = ["one_thread"]

EXACT: dict[str, Any] = {
    "leapfrog": Leapfrog(),
    "leapfrog from rk4": Leapfrog("rk4"),
    "leapfrog smoothed": Leapfrog(ending="smoothed"),
    **{
        name: find_method(name)
        for name in ("alf", "reversible_heun", "reversible(euler)", "reversible(rk4)", "reversible(tsit5)")
    },
}
UNEQUAL = [name for name, method in EXACT.items() if not method.needs_equal_steps]


def numpy_gradient(method: Any, adjoint: str, steps: int, ts: Any = (0.25, 0.75, 1.25)) -> tuple[np.ndarray, Any]:
    solution, pullback = jo.solve_vjp(FIELD, Y0, ts, params(), method=method, steps=steps, adjoint=adjoint)
    return packed(pullback(YS_BAR)), solution.stats


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative to the largest entry."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


# Exact inverses: exact gradients, on every library.


@pytest.mark.parametrize("adjoint", ["reversible", "reconstruct"])
@pytest.mark.parametrize("method", EXACT)
def test_gradient_equals_that_of_kept_stages(method: str, adjoint: str) -> None:
    expected, _ = numpy_gradient(EXACT[method], "stages", 40)
    assert difference(numpy_gradient(EXACT[method], adjoint, 40)[0], expected) < 1e-13


@pytest.mark.parametrize("method", EXACT)
def test_gradient_is_exact_over_a_thousand_steps(method: str) -> None:
    expected, _ = numpy_gradient(EXACT[method], "stages", 500, (0.0, 3.0, 6.0))
    found, stats = numpy_gradient(EXACT[method], "reversible", 500, (0.0, 3.0, 6.0))
    assert difference(found, expected) < 1e-12
    assert stats.num_steps == 1000
    assert 0.0 <= stats.reconstruction_error < 1e-12


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target(target: Any) -> None:
    y0, ys_bar = target.array(Y0), target.array(YS_BAR)
    found, expected = (
        janode.array.solve_vjp(FIELD, y0, TS, params(target), method="reversible(midpoint)", steps=3, adjoint=adjoint)[
            1
        ](ys_bar)
        for adjoint in ("reversible", "backprop")
    )
    eps = np.finfo(np.dtype(target.dtype)).eps
    assert difference(packed(found), packed(expected)) < 16 * eps


def torch_gradient(method: Any, adjoint: str, steps: int, ts: Any) -> tuple[np.ndarray, Any]:
    def field(t: Any, y: Any, p: Any) -> Any:
        return torch.cos(t) * (p["A"] @ torch.tanh(y)) + p["b"] * (t * t)

    leaves = [torch.tensor(leaf, dtype=torch.float64, requires_grad=True) for leaf in (Y0, A, B, ts)]
    y0, a, b, times = leaves
    solution = janode.torch.solve(field, y0, times, {"A": a, "b": b}, method=method, steps=steps, adjoint=adjoint)
    (solution.ys * torch.tensor(YS_BAR)).sum().backward()
    found = np.concatenate([leaf.grad.reshape(-1).numpy() for leaf in leaves])  # type: ignore[union-attr]
    return found, solution.stats


@pytest.mark.parametrize("adjoint", ["reversible", "stages", "aca", "symplectic", "restart"])
@pytest.mark.parametrize("method", EXACT)
def test_torch_autograd_through_the_same_steps_agrees(method: str, adjoint: str) -> None:
    found, _ = torch_gradient(EXACT[method], adjoint, 5, (0.25, 0.75, 1.25))
    expected, _ = torch_gradient(EXACT[method], "backprop", 5, (0.25, 0.75, 1.25))
    assert difference(found, expected) < 1e-13


@pytest.mark.parametrize("method", UNEQUAL)
def test_torch_agrees_on_unequal_intervals(method: str) -> None:
    expected, _ = torch_gradient(EXACT[method], "backprop", 5, (1.25, 0.75, -0.25))
    assert difference(torch_gradient(EXACT[method], "reversible", 5, (1.25, 0.75, -0.25))[0], expected) < 1e-13


def jax_gradient(method: Any, adjoint: str, steps: int, ts: Any) -> np.ndarray:
    def field(t: Any, y: Any, p: Any) -> Any:
        return jnp.cos(t) * (p["A"] @ jnp.tanh(y)) + p["b"] * (t * t)

    @jit
    @jax.grad
    def gradient(leaves: Any) -> Any:
        y0, a, b, times = leaves
        ys = janode.jax.solve(field, y0, times, {"A": a, "b": b}, method=method, steps=steps, adjoint=adjoint).ys
        return (ys * YS_BAR).sum()

    return np.concatenate([np.reshape(leaf, -1) for leaf in gradient([jnp.asarray(x) for x in (Y0, A, B, ts)])])


JAX_CASES = [
    *((method, "reversible") for method in ("leapfrog smoothed", "alf", "reversible_heun", "reversible(euler)")),
    ("reversible(euler)", "symplectic"),
]


@pytest.mark.parametrize(("method", "adjoint"), JAX_CASES)
def test_jax_through_the_same_steps_agrees(method: str, adjoint: str) -> None:
    found = jax_gradient(EXACT[method], adjoint, 5, (0.25, 0.75, 1.25))
    expected = jax_gradient(EXACT[method], "backprop", 5, (0.25, 0.75, 1.25))
    assert difference(found, expected) < 1e-13


def test_jax_maps_over_initial_states() -> None:
    def gradient(y0: Any) -> Any:
        def loss(y0: Any) -> Any:
            return (
                janode.jax.solve(
                    lambda t, y: jnp.sin(y) * t, y0, (0.0, 1.0), method="alf", steps=4, adjoint="reversible"
                )
                .ys[-1]
                .sum()
            )

        return jax.grad(loss)(y0)

    batch = jnp.array([[0.3, -0.2], [1.0, 0.4]])
    expected = np.stack([gradient(y0) for y0 in batch])
    np.testing.assert_allclose(jax.vmap(gradient)(batch), expected, rtol=1e-14)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("method", ["leapfrog", "reversible_heun", "reversible(heun2)"])
def test_controls_on_every_library(method: str, library: str) -> None:
    ts, ys_bar = (0.0, 0.5, 1.0), ys_bar_of(3)
    u = controls(len(jo.control_times(method, ts, steps=3)))
    expected = by_numpy(ts, u, ys_bar, method=method, steps=3, adjoint="stages")
    found = LIBRARIES[library](ts, u, ys_bar, method=method, steps=3, adjoint="reversible")
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0.0, atol=1e-13)


def test_a_tape_that_is_stepped_back_can_be_used_again() -> None:
    _, pullback = jo.solve_vjp(FIELD, Y0, TS, params(), method="reversible(rk4)", steps=3, adjoint="reversible")
    first = packed(pullback(YS_BAR))
    pullback(np.ones_like(YS_BAR))
    np.testing.assert_array_equal(packed(pullback(YS_BAR)), first)


# Approximate inverses.

SLOPES = {"euler": 1, "heun2": 3, "midpoint": 3, "heun3": 3, "rk4": 5}
"""Order p of the method, and p + 1 where p is even: the error of the step there and back is an odd power of h."""


@pytest.mark.parametrize("of", ["gradient", "state"])
@pytest.mark.parametrize("method", SLOPES)
def test_the_error_has_its_order(method: str, of: str) -> None:
    numbers, errors = (20, 40, 80), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Euler's large steps
        for n in numbers:
            found, stats = numpy_gradient(method, "reconstruct", n, (0.0, 1.0, 2.0))
            expected, _ = numpy_gradient(method, "stages", n, (0.0, 1.0, 2.0))
            errors.append(difference(found, expected) if of == "gradient" else stats.reconstruction_error)
    slope = -np.polyfit(np.log(numbers), np.log(errors), 1)[0]
    assert slope == pytest.approx(SLOPES[method], abs=0.2), errors


def residual_layers(scheme: str, x: np.ndarray, thetas: np.ndarray, x_bar: np.ndarray) -> tuple[np.ndarray, float]:
    """Memory-free backpropagation through x_{n+1} = x_n + h f(x_n, theta_n), or Heun's layers, by its definition.

    f = tanh(theta x). The cotangents are pulled at the recovered states.
    """
    h, shared = 1.0 / len(thetas), scheme == "heun2"
    num_layers = len(thetas) - int(shared)
    h = 1.0 / num_layers
    f = lambda x, theta: np.tanh(theta * x)  # noqa: E731
    start = x
    for n in range(num_layers):
        k = f(x, thetas[n])
        x = x + h * k if not shared else x + h / 2 * (k + f(x + h * k, thetas[n + 1]))
    bars = np.zeros_like(thetas)
    for n in reversed(range(num_layers)):
        if shared:
            k = f(x, thetas[n + 1])
            x = x - h / 2 * (k + f(x - h * k, thetas[n]))
            k = f(x, thetas[n])
            last, last_bar = x + h * k, h / 2 * x_bar
            slope = (1 - f(last, thetas[n + 1]) ** 2) * last_bar
            bars[n + 1] += np.sum(slope * last)
            inner = slope * thetas[n + 1]
            first = (1 - k**2) * (h / 2 * x_bar + h * inner)
            bars[n] += np.sum(first * x)
            x_bar = x_bar + inner + first * thetas[n]
        else:
            x = x - h * f(x, thetas[n])
            slope = (1 - f(x, thetas[n]) ** 2) * h * x_bar
            bars[n] += np.sum(slope * x)
            x_bar = x_bar + slope * thetas[n]
    return np.array([*x_bar, *bars]), float(np.linalg.norm(x - start) / np.linalg.norm(start))


LAYERS = jo.Field(
    lambda t, x, theta: np.tanh(theta * x),
    lambda t, x, theta, f_bar: (
        None,
        theta * (1 - np.tanh(theta * x) ** 2) * f_bar,
        np.sum(x * (1 - np.tanh(theta * x) ** 2) * f_bar),
    ),
)


@pytest.mark.parametrize(("method", "sampling"), [("euler", "steps"), ("euler", "nodes"), ("heun2", "nodes")])
def test_memory_free_training_is_that_of_its_definition(method: str, sampling: str) -> None:
    x, x_bar = np.array([0.7, -1.2]), np.array([1.0, 0.4])
    thetas = np.sin(np.linspace(0.5, 2.0, 12 + int(method == "heun2")))
    expected, error = residual_layers(method, x, thetas, x_bar)
    solution, pullback = jo.solve_vjp(
        LAYERS, x, (0.0, 1.0), controls=thetas, sampling=sampling, method=method, steps=12, adjoint="reconstruct"
    )
    if method == "euler":
        with pytest.warns(RuntimeWarning, match="missed the initial state"):
            gradients = pullback(np.stack([0.0 * x_bar, x_bar]))
    else:
        gradients = pullback(np.stack([0.0 * x_bar, x_bar]))
    np.testing.assert_allclose([*gradients.y0, *gradients.controls], expected, rtol=1e-13)
    assert solution.stats.reconstruction_error == pytest.approx(error, rel=1e-12)


# The reconstruction error.


def test_torch_reports_the_error_after_the_backward_pass() -> None:
    expected = numpy_gradient("rk4", "reconstruct", 10)[1].reconstruction_error
    found, stats = torch_gradient("rk4", "reconstruct", 10, (0.25, 0.75, 1.25))
    assert difference(found, numpy_gradient("rk4", "reconstruct", 10)[0]) < 1e-13
    assert expected > 1e-10
    assert stats.reconstruction_error == pytest.approx(expected, rel=1e-4)


def test_jax_gives_the_gradient_and_no_error() -> None:
    found = jax_gradient("rk4", "reconstruct", 10, (0.25, 0.75, 1.25))
    assert difference(found, numpy_gradient("rk4", "reconstruct", 10)[0]) < 1e-13
    solution = janode.jax.solve(lambda t, y: -y, jnp.ones(2), (0.0, 1.0), method="rk4", steps=2, adjoint="reconstruct")
    assert solution.stats.reconstruction_error is None


def test_on_jax_a_solve_back_gives_the_error() -> None:
    """As the manual says: the inverse of a Runge-Kutta step is the step back in time."""
    field = lambda t, y: jnp.sin(y) * t  # noqa: E731
    there = janode.jax.solve(field, jnp.asarray(Y0), (0.0, 1.0), method="heun2", steps=5).ys[-1]
    back = janode.jax.solve(field, there, (1.0, 0.0), method="heun2", steps=5).ys[-1]
    by_hand = jo.Field(lambda t, y: np.sin(y) * t, lambda t, y, f_bar: (None, np.cos(y) * t * f_bar))
    solution, pullback = jo.solve_vjp(by_hand, Y0, (0.0, 1.0), method="heun2", steps=5, adjoint="reconstruct")
    pullback(np.ones((2, 2)))
    expected = float(np.linalg.norm(back - Y0) / np.linalg.norm(Y0))
    assert solution.stats.reconstruction_error == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("adjoint", RECOVERIES)
def test_who_steps_nowhere_back_reports_no_error(adjoint: str) -> None:
    assert numpy_gradient("rk4", adjoint, 3)[1].reconstruction_error is None


def test_before_the_backward_pass_there_is_no_error() -> None:
    solution, _ = jo.solve_vjp(FIELD, Y0, (0.0, 1.0), params(), method="alf", steps=3, adjoint="reversible")
    assert solution.stats.reconstruction_error is None


def test_a_zero_start_is_measured_absolutely() -> None:
    field = jo.Field(lambda t, y: np.cos(y), lambda t, y, f_bar: (None, -np.sin(y) * f_bar))
    solution, pullback = jo.solve_vjp(field, np.zeros(1), (0.0, 1.0), method="rk4", steps=5, adjoint="reconstruct")
    pullback(np.ones((2, 1)))
    assert 1e-12 < solution.stats.reconstruction_error < 1e-4


DAMPED = AsynchronousLeapfrog(0.8)
TEXT = r"the backward pass missed the initial state by .* of its norm.*Take more steps, or .*\"symplectic\""


def test_a_large_error_is_warned_of_on_numpy() -> None:
    with pytest.warns(RuntimeWarning, match=TEXT):
        _, stats = numpy_gradient(DAMPED, "reversible", 100)
    assert not stats.reconstruction_error <= 0.01


def test_a_large_error_is_warned_of_on_torch() -> None:
    with pytest.warns(RuntimeWarning, match=TEXT):
        torch_gradient("euler", "reconstruct", 2, (0.0, 1.0, 3.0))


def test_an_infinite_error_is_warned_of() -> None:
    strong = jo.Field(lambda t, y: -(y**3) * 1e4, lambda t, y, f_bar: (None, -3e4 * y * y * f_bar))
    _, pullback = jo.solve_vjp(strong, np.ones(1), (0.0, 1e-3), method="euler", steps=1, adjoint="reconstruct")
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning, match="missed the initial state"):
        pullback(np.ones((2, 1)))


# Costs.


def back_evaluations(method: Any, num_steps: int) -> int:
    """To step back, then all stages but the last, then those that are pulled back."""
    return sum(
        (len(phase.stepper.c_back) + 2 * len(phase.stepper.c) - 1) * phase.num_steps
        for phase in method.phases(num_steps)
    )


@pytest.mark.parametrize(
    ("method", "forward", "backward"),
    [
        ("leapfrog", 6, 1 + 5 * 2),
        ("alf", 7, (1 + 3) + 5 * 2),
        ("reversible_heun", 7, (1 + 3) + 5 * 2),
        ("reversible(rk4)", 6 * 8, 6 * (8 + 15)),
        ("reversible(tsit5)", 6 * 12, 6 * (12 + 23)),
    ],
)
def test_counts(method: str, forward: int, backward: int) -> None:
    counted = Counted()
    options = {"method": method, "steps": 3, "adjoint": "reversible"}
    solution, pullback = jo.solve_vjp(counted.field, Y0, (0.25, 0.75, 1.25), params(), **options)
    assert (counted.num_field_evals, counted.num_vjps) == (forward, 0)
    pullback(YS_BAR)
    assert (counted.num_field_evals, counted.num_vjps) == (forward + backward, forward)
    assert backward == back_evaluations(find_method(method), 6)
    assert (solution.stats.num_field_evals, solution.stats.num_vjps) == (forward + backward, forward)


@pytest.mark.parametrize(("method", "stages"), [("euler", 1), ("heun2", 2), ("rk4", 4), ("dopri5", 6)])
def test_counts_of_an_approximate_inverse(method: str, stages: int) -> None:
    counted = Counted()
    _, pullback = jo.solve_vjp(
        counted.field, Y0, (0.0, 0.01, 0.02), params(), method=method, steps=3, adjoint="reconstruct"
    )
    pullback(YS_BAR)
    assert (counted.num_field_evals, counted.num_vjps) == (6 * stages + 6 * (3 * stages - 1), 6 * stages)


BIG = 100_000


def numpy_peak(method: str, adjoint: str, steps: int) -> int:
    y0, ys_bar = np.ones(BIG), np.ones((2, BIG))
    field = jo.Field(lambda t, y: -y, lambda t, y, f_bar: (None, -f_bar))
    tracemalloc.start()
    _, pullback = jo.solve_vjp(field, y0, (0.0, 0.01), method=method, steps=steps, adjoint=adjoint)
    pullback(ys_bar)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


CONSTANT = [
    *((method, "reversible") for method in ("leapfrog", "alf", "reversible_heun", "reversible(midpoint)")),
    ("euler", "reconstruct"),
    ("rk4", "reconstruct"),
]


@pytest.mark.parametrize(("method", "adjoint"), CONSTANT)
def test_memory_does_not_grow_with_the_steps_on_numpy(method: str, adjoint: str) -> None:
    few, many = (numpy_peak(method, adjoint, steps) for steps in (10, 100))
    assert many <= 1.02 * few


def torch_peak(method: Any, adjoint: str, steps: int) -> tuple[int, int]:
    """(bytes kept between the passes, peak), both without what is given."""
    net, y0 = Net(), torch.ones(16, 2, dtype=torch.float64)
    with Live([y0, *net.parameters()]) as live:
        solution = janode.torch.solve(net, y0, [0.0, 0.1], method=method, steps=steps, adjoint=adjoint)
        kept = live.num_bytes()
        solution.ys.sum().backward()
    assert net.last.weight.grad is not None
    return kept, live.peak


STATE = 16 * 2 * 8


@pytest.mark.parametrize(("method", "adjoint"), CONSTANT)
def test_memory_does_not_grow_with_the_steps_on_torch(method: str, adjoint: str) -> None:
    few, many = torch_peak(method, adjoint, 6), torch_peak(method, adjoint, 14)
    assert few == many
    carry = len(find_method(method).start(()))
    assert few[0] == (2 + carry) * STATE  # the solution at two times, and the last carry


def jax_bytes(adjoint: str, steps: int) -> int:
    """What the compiled gradient needs beside its arguments and results."""

    def loss(y0: Any) -> Any:
        field = lambda t, y: jnp.tanh(y) * t  # noqa: E731
        return janode.jax.solve(field, y0, (0.0, 1.0), method="alf", steps=steps, adjoint=adjoint).ys[-1].sum()

    compiled = jax.jit(jax.grad(loss)).lower(jnp.ones(5000)).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def test_memory_does_not_grow_with_the_steps_on_jax() -> None:
    assert jax_bytes("reversible", 100) <= 1.02 * jax_bytes("reversible", 10)
    assert jax_bytes("symplectic", 100) > 2.0 * jax_bytes("symplectic", 10)


def test_tensors_without_data_have_a_gradient_and_no_error() -> None:
    y0 = torch.ones(2, device="meta", requires_grad=True)
    solution = janode.torch.solve(lambda t, y: -y, y0, [0.0, 1.0], method="alf", steps=3, adjoint="reversible")
    solution.ys.sum().backward()
    assert y0.grad is not None
    assert solution.stats.reconstruction_error is None


# What is refused.

PRESETS = "aca, auto, backprop, .*restart, .*stages, symplectic"
REFUSED = [
    ("rk4", "reversible", r"an exact inverse; got 'rk4'.*adjoints: .*reconstruct, .*or a reversible method: leapfrog"),
    ("dopri5", "reversible", "an exact inverse; got 'dopri5'"),
    ("ab2", "reversible", rf"an exact inverse; got 'ab2'. Use one of its adjoints: {PRESETS}; or a reversible method"),
    ("ab4", "reconstruct", rf"an inverse; got 'ab4'. Use one of its adjoints: {PRESETS}; or"),
    (AsynchronousLeapfrog(0.5), "reversible", "an exact inverse; got 'alf'"),
]
SOLVES: dict[str, Any] = {
    "array": janode.array.solve,
    "numpy vjp": jo.solve_vjp,
    "torch": janode.torch.solve,
    "jax": janode.jax.solve,
}


@pytest.mark.parametrize("where", SOLVES)
@pytest.mark.parametrize(("method", "adjoint", "text"), REFUSED)
def test_a_method_without_the_inverse_is_refused(where: str, method: Any, adjoint: str, text: str) -> None:
    y0 = {"torch": torch.ones(2), "jax": jnp.ones(2)}.get(where, np.ones(2))
    with pytest.raises(jo.InputError, match=f"solve: adjoint '{adjoint}' must have a method whose steps have {text}"):
        SOLVES[where](FIELD, y0, (0.0, 1.0), params(), method=method, steps=3, adjoint=adjoint)


def test_adaptive_steps_are_refused() -> None:
    with pytest.raises(jo.InputError, match="an adjoint that steps back must have a fixed grid; got adaptive steps"):
        jo.solve_vjp(FIELD, Y0, TS, params(), rtol=1e-3, atol=1e-3, adjoint="reconstruct")


@pytest.mark.parametrize(
    ("method", "sampling", "adjoint", "other"),
    [
        ("dopri5", "nodes", "reconstruct", "steps"),
        ("midpoint", "nodes", "reconstruct", "steps"),
        ("reversible_heun", "steps", "reversible", "nodes"),
    ],
)
def test_controls_that_are_not_there_on_the_way_back_are_refused(
    method: str, sampling: str, adjoint: str, other: str
) -> None:
    options = {"method": method, "steps": 4, "sampling": sampling}
    u = controls(len(jo.control_times(method, (0.0, 1.0), steps=4, sampling=sampling)))
    text = rf"got method '{method}' with sampling=\"{sampling}\". Use sampling=\"{other}\", another adjoint"
    with pytest.raises(jo.InputError, match=text):
        by_numpy((0.0, 1.0), u, ys_bar_of(2), adjoint=adjoint, **options)


@pytest.mark.parametrize(
    ("method", "sampling"), [("heun2", "nodes"), ("rk4", "nodes"), ("dopri5", "steps"), ("midpoint", "steps")]
)
def test_controls_of_an_approximate_inverse(method: str, sampling: str) -> None:
    ts, num_steps = (0.0, 0.01, 0.02), 20
    options = {"method": method, "steps": num_steps, "sampling": sampling}
    u = controls(1)
    count = len(jo.control_times(method, ts, steps=num_steps, sampling=sampling))
    smooth = {"s": np.repeat(u["s"], count), "w": [np.repeat(w, count, axis=0) for w in u["w"]]}
    found = by_numpy(ts, smooth, ys_bar_of(3), adjoint="reconstruct", **options)
    expected = by_numpy(ts, smooth, ys_bar_of(3), adjoint="stages", **options)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0.0, atol=1e-8)


class Forgetful(ReversibleCoupling):
    """Goes back with one of its two states alone."""

    def step_back(self, ops: Any, carry: Any, h: Any) -> Any:
        y, _ = yield from super().step_back(ops, carry, h)
        return y, carry[1]


def test_a_broken_inverse_is_caught() -> None:
    broken = Forgetful(find_method("rk4"))  # type: ignore[arg-type]
    expected, _ = numpy_gradient(ReversibleCoupling(RK4), "stages", 40)  # type: ignore[arg-type]
    with pytest.warns(RuntimeWarning, match="missed the initial state"):
        found, _ = numpy_gradient(broken, "reversible", 40)
    assert difference(found, expected) > 1e-3


class Greedy(AsynchronousLeapfrog):
    """Steps back with one field value more than it has abscissae."""

    @property
    def _stepper(self) -> Any:
        return GreedyStep(1.0)


class GreedyStep(type(AsynchronousLeapfrog()._stepper)):  # type: ignore[misc]
    def step_back(self, ops: Any, carry: Any, h: Any) -> Any:
        carry = yield from super().step_back(ops, carry, h)
        yield carry[0]
        return carry


def test_a_step_back_that_asks_for_too_much_is_refused() -> None:
    with pytest.raises(AssertionError, match="a step back asked for more field values than its stepper"):
        numpy_gradient(Greedy(), "reversible", 3)

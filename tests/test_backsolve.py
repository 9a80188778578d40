"""The continuous adjoint: it converges to the exact gradient, costs what it says, knows its error, refuses the rest."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchdiffeq

import janode.array
import janode.jax
import janode.numpy as jo
import janode.torch
from janode.core.tableaus import TABLEAUS

from .adaptive_problems import PARAMS, PENDULUM
from .adaptive_problems import Y0 as START
from .jax_reference import jit
from .problems import FIELD, TARGETS, TS, Y0, YS_BAR, A, B, Counted, packed, params, value
from .torch_oracle import one_thread

__all__ = ["one_thread"]


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative to the largest entry."""
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def gradient(adjoint: Any, field: Any = FIELD, **options: Any) -> tuple[np.ndarray, Any]:
    solution, pullback = jo.solve_vjp(field, Y0, TS, params(), adjoint=adjoint, **options)
    return packed(pullback(YS_BAR)), solution.stats


# Converges to the exact gradient.


@pytest.mark.parametrize("method", ["euler", "midpoint", "kutta3", "rk4", "reversible(heun3)"])
@pytest.mark.filterwarnings("ignore:the backward pass missed")
def test_fixed_steps_converge_at_the_order_of_the_method(method: str) -> None:
    order = {"reversible(heun3)": 3}.get(method) or TABLEAUS[method].order
    errors = []
    for steps in (20, 40):
        expected, _ = gradient("stages", method=method, steps=steps)
        errors.append(difference(gradient("backsolve", method=method, steps=steps)[0], expected))
    assert 2.0 ** (order - 0.5) < errors[0] / errors[1] < 2.0 ** (order + 1.5)
    assert errors[1] > 1e-9  # or the order would be that of rounding


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("method", ["bosh3", "dopri5", "tsit5", "dopri8"])
def test_adaptive_steps_converge_with_the_tolerance(method: str, reverse: bool) -> None:
    ts = [2.0, 1.1, 0.0] if reverse else [0.0, 0.9, 2.0]
    for tolerance, bound in ((1e-4, 1e-2), (1e-9, 1e-7)):
        found, expected = (
            _of_pendulum(adjoint, ts=ts, method=method, rtol=tolerance, atol=tolerance)[0]
            for adjoint in ("backsolve", "stages")
        )
        assert 1e-14 < difference(found, expected) < bound


def _of_pendulum(adjoint: Any, ts: Any = (0.0, 0.9, 2.0), **options: Any) -> tuple[np.ndarray, Any]:
    solution, pullback = jo.solve_vjp(PENDULUM, START, ts, PARAMS, adjoint=adjoint, **options)
    bars = np.zeros_like(solution.ys)
    bars[1], bars[-1] = [0.3, -0.2], [1.1, 0.7]
    found = pullback(bars)
    return np.concatenate([found.y0, found.params, found.ts]), solution.stats


def test_its_own_tolerances_hold_for_the_way_back() -> None:
    expected, _ = _of_pendulum("stages", rtol=1e-9, atol=1e-11)
    errors = [
        difference(_of_pendulum(jo.Backsolve(rtol=tolerance, atol=tolerance), rtol=1e-9, atol=1e-11)[0], expected)
        for tolerance in (1e-3, 1e-9)
    ]
    assert errors[0] > 1e-5
    assert errors[1] < 1e-8


def test_tolerances_of_the_solve_are_taken_leaf_by_leaf() -> None:
    field = jo.Field(
        lambda t, y: {"fast": -y["slow"], "slow": y["fast"]},
        lambda t, y, bar: (None, {"fast": bar["slow"], "slow": -bar["fast"]}),
    )
    y0 = {"fast": np.ones((2, 3)), "slow": np.zeros((2, 3))}

    def evaluations(rtol: Any) -> int:
        solution, pullback = jo.solve_vjp(field, y0, [0.0, 3.0], rtol=rtol, atol=1e-9, adjoint="backsolve")
        pullback({"fast": np.ones((2, 2, 3)), "slow": None})
        return solution.stats.num_vjps

    loose, tight = evaluations(1e-3), evaluations(1e-9)
    assert loose < evaluations({"fast": np.full((2, 3), 1e-9), "slow": 1e-3}) <= tight


def test_a_seminorm_takes_fewer_steps() -> None:
    options = {"rtol": 1e-8, "atol": 1e-10}
    full, both = _of_pendulum("backsolve", **options)
    semi, fewer = _of_pendulum(jo.Backsolve(seminorm=True), **options)
    assert fewer.num_vjps < both.num_vjps
    assert difference(semi, full) < 1e-5


def test_a_norm_of_ones_own_holds_for_state_and_cotangent() -> None:
    calls = []

    def norm(ratios: Any) -> Any:
        calls.append(ratios.shape)
        return np.max(np.abs(ratios))

    solution, pullback = jo.solve_vjp(
        PENDULUM, START, [0.0, 2.0], PARAMS, adjoint="backsolve", controller=jo.PIController(norm=norm)
    )
    calls.clear()
    pullback(np.ones_like(solution.ys))
    assert calls
    assert set(calls) == {(2,)}


# On every library.


@pytest.mark.parametrize("options", [{"method": "rk4", "steps": 3}, {"rtol": 1e-3, "atol": 1e-4}], ids=str)
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target(target: Any, options: dict[str, Any]) -> None:
    y0, ys_bar = target.array(Y0), target.array(YS_BAR)
    _, pullback = janode.array.solve_vjp(FIELD, y0, TS, params(target), adjoint="backsolve", **options)
    found = pullback(ys_bar)
    assert target.owns(found.y0)
    assert target.owns(found.params["A"])
    expected, _ = gradient("backsolve", **options)
    rounding = 1e-12 if target.dtype == "float64" else 2e-4  # which also makes other steps of adaptive ones
    assert difference(packed(found), expected) < rounding


def by_torch(adjoint: Any, **options: Any) -> np.ndarray:
    y0, a, b, ts = (torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in (Y0, A, B, TS))
    field = lambda t, y, p: torch.cos(t) * (p["A"] @ torch.tanh(y)) + p["b"] * t * t  # noqa: E731
    solution = janode.torch.solve(field, y0, ts, {"A": a, "b": b}, adjoint=adjoint, **options)
    solution.ys.backward(torch.tensor(YS_BAR))
    return np.concatenate([np.ravel(leaf.grad) for leaf in (y0, a, b, ts)])


def by_jax(adjoint: Any, transform: Callable[..., Any] = jit, **options: Any) -> np.ndarray:
    def loss(y0: Any, a: Any, b: Any, ts: Any) -> Any:
        solution = janode.jax.solve(value, y0, ts, {"A": a, "b": b}, adjoint=adjoint, **options)
        return jnp.sum(solution.ys * YS_BAR)

    found = transform(jax.grad(loss, argnums=(0, 1, 2, 3)))(*map(jnp.asarray, (Y0, A, B, np.array(TS))))
    return np.concatenate([np.ravel(leaf) for leaf in found])


OPTIONS: dict[str, Any] = {
    "fixed": {"method": "rk4", "steps": 4},
    "adaptive": {"rtol": 1e-4, "atol": 1e-6},
    "clipped": {"save": "clip", "method": "tsit5"},
}


@pytest.mark.parametrize("library", [by_torch, by_jax])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_libraries_agree(options: dict[str, Any], library: Callable[..., np.ndarray]) -> None:
    expected, _ = gradient("backsolve", **options)
    np.testing.assert_allclose(library("backsolve", **options), expected, rtol=1e-10)


def test_jax_outside_jit() -> None:
    expected, _ = gradient("backsolve", **OPTIONS["adaptive"])
    np.testing.assert_allclose(by_jax("backsolve", lambda f: f, **OPTIONS["adaptive"]), expected, rtol=1e-10)


def test_jax_with_intervals_of_unequal_steps() -> None:
    def found(transform: Any) -> Any:
        loss = lambda k: janode.jax.solve(  # noqa: E731
            lambda t, y, k: -k * y, jnp.ones(2), [0.0, 0.1, 0.2, 1.0], k, method="rk4", step_size=0.1,
            adjoint="backsolve",
        ).ys[1:].sum()  # fmt: skip
        return transform(jax.grad(loss))(0.7)

    expected = -2.0 * sum(t * np.exp(-0.7 * t) for t in (0.1, 0.2, 1.0))
    np.testing.assert_allclose(found(jit), expected, rtol=1e-5)


def test_jax_lanes_go_their_own_ways() -> None:
    def loss(y0: Any, mu: Any) -> Any:
        field = lambda t, y, mu: jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])  # noqa: E731
        return janode.jax.solve(field, y0, [0.0, 0.5, 2.0], mu, adjoint="backsolve").ys[1:].sum()

    y0s, mus = jnp.asarray([[2.0, 0.0], [1.0, 1.0], [0.3, 0.1]]), jnp.asarray([1.0, 0.5, 2.0])
    both = jax.grad(loss, argnums=(0, 1))
    found = jit(jax.vmap(both))(y0s, mus)
    expected = [both(y0, mu) for y0, mu in zip(y0s, mus, strict=True)]
    for place, leaf in enumerate(found):
        np.testing.assert_allclose(leaf, [one[place] for one in expected], rtol=1e-10)


def test_complex_states_have_the_conventions_of_the_library() -> None:
    y0 = np.array([1.0 + 0.5j, -0.3j])
    rotation = jo.Field(lambda t, y, k: 1j * k * y, lambda t, y, k, bar: (None, np.conj(1j * k) * bar, np.sum(
        np.real(np.conj(1j * y) * bar))))  # fmt: skip
    found, expected = (
        jo.solve_vjp(rotation, y0, [0.0, 1.0], np.array(0.8), method="rk4", steps=40, adjoint=adjoint)[1](
            np.array([[0.0, 0.0], [1.0 - 2.0j, 0.5j]])
        )
        for adjoint in ("backsolve", "stages")
    )
    np.testing.assert_allclose(found.y0, expected.y0, rtol=1e-7)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-7)


# Beside its peers, on a problem that is easy backwards.


def _peer_field(t: Any, y: Any, k: Any, xp: Any) -> Any:
    return xp.stack([y[1], -k * xp.sin(y[0])]) + 0.0 * t


def test_agrees_with_torchdiffeq() -> None:
    def found(solve: Callable[..., Any]) -> np.ndarray:
        y0, k = (torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in (START, 2.0))
        solve(y0, torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64), k)[1:].sum().backward()
        return np.concatenate([y0.grad, [k.grad]])

    def peer(y0: Any, ts: Any, k: Any) -> Any:
        field = lambda t, y: _peer_field(t, y, k, torch)  # noqa: E731
        return torchdiffeq.odeint_adjoint(field, y0, ts, rtol=1e-9, atol=1e-10, adjoint_params=(k,))

    def own(y0: Any, ts: Any, k: Any) -> Any:
        field = lambda t, y, k: _peer_field(t, y, k, torch)  # noqa: E731
        return janode.torch.solve(field, y0, ts, k, rtol=1e-9, atol=1e-10, adjoint="backsolve").ys

    np.testing.assert_allclose(found(own), found(peer), rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_diffrax() -> None:
    def peer(y0: Any, k: Any) -> Any:
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, k: _peer_field(t, y, k, jnp)), diffrax.Tsit5(), 0.0, 2.0, 0.1, y0, k,
            stepsize_controller=diffrax.PIDController(1e-9, 1e-10), adjoint=diffrax.BacksolveAdjoint(),
        ).ys[-1].sum()  # fmt: skip

    def own(y0: Any, k: Any) -> Any:
        field = lambda t, y, k: _peer_field(t, y, k, jnp)  # noqa: E731
        options = {"method": "tsit5", "rtol": 1e-9, "atol": 1e-10, "adjoint": "backsolve"}
        return janode.jax.solve(field, y0, [0.0, 2.0], k, **options).ys[-1].sum()

    given = jnp.asarray(START), jnp.asarray(2.0)
    found, expected = (jit(jax.grad(loss, argnums=(0, 1)))(*given) for loss in (own, peer))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)


# Costs.


def test_evaluations_and_vjps_of_fixed_steps() -> None:
    counted = Counted()
    _, stats = gradient("backsolve", counted.field, method="rk4", steps=5)
    assert counted.num_vjps == stats.num_vjps == 4 * 10
    # 4 N forward, 4 N with the VJPs, and one at each of ts for its own cotangent
    assert stats.num_field_evals == 2 * 4 * 10 + 3
    assert counted.num_field_evals == stats.num_field_evals


def test_memory_does_not_grow_with_the_number_of_steps() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 3, dtype=torch.float64)

        def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.layer(y))

    net = Net()
    y0 = torch.ones(3, dtype=torch.float64, requires_grad=True)

    def kept(steps: int) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
            ys = janode.torch.solve(net, y0, [0.0, 1.0], method="rk4", steps=steps, adjoint="backsolve").ys
        ys.sum().backward()
        return sum(sizes)

    assert kept(3) == kept(300)


# Knows its error.


def van_der_pol(mu: float) -> tuple[jo.Field, np.ndarray, Any]:
    field = jo.Field(
        lambda t, y, mu: np.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]]),
        lambda t, y, mu, bar: (
            None,
            np.stack([(-2 * mu * y[0] * y[1] - 1) * bar[1], bar[0] + mu * (1 - y[0] ** 2) * bar[1]]),
            (1 - y[0] ** 2) * y[1] * bar[1],
        ),
    )
    return field, np.array([2.0, 0.0]), np.array(mu)


PROBLEMS: dict[str, Any] = {
    "pendulum": (PENDULUM, START, PARAMS, [0.0, 2.0]),
    "several times": (FIELD, Y0, None, TS),
    "van der Pol": (*van_der_pol(1.0), [0.0, 3.0]),
    "decay": (
        jo.Field(lambda t, y, k: -k * y, lambda t, y, k, bar: (None, -k * bar, -np.sum(y * bar))),
        np.ones(2),
        np.array(1.0),
        [0.0, 5.0],
    ),
}
STEPS: dict[str, Any] = {
    "rk4": {"method": "rk4", "steps": 40},
    "dopri5, 1e-3": {"rtol": 1e-3, "atol": 1e-5},
    "dopri5, 1e-6": {"rtol": 1e-6, "atol": 1e-8},
    "bosh3, 1e-6": {"method": "bosh3", "rtol": 1e-6, "atol": 1e-8},
    "dopri8, 1e-6": {"method": "dopri8", "rtol": 1e-6, "atol": 1e-6},
}


def flat(gradients: Any) -> list[np.ndarray]:
    """The cotangents of the initial state and of the parameters."""
    bar = gradients.params
    leaves = list(bar.values()) if isinstance(bar, dict) else [bar]
    return [gradients.y0, np.concatenate([np.ravel(leaf) for leaf in leaves])]


@pytest.mark.filterwarnings("ignore:the (backward pass missed|gradient of the continuous)")
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_the_estimated_error_is_that_of_the_gradient(problem: Any, steps: dict[str, Any]) -> None:
    """Within a factor of ten of the distance to the exact gradient of the discrete solution."""
    field, y0, parameters, ts = problem
    given = field, y0, ts, params() if parameters is None else parameters
    (solution, pullback), (_, exact) = (
        jo.solve_vjp(*given, adjoint=adjoint, **steps) for adjoint in (jo.Backsolve(estimate=True), "stages")
    )
    bars = np.zeros_like(solution.ys)
    bars[-1] = 1.0
    assert solution.stats.gradient_error is None
    pairs = zip(flat(pullback(bars)), flat(exact(bars)), strict=True)
    error = max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs)
    assert 0.1 < solution.stats.gradient_error / error < 10.0


def test_an_estimate_costs_a_second_pass_and_changes_no_gradient() -> None:
    plain, stats = gradient("backsolve", method="rk4", steps=5)
    found, more = gradient(jo.Backsolve(estimate=True), method="rk4", steps=5)
    np.testing.assert_array_equal(found, plain)
    assert stats.gradient_error is None
    assert more.num_vjps - stats.num_vjps == 2 * 4 * 10 + 2 * 2  # halved steps, and two at the end of each interval


def test_torch_returns_the_estimate_after_the_backward_pass() -> None:
    _, expected = gradient(jo.Backsolve(estimate=True), method="rk4", steps=4)
    y0 = torch.tensor(Y0, requires_grad=True)
    a, b = torch.tensor(A, requires_grad=True), torch.tensor(B, dtype=torch.float64, requires_grad=True)
    field = lambda t, y, p: torch.cos(t) * (p["A"] @ torch.tanh(y)) + p["b"] * t * t  # noqa: E731
    options: dict[str, Any] = {"method": "rk4", "steps": 4, "adjoint": janode.torch.Backsolve(estimate=True)}
    solution = janode.torch.solve(field, y0, TS, {"A": a, "b": b}, **options)
    assert solution.stats.gradient_error is None
    solution.ys.backward(torch.tensor(YS_BAR))
    assert solution.stats.gradient_error == pytest.approx(expected.gradient_error, rel=1e-6)
    assert solution.stats.reconstruction_error == pytest.approx(expected.reconstruction_error, rel=1e-6)
    assert f"gradient_error={solution.stats.gradient_error}" in str(solution)


def test_a_large_estimate_is_warned_of() -> None:
    field, y0, mu = van_der_pol(1.0)
    options: dict[str, Any] = {"method": "heun2", "steps": 10, "adjoint": jo.Backsolve(estimate=True)}
    solution, pullback = jo.solve_vjp(field, y0, [0.0, 2.0], mu, **options)
    with pytest.warns(RuntimeWarning) as caught:
        pullback(np.ones_like(solution.ys))
    texts = [str(one.message) for one in caught]
    assert any("the gradient of the continuous adjoint is off by about" in text for text in texts)
    assert solution.stats.gradient_error > 0.01


# What cannot be solved backwards.


def test_a_way_back_that_fails_says_what_to_do() -> None:
    field, y0, mu = van_der_pol(2.0)
    solution, pullback = jo.solve_vjp(field, y0, [0.0, 10.0], mu, rtol=1e-2, atol=1e-2, adjoint="backsolve")
    text = r"must be able to solve the problem backwards; it got from t = 10.0 to t = \d.*its step size became too"
    with pytest.raises(jo.StepSizeUnderflow, match=text) as caught, np.errstate(all="ignore"):
        pullback(np.ones_like(solution.ys))
    assert "use an exact adjoint" in str(caught.value)
    assert 0.0 < caught.value.time < 10.0


def test_torch_raises_the_same() -> None:
    y0 = torch.tensor([2.0, 0.0], dtype=torch.float64, requires_grad=True)
    field = lambda t, y: torch.stack([y[1], 2.0 * (1 - y[0] ** 2) * y[1] - y[0]])  # noqa: E731
    ys = janode.torch.solve(field, y0, [0.0, 10.0], rtol=1e-2, atol=1e-2, adjoint="backsolve").ys
    with pytest.raises(janode.torch.StepSizeUnderflow, match="must be able to solve the problem backwards"):
        ys.sum().backward()


FAILING: dict[str, Any] = {
    "adaptive": (2.0, {"rtol": 1e-2, "atol": 1e-2}),
    "fixed": (4.0, {"method": "rk4", "steps": 60}),
}


@pytest.mark.parametrize(("mu", "options"), FAILING.values(), ids=FAILING)
def test_a_gradient_of_jax_becomes_nan(mu: float, options: dict[str, Any]) -> None:
    field = lambda t, y: jnp.stack([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])  # noqa: E731
    loss = lambda y0: janode.jax.solve(field, y0, [0.0, 10.0], adjoint="backsolve", **options).ys[-1].sum()  # noqa: E731
    found = jit(jax.value_and_grad(loss))(jnp.asarray([2.0, 0.0]))
    assert np.isfinite(found[0])
    assert np.isnan(found[1]).all()


def test_fixed_steps_that_overflow_on_the_way_back() -> None:
    field, y0, mu = van_der_pol(4.0)
    solution, pullback = jo.solve_vjp(field, y0, [0.0, 10.0], mu, method="rk4", steps=60, adjoint="backsolve")
    with pytest.raises(jo.NonFiniteState, match="where its state became infinite or NaN"), np.errstate(all="ignore"):
        pullback(np.ones_like(solution.ys))


def test_max_steps_hold_for_the_way_back() -> None:
    _, pullback = jo.solve_vjp(
        PENDULUM, START, [0.0, 2.0], PARAMS, max_steps=40, adjoint=jo.Backsolve(rtol=1e-12, atol=1e-12)
    )
    with pytest.raises(jo.MaxStepsReached, match="where it tried max_steps steps"):
        pullback(np.ones((2, 2)))


# What it cannot have.

REFUSED: dict[str, Any] = {
    "controls": ({"controls": np.ones(5), "method": "leapfrog", "steps": 4}, "have no controls"),
    "leapfrog": ({"method": "leapfrog", "steps": 4}, "have a method that can start anew at each of ts"),
    "ab3": ({"method": "ab3", "steps": 4}, "have a method that can start anew at each of ts"),
    "event": ({"event": lambda t, y: y[0] - 0.5}, "come without event and dense"),
    "dense": ({"dense": True}, "come without event and dense"),
    "jumps": ({"controller": jo.PIController(jump_ts=[0.5])}, "come without step_ts and jump_ts"),
    "tolerances of fixed steps": (
        {"method": "rk4", "steps": 4, "adjoint": jo.Backsolve(rtol=1e-3)},
        "have rtol and atol for adaptive steps only",
    ),
}


@pytest.mark.parametrize(("options", "rule"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(options: dict[str, Any], rule: str) -> None:
    number = 3 if "controls" in options else 2
    calls = []

    def decay(t: Any, y: Any, *rest: Any) -> Any:
        calls.append(t)
        return -y

    field = jo.Field(decay, lambda t, y, *rest: (None, -rest[-1]) + (None,) * (number - 2))
    with pytest.raises(jo.InputError, match=f'adjoint "backsolve" must {rule}.*Use an exact adjoint'):
        jo.solve_vjp(field, np.ones(1), [0.0, 1.0], **{"adjoint": "backsolve", **options})
    assert not calls


@pytest.mark.parametrize("adjoint", ["backsolve", janode.torch.Backsolve(rtol=1e-3)], ids=["name", "object"])
def test_steps_of_single_samples_are_refused(adjoint: Any) -> None:
    with pytest.raises(janode.torch.InputError, match='batch_axis must not come with adjoint="backsolve"'):
        janode.torch.solve(lambda t, y: -y, torch.ones(2, 1), [0.0, 1.0], batch_axis=0, adjoint=adjoint)


def test_torch_refuses_second_derivatives() -> None:
    y0 = torch.ones(2, dtype=torch.float64, requires_grad=True)
    ys = janode.torch.solve(lambda t, y: -y * y, y0, [0.0, 1.0], adjoint="backsolve").ys
    (first,) = torch.autograd.grad(ys.sum(), y0, create_graph=True)
    with pytest.raises(janode.torch.InputError, match="second derivative"):
        first.sum().backward()


def test_jax_refuses_an_estimate() -> None:
    with pytest.raises(janode.jax.InputError, match=r"Backsolve\(estimate=True\) must have an eager library"):
        janode.jax.solve(lambda t, y: -y, jnp.ones(1), [0.0, 1.0], adjoint=janode.jax.Backsolve(estimate=True))


@pytest.mark.parametrize("name", ["rtol", "atol"])
@pytest.mark.parametrize("got", [0.0, -1e-3, float("inf"), float("nan"), "1e-3", True], ids=str)
def test_tolerances_must_be_positive(name: str, got: Any) -> None:
    with pytest.raises(jo.InputError, match=f"Backsolve: {name} must be > 0 and finite; got {got!r}"):
        jo.Backsolve(**{name: got})


def test_it_is_never_chosen_by_itself() -> None:
    from janode.core.adjoint import CONTINUOUS, RECOVERIES, STEPPED_BACK

    assert set(CONTINUOUS) == {"backsolve"}
    assert not set(CONTINUOUS) & {*RECOVERIES, *STEPPED_BACK}

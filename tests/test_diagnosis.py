"""diagnose_controls: what it measures, and the verdict it draws."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax
import janode.numpy as jo
import janode.torch

torch.set_num_threads(1)
STEPS = 80
TS = [0.0, 2.0]


def numpy_gradient(method: str, rate: float, u: np.ndarray, steps: int) -> Any:
    """dy/dt = rate y + u with the loss y(2)."""
    field = jo.Field(lambda t, y, u: rate * y + u, lambda t, y, u, f_bar: (None, rate * f_bar, np.sum(f_bar)))

    def gradient(correction: str) -> Any:
        options: dict[str, Any] = {"method": method, "steps": steps, "correction": correction}
        _, pullback = jo.solve_vjp(field, np.ones(1), TS, controls=u, **options)
        return {"u": pullback(np.array([[0.0], [1.0]])).controls}

    return gradient


def diagnosis(method: str, rate: float = 0.5, steps: int = STEPS, noise: float = 0.0, **options: Any) -> Any:
    times = np.array(jo.control_times(method, TS, steps=steps))
    u = np.sin(times) + noise * np.random.default_rng(0).standard_normal(len(times))
    return jo.diagnose_controls(numpy_gradient(method, rate, u, steps), method, TS, steps=steps, **options)


@pytest.mark.parametrize("method", ["leapfrog", "midpoint", "ralston", "rk4", "dopri5"])
def test_an_oscillating_gradient_is_seen(method: str) -> None:
    found = diagnosis(method, rate=-0.5)
    assert found.raw_oscillation > 0.3 > 0.02 > found.corrected_oscillation
    assert found.verdict.startswith("The exact gradient oscillates from node to node and the corrected one does not")
    assert found.verdict.endswith('use correction="auto".')


@pytest.mark.parametrize("method", ["leapfrog", "rk4"])
def test_jumps_where_the_loss_reads_the_states_are_no_oscillation(method: str) -> None:
    """With few steps, where a jump is much of the gradient."""
    ts, steps = [0.0, 0.5, 1.0, 1.5, 2.0], 6
    times = np.array(jo.control_times(method, ts, steps=steps))
    field = jo.Field(lambda t, y, u: -0.5 * y + u, lambda t, y, u, f_bar: (None, -0.5 * f_bar, np.sum(f_bar)))

    def gradient(correction: str) -> Any:
        options: dict[str, Any] = {"method": method, "steps": steps, "correction": correction}
        _, pullback = jo.solve_vjp(field, np.ones(1), ts, controls=np.sin(times), **options)
        return pullback(np.array([[0.0], [1.0], [-2.0], [3.0], [1.0]])).controls

    found = jo.diagnose_controls(gradient, method, ts, steps=steps)
    assert found.raw_oscillation > 0.3 > 0.01 > found.corrected_oscillation


def test_a_smooth_gradient_needs_no_correction() -> None:
    found = diagnosis("heun2")
    assert found.raw_oscillation < 1e-3
    assert found.difference < 1e-3
    assert found.verdict.startswith("The exact gradient is smooth")
    assert found.growth is None


def test_smooth_gradients_that_differ_are_told_apart() -> None:
    """Euler's exact gradient is smooth inside, and twice too large at both ends for the weights there."""
    found = diagnosis("euler", steps=20)
    assert found.raw_oscillation < 0.1 < found.difference
    assert found.verdict.startswith("Neither gradient oscillates")


def test_gradients_are_functions_of_time() -> None:
    found = diagnosis("leapfrog")
    expected = np.exp(0.5 * (2.0 - np.array(found.times)))
    assert found.times == jo.control_times("leapfrog", TS, steps=STEPS)
    np.testing.assert_allclose(found.corrected["u"], expected, rtol=1e-3)
    assert np.max(np.abs(found.raw["u"] - expected)) > 0.5


def test_numbers_are_those_of_their_formulas() -> None:
    found = diagnosis("leapfrog")
    raw, corrected = found.raw["u"], found.corrected["u"]
    ripple = raw[1:-1] - (raw[:-2] + 2 * raw[1:-1] + raw[2:]) / 4
    assert found.raw_oscillation == pytest.approx(np.linalg.norm(ripple) / np.linalg.norm(raw[1:-1]), rel=1e-12)
    apart = np.linalg.norm(raw - corrected) / np.linalg.norm(corrected)
    assert found.difference == pytest.approx(apart, rel=1e-12)


@pytest.mark.filterwarnings("ignore:solve. leapfrog's sawtooth grows:RuntimeWarning")
@pytest.mark.parametrize("rate", [-0.5, -2.0, -4.0])
def test_growth_of_the_sawtooth(rate: float) -> None:
    """exp(integral of |rate|), and a word about it if it is large."""
    found = diagnosis("leapfrog", rate, steps=320)
    assert found.growth == pytest.approx(np.exp(-2.0 * rate), rel=0.05)
    assert ("dissipative" in found.verdict) == (found.growth > 10.0)


@pytest.mark.filterwarnings("ignore:solve. leapfrog's sawtooth grows:RuntimeWarning")
def test_a_gradient_that_the_steps_do_not_resolve() -> None:
    found = diagnosis("leapfrog", rate=-6.0, steps=40)
    assert found.verdict.startswith("Even the corrected gradient is not smooth")
    assert "dissipative" in found.verdict


def test_the_correction_to_compare_with() -> None:
    found = diagnosis("leapfrog", rate=-0.5, correction="filter_descent")
    assert found.verdict.endswith('use correction="filter_descent".')


def by_torch(u: np.ndarray) -> Any:
    def gradient(correction: str) -> Any:
        leaf = torch.tensor(u, requires_grad=True)
        options: dict[str, Any] = {"method": "leapfrog", "steps": STEPS, "correction": correction}
        y0 = torch.ones(1, dtype=torch.float64)
        janode.torch.solve(lambda t, y, u: 0.5 * y + u, y0, TS, controls=leaf, **options).ys[-1].sum().backward()
        return {"u": leaf.grad}

    return janode.torch.diagnose_controls(gradient, "leapfrog", TS, steps=STEPS)


def by_jax(u: np.ndarray) -> Any:
    def gradient(correction: str) -> Any:
        options: dict[str, Any] = {"method": "leapfrog", "steps": STEPS, "correction": correction}

        def loss(controls: Any) -> Any:
            field = lambda t, y, control: 0.5 * y + control["u"]  # noqa: E731
            return janode.jax.solve(field, jnp.ones(1), TS, controls=controls, **options).ys[-1].sum()

        return jax.grad(loss)({"u": jnp.asarray(u)})

    return janode.jax.diagnose_controls(gradient, "leapfrog", TS, steps=STEPS)


@pytest.mark.parametrize("diagnose", [by_torch, by_jax])
def test_every_frontend_finds_the_same(diagnose: Any) -> None:
    expected = diagnosis("leapfrog")
    found = diagnose(np.sin(expected.times))
    numbers = ("raw_oscillation", "corrected_oscillation", "difference", "growth")
    assert [getattr(found, name) for name in numbers] == pytest.approx([getattr(expected, name) for name in numbers])
    np.testing.assert_allclose(found.raw["u"], expected.raw["u"], rtol=1e-11)
    np.testing.assert_allclose(found.corrected["u"], expected.corrected["u"], rtol=1e-11)
    assert found.verdict == expected.verdict


@pytest.mark.parametrize(
    ("gradient", "options", "text"),
    [
        (lambda _: np.ones(7), {}, r"gradient must return arrays with a leading axis of 8 nodes; got shape \(7,\)"),
        (lambda _: None, {}, r"diagnose_controls: there must be at least one array; got none"),
        (lambda _: np.ones(2), {"steps": 1}, r"oscillation: rows must have a leading axis of at least 3; got .*steps"),
        (lambda _: np.ones(8), {"steps": None}, r"exactly one of steps and step_size must be given"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(gradient: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.diagnose_controls(gradient, **{"method": "midpoint", "ts": TS, "steps": 4, **options})


def test_no_gradient_is_refused_on_jax() -> None:
    with pytest.raises(jo.InputError, match="diagnose_controls: gradient must return at least one array; got none"):
        janode.jax.diagnose_controls(lambda _: None, "midpoint", TS, steps=4)

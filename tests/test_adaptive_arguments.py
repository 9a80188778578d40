"""What adaptive steps refuse, on every frontend: each fault has its own text, before the field is called."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax
import janode.numpy
import janode.torch

PI = janode.numpy.PIController

FRONTENDS = {
    "numpy": (janode.numpy, lambda values, dtype=np.float64: np.asarray(values, dtype)),
    "torch": (janode.torch, lambda values, dtype=np.float64: torch.from_numpy(np.array(values, dtype))),
    "jax": (janode.jax, lambda values, dtype=np.float64: jnp.asarray(values, dtype)),
}

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "rtol zero": ({"rtol": 0.0}, r"rtol must be > 0 and finite; got 0\.0\. Give for example 1e-6\."),
    "rtol negative": ({"rtol": -1e-3}, r"rtol must be > 0 and finite; got -0\.001"),
    "rtol NaN": ({"rtol": math.nan}, "rtol must be > 0 and finite; got nan"),
    "atol infinite": ({"atol": math.inf}, "atol must be > 0 and finite; got inf"),
    "atol zero": ({"atol": 0}, r"atol must be > 0 and finite; got 0\.0"),
    "rtol no number": ({"rtol": "tight"}, r"rtol must .*Or give one number\.|rtol must be a number.* got str"),
    "max_steps zero": ({"max_steps": 0}, "max_steps must be an integer >= 1; got 0. Give the most tries of a solve."),
    "max_steps a fraction": ({"max_steps": 1.5}, "max_steps must be an integer >= 1; got 1.5"),
    "max_steps a boolean": ({"max_steps": True}, "max_steps must be an integer >= 1; got True"),
    "one checkpoint": ({"checkpoints": 1}, "checkpoints must be an integer >= 2; got 1. Each takes the memory of one"),
    "half a checkpoint": ({"checkpoints": 2.5}, r"checkpoints must be an integer >= 2; got 2\.5"),
    "save unknown": ({"save": "hermite"}, 'save must be "interpolate" or "clip"; got \'hermite\'. With "clip" a step'),
    "controller a class": ({"controller": PI}, "controller must be a PIController or a PIDController; got type. Make"),
    "controller a dict": ({"controller": {}}, "controller must be a PIController or a PIDController; got dict"),
    "step_ts outside": (
        {"controller": PI(step_ts=[2.0])},
        r"step_ts must lie between the first and the last of ts, 0\.0 and 1\.0; got 2\.0\. Leave it out\.",
    ),
    "jump_ts outside": ({"controller": PI(jump_ts=[-1.0])}, r"jump_ts must lie between .* got -1\.0"),
    "jump_ts NaN": ({"controller": PI(jump_ts=[math.nan])}, "jump_ts must lie between .* got nan"),
    "a method without error estimate": (
        {"method": "rk4", "rtol": 1e-3},
        "adaptive steps must have a method with an error estimate, one of: .*dopri5.*; got 'rk4'. Choose one of",
    ),
    "a multistep method": ({"method": "leapfrog", "atol": 1e-3}, "with an error estimate, one of: .* got 'leapfrog'"),
    "a reversible method": ({"method": "reversible(tsit5)", "rtol": 1e-3}, r"got 'reversible\(tsit5\)'"),
    "steps and rtol": (
        {"steps": 5, "rtol": 1e-3},
        "steps or step_size must not come with rtol, for these belong to adaptive steps; got both. Leave out one",
    ),
    "step_size and more": (
        {"step_size": 0.1, "atol": 1e-3, "max_steps": 5, "checkpoints": 4, "controller": PI()},
        "must not come with atol and controller and max_steps and checkpoints",
    ),
    "equal times": ({"ts": [0.0, 1.0, 1.0]}, r"ts must be strictly .* got ts\[1\] = 1\.0, ts\[2\] = 1\.0"),
    "times not finite": ({"ts": [0.0, math.nan]}, r"ts must be finite; got ts\[1\] = nan"),
    "times to and fro": ({"ts": [0.0, 1.0, 0.5]}, "ts must be strictly increasing or strictly decreasing"),
    "one time": ({"ts": [0.0]}, "ts must have at least 2 entries; got 1"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("name", FRONTENDS)
def test_bad_arguments_are_refused_before_the_field_is_called(name: str, case: str) -> None:
    jo, array = FRONTENDS[name]
    changes, text = REFUSED[case]
    calls = []

    def field(t: Any, y: Any) -> Any:
        calls.append(1)
        return -y

    with pytest.raises(janode.numpy.InputError, match=f"solve: .*{text}|^solve: {text}"):
        jo.solve(field, array([1.0, 2.0]), **{"ts": [0.0, 1.0], **changes})
    assert not calls


@pytest.mark.parametrize("name", FRONTENDS)
def test_tolerances_that_do_not_fit_are_refused(name: str) -> None:
    jo, array = FRONTENDS[name]
    arguments = (lambda t, y: -y, array([1.0, 2.0]), [0.0, 1.0])
    with pytest.raises(jo.InputError, match=r"rtol must broadcast to the shape \(2,\) of its leaf; got shape \(3,\)"):
        jo.solve(*arguments, rtol=array([1e-3] * 3))
    with pytest.raises(jo.InputError, match=r"atol must broadcast to the shape \(2,\) of its leaf; got shape \(1, 2\)"):
        jo.solve(*arguments, atol=array([[1e-3] * 2]))
    with pytest.raises(jo.InputError, match="atol must be > 0 and finite; got"):
        jo.solve(*arguments, atol=array([1e-3, 0.0]))
    with pytest.raises(jo.InputError, match=r"rtol must .*structure of y0"):
        jo.solve(*arguments, rtol={"a": 1e-3})


@pytest.mark.parametrize("name", FRONTENDS)
def test_an_initial_state_that_is_not_finite_is_refused(name: str) -> None:
    jo, array = FRONTENDS[name]
    with pytest.raises(jo.InputError, match="solve: y0 must be finite; got an infinite or NaN entry"):
        jo.solve(lambda t, y: -y, array([1.0, math.inf]), [0.0, 1.0])


@pytest.mark.parametrize("name", FRONTENDS)
def test_controls_are_refused(name: str) -> None:
    jo, array = FRONTENDS[name]
    with pytest.raises(jo.InputError, match=r"solve: controls must come with fixed steps, .* got adaptive ones. Give"):
        jo.solve(lambda t, y, u: -u * y, array([1.0]), [0.0, 1.0], controls=array([1.0, 2.0]))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_corrections_are_refused(name: str) -> None:
    jo, array = FRONTENDS[name]
    with pytest.raises(jo.InputError, match="correction"):
        jo.solve(lambda t, y: -y, array([1.0]), [0.0, 1.0], correction="filter")


def test_corrections_are_refused_in_numpy() -> None:
    field = janode.numpy.Field(lambda t, y: -y, lambda t, y, bar: (None, -bar))
    with pytest.raises(janode.numpy.InputError, match=r"solve_vjp: .*correction"):
        janode.numpy.solve_vjp(field, np.ones(1), [0.0, 1.0], correction="filter")


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_adjoints_that_step_back_are_refused(name: str) -> None:
    jo, array = FRONTENDS[name]

    def solved(y0: Any) -> Any:
        return jo.solve(lambda t, y: -y, y0, [0.0, 1.0], adjoint="reconstruct").ys.sum()

    y0 = array([1.0])
    run = jax.grad(solved) if name == "jax" else lambda y0: solved(y0.requires_grad_())
    with pytest.raises(jo.InputError, match="solve: an adjoint that steps back must have a fixed grid; got adaptive"):
        run(y0)


def test_forced_times_need_known_ts_in_jax() -> None:
    run = jax.jit(lambda ts: janode.jax.solve(lambda t, y: -y, jnp.ones(1), ts, controller=PI(step_ts=[0.5])).ys)
    with pytest.raises(janode.jax.InputError, match="step_ts and jump_ts must come with ts known when the solve is"):
        run(jnp.array([0.0, 1.0]))


class Changing:
    """-y at first; from the third call on what ``change`` makes of it."""

    def __init__(self, change: Any) -> None:
        self.change, self.num = change, 0

    def __call__(self, t: Any, y: Any) -> Any:
        self.num += 1
        return -y if self.num < 3 else self.change(-y)


CHANGES: dict[str, tuple[Any, str]] = {
    "fewer entries": (lambda f: f[:1], r"must return shape \(2,\) and dtype .*float64 for y0; got shape \(1,\)"),
    "one more axis": (lambda f: f[None, :], r"must return shape \(2,\) and .* got shape \(1, 2\)"),
    "a number": (lambda f: 0.5, "must return the pytree of the state, a single array; got"),
}


@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_field_that_changes_its_shape_is_refused(name: str, case: str) -> None:
    jo, array = FRONTENDS[name]
    change, text = CHANGES[case]
    with pytest.raises(jo.InputError, match=f"solve: the field {text}"):
        jo.solve(Changing(change), array([1.0, 2.0]), [0.0, 1.0])


@pytest.mark.parametrize(
    ("name", "change", "before", "after"),
    [
        ("numpy", lambda f: f.astype(np.float32), np.float64, "float32"),
        ("numpy", lambda f: f.astype(np.float64), np.float32, "float64"),
        ("torch", lambda f: f.float(), np.float64, "torch.float32"),
        ("torch", lambda f: f.double(), np.float32, "torch.float64"),
    ],
)
def test_a_field_that_changes_its_dtype_is_refused(name: str, change: Any, before: Any, after: str) -> None:
    jo, array = FRONTENDS[name]
    with pytest.raises(jo.InputError, match=rf"solve: the field must return .* got shape \(2,\) and dtype {after}\."):
        jo.solve(Changing(change), array([1.0, 2.0], before), [0.0, 1.0])


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_field_that_changes_its_structure_is_refused(name: str) -> None:
    jo, array = FRONTENDS[name]
    with pytest.raises(jo.InputError, match="solve: the field must return the pytree of the state"):
        jo.solve(Changing(lambda f: (f,)), array([1.0, 2.0]), [0.0, 1.0])


@pytest.mark.parametrize("name", FRONTENDS)
def test_a_norm_of_the_user_gets_the_pytree_of_the_state(name: str) -> None:
    jo, array = FRONTENDS[name]
    seen = []

    def norm(ratios: Any) -> Any:
        seen.append({key: tuple(leaf.shape) for key, leaf in ratios.items()})
        return abs(ratios["a"]).sum()

    y0 = {"a": array([1.0, 2.0]), "b": array([3.0])}
    jo.solve(lambda t, y: {"a": -y["a"], "b": -y["b"]}, y0, [0.0, 1.0], controller=PI(norm=norm))
    assert seen[0] == {"a": (2,), "b": (1,)}

"""What is refused about controls and corrections, in which words, and that it is before the field is called."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax
import janode.numpy as jo
import janode.torch
from janode.core.corrected import _corrections
from janode.core.methods import find_method
from janode.core.multistep import Leapfrog

torch.set_num_threads(1)
calls: list[Any] = []


def fn(t: Any, y: Any, u: Any = 1.0) -> Any:
    calls.append(t)
    return u * y


def vjp(t: Any, y: Any, u: Any, f_bar: Any) -> Any:
    raise AssertionError("no gradient was asked for")


def by_numpy(ts: Any, u: Any, **options: Any) -> Any:
    u = jo.Knots(TWO, np.ones(2)) if isinstance(u, str) else u
    return jo.solve_vjp(jo.Field(fn, vjp), np.ones(2), ts, controls=u, **options)


def by_torch(ts: Any, u: Any, **options: Any) -> Any:
    if isinstance(u, str):
        u = janode.torch.Knots(TWO, torch.ones(2))
    elif isinstance(u, np.ndarray):
        u = torch.tensor(u, requires_grad=u.dtype.kind == "f")
    return janode.torch.solve(fn, torch.ones(2, dtype=torch.float64), ts, controls=u, **options)


def by_jax(ts: Any, u: Any, **options: Any) -> Any:
    u = janode.jax.Knots(TWO, jnp.ones(2)) if isinstance(u, str) else u
    return janode.jax.solve(fn, jnp.ones(2), ts, controls=u, **options)


FRONTENDS = {"numpy": by_numpy, "torch": by_torch, "jax": by_jax}
TWO, THREE = [0.0, 1.0], [0.0, 0.5, 1.0]
HOW = r" control_times\(method, ts, ...\) gives the time of each"

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "too many": ({"u": np.ones(9)}, r"controls must have a leading axis of 8 nodes; got shape \(9,\)." + HOW),
    "too few": ({"u": np.ones((7, 2))}, r"controls must have a leading axis of 8 nodes; got shape \(7, 2\)." + HOW),
    "0-d": ({"u": np.array(1.0)}, r"controls must have a leading axis of 8 nodes; got shape \(\)"),
    "none in the tree": ({"u": {}}, r"controls must have at least one array; got none"),
    "integers": ({"u": np.ones(8, dtype=int)}, r"controls must be a real or complex floating-point array; got dtype"),
    "one per step": (
        {"u": np.ones(8), "sampling": "steps"},
        r"controls must have a leading axis of 4 steps; got shape \(8,\)." + HOW,
    ),
    "unknown sampling": ({"u": np.ones(8), "sampling": "node"}, r'sampling must be "nodes" or "steps"; got \'node\''),
    "unknown correction": (
        {"u": np.ones(8), "correction": "filtr"},
        r"correction for method 'midpoint' must be one of: filter, auto, consistent, divide, none; got 'filtr'",
    ),
    "a correction of another method": (
        {"u": np.ones(8), "correction": "adjoint_average"},
        r"correction for method 'midpoint' must be one of: .*consistent, .*filter, none; got 'adjoint_average'",
    ),
    "a correction without controls": (
        {"u": None, "correction": "auto"},
        r"correction 'consistent' must have controls at nodes; got no controls",
    ),
    "a correction of controls on knots": (
        {"u": "knots", "correction": "filter"},
        r"correction 'filter' must have controls at nodes; got no controls there. .* those on Knots need no other",
    ),
    "a correction of controls per step": (
        {"u": np.ones(4), "sampling": "steps", "correction": "filter"},
        r"correction 'filter' must have controls at nodes; got sampling=\"steps\"",
    ),
    "too few steps between times": (
        {"ts": THREE, "steps": 3, "u": np.ones(7), "method": "leapfrog", "correction": "filter"},
        r"correction 'filter' for method 'leapfrog' must have at least 4 steps between neighbouring ts; got 3. Take "
        'more steps, or correction="consistent"',
    ),
    "too few steps": (
        {"u": np.ones(4), "method": "leapfrog", "steps": 3, "correction": "filter"},
        r"correction 'filter' for method 'leapfrog' must have at least 4 steps; got 3",
    ),
    "weights that are zero": ({"u": np.ones(8), "correction": "divide"}, r"divide: b must have no weights .* b_1 = 0"),
    "Euler's formula for another start": (
        {"u": np.ones(6), "method": Leapfrog("midpoint"), "correction": "filter_descent"},
        r"correction for method Leapfrog\(start_method='midpoint', ending='plain'\) must be one of: filter, "
        "adjoint_average, auto, consistent, none; got 'filter_descent'",
    ),
    "no correction to choose": (
        {"u": np.ones(5), "method": "alf", "correction": "auto"},
        r"correction for method AsynchronousLeapfrog\(.*\) must be one of: none; got 'auto'",
    ),
    "a filter on a smoothed solve": (
        {"u": np.ones(5), "method": Leapfrog(ending="smoothed"), "correction": "filter"},
        r"correction for method Leapfrog\(start_method='euler', ending='smoothed'\) must be one of: auto, none; got",
    ),
    "unequal steps": (
        {"ts": [0.0, 0.3, 1.0], "steps": 2, "u": np.ones(5), "method": "leapfrog"},
        r"steps must all be equal for method 'leapfrog'; got sizes from 0.15",
    ),
    "an unknown method": ({"u": np.ones(5), "method": "leapfrogs"}, r"method must be one of: leapfrog, ab2, ab3, ab4,"),
}


@pytest.mark.parametrize("frontend", FRONTENDS.values(), ids=FRONTENDS)
@pytest.mark.parametrize("case", CASES)
def test_refused_before_the_field_is_called(case: str, frontend: Callable[..., Any]) -> None:
    options, text = CASES[case]
    calls.clear()
    with pytest.raises(jo.InputError, match=text):
        frontend(**{"ts": TWO, "method": "midpoint", "steps": 4, **options})
    assert [t for t in calls if not isinstance(t, jax.core.Tracer)] == []


NAMED = [
    (method, name)
    for method in ("leapfrog", "euler", "midpoint", "rk4", "dopri5", "tsit5", "dopri8", "ab2", "ab3", "ab4")
    for name, found in _corrections(find_method(method)).items()
    if found.least_steps > 1
]


@pytest.mark.parametrize(("method", "correction"), NAMED)
def test_one_step_too_few_is_refused(method: str, correction: str) -> None:
    least = _corrections(find_method(method))[correction].least_steps
    u = np.ones(len(jo.control_times(method, TWO, steps=least - 1)))
    text = (
        rf"solve_vjp: correction '{correction}' for method '{method}' must have at least {least} steps; got {least - 1}"
    )
    with pytest.raises(jo.InputError, match=text):
        by_numpy(TWO, u, method=method, steps=least - 1, correction=correction)


@pytest.mark.parametrize("correction", ["auto", "filter"])
@pytest.mark.parametrize("frontend", [by_torch, by_jax], ids=["torch", "jax"])
def test_a_correction_that_the_framework_would_ignore_is_refused(frontend: Callable[..., Any], correction: str) -> None:
    text = rf'solve: adjoint must not be "backprop" with a correction, .* got correction=\'{correction}\''
    with pytest.raises(jo.InputError, match=text):
        frontend(TWO, np.ones(8), method="midpoint", steps=4, adjoint="backprop", correction=correction)


# Times that are known only when the compiled solve runs.


@jax.jit
def leapfrog(ts: Any) -> Any:
    return janode.jax.solve(lambda t, y: -y, jnp.ones(2), ts, method="leapfrog", steps=3)


@pytest.mark.parametrize(
    "ts", [[0.0, 0.3, 1.0], [0.0, 1.0, 0.5], [0.0, 1.0, 2.00001]], ids=["unequal", "not monotonic", "nearly equal"]
)
def test_traced_times_that_are_wrong_give_no_solution(ts: Any) -> None:
    solution = leapfrog(jnp.asarray(ts))
    assert (
        solution.message == "ts was not strictly monotonic, or not equally spaced for a method that needs equal steps"
    )
    assert jnp.all(jnp.isnan(solution.ys[1:]))


def test_traced_times_that_are_right_are_taken() -> None:
    assert leapfrog(jnp.linspace(0.0, 10.0, 3)).message == "success"
    assert leapfrog(jnp.asarray(np.linspace(0.0, 10.0, 3, dtype=np.float32))).message == "success"


def test_times_that_are_differentiated_are_refused_by_name() -> None:
    def last(ts: Any) -> Any:
        return janode.jax.solve(lambda t, y: -y, jnp.ones(2), ts, method="leapfrog", steps=3).ys[-1].sum()

    with pytest.raises(jo.InputError, match=r"solve: steps must all be equal for method 'leapfrog'; got sizes"):
        jax.grad(last)(jnp.asarray([0.0, 0.3, 1.0]))


# The helpers.


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ts": [0.0]}, r"control_times: ts must have at least 2 entries; got 1"),
        ({"steps": None}, r"control_times: exactly one of steps and step_size must be given; got neither"),
        ({"sampling": "stages"}, r'control_times: sampling must be "nodes" or "steps"; got \'stages\''),
        ({"method": "ab2", "ts": [0.0, 0.1, 1.0]}, r"control_times: steps must all be equal for method 'ab2'"),
    ],
)
def test_times_of_no_solve_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.control_times(**{"method": "midpoint", "ts": TWO, "steps": 4, **options})


@pytest.mark.parametrize("frontend", [jo, janode.torch], ids=["numpy", "torch"])
def test_nothing_to_refine_is_refused(frontend: Any) -> None:
    with pytest.raises(jo.InputError, match="refine_controls: there must be at least one array; got none"):
        frontend.refine_controls({}, TWO, THREE)


@pytest.mark.parametrize(("frontend", "xp"), [(jo, np), (janode.torch, torch), (janode.jax, jnp)], ids=FRONTENDS)
@pytest.mark.parametrize(
    ("u", "options", "text"),
    [
        ([1.0, 2.0, 3.0], {}, r"refine_controls: controls\['u'\] must have a leading axis of 2, .* got shape \(3,\)"),
        ([1.0, 2.0], {}, r"interpolate: times must be at least 4 for this order; got 2"),
        ([1.0, 2.0], {"order": 1}, r"interpolate: order must be an integer >= 2; got 1"),
    ],
)
def test_controls_that_cannot_be_refined(frontend: Any, xp: Any, u: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        frontend.refine_controls({"u": xp.asarray(u)}, TWO, THREE, **options)

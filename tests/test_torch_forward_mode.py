"""Forward mode and second derivatives in PyTorch: right for every exact adjoint, refused by name for the others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.autograd.functional import hessian

import janode.numpy
import janode.torch as jo

from .adaptive_oracle import freeze

torch.set_num_threads(1)
# PyTorch compiles rules of forward mode by what it deprecates itself; once, and only if forward mode is used.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
F64 = torch.float64

EXACT = ["backprop", "auto", "symplectic", "aca", "stages", "restart", "revolve"]
GRIDS: dict[str, dict[str, Any]] = {
    "fixed": {"method": "rk4", "steps": 3},
    "adaptive": {"method": "dopri5", "rtol": 1e-4, "atol": 1e-6},
    "multistep": {"method": "ab3", "steps": 3},
}
REVERSIBLE: dict[str, dict[str, Any]] = {
    name: {"method": name, "steps": 3, "adjoint": "reversible"} for name in ("leapfrog", "alf", "reversible(rk4)")
}
FIXED = {
    f"{grid}-{name}": GRIDS[grid] | {"adjoint": name} for grid in ("fixed", "multistep") for name in EXACT
} | REVERSIBLE
CASES = {
    f"{grid}-{name}": options | {"adjoint": name} for grid, options in GRIDS.items() for name in EXACT
} | REVERSIBLE

Q = torch.tensor([1.1, 0.4, 0.3, 0.6, 1.0, 0.5, 0.0, 1.0, 2.0], dtype=F64)
"""Four rates, the initial state, and three times."""
V = torch.linspace(1.0, 2.0, 9, dtype=F64)


def lotka_volterra(t: Any, y: Any, p: Any) -> Any:
    return torch.cos(t) * torch.stack([p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1]])


def in_numpy(t: Any, y: Any, p: Any) -> Any:
    return np.cos(t) * np.stack([p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1]])


def loss(q: torch.Tensor, **options: Any) -> torch.Tensor:
    """Of the states at all times but the first, as a function of all that a solve depends on."""
    return (jo.solve(lotka_volterra, q[4:6], q[6:], q[:4], **options).ys[1:] ** 2).sum()


def gradient(q: torch.Tensor, **options: Any) -> torch.Tensor:
    q = q.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(q, **options), q)[0]


def by_differences(f: Callable[[Any], Any], q: Any) -> np.ndarray:
    """The Jacobian with respect to the four rates, of fourth order."""
    rows = []
    for e in 1e-3 * np.eye(len(q))[:4]:
        near, far = f(q + e) - f(q - e), f(q + 2.0 * e) - f(q - 2.0 * e)
        rows.append((8.0 * near - far) / 12e-3)
    return np.stack(rows)


@pytest.mark.parametrize("options", FIXED.values(), ids=list(FIXED))
def test_the_hessian_is_that_of_differences_of_the_gradient(options: dict[str, Any]) -> None:
    found = hessian(lambda p: loss(torch.cat([p, Q[4:]]), **options), Q[:4])
    expected = by_differences(lambda q: gradient(torch.tensor(q), **options)[:4].numpy(), Q.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("adjoint", "save"), [*((name, "interpolate") for name in EXACT), ("auto", "clip")])
def test_the_hessian_on_adaptive_steps_is_that_of_the_accepted_ones(adjoint: str, save: str, monkeypatch: Any) -> None:
    options = {"method": "dopri5", "rtol": 1e-3, "atol": 1e-5, "save": save}
    q = Q.numpy()
    field = janode.numpy.Field(in_numpy, lambda *args: None)
    _, _, frozen = freeze(monkeypatch, field, q[4:6], q[6:].tolist(), q[:4], **options)

    def gradient_of_frozen(q: Any) -> np.ndarray:
        """By complex steps."""
        return np.array([end(q + 1e-30j * e).imag / 1e-30 for e in np.eye(9)[:4]])

    def end(q: Any) -> Any:
        return (frozen(in_numpy, q[4:6], q[6:].real, q[:4])[1:] ** 2).sum()

    found = hessian(lambda p: loss(torch.cat([p, Q[4:]]), adjoint=adjoint, **options), Q[:4])
    np.testing.assert_allclose(found, by_differences(gradient_of_frozen, q), rtol=1e-7, atol=1e-7)


def assert_second_order(derivative: Callable[..., Any], options: dict[str, Any]) -> None:
    """The Hessian with respect to rates, state and times is that of the recorded operations of the solver."""
    expected = hessian(lambda q: loss(q, **options | {"adjoint": "backprop"}), Q)
    torch.testing.assert_close(derivative(lambda q: loss(q, **options))(Q), expected, rtol=1e-11, atol=1e-11)


DERIVATIVES: dict[str, Callable[..., Any]] = {
    "torch.func.hessian": torch.func.hessian,
    "jacrev of jacrev": lambda f: torch.func.jacrev(torch.func.jacrev(f)),
}
FEW = {name: CASES[name] for name in ("fixed-aca", "adaptive-symplectic", "multistep-auto", "alf")}


@pytest.mark.parametrize("options", CASES.values(), ids=list(CASES))
def test_create_graph(options: dict[str, Any]) -> None:
    assert_second_order(lambda f: lambda q: hessian(f, q), options)


@pytest.mark.parametrize("options", FEW.values(), ids=list(FEW))
@pytest.mark.parametrize("derivative", DERIVATIVES.values(), ids=list(DERIVATIVES))
def test_transforms_of_torch_func(derivative: Any, options: dict[str, Any]) -> None:
    assert_second_order(derivative, options)


def pushed(f: Callable[..., Any], q: torch.Tensor) -> torch.Tensor:
    """The derivative along V, in forward mode."""
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(q, V))).tangent
    assert tangent is not None
    return tangent


@pytest.mark.parametrize("options", CASES.values(), ids=list(CASES))
def test_forward_mode_is_adjoint_to_the_gradient(options: dict[str, Any]) -> None:
    expected = gradient(Q, **options) @ V
    assert float(pushed(lambda q: loss(q, **options), Q)) == pytest.approx(float(expected), rel=1e-12)
    _, tangent = torch.func.jvp(lambda q: loss(q, **options), (Q,), (V,))
    assert float(tangent) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("options", FEW.values(), ids=list(FEW))
def test_jacobians_in_forward_mode(options: dict[str, Any]) -> None:
    torch.testing.assert_close(torch.func.jacfwd(lambda q: loss(q, **options))(Q), gradient(Q, **options))


@pytest.mark.parametrize("options", FEW.values(), ids=list(FEW))
def test_a_product_with_the_hessian_forward_over_reverse(options: dict[str, Any]) -> None:
    found = pushed(lambda q: torch.autograd.grad(loss(q, **options), q)[0], Q.clone().requires_grad_())
    _, expected = torch.autograd.functional.vhp(lambda q: loss(q, **options | {"adjoint": "backprop"}), Q, V)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_third_derivatives() -> None:
    def second(adjoint: str) -> torch.Tensor:
        q = Q.clone().requires_grad_()
        (first,) = torch.autograd.grad(loss(q, method="rk4", steps=2, adjoint=adjoint), q, create_graph=True)
        (second,) = torch.autograd.grad(first @ V, q, create_graph=True)
        return torch.autograd.grad(second @ V, q)[0]

    torch.testing.assert_close(second("symplectic"), second("backprop"), rtol=1e-11, atol=1e-11)


class Net(torch.nn.Module):
    """A field with parameters of its own, which captures a tensor, and one that depends on its params as well."""

    def __init__(self, captured: torch.Tensor) -> None:
        super().__init__()
        self.linear, self.captured = torch.nn.Linear(2, 2, dtype=F64), captured

    def forward(self, t: torch.Tensor, y: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.linear(y) * p + t * self.captured)


@pytest.mark.parametrize("adjoint", ["symplectic", "aca", "revolve"])
def test_places_of_one_tensor_get_their_own_shares(adjoint: str) -> None:
    """The initial state depends on what is captured, and the params on a parameter of the module."""

    def second(adjoint: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        w = torch.tensor([0.3, -0.2], dtype=F64, requires_grad=True)
        net = Net(w)
        leaves = [w, *net.parameters()]
        y0, p = 2.0 * w.sin(), net.linear.bias.exp()
        ys = jo.solve(net, y0, [0.0, 1.0], p, method="rk4", steps=3, adjoint=adjoint).ys
        first = torch.autograd.grad((ys[-1] ** 2).sum(), leaves, create_graph=True)
        return [*first, *torch.autograd.grad(sum((bar**2).sum() for bar in first), leaves)]

    for found, expected in zip(second(adjoint), second("backprop"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_random_fields_draw_the_same_numbers_for_second_derivatives() -> None:
    def field(t: Any, y: Any, k: Any) -> Any:
        return -k * y * y * torch.nn.functional.dropout(torch.ones_like(y), 0.5)

    def second(adjoint: str) -> torch.Tensor:
        torch.manual_seed(1)
        k = torch.tensor(0.5, dtype=F64, requires_grad=True)
        ys = jo.solve(field, torch.ones(8, dtype=F64), [0.0, 1.0], k, method="rk4", steps=3, adjoint=adjoint).ys
        (first,) = torch.autograd.grad(ys[-1].sum(), k, create_graph=True)
        return torch.stack([first.detach(), *torch.autograd.grad(first, k)])

    torch.testing.assert_close(second("symplectic"), second("backprop"), rtol=1e-12, atol=1e-12)


def test_the_time_and_state_of_an_event_are_pushed() -> None:
    """y = c exp(-t) comes to 1/2 at t = log 2 c, and stays there."""

    def event(c: torch.Tensor) -> Any:
        found = jo.solve(lambda t, y: -y, c, [0.0, 3.0], event=lambda t, y: (y - 0.5).sum(), rtol=1e-9, atol=1e-9)
        return torch.stack([found.event.t, found.event.y[0]])

    with forward_ad.dual_level():
        c = forward_ad.make_dual(torch.full((1,), 2.0, dtype=F64), torch.ones(1, dtype=F64))
        tangent = forward_ad.unpack_dual(event(c)).tangent
    torch.testing.assert_close(tangent, torch.tensor([0.5, 0.0], dtype=F64), rtol=1e-7, atol=1e-9)


def end(c: torch.Tensor, read: Any = lambda found: found.ys, field: Any = lambda t, y: -y, **options: Any) -> Any:
    return read(jo.solve(field, c, [0.0, 2.0], **options)).sum()


def twice(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda c: hessian(f, c)


def in_forward_mode(f: Callable[..., Any]) -> Callable[..., Any]:
    def run(c: torch.Tensor) -> Any:
        with forward_ad.dual_level():
            return torch.autograd.grad(f(forward_ad.make_dual(c.requires_grad_(), torch.ones_like(c))), c)

    return run


EVENT: dict[str, Any] = {"event": lambda t, y: (y - 0.5).sum(), "read": lambda found: found.event.t}
CONTROLS: dict[str, Any] = {
    "field": lambda t, y, u: u * y,
    "controls": torch.ones(8, dtype=F64),
    "method": "midpoint",
    "steps": 4,
    "correction": "filter",
}
TWICE = r"second derivatives must be taken by the framework; .* They are to be had with an exact adjoint"
FORWARD = "forward mode and transforms of torch.func must have an exact adjoint"
REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "twice, reconstruct": (twice, {"steps": 3, "adjoint": "reconstruct"}, TWICE),
    "twice, backsolve": (twice, {"steps": 3, "adjoint": "backsolve"}, TWICE),
    "twice, correction": (twice, CONTROLS, TWICE),
    "twice, batch": (twice, {"batch_axis": 0}, TWICE),
    "twice, event": (twice, EVENT, "for events finite differences of gradients"),
    "twice, event of backprop": (twice, EVENT | {"adjoint": "backprop"}, "Events are differentiated once"),
    "twice, dense": (twice, {"dense": True, "read": lambda found: found.interpolant(1.0)}, TWICE),
    "forward, reconstruct": (in_forward_mode, {"steps": 3, "adjoint": "reconstruct"}, FORWARD),
    "forward, backsolve": (in_forward_mode, {"steps": 3, "adjoint": "backsolve"}, FORWARD),
    "forward, correction": (in_forward_mode, CONTROLS, FORWARD),
    "forward, batch": (in_forward_mode, {"batch_axis": 0}, FORWARD),
    "forward over reverse, event": (in_forward_mode, EVENT, "an event must not be taken in forward mode"),
    "torch.func, reconstruct": (torch.func.grad, {"steps": 3, "adjoint": "reconstruct"}, FORWARD),
    "torch.func, event": (torch.func.grad, EVENT, "events must be differentiated by torch.autograd or in forward mode"),
    "vmap": (torch.func.vmap, {"steps": 3}, r"must not be batched by torch.func.vmap"),
    "vmap of grad": (lambda f: torch.func.vmap(torch.func.grad(f)), {"steps": 3}, "must not be batched"),
}


@pytest.mark.parametrize(("how", "options", "text"), REFUSED.values(), ids=list(REFUSED))
def test_refused(how: Any, options: dict[str, Any], text: str) -> None:
    c = torch.full((2, 2) if how is torch.func.vmap else (1,), 2.0, dtype=F64)
    with pytest.raises(jo.InputError, match=text):
        how(lambda c: end(c, **options))(c)


@pytest.mark.parametrize("grid", GRIDS)
def test_solve_jvp(grid: str) -> None:
    dots = {"y0_dot": V[4:6], "params_dot": V[:4], "ts_dot": V[6:]}
    solution, ys_dot = jo.solve_jvp(lotka_volterra, Q[4:6], Q[6:], Q[:4], **dots, **GRIDS[grid])
    expected = float(gradient(Q, **GRIDS[grid]) @ V)
    assert 2.0 * float((solution.ys * ys_dot)[1:].sum()) == pytest.approx(expected, rel=1e-12)
    assert solution.ys.requires_grad is False
    torch.testing.assert_close(solution.ts, Q[6:], rtol=0.0, atol=0.0)


def test_solve_jvp_of_pytrees_and_knots() -> None:
    """A leaf that is None is not moved; what nothing depends on has a tangent of zero."""
    values, k = torch.tensor([1.0, 0.5, 2.0], dtype=F64), torch.tensor(0.5, dtype=F64)
    y0 = {"y": torch.ones(2, dtype=F64), "z": torch.zeros(1, dtype=F64)}

    def field(t: Any, y: Any, p: Any, u: Any) -> Any:
        return {"y": -p["k"] * y["y"] ** 2 * u, "z": torch.ones_like(y["z"])}

    def end(k: Any, values: Any) -> Any:
        knots = jo.Knots([0.0, 0.5, 1.0], values)
        return jo.solve(field, y0, [0.0, 1.0], {"k": k}, controls=knots).ys["y"][-1, 0]

    dots = {"params_dot": {"k": torch.tensor(2.0, dtype=F64)}, "controls_dot": torch.tensor([1.0, 0.0, 3.0], dtype=F64)}
    knots = jo.Knots([0.0, 0.5, 1.0], values)
    _, ys_dot = jo.solve_jvp(field, y0, [0.0, 1.0], {"k": k}, controls=knots, y0_dot={"y": None, "z": None}, **dots)
    k_bar, values_bar = torch.autograd.functional.jacobian(end, (k, values))
    torch.testing.assert_close(
        ys_dot["y"][-1, 0], 2.0 * k_bar + values_bar @ dots["controls_dot"], rtol=1e-12, atol=0.0
    )
    torch.testing.assert_close(ys_dot["z"], torch.zeros(2, 1, dtype=F64))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"y0_dot": torch.ones(3, dtype=F64)}, r"y0_dot must have shape \(2,\) .* Give the tangent the shape"),
    "structure": ({"y0_dot": {"a": torch.ones(2, dtype=F64)}}, "y0_dot must have the structure of y0"),
    "times": ({"ts_dot": [1.0]}, r"ts_dot must have shape \(2,\)"),
    "adjoint": ({"adjoint": "aca"}, "adjoint must not be given"),
    "event": ({"event": lambda t, y: y[0]}, "event must not be given"),
}


@pytest.mark.parametrize(("options", "text"), BAD.values(), ids=list(BAD))
def test_solve_jvp_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.solve_jvp(lambda t, y: -y, torch.ones(2, dtype=F64), [0.0, 1.0], **options)

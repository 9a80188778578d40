"""What odeint makes of torchdiffeq's options, callbacks and adjoint_params, and what it refuses."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchdiffeq

import janode.torch as jo
from janode.core.spaced import bracket, cubic, linear, spaced
from tests.torch_odeint_calls import INTERFACES, PAIR, TIMES, Counted, assert_close, no_params, ragged, solved
from tests.torch_oracle import F64, Net, one_thread

__all__ = ["one_thread"]
STEPS = {
    "first_step": ({"first_step": 0.015625}, lambda log: log[0][1] == 0.015625),
    "max_step": ({"max_step": 0.05}, lambda log: max(h for _, h in log) <= 0.05 + 1e-12),
    "min_step": ({"min_step": 0.2}, lambda log: all(h > 0.199 for _, h in log[:-1])),
    "step_t": ({"step_t": torch.tensor([0.125, 7.0])}, lambda log: 0.125 in [t for t, _ in log]),
    "jump_t": ({"jump_t": torch.tensor([0.5])}, lambda log: 0.5 in [t for t, _ in log]),
    "ifactor": (
        {"ifactor": 1.5, "first_step": 1e-3},
        lambda log: all(b[1] <= 1.5 * a[1] + 1e-12 for a, b in itertools.pairwise(log)),
    ),
}


class Watched(torch.nn.Module):
    """A field with callbacks."""

    def __init__(self, callbacks: tuple[str, ...]) -> None:
        super().__init__()
        self.log: dict[str, list[tuple[float, float]]] = {name: [] for name in callbacks}
        self.states: list[Any] = []
        for name in callbacks:
            setattr(self, name, lambda t, y, h, name=name: self.note(name, t, y, h))

    def note(self, name: str, t: torch.Tensor, y: torch.Tensor, h: torch.Tensor) -> None:
        assert t.shape == h.shape == ()
        self.log[name].append((float(t), float(h)))
        self.states.append(y.detach())

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -y * torch.cos(9.0 * t)


ALL = ("callback_step", "callback_accept_step", "callback_reject_step")


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("lib", [jo, torchdiffeq], ids=["janode", "torchdiffeq"])
def test_options_rule_the_steps(lib: Any, name: str) -> None:
    options, holds = STEPS[name]
    field = Watched(("callback_accept_step",))
    y0, t = torch.ones(2, dtype=F64), torch.tensor([0.0, 1.0], dtype=F64)
    lib.odeint(field, y0, t, method="dopri5", rtol=1e-4, atol=1e-6, options=options)
    assert holds(field.log["callback_accept_step"])


@pytest.mark.parametrize("ts", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "backward"])
@pytest.mark.parametrize("interface", INTERFACES)
def test_callbacks_of_adaptive_steps(interface: str, ts: tuple[float, float]) -> None:
    field = Watched(ALL)
    y0 = torch.ones(2, dtype=F64, requires_grad=True)
    ys = getattr(jo, interface)(field, y0, torch.tensor(ts, dtype=F64), rtol=1e-8, atol=1e-10)
    tried, accepted, rejected = field.log.values()
    before = [list(calls) for calls in (tried, accepted, rejected)]
    ys.sum().backward()
    assert before == [tried, accepted, rejected], "a backward pass takes no steps"
    assert sorted(tried) == sorted(accepted + rejected)
    assert rejected
    assert all(h > 0.0 for _, h in tried)
    assert tried[0][0] == ts[0]
    assert sum(h for _, h in accepted) == pytest.approx(1.0)
    assert torch.equal(field.states[0], y0.detach())


@pytest.mark.parametrize("lib", [jo, torchdiffeq], ids=["janode", "torchdiffeq"])
@pytest.mark.parametrize("interface", INTERFACES)
def test_callbacks_of_fixed_steps(interface: str, lib: Any) -> None:
    field = Watched(("callback_step",))
    y0, t = torch.ones(2, dtype=F64, requires_grad=True), torch.tensor([1.0, 0.4, 0.0], dtype=F64)
    getattr(lib, interface)(field, y0, t, method="euler", **no_params(interface)).sum().backward()
    assert sum(field.log["callback_step"], ()) == pytest.approx((1.0, 0.6, 0.4, 0.4))
    assert torch.equal(field.states[0], y0.detach())


@pytest.mark.parametrize("method", ["euler", "dopri5"])
def test_a_captured_tensor_makes_no_callback_twice(method: str) -> None:
    rate = torch.tensor(2.0, dtype=F64, requires_grad=True)
    calls: list[float] = []

    class Capturing:
        def __call__(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return -rate * y

        def callback_step(self, t: torch.Tensor, y: torch.Tensor, h: torch.Tensor) -> None:
            calls.append(float(t))

    jo.odeint_adjoint(Capturing(), torch.ones(2, dtype=F64), TIMES, method=method).sum().backward()
    assert rate.grad is not None
    assert calls.count(0.0) == 1


def test_callbacks_that_are_never_made_are_named() -> None:
    y0, t = torch.ones(2, dtype=F64), torch.tensor([0.0, 1.0], dtype=F64)
    with pytest.warns(UserWarning, match="fixed steps call callback_step alone"):
        jo.odeint(Watched(ALL), y0, t, method="euler")
    with pytest.warns(UserWarning, match=r"it never calls \['callback_step_adjoint'\]"):
        jo.odeint_adjoint(Watched(("callback_step_adjoint",)), y0, t)


def test_perturb_sees_each_step_from_inside() -> None:
    def field(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.where(t < 0.5, 1.0, -1.0) * torch.ones_like(y)

    t = torch.tensor([0.0, 0.5, 1.0], dtype=F64)
    plain, perturbed = (
        jo.odeint(field, torch.zeros(1, dtype=F64), t, method="heun2", options={"perturb": is_perturbed})
        for is_perturbed in (False, True)
    )
    assert plain[1, 0] == 0.0, "the end of the first step sees the second one's field"
    assert perturbed[1, 0] == 0.5
    assert perturbed[2, 0] == 0.0


@pytest.mark.parametrize("ts", [(0.0, 1.0), (1.0, 0.0)], ids=["forward", "backward"])
def test_jump_t_never_sees_the_jump(ts: tuple[float, float]) -> None:
    field = Counted(lambda t, y: torch.where(t < 0.5, 1.0, -1.0) * y)
    t = torch.tensor(ts, dtype=F64)
    ys = jo.odeint(field, torch.ones(1, dtype=F64), t, method="dopri5", options={"jump_t": torch.tensor([0.5])})
    assert abs(float(ys[-1]) - 1.0) < 1e-6
    assert 0.5 not in field.times


class Two(torch.nn.Module):
    """A field with two parameters and a captured tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(0.5, dtype=F64))
        self.b = torch.nn.Parameter(torch.tensor(-0.3, dtype=F64))
        self.c = torch.tensor(0.2, dtype=F64, requires_grad=True)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.a * y + self.b * t + self.c


CHOICES: dict[str, Callable[[Two], tuple[torch.Tensor, ...]]] = {
    "none": lambda field: (),
    "one": lambda field: (field.b,),
    "one that is no parameter": lambda field: (field.c, field.a),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("options", [{"method": "rk4", "options": {"step_size": 0.3}}, {}], ids=["fixed", "adaptive"])
def test_adjoint_params_alone_get_a_gradient(choice: str, options: dict[str, Any]) -> None:
    found = []
    for lib in (jo, torchdiffeq):
        field = Two()
        y0, t = torch.ones(2, dtype=F64, requires_grad=True), TIMES.clone().requires_grad_()
        params = (param for param in CHOICES[choice](field))
        ys = lib.odeint_adjoint(field, y0, t, adjoint_params=params, **options)
        ys.square().sum().backward()
        found.append([leaf.grad for leaf in (y0, t, field.a, field.b, field.c)])
    assert [bar is None for bar in found[0]] == [bar is None for bar in found[1]]
    for a, b in zip(*found, strict=True):
        if a is not None:
            assert torch.allclose(a, b, rtol=1e-2 if options else 1e-5)


def test_adjoint_params_give_the_exact_gradient() -> None:
    found = []
    for interface, options in (("odeint", {}), ("odeint_adjoint", {"adjoint_params": ()})):
        field = Two()
        y0 = torch.ones(2, dtype=F64, requires_grad=True)
        options["adjoint_params" if options else "method"] = (field.a,) if options else "dopri5"
        getattr(jo, interface)(field, y0, TIMES, **options).square().sum().backward()
        found.append([y0.grad, field.a.grad])
    assert_close((found[0][0], found[0]), (found[1][0], found[1]), 1e-12)


def test_adjoint_options_have_no_effect() -> None:
    plain = solved(jo, "odeint_adjoint", method="dopri5")
    adjoint = {"adjoint_rtol": 1e-2, "adjoint_atol": 1e-1, "adjoint_method": "bosh3"}
    same = solved(jo, "odeint_adjoint", method="dopri5", **adjoint, adjoint_options={"norm": "seminorm"})
    assert_close(same, plain, 0.0)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an implicit method": (
        {"method": "implicit_adams"},
        "method must be explicit; got 'implicit_adams'.* Use 'dopri5'",
    ),
    "an implicit method of later": ({"method": "radauIIA5"}, "method must be explicit; got 'radauIIA5'"),
    "SciPy": ({"method": "scipy_solver"}, "got 'scipy_solver'. Use 'dopri5' for RK45"),
    "a method nobody knows": ({"method": "dopri6"}, "method must be one of: dopri8, dopri5.*; got 'dopri6'"),
    "an option nobody knows": (
        {"options": {"frist_step": 0.1}},
        "the keys of options for this method must be one of: first_step.*; got 'frist_step'",
    ),
    "an option of adaptive steps": ({"method": "rk4", "options": {"first_step": 0.1}}, "step_size; got 'first_step'"),
    "an option of fixed steps": ({"options": {"step_size": 0.1}}, "got 'step_size'"),
    "the order of Adams": ({"method": "explicit_adams", "options": {"max_order": 5}}, "of order 4; got max_order=5"),
    "uneven steps of Adams": ({"method": "explicit_adams"}, "steps must all be equal"),
    "two grids": (
        {"method": "rk4", "options": {"step_size": 0.1, "grid_constructor": ragged}},
        "at most one of step_s",
    ),
    "a grid that ends early": (
        {"method": "rk4", "options": {"grid_constructor": lambda f, y, t: t[:-1]}},
        r"a 1-D tensor from t\[0\] to t\[-1\]; got",
    ),
    "a step size of zero": ({"method": "rk4", "options": {"step_size": 0.0}}, "step_size must be positive.*got 0.0"),
    "an unknown interpolation": ({"method": "rk4", "options": {"interp": "quadratic"}}, "interp must be .*'quadratic'"),
    "a dtype that is none": ({"options": {"dtype": "float"}}, "dtype must be a real floating-point dtype"),
    "no steps": ({"options": {"max_num_steps": 0}}, "max_num_steps must be at least 1; got 0"),
    "a factor out of range": ({"options": {"dfactor": 2.0}}, r"dfactor is min_factor.*min_factor must be in \(0, 1\)"),
    "limits that contradict": ({"options": {"min_step": 1.0, "max_step": 0.1}}, "min_step must be at most max_step"),
    "a time twice": (
        {"options": {"step_t": torch.tensor([0.5]), "jump_t": torch.tensor([0.5])}},
        "step_t and jump_t must not repeat a time",
    ),
    "a tolerance of zero": ({"rtol": 0.0}, "rtol must be > 0"),
    "a tolerance with gradient": ({"atol": torch.tensor(1e-6, requires_grad=True)}, "atol must not require gradient"),
    "tolerances for another tuple": ({"y0": PAIR, "rtol": (1e-6,)}, "rtol must have one entry for each part.*2; got 1"),
    "a list": ({"y0": [torch.ones(2)]}, "y0 must be a tensor or a tuple of tensors; got list. Use solve"),
    "times as a list": ({"t": [0.0, 1.0]}, "t must be a 1-D tensor of real floating-point numbers; got list"),
    "times of integers": ({"t": torch.tensor([0, 1])}, "t must be a 1-D .* dtype torch.int64"),
    "times that turn": ({"t": torch.tensor([0.0, 1.0, 0.5])}, "strictly increasing or strictly decreasing"),
}


@pytest.mark.parametrize("interface", INTERFACES)
@pytest.mark.parametrize("fault", REFUSED)
def test_bad_arguments_are_refused(fault: str, interface: str) -> None:
    arguments, text = REFUSED[fault]
    given = {"y0": torch.ones(2, dtype=F64), "t": torch.tensor([0.0, 0.3, 1.0], dtype=F64), **arguments}
    with pytest.raises(jo.InputError, match=text):
        getattr(jo, interface)(Net(), **given)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"adjoint_method": "implicit_adams"}, "adjoint_method must be explicit"),
        ({"adjoint_options": {"step": 1}}, "the keys of adjoint_options for this method must be one of"),
        ({"adjoint_params": [1.0]}, "adjoint_params must be tensors; got float at place 0"),
    ],
)
def test_bad_adjoint_arguments_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=f"odeint_adjoint: {text}"):
        jo.odeint_adjoint(Net(), torch.ones(2, dtype=F64), TIMES, **arguments)


@pytest.mark.parametrize(
    ("length", "step_size", "expected"),
    [
        (1.0, 0.25, [0.0, 0.25, 0.5, 0.75]),
        (-1.0, 0.4, [0.0, -0.4, -0.8]),
        (0.3, 0.1, [0.0, 0.1, 0.2]),
        (1.0, 3.0, [0.0]),
    ],
)
def test_spaced(length: float, step_size: float, expected: list[float]) -> None:
    assert spaced(length, step_size) == pytest.approx(expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("t", "place"), [(0.0, 0), (0.5, 0), (1.0, 0), (1.5, 1), (2.0, 1), (2.5, 2)])
def test_bracket(t: float, place: int, sign: float) -> None:
    assert bracket([sign * point for point in (0.0, 1.0, 2.0, 3.0)], sign * t) == place


def test_a_line_and_a_cubic() -> None:
    def p(t: float) -> float:
        return 2.0 - t + 3.0 * t**2 - 0.5 * t**3

    def slope(t: float) -> float:
        return -1.0 + 6.0 * t - 1.5 * t**2

    assert linear(0.25, 1.0, 3.0) == 1.5
    h, x = 2.0, 0.3
    assert cubic(x, h, p(1.0), slope(1.0), p(3.0), slope(3.0)) == pytest.approx(p(1.0 + x * h))

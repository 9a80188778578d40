"""The suite `adjoints` in PyTorch: time, memory, evaluations and errors of every preset, beside its peers."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from janode.core.errors import InputError
from janode.torch import solve

from .adjoints_numpy import distance, reference
from .adjoints_theory import EXACT, PRESETS, PUBLISHED, counts, options
from .fields import TINY, Problem
from .measure import Case, Race, flat, race
from .torch_problem import Solve, TorchProblem

HESSIAN_STEPS = 40
MALI = "TorchDiffEqPack odesolve_adjoint_sym12"
"""A reversible method of order two with one evaluation a step."""


def races(device: str, scale: Any, absent: Sequence[str]) -> Iterator[Race]:
    """Every race of this library."""
    for problem, method, steps, presets in scale.timed["torch"]:
        bench = TorchProblem(problem, device)
        thunks = {name: bench.gradient(one) for name, one in _solves(bench, method, steps, absent, presets).items()}
        case = Case("torch", problem.name, steps, method, "gradient")
        yield race(case, thunks, scale.effort_of(problem, steps), synchronise=bench.synchronise)
    for problem, method, steps, presets in scale.memory:
        yield _memory(problem, method, steps, presets, device, absent)
    for method, steps in scale.counted:
        yield from _counts(method, steps, absent)
    for dtype in (torch.float64, torch.float32):
        for method, steps in scale.errors:
            yield _errors(method, steps, dtype, absent)
    if scale.long_steps:
        yield _long_error(scale.long_steps)
    yield _hessian()


def _solves(
    bench: TorchProblem, method: str, steps: int, absent: Sequence[str], presets: Sequence[str] = PRESETS
) -> dict[str, Solve]:
    """Every solve on [0, 1], by name."""

    def janode(preset: str) -> Solve:
        given = options(preset, method, steps)
        return lambda y0: solve(bench.field, y0, [0.0, 1.0], **given).ys[-1]

    found = {f"janode {preset}": janode(preset) for preset in presets}
    if presets == PRESETS and method == "rk4":
        found |= _peers(bench, steps, absent)
    return found


def _peers(bench: TorchProblem, steps: int, absent: Sequence[str]) -> dict[str, Solve]:
    """Other packages take equal steps with fewer methods; TorchDiffEqPack's checkpoints only with adaptive ones."""
    found: dict[str, Solve] = {}
    if "torchdiffeq" not in absent:
        import torchdiffeq

        given: dict[str, Any] = {
            "t": torch.tensor([0.0, 1.0], dtype=bench.y0.dtype, device=bench.y0.device),
            "method": "rk4",
            "options": {"step_size": 1.0 / steps},
        }
        for name in ("odeint", "odeint_adjoint"):
            peer = partial(getattr(torchdiffeq, name), bench.field, **given)
            found[f"torchdiffeq {name}"] = lambda y0, peer=peer: peer(y0)[-1]
    if "TorchDiffEqPack" not in absent:
        import TorchDiffEqPack

        settings = {"h": 1.0 / steps, "t0": 0.0, "t1": 1.0, "print_neval": False}
        settings |= {"rtol": 1e-6, "atol": 1e-6, "neval_max": 10**9, "safety": None}
        for name, method in (("odesolve", "RK4"), (MALI.split()[1], "sym12async")):
            one = _quiet(getattr(TorchDiffEqPack, name), bench.field, {**settings, "method": method})
            found[f"TorchDiffEqPack {name}"] = one
    return found


def _quiet(function: Callable[..., Any], field: Any, settings: dict[str, Any]) -> Solve:
    """Without what it prints."""

    def run(y0: torch.Tensor) -> torch.Tensor:
        with contextlib.redirect_stdout(io.StringIO()):
            return function(field, y0, options=dict(settings))

    return run


def _memory(
    problem: Problem, method: str, steps: int, presets: Sequence[str], device: str, absent: Sequence[str]
) -> Race:
    """The peak of live bytes."""
    bench = TorchProblem(problem, device)
    solves = _solves(bench, method, steps, absent, presets)
    peaks = {name: {"bytes": [float(bench.peak_bytes(bench.gradient(one)))]} for name, one in solves.items()}
    return Race(Case("torch", problem.name, steps, method, "memory"), peaks)


class Counted(torch.nn.Module):
    """A field that counts its evaluations and their pullbacks."""

    def __init__(self, field: torch.nn.Module) -> None:
        super().__init__()
        self.field = field
        self.evaluations = self.vjps = 0

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.evaluations += 1
        return _Noted.apply(self, self.field(t, y))

    def noted(self) -> None:
        """One pullback more."""
        self.vjps += 1


class _Noted(torch.autograd.Function):
    """The identity."""

    @staticmethod
    def forward(counted: Counted, out: torch.Tensor) -> torch.Tensor:
        return out.view_as(out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        ctx.counted = inputs[0]

    @staticmethod
    def backward(ctx: Any, bar: torch.Tensor) -> tuple[None, torch.Tensor]:
        ctx.counted.noted()
        return None, bar


def count(name: str, method: str, steps: int, absent: Sequence[str] = ()) -> tuple[int, int]:
    """(evaluations, VJPs) of a gradient of the contestant; `absent` peers are not asked for theirs."""
    bench = TorchProblem(TINY, "cpu")
    counted = bench.field = Counted(bench.field)  # type: ignore[assignment]
    bench.gradient(_solves(bench, method, steps, absent)[name])()
    return counted.evaluations, counted.vjps


def _counts(method: str, steps: int, absent: Sequence[str]) -> Iterator[Race]:
    names = _solves(TorchProblem(TINY, "cpu"), method, steps, absent)
    found = {name: count(name, method, steps, absent) for name in names}
    case = Case("torch", "any", steps, method, "evaluations")
    yield Race(case, {name: {"evaluations": [float(number)]} for name, (number, _) in found.items()})
    yield Race(case._replace(task="VJPs"), {name: {"VJPs": [float(number)]} for name, (_, number) in found.items()})
    passes = {name: sum(both) for name, both in found.items()}
    stages = counts("backprop", method, steps).evaluations
    passes |= {name: factor * stages for name, factor in PUBLISHED.items()}
    yield Race(case._replace(task="passes"), {name: {"passes": [float(number)]} for name, number in passes.items()})


def _bench(dtype: torch.dtype) -> TorchProblem:
    """The smallest problem in another precision."""
    bench = TorchProblem(TINY, "cpu")
    bench.field = bench.field.to(dtype)
    bench.params, bench.y0 = list(bench.field.parameters()), bench.y0.to(dtype)
    bench.start = bench.y0.clone().requires_grad_()
    return bench


def _errors(method: str, steps: int, dtype: torch.dtype, absent: Sequence[str]) -> Race:
    """The distance of every gradient from backpropagation in float64 through the same method."""
    bench, double = _bench(dtype), _bench(torch.float64)
    exact, found = _solves(double, method, steps, absent), {}
    for name, one in _solves(bench, method, steps, absent).items():
        if name == MALI:
            continue
        if name.startswith("torchdiffeq"):  # whose method of order four is another one
            expected = flat(double.gradient(exact["torchdiffeq odeint"])())
        else:
            expected = reference(options(name.split()[1], method, steps)["method"], steps)
        found[name] = {"error": [distance(bench.gradient(one)(), expected)]}
    digits = str(dtype).removeprefix("torch.")
    return Race(Case("torch", TINY.name, steps, f"{method}, {digits}", "error"), found)


def _long_error(steps: int) -> Race:
    """The distance of reversible gradients from backpropagation through the same many steps, in float64."""
    bench, found = _bench(torch.float64), {}
    for method in ("reversible(rk4)", "reversible(dopri5)", "alf", "reversible_heun", "leapfrog"):
        gradients = [
            bench.gradient(
                lambda y0, adjoint=adjoint, method=method: solve(
                    bench.field, y0, [0.0, 1.0], method=method, steps=steps, adjoint=adjoint
                ).ys[-1]
            )()
            for adjoint in ("reversible", "backprop")
        ]
        found[method] = {"error": [distance(gradients[0], flat(gradients[1]))]}
    return Race(Case("torch", TINY.name, steps, "reversible, float64", "error"), found)


def _predators(t: torch.Tensor, y: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """Lotka and Volterra's, with four parameters."""
    a, b, c, d = rates
    return torch.stack([(a - b * y[1]) * y[0], (c * y[0] - d) * y[1]])


def _hessian() -> Race:
    """The distance of a loss's Hessian from differences of its exact gradient, relative to the largest entry."""
    rates = torch.tensor([1.1, 0.4, 0.1, 0.4], dtype=torch.float64)
    y0 = torch.tensor([10.0, 5.0], dtype=torch.float64)

    def loss(rates: torch.Tensor, adjoint: str) -> torch.Tensor:
        given: dict[str, Any] = {"method": "rk4", "steps": HESSIAN_STEPS, "adjoint": adjoint}
        return (solve(_predators, y0, [0.0, 2.0], rates, **given).ys[-1] ** 2).sum()

    def gradient(rates: torch.Tensor, adjoint: str, create_graph: bool = False) -> torch.Tensor:
        return torch.autograd.grad(loss(rates, adjoint), rates, create_graph=create_graph)[0]

    # Extrapolated to order four.
    rows = []
    for unit in torch.eye(4, dtype=torch.float64):
        slopes = []
        for h in (1e-4, 2e-4):
            ends = [gradient((rates + sign * h * unit).requires_grad_(), "symplectic") for sign in (1.0, -1.0)]
            slopes.append((ends[0] - ends[1]) / (2.0 * h))
        rows.append((4.0 * slopes[0] - slopes[1]) / 3.0)
    expected, found = torch.stack(rows), {}
    for preset in EXACT:
        if preset == "reversible":
            continue
        at = rates.clone().requires_grad_()
        try:
            first = gradient(at, preset, create_graph=True)
            second = torch.stack([torch.autograd.grad(entry, at, retain_graph=True)[0] for entry in first])
        except InputError:  # refused by name
            continue
        error = float((second - expected).abs().max() / expected.abs().max())
        found[f"janode {preset}"] = {"error": [error]}
    return Race(Case("torch", "Lotka-Volterra", HESSIAN_STEPS, "rk4, float64", "hessian"), found)

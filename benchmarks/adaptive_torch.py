"""Adaptive solves in PyTorch: the contestants of a benchmark, and what each of them takes in steps and evaluations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from janode.torch import solve

from .torch_problem import Solve, TorchProblem

RTOL, ATOL = 1e-6, 1e-9
PRESETS = ("backprop", "stages", "aca", "symplectic")


class Contestant(NamedTuple):
    """A solve, and how many steps it tries."""

    solve: Solve
    steps: Callable[[int], int]
    """The steps tried, from the number of evaluations of the field in a solve without gradients."""


def contestants(bench: TorchProblem, end: float, absent: Sequence[str]) -> dict[str, Contestant]:
    """Every solve on [0, end] by name. All pairs are first-same-as-last: six evaluations a step, and two before."""
    ts = torch.tensor([0.0, end], device=bench.device)
    tolerances = {"rtol": RTOL, "atol": ATOL}

    def in_six(evaluations: int) -> int:
        return (evaluations - 2) // 6

    def janode(**options: Any) -> Solve:
        return lambda y0: solve(bench.field, y0, ts, method="dopri5", **tolerances, **options).ys[-1]

    found = {f"janode {preset}": Contestant(janode(adjoint=preset), in_six) for preset in PRESETS}
    found["janode per sample"] = Contestant(janode(batch_axis=0), in_six)
    if "torchdiffeq" not in absent:
        import torchdiffeq

        for name in ("odeint", "odeint_adjoint"):
            peer = partial(getattr(torchdiffeq, name), bench.field, t=ts, method="dopri5", **tolerances)
            found[f"torchdiffeq {name}"] = Contestant(lambda y0, peer=peer: peer(y0)[-1], in_six)
    if "torchode" not in absent:
        found["torchode"] = Contestant(_torchode(bench, end), in_six)
    return found


def _torchode(bench: TorchProblem, end: float) -> Solve:
    import torchode

    term = torchode.ODETerm(bench.field)
    controller = torchode.IntegralController(atol=ATOL, rtol=RTOL, term=term)
    solver = torchode.AutoDiffAdjoint(torchode.Dopri5(term), controller)

    def run(y0: torch.Tensor) -> torch.Tensor:
        start = torch.zeros(len(y0), device=y0.device)
        return solver.solve(torchode.InitialValueProblem(y0, start, start + end)).ys[:, -1]

    return run


def evaluations(bench: TorchProblem, contestant: Contestant) -> int:
    """How often a solve without gradients calls the field."""
    count = 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    handle = bench.field.register_forward_hook(note)
    try:
        bench.forward(contestant.solve)()
    finally:
        handle.remove()
    return count

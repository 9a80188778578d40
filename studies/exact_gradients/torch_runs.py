"""The study's gradients in PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import janode.torch as jo
from janode.backends.torch_memory import LiveBytes

from .problems import Problem
from .solvers import Found, Solver


class TorchRuns:
    """One problem, its tensors on one device in one dtype."""

    def __init__(self, problem: Problem, device: str, dtype: str) -> None:
        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.tensor(array, dtype=getattr(torch, dtype), device=device)

        torch.set_num_threads(1)  # the time of a processor is then that of the gradient
        self.problem, self.device = problem, device
        self.y0 = tuple(tensor(leaf).requires_grad_() for leaf in problem.y0)
        self.weights = {name: tensor(leaf).requires_grad_() for name, leaf in sorted(problem.weights.items())}
        self.data = tuple(map(tensor, problem.data))
        self.evals = self.vjps = 0

    def measure(self, solver: Solver) -> Found:
        """The gradient, the most bytes of tensors alive beside what is given, and counts."""
        self.evals = self.vjps = 0
        with LiveBytes([*self.y0, *self.weights.values(), *self.data]) as live:
            bars = self._gradient(solver, self._counted)
        gradient = np.concatenate([bar.double().cpu().numpy().ravel() for bar in bars])
        return Found(gradient, live.peak, self.evals, self.vjps)

    def thunk(self, solver: Solver) -> Callable[[], None]:
        """The gradient alone."""

        def run() -> None:
            self._gradient(solver, self._field)
            if self.device.startswith("cuda"):
                torch.cuda.synchronize()

        return run

    def _gradient(self, solver: Solver, field: Callable[..., Any]) -> tuple[torch.Tensor, ...]:
        solution = jo.solve(field, self.y0, self.problem.ts, self.weights, **solver.options(jo))
        loss = self.problem.loss(torch, solution.ys, self.data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a large error of the way back is what is measured
            return torch.autograd.grad(loss, [*self.y0, *self.weights.values()])

    def _field(self, t: Any, y: Any, weights: Any) -> Any:
        return self.problem.field(torch, t, y, weights)

    def _counted(self, t: Any, y: Any, weights: Any) -> Any:
        self.evals += 1
        f = self._field(t, y, weights)
        if f[0].requires_grad:
            f[0].register_hook(self._count_vjp)
        return f

    def _count_vjp(self, _: torch.Tensor) -> None:
        self.vjps += 1

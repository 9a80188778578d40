"""A benchmark's field in PyTorch: what a solver of it is asked for, and the peak of memory it takes."""

from __future__ import annotations

from collections.abc import Callable

import torch

from janode.backends.torch_memory import LiveBytes

from .fields import Problem
from .measure import Thunk

Solve = Callable[[torch.Tensor], torch.Tensor]
"""y0 -> the state at the last time."""


class Network(torch.nn.Module):
    """The layers of the problem, called as a field."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for entry in problem.params():
            if entry:
                out_features, in_features = entry["weight"].shape
                layers.append(torch.nn.Linear(in_features, out_features))
                layers[-1].load_state_dict({name: torch.from_numpy(array) for name, array in entry.items()})
            else:
                layers.append(torch.nn.Tanh())
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.layers(y)


class TorchProblem:
    """One problem on one device, one thread."""

    def __init__(self, problem: Problem, device: str) -> None:
        torch.set_num_threads(1)
        self.problem, self.device = problem, torch.device(device)
        self.field = Network(problem).to(device)
        self.params = list(self.field.parameters())
        self.y0 = torch.from_numpy(problem.y0()).to(device)
        self.start = self.y0.clone().requires_grad_()

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def evaluations(self, count: int) -> Thunk:
        """The field alone, without gradients."""
        t = torch.zeros((), device=self.device)

        def run() -> None:
            with torch.no_grad():
                for _ in range(count):
                    self.field(t, self.y0)

        return run

    def pullbacks(self, count: int) -> Thunk:
        """The field and its VJP alone."""
        t, bar = torch.zeros((), device=self.device), torch.ones_like(self.y0)

        def run() -> None:
            for _ in range(count):
                y = self.y0.detach().requires_grad_()
                torch.autograd.grad(self.field(t, y), [y, *self.params], bar)

        return run

    def forward(self, solve: Solve) -> Thunk:
        """The last state, without gradients."""

        def run() -> list[torch.Tensor]:
            with torch.no_grad():
                return [solve(self.y0)]

        return run

    def gradient(self, solve: Solve) -> Thunk:
        """The gradient of the sum of the last state with respect to y0 and all weights."""
        return lambda: torch.autograd.grad(solve(self.start).sum(), [self.start, *self.params])

    def peak_bytes(self, thunk: Thunk) -> int:
        """The most bytes of tensors alive at once while it runs, beside the weights and the initial state."""
        with LiveBytes([self.y0, self.start, *self.params]) as live:
            thunk()
        return live.peak

"""Training of a neural ODE with a linear classifier, on each array library, through what its users call.

All runs of a problem are trained at once: parameters, points and labels have a leading axis of runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import Any, Protocol

from janode.core.validity_pairs import num_steps

from .problems import Array, Problem

SPAN = [0.0, 1.0]


@dataclass(frozen=True)
class Solver:
    """A method with a number of equal steps, or, where that is None, with a tolerance, relative and absolute."""

    method: str
    steps: int | None
    tol: float = 0.0

    def options(self, tol: Any) -> dict[str, Any]:
        """The options of the solve; ``tol`` is the tolerance as the library has it."""
        return {"method": self.method} | ({"rtol": tol, "atol": tol} if self.steps is None else {"steps": self.steps})


def fixed(method: str, step: float) -> Solver:
    """A solver with the fewest equal steps that are not longer than that."""
    return Solver(method, num_steps(step, SPAN[1]))


def adaptive(method: str, tol: float) -> Solver:
    """A solver with adaptive steps."""
    return Solver(method, None, tol)


class Library(StrEnum):
    """The array libraries that train."""

    TORCH = "torch"
    JAX = "jax"


class Trainer(Protocol):
    """A model in training."""

    def train(self, solver: Solver, indices: Array) -> int:
        """One step of Adam for each batch of indices (iterations, S, b); returns the forward field evaluations."""

    def is_right(self, solver: Solver, points: Array, labels: Array) -> tuple[list[list[float]], int]:
        """(for each run and point 1.0 if it is classified rightly, the number of field evaluations)."""

    def start_step(self, points: Array) -> float:
        """Hairer's first step size for Euler's method, of the first run."""


def make_trainer(library: Library, device: str, problem: Problem, rate: float) -> Trainer:
    """A trainer of a problem, with this learning rate."""
    return {Library.TORCH: _Torch, Library.JAX: _Jax}[library](device, problem, rate)


class _Torch:
    def __init__(self, device: str, problem: Problem, rate: float) -> None:
        self.torch, self.jo = import_module("torch"), import_module("janode.torch")
        self.device, self.data = device, problem.train
        self.params = {name: self.tensor(leaf).requires_grad_() for name, leaf in problem.params.items()}
        self.optimiser = self.torch.optim.Adam(self.params.values(), lr=rate)

    def tensor(self, array: Array) -> Any:
        return self.torch.tensor(array, device=self.device)

    def field(self, t: Any, y: Any, p: dict[str, Any]) -> Any:
        torch = self.torch
        y = torch.relu(torch.baddbmm(p["b0"], y, p["w0"]))
        y = torch.relu(torch.baddbmm(p["b1"], y, p["w1"]))
        return torch.baddbmm(p["b2"], y, p["w2"])

    def scores(self, solver: Solver, points: Any, adjoint: str = "auto") -> tuple[Any, int]:
        options = solver.options(solver.tol)
        solution = self.jo.solve(
            self.field, points, SPAN, of_field(self.params), adjoint=adjoint, on_failure="return", **options
        )
        num_field_evals = solution.stats.num_field_evals
        return self.torch.baddbmm(self.params["b3"], solution.ys[-1], self.params["w3"]), num_field_evals

    def train(self, solver: Solver, indices: Array) -> int:
        # Small states: the framework's own graph of all steps is the fastest where the steps are known.
        adjoint = "auto" if solver.steps is None else "backprop"
        total = 0
        for points, labels in zip(*self.data.batch(indices), strict=True):
            scores, num_field_evals = self.scores(solver, self.tensor(points), adjoint)
            total += num_field_evals
            loss = self.torch.nn.functional.cross_entropy(
                scores.flatten(0, 1), self.tensor(labels).flatten(), reduction="sum"
            )
            self.optimiser.zero_grad()
            (loss / labels.shape[1]).backward()
            self.optimiser.step()
        return total

    def is_right(self, solver: Solver, points: Array, labels: Array) -> tuple[list[list[float]], int]:
        with self.torch.no_grad():
            scores, num_field_evals = self.scores(solver, self.tensor(points))
            right = scores.argmax(-1) == self.tensor(labels)
        return right.double().tolist(), num_field_evals

    def start_step(self, points: Array) -> float:
        with self.torch.no_grad():
            return self.jo.starting_step(self.field, self.tensor(points), SPAN, of_field(self.params))


class _Jax:
    def __init__(self, device: str, problem: Problem, rate: float) -> None:
        self.jax, self.np, self.jo = import_module("jax"), import_module("jax.numpy"), import_module("janode.jax")
        self.device = self.jax.devices(device)[0]
        self.data, self.rate = problem.train, rate
        params = self.array(problem.params)
        zeros = self.jax.tree.map(self.np.zeros_like, params)
        self.state: Any = (params, zeros, zeros, self.np.zeros((), "float32"))

    def array(self, tree: Any) -> Any:
        return self.jax.device_put(tree, self.device)

    def field(self, t: Any, y: Any, p: dict[str, Any]) -> Any:
        y = self.jax.nn.relu(y @ p["w0"] + p["b0"])
        y = self.jax.nn.relu(y @ p["w1"] + p["b1"])
        return y @ p["w2"] + p["b2"]

    def scores(self, solver: Solver, points: Any, params: Any, tol: Any) -> tuple[Any, Any]:
        solution = self.jo.solve(self.field, points, SPAN, of_field(params), on_failure="return", **solver.options(tol))
        return solution.ys[-1] @ params["w3"] + params["b3"], solution.stats.num_field_evals

    def train(self, solver: Solver, indices: Array) -> int:
        points, labels = self.array(self.data.batch(indices))
        self.state, total = self._training(replace(solver, tol=0.0))(self.state, points, labels, solver.tol)
        return int(total)

    def is_right(self, solver: Solver, points: Array, labels: Array) -> tuple[list[list[float]], int]:
        program = self._answers(replace(solver, tol=0.0))
        right, total = program(self.state[0], *self.array((points, labels)), solver.tol)
        return right.tolist(), int(total)

    def start_step(self, points: Array) -> float:
        return self.jo.starting_step(self.field, self.array(points), SPAN, of_field(self.state[0]))

    @cache  # noqa: B019 a trainer lives as long as its programs
    def _training(self, solver: Solver) -> Any:
        """Adam over all batches, compiled once for each number of steps; the tolerance is an argument."""
        jax, np = self.jax, self.np

        def loss(params: Any, points: Any, labels: Any, tol: Any) -> tuple[Any, Any]:
            scores, total = self.scores(solver, points, params, tol)
            chosen = np.take_along_axis(jax.nn.log_softmax(scores), labels[..., None], axis=-1)
            return -np.sum(chosen) / labels.shape[1], total

        def step(state: Any, batch: Any) -> Any:
            params, mean, square, count = state
            points, labels, tol = batch
            slope, total = jax.grad(loss, has_aux=True)(params, points, labels, tol)
            count = count + 1
            mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
            square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, slope)
            unbiased = 1 - 0.9**count, 1 - 0.999**count
            params = jax.tree.map(
                lambda p, m, v: p - self.rate * (m / unbiased[0]) / (np.sqrt(v / unbiased[1]) + 1e-8),
                params,
                mean,
                square,
            )
            return (params, mean, square, count), total

        def program(state: Any, points: Any, labels: Any, tol: Any) -> Any:
            tols = np.full(len(points), tol)
            state, totals = jax.lax.scan(step, state, (points, labels, tols))
            return state, np.sum(np.asarray(totals))

        return jax.jit(program)

    @cache  # noqa: B019
    def _answers(self, solver: Solver) -> Any:
        def program(params: Any, points: Any, labels: Any, tol: Any) -> Any:
            scores, total = self.scores(solver, points, params, tol)
            return (self.np.argmax(scores, axis=-1) == labels).astype(float), total

        return self.jax.jit(program)


def of_field(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the field alone, without those of the classifier."""
    return {name: leaf for name, leaf in params.items() if name[1] != "3"}

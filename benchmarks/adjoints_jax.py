"""The suite `adjoints` in JAX: time, memory and errors of every preset, beside the adjoints of diffrax."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from janode.jax import solve

from .adjoints_numpy import distance, reference
from .adjoints_theory import PRESETS, options
from .fields import TINY
from .jax_problem import JaxProblem, Solve, field, program_bytes
from .measure import Case, Race, race

ADJOINTS: dict[str, Callable[[Any, int], Any]] = {
    "RecursiveCheckpointAdjoint": lambda diffrax, steps: diffrax.RecursiveCheckpointAdjoint(),
    "RecursiveCheckpointAdjoint(N)": lambda diffrax, steps: diffrax.RecursiveCheckpointAdjoint(steps),
    "DirectAdjoint": lambda diffrax, steps: diffrax.DirectAdjoint(),
    "BacksolveAdjoint": lambda diffrax, steps: diffrax.BacksolveAdjoint(),
}


def races(device: str, scale: Any, absent: Sequence[str]) -> Iterator[Race]:
    """Every race of this library."""
    for problem, method, steps, presets in scale.timed["jax"]:
        bench = JaxProblem(problem)
        solves = _solves(method, steps, absent, presets)
        programs = {name: bench.compile(one, "gradient") for name, one in solves.items()}
        case = Case("jax", problem.name, steps, method, "gradient")
        thunks = {name: bench.run(program) for name, program in programs.items()}
        yield race(case, thunks, scale.effort_of(problem, steps))
        peaks = {name: {"bytes": [float(program_bytes(program))]} for name, program in programs.items()}
        yield Race(case._replace(task="memory"), peaks)
    bench = JaxProblem(TINY)
    for method, steps in scale.jax_errors:
        found = {}
        for name, one in _solves(method, steps, ["diffrax"]).items():
            expected = reference(options(name.split()[1], method, steps)["method"], steps)
            gradient = bench.run(bench.compile(one, "gradient"))()
            found[name] = {"error": [distance(gradient, expected)]}
        yield Race(Case("jax", TINY.name, steps, f"{method}, float32", "error"), found)


def _solves(method: str, steps: int, absent: Sequence[str], presets: Sequence[str] = PRESETS) -> dict[str, Solve]:
    """Every solve on [0, 1], by name."""

    def janode(preset: str) -> Solve:
        given = options(preset, method, steps)
        return lambda weights, y0: solve(field, y0, [0.0, 1.0], weights, **given).ys[-1]

    found = {f"janode {preset}": janode(preset) for preset in presets}
    if "diffrax" not in absent:
        import diffrax

        from .diffrax_rk4 import RK4

        solver = {"rk4": RK4, "dopri5": diffrax.Dopri5, "dopri8": diffrax.Dopri8}[method]()
        for name, make in ADJOINTS.items():
            adjoint = make(diffrax, steps)
            found[f"diffrax {name}"] = lambda weights, y0, adjoint=adjoint: diffrax.diffeqsolve(
                *(diffrax.ODETerm(field), solver, 0.0, 1.0, 1.0 / steps, y0, weights),
                adjoint=adjoint,
                max_steps=steps + 1,
            ).ys[-1]
    return found

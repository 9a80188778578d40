"""Fit Lotka-Volterra to the Hudson's Bay hare and lynx counts, once per array library, and compare the libraries.

Run as ``python -m examples.lynx_hare``. Exits with 1 if a fit does not converge or the libraries disagree.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from scipy.optimize import OptimizeResult, minimize  # type: ignore[import-untyped]

from examples.lynx_hare_libraries import Gradient, Library, Problem, Vector, absence, load
from examples.lynx_hare_model import read_counts, start
from examples.lynx_hare_report import Outcome, make_table, save_figure

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
OUT = Path(__file__).parent / "results" / "lynx_hare.png"
SLOPE_LIMIT = 1e-6  # largest entry of the gradient at the optimum, relative to that at the start
GRADIENT_LIMIT = 1e-10  # gradient at the start, relative to NumPy's
OPTIMUM_LIMIT = 1e-6  # loss and unknowns at the optimum, relative to NumPy's
NOTES = """dH/dt = a H - b H L, dL/dt = d H L - c L; in thousands and years; all in float64.
Largest relative difference from NumPy: [1] of the gradient at the start,
[2] of the gradient at NumPy's optimum, relative to the one at the start,
[3] of the final loss and the six unknowns."""


@dataclass
class Timed:
    """A gradient that notes the seconds of each of its calls."""

    gradient: Gradient
    seconds: list[float] = field(default_factory=list)

    def __call__(self, x: Vector) -> tuple[float, Vector]:
        """Return the loss and its gradient at x."""
        begin = time.perf_counter()
        result = self.gradient(x)
        self.seconds.append(time.perf_counter() - begin)
        return result

    def median_milliseconds(self) -> float:
        """Return the median time of the calls after the first, which may compile."""
        return 1e3 * statistics.median(self.seconds[1:])


def fit(gradient: Gradient, x0: Vector, max_iterations: int, progress: Progress, label: str) -> tuple[Vector, int]:
    """Minimise the loss by L-BFGS until rounding ends its descent; return the optimum and the number of iterations.

    Paths that differ by rounding meet again: the loss is convex around the optimum (eigenvalues 0.05 to 16 in the
    logarithms of the unknowns), and a loss exact to 1e-16 leaves 1e-8 in the unknowns, far below the limit of 1e-6.
    """
    task = progress.add_task(label, total=None, note="")

    def on_iteration(intermediate_result: OptimizeResult) -> None:
        progress.update(task, advance=1, note=f"loss {intermediate_result.fun:.8f}")

    options = {"maxiter": max_iterations, "ftol": 0.0, "gtol": 1e-9}
    result = minimize(gradient, x0, jac=True, method="L-BFGS-B", callback=on_iteration, options=options)
    progress.update(task, total=result.nit, completed=result.nit)
    return result.x, result.nit


def run(
    library: Library, problem: Problem, x0: Vector, reference: Outcome | None, max_iterations: int, progress: Progress
) -> Outcome:
    """Fit one library from x0 and take its gradients at the start, at its optimum and at the reference's optimum."""
    gradient = Timed(problem.gradient)
    _, at_start = gradient(x0)
    x, num_iterations = fit(gradient, x0, max_iterations, progress, library)
    loss, at_optimum = gradient(x)
    _, at_end = gradient(x if reference is None else reference.x)
    return Outcome(
        device=problem.device,
        num_iterations=num_iterations,
        num_gradients=len(gradient.seconds),
        milliseconds=gradient.median_milliseconds(),
        x=x,
        loss=loss,
        slope=float(np.max(np.abs(at_optimum)) / np.max(np.abs(at_start))),
        at_start=at_start,
        at_end=at_end,
    )


def failures(outcomes: Mapping[Library, Outcome]) -> list[str]:
    """Return a line for every library that did not converge or that disagrees with NumPy."""
    reference = outcomes[Library.NUMPY]
    checks = [
        (library, what, value, limit)
        for library, outcome in outcomes.items()
        for what, value, limit in (
            ("gradient left at the optimum, relative to the start,", outcome.slope, SLOPE_LIMIT),
            (
                "relative distance of the start gradient from NumPy's",
                outcome.start_difference(reference),
                GRADIENT_LIMIT,
            ),
            ("relative distance of the optimum from NumPy's", outcome.optimum_difference(reference), OPTIMUM_LIMIT),
        )
    ]
    # `not <=` rather than `>`, so that NaN fails
    return [
        f"{library}: {what} must be at most {limit:.0e}; got {value:.1e}."
        for library, what, value, limit in checks
        if not value <= limit
    ]


@app.command()
def main(
    library: Annotated[list[Library] | None, typer.Option(help="Fit only this library and NumPy; repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Where to save the figure, as PNG.", dir_okay=False, writable=True)] = OUT,
    max_iterations: Annotated[int, typer.Option(min=1, help="Most L-BFGS iterations per library.")] = 500,
    steps: Annotated[int, typer.Option(min=1, help="Runge-Kutta steps per year.")] = 10,
) -> None:
    """Fit Lotka-Volterra to the Hudson's Bay hare and lynx counts, once per installed array library."""
    console = Console()
    counts = read_counts()
    x0 = np.array(start(counts))
    chosen = [name for name in Library if not library or name in library or name is Library.NUMPY]
    absent = {name: reason for name in chosen if (reason := absence(name)) is not None}
    problems: dict[Library, Problem] = {}
    outcomes: dict[Library, Outcome] = {}
    columns = (
        TextColumn("{task.description:>16}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>3.0f} iterations  {task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for name in chosen:
            if name not in absent:
                problems[name] = load(name, counts, steps)
                reference = outcomes.get(Library.NUMPY)
                outcomes[name] = run(name, problems[name], x0, reference, max_iterations, progress)

    title = f"Lotka-Volterra, hares and lynxes 1900-1920, rk4 with {steps} steps a year"
    console.print(make_table(outcomes, title))
    console.print(NOTES, highlight=False)
    for name, reason in absent.items():
        console.print(f"absent: {name} ({reason})", highlight=False)

    times = np.linspace(counts.years[0], counts.years[-1], 12 * (len(counts.years) - 1) + 1)
    curves = {name: problems[name].curves(outcome.x, times) for name, outcome in outcomes.items()}
    save_figure(out, counts, times, curves)
    console.print(f"figure: {out}", highlight=False, soft_wrap=True)

    faults = failures(outcomes)
    if library:
        faults += [f"{name}: asked for, but absent ({reason})." for name, reason in absent.items()]
    for fault in faults:
        console.print(f"FAILED {fault}", style="bold red", highlight=False, soft_wrap=True)
    if faults:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()

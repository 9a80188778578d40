"""The suite `adjoints`: what `adjoint="auto"` predicts and chooses for 30 problem sizes and budgets, in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .fields import BROAD, SMALL, TINY, WIDE, Problem
from .measure import Case, Race, Spread, Thunk, race, ratio, spread
from .report import Table, Verdict

SIZES: tuple[tuple[Problem, str, int], ...] = (
    (SMALL, "rk4", 20),
    (SMALL, "dopri5", 40),
    (SMALL, "dopri8", 10),
    (WIDE, "rk4", 10),
    (BROAD, "rk4", 50),
)
PRESETS = ("backprop", "aca", "stages", "symplectic", "revolve")
PEAK, TIME = TASKS = "auto peak", "auto time"
AUTO = "janode auto"


def races(device: str, scale: Any) -> Iterator[Race]:
    """For every size and budget the peak beside the prediction, and the time beside that of all presets that fit."""
    if scale.long_steps < 100:
        yield from (one for one in _raced(TINY, "rk4", 3, device, scale, (1.3,)) if one.case.task == PEAK)
        return
    for problem, method, steps in SIZES:
        yield from _raced(problem, method, steps, device, scale, (1.3, 0.7, 0.4, 0.2, 0.1, 0.0))


def _raced(
    problem: Problem, method: str, steps: int, device: str, scale: Any, shares: Sequence[float]
) -> Iterator[Race]:
    """Budgets between the least there is (0) and what backprop takes (1)."""
    from janode.torch import Auto, Revolve, solve

    from .torch_problem import TorchProblem

    bench = TorchProblem(problem, device)

    def gradient(adjoint: Any) -> Thunk:
        return bench.gradient(
            lambda y0: solve(bench.field, y0, [0.0, 1.0], method=method, steps=steps, adjoint=adjoint).ys[-1]
        )

    peaks = {name: bench.peak_bytes(gradient(name)) for name in PRESETS}
    least = bench.peak_bytes(gradient(Revolve(1)))
    for share in shares:
        budget = int(1.02 * least + share * (peaks["backprop"] - least))
        auto = Auto(memory_budget=budget)
        plan = solve(bench.field, bench.start, [0.0, 1.0], method=method, steps=steps, adjoint=auto).plan
        case = Case("torch", problem.name, steps, f"{method}, {budget} bytes: {plan.adjoint}", PEAK)
        found = {AUTO: {"bytes": [float(bench.peak_bytes(gradient(auto)))]}}
        yield Race(case, {**found, "predicted": {"bytes": [float(plan.predicted_peak)]}})
        fitting = {f"janode {name}": gradient(name) for name in PRESETS if peaks[name] <= budget}
        if fitting:
            thunks = {AUTO: gradient(auto), **fitting}
            yield race(case._replace(task=TIME), thunks, scale.effort, synchronise=bench.synchronise)


def verdicts(found: Sequence[Race], measure: str) -> Iterator[Verdict]:
    """The worst prediction, and the worst choice."""
    peaks = [one for one in found if one.case.task == PEAK]
    times = [one for one in found if one.case.task == TIME]
    if not peaks:
        return
    off, one = max(((_off(one), one) for one in peaks), key=lambda it: it[0])
    text = f"measured / predicted or its inverse, worst of {len(peaks)}"
    yield Verdict(text, one.case, Spread(off, off, off), 1.15)
    if not times:
        return
    slow, one = max(((_slower(one, measure), one) for one in times), key=lambda it: it[0].median)
    text = f"auto / fastest preset that fits, worst of {len(times)}"
    yield Verdict(text, one.case, slow, 1.1)


def tables(found: Sequence[Race], measure: str) -> Iterator[Table]:
    """A row for every size and budget."""
    times = {one.case._replace(task=PEAK): one for one in found if one.case.task == TIME}
    rows = []
    for one in found:
        if one.case.task == PEAK:
            budget, plan = one.case.times.split(", ", 1)[1].split(": ", 1)
            method = one.case.times.split(", ")[0]
            peaks = (f"{one.samples[name]['bytes'][0] / 1e3:.0f}" for name in ("predicted", AUTO))
            where = f"{one.case.problem}, {method}, N = {one.case.steps}"
            kilobytes = f"{int(budget.split()[0]) / 1e3:.0f}"
            rows.append((where, kilobytes, plan, *peaks, *_times(times.get(one.case), measure)))
    if rows:
        header = ("", "budget, kB", "plan", "predicted, kB", "measured, kB", "ms", "fastest that fits", "times it")
        yield Table("torch, auto", header, rows)


def _times(one: Race | None, measure: str) -> tuple[str, str, str]:
    """(time of the plan, the fastest preset, their ratio); nothing where no preset fits."""
    if one is None:
        return "", "", ""
    medians = {name: spread(samples[measure]).median for name, samples in one.samples.items()}
    fastest = min(medians.keys() - {AUTO}, key=medians.__getitem__)
    took = ratio(one, AUTO, fastest, measure).median
    return f"{1e3 * medians[AUTO]:.3g}", fastest.removeprefix("janode "), f"{took:.2f}"


def _off(one: Race) -> float:
    got, predicted = (one.samples[name]["bytes"][0] for name in (AUTO, "predicted"))
    return max(got / predicted, predicted / got)


def _slower(one: Race, measure: str) -> Spread:
    return max((ratio(one, AUTO, name, measure) for name in one.samples if name != AUTO), key=lambda it: it.median)

"""The suite `adaptive`: steps that follow from the error, on DETEST and on the networks of the suite `fixed`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..detest import PROBLEMS
from ..fields import SMALL, TINY, WIDE, Problem
from ..measure import Case, Effort, Race, Spread, Thunk, race, ratio, spread
from ..report import Verdict, race_tables
from ..work_precision import PAIRS, TOLERANCES, work_race

TITLE = "Adaptive steps"
ABOUT = """Steps that follow from the error, with the default controllers of janode and of its peers.

- *DETEST*: the 25 non-stiff problems A1 to E5 (Hull, Enright, Fellen and Sedgwick 1972) on [0, 20] in float64, with
  rtol and atol equal to the tolerance. Nothing is timed: a solve has a number of evaluations of the field, rejected
  steps and the choice of the first step included, and a largest error at the end. `evaluations at equal error`
  compares evaluations times error^(1/p), p the order: what a solve would take for the error of the other one. The
  values are medians and quartiles over the problems; `benchmarks/results/adaptive-work-precision.png` shows geometric
  means.
- *PyTorch*: `dopri5`, rtol 1e-6 and atol 1e-9, float32, the networks of the suite for fixed steps on [0, 1] and on
  [0, 40]; N is the number of steps that janode accepts. torchdiffeq multiplies its error estimate by 2/3 (it has
  another b_hat), and so takes larger steps at the same tolerance. `overhead per step` is what a solve takes beyond
  its evaluations of the field, divided by its steps. `per sample`: every state of the batch has steps of its own, in
  torchode too; compared is the time per step that some state takes.
- *JAX*: `tsit5`, rtol 1e-5 and atol 1e-6, float32; the network plus a turn of the plane in every unit of time. `100
  lanes` maps a solve over 100 initial states with `vmap`. `compile` is the time to trace, lower and compile a
  gradient.
"""
LIBRARIES = ("torch", "jax", "numpy")
PEERS = {"torch": ("torchdiffeq", "torchode"), "jax": ("diffrax",), "numpy": ("scipy", "diffrax")}

FIELD, PULLBACK = "field alone", "field and its VJP alone"
MAIN = SMALL
LANES = Problem(SMALL.sizes, 100)
TURNING = f"{SMALL.name}, turning"
TURNING_LANES = "2-64-64-2, 100 lanes, turning"
HEADLINES = (MAIN.name, TURNING, TURNING_LANES, *(f"DETEST, tolerance {tolerance}" for tolerance in TOLERANCES))
"""The problems that the README shows."""


class Scale(NamedTuple):
    """How much is measured."""

    problems: tuple[Problem, ...]
    ends: tuple[float, ...]
    """The intervals [0, end] in PyTorch."""
    turns: tuple[float, ...]
    """The same in JAX."""
    tolerances: tuple[str, ...]
    detest: int
    """Of how many DETEST problems."""
    presets: tuple[str, ...]
    """Of JAX."""
    lanes: bool
    """Whether JAX maps solves."""
    effort: Effort


ALL = ("stages", "aca", "symplectic", "restart")
SCALES = {
    "full": Scale((SMALL, WIDE, TINY), (1.0, 40.0), (1.0, 15.0), tuple(TOLERANCES), 25, ALL, True, Effort(5, 21, 15.0)),
    "main": Scale((SMALL,), (1.0, 40.0), (1.0, 15.0), tuple(TOLERANCES), 25, ALL, True, Effort(5, 15, 10.0)),
    "quick": Scale((SMALL,), (40.0,), (1.0,), ("1e-6",), 25, ALL, True, Effort(2, 3, 0.5)),
    "smoke": Scale((TINY,), (1.0,), (0.25,), ("1e-3",), 2, ("symplectic",), False, Effort(1, 1, 0.0)),
}


def races(library: str, device: str, scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    """Every race of one library; `absent` peers do not take part."""
    if library == "torch":
        for problem in scale.problems:
            yield from _torch_races(problem, device, scale, absent)
    elif library == "jax":
        yield from _jax_races(scale, absent)
    else:
        for pair in PAIRS:
            for tolerance in scale.tolerances:
                if pair.peer.split()[0] not in absent:
                    yield work_race(pair, tolerance, PROBLEMS[: scale.detest])


def _torch_races(problem: Problem, device: str, scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    from ..adaptive_torch import contestants, evaluations
    from ..torch_problem import TorchProblem

    bench = TorchProblem(problem, device)
    for end in scale.ends:
        found = contestants(bench, end, absent)
        counts = {name: evaluations(bench, one) for name, one in found.items()}
        count = counts["janode symplectic"]
        case = Case("torch", problem.name, found["janode symplectic"].steps(count), f"[0, {end:g}]", "forward")
        run = partial(race, effort=scale.effort, synchronise=bench.synchronise)

        thunks: dict[str, Thunk] = {FIELD: bench.evaluations(count)}
        for name, one in found.items():
            if _FORWARD.get(name, name) not in thunks and name not in _GRADIENT_ONLY:
                thunks[_FORWARD.get(name, name)] = bench.forward(one.solve)
        forward = run(case, thunks)
        _note(forward, FIELD, evaluations=count)
        for name, one in found.items():
            if (shown := _FORWARD.get(name, name)) in thunks:
                _note(forward, shown, evaluations=counts[name], steps=one.steps(counts[name]))
        yield forward

        thunks = {FIELD: bench.evaluations(count), PULLBACK: bench.pullbacks(count)}
        yield run(
            case._replace(task="gradient"), thunks | {name: bench.gradient(one.solve) for name, one in found.items()}
        )


# The presets of janode differ in nothing but the gradient.
_FORWARD = {"janode symplectic": "janode"}
_GRADIENT_ONLY = ("janode backprop", "janode stages", "janode aca", "torchdiffeq odeint_adjoint")


def _note(found: Race, name: str, **counts: int) -> None:
    rounds = len(found.samples[name]["cpu"])
    found.samples[name] |= {kind: [float(count)] * rounds for kind, count in counts.items()}


def _jax_races(scale: Scale, absent: Sequence[str]) -> Iterator[Race]:
    import jax

    from ..adaptive_jax import accepted_steps, contestants, in_lanes
    from ..jax_problem import JaxProblem

    bench, steps = JaxProblem(SMALL), 0
    mapped = [(JaxProblem(LANES), TURNING_LANES, in_lanes)] if scale.lanes else []
    for end in reversed(scale.turns):
        solves = contestants(end, scale.presets, absent)
        steps = accepted_steps(bench.weights, bench.y0, end)
        for at, name, wrap in ((bench, TURNING, lambda solve: solve), *mapped):
            case = Case("jax", name, steps, f"[0, {end:g}]", "forward")
            forward = {shown: solves[name] for name, shown in _FORWARD_JAX.items() if name in solves}
            for task, shown in (("forward", forward), ("gradient", solves)):
                thunks = {each: at.run(at.compile(wrap(solve), task)) for each, solve in shown.items()}
                yield race(case._replace(task=task), thunks, scale.effort)
    compared = {name: solves[name] for name in (SYMPLECTIC, RECURSIVE) if name in solves}
    thunks = {name: partial(bench.compile, solve, "gradient") for name, solve in compared.items()}
    effort = Effort(scale.effort.least, scale.effort.least, 0.0)
    case = Case("jax", TURNING, steps, "", "compile")
    yield race(case, thunks, effort, prepare=jax.clear_caches, is_warm=True, is_compared=False)


SYMPLECTIC, RECURSIVE = "janode symplectic", "diffrax RecursiveCheckpointAdjoint"
_FORWARD_JAX = {SYMPLECTIC: "janode", RECURSIVE: "diffrax"}


class Target(NamedTuple):
    """A ratio of times that janode is to stay below, between so and so many steps."""

    library: str
    task: str
    over: str
    under: str
    limit: float
    least_steps: int = 0
    most_steps: int = 1_000_000
    problems: tuple[str, ...] = ()
    """Only these; empty means all."""


FASTEST = "fastest of janode"
TARGETS = (
    Target("torch", "forward", "janode", "torchdiffeq odeint", 0.8),
    Target("torch", "gradient", "janode backprop", "torchdiffeq odeint", 0.9),
    Target("torch", "gradient", "janode symplectic", "torchdiffeq odeint_adjoint", 0.6),
    Target("jax", "gradient", FASTEST, RECURSIVE, 0.65, 0, 100, (TURNING,)),
    Target("jax", "gradient", SYMPLECTIC, RECURSIVE, 0.75, 0, 100, (TURNING,)),
    Target("jax", "gradient", SYMPLECTIC, RECURSIVE, 0.65, 200, 1_000_000, (TURNING,)),
    Target("jax", "forward", "janode", "diffrax", 1.05, problems=(TURNING,)),
    Target("jax", "forward", "janode", "diffrax", 1.0, problems=(TURNING_LANES,)),
    Target("jax", "gradient", SYMPLECTIC, RECURSIVE, 1.0, problems=(TURNING_LANES,)),
    Target("jax", "compile", SYMPLECTIC, RECURSIVE, 0.35),
)
WORK_LIMITS = {"dopri5": 1.0, "tsit5": 1.0, "dopri8": 1.3}
OVERHEAD_LIMIT, PER_SAMPLE_LIMIT = 0.5, 1.2


def verdicts(found: Sequence[Race], measure: str) -> list[Verdict]:
    """Every target against every race that it can be read from."""
    rows = []
    for target in TARGETS:
        for one in found:
            if _is_read(target, one.case):
                over = _fastest(one, measure) if target.over == FASTEST else target.over
                if {over, target.under} <= one.samples.keys():
                    value = ratio(one, over, target.under, measure)
                    name = f"{target.over} ({over.split()[1]})" if target.over == FASTEST else over
                    rows.append(Verdict(f"{name} / {target.under}", one.case, value, target.limit))
    return rows + _per_step(found, measure) + _work(found)


def _is_read(target: Target, case: Case) -> bool:
    return (
        (case.library, case.task) == (target.library, target.task)
        and target.least_steps <= case.steps <= target.most_steps
        and (not target.problems or case.problem in target.problems)
    )


def _fastest(one: Race, measure: str) -> str:
    presets = [name for name in one.samples if name.startswith("janode")]
    return min(presets, key=lambda name: spread(one.samples[name][measure]).median)


def _per_step(found: Sequence[Race], measure: str) -> list[Verdict]:
    """Overhead per step beside torchdiffeq's, and time per step beside torchode's."""
    rows = []
    for one in found:
        samples = one.samples
        if FIELD in samples and {"janode", "torchdiffeq odeint"} <= samples.keys():
            pairs = zip(_overhead(one, "janode", measure), _overhead(one, "torchdiffeq odeint", measure), strict=True)
            value = spread([ours / theirs for ours, theirs in pairs])
            rows.append(Verdict("overhead per step, janode / torchdiffeq odeint", one.case, value, OVERHEAD_LIMIT))
        if one.case.task == "forward" and {"janode per sample", "torchode"} <= samples.keys():
            steps = [samples[name]["steps"][0] for name in ("janode per sample", "torchode")]
            times = ratio(one, "janode per sample", "torchode", measure)
            value = Spread(*(each * steps[1] / steps[0] for each in times))
            rows.append(Verdict("time per step, janode per sample / torchode", one.case, value, PER_SAMPLE_LIMIT))
    return rows


def _overhead(one: Race, name: str, measure: str) -> list[float]:
    field, own = one.samples[FIELD], one.samples[name]
    share = own["evaluations"][0] / field["evaluations"][0]
    return [(took - share * alone) / own["steps"][0] for took, alone in zip(own[measure], field[measure], strict=True)]


def _work(found: Sequence[Race]) -> list[Verdict]:
    """The evaluations on DETEST, over all tolerances and at each."""
    rows = []
    for pair in PAIRS:
        mine, peer = f"janode {pair.method}", pair.peer
        races = [one for one in found if one.case.times == pair.name]
        if not races:
            continue
        pooled = Race(races[0].case._replace(problem="DETEST, all tolerances"))
        for name in (mine, peer):
            pooled.samples[name] = {
                kind: [sample for one in races for sample in one.samples[name][kind]]
                for kind in ("work", "evaluations", "error")
            }
        limit = WORK_LIMITS[pair.method]
        texts = {"work": "evaluations at equal error", "evaluations": "evaluations", "error": "error at the end"}
        for kind, text in texts.items():
            value = ratio(pooled, mine, peer, kind)
            rows.append(Verdict(f"{mine} / {peer}: {text}", pooled.case, value, limit if kind == "work" else None))
    return rows


tables = race_tables
"""Every race stands in the tables of all suites."""


def figures() -> dict[str, Callable[[Sequence[Race], Path], bool]]:
    """The figures of this suite, by the end of their file's name."""
    from ..adaptive_figures import work_precision

    return {"work-precision": work_precision}

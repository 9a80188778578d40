"""The measurement: contestants race in one process, in rounds, so that a noisy machine disturbs all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Thunk = Callable[[], Any]


class Case(NamedTuple):
    """What the contestants of one race have in common."""

    library: str
    problem: str
    steps: int
    times: str
    """The times a solution is asked for at: the two ends, or every step."""
    task: str


@dataclass
class Race:
    """The outcome: for each contestant its samples, one a round, under the name of what was measured.

    `cpu` and `wall` are seconds; `bytes` is a peak of memory, which has no noise and is read once.
    """

    case: Case
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    """Largest difference of a contestant's result from the first result, relative to its largest entry."""

    def as_json(self) -> dict[str, Any]:
        """The outcome as plain data."""
        return {"case": self.case._asdict(), "samples": self.samples, "differences": self.differences}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Race:
        """The outcome that `as_json` gave."""
        return cls(Case(**data["case"]), data["samples"], data["differences"])


class Effort(NamedTuple):
    """How many rounds a race takes: at least `least`, at most `most`, and no new one after `seconds`."""

    least: int
    most: int
    seconds: float


class Spread(NamedTuple):
    """Median and quartiles."""

    low: float
    median: float
    high: float


def race(
    case: Case,
    contestants: Mapping[str, Thunk],
    effort: Effort,
    synchronise: Callable[[], object] = lambda: None,
    prepare: Callable[[], object] = gc.collect,
    is_warm: bool = False,
    is_compared: bool = True,
) -> Race:
    """Time every contestant once a round; each round starts with another one, so that none always follows the same.

    A round before them is not counted, unless `is_warm`. `prepare` runs before each sample and is not timed;
    `synchronise` waits for a device and is.
    """
    names = list(contestants)
    found = Race(case, {name: {"cpu": [], "wall": []} for name in names})
    results: dict[str, np.ndarray] = {}

    def once(name: str) -> tuple[float, float]:
        prepare()
        synchronise()
        wall, cpu = time.perf_counter(), time.process_time()
        result = contestants[name]()
        synchronise()
        took = time.process_time() - cpu, time.perf_counter() - wall
        if is_compared and result is not None and name not in results:
            results[name] = flat(result)
        return took

    began, rounds = time.perf_counter(), 0
    for name in () if is_warm else names:
        once(name)
    gc.collect()
    gc.freeze()  # the collector then walks through a contestant's own objects alone
    while rounds < effort.least or (rounds < effort.most and time.perf_counter() - began < effort.seconds):
        for place in range(len(names)):
            name = names[(place + rounds) % len(names)]
            cpu, wall = once(name)
            found.samples[name]["cpu"].append(cpu)
            found.samples[name]["wall"].append(wall)
        rounds += 1
    gc.unfreeze()
    for name, result in results.items():
        first = next(iter(results.values()))
        found.differences[name] = float(np.max(np.abs(result - first)) / np.max(np.abs(first)))
    return found


def flat(arrays: Sequence[Any]) -> np.ndarray:
    """All entries as one vector of double precision on the host."""
    on_host = [np.asarray(array.cpu() if hasattr(array, "cpu") else array, dtype=float) for array in arrays]
    return np.concatenate([array.ravel() for array in on_host])


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles; of one or two samples the extremes stand for the quartiles."""
    if len(samples) < 3:
        return Spread(min(samples), statistics.median(samples), max(samples))
    return Spread(*statistics.quantiles(samples, n=4, method="inclusive"))


def ratio(found: Race, over: str, under: str, measure: str) -> Spread:
    """How many times `under` the contestant `over` takes: the spread of the ratios of each round."""
    pairs = zip(found.samples[over][measure], found.samples[under][measure], strict=True)
    return spread([a / b for a, b in pairs])

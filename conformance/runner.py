"""Runs targets side by side, each in a process of its own: a crash, a hang or a stray thread stays in there.

A process that dies or takes too long over a case fails that case, and another one goes on with the next.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from .cases import Case
from .cells import FAILED, RAN, Cell, TargetReport, failed_cell, run_target
from .gaps import Gap
from .namespaces import add_namespaces

Plan = Mapping[str, Sequence[Case]]
"""The cases of every target, by its id."""
Result = Cell | TargetReport
TIMEOUT = 120.0
"""Seconds that a case may take."""
_LOAD_TIMEOUT = 300.0
"""Seconds that a library may take to load."""
_MOST_DEATHS = 3
_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class _Worker:
    """The process of one target, and what it has still to do.

    ``is_loaded`` says whether the process has loaded the library, ``is_known`` whether one before it had.
    """

    target: str
    cases: list[Case]
    gaps: Sequence[Gap]
    namespaces: Sequence[str]
    is_known: bool = False
    is_loaded: bool = False
    deaths: int = 0
    connection: Connection = field(init=False)
    process: SpawnProcess = field(init=False)
    since: float = field(init=False)

    def start(self) -> None:
        """A new process for the cases that are left."""
        self.connection, sender = _SPAWN.Pipe(duplex=False)
        arguments = (sender, self.target, self.cases, self.gaps, self.namespaces)
        self.process = _SPAWN.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        sender.close()
        self.is_loaded, self.since = False, time.monotonic()

    def receive(self) -> Iterator[Result]:
        """What the process has to say, or what its end says."""
        try:
            result = self.connection.recv()
        except EOFError:
            self.process.join()
            yield from self.end(f"its process ended early, with exit code {self.process.exitcode}")
            return
        self.since = time.monotonic()
        if isinstance(result, Cell):
            del self.cases[0]
        elif result.status != RAN:
            self.cases.clear()
        if isinstance(result, Cell) or not self.is_known:
            yield result
        self.is_loaded = self.is_known = True

    def end(self, reason: str) -> Iterator[Result]:
        """The end of a process: a case that it was at has failed, and another process starts for the others."""
        self.stop()
        if not self.is_loaded:
            self.cases.clear()
            yield TargetReport(self.target, FAILED, reason, {})
        elif self.cases:
            yield failed_cell(self.target, self.cases.pop(0), reason, time.monotonic() - self.since)
            self.deaths += 1
            if self.deaths == _MOST_DEATHS and self.cases:
                reason = f"{_MOST_DEATHS} of its processes ended early; {len(self.cases)} cases were not run"
                self.cases.clear()
                yield TargetReport(self.target, FAILED, reason, {})
            elif self.cases:
                self.start()

    def patience(self, timeout: float) -> float:
        """Seconds that are left until the process has taken too long."""
        return self.since + (timeout if self.is_loaded else _LOAD_TIMEOUT) - time.monotonic()

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run(
    plan: Plan, gaps: Sequence[Gap], jobs: int, timeout: float = TIMEOUT, namespaces: Sequence[str] = ()
) -> Iterator[Result]:
    """The report of every target before its first cell, and every cell as soon as it is done.

    Args:
        plan: what to run; targets start in its order.
        gaps: the declared gaps.
        jobs: how many processes at a time; 0 runs all in this process, where nothing is stopped.
        timeout: seconds that a case may take.
        namespaces: those that were added to the targets.
    """
    if jobs == 0:
        for target, cases in plan.items():
            yield from run_target(target, cases, gaps)
        return
    waiting = [_Worker(target, list(cases), gaps, namespaces) for target, cases in plan.items()]
    running: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(waiting.pop(0))
                running[-1].start()
            patience = max(0.0, min(worker.patience(timeout) for worker in running))
            ready = wait([worker.connection for worker in running], patience)
            for worker in list(running):
                if worker.connection in ready:
                    yield from worker.receive()
                elif worker.patience(timeout) <= 0:
                    yield from worker.end(f"took longer than {timeout:g} s, and was stopped")
                if not worker.cases:
                    running.remove(worker)
                    worker.stop()
    finally:
        for worker in running:
            worker.stop()


def _work(
    sender: Connection, target: str, cases: Sequence[Case], gaps: Sequence[Gap], namespaces: Sequence[str]
) -> None:
    """The process of one target."""
    add_namespaces(namespaces)
    send: Callable[[Result], None] = sender.send
    for result in run_target(target, cases, gaps):
        send(result)

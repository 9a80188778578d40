"""Runs targets side by side, each in a process of its own: a crash, a setting or a stray thread stays in there."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from .cases import Case
from .cells import FAILED, Cell, TargetReport, run_target
from .gaps import Gap

Plan = Mapping[str, Sequence[Case]]
"""The cases of every target, by its id."""
Result = Cell | TargetReport
_SPAWN = multiprocessing.get_context("spawn")


def run(plan: Plan, gaps: Sequence[Gap], jobs: int) -> Iterator[Result]:
    """Every cell as soon as it is done, and the report of every target after its last cell.

    Args:
        plan: what to run; targets start in its order.
        gaps: the declared gaps.
        jobs: how many processes at a time; 0 runs all in this process.
    """
    if jobs == 0:
        for target, cases in plan.items():
            yield from run_target(target, cases, gaps)
        return
    waiting = list(plan.items())
    running: dict[Connection, tuple[str, SpawnProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                target, cases = waiting.pop(0)
                connection, process = _start(target, cases, gaps)
                running[connection] = (target, process)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                yield from _receive(ready, running)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


def _start(target: str, cases: Sequence[Case], gaps: Sequence[Gap]) -> tuple[Connection, SpawnProcess]:
    receiver, sender = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(sender, target, cases, gaps), daemon=True)
    process.start()
    sender.close()
    return receiver, process


def _receive(connection: Connection, running: dict[Connection, tuple[str, SpawnProcess]]) -> Iterator[Result]:
    target, process = running[connection]
    try:
        result = connection.recv()
    except EOFError:
        process.join()
        result = TargetReport(target, FAILED, f"its process ended early, with exit code {process.exitcode}", {})
    yield result
    if isinstance(result, TargetReport):
        process.join()
        connection.close()
        del running[connection]


def _work(sender: Connection, target: str, cases: Sequence[Case], gaps: Sequence[Gap]) -> None:
    """The process of one target."""
    send: Callable[[Result], None] = sender.send
    for result in run_target(target, cases, gaps):
        send(result)

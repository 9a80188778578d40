"""The arguments of ``python -m janode.conformance``: what to run, what to write, and how it ended."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from janode.core.errors import InputError, unknown_name

from .cases import LEVELS, Selection, demoted, reference_cases, select
from .cells import Cell
from .gaps import GAPS_FILE, read_gaps
from .junit import as_junit
from .merging import diff, merge
from .namespaces import add_namespaces
from .page import as_html
from .report import Report, ReportFile, check_writable, read_report
from .resume import resume as take_up
from .runner import TIMEOUT, Plan, Result, run
from .tables import print_report
from .targets import REFERENCE, TARGETS, Target, present

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    target: Annotated[
        list[str] | None, typer.Option(help="A target's id, which must not be absent, or a pattern such as 'torch-*'.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="Only targets on this device: cpu, cuda, ...")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Only targets in this precision: f64 or f32.")] = None,
    problem: Annotated[list[str] | None, typer.Option(help="Only this problem.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this method.")] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Only this adjoint preset.")] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option("--select", help="Only ids that match, such as 'steered/*/filter' or 'torch-*/*/rk4/*'."),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            help="An Array API namespace to test too, and alone if no target is named: module or module:name."
        ),
    ] = None,
    gaps_file: Annotated[
        list[Path] | None, typer.Option("--gaps", help="A file of declared gaps, beside that of janode.")
    ] = None,
    level: Annotated[
        str | None,
        typer.Option(help="smoke, standard or full. Default: standard; full if a problem, method or preset is given."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes at a time; 0 runs all in this one.")] = 2,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds that a case may take.")] = TIMEOUT,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file, while the run goes on.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write the results to this file as JUnit XML.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the results to this file as a page of its own.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the interrupted run whose results are in --json.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Only list the cases of every target.")] = False,
) -> None:
    """Compare every installed array library with the NumPy float64 reference: solutions and gradients.

    Every option that names something may be given more than once. Exit code 0 if nothing failed, 1 if something did, 2
    if an argument is wrong.
    """
    if context.invoked_subcommand is not None:
        return
    console = Console()
    with _refusing():
        selection = Selection(tuple(problem or ()), tuple(method or ()), tuple(preset or ()), tuple(pattern or ()))
        chosen = level or ("full" if any(selection) else "standard")
        added = add_namespaces(namespace or ())
        required, targets = find_targets((target or []) + added, device or (), dtype or ())
        plan = make_plan(targets, chosen, selection)
        gaps = [gap for path in [GAPS_FILE, *(gaps_file or [])] for gap in read_gaps(path)]
        file = None if json is None else ReportFile(json)
        _check_writable(junit, html)
        report = Report(chosen, required, asked=str(selection))
        if resume:
            if json is None:
                raise InputError("conformance: --resume must come with --json; got none. Name the interrupted run.")
            report, plan = take_up(json, plan, chosen, required)
    if list_:
        _list(console, plan)
        return
    _run(console, run(plan, gaps, jobs, timeout, namespace or ()), sum(map(len, plan.values())), report, file)
    _end(console, report, junit, html)


@app.command("diff")
def diff_command(
    old: Annotated[Path, typer.Argument(help="A report that --json wrote.")],
    new: Annotated[Path, typer.Argument(help="A later one.")],
) -> None:
    """Tell what differs between two reports. Exit code 1 if something failed that had not."""
    with _refusing():
        lines, is_worse = diff(read_report(old), read_report(new))
    console = Console()
    for line in lines or ["no difference"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(int(is_worse))


@app.command("merge")
def merge_command(
    reports: Annotated[list[Path], typer.Argument(help="Reports that --json wrote, perhaps on several machines.")],
    json: Annotated[Path | None, typer.Option(help="Write the merged report to this file.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write it to this file as JUnit XML.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write it to this file as a page of its own.")] = None,
) -> None:
    """Make one report of several. Exit code 1 if something failed in one of them."""
    with _refusing():
        _check_writable(json, junit, html)
        report = merge([read_report(path) for path in reports])
    if json is not None:
        json.write_text(report.as_json())
    _end(Console(), report, junit, html)


@contextmanager
def _refusing() -> Iterator[None]:
    """Say what is wrong with an argument, and end with exit code 2."""
    try:
        yield
    except InputError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None


def _check_writable(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            check_writable(path)


def _list(console: Console, plan: Plan) -> None:
    for name, cases in plan.items():
        for case in cases:
            console.print(f"{name}/{case.id}", markup=False, highlight=False, soft_wrap=True)


def _end(console: Console, report: Report, junit: Path | None, html: Path | None) -> NoReturn:
    """Write the report, show it, and exit: with 1 if something failed."""
    for path, text in ((junit, as_junit), (html, as_html)):
        if path is not None:
            path.write_text(text(report))
    print_report(console, report)
    if any(target.target in report.required and "is absent" in target.reason for target in report.targets):
        console.print(f"here are: {', '.join(present())}", soft_wrap=True, highlight=False)
    raise typer.Exit(int(bool(report.failures)))


def find_targets(
    patterns: Sequence[str], devices: Sequence[str], dtypes: Sequence[str]
) -> tuple[frozenset[str], list[Target]]:
    """(ids of targets asked for by name, all targets asked for)."""
    for argument, given, legal in (
        ("device", devices, {target.device for target in TARGETS.values()}),
        ("dtype", dtypes, {target.precision for target in TARGETS.values()}),
    ):
        for name in given:
            if name not in legal:
                raise unknown_name("conformance", argument, name, legal)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in TARGETS):
            raise unknown_name("conformance", "target", pattern, TARGETS)
    found = [
        target
        for target in TARGETS.values()
        if (not patterns or any(fnmatchcase(target.id, pattern) for pattern in patterns))
        and (not devices or target.device in devices)
        and (not dtypes or target.precision in dtypes)
    ]
    if not found:
        raise InputError("conformance: target, device and dtype must leave a target; got none. See --list.")
    return frozenset(patterns) & frozenset(TARGETS), found


def make_plan(targets: Sequence[Target], level: str, selection: Selection) -> Plan:
    """The cases of every target, those that take longest first, and the checks of the reference used by them all."""
    if level not in LEVELS:
        raise unknown_name("conformance", "level", level, LEVELS)
    selection.check()
    plan = {
        target.id: [
            case for case in select(demoted(level, target.demotion), selection, target.id) if target.can_show(case)
        ]
        for target in targets
    }
    used = {case for cases in plan.values() for case in cases}
    if not used:
        raise InputError(f"conformance: level {level!r} must hold a case that is asked for; got none. Use level full.")
    longest_first = sorted(targets, key=lambda target: -target.cost * len(plan[target.id]))
    plan = {target.id: plan[target.id] for target in longest_first if plan[target.id]}
    return {**plan, REFERENCE: reference_cases(sorted(used))}


def _run(console: Console, results: Iterator[Result], total: int, report: Report, file: ReportFile | None) -> None:
    """Fill the report, with a progress bar meanwhile; the file holds what there is, however this ends."""
    # Small arrays gain nothing from threads, and JAX would take most of a GPU's memory from the others.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    columns = (
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    before, start, order = report.seconds, time.monotonic(), [REFERENCE, *TARGETS]
    report.loads.append(round(os.getloadavg()[0], 2))
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("", total=total)
            for result in results:
                report.add(result)
                report.seconds = before + time.monotonic() - start
                if isinstance(result, Cell):
                    progress.update(bar, advance=1, description=f"{result.target}/{result.case}")
                if file is not None:
                    file.write(report)
        report.is_complete = True
    finally:
        report.targets.sort(key=lambda target: order.index(target.target))
        report.loads.append(round(os.getloadavg()[0], 2))
        if file is not None:
            file.write(report, is_last=True)

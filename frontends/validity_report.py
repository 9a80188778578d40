"""A verdict for the eyes: as a rich table, as a figure. Both libraries are optional."""

from __future__ import annotations

from typing import Any

from janode.core.errors import InputError
from janode.core.verdict import Validity


def show_validity(validity: Validity, console: Any = None) -> None:
    """Print a verdict as a rich table.

    Args:
        validity: what :func:`validate` returned.
        console: a ``rich.console.Console``, or None for the terminal.

    Raises:
        InputError: rich is not installed.
    """
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError as error:
        raise _absent("show_validity", "rich", "cli") from error
    console = Console() if console is None else console
    columns, rows = validity.table()
    table = Table(title=f"trained with {validity.method}, {validity.sizes.name} {validity.size:.4g}")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for line in validity.remarks():
        console.print(line, markup=False, highlight=False)
    console.print(validity.verdict, style="bold green" if validity.is_valid else "bold red", highlight=False)


def plot_validity(validity: Validity, ax: Any = None) -> Any:
    """Draw the metric against the step size or tolerance, a line for each method, with the training solver marked.

    Args:
        validity: what :func:`validate` returned.
        ax: the Matplotlib axes, or None for new ones.

    Returns:
        The axes; ``ax.figure.savefig(...)`` saves them.

    Raises:
        InputError: Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _absent("plot_validity", "matplotlib", "plot") from error
    if ax is None:
        ax = Figure(figsize=(5.5, 3.8), layout="constrained").subplots()
    for method in dict.fromkeys(entry.method for entry in validity.entries):
        entries = [entry for entry in validity.entries if entry.method == method]
        ax.plot([entry.size for entry in entries], [entry.metric for entry in entries], "o-", label=method)
    ax.plot([validity.size], [validity.metric], "k*", markersize=13, label="training")
    ax.set_xscale("log", base=validity.sizes.base)
    ax.set_xlabel(validity.sizes.label)
    ax.set_ylabel("metric")
    ax.legend(fontsize=8)
    return ax


def _absent(where: str, library: str, extra: str) -> InputError:
    return InputError(f"{where}: {library} must be installed; got none. Run `pip install janode[{extra}]`.")

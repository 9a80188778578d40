"""The Lotka-Volterra model of hares and lynxes: the counts, the vector field with its VJP, the loss and the start.

Written on array operators alone, so that one text serves NumPy, CuPy, PyTorch, JAX and any other Array API library.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

DATA = Path(__file__).with_name("lynx_hare.csv")

# The unknowns, in the order of the vector that the optimiser moves; all are positive, so it moves their logarithms.
UNKNOWNS = ("a hare birth", "b predation", "c lynx death", "d lynx growth", "H in 1900", "L in 1900")
NUM_RATES = 4
PERIOD = 10.0  # years between two peaks, as read off the counts

Array: TypeAlias = Any
Pair: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True)
class Counts:
    """The pelts counted each year, in thousands."""

    years: tuple[float, ...]
    hare: tuple[float, ...]
    lynx: tuple[float, ...]


def read_counts(path: Path = DATA) -> Counts:
    """Read the yearly counts from a CSV file with the columns year, hare, lynx."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    years, hare, lynx = (tuple(float(row[name]) for row in rows) for name in ("year", "hare", "lynx"))
    return Counts(years, hare, lynx)


def field(t: Array, y: Pair, rates: tuple[Array, ...]) -> Pair:
    """Return dH/dt = a H - b H L and dL/dt = d H L - c L, for y = (H, L) and rates = (a, b, c, d)."""
    hare, lynx = y
    birth, predation, death, growth = rates
    meetings = hare * lynx
    return birth * hare - predation * meetings, growth * meetings - death * lynx


def field_vjp(
    t: Array, y: Pair, rates: tuple[Array, ...], f_bar: Pair
) -> tuple[None, Pair, tuple[Array, Array, Array, Array]]:
    """Return the cotangents of t, y and rates for the cotangent f_bar of field; the field does not depend on t."""
    hare, lynx = y
    birth, predation, death, growth = rates
    hare_bar, lynx_bar = f_bar
    meetings = hare * lynx
    meetings_bar = growth * lynx_bar - predation * hare_bar
    y_bar = (birth * hare_bar + lynx * meetings_bar, hare * meetings_bar - death * lynx_bar)
    rates_bar = (hare * hare_bar, -meetings * hare_bar, -lynx * lynx_bar, meetings * lynx_bar)
    return None, y_bar, rates_bar


def unpack(xp: Any, x: Array) -> tuple[Pair, tuple[Array, ...]]:
    """Return the initial state and the rates, exp(x), as 0-d arrays."""
    natural = xp.exp(x)
    unknowns = tuple(natural[i, ...] for i in range(len(UNKNOWNS)))
    return (unknowns[NUM_RATES], unknowns[NUM_RATES + 1]), unknowns[:NUM_RATES]


def log_loss(xp: Any, ys: Pair, log_counts: Pair) -> Array:
    """Return the mean squared difference of the logarithms of solution and counts."""
    hare, lynx = (xp.mean((xp.log(y) - log_count) ** 2) for y, log_count in zip(ys, log_counts, strict=True))
    return (hare + lynx) / 2.0


def log_loss_vjp(xp: Any, ys: Pair, log_counts: Pair) -> Pair:
    """Return the cotangent of ys for the cotangent 1 of log_loss."""
    hare, lynx = ((xp.log(y) - c) / (y * float(c.shape[0])) for y, c in zip(ys, log_counts, strict=True))
    return hare, lynx


def start(counts: Counts) -> list[float]:
    """Return the logarithms of the six unknowns at which every fit starts.

    An orbit averages to its equilibrium (c/d, a/b), and small orbits turn at the frequency sqrt(a c): with a = c the
    mean counts and the period give the four rates. The initial values are the first counts.
    """
    frequency = 2.0 * math.pi / PERIOD
    mean_hare, mean_lynx = (math.fsum(c) / len(c) for c in (counts.hare, counts.lynx))
    rates = (frequency, frequency / mean_lynx, frequency, frequency / mean_hare)
    return [math.log(value) for value in (*rates, counts.hare[0], counts.lynx[0])]

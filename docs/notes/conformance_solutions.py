"""Print the reference solutions of the conformance problems without a closed form, to 25 digits.

Run with ``python docs/notes/conformance_solutions.py`` (mpmath; half a minute).
Their fields are polynomials, so the Taylor coefficients of a solution follow from products of series: the coefficient
k + 1 of y is the coefficient k of f(y), divided by k + 1. Series of degree 25 over steps of 1/64 at 40 digits; steps
of half the length must give the same digits.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

from mpmath import mp, mpf, nstr

mp.dps = 40
DEGREE = 25


class Series:
    """A power series with as many coefficients as are known."""

    def __init__(self, coefficients: list[mpf]) -> None:
        self.c = coefficients

    def __add__(self, other: Series) -> Series:
        return Series([a + b for a, b in zip(self.c, other.c, strict=True)])

    def __sub__(self, other: Series) -> Series:
        return Series([a - b for a, b in zip(self.c, other.c, strict=True)])

    def __mul__(self, other: Series) -> Series:
        return Series([sum(self.c[i] * other.c[k - i] for i in range(k + 1)) for k in range(len(self.c))])

    def __rmul__(self, factor: int | mpf) -> Series:
        return Series([factor * a for a in self.c])


Field = Callable[[list[Series]], list[Series]]


def lotka_volterra(y: list[Series]) -> list[Series]:
    """alpha = 1.5, beta = 1, gamma = 3, delta = 1."""
    hare, lynx = y
    return [mpf("1.5") * hare - hare * lynx, hare * lynx - 3 * lynx]


def van_der_pol(y: list[Series]) -> list[Series]:
    """mu = 2."""
    x, v = y
    return [v, 2 * v - 2 * (x * x * v) - x]


def lorenz(y: list[Series]) -> list[Series]:
    """sigma = 10, rho = 28, beta = 8/3."""
    x, y_, z = y
    return [10 * (y_ - x), 28 * x - x * z - y_, x * y_ - mpf(8) / 3 * z]


def step(field: Field, y: list[mpf], h: mpf) -> list[mpf]:
    """The state h later."""
    series = [Series([value]) for value in y]
    for k in range(DEGREE):
        for known, slope in zip(series, field(series), strict=True):
            known.c.append(slope.c[k] / (k + 1))
    return [mp.polyval(one.c[::-1], h) for one in series]


def solve(field: Field, y0: list[str], ts: list[str], length: Fraction) -> list[list[str]]:
    """The digits of the state at every time after the first."""
    y, rows = [mpf(value) for value in y0], []
    for start, end in pairwise(ts):
        for _ in range(int((Fraction(end) - Fraction(start)) / length)):
            y = step(field, y, mpf(length.numerator) / length.denominator)
        rows.append([nstr(value, 25) for value in y])
    return rows


if __name__ == "__main__":
    for field, y0, ts in [
        (lotka_volterra, ["1", "0.5"], ["0", "0.5", "1", "2"]),
        (van_der_pol, ["2", "0"], ["0", "0.75", "1.5", "3"]),
        (lorenz, ["1", "1", "1"], ["0", "0.5", "1", "2"]),
    ]:
        rows = solve(field, y0, ts, Fraction(1, 64))
        assert rows == solve(field, y0, ts, Fraction(1, 128)), "too few digits"
        print(field.__name__)
        for t, row in zip(ts[1:], rows, strict=True):
            print(f"  t = {t}: {', '.join(row)}")

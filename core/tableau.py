"""What an explicit Runge-Kutta method is: its coefficients as exact numbers, and what follows from them.

    Y_i = y_n + h sum_{j<i} a_ij k_j,   k_i = f(t_n + c_i h, Y_i),   y_{n+1} = y_n + h sum_i b_i k_i

The weights b_hat of a pair serve the error estimate h sum_i (b_i - b_hat_i) k_i. Coefficients are dimensionless.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from .errors import TableauError

Row = tuple[Fraction, ...]

# A record of 40-digit decimals keeps its row sums to about 1e-39; one of 16-digit decimals does not.
_ROUNDING = Fraction(1, 10**38)


@dataclass(frozen=True)
class FloatTableau:
    """The coefficients of a tableau, each rounded once to the nearest Python float."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    b_error: tuple[float, ...] | None


def _floats(row: Row) -> tuple[float, ...]:
    return tuple(float(entry) for entry in row)


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method of s stages, or a pair of them, in exact numbers.

    Attributes:
        name: the name that finds the method.
        order: the order of the solution weights b.
        c: the s abscissae; c_i = sum_j a_ij.
        a: s rows; row i (from 0) has i entries.
        b: the s solution weights; they sum to 1.
        b_error: the s weights b - b_hat of the error estimate, which sum to 0, or None.
        embedded_order: the order of b_hat, or None.
        source: author, year, and where the coefficients stand.
        errata: what the literature has wrong, and what was refined.

    Raises:
        TableauError: lengths that differ, rows that are not explicit, sums that are off by more than 1e-38, or only one
            of b_error and embedded_order. The order is not checked here: the tests prove it.
    """

    name: str
    order: int
    c: Row
    a: tuple[Row, ...]
    b: Row
    b_error: Row | None
    embedded_order: int | None
    source: str
    errata: str = ""

    def __post_init__(self) -> None:
        if not self.b:
            raise self._error("b must have at least one entry; got none", "Give one weight per stage")
        for field, row in (("c", self.c), ("a", self.a), ("b_error", self.b_error)):
            if row is not None and len(row) != len(self.b):
                rule = f"{field} must have as many {'rows' if field == 'a' else 'entries'} as b, {len(self.b)}"
                raise self._error(f"{rule}; got {len(row)}", "Give one per stage")
        for i, row in enumerate(self.a):
            if len(row) != i:
                fix = "Only explicit methods are supported: give a_ij for j < i, zeros included"
                raise self._error(f"row {i + 1} of a must have length {i}; got {len(row)}", fix)
            self._check_sum(f"row {i + 1} of a", row, self.c[i], f"c_{i + 1} = {float(self.c[i])}")
        self._check_sum("b", self.b, Fraction(1), "1")
        if (self.b_error is None) != (self.embedded_order is None):
            got = f"b_error {self.b_error} and embedded_order {self.embedded_order}"
            raise self._error(f"b_error and embedded_order must be given together; got {got}", "Give both or neither")
        if self.b_error is not None:
            self._check_sum("b_error", self.b_error, Fraction(0), "0")

    def __hash__(self) -> int:
        """A hash of the name alone: dopri8's numbers take 0.2 ms, longer than a step of a small field."""
        return hash(self.name)

    def _error(self, fault: str, fix: str) -> TableauError:
        return TableauError(f"tableau {self.name!r}: {fault}. {fix}.")

    def _check_sum(self, what: str, row: Row, target: Fraction, shown: str) -> None:
        off = sum(row, Fraction(0)) - target
        if abs(off) > _ROUNDING:
            fix = "Give fractions, or decimals of 40 digits"
            raise self._error(f"{what} must sum to {shown}; got a sum off by {float(off):.3g}", fix)

    @property
    def num_stages(self) -> int:
        """The number s of stages, those used by the error estimate alone included."""
        return len(self.b)

    @property
    def num_solution_stages(self) -> int:
        """The number of stages that b uses: s without the trailing stages of weight zero."""
        return max(i for i, weight in enumerate(self.b) if weight) + 1

    @property
    def is_fsal(self) -> bool:
        """Whether the last stage is the next step's first: its row of a is b, its weight zero."""
        return self.num_stages > 1 and (*self.a[-1], 0) == self.b

    @cached_property
    def floats(self) -> FloatTableau:
        """The coefficients as Python floats, made on first use."""
        b_error = None if self.b_error is None else _floats(self.b_error)
        return FloatTableau(_floats(self.c), tuple(map(_floats, self.a)), _floats(self.b), b_error)


def tableau(
    *,
    name: str,
    order: int,
    c: str,
    a: str,
    b: str,
    b_hat: str | None = None,
    embedded_order: int | None = None,
    source: str,
    errata: str = "",
) -> Tableau:
    """A tableau from exact text, in the literature's order: one record per method.

    Args:
        name: the name that finds the method.
        order: the order of b.
        c: the s abscissae, separated by spaces, as fractions ("-5/18") or decimals of 40 digits.
        a: the rows of stages 2 to s, separated by "|", zeros included; "" for one stage.
        b: the s weights of the solution.
        b_hat: the s embedded weights, for a pair.
        embedded_order: the order of b_hat, for a pair.
        source: author, year, and where the coefficients stand.
        errata: what the literature has wrong, and what was refined.

    Raises:
        TableauError: a text that is not a number, or a tableau that contradicts itself (see ``Tableau``).

    Examples:
        >>> tableau(name="heun", order=2, c="0 1", a="1", b="1/2 1/2", source="Heun 1900").num_stages
        2
    """

    def parse(field: str, text: str) -> Row:
        try:
            return tuple(Fraction(entry) for entry in text.split())
        except (ValueError, ZeroDivisionError):
            rule = f"{field} must hold fractions or decimals separated by spaces; got {text.strip()!r}"
            raise TableauError(f"tableau {name!r}: {rule}. Write for example '0 1/2 0.25'.") from None

    rows = ["", *a.split("|")] if a else [""]
    weights = parse("b", b)
    b_error = None
    if b_hat is not None:
        embedded = parse("b_hat", b_hat)
        if len(embedded) != len(weights):
            rule = f"b_hat must have as many entries as b, {len(weights)}; got {len(embedded)}"
            raise TableauError(f"tableau {name!r}: {rule}. Give one per stage.")
        b_error = tuple(weight - lower for weight, lower in zip(weights, embedded, strict=True))
    return Tableau(
        name=name,
        order=order,
        c=parse("c", c),
        a=tuple(parse("a", row) for row in rows),
        b=weights,
        b_error=b_error,
        embedded_order=embedded_order,
        source=source,
        errata=errata,
    )

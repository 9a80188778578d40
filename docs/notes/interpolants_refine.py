"""Find the continuous extensions of tsit5 (refined) and dopri8 (derived) to 40 decimals, and print them.

Run with ``python docs/notes/interpolants_refine.py`` (NumPy, mpmath; seconds). A continuous extension
y(t_n + x h) = y_n + h sum_i b_i(x) k_i is of order p if sum_i b_i(x) Phi_i(t) = x^|t| / gamma(t) for all rooted trees t
of up to p nodes. Here b is the cubic Hermite polynomial of (y_n, k_1, y_{n+1}, k_end) plus x^2 (1 - x)^2 times

    d_1i + x (d_2i + (1 - x) (d_3i + x d_4i)),

so that both ends fit with their derivatives whatever d is, and the conditions are linear in d.
"""

from __future__ import annotations

import mpmath
import numpy as np
from tableaus_refine import count, decimals, density, trees

from janode.core.tableaus import DOPRI8, TSIT5, Tableau

Matrix = np.ndarray
EXTRA = ("0.7", "0.2")
"""Where the last two extra stages of dopri8 stand: the multiples of 1/20 with a small error and small coefficients."""


def number(x):
    """A Fraction as mpmath's number."""
    return mpmath.mpf(x.numerator) / x.denominator


def extended(method: Tableau) -> Matrix:
    """The square matrix a, with the row b at the end unless the last stage is at y_{n+1} already."""
    rows = list(method.a) + ([] if method.is_fsal else [method.b])
    return square([[number(x) for x in row] for row in rows])


def square(rows) -> Matrix:
    """A lower triangle as a square matrix."""
    return np.array([[*row, *[mpmath.mpf(0)] * (len(rows) - len(row))] for row in rows], dtype=object)


def conditions(a: Matrix, order: int) -> tuple[Matrix, Matrix]:
    """gamma(t) Phi_i(t), one row a tree, and the numbers of nodes."""
    weights = {}
    for tree in trees(order):
        weights[tree] = np.array([mpmath.mpf(1)] * len(a), dtype=object)
        for child in tree:
            weights[tree] = weights[tree] * (a @ weights[child])
    return (
        np.array([density(tree) * weights[tree] for tree in weights]),
        np.array([count(tree) for tree in weights]),
    )


def shortest(matrix: Matrix, rhs: Matrix) -> Matrix:
    """The shortest least-squares solution: ten digits an iteration by the float64 pseudo-inverse."""
    inverse = np.linalg.pinv(matrix.astype(float), rcond=1e-10)
    x = np.array([mpmath.mpf(0)] * matrix.shape[1], dtype=object)
    for _ in range(6):
        rest = rhs - matrix @ x
        size = max(abs(rest))
        x += inverse @ (rest / size).astype(float) * size
    if size > mpmath.mpf(10) ** -35:
        raise SystemExit(f"the conditions contradict each other by {float(size):.2g}")
    return x


def add_stage(a: Matrix, columns: list[int], c) -> Matrix:
    """a with a stage at t_n + c h whose input is accurate to order 6: the shortest row."""
    matrix, nodes = conditions(a, 6)
    row = np.array([mpmath.mpf(0)] * len(a), dtype=object)
    row[columns] = [rounded(x) for x in shortest(matrix[:, columns], c**nodes)]
    row[columns[0]] += c - sum(row)
    return square([list(each[:i]) for i, each in enumerate(a)] + [list(row)])


def rounded(x):
    """x to 40 decimals."""
    return mpmath.mpf(decimals(x))


def hermite(method: Tableau, size: int) -> Matrix:
    """The coefficients of x^1 .. x^3 of the cubic Hermite polynomial, one row a stage."""
    b = np.array([*map(number, method.b), *[mpmath.mpf(0)] * (size - method.num_stages)], dtype=object)
    weights = np.array([0 * b, 3 * b, -2 * b]).T
    weights[0] += np.array([1, -2, 1])
    weights[method.num_stages - method.is_fsal] += np.array([0, -1, 1])
    return weights


def tsit5():
    """d_1, one number a stage: d_12 and d_17 are held as printed, the conditions of order 4 give the rest."""
    matrix, nodes = conditions(extended(TSIT5), 4)
    d = np.array([mpmath.mpf(0)] * 7, dtype=object)
    d[1], d[6] = mpmath.mpf("0.1017"), mpmath.mpf("2.5")
    solved = [0, 2, 3, 4, 5]
    d[solved] = shortest(matrix[:, solved], (nodes == 4) * mpmath.mpf(1) - matrix @ d)
    return [texts(d)]


def dopri8():
    """The three extra rows, and d: its free direction, b - b_hat, serves to lessen the error of order 8."""
    columns = [0, *range(5, 14)]
    a = extended(DOPRI8)
    for c in (rounded(mpmath.mpf(1) / 2 - mpmath.sqrt(7) / 14), *map(mpmath.mpf, EXTRA)):
        a = add_stage(a, columns, c)
        columns.append(len(a) - 1)
    return [texts(row[:i]) for i, row in enumerate(a) if i > 13], [texts(row) for row in bumps(a, columns)]


def texts(row):
    """The row as 40 decimals each, or 0."""
    return [decimals(x) if x else "0" for x in row]


def bumps(a: Matrix, columns: list[int]) -> Matrix:
    """d (4 rows) of order 7 with the least sum of squares of the errors of order 8 at x = 0.05, 0.15, .., 0.95."""
    matrix, nodes = conditions(a, 8)
    cubic = np.zeros((len(a), 7), dtype=object)
    cubic[:, :3] = hermite(DOPRI8, len(a))
    target = (nodes[:, None] == np.arange(1, 8)) * mpmath.mpf(1)
    missing = target - matrix @ cubic
    low, d = nodes <= 7, np.zeros((4, len(a)), dtype=object)
    for j in reversed(range(4)):  # bump j is the lowest of the remaining ones, its leading term x^(4 + j)
        rhs = missing[:, 3 + j] / BUMPS[j][3 + j]
        d[j, columns] = shortest(matrix[low][:, columns], rhs[low])
        missing = missing - np.outer(matrix @ d[j], BUMPS[j])
    free = np.zeros(len(a), dtype=object)
    free[:13] = list(map(number, DOPRI8.b_error))
    high = nodes == 8
    scale = np.array([mpmath.mpf(1) / density(tree) for tree in trees(8)])[high]
    points = [mpmath.mpf(n) / 20 for n in range(1, 20, 2)]
    powers = np.array([[x**k for k in range(1, 8)] for x in points])
    errors = (missing[high] @ powers.T + np.array([x**8 for x in points])) * scale[:, None]
    pull, values = (matrix[high] @ free) * scale, BUMPS @ powers.T
    normal, right = (values @ values.T) * (pull @ pull), values @ (pull @ errors)
    shares = mpmath.lu_solve(mpmath.matrix(normal.tolist()), mpmath.matrix(right.tolist()))
    return d + np.outer([shares[j] for j in range(4)], free)


def polynomials() -> Matrix:
    """The coefficients of x^1 .. x^7 of the polynomials that d_1 .. d_4 stand at."""
    rising, falling = np.array([0, 1]), np.array([1, -1])
    found = [np.convolve(np.convolve(rising, rising), np.convolve(falling, falling))]
    for factor in (rising, falling, rising):
        found.append(np.convolve(found[-1], factor))
    return np.array([[*each[1:], *[0] * (8 - len(each))] for each in found])


BUMPS = polynomials()


if __name__ == "__main__":
    extra, d = dopri8()
    for row in (*tsit5(), *extra, *d):
        print(*row)

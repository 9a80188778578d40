"""Grids of fixed steps: how many, where, and the pullback to the times."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import janode.numpy as jo
from janode.backends.numpy import BACKEND
from janode.core.arguments import fixed_grid
from janode.core.grids import FixedGrid, equal_steps, steps_of_size
from janode.core.methods import find_method

from .problems import Counted, params


def place(ts: list[float], grid: FixedGrid) -> list[tuple[float, float]]:
    """(t_n, h_n) of every step."""
    intervals, starts, shares, _ = grid.steps
    return [grid.place(ts, k, start, share) for k, start, share in zip(intervals, starts, shares, strict=True)]


@pytest.mark.parametrize(
    ("ts", "step_size", "counts"),
    [
        ([0.0, 1.0], 0.25, (4,)),
        ([0.0, 1.0], 0.3, (4,)),
        ([0.0, 1.0], 1.0, (1,)),
        ([0.0, 1.0], 100.0, (1,)),
        ([0.0, 0.1, 0.5, 3.0], 0.25, (1, 2, 10)),
        ([3.0, 0.5, 0.1, 0.0], 0.25, (10, 2, 1)),
        ([-1.0, 1.0], 0.5, (4,)),
        ([0.0, 0.3], 0.1, (3,)),  # 0.3 / 0.1 is 2.9999999999999996
        ([1.0, 1.3], 0.1, (3,)),  # (1.3 - 1.0) / 0.1 is 3.0000000000000004
        ([1000.0, 1000.1], 0.1, (1,)),  # (1000.1 - 1000.0) / 0.1 is 1.0000000000002274
        ([0.0, 1e-300], 1e-301, (10,)),
        ([0.0, 1.0], 1e300, (1,)),
    ],
)
def test_step_size_gives_the_fewest_steps(ts: list[float], step_size: float, counts: tuple[int, ...]) -> None:
    assert steps_of_size(ts, step_size).counts == counts


TIMES = st.lists(st.floats(-100.0, 100.0), min_size=2, max_size=5, unique=True).map(sorted)


@given(ts=TIMES, step_size=st.floats(1e-2, 1e3), is_backward=st.booleans())
def test_step_size_is_kept_with_the_fewest_steps(ts: list[float], step_size: float, is_backward: bool) -> None:
    ts = ts[::-1] if is_backward else ts
    grid = steps_of_size(ts, step_size)
    lengths = [abs(b - a) for a, b in pairwise(ts)]
    longest = Fraction(step_size) * (1 + Fraction(2, 10**9))
    assert all(Fraction(length) <= count * longest for length, count in zip(lengths, grid.counts, strict=True))
    fewer = [(length, count - 1) for length, count in zip(lengths, grid.counts, strict=True) if count > 1]
    assert all(Fraction(length) > count * Fraction(step_size) for length, count in fewer)
    assert min(grid.counts) >= 1


@given(ts=TIMES, step_size=st.floats(1e-2, 1e3))
def test_step_size_does_not_see_the_direction(ts: list[float], step_size: float) -> None:
    assert steps_of_size(ts[::-1], step_size).counts == steps_of_size(ts, step_size).counts[::-1]


def test_equal_steps() -> None:
    grid = equal_steps(3, 2)
    assert grid.counts == (2, 2)
    assert grid.num_steps == 4
    assert grid.steps == ([0, 0, 1, 1], [0.0, 0.5, 0.0, 0.5], [0.5] * 4, [False, True, False, True])


@given(ts=TIMES, counts=st.lists(st.integers(1, 7), min_size=4, max_size=4), is_backward=st.booleans())
def test_steps_tile_the_intervals(ts: list[float], counts: list[int], is_backward: bool) -> None:
    ts = ts[::-1] if is_backward else ts
    grid = FixedGrid(tuple(counts[: len(ts) - 1]))
    steps = place(ts, grid)
    span = max(map(abs, ts))
    following = [t for t, _ in steps[1:]] + [ts[-1]]
    assert all(abs(t + h - after) <= 4e-16 * span for (t, h), after in zip(steps, following, strict=True))
    assert all(math.copysign(1.0, h) == (-1.0 if is_backward else 1.0) for _, h in steps)
    firsts = [i for i, start in enumerate(grid.steps[1]) if start == 0.0]
    assert [steps[i][0] for i in firsts] == ts[:-1]


REALS = st.floats(-10.0, 10.0)
STEPS = st.tuples(st.integers(0, 2), st.integers(1, 9)).flatmap(
    lambda kn: st.tuples(st.just(kn[0]), st.integers(0, kn[1] - 1).map(lambda i: i / kn[1]), st.just(1 / kn[1]))
)
FOUR = st.lists(REALS, min_size=4, max_size=4)


@given(step=STEPS, left=FOUR, right=FOUR, a=REALS, b=REALS)
def test_place_is_linear_in_the_times(
    step: tuple[int, float, float], left: list[float], right: list[float], a: float, b: float
) -> None:
    placed = np.array(FixedGrid.place([a * x + b * y for x, y in zip(left, right, strict=True)], *step))
    parts = a * np.array(FixedGrid.place(left, *step)) + b * np.array(FixedGrid.place(right, *step))
    np.testing.assert_allclose(placed, parts, rtol=0.0, atol=1e-12)


@given(step=STEPS, ts=FOUR, t_bar=st.none() | REALS, h_bar=REALS, ts_bar=FOUR)
def test_place_vjp_is_the_transpose(
    step: tuple[int, float, float], ts: list[float], t_bar: float | None, h_bar: float, ts_bar: list[float]
) -> None:
    rows = [(np.asarray(bar),) for bar in ts_bar]
    cotangent = None if t_bar is None else np.asarray(t_bar)
    (pulled,) = BACKEND.stack(FixedGrid.place_vjp(BACKEND, rows, step, cotangent, np.asarray(h_bar)))
    t, h = FixedGrid.place(ts, *step)
    expected = (t_bar or 0.0) * t + h_bar * h
    assert abs(np.dot(pulled - ts_bar, ts) - expected) <= 1e-12


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({"steps": 2, "step_size": None}, (2, 2)),
        ({"steps": np.int64(2), "step_size": None}, (2, 2)),
        ({"steps": None, "step_size": 0.5}, (2, 4)),
        ({"steps": None, "step_size": np.float32(0.5)}, (2, 4)),
        ({"steps": None, "step_size": 1}, (1, 2)),
        ({"steps": None, "step_size": Fraction(1, 2)}, (2, 4)),
    ],
    ids=str,
)
def test_the_grid_asked_for(options: dict[str, float], counts: tuple[int, ...]) -> None:
    grid = fixed_grid("solve", [0.0, 1.0, 3.0], method=find_method("rk4"), **options)
    assert grid.counts == counts
    assert {type(count) for count in grid.counts} == {int}


@given(ts=TIMES, is_backward=st.booleans())
def test_the_field_is_evaluated_where_the_steps_start(ts: list[float], is_backward: bool) -> None:
    ts = ts[::-1] if is_backward else ts
    assume(min(abs(b - a) for a, b in pairwise(ts)) > 1e-3)
    counted = Counted()
    jo.solve(counted.field, np.zeros(2), ts, params(), method="euler", steps=2)
    assert counted.times == [t for t, _ in place(ts, equal_steps(len(ts), 2))]

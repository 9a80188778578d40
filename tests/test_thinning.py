"""Which records are kept within a budget, replayed step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from janode.backends.numpy import BACKEND
from janode.core.errors import InputError
from janode.core.thinning import Thinning


def replay(thinning: Thinning, num_steps: int, max_steps: int) -> dict[int, int]:
    """slot -> step after ``num_steps`` steps, as a solve fills the slots."""
    slots: dict[int, int] = {}
    for n in range(num_steps):
        if n % thinning.distance(BACKEND, n, max_steps) == 0:
            slots[thinning.slot(BACKEND, n, max_steps)] = n
    return slots


@given(budget=st.integers(2, 70), num_steps=st.integers(1, 2000), more=st.integers(0, 500))
def test_the_multiples_of_the_distance_are_kept(budget: int, num_steps: int, more: int) -> None:
    max_steps = num_steps + more
    thinning = Thinning(budget)
    slots = replay(thinning, num_steps, max_steps)
    distance = thinning.distance(BACKEND, num_steps - 1, max_steps)
    kept = sorted(n for n in slots.values() if n % distance == 0)  # the others wait to be replaced
    assert kept == list(range(0, num_steps, distance))
    assert set(slots) <= set(range(thinning.num_slots(max_steps)))
    assert len(slots) <= budget
    assert [slots[thinning.slot(BACKEND, n, max_steps)] for n in kept] == kept  # found again by the rule alone


@pytest.mark.parametrize("budget", [2, 3, 4, 6, 10, 16])
def test_every_step_of_one_solve(budget: int) -> None:
    """What stands in the slots after each of 2000 steps, not only after the last."""
    thinning, max_steps = Thinning(budget), 2000
    slots: dict[int, int] = {}
    for n in range(max_steps):
        distance = thinning.distance(BACKEND, n, max_steps)
        if n % distance == 0:
            slots[thinning.slot(BACKEND, n, max_steps)] = n
        kept = {m for m in slots.values() if m % distance == 0}
        assert kept == set(range(0, n + 1, distance))


@given(budget=st.integers(2, 70), n=st.integers(0, 5000), max_steps=st.integers(1, 5000))
def test_the_distance_is_the_least_that_fits(budget: int, n: int, max_steps: int) -> None:
    n = min(n, max_steps - 1)
    thinning = Thinning(budget)
    slots = thinning.num_slots(max_steps)
    distance = thinning.distance(BACKEND, n, max_steps)
    assert distance & (distance - 1) == 0
    assert n // distance + 1 <= slots
    assert distance == 1 or n // (distance // 2) + 1 > slots
    assert distance <= 1 << thinning.doublings(max_steps)


@given(budget=st.integers(2, 5000), max_steps=st.integers(1, 5000))
def test_no_more_slots_than_steps_or_budget(budget: int, max_steps: int) -> None:
    slots = Thinning(budget).num_slots(max_steps)
    assert slots in (max_steps, budget, budget - 1)
    assert slots <= min(budget, max_steps)


def test_without_a_budget_everything_is_kept() -> None:
    thinning = Thinning(None)
    assert replay(thinning, 50, 64) == {n: n for n in range(50)}
    assert (thinning.num_slots(2**62), thinning.doublings(2**62)) == (2**62, 0)


@pytest.mark.parametrize("budget", [1, 0, -3, 2.0])
def test_what_is_no_budget_is_refused(budget: int) -> None:
    with pytest.raises(InputError, match=rf"checkpoints must be an integer >= 2; got {budget}\. Each takes the memory"):
        Thinning(budget)

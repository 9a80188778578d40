"""Divisions of a solve into checkpoints, stages and graphs: the formulas against schedules, the best against all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import janode.numpy as jo
from janode.core.dry import Footprint, Sizes, rehearse
from janode.core.grids import FixedGrid
from janode.core.methods import find_method
from janode.core.mixed import Mixed
from janode.core.mixtures import Kind, Mixture, best_mixture, held, most_checkpoints, taken_again
from janode.core.records import Carries, Graphs, StageInputs, WholeSteps
from janode.core.recovery import Kept
from janode.core.revolve import Revolve, make_schedule
from janode.core.sweep import Sweep

FOOTPRINT = Footprint(3000, 3000, 10000, False, True, 4000)
SIZES = Sizes((100,), (500,), ())


class Field:
    needs_time = False


def sweep(method="rk4", num_steps=8):
    return Sweep(None, find_method(method), Field(), FixedGrid((num_steps,)), [0.0, 1.0], ())


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("num_steps", [1, 2, 4, 7, 16, 25, 60, 100])
def test_as_many_steps_are_taken_again_as_the_schedule_says(num_steps, checkpoints):
    schedule = make_schedule(num_steps, checkpoints)
    assert taken_again(num_steps, checkpoints) == sum(len(entry.steps) for entry in schedule.again)


@pytest.mark.parametrize("checkpoints", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("num_steps", [3, 4, 8, 9, 10, 14, 17, 26, 40, 100])
def test_as_many_carries_are_held_as_a_rehearsal_holds(num_steps, checkpoints):
    kept = rehearse(sweep(), Kept(Carries()), FOOTPRINT, SIZES, (num_steps,)).peak - 100 * num_steps
    peak = rehearse(sweep(), Revolve(checkpoints), FOOTPRINT, SIZES, (num_steps,)).peak
    assert peak - kept == 100 * held(num_steps, checkpoints)


@pytest.mark.parametrize("overwrites", [False, True])
@pytest.mark.parametrize("num_steps", [5, 12, 40])
@pytest.mark.parametrize("room", [1, 2, 3, 4, 7, 11, 20, 39, 40])
def test_the_most_checkpoints_are_those_that_just_fit(num_steps, room, overwrites):
    fitting = [c for c in range(1, num_steps + 1) if held(num_steps, c, overwrites) <= room]
    most = most_checkpoints(num_steps, room, overwrites)
    assert taken_again(num_steps, most) == taken_again(num_steps, max(fitting)) if fitting else most == 0


def kinds(is_freed=False):
    stages, graphs = Kind(StageInputs(), 8, 4, 400, 13000), Kind(Graphs(), 4, 4, 2600, 8000, is_freed)
    return {"a stage at a time": Kind(Carries(), 11, 4, 100, 14000), "whole": Kind(WholeSteps(), 8, 4, 100, 24000)}, (
        stages,
        graphs,
    )


@pytest.mark.parametrize("is_freed", [False, True])
@pytest.mark.parametrize("first", ["a stage at a time", "whole"])
@pytest.mark.parametrize("num_steps", [1, 2, 5, 9, 13])
@pytest.mark.parametrize("budget", [14100, 14350, 14800, 16000, 19000, 24300, 26000, 31000, 40000])
def test_the_best_mixture_is_the_best_of_all(budget, num_steps, first, is_freed):
    choices, tails = kinds(is_freed)
    every = [
        Mixture(choices[first], *tails, num_steps - n_s - n_g, c, n_s, n_g)
        for n_s, n_g in itertools.product(range(num_steps + 1), repeat=2)
        if n_s + n_g <= num_steps
        for c in range(1, num_steps + 1)
    ]
    fitting = [mixture.demand.num_field_evals for mixture in every if mixture.demand.peak <= budget]
    best = best_mixture(num_steps, budget, choices[first], *tails)
    assert (None if best is None else best.demand.num_field_evals) == min(fitting, default=None)


@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5", "leapfrog", "ab3", "alf"])
def test_a_mixture_gives_the_gradient_of_its_parts(method):
    field = jo.Field(
        lambda t, y, k: -k * y * t,
        lambda t, y, k, f_bar: (-np.sum(k * y * f_bar), -k * t * f_bar, -np.sum(t * y * f_bar)),
    )
    arguments = field, np.array([1.0, 2.0]), [0.0, 0.5, 1.0], np.array(0.5)
    parts = ((8, Revolve(2)), (5, Kept(Carries())), (4, Kept(StageInputs())), (3, Kept(Graphs())))
    _, expected = jo.solve_vjp(*arguments, method=method, steps=10, adjoint="stages")
    solution, pullback = jo.solve_vjp(*arguments, method=method, steps=10, adjoint=Mixed(parts))
    ys_bar = np.random.default_rng(0).normal(size=solution.ys.shape)
    for _ in range(2):  # the second pass finds the records as the first one did
        found = pullback(ys_bar)
        assert np.array_equal(found.y0, expected(ys_bar).y0)
        assert np.array_equal(found.params, expected(ys_bar).params)
        assert np.array_equal(found.ts, expected(ys_bar).ts)


def test_a_mixture_says_what_it_is_made_of():
    choices, tails = kinds()
    mixture = Mixture(choices["a stage at a time"], *tails, 20, 3, 4, 2)
    assert str(mixture) == "3 checkpoints for 20 steps, a stage at a time; stages for 4; graphs for 2"
    assert str(Mixture(choices["whole"], *tails, 20, 20)) == "states for 20 steps"

"""Leapfrog's corrections say so where its parasite is strong."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import janode.numpy as jo
import janode.torch

CORRECTIONS = ["filter", "filter_descent", "consistent", "adjoint_average"]
FIELD = jo.Field(lambda t, y, u: u * y, lambda t, y, u, f_bar: (None, u * f_bar, np.sum(y * f_bar)))


def gradient(rate: float, correction: str) -> Any:
    """Of the last state of y' = u y with u = rate, over two units of time."""
    controls = np.full(41, rate)
    _, pullback = jo.solve_vjp(
        FIELD, np.ones(1), [0.0, 2.0], controls=controls, method="leapfrog", steps=40, correction=correction
    )
    return pullback(np.asarray([[0.0], [1.0]])).controls


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_a_dissipative_problem_is_warned_of_with_the_growth(correction: str) -> None:
    with pytest.warns(RuntimeWarning, match=r"leapfrog's sawtooth grows .*-fold .* the problem is dissipative"):
        gradient(-5.0, correction)


@pytest.mark.parametrize("correction", [*CORRECTIONS, "none"])
@pytest.mark.parametrize("rate", [-1.0, 1.0])
def test_no_warning_otherwise(correction: str, rate: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(gradient(rate, correction)).all()


def test_the_exact_gradient_is_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient(-5.0, "none")


def test_by_torch() -> None:
    controls = torch.full((41,), -5.0, dtype=torch.float64, requires_grad=True)
    solution = janode.torch.solve(
        lambda t, y, u: u * y,
        torch.ones(1, dtype=torch.float64),
        [0.0, 2.0],
        controls=controls,
        method="leapfrog",
        steps=40,
        correction="filter",
    )
    with pytest.warns(RuntimeWarning, match="the problem is dissipative"):
        solution.ys[-1].sum().backward()


def observed(rate: float, bars: list[float]) -> Any:
    """Of states at three times, by piece."""
    controls = np.full(121, rate)
    _, pullback = jo.solve_vjp(
        FIELD, np.ones(1), [0.0, 2.0, 4.0, 6.0], controls=controls, method="leapfrog", steps=40, correction="filter"
    )
    return pullback(np.asarray([[0.0], *([bar] for bar in bars)])).controls


@pytest.mark.parametrize("bars", [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [1e-3, 1.0, 1e3]])
def test_states_read_at_several_times(bars: list[float]) -> None:
    with pytest.warns(RuntimeWarning, match="from the end to the start of an interval between ts"):
        observed(-5.0, bars)


@pytest.mark.parametrize("bars", [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1e3, 1.0, 1e-3]])
def test_no_warning_where_one_time_weighs_more_than_another(bars: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(observed(0.0, bars)).all()

"""The bar over the time of a solve."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax
import janode.numpy
import janode.torch

STEPS = {"adaptive": {"rtol": 1e-6}, "fixed": {"steps": 30}}


def by_numpy(options: Any) -> None:
    janode.numpy.solve(lambda t, y: -y, np.ones(2), [0.0, 3.0], progress=True, **options)


def by_torch(options: Any) -> None:
    janode.torch.solve(lambda t, y: -y, torch.ones(2), [0.0, 3.0], progress=True, **options)


def by_jax(options: Any) -> None:
    janode.jax.solve(lambda t, y: -y, jnp.ones(2), [0.0, 3.0], progress=True, **options)
    jax.effects_barrier()


def by_jax_jit(options: Any) -> None:
    jax.jit(lambda y: janode.jax.solve(lambda t, y: -y, y, [0.0, 3.0], progress=True, **options).ys)(jnp.ones(2))
    jax.effects_barrier()


@pytest.mark.parametrize("options", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("run", [by_numpy, by_torch, by_jax, by_jax_jit])
def test_the_bar_reaches_the_end(run: Callable[[Any], None], options: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run(options)
    shown = capsys.readouterr().err
    assert "0/3 [" in shown
    assert "100%" in shown
    assert "3/3 [" in shown


def test_nothing_is_shown_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    janode.numpy.solve(lambda t, y: -y, np.ones(2), [0.0, 3.0], steps=3)
    assert capsys.readouterr().err == ""


def test_a_missing_tqdm_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(janode.numpy.InputError, match="progress=True must have tqdm"):
        by_numpy(STEPS["fixed"])

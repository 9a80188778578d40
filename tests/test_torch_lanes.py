"""Steps of its own for each sample of a PyTorch batch: every sample gets what it gets alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import janode.torch as jo

TS = {"two": [0.0, 3.0], "between": [0.0, 0.5, 0.6, 2.9, 3.0], "back": [3.0, 1.0, 0.0]}
OPTIONS = {"rtol": 1e-6, "atol": 1e-8}


def field(t: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Not the same at any two times, with t of shape () or (batch,)."""
    return torch.tanh(y @ w) * torch.cos(t)[..., None]


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([0.01, 1.0, 10.0, 0.0], dtype=torch.float64)[:, None]
    y0 = torch.randn(4, 3, dtype=torch.float64, generator=generator) * scales
    w = torch.randn(3, 3, dtype=torch.float64, generator=generator)
    return y0.requires_grad_(), w.requires_grad_()


def gradients(y0: Any, w: Any, ts: Any, bars: Any, **options: Any) -> tuple[Any, list[Any]]:
    times = torch.tensor(ts, dtype=torch.float64, requires_grad=True)
    solution = jo.solve(field, y0, times, w, **OPTIONS, **options)
    return solution, list(torch.autograd.grad((solution.ys * bars).sum(), [y0, times, w]))


@pytest.mark.parametrize("adjoint", ["symplectic", "aca", "stages", "restart"])
@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("ts", TS.values(), ids=TS)
def test_a_sample_gets_what_it_gets_alone(ts: list[float], save: str, adjoint: str) -> None:
    y0, w = problem()
    bars = torch.randn(len(ts), *y0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together, (y0_bar, ts_bar, w_bar) = gradients(y0, w, ts, bars, batch_axis=0, save=save, adjoint=adjoint)
    alone = [
        gradients(leaf, w, ts, bars[:, i : i + 1], save=save)
        for i, leaf in enumerate(y0.detach()[:, None].requires_grad_().unbind())
    ]
    counts = [(s.stats.num_accepted, s.stats.num_rejected) for s, _ in alone]
    stats = together.stats
    assert list(zip(stats.num_accepted.tolist(), stats.num_rejected.tolist(), strict=True)) == counts
    assert len(set(counts)) > 2
    torch.testing.assert_close(together.ys, torch.cat([s.ys for s, _ in alone], 1), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(y0_bar, torch.cat([bars[0] for _, bars in alone]), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(ts_bar, sum(bars[1] for _, bars in alone), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(w_bar, sum(bars[2] for _, bars in alone), rtol=1e-9, atol=1e-9)


def test_a_sample_that_fails_says_so_and_gets_no_gradient() -> None:
    y0 = torch.tensor([[1.0], [0.1]], dtype=torch.float64, requires_grad=True)
    solution = jo.solve(lambda t, y: y**2, y0, [0.0, 0.5, 2.0], batch_axis=0, on_failure="return")
    assert solution.status.tolist() == [4, 0]
    assert solution.ys[..., 0].isnan().tolist() == [[False, False], [False, False], [True, False]]
    solution.ys[-1].nan_to_num().sum().backward()
    assert y0.grad is not None
    torch.testing.assert_close(y0.grad, torch.tensor([[0.0], [1 / 0.8**2]], dtype=torch.float64), rtol=1e-5, atol=0.0)


def test_a_sample_that_fails_is_an_error() -> None:
    with pytest.raises(jo.StepSizeUnderflow, match=r"step size must stay above min_step .* got as far as t = 1\.0"):
        jo.solve(lambda t, y: y**2, torch.tensor([[0.1], [1.0]], dtype=torch.float64), [0.0, 2.0], batch_axis=0)


def test_counts_and_status_are_those_of_each_sample_also_where_all_are_alike() -> None:
    solution = jo.solve(lambda t, y: -y, torch.ones(3, 2, dtype=torch.float64), [0.0, 1.0], batch_axis=0)
    assert solution.status.tolist() == [0, 0, 0]
    assert solution.stats.num_rejected.tolist() == [0, 0, 0]
    assert len(set(solution.stats.num_accepted.tolist())) == 1


def test_the_dtype_of_a_state_is_kept() -> None:
    solution = jo.solve(lambda t, y: -y * t[:, None], torch.ones(3, 2), [0.0, 1.0], batch_axis=0)
    assert solution.ys.dtype == torch.float32
    torch.testing.assert_close(solution.ys[-1], torch.full((3, 2), 0.60653), rtol=1e-3, atol=0.0)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another axis": ({"batch_axis": 1}, "batch_axis must be 0 or None; got 1"),
    "backprop": ({"adjoint": "backprop"}, 'must not come with adjoint="backprop"'),
    "events": ({"event": lambda t, y: y}, "must not come with event"),
    "dense": ({"dense": True}, "must not come with dense=True"),
    "fixed steps": ({"steps": 3}, "must not come with steps or step_size"),
    "no pair": ({"method": "rk4"}, "must not come with|exactly one of steps and step_size"),
}


@pytest.mark.parametrize(("options", "text"), REFUSED.values(), ids=REFUSED)
def test_what_lanes_cannot_have_is_refused_by_name(options: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.solve(lambda t, y: -y, torch.ones(3, 2), [0.0, 1.0], **{"batch_axis": 0, **options})


def test_leaves_without_one_batch_are_refused() -> None:
    with pytest.raises(jo.InputError, match=r"same leading axis, at least 1; got \[\(2,\), \(3,\)\]"):
        jo.solve(lambda t, y: y, (torch.ones(3), torch.ones(2)), [0.0, 1.0], batch_axis=0)

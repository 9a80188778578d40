"""Gradients chosen for a memory budget: what is predicted is what is measured, and what is chosen fits."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax
import janode.numpy
import janode.torch
from janode.backends.torch_memory import LiveBytes
from janode.core.errors import InputError
from janode.core.layers import MLP

BUDGETS = [200_000_000, 40_000_000, 9_000_000, 2_200_000, 1_350_000]
"""Of what follows: everything fits, graphs for the end, states, fewer states, checkpoints."""


def network(sizes=(8, 128, 8), dtype=torch.float64):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(a, b, dtype=dtype) for a, b in itertools.pairwise(sizes)]
    inner = [part for layer in layers for part in (layer, torch.nn.Tanh())][:-1]
    return torch.nn.Sequential(*inner)


def state(batch=256, size=8):
    return torch.randn(batch, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


class Captured(torch.nn.Module):
    """A network as a field whose parameters are found."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, t, y):
        return self.net(y)


def module_gradient(net, y0, adjoint, method="rk4", steps=40, ts=(0.0, 1.0)):
    params, field = list(net.parameters()), Captured(net)
    janode.torch.solve(field, y0, ts, method=method, steps=steps, adjoint=adjoint)  # measures the field
    gc.collect()
    with LiveBytes([y0, *params]) as live:
        solution = janode.torch.solve(field, y0, ts, method=method, steps=steps, adjoint=adjoint)
        found = torch.autograd.grad(solution.ys.sum(), [y0, *params])
    return solution, found, live.peak


@pytest.mark.parametrize("ts", [(0.0, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0)], ids=["ends", "between"])
@pytest.mark.parametrize("method", ["rk4", "dopri5", "leapfrog", "reversible(heun2)"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_the_peak_is_predicted_within_15_percent_and_fits(budget, method, ts):
    steps = 40 // (len(ts) - 1)
    auto = janode.torch.Auto(memory_budget=budget)
    solution, _, peak = module_gradient(network(), state(), auto, method, steps, ts)
    plan = solution.plan
    assert plan.predicted_peak <= budget
    assert plan.predicted_peak == pytest.approx(peak, rel=0.15)
    assert plan.num_field_evals == plan.predicted_field_evals
    assert plan.num_vjps == (plan.predicted_vjps if plan.recovery else 0)


@pytest.mark.parametrize("budget", BUDGETS)
def test_every_choice_gives_the_exact_gradient(budget):
    _, found, _ = module_gradient(network(), state(), janode.torch.Auto(memory_budget=budget))
    _, expected, _ = module_gradient(network(), state(), "stages")
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-13 * float(b.abs().max()))


def test_less_memory_takes_more_evaluations_and_another_choice():
    plans = [module_gradient(network(), state(), janode.torch.Auto(memory_budget=b))[0].plan for b in BUDGETS]
    assert len({plan.adjoint for plan in plans}) == len(BUDGETS)
    evaluations = [plan.predicted_field_evals for plan in plans]
    assert evaluations == sorted(evaluations)


def test_kept_graphs_can_be_pulled_twice():
    net, y0 = network(), state()
    solution = janode.torch.solve(
        Captured(net), y0, [0.0, 1.0], method="rk4", steps=40, adjoint=janode.torch.Auto(memory_budget=BUDGETS[1])
    )
    assert "graphs" in solution.plan.adjoint
    loss = solution.ys[-1].sum()
    first = torch.autograd.grad(loss, [y0, *net.parameters()], retain_graph=True)
    second = torch.autograd.grad(loss, [y0, *net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("given", [None, 0.25], ids=["default", "share"])
def test_much_memory_leaves_it_to_the_framework(given):
    solution, _, _ = module_gradient(network(), state(), janode.torch.Auto(memory_budget=given))
    assert solution.plan.adjoint == '"backprop"'
    assert solution.plan.recovery is None


def test_auto_is_the_default_and_without_a_gradient_nothing_is_planned():
    y0 = torch.ones(2)
    assert janode.torch.solve(lambda t, y: -y, y0, [0.0, 1.0]).plan is None
    y0.requires_grad_()
    assert janode.torch.solve(lambda t, y: -y, y0, [0.0, 1.0]).plan is not None
    assert janode.torch.solve(lambda t, y: -y, y0, [0.0, 1.0], adjoint="symplectic").plan is None


def test_a_field_is_measured_once():
    calls = []

    def field(t, y, k):
        calls.append(t)
        return -k * y

    def counted(size):
        before = len(calls)
        y0 = torch.ones(size, dtype=torch.float64, requires_grad=True)
        solution = janode.torch.solve(field, y0, [0.0, 1.0], torch.tensor(0.5), method="rk4", steps=5)
        solution.ys[-1].sum().backward()
        return len(calls) - before - solution.stats.num_field_evals

    assert [counted(3), counted(3), counted(4), counted(3)] == [2, 0, 2, 0]


def test_a_measurement_leaves_no_trace():
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
    y0 = torch.randn(8, 4, requires_grad=True)
    before = y0.detach().clone()
    expected = torch.random.get_rng_state()
    statistics = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with pytest.raises(InputError, match="memory_budget must be at least"):
        janode.torch.solve(
            lambda t, y: net(y), y0, [0.0, 1.0], method="euler", steps=5, adjoint=janode.torch.Auto(memory_budget=1)
        )
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in net.named_buffers())
    assert torch.equal(y0, before)


@pytest.mark.parametrize("budget", [50_000_000, 3_000_000, 1_500_000])
def test_numpy_peaks_are_predicted_within_15_percent(budget):
    net = MLP((16, 128, 16), "tanh")
    rng = np.random.default_rng(0)
    params, y0 = net.init(rng, np, np.float64), rng.normal(size=(128, 16))
    auto = janode.numpy.Auto(memory_budget=budget)
    arguments = net, y0, [0.0, 1.0], params
    janode.numpy.solve_vjp(*arguments, method="rk4", steps=40, adjoint=auto)
    tracemalloc.start()
    solution, pullback = janode.numpy.solve_vjp(*arguments, method="rk4", steps=40, adjoint=auto)
    ys_bar = np.ones_like(solution.ys)
    found = pullback(ys_bar)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    plan = solution.plan
    assert plan.predicted_peak == pytest.approx(peak, rel=0.15)
    assert (plan.num_field_evals, plan.num_vjps) == (plan.predicted_field_evals, plan.predicted_vjps)
    expected = janode.numpy.solve_vjp(*arguments, method="rk4", steps=40, adjoint="stages")[1](ys_bar)
    assert np.array_equal(found.y0, expected.y0)


@pytest.mark.parametrize("budget", [10_000_000, 3_500_000, 1_700_000])
def test_jax_peaks_are_predicted_within_15_percent(budget):
    rng = np.random.default_rng(0)
    params = [jnp.asarray(0.3 * rng.normal(size=shape)) for shape in ((8, 64), (64, 8))]
    y0 = jnp.asarray(rng.normal(size=(64, 8)))
    plans = []

    def loss(y0, params, adjoint):
        def field(t, y, params):
            return jnp.tanh(y @ params[0]) @ params[1]

        solution = janode.jax.solve(field, y0, [0.0, 1.0], params, method="rk4", steps=200, adjoint=adjoint)
        plans.append(solution.plan)
        return solution.ys[-1].sum()

    def program(adjoint):
        return (
            jax.jit(jax.grad(lambda y0, params: loss(y0, params, adjoint), argnums=(0, 1))).lower(y0, params).compile()
        )

    found = program(janode.jax.Auto(memory_budget=budget))
    memory = found.memory_analysis()
    assert plans[-1].predicted_peak <= budget
    assert plans[-1].predicted_peak == pytest.approx(memory.temp_size_in_bytes + memory.output_size_in_bytes, rel=0.15)
    expected = program("symplectic")(y0, params)
    got = found(y0, params)
    assert all(
        jnp.allclose(a, b, rtol=1e-12) for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    )


@pytest.mark.parametrize("budget", [60_000, 100_000, 1_000_000])
def test_adaptive_steps_keep_as_many_states_as_fit(budget):
    y0 = torch.ones(100, dtype=torch.float64, requires_grad=True)

    def field(t, y):
        return torch.cos(5 * t) * y

    options = {"rtol": 1e-8, "atol": 1e-8}
    janode.torch.solve(field, y0, [0.0, 10.0], adjoint=janode.torch.Auto(memory_budget=budget), **options)
    with LiveBytes([y0]) as live:
        solution = janode.torch.solve(
            field, y0, [0.0, 10.0], adjoint=janode.torch.Auto(memory_budget=budget), **options
        )
        (found,) = torch.autograd.grad(solution.ys[-1].sum(), [y0])
    assert "states" in solution.plan.adjoint
    assert solution.plan.predicted_peak <= budget
    assert live.peak <= 1.15 * solution.plan.predicted_peak
    expected = janode.torch.solve(field, y0, [0.0, 10.0], adjoint="symplectic", **options)
    assert torch.allclose(found, torch.autograd.grad(expected.ys[-1].sum(), [y0])[0], rtol=1e-12)


@pytest.mark.parametrize("budget", [0, -1, 1.5, 0.0, float("nan"), True, "1 GB"])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(InputError, match=r"Auto: memory_budget must be an integer >= 1, bytes, or a share in \(0, 1\]"):
        janode.torch.Auto(memory_budget=budget)


def test_a_budget_too_small_names_the_least():
    with pytest.raises(InputError, match=r"must be at least (\d+) bytes, which adjoint 1 checkpoint") as error:
        module_gradient(network(), state(), janode.torch.Auto(memory_budget=1000))
    least = int(str(error.value).split("at least ")[1].split()[0])
    solution, _, peak = module_gradient(network(), state(), janode.torch.Auto(memory_budget=least))
    assert solution.plan.predicted_peak == least
    assert peak == pytest.approx(least, rel=0.15)


def test_batches_of_solves_have_no_budget():
    y0 = torch.ones(3, 2, requires_grad=True)
    with pytest.raises(InputError, match="memory_budget must have a solve that can be measured"):
        janode.torch.solve(
            lambda t, y: -y, y0, [0.0, 1.0], batch_axis=0, adjoint=janode.torch.Auto(memory_budget=10**6)
        )
    assert janode.torch.solve(lambda t, y: -y, y0, [0.0, 1.0], batch_axis=0).plan is None


def test_an_explanation_shows_all_and_takes_no_step(capsys):
    calls = []

    def field(t, y):
        calls.append(t)
        return -y

    y0 = torch.ones(2, requires_grad=True)
    plan = janode.torch.explain(field, y0, [0.0, 1.0], method="reversible(rk4)", steps=50, memory_budget=2000)
    assert len(calls) == 2
    printed = capsys.readouterr().out
    assert printed == f"{plan}\n"
    for name in ('"backprop"', '"aca"', '"stages"', '"symplectic"', '"reversible"', "1 checkpoint for 50 steps"):
        assert name in printed
    assert printed.splitlines()[0] == "memory budget 2 kB"
    chosen = [line for line in printed.splitlines() if line.startswith("->")]
    assert len(chosen) == 1
    assert plan.adjoint in chosen[0]
    solution = janode.torch.solve(
        field, y0, [0.0, 1.0], method="reversible(rk4)", steps=50, adjoint=janode.torch.Auto(memory_budget=2000)
    )
    assert solution.plan.adjoint == plan.adjoint


def test_an_explanation_needs_a_gradient_and_no_adjoint():
    with pytest.raises(InputError, match="explain: the problem must want a gradient"):
        janode.torch.explain(lambda t, y: -y, torch.ones(2), [0.0, 1.0])
    with pytest.raises(InputError, match="explain: adjoint must not be given"):
        janode.torch.explain(lambda t, y: -y, torch.ones(2), [0.0, 1.0], adjoint="aca")


def test_without_a_reading_of_free_memory_a_share_is_refused(monkeypatch):
    from janode.backends import torch as backend

    monkeypatch.setattr(backend.TorchBackend, "free_memory", lambda self, like: None)
    with pytest.raises(InputError, match="memory_budget must be in bytes where the free memory of the device cannot"):
        module_gradient(network(), state(), janode.torch.Auto(memory_budget=0.5))


def test_parameters_in_half_precision_are_summed_in_single():
    k = torch.tensor(1.0, dtype=torch.bfloat16, requires_grad=True)
    y0 = torch.zeros(1, dtype=torch.bfloat16)
    solution = janode.torch.solve(lambda t, y: k.expand(1), y0, [0.0, 1.0], method="euler", steps=1000)
    solution.ys[-1].sum().backward()
    assert solution.plan.recovery is not None
    assert float(k.grad) == pytest.approx(1.0, rel=0.01)


def test_steps_that_cannot_go_back_are_not_chosen():
    controls = np.ones((20, 3))
    field = janode.numpy.Field(lambda t, y, u: u * y, lambda t, y, u, f_bar: (None, u * f_bar, y * f_bar))
    solution, _ = janode.numpy.solve_vjp(
        field, np.ones(3), [0.0, 1.0], controls=controls, sampling="steps", method="reversible_heun", steps=20
    )
    assert '"reversible"' not in str(solution.plan)
    with_nodes = np.ones((21, 3))
    solution, _ = janode.numpy.solve_vjp(
        field, np.ones(3), [0.0, 1.0], controls=with_nodes, method="reversible_heun", steps=20
    )
    assert '"reversible"' in str(solution.plan)


def test_a_field_without_a_derivative_is_solved_without_a_plan():
    def field(t, y):
        return jax.pure_callback(lambda y: -np.asarray(y), jax.ShapeDtypeStruct(y.shape, y.dtype), y)

    solution = janode.jax.solve(field, jnp.ones(2), [0.0, 1.0], method="rk4", steps=5)
    assert solution.plan is None
    assert jnp.allclose(solution.ys[-1], jnp.exp(-1.0), rtol=1e-4)


def test_fields_of_the_same_code_are_told_apart_by_what_they_capture():
    def field_of(net):
        return lambda t, y: net(y)

    def predicted(net):
        y0 = torch.ones(4, 8, dtype=torch.float64, requires_grad=True)
        return janode.torch.solve(field_of(net), y0, [0.0, 1.0], method="rk4", steps=20).plan.predicted_peak

    small, large = network((8, 8)), network((8, 512, 8))
    first, second = predicted(small), predicted(large)
    assert second > 5 * first
    assert (predicted(small), predicted(large)) == (first, second)


def test_a_budget_nobody_asked_for_is_exceeded_rather_than_refused(monkeypatch):
    from janode.backends import torch as backend

    monkeypatch.setattr(backend.TorchBackend, "free_memory", lambda self, like: 1000)
    solution, _, _ = module_gradient(network(), state(), "auto")
    assert solution.plan.predicted_peak > solution.plan.memory_budget
    assert solution.plan.adjoint.startswith("1 checkpoint")

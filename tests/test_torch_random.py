"""Fields of janode.torch that draw random numbers: one function for all evaluations of a solve."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import janode.torch as jo
from tests.torch_oracle import EXACT, F64, RECOMPUTING, assert_equal_gradients, gradients, one_thread, reference, vector

__all__ = ["one_thread"]

TIMES = [0.0, 0.5, 1.0]
FIXED = {"method": "rk4", "steps": 2}
GRIDS = pytest.mark.parametrize(
    "options", [FIXED, {"rtol": 1e-3, "atol": 1e-3}, {"rtol": 1e-3, "atol": 1e-3, "method": "bosh3", "save": "clip"}]
)
ADJOINTS = pytest.mark.parametrize("adjoint", [*EXACT, "revolve", "auto"])
Field = Callable[..., torch.Tensor]


class Dropping(torch.nn.Module):
    """A network with dropout, which notes what its hidden layer was multiplied with in every evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = torch.nn.Linear(2, 6, dtype=F64), torch.nn.Linear(6, 2, dtype=F64)
        self.dropout = torch.nn.Dropout(0.4)
        self.masks: list[torch.Tensor] = []

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        hidden = 2.0 + torch.tanh(self.first(y))
        dropped = self.dropout(hidden)
        self.masks.append((dropped / hidden).detach())
        return self.last(dropped) * torch.cos(t).reshape(-1, 1)


class Noisy(torch.nn.Module):
    """A field with noise from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(0.7, dtype=F64))
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -self.rate * y * torch.rand(2, generator=self.generator, dtype=F64)


class Late(torch.nn.Module):
    """Draws in the second half of the solve alone, or in the first half alone."""

    def __init__(self, begins: bool) -> None:
        super().__init__()
        self.rate, self.begins = torch.nn.Parameter(torch.tensor(0.7, dtype=F64)), begins

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return -self.rate * y * (torch.rand(2, dtype=F64) if (t > 0.5) == self.begins else 1.0)


FIELDS: dict[str, Callable[[], torch.nn.Module]] = {
    "dropout": Dropping,
    "own generator": Noisy,
    "draws later": lambda: Late(True),
    "draws first": lambda: Late(False),
}
RANDOM = pytest.mark.parametrize("make", FIELDS.values(), ids=FIELDS)


def batch() -> torch.Tensor:
    return torch.randn(4, 2, dtype=F64, generator=torch.Generator().manual_seed(3)).requires_grad_()


def solved(make: Callable[[], Any], adjoint: Any, seed: int = 1, **options: Any) -> tuple[torch.Tensor, list[Any]]:
    """The states, and all gradients."""
    torch.manual_seed(0)
    field, y0 = make(), batch()
    torch.manual_seed(seed)
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **options).ys
    return ys.detach(), list(gradients(ys, (y0, *field.parameters())))


def held(field: Any, state: torch.Tensor) -> Field:
    """The field with all evaluations drawing from one state of its generator."""
    generator = getattr(field, "generator", torch.default_generator)

    def evaluate(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        generator.set_state(state)
        return field(t, y)

    return evaluate


@RANDOM
@ADJOINTS
def test_states_and_gradients_are_those_of_autograd_with_the_same_numbers_in_all_evaluations(
    adjoint: str, make: Callable[[], Any]
) -> None:
    ys, got = solved(make, adjoint, **FIXED)
    torch.manual_seed(0)
    field, y0 = make(), batch()
    torch.manual_seed(1)
    if isinstance(field, Late) and field.begins:
        # What draws later is found when the solve has ended, after seven evaluations that drew, and it begins anew.
        torch.rand(2 * 7, dtype=F64)
    state = getattr(field, "generator", torch.default_generator).get_state()
    expected = reference(held(field, state), y0, TIMES, counts=(2, 2))
    torch.testing.assert_close(ys, expected, rtol=1e-13, atol=1e-14)
    assert_equal_gradients(got, gradients(expected, (y0, *field.parameters())), rtol=1e-12)


@RANDOM
@GRIDS
@ADJOINTS
def test_all_adjoints_agree(adjoint: str, options: dict[str, Any], make: Callable[[], Any]) -> None:
    ys, got = solved(make, adjoint, **options)
    expected_ys, expected = solved(make, "backprop", **options)
    torch.testing.assert_close(ys, expected_ys, rtol=0.0, atol=0.0)
    assert_equal_gradients(got, expected, rtol=1e-12)


@pytest.mark.parametrize("adjoint", [*EXACT, "revolve"])
def test_one_mask_for_all_evaluations_of_a_solve(adjoint: str) -> None:
    field, y0 = Dropping(), batch()
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys
    num_forward = len(field.masks)
    ys.sum().backward()
    assert num_forward == 16
    assert (len(field.masks) > num_forward) is (adjoint != "backprop")
    assert float(field.masks[0].min()) == 0.0
    for mask in field.masks:
        torch.testing.assert_close(mask, field.masks[0])


@ADJOINTS
def test_a_solve_draws_as_much_as_one_evaluation(adjoint: str) -> None:
    field, y0 = Dropping(), batch()
    torch.manual_seed(1)
    jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys.sum().backward()
    found = torch.rand(())
    torch.manual_seed(1)
    field(torch.zeros((), dtype=F64), y0)
    assert torch.equal(found, torch.rand(()))


@RANDOM
@pytest.mark.parametrize("adjoint", ["symplectic", "backprop"])
def test_the_next_solve_draws_anew(adjoint: str, make: Callable[[], Any]) -> None:
    field, y0 = make(), batch()
    first, second = (jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys for _ in range(2))
    assert float((first - second).detach().abs().max()) > 1e-3


def test_the_seed_decides() -> None:
    found = [solved(Dropping, "symplectic", seed, **FIXED) for seed in (1, 1, 2)]
    assert torch.equal(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], found[2][0])


@RANDOM
@pytest.mark.parametrize("options", [FIXED, {"rtol": 1e-3, "atol": 1e-3}])
def test_the_solution_does_not_depend_on_whether_a_gradient_is_wanted(
    options: dict[str, Any], make: Callable[[], Any]
) -> None:
    expected, _ = solved(make, "symplectic", **options)
    torch.manual_seed(0)
    field = make()
    torch.manual_seed(1)
    with torch.no_grad():
        found = jo.solve(field, batch(), TIMES, **options).ys
    assert torch.equal(found, expected)


@RANDOM
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_finite_differences_with_the_seed_held(adjoint: str, make: Callable[[], Any]) -> None:
    _, (y0_bar, *_) = solved(make, adjoint, **FIXED)
    direction, eps = torch.linspace(-1.0, 1.0, 8, dtype=F64).reshape(4, 2), 1e-6
    torch.manual_seed(0)
    field = make()
    state = getattr(field, "generator", torch.default_generator).get_state()
    values = []
    for sign in (1.0, -1.0):
        torch.manual_seed(1)
        if hasattr(field, "generator"):
            field.generator.set_state(state)
        with torch.no_grad():
            ys = jo.solve(field, batch() + sign * eps * direction, TIMES, **FIXED).ys
        weights = torch.linspace(0.3, 1.1, ys.numel(), dtype=F64).reshape(ys.shape)
        values.append((weights * (ys**2 + ys)).sum())
    slope = (values[0] - values[1]) / (2.0 * eps)
    torch.testing.assert_close((y0_bar * direction).sum(), slope, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("method", "adjoint", "rtol"),
    [("reversible(rk4)", "reversible", 1e-11), ("alf", "reversible", 1e-11), ("rk4", "reconstruct", 1e-3)],
)
def test_steps_back_draw_the_same_numbers(method: str, adjoint: str, rtol: float) -> None:
    options = {"method": method, "steps": 20}
    _, got = solved(Dropping, adjoint, **options)
    _, expected = solved(Dropping, "stages", **options)
    assert_equal_gradients(got, expected, rtol=rtol)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_steps_of_its_own_for_each_sample(adjoint: str) -> None:
    ys, got = solved(Dropping, adjoint, rtol=1e-3, atol=1e-3, batch_axis=0)
    expected_ys, expected = solved(Dropping, "symplectic", rtol=1e-3, atol=1e-3, batch_axis=0)
    assert torch.equal(ys, expected_ys)
    assert_equal_gradients(got, expected, rtol=1e-12)


@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_random_numbers_that_others_draw_during_the_solve_do_no_harm(adjoint: str) -> None:
    def controller() -> Any:
        return jo.PIController(norm=lambda leaf: (leaf.abs() + 0.0 * torch.rand((), dtype=F64)).max())

    def run(**options: Any) -> tuple[torch.Tensor, ...]:
        y0, w = batch(), vector(0.3)
        ys = jo.solve(lambda t, y: -w * y, y0, TIMES, adjoint=adjoint, **options).ys
        return ys, *gradients(ys, (y0, w))  # type: ignore[return-value]

    for got, expected in zip(
        run(controller=controller()), run(controller=jo.PIController(norm=lambda leaf: leaf.abs().max())), strict=True
    ):
        assert torch.equal(got, expected)


@RANDOM
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_a_failing_backward_pass_leaves_the_stream_alone(adjoint: str, make: Callable[[], Any]) -> None:
    field, y0 = make(), batch()
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys
    state = torch.get_rng_state()
    field.forward = lambda t, y: (torch.rand(3), 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ys.sum().backward()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("adjoint", RECOMPUTING)
def test_random_numbers_in_one_pass_alone_are_refused(adjoint: str, which: str) -> None:
    field, y0 = Dropping().train(which == "forward"), batch()
    ys = jo.solve(field, y0, TIMES, adjoint=adjoint, **FIXED).ys
    field.train(which == "backward")
    with pytest.raises(jo.InputError, match=f"must draw random numbers in both passes .* in the {which} pass alone"):
        ys.sum().backward()
    assert y0.grad is None

"""What janode.torch refuses, in which words, and that it does so before the field is evaluated."""

import math
from typing import Any

import numpy as np
import pytest
import torch

import janode.torch as jo
from tests.torch_oracle import EXACT, F64, one_thread, vector

__all__ = ["one_thread"]

Y0 = torch.ones(2, dtype=F64)


class Counted:
    """dy/dt = -y, with a count of evaluations."""

    def __init__(self) -> None:
        self.num_evals = 0

    def __call__(self, t: torch.Tensor, y: torch.Tensor, *rest: Any) -> torch.Tensor:
        self.num_evals += 1
        return -y


REFUSED = {
    "y0 is a list of numbers": ({"y0": [1.0]}, r"y0\[0\] must be a torch.Tensor; got float. Convert it with"),
    "y0 of another library": ({"y0": np.ones(2)}, r"y0 must be a torch.Tensor; got ndarray"),
    "y0 in part of another library": ({"y0": {"u": Y0, "v": np.ones(2)}}, r"y0\['v'\] must be a torch.Tensor; got nda"),
    "y0 is None": ({"y0": None}, "y0 must have at least one array; got none"),
    "y0 of integers": (
        {"y0": torch.ones(2, dtype=torch.int64)},
        "y0 must be a real or complex .* got dtype torch.int64",
    ),
    "y0 of booleans": ({"y0": (Y0, torch.ones(2) > 0)}, r"y0\[1\] must be a real or complex .* got dtype torch.bool"),
    "y0 not finite": ({"y0": Y0 / 0}, "y0 must be finite; got an infinite or NaN entry"),
    "y0 on two devices": (
        {"y0": (Y0, Y0.to("meta"))},
        r"all arrays must be on one device; got y0\[0\]: cpu, y0\[1\]: meta",
    ),
    "params on another device": ({"params": [Y0.to("meta")]}, r"on one device; got y0: cpu, params\[0\]: meta"),
    "params is a number": ({"params": {"rate": 0.5}}, r"params\['rate'\] must be a torch.Tensor; got float"),
    "params is a module": ({"params": torch.nn.Linear(2, 2)}, "params must be a torch.Tensor; got Linear"),
    "field is no function": ({"field": "net"}, r"field must be callable as field\(t, y\) .* got str"),
    "one time": ({"ts": [0.0]}, "ts must have at least 2 entries; got 1"),
    "a time as a number": ({"ts": 1.0}, "ts must be a sequence of real numbers; got 1.0"),
    "times as a 0-d tensor": ({"ts": torch.tensor(1.0)}, "ts must be a sequence of real numbers; got 1.0"),
    "times in two dimensions": ({"ts": torch.ones(2, 2)}, "ts must be a sequence of real numbers; got"),
    "complex times": ({"ts": torch.tensor([0j, 1j])}, "ts must be a sequence of real numbers; got"),
    "times as words": ({"ts": ["now", "then"]}, "ts must be a sequence of real numbers; got"),
    "times not finite": ({"ts": torch.tensor([0.0, float("inf")])}, r"ts must be finite; got ts\[1\] = inf"),
    "a repeated time": ({"ts": [0.0, 1.0, 1.0]}, r"ts must be strictly .* got ts\[1\] = 1.0, ts\[2\] = 1.0"),
    "times back and forth": ({"ts": torch.tensor([0.0, 1.0, 0.5])}, r"ts must be strictly .* ts\[2\] = 0.5"),
    "times that require gradient one by one": (
        {"ts": [torch.tensor(0.0), torch.tensor(1.0, requires_grad=True)]},
        "ts must be one tensor to get a gradient; got a sequence .* Stack them with torch.stack",
    ),
    "neither steps nor step_size": (
        {"steps": None, "method": "rk4"},
        "exactly one of steps and step_size must be given; got neither",
    ),
    "both steps and step_size": ({"step_size": 0.1}, "exactly one of steps and step_size must be given; got both"),
    "no steps": ({"steps": 0}, "steps must be an integer >= 1; got 0"),
    "half a step": ({"steps": 1.5}, "steps must be an integer >= 1; got 1.5"),
    "a negative step": ({"steps": None, "step_size": -0.1}, "step_size must be a positive finite number; got -0.1"),
    "an unknown method": ({"method": "dopri55"}, "method must be one of: dopri5, .* got 'dopri55'"),
    "a method that is none": ({"method": 5}, "method must be one of: .* got 5"),
    "an unknown adjoint": ({"adjoint": "symplectik"}, "adjoint must be one of: symplectic, .* got 'symplectik'"),
    "an unknown way to fail": ({"on_failure": "warn"}, 'on_failure must be "raise" or "return"; got \'warn\''),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused_before_the_field_is_evaluated(case: str) -> None:
    changes, text = REFUSED[case]
    field = Counted()
    arguments = {"field": field, "y0": Y0, "ts": [0.0, 1.0], "steps": 1, **changes}
    with pytest.raises(jo.InputError, match=f"^solve: .*{text}"):
        jo.solve(**arguments)
    assert field.num_evals == 0


BAD_SLOPES = {
    "another structure": (lambda t, y: (y,), "the field must return the pytree of the state"),
    "another shape": (lambda t, y: y[:1], r"the field must return shape \(2,\) .* for y0; got shape \(1,\)"),
    "another dtype": (lambda t, y: y.float(), "the field must return .*torch.float64 for y0; got .*torch.float32"),
    "another device": (lambda t, y: y.to("meta"), "the field must return y0 on cpu; got meta"),
    "another library": (lambda t, y: np.ones(2), "the field must return .* for y0; got"),
    "a number": (lambda t, y: 1.0, "the field must return .* got"),
    "nothing": (lambda t, y: None, "the field must return the pytree of the state"),
}


@pytest.mark.parametrize("case", BAD_SLOPES)
@pytest.mark.parametrize("adjoint", EXACT)
@pytest.mark.parametrize("requires_grad", [False, True], ids=["constant", "wanted"])
def test_bad_fields_are_refused_by_their_first_value(adjoint: str, case: str, requires_grad: bool) -> None:
    slope, text = BAD_SLOPES[case]
    calls = []

    def field(t: torch.Tensor, y: torch.Tensor) -> Any:
        calls.append(t)
        return slope(t, y)

    with pytest.raises(jo.InputError, match=f"^solve: {text}"):
        jo.solve(field, Y0.clone().requires_grad_(requires_grad), [0.0, 1.0], steps=5, adjoint=adjoint)
    assert len(calls) == 1


@pytest.mark.parametrize("adjoint", EXACT)
def test_a_failed_solve_tells_when_and_from_where(adjoint: str) -> None:
    y0 = {"u": vector(1.0, 1.0)}

    def field(t: torch.Tensor, y: Any) -> Any:
        return {"u": torch.where(t > 0.9, torch.inf, -1.0) * y["u"]}

    with pytest.raises(
        jo.NonFiniteState, match=r"finite; .* between t = 0\.5 and t = 1\.0, after step 2 of 6"
    ) as caught:
        jo.solve(field, y0, [0.0, 0.5, 1.0, 1.5], method="rk4", steps=2, adjoint=adjoint)
    error = caught.value
    assert isinstance(error, jo.SolveError)
    assert (error.time, error.step, error.counts.num_field_evals) == (0.5, 2, 24)
    (last_good,) = error.last_good.values()
    assert last_good.detach().tolist() == pytest.approx([math.exp(-0.5)] * 2, rel=1e-3)


@pytest.mark.parametrize("adjoint", EXACT)
def test_a_failed_solve_is_returned_if_asked_for(adjoint: str) -> None:
    solution = jo.solve(lambda t, y: y / 0, vector(1.0), [0.0, 1.0], steps=1, adjoint=adjoint, on_failure="return")
    assert (solution.status, solution.message) == (1, "the state became infinite or not a number")
    assert not bool(torch.isfinite(solution.ys[-1]).all())


@pytest.mark.parametrize(
    "ts",
    [
        [0, 1],
        (0.0, 1.0),
        np.array([0.0, 1.0]),
        torch.tensor([0, 1]),
        torch.tensor([0.0, 1.0]),
        [torch.tensor(0.0), torch.tensor(1.0)],
    ],
    ids=["integers", "tuple", "numpy", "integer-tensor", "tensor", "tensors"],
)
def test_times_of_every_kind_are_the_same(ts: Any) -> None:
    solution = jo.solve(Counted(), Y0, ts, steps=1)
    assert torch.equal(solution.ys, jo.solve(Counted(), Y0, [0.0, 1.0], steps=1).ys)
    assert solution.ts is ts

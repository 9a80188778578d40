"""A solve that fails says when, after how much work, and from which good state; errors have one root."""

from typing import Any

import numpy as np
import pytest

import janode.array as jo
from janode.core.errors import BackendError, TableauError

from .problems import TS, Y0

SOLVES = {"solve": jo.solve, "solve_vjp": jo.solve_vjp}


def blow_up(where: str, y0: Any, **options: Any) -> Any:
    """y' = y^2 from 1 on leaves every bound at t = 1."""
    field = jo.Field(
        lambda t, y: {"u": y["u"] ** 2, "v": 0.0 * y["v"]},
        lambda t, y, f_bar: (None, {"u": 2.0 * y["u"] * f_bar["u"], "v": None}),
    )
    with np.errstate(all="ignore"):
        return SOLVES[where](field, y0, [0.0, 0.5, 4.0, 5.0], method="rk4", steps=10, **options)


@pytest.mark.parametrize("where", SOLVES)
def test_a_blow_up_is_raised_with_what_is_known(where: str) -> None:
    y0 = {"u": np.array([1.0, 0.5]), "v": np.array(3.0)}
    with pytest.raises(jo.NonFiniteState) as caught:
        blow_up(where, y0)
    error = caught.value
    assert isinstance(error, jo.SolveError)
    assert isinstance(error, RuntimeError)
    assert (error.time, error.step) == (0.5, 10)
    assert error.counts == jo.Stats(num_steps=30, num_accepted=30, num_field_evals=120)
    assert str(error) == (
        f"{where}: the state must stay finite; it became infinite or NaN between t = 0.5 and t = 4.0, after step 10 of "
        f"30; {error.counts}. Take smaller steps, or check the field there; "
        'on_failure="return" gives the solution as far as it went.'
    )
    np.testing.assert_allclose(error.last_good["u"], [2.0, 2.0 / 3.0], rtol=1e-4)
    assert error.last_good["v"] == 3.0


def test_a_blow_up_is_returned_if_asked_for() -> None:
    solution = blow_up("solve", {"u": np.array([1.0]), "v": np.array(3.0)}, on_failure="return")
    assert (solution.status, solution.message) == (1, "the state became infinite or not a number")
    np.testing.assert_allclose(solution.ys["u"][:2, 0], [1.0, 2.0], rtol=1e-4)
    assert not np.isfinite(solution.ys["u"][2:]).any()
    np.testing.assert_array_equal(solution.ys["v"], [3.0] * 4)


def test_a_blow_up_in_the_first_interval_leaves_the_start() -> None:
    with pytest.raises(jo.NonFiniteState) as caught:
        blow_up("solve", {"u": np.array([1e200]), "v": np.array(3.0)})
    assert (caught.value.time, caught.value.step) == (0.0, 0)
    np.testing.assert_array_equal(caught.value.last_good["u"], [1e200])


def test_the_gradient_of_a_failed_solve_is_not_finite() -> None:
    y0 = {"u": np.array([1.0]), "v": np.array(3.0)}
    solution, pullback = blow_up("solve_vjp", y0, on_failure="return")
    assert solution.status == 1
    with np.errstate(all="ignore"):
        gradients = pullback({"u": np.ones((4, 1)), "v": None})
    assert not np.isfinite(gradients.y0["u"]).any()


def test_a_success_says_so() -> None:
    solution = jo.solve(lambda t, y: y, Y0, TS, steps=1)
    assert (solution.status, solution.message) == (0, "success")


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (jo.InputError, ValueError),
        (jo.SolveError, RuntimeError),
        (jo.NonFiniteState, RuntimeError),
        (BackendError, TypeError),
        (TableauError, ValueError),
    ],
)
def test_every_error_is_janodes_and_a_builtin(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, jo.JanodeError)
    assert issubclass(error, builtin)


def test_statistics_name_what_was_counted() -> None:
    assert repr(jo.Stats(3, 2, 1, 12, 4)) == (
        "Stats(num_steps=3, num_accepted=2, num_rejected=1, num_field_evals=12, num_vjps=4)"
    )
    assert "num_vjps=0, reconstruction_error=0.5)" in repr(jo.Stats(reconstruction_error=0.5))


def test_errors_of_the_field_pass_through() -> None:
    def field(t: Any, y: Any) -> Any:
        raise ZeroDivisionError("in the field")

    with pytest.raises(ZeroDivisionError, match="in the field"):
        jo.solve(field, Y0, TS, steps=1)

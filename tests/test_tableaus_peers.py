"""Compares the tableaus with those of torchdiffeq and nodepy, and their orders with nodepy's count."""

import numpy as np
import pytest

from janode.core.tableaus import TABLEAUS, Tableau

nodepy = pytest.importorskip("nodepy.runge_kutta_method")
torchdiffeq = pytest.importorskip("torchdiffeq._impl.odeint")

NODEPY = nodepy.loadRKM()
NODEPY_NAMES = {
    "euler": "FE",
    "midpoint": "Mid22",
    "ralston": "MTE22",
    "heun2": "Heun22",
    "heun3": "Heun33",
    "ssprk3": "SSP33",
    "rk4": "RK44",
    "bosh3": "BS3",
    "fehlberg45": "Fehlberg45",
    "cash_karp": "CK5",
    "dopri5": "DP5",
    "tsit5": "Tsit5",
    "dopri8": "PD8",
}
# torchdiffeq's error weights as a multiple of ours: it takes b_hat - b for adaptive_heun, and for dopri5 a b_hat with
# b_hat_7 = 1/60 where Dormand and Prince have 1/40.
TORCHDIFFEQ_ERROR_SCALE = {"adaptive_heun": -1, "fehlberg2": 1, "bosh3": 1, "dopri5": 2 / 3, "dopri8": 1}


def square(method: Tableau) -> np.ndarray:
    a = np.zeros((method.num_stages, method.num_stages))
    for i, row in enumerate(method.floats.a):
        a[i, :i] = row
    return a


def close(ours: object, theirs: object) -> None:
    np.testing.assert_allclose(np.asarray(ours, float), np.asarray(theirs, float), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", TORCHDIFFEQ_ERROR_SCALE)
def test_torchdiffeq_has_the_same_coefficients(name: str) -> None:
    ours, theirs = TABLEAUS[name].floats, torchdiffeq.SOLVERS[name].tableau
    s = len(ours.b)  # torchdiffeq appends a stage to a pair that does not reuse its last one
    close(ours.c[1:], theirs.alpha[: s - 1])
    close(square(TABLEAUS[name])[1:], [[*row, *[0] * (s - len(row))] for row in theirs.beta[: s - 1]])
    close(ours.b, theirs.c_sol[:s])
    close(np.multiply(ours.b_error, TORCHDIFFEQ_ERROR_SCALE[name]), theirs.c_error[:s])


@pytest.mark.parametrize("name", NODEPY_NAMES)
def test_nodepy_has_the_same_method(name: str) -> None:
    ours, theirs = TABLEAUS[name], NODEPY[NODEPY_NAMES[name]]
    close(square(ours), theirs.A)
    close(ours.floats.b, theirs.b)


@pytest.mark.parametrize("name", [name for name in NODEPY_NAMES if TABLEAUS[name].b_error is not None])
def test_nodepy_has_the_same_embedded_weights(name: str) -> None:
    ours, theirs = TABLEAUS[name].floats, NODEPY[NODEPY_NAMES[name]]
    close(ours.b_error, theirs.b - theirs.bhat)


@pytest.mark.parametrize("name", TABLEAUS)
def test_nodepy_counts_the_same_order(name: str) -> None:
    ours = TABLEAUS[name]
    assert nodepy.ExplicitRungeKuttaMethod(square(ours), np.array(ours.floats.b)).order(1e-13) == ours.order


@pytest.mark.parametrize("name", [name for name, method in TABLEAUS.items() if method.b_error is not None])
def test_nodepy_counts_the_same_embedded_order(name: str) -> None:
    ours = TABLEAUS[name]
    b_hat = np.subtract(ours.floats.b, ours.floats.b_error)
    assert nodepy.ExplicitRungeKuttaMethod(square(ours), b_hat).order(1e-13) == ours.embedded_order

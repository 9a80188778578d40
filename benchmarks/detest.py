"""The non-stiff problems A1 to E5 of DETEST, on the time interval [0, 20], for any array library with NumPy's names.

Source: Hull, Enright, Fellen and Sedgwick 1972, Comparing numerical methods for ordinary differential equations, SIAM
J. Numer. Anal. 9, doi:10.1137/0709052; as printed in Hairer, Norsett and Wanner and in Enright and Pryce 1987.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

END = 20.0


class Problem(NamedTuple):
    """dy/dt = field(t, y, xp) on [0, END] from y0."""

    name: str
    field: Callable[[Any, Any, Any], Any]
    y0: tuple[float, ...]
    exact: Callable[[float], tuple[float, ...]] | None = None


# A: single equations


def _a1(t: Any, y: Any, xp: Any) -> Any:
    return -y


def _a2(t: Any, y: Any, xp: Any) -> Any:
    return -0.5 * y**3


def _a3(t: Any, y: Any, xp: Any) -> Any:
    return y * xp.cos(t)


def _a4(t: Any, y: Any, xp: Any) -> Any:
    return 0.25 * y * (1.0 - 0.05 * y)


def _a5(t: Any, y: Any, xp: Any) -> Any:
    return (y - t) / (y + t)


# B: small systems


def _b1(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([2.0 * (y[0] - y[0] * y[1]), -(y[1] - y[0] * y[1])])


def _b2(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([-y[0] + y[1], y[0] - 2.0 * y[1] + y[2], y[1] - y[2]])


def _reaction(t: float) -> tuple[float, ...]:
    """The eigenvectors (1, 1, 1), (1, 0, -1), (1, -2, 1) with eigenvalues 0, -1, -3."""
    slow, fast = math.exp(-t) / 2.0, math.exp(-3.0 * t) / 2.0
    return 1.0 + slow + fast, 1.0 - 2.0 * fast, 1.0 - slow + fast


def _b3(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([-y[0], y[0] - y[1] ** 2, y[1] ** 2])


def _b4(t: Any, y: Any, xp: Any) -> Any:
    radius = xp.sqrt(y[0] ** 2 + y[1] ** 2)
    return xp.stack([-y[1] - y[0] * y[2] / radius, y[0] - y[1] * y[2] / radius, y[0] / radius])


def _b5(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1]])


# C: moderate systems


def _chain(t: Any, y: Any, xp: Any, rates: tuple[float, ...]) -> Any:
    """Radioactive decay: what leaves one entry enters the next; the last keeps it."""
    flow = xp.asarray(rates, dtype=y.dtype) * y[:-1]
    nothing = xp.zeros_like(y[:1])
    return xp.concatenate([nothing, flow]) - xp.concatenate([flow, nothing])


def _heat(t: Any, y: Any, xp: Any) -> Any:
    """Second differences, zero beyond both ends."""
    nothing = xp.zeros_like(y[:1])
    return xp.concatenate([y[1:], nothing]) - 2.0 * y + xp.concatenate([nothing, y[:-1]])


_GRAVITY = 2.95912208286
_SUN = 1.00000597682
"""Mass of the sun and the four inner planets."""
_PLANETS = (0.000954786104043, 0.000285583733151, 0.0000437273164546, 0.0000517759138449, 0.00000277777777778)
_PLANETS_START = (
    *(3.42947415189, 3.35386959711, 1.35494901715, 6.64145542550, 5.97156957878, 2.18231499728),
    *(11.2630437207, 14.6952576794, 6.27960525067, -30.1552268759, 1.65699966404, 1.43785752721),
    *(-21.1238353380, 28.4465098142, 15.3882659679),
    *(-0.557160570446, 0.505696783289, 0.230578543901, -0.415570776342, 0.365682722812, 0.169143213293),
    *(-0.325325669158, 0.189706021964, 0.0877265322780, -0.0240476254170, -0.287659532608, -0.117219543175),
    *(-0.176860753121, -0.216393453025, -0.0148647893090),
)


def _c5(t: Any, y: Any, xp: Any) -> Any:
    """The five outer planets around the sun."""
    places, speeds = y[:15].reshape(5, 3), y[15:]
    masses = xp.asarray(_PLANETS, dtype=y.dtype)
    attraction = places / xp.sum(places**2, axis=1, keepdims=True) ** 1.5
    apart = places[None, :, :] - places[:, None, :]
    square = xp.sum(apart**2, axis=2) + xp.eye(5, dtype=y.dtype)  # a planet is no distance from itself
    pull = apart / square[:, :, None] ** 1.5
    others = 1.0 - xp.eye(5, dtype=y.dtype)
    weights = (masses[None, :] * others)[:, :, None]
    force = -(_SUN + masses[:, None]) * attraction + xp.sum(weights * (pull - attraction[None, :, :]), axis=1)
    return xp.concatenate([speeds, _GRAVITY * force.reshape(15)])


# D: orbits


def _orbit(t: Any, y: Any, xp: Any) -> Any:
    cube = (y[0] ** 2 + y[1] ** 2) ** 1.5
    return xp.stack([y[2], y[3], -y[0] / cube, -y[1] / cube])


def _kepler(t: float, eccentricity: float) -> tuple[float, ...]:
    """The orbit by Kepler's equation u - e sin(u) = t."""
    u = t
    for _ in range(100):
        u -= (u - eccentricity * math.sin(u) - t) / (1.0 - eccentricity * math.cos(u))
    minor, rate = math.sqrt(1.0 - eccentricity**2), 1.0 / (1.0 - eccentricity * math.cos(u))
    return math.cos(u) - eccentricity, minor * math.sin(u), -rate * math.sin(u), rate * minor * math.cos(u)


def _orbit_problem(name: str, eccentricity: float) -> Problem:
    start = (1.0 - eccentricity, 0.0, 0.0, math.sqrt((1.0 + eccentricity) / (1.0 - eccentricity)))
    return Problem(name, _orbit, start, partial(_kepler, eccentricity=eccentricity))


# E: equations of second order


def _e1(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([y[1], -(y[1] / (t + 1.0) + (1.0 - 0.25 / (t + 1.0) ** 2) * y[0])])


def _bessel(t: float) -> tuple[float, ...]:
    """J_1/2(t + 1) and its derivative."""
    x = t + 1.0
    scale = math.sqrt(2.0 / (math.pi * x))
    return scale * math.sin(x), scale * (math.cos(x) - math.sin(x) / (2.0 * x))


def _e2(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([y[1], (1.0 - y[0] ** 2) * y[1] - y[0]])


def _e3(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([y[1], y[0] ** 3 / 6.0 - y[0] + 2.0 * xp.sin(2.78535 * t)])


def _e4(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([y[1], 0.032 - 0.4 * y[1] ** 2])


def _falling(t: float) -> tuple[float, ...]:
    """A body that falls against the square of its speed, from rest at 30."""
    speed, rate = math.sqrt(0.08), 0.4 * math.sqrt(0.08)
    return 30.0 + math.log(math.cosh(rate * t)) / 0.4, speed * math.tanh(rate * t)


def _e5(t: Any, y: Any, xp: Any) -> Any:
    return xp.stack([y[1], xp.sqrt(1.0 + y[1] ** 2) / (25.0 - t)])


def _pursuit(t: float) -> tuple[float, ...]:
    """y_2 = sinh(s), s = log(25 / (25 - t)), and its integral."""
    left = 25.0 - t
    slope = (25.0 / left - left / 25.0) / 2.0
    return 12.5 * math.log(25.0 / left) - (625.0 - left**2) / 100.0, slope


def _unit(size: int) -> tuple[float, ...]:
    return (1.0, *[0.0] * (size - 1))


PROBLEMS = (
    Problem("A1", _a1, (1.0,), lambda t: (math.exp(-t),)),
    Problem("A2", _a2, (1.0,), lambda t: (1.0 / math.sqrt(1.0 + t),)),
    Problem("A3", _a3, (1.0,), lambda t: (math.exp(math.sin(t)),)),
    Problem("A4", _a4, (1.0,), lambda t: (20.0 / (1.0 + 19.0 * math.exp(-t / 4.0)),)),
    Problem("A5", _a5, (4.0,)),
    Problem("B1", _b1, (1.0, 3.0)),
    Problem("B2", _b2, (2.0, 0.0, 1.0), _reaction),
    Problem("B3", _b3, (1.0, 0.0, 0.0)),
    Problem("B4", _b4, (3.0, 0.0, 0.0)),
    Problem("B5", _b5, (0.0, 1.0, 1.0)),
    Problem("C1", partial(_chain, rates=(1.0,) * 9), _unit(10)),
    Problem("C2", partial(_chain, rates=tuple(map(float, range(1, 10)))), _unit(10)),
    Problem("C3", _heat, _unit(10)),
    Problem("C4", _heat, _unit(51)),
    Problem("C5", _c5, _PLANETS_START),
    _orbit_problem("D1", 0.1),
    _orbit_problem("D2", 0.3),
    _orbit_problem("D3", 0.5),
    _orbit_problem("D4", 0.7),
    _orbit_problem("D5", 0.9),
    Problem("E1", _e1, _bessel(0.0), _bessel),
    Problem("E2", _e2, (2.0, 0.0)),
    Problem("E3", _e3, (0.0, 0.0)),
    Problem("E4", _e4, (30.0, 0.0), _falling),
    Problem("E5", _e5, (0.0, 0.0), _pursuit),
)


@cache
def end_value(name: str) -> np.ndarray:
    """The solution at END: in closed form, or by SciPy's DOP853 at the tightest tolerances that it takes."""
    problem = next(problem for problem in PROBLEMS if problem.name == name)
    if problem.exact is not None:
        return np.array(problem.exact(END))
    from scipy.integrate import solve_ivp

    field = partial(_with_numpy, problem.field)
    return solve_ivp(field, (0.0, END), problem.y0, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]


def _with_numpy(field: Callable[..., Any], t: Any, y: Any) -> Any:
    return field(t, y, np)

"""Methods by name: where a name given by the user becomes a method object."""

from __future__ import annotations

from functools import cache

from .errors import unknown_name
from .protocols import Method
from .runge_kutta import RungeKutta
from .tableaus import TABLEAUS, Tableau

NAMED = ("leapfrog", "ab2", "ab3", "ab4", "alf", "reversible_heun")
"""Names of methods that are no tableaus."""
COUPLED = "reversible({})"
"""The name of the reversible coupling of a tableau, with its name in it."""
REVERSIBLE = ("leapfrog", "alf", "reversible_heun", COUPLED.format("tsit5"))
"""Names of methods with an exact inverse."""


def find_method(method: str | Tableau | Method) -> Method:
    """The method of that name, of that tableau, or the method object itself."""
    if isinstance(method, Method):
        return method
    if isinstance(method, Tableau):
        return RungeKutta(method)
    if isinstance(method, str) and method in NAMED:
        return _named()[method]
    if isinstance(method, str) and method in TABLEAUS:
        return RungeKutta(TABLEAUS[method])
    before, after = COUPLED.split("{}")
    if isinstance(method, str) and method.startswith(before) and method.endswith(after):
        base = method[len(before) : -len(after)]
        if base not in TABLEAUS:
            raise unknown_name("solve", f"method in {method!r}", base, TABLEAUS)
        from .reversible import ReversibleCoupling

        return ReversibleCoupling(RungeKutta(TABLEAUS[base]))
    raise unknown_name("solve", "method", method, [*TABLEAUS, *NAMED, COUPLED.format("tsit5")])


@cache
def _named() -> dict[str, Method]:
    """The methods of NAMED; imported here, for a solve by a tableau to start sooner."""
    from .multistep import AdamsBashforth, Leapfrog
    from .reversible import AsynchronousLeapfrog, ReversibleHeun

    made: tuple[Method, ...] = (Leapfrog(), *map(AdamsBashforth, (2, 3, 4)), AsynchronousLeapfrog(), ReversibleHeun())
    return dict(zip(NAMED, made, strict=True))

"""Methods by name: where a name given by the user becomes a method object."""

from __future__ import annotations

from .errors import unknown_name
from .multistep import AdamsBashforth, Leapfrog
from .protocols import Method
from .reversible import AsynchronousLeapfrog, ReversibleCoupling, ReversibleHeun
from .runge_kutta import RungeKutta
from .tableaus import TABLEAUS, Tableau

NAMED: dict[str, Method] = {
    "leapfrog": Leapfrog(),
    "ab2": AdamsBashforth(2),
    "ab3": AdamsBashforth(3),
    "ab4": AdamsBashforth(4),
    "alf": AsynchronousLeapfrog(),
    "reversible_heun": ReversibleHeun(),
}
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
        return NAMED[method]
    if isinstance(method, str) and method in TABLEAUS:
        return RungeKutta(TABLEAUS[method])
    before, after = COUPLED.split("{}")
    if isinstance(method, str) and method.startswith(before) and method.endswith(after):
        base = method[len(before) : -len(after)]
        if base not in TABLEAUS:
            raise unknown_name("solve", f"method in {method!r}", base, TABLEAUS)
        return ReversibleCoupling(RungeKutta(TABLEAUS[base]))
    raise unknown_name("solve", "method", method, [*TABLEAUS, *NAMED, COUPLED.format("tsit5")])

"""Methods by name: where a name given by the user becomes a method object."""

from __future__ import annotations

from .errors import unknown_name
from .multistep import AdamsBashforth, Leapfrog
from .protocols import Method
from .runge_kutta import RungeKutta
from .tableaus import TABLEAUS, Tableau

MULTISTEP: dict[str, Method] = {
    "leapfrog": Leapfrog(),
    "ab2": AdamsBashforth(2),
    "ab3": AdamsBashforth(3),
    "ab4": AdamsBashforth(4),
}


def find_method(method: str | Tableau | Method) -> Method:
    """The method of that name, of that tableau, or the method object itself."""
    if isinstance(method, Method):
        return method
    if isinstance(method, Tableau):
        return RungeKutta(method)
    if isinstance(method, str) and method in MULTISTEP:
        return MULTISTEP[method]
    if not isinstance(method, str) or method not in TABLEAUS:
        raise unknown_name("solve", "method", method, [*TABLEAUS, *MULTISTEP])
    return RungeKutta(TABLEAUS[method])

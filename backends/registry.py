"""The registry of backends. A backend whose members or signatures do not fit the protocol is refused with the list."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from janode.core.errors import BackendError, unknown_name
from janode.core.protocols import Backend

LIBRARIES = ("numpy", "torch", "jax", "cupy")
"""The libraries with a file of their own here."""
_registered: dict[str, Backend] = {}


def differences(backend: object) -> list[str]:
    """Where ``backend`` departs from the Backend protocol, one line each; empty if nowhere."""
    found = []
    if not isinstance(getattr(backend, "name", None), str):
        found.append("name: must be a str")
    for member, wanted in vars(Backend).items():
        if member.startswith("_") or not inspect.isfunction(wanted):
            continue
        got = getattr(backend, member, None)
        if not callable(got):
            found.append(f"{member}: missing")
            continue
        names = list(inspect.signature(got).parameters)
        expected = list(inspect.signature(wanted).parameters)[1:]
        if names != expected:
            found.append(f"{member}: takes ({', '.join(names)}), must take ({', '.join(expected)})")
    return found


def register(backend: Any) -> Backend:
    """Add a backend under its own name.

    Raises:
        BackendError: if members are missing or take other parameters than the protocol says.
    """
    found = differences(backend)
    if found:
        raise BackendError(
            f"register: backend must fulfil the Backend protocol; got {type(backend).__name__} with these "
            "differences:\n  " + "\n  ".join(found) + "\nMend them; janode.core.protocols.Backend says what each does."
        )
    _registered[backend.name] = backend
    return backend


def find_backend(name: str) -> Backend:
    """The backend of that name; its library is imported when it is first asked for.

    Raises:
        InputError: if there is no backend of that name.
        BackendError: if its library is not installed.
    """
    if name not in _registered:
        if name not in LIBRARIES:
            raise unknown_name("find_backend", "name", name, {*LIBRARIES, *_registered})
        try:
            module = importlib.import_module(f"janode.backends.{name}")
        except ImportError as error:
            raise BackendError(
                f"find_backend: the library of backend {name!r} must be installed; got {error}. Run "
                f"`pip install janode[{name}]`."
            ) from error
        register(module.BACKEND)
    return _registered[name]


def array_backend(xp: Any) -> Backend:
    """The backend for an array namespace: the library's own if there is one, else the generic eager one."""
    from .eager import EagerBackend

    name = xp.__name__.removeprefix("array_api_compat.")
    if name not in LIBRARIES and name not in _registered:
        register(EagerBackend(xp, name))
    return find_backend(name)

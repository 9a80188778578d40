"""Backends are held against the protocol when they register; libraries load when they are first asked for."""

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import array_api_compat.numpy as xp
import array_api_strict
import pytest

from janode.backends import registry
from janode.backends.eager import EagerBackend
from janode.backends.jax import JaxBackend
from janode.backends.registry import array_backend, differences, find_backend, register
from janode.core.errors import BackendError, InputError
from janode.core.protocols import Backend


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Backend]]:
    """The registry as it is, put back afterwards."""
    backends = dict(registry._registered)
    monkeypatch.setattr(registry, "_registered", backends)
    return backends


class Good(EagerBackend):
    def __init__(self) -> None:
        super().__init__(xp, "good")


class Misnamed(Good):
    """One letter is missing from the name of a member."""

    linear_combinatio = EagerBackend.linear_combination
    linear_combination = None  # type: ignore[assignment]


class OtherParameters(Good):
    def put(self, buffer: Any, row: Any, index: Any) -> Any:  # type: ignore[override]
        return buffer


class MissingParameter(Good):
    def zeros(self, like: Any) -> Any:  # type: ignore[override]
        return like


class FurtherParameter(Good):
    def pair(self, left: Any, right: Any, weights: Any) -> Any:  # type: ignore[override]
        return left


class Nameless(Good):
    def __init__(self) -> None:
        super().__init__()
        self.name = None  # type: ignore[assignment]


class Several(OtherParameters, Misnamed):
    pass


DIFFERENCES = {
    Good: [],
    Misnamed: ["linear_combination: missing"],
    OtherParameters: ["put: takes (buffer, row, index), must take (buffer, index, row, where)"],
    MissingParameter: ["zeros: takes (like), must take (like, wide)"],
    FurtherParameter: ["pair: takes (left, right, weights), must take (left, right)"],
    Nameless: ["name: must be a str"],
    Several: [
        "put: takes (buffer, row, index), must take (buffer, index, row, where)",
        "linear_combination: missing",
    ],
}


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_differences(kind: type[Good]) -> None:
    assert differences(kind()) == DIFFERENCES[kind]


MEMBERS = [name for name, member in vars(Backend).items() if inspect.isfunction(member) and name[0] != "_"]


@pytest.mark.parametrize("member", MEMBERS)
def test_every_missing_member_is_found(member: str) -> None:
    backend = Good()
    setattr(backend, member, None)
    assert differences(backend) == [f"{member}: missing"]


@pytest.mark.parametrize("kind", [EagerBackend, JaxBackend])
def test_backends_have_no_public_member_beyond_the_protocol(kind: type[Any]) -> None:
    public = {name for name in dir(kind) if not name.startswith("_")}
    assert public <= {*MEMBERS, *Backend.__annotations__}


@pytest.mark.parametrize("kind", [kind for kind, found in DIFFERENCES.items() if found])
def test_what_differs_is_refused_with_the_list(kind: type[Good], registered: dict[str, Backend]) -> None:
    before = dict(registered)
    with pytest.raises(BackendError) as caught:
        register(kind())
    listed = "\n  ".join(DIFFERENCES[kind])
    assert str(caught.value) == (
        f"register: backend must fulfil the Backend protocol; got {kind.__name__} with these differences:\n  {listed}\n"
        "Mend them; janode.core.protocols.Backend says what each does."
    )
    assert registered == before


def test_what_fits_is_found_by_its_name() -> None:
    backend = register(Good())
    assert find_backend("good") is backend


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_backends_of_installed_libraries(name: str) -> None:
    backend = find_backend(name)
    assert backend.name == name
    assert differences(backend) == []
    assert find_backend(name) is backend


@pytest.mark.parametrize("name", registry.LIBRARIES)
def test_a_library_that_is_not_installed(
    name: str, monkeypatch: pytest.MonkeyPatch, registered: dict[str, Backend]
) -> None:
    registered.pop(name, None)

    def missing(module: str) -> Any:
        raise ModuleNotFoundError(f"No module named {module.rpartition('.')[2]!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BackendError) as caught:
        find_backend(name)
    assert str(caught.value) == (
        f"find_backend: the library of backend {name!r} must be installed; got No module named {name!r}. Run "
        f"`pip install janode[{name}]`."
    )
    assert name not in registered


def test_an_unknown_backend_is_refused_with_the_nearest_first() -> None:
    with pytest.raises(InputError) as caught:
        find_backend("numpi")
    assert str(caught.value).startswith("find_backend: name must be one of: numpy, ")
    assert str(caught.value).endswith("; got 'numpi'. Choose a name from the list.")


def test_a_namespace_without_a_file_of_its_own_gets_the_generic_backend(registered: dict[str, Backend]) -> None:
    registered.pop("array_api_strict", None)
    backend = array_backend(array_api_strict)
    assert type(backend) is EagerBackend
    assert (backend.xp, backend.name) == (array_api_strict, "array_api_strict")
    assert array_backend(array_api_strict) is backend


def test_a_namespace_with_a_file_of_its_own_gets_its_backend() -> None:
    assert array_backend(xp) is find_backend("numpy")


LOADED = """
import json, sys
import janode.cupy
print(json.dumps([sorted({"torch", "jax", "cupy"} & set(sys.modules)), janode.cupy.__all__]))
"""


def test_the_frontend_of_cupy_needs_no_gpu_to_be_imported() -> None:
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded, names = json.loads(run.stdout)
    assert loaded == []
    assert {"Field", "solve", "solve_vjp"} <= set(names)

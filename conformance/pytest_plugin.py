"""The pytest plugin: ``pytest --janode-targets='numpy-*,torch-cpu-*'`` runs a test once for each target.

Without the option it does nothing: no library is loaded, and tests that ask for a target are skipped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest

_OPTION = "--janode-targets"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("janode").addoption(
        _OPTION,
        default="",
        metavar="PATTERNS",
        help="targets of janode.conformance, or patterns of them, separated by commas: the values of janode_target",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "janode_device(name): run only for targets on this device, such as cpu or cuda")


def _targets(config: pytest.Config) -> list[Any]:
    """The targets asked for; nothing is imported unless there are any."""
    patterns = [pattern for pattern in config.getoption(_OPTION).split(",") if pattern]
    if not patterns:
        return []
    from janode.core.errors import InputError, unknown_name

    from .namespaces import add_namespaces
    from .targets import TARGETS

    try:
        add_namespaces(())
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in TARGETS):
                raise unknown_name(_OPTION, "target", pattern, TARGETS)
    except InputError as error:
        raise pytest.UsageError(str(error)) from None
    return [target for name, target in TARGETS.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each target that is asked for, on the device that its marker names."""
    if "janode_target" not in metafunc.fixturenames:
        return
    devices = [marker.args[0] for marker in metafunc.definition.iter_markers("janode_device")]
    targets = [target for target in _targets(metafunc.config) if not devices or target.device in devices]
    metafunc.parametrize("janode_target", targets, indirect=True, ids=[target.id for target in targets])


@pytest.fixture
def janode_target(request: pytest.FixtureRequest) -> Any:
    """A runtime of the target: its ``frontend``, ``asarray`` and ``to_numpy``, and its ``id``.

    The test is skipped if the target's library or device is not here, and fails if the target was named in full.
    """
    from .runtimes import Absent

    target = request.param
    try:
        runtime = target.load(target.device, target.precision)
    except Absent as absence:
        told = f"{target.id}: {absence}"
        if target.id in request.config.getoption(_OPTION).split(","):
            pytest.fail(told)
        pytest.skip(told)
    runtime.id = target.id
    with runtime.active():
        yield runtime


@pytest.fixture
def janode_compare() -> Callable[..., Any]:
    """``janode.conformance.assert_conforms``: solve one model with several libraries, and fail where they differ."""
    from . import assert_conforms

    return functools.partial(assert_conforms)

"""Imports point one way, importing janode loads no framework, and the project speaks of itself alone."""

import ast
import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "core": "janode.core",
    "backends": "janode.backends",
    "frontends": "janode",
    "conformance": "janode.conformance",
}
FILES = sorted(path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))

ARRAY_API = {"array_api_compat", "array_api_extra"}
MAY_IMPORT = {
    "core": ARRAY_API | {"checkpoint_schedules"},
    "backends": ARRAY_API,
    "frontends": ARRAY_API | {"optree"},
}
# What single files need: a pytree library for lanes; what shows results, imported when it is called.
ALSO = {
    Path("backends/torch_rows.py"): {"optree"},
    Path("frontends/validity_report.py"): {"rich", "matplotlib"},
    Path("frontends/progress.py"): {"tqdm"},
}
MAY_REACH = {
    "core": {"core"},
    "backends": {"core", "backends"},
    "frontends": {"core", "backends", "frontends"},
    "conformance": set(FOLDERS),
}
LIBRARIES = {
    "numpy": {"numpy"},
    "torch": {"torch"},
    "jax": {"jax", "jaxlib", "numpy"},  # NumPy's arrays are arguments of JAX's own functions
    "cupy": {"cupy", "cupyx"},
}


def own_library(path: Path) -> set[str]:
    """The modules of the array library that a file is named after; core has none."""
    if path.parts[0] == "core":
        return set()
    words = set(re.split(r"[_/.]", path.as_posix()))
    return set().union(*(modules for name, modules in LIBRARIES.items() if name in words))


def imports(path: Path, source: str) -> Iterator[tuple[str, bool]]:
    """The modules that a file imports, as absolute names, and whether the import was written as a relative one."""
    package = FOLDERS[path.parts[0]].split(".") + list(path.parent.parts[1:])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            yield from ((f"{module}.{alias.name}", bool(node.level)) for alias in node.names)


def folder_of(module: str) -> str | None:
    """The folder that holds a module of janode, or None for a module of something else."""
    fits = [folder for folder, name in FOLDERS.items() if f"{module}.".startswith(f"{name}.")]
    return max(fits, key=lambda folder: len(FOLDERS[folder]), default=None)


def strays(path: Path, source: str) -> list[str]:
    """The imports by which a file breaks the layering."""
    here, found = path.parts[0], []
    allowed = sys.stdlib_module_names | MAY_IMPORT.get(here, set()) | own_library(path) | ALSO.get(path, set())
    for module, is_relative in imports(path, source):
        folder, top = folder_of(module), module.split(".")[0]
        if folder is not None:
            if folder not in MAY_REACH[here]:
                found.append(f"{here} imports {module}")
            elif is_relative != (folder == here):
                found.append(f"{module}: imports are relative within a folder, absolute between folders")
        elif top not in allowed and here != "conformance":
            found.append(f"{here} imports {module}")
    return found


@pytest.mark.parametrize("path", FILES, ids=Path.as_posix)
def test_imports_point_one_way(path: Path) -> None:
    assert strays(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/a.py", "import numpy as np"),
        ("core/numpy.py", "import numpy as np"),
        ("core/a.py", "def f():\n    from torch import nn"),
        ("core/a.py", "from janode.backends import numpy"),
        ("core/a.py", "from janode import backends"),
        ("core/a.py", "from ..numpy import solve"),
        ("core/a.py", "from janode.core.tableaus import Tableau"),
        ("core/deep/a.py", "from ...backends import numpy"),
        ("backends/numpy.py", "import torch"),
        ("backends/numpy.py", "import janode.torch"),
        ("backends/numpy.py", "import optree"),
        ("frontends/jax.py", "import torch.nn"),
        ("frontends/jax.py", "import janode.conformance"),
        ("frontends/jax.py", "import rich"),
        ("frontends/jax.py", "from .core.tableaus import Tableau"),
    ],
)
def test_a_stray_import_is_found(path: str, source: str) -> None:
    assert len(strays(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/a.py", "import math, array_api_compat as aac\nfrom .tableaus import Tableau\nfrom . import errors"),
        ("core/deep/a.py", "from ..tableaus import Tableau"),
        ("backends/numpy.py", "import numpy as np\nfrom janode.core.protocols import Backend\nfrom . import registry"),
        (
            "frontends/_torch_modules.py",
            "import torch, optree\nfrom janode.backends import torch as b\nfrom ._a import x",
        ),
        ("conformance/runner.py", "import rich, torch\nimport janode.numpy\nfrom .problems import P"),
    ],
)
def test_a_legal_import_is_left_alone(path: str, source: str) -> None:
    assert strays(Path(path), source) == []


LOADED = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
if sys.argv[2:]:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
print(json.dumps(sorted({"torch", "jax", "cupy"} & set(sys.modules))))
"""


@pytest.mark.parametrize(
    "arguments", [["janode"], ["janode.core", "with all its modules"], ["janode.numpy"], ["janode.array"]], ids=" ".join
)
def test_an_import_loads_no_framework(arguments: list[str]) -> None:
    run = subprocess.run([sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == []


# Written with classes of one letter, so that this file does not name what it looks for.
ELSEWHERE = re.compile(r"(?<![\w.])/(?:[w]ork|[r]oot|[h]ome/\w+|[U]sers/\w+)/|\.\./[s]hared\b")
BINARY = ("*.png", "*.gz", "*.npz")


def text_files() -> Iterator[Path]:
    """The files of the project that hold text: all but those that .gitignore names."""
    rules = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if not line.startswith("#")]
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        is_ignored = any(fnmatch.filter(parts, rule) for rule in [".git", *BINARY, *rules])
        if path.is_file() and not is_ignored:
            yield path


def test_the_project_names_no_place_outside_itself() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in text_files()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ELSEWHERE.search(line)
    ]
    assert lines == []


@pytest.mark.parametrize(
    "text", ["cd /" + "work/main", "open('/" + "home/me/data.csv')", "see .." + "/shared/design.md"]
)
def test_a_place_outside_is_found(text: str) -> None:
    assert ELSEWHERE.search(text)

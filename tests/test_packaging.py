"""janode as wheel, as sdist and as editable install: each built, installed into a fresh environment and imported."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "frontends": "janode",
    "core": "janode/core",
    "backends": "janode/backends",
    "conformance": "janode/conformance",
}
MODULES = [
    "janode",
    "janode.core",
    "janode.core.tableaus",
    "janode.numpy",
    "janode.torch",
    "janode.jax",
    "janode.cupy",
    "janode.array",
    "janode.backends",
    "janode.conformance",
]
# Imports every module; tells where it lies, or why it cannot be imported.
IMPORT = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.import_module(name).__file__
    except Exception as error:
        found[name] = repr(error)
print(json.dumps(found))
"""


def call(*command: str | Path, cwd: Path) -> str:
    """Runs a command without network for pip; its output, or the failure of the test with all it said."""
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@dataclass(frozen=True)
class Built:
    """A clean copy of the sources and what was built from it."""

    sources: Path
    sdist: Path
    wheel: Path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sources are copied, so that nothing stale is packed and nothing is left behind."""
    sources, dist = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("dist")
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, sources)
    for name in [*FOLDERS, "tests", "benchmarks", "examples"]:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for kind in ["--sdist", "--wheel"]:
        call(sys.executable, "-m", "build", "--no-isolation", kind, "--outdir", dist, cwd=sources)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return Built(sources, sdist, wheel)


@dataclass(frozen=True)
class Installed:
    """A fresh environment: the folder janode must lie in, and for every module its file or why it has none."""

    home: Path
    found: dict[str, str]


@pytest.fixture(scope="session", params=["wheel", "sdist", "editable"])
def installed(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """janode alone is installed; a path file lends the environment the dependencies of the running one."""
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder / "venv")
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    what = {"wheel": [built.wheel], "sdist": [built.sdist], "editable": ["--editable", built.sources]}[request.param]
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--quiet"]
    call(python, "-m", "pip", "install", *options, *what, cwd=folder)
    found = json.loads(call(python, "-W", "error", "-c", IMPORT, *MODULES, cwd=folder))
    return Installed(built.sources if request.param == "editable" else packages, found)


@pytest.mark.parametrize("module", MODULES)
def test_import(installed: Installed, module: str) -> None:
    assert Path(installed.found[module]).is_relative_to(installed.home), installed.found[module]


@pytest.mark.parametrize("package", ["janode", "janode.core", "janode.backends", "janode.conformance"])
def test_typed(installed: Installed, package: str) -> None:
    assert Path(installed.found[package]).with_name("py.typed").is_file()


def package_files(sources: Path) -> set[str]:
    """What belongs into the package: every file of its folders, at the place it is imported from."""
    return {
        f"{place}/{path.relative_to(sources / folder).as_posix()}"
        for folder, place in FOLDERS.items()
        for path in (sources / folder).rglob("*")
        if path.is_file()
    }


def test_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    names = zipfile.ZipFile(built.wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == package_files(built.sources)


def test_wheel_holds_the_licence(built: Built) -> None:
    names = zipfile.ZipFile(built.wheel).namelist()
    assert "janode-0.1.0.dist-info/licenses/LICENSE" in names

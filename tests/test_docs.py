"""The code of README.md and docs/ runs, and so do the examples in the docstrings."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from janode.core.tableaus import TABLEAUS, alpha2

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```[ \t]*(?P<language>\S*)[ \t]*(?P<rest>.*)$")


def runnable_code(text: str) -> str:
    """The python blocks of a Markdown text, each line at its place, all other lines empty.

    A block whose fence reads ```` ```python no-run ```` is left out. Any other word on a fence of Python is an error,
    so that no block is left out by a slip.
    """
    kept, closing, is_run = [], "", False
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if closing:
            is_end = line.rstrip() == closing
            kept.append(line if is_run and not is_end else "")
            closing = "" if is_end else closing
        else:
            kept.append("")
            if fence is not None:
                closing, language = "```", fence["language"]
                is_run = language == "python" and not fence["rest"]
                if "py" in language and not is_run and (language, fence["rest"]) != ("python", "no-run"):
                    raise ValueError(f"line {number}: {line!r} is neither ```python nor ```python no-run")
    if closing:
        raise ValueError("the last block is not closed")
    return "\n".join(kept)


def run_as_a_user(*arguments: str) -> None:
    """Runs Python with the environment of a user, not of the tests; a warning is an error."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    command = [sys.executable, "-W", "error", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


PAGES = [
    path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "```python" in path.read_text()
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}.py"
    script.write_text(runnable_code(page.read_text()))
    run_as_a_user(str(script))


def test_only_python_is_run() -> None:
    text = "a\n```python\nx = 1\n```\n```python no-run\ny\n```\n```sh\nz\n```\n```\nu\n```\n```python\nassert x\n```\n"
    code = [(i, line) for i, line in enumerate(runnable_code(text).splitlines(), 1) if line]
    assert code == [(3, "x = 1"), (15, "assert x")]


@pytest.mark.parametrize("text", ["```py\nx\n```", "```python norun\nx\n```", "```python3\nx\n```", "```python\nx"])
def test_a_block_left_out_by_a_slip_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is neither|not closed"):
        runnable_code(text)


METHOD_ROW = re.compile(r"^\| (?P<names>`.*`) \| (?P<order>\d+) \| (?P<stages>\d+) \|$", re.MULTILINE)


def test_readme_lists_every_method() -> None:
    listed = {
        name: (int(row["order"]), int(row["stages"]))
        for row in METHOD_ROW.finditer((ROOT / "README.md").read_text())
        for name in re.findall(r"`(\w+)", row["names"])
    }
    tableaus = {**TABLEAUS, "alpha2": alpha2("2/3")}
    assert listed == {name: (tableau.order, len(tableau.b)) for name, tableau in tableaus.items()}


DOCTEST = """
import doctest, importlib, sys
result = doctest.testmod(importlib.import_module(sys.argv[1]), optionflags=doctest.ELLIPSIS)
sys.exit(result.failed > 0 or result.attempted == 0)
"""


MODULES = [
    ".".join([package, *path.relative_to(ROOT / folder).with_suffix("").parts]).removesuffix(".__init__")
    for folder, package in {"core": "janode.core", "frontends": "janode"}.items()
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    run_as_a_user("-c", DOCTEST, module)

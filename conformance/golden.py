"""Golden files: a model's results, kept with versions and a checksum for comparison over time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import optree

from janode.core.errors import InputError

from .comparison import Comparison
from .report import check_writable

VERSION = 1
_HEAD, _CHECKSUM = "head", "checksum"


def _arrays(values: dict[str, Any]) -> dict[str, Any]:
    """Every array by its name and path."""
    found = {}
    for name, tree in values.items():
        leaves, spec = optree.tree_flatten(tree)
        paths = ["".join(f"[{key!r}]" for key in path) for path in spec.paths()]
        found.update({name + path: np.asarray(leaf) for path, leaf in zip(paths, leaves, strict=True)})
    return found


def _checksum(head: str, arrays: dict[str, Any]) -> str:
    digest = hashlib.sha256(head.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def record(path: Path, values: dict[str, Any], solve: dict[str, Any], facts: dict[str, str]) -> None:
    """Write arrays, and what they are of."""
    check_writable(path)
    arrays = _arrays(values)
    versions = {"janode": importlib.metadata.version("janode"), **facts}
    head = json.dumps({"version": VERSION, "solve": solve, "versions": versions}, sort_keys=True)
    made = io.BytesIO()
    texts = {_HEAD: np.asarray(head), _CHECKSUM: np.asarray(_checksum(head, arrays))}
    members: Any = {**texts, **{f"array {name}": array for name, array in arrays.items()}}
    np.savez_compressed(made, **members)
    path.write_bytes(made.getvalue())


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(head, arrays) of a file that is whole and as it was written."""
    rule = f"golden: {path} must be a file that record wrote, whole"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            texts = {name: str(file[name]) for name in (_HEAD, _CHECKSUM)}
            arrays = {name.removeprefix("array "): file[name] for name in file.files if name.startswith("array ")}
        head = json.loads(texts[_HEAD])
    except OSError as error:
        raise InputError(f"{rule}; got {error}. Record it first.") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{rule}; got a file cut short or of another kind ({error}). Record it again.") from None
    except Exception as error:  # what is cut inside a compressed array
        raise InputError(f"{rule}; got a file that cannot be unpacked ({error}). Record it again.") from None
    if head.get("version") != VERSION:
        raise InputError(f"golden: {path} must be of version {VERSION}; got {head.get('version')}. Record it again.")
    if texts[_CHECKSUM] != _checksum(texts[_HEAD], arrays):
        raise InputError(f"golden: {path} must be as it was recorded; got another checksum. Record it again.")
    return head, arrays


def check(path: Path, values: dict[str, Any], solve: dict[str, Any], comparison: Comparison) -> None:
    """Raise an AssertionError if arrays differ from those of a file, an InputError if they cannot be compared."""
    head, expected = _read(path)
    for key in [*head["solve"], *solve]:
        then, now = head["solve"].get(key), solve.get(key)
        if then != now:
            raise InputError(
                f"golden: {key} must be {then!r}, as in {path}; got {now!r}. Solve in the same way, or record again."
            )
    got = _arrays(values)
    if set(got) != set(expected):
        odd = ", ".join(sorted(set(got) ^ set(expected)))
        raise InputError(f"golden: the arrays must be those of {path}; got a difference in {odd}. Record it again.")
    # The dtype of the gradient of times is the library's own.
    like = {name: got[name] if name == "ts_bar" else expected[name] for name in expected}
    differences = [comparison.array(name, got[name], like[name], expected[name]) for name in expected]
    wrong = [str(difference) for difference in differences if not difference.is_ok]
    if wrong:
        versions = ", ".join(f"{name} {version}" for name, version in head["versions"].items())
        raise AssertionError(f"the results differ from {path}, recorded with {versions}:\n" + "\n".join(wrong))

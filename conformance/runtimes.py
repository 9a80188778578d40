"""How a case is run by each array library: inputs made, the solve called as a user would, all gradients asked for.

Every runtime gives the same outcome: the states at all ts and the gradients of ``sum <ys_bar, ys>``, in the convention
dL/dx + i dL/dy, each with the input it must resemble in namespace, device and dtype.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import optree

from .problem import Inputs, Problem

Tree = Any


class Absent(Exception):
    """A target's library or device is not on this machine; the text says which."""


class Outcome(NamedTuple):
    """What a solve and its gradients gave: pytrees of the library's arrays by name, and what each must resemble."""

    got: dict[str, Tree]
    like: dict[str, Tree]


class Runtime(Protocol):
    """One library on one device in one precision."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """The settings under which every case runs."""

    def run(self, problem: Problem, inputs: Inputs, method: str, preset: str) -> Outcome:
        """Solve, and pull ys_bar back."""

    def to_numpy(self, array: Any) -> Any:
        """The values of an array of the library."""

    def facts(self) -> dict[str, str]:
        """Versions and the device, for the report."""


def find_library(name: str) -> Any:
    """The module of that name, or Absent if it is not installed."""
    if importlib.util.find_spec(name) is None:
        raise Absent(f"{name} is not installed")
    return importlib.import_module(name)


def _dtype_name(array: np.ndarray[Any, Any], precision: str) -> str:
    kinds = {"f64": ("float64", "complex128"), "f32": ("float32", "complex64")}
    return kinds[precision][int(np.iscomplexobj(array))]


class Manual:
    """A library whose gradients come from the hand-written VJPs: NumPy, CuPy, or any other of the Array API."""

    def __init__(self, frontend: Any, xp: Any, precision: str, device: Any, library: str) -> None:
        self.frontend, self.xp, self.precision, self.device, self.library = frontend, xp, precision, device, library

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """No settings."""
        return contextlib.nullcontext()

    def facts(self) -> dict[str, str]:
        """The library's version, and the device as it names it."""
        return {self.library: importlib.metadata.version(self.library), "device": str(self.device)}

    def asarray(self, array: Any) -> Any:
        """An array of the library in the target's precision."""
        dtype = getattr(self.xp, _dtype_name(np.asarray(array), self.precision))
        return self.xp.asarray(array, dtype=dtype, device=self.device)

    def to_numpy(self, array: Any) -> Any:
        """The values."""
        return np.asarray(array)

    def run(self, problem: Problem, inputs: Inputs, method: str, preset: str) -> Outcome:
        """Call ``solve_vjp`` and its pullback."""
        y0, params, ys_bar = (optree.tree_map(self.asarray, tree) for tree in (inputs.y0, inputs.params, inputs.ys_bar))
        options = {"method": method, "steps": problem.steps, "adjoint": preset}
        solution, pullback = self.frontend.solve_vjp(problem.field, y0, inputs.ts, params, **options)
        bars = pullback(ys_bar)
        got = {"ys": solution.ys, "y0_bar": bars.y0, "params_bar": bars.params, "ts_bar": bars.ts}
        return Outcome(got, {"ys": y0, "y0_bar": y0, "params_bar": params, "ts_bar": self.asarray(list(inputs.ts))})


class ReadOnlyNumPy(Manual):
    """NumPy with inputs that cannot be written to."""

    def asarray(self, array: Any) -> Any:
        """A read-only array."""
        made = np.array(array, dtype=_dtype_name(np.asarray(array), self.precision))
        made.flags.writeable = False
        return made


class Strict(Manual):
    """array-api-strict on one of its simulated devices; on ``device1`` with its strictest flags."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """No boolean masks, no shapes that depend on data, no extensions."""
        if str(self.device) != str(self.xp.Device("device1")):
            return contextlib.nullcontext()
        flags = self.xp.ArrayAPIStrictFlags
        return flags(boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=())

    def to_numpy(self, array: Any) -> Any:
        """The values, by way of the simulated CPU."""
        return np.asarray(array.to_device(self.xp.Device("CPU_DEVICE")))


class CuPy(Manual):
    """CuPy on a CUDA device."""

    def facts(self) -> dict[str, str]:
        """The version and the GPU's name."""
        name = self.xp.cuda.runtime.getDeviceProperties(self.device.id)["name"]
        return {"cupy": self.xp.__version__, "device": name.decode()}

    def to_numpy(self, array: Any) -> Any:
        """The values, copied from the device."""
        return self.xp.asnumpy(array)


class Torch:
    """PyTorch: gradients by autograd."""

    def __init__(self, torch: Any, precision: str, device: str) -> None:
        self.torch, self.precision, self.device = torch, precision, device
        self.frontend = importlib.import_module("janode.torch")

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Gradients are recorded whatever the surroundings say."""
        return self.torch.enable_grad()

    def facts(self) -> dict[str, str]:
        """The version and the GPU's name."""
        name = self.torch.cuda.get_device_name() if self.device == "cuda" else "cpu"
        return {"torch": self.torch.__version__, "device": name}

    def asarray(self, array: Any) -> Any:
        """A tensor in the target's precision that requires gradient."""
        dtype = getattr(self.torch, _dtype_name(array, self.precision))
        return self.torch.tensor(array, dtype=dtype, device=self.device).requires_grad_()

    def to_numpy(self, array: Any) -> Any:
        """The values."""
        return array.detach().cpu().numpy()

    def run(self, problem: Problem, inputs: Inputs, method: str, preset: str) -> Outcome:
        """Call ``solve`` and ``torch.autograd.grad``."""
        y0, params, ys_bar = (optree.tree_map(self.asarray, tree) for tree in (inputs.y0, inputs.params, inputs.ys_bar))
        ts = self.torch.tensor(inputs.ts, dtype=self.torch.float64, device=self.device, requires_grad=True)
        options = {"method": method, "steps": problem.steps, "adjoint": preset}
        ys = self.frontend.solve(problem.field, y0, ts, params, **options).ys
        arguments: Any = (y0, params, ts)
        leaves, spec = optree.tree_flatten(arguments)
        found = self.torch.autograd.grad(optree.tree_leaves(ys), leaves, optree.tree_leaves(ys_bar))
        y0_bar, params_bar, ts_bar = spec.unflatten(found)
        got = {"ys": ys, "y0_bar": y0_bar, "params_bar": params_bar, "ts_bar": ts_bar}
        return Outcome(got, {"ys": y0, "y0_bar": y0, "params_bar": params, "ts_bar": ts})


class Jax:
    """JAX: gradients by ``jax.vjp``, the whole of it compiled unless eager, with 64-bit types on or off."""

    def __init__(self, jax: Any, precision: str, device: Any, is_jitted: bool, x64: bool) -> None:
        self.jax, self.precision, self.device = jax, precision, device
        self.is_jitted, self.x64 = is_jitted, x64
        self.frontend = importlib.import_module("janode.jax")

    @contextlib.contextmanager
    def active(self) -> Any:
        """64-bit types as the target says, and no promotion that JAX can be told to refuse."""
        jax = self.jax
        with jax.enable_x64(self.x64), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            yield

    def facts(self) -> dict[str, str]:
        """The version and the device's kind."""
        return {"jax": self.jax.__version__, "device": self.device.device_kind}

    def asarray(self, array: Any) -> Any:
        """An array in the target's precision, on its device."""
        return self.jax.device_put(np.asarray(array, dtype=_dtype_name(np.asarray(array), self.precision)), self.device)

    def to_numpy(self, array: Any) -> Any:
        """The values."""
        return np.asarray(array)

    def run(self, problem: Problem, inputs: Inputs, method: str, preset: str) -> Outcome:
        """Call ``solve`` under ``jax.vjp``; JAX's gradients are the conjugates of the suite's."""
        jax = self.jax
        y0, params = (optree.tree_map(self.asarray, tree) for tree in (inputs.y0, inputs.params))
        ys_bar = optree.tree_map(lambda leaf: self.asarray(np.conj(leaf)), inputs.ys_bar)
        ts = jax.device_put(np.asarray(inputs.ts, dtype=np.float64 if self.x64 else np.float32), self.device)
        options = {"method": method, "steps": problem.steps, "adjoint": preset}

        def pull(y0: Tree, params: Tree, ts: Any, ys_bar: Tree) -> tuple[Tree, Sequence[Tree]]:
            ys, pullback = jax.vjp(lambda *args: self.solve(problem, args, options), y0, params, ts)
            return ys, pullback(ys_bar)

        ys, bars = (jax.jit(pull) if self.is_jitted else pull)(y0, params, ts, ys_bar)
        y0_bar, params_bar, ts_bar = jax.tree.map(jax.numpy.conj, bars)
        got = {"ys": ys, "y0_bar": y0_bar, "params_bar": params_bar, "ts_bar": ts_bar}
        return Outcome(got, {"ys": y0, "y0_bar": y0, "params_bar": params, "ts_bar": ts})

    def solve(self, problem: Problem, arguments: tuple[Any, ...], options: dict[str, Any]) -> Tree:
        """The states at all ts."""
        y0, params, ts = arguments
        return self.frontend.solve(problem.field, y0, ts, params, **options).ys

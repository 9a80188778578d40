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
from .watch import Watch, watch_jax, watch_numpy, watch_strict, watch_torch

Tree = Any
Options = dict[str, Any]


class Absent(Exception):
    """A target's library or device is not on this machine; the text says which."""


class Outcome(NamedTuple):
    """What a solve and its gradients gave: pytrees of the library's arrays by name, and what each must resemble."""

    got: dict[str, Tree]
    like: dict[str, Tree]


def solve_options(problem: Problem, method: str, preset: str, correction: str = "none") -> Options:
    """The keyword arguments of a solve, apart from arrays."""
    options: Options = {"method": method, "adjoint": preset, **problem.stepping()}
    if problem.controls is not None:
        options |= {"sampling": problem.sampling, "correction": correction}
    return options


def _tidy(got: dict[str, Tree], like: dict[str, Tree], inputs: Inputs) -> Outcome:
    """The outcome, without controls where there are none."""
    if inputs.controls is None:
        del got["controls_bar"], like["controls_bar"]
    return Outcome(got, like)


class Runtime(Protocol):
    """One library on one device in one precision."""

    precision: str

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """The settings under which every case runs."""

    def run(self, problem: Problem, inputs: Inputs, options: Options) -> Outcome:
        """Solve, and pull ys_bar back."""

    def watch(self, problem: Problem, inputs: Inputs, options: Options) -> Watch:
        """The same, watched: which arrays of double precision are made, and how often the host reads a number."""

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

    def run(self, problem: Problem, inputs: Inputs, options: Options) -> Outcome:
        """Call ``solve_vjp`` and its pullback."""
        trees = (inputs.y0, inputs.params, inputs.ys_bar, inputs.controls)
        y0, params, ys_bar, controls = (optree.tree_map(self.asarray, tree) for tree in trees)
        if controls is not None:
            options = {**options, "controls": controls}
        solution, pullback = self.frontend.solve_vjp(problem.field, y0, inputs.ts, params, **options)
        bars = pullback(ys_bar)
        got = {
            "ys": solution.ys,
            "y0_bar": bars.y0,
            "params_bar": bars.params,
            "ts_bar": bars.ts,
            "controls_bar": bars.controls,
        }
        ts = self.asarray(list(inputs.ts))
        like = {"ys": y0, "y0_bar": y0, "params_bar": params, "ts_bar": ts, "controls_bar": controls}
        return _tidy(got, like, inputs)

    def watch(self, problem: Problem, inputs: Inputs, options: Options) -> Watch:
        """Nothing can be seen of a library that nothing is known of."""
        raise NotImplementedError


class ReadOnlyNumPy(Manual):
    """NumPy with inputs that cannot be written to."""

    def asarray(self, array: Any) -> Any:
        """A read-only array."""
        made = np.array(array, dtype=_dtype_name(np.asarray(array), self.precision))
        made.flags.writeable = False
        return made

    def watch(self, problem: Problem, inputs: Inputs, options: Options) -> Watch:
        """Every array made from the inputs is noted."""
        return watch_numpy(self, problem, inputs, options)


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

    def watch(self, problem: Problem, inputs: Inputs, options: Options) -> Watch:
        """Every conversion of an array to a number is noted."""
        return watch_strict(self, problem, inputs, options)


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
        values = np.asarray(array, dtype=_dtype_name(array, self.precision))
        return self.torch.tensor(values, device=self.device).requires_grad_()

    def to_numpy(self, array: Any) -> Any:
        """The values."""
        return array.detach().cpu().numpy()

    def run(self, problem: Problem, inputs: Inputs, options: Options) -> Outcome:
        """Call ``solve`` and ``torch.autograd.grad``."""
        trees = (inputs.y0, inputs.params, inputs.ys_bar, inputs.controls)
        y0, params, ys_bar, controls = (optree.tree_map(self.asarray, tree) for tree in trees)
        ts = self.torch.tensor(inputs.ts, dtype=self.torch.float64, device=self.device, requires_grad=True)
        if controls is not None:
            options = {**options, "controls": controls}
        ys = self.frontend.solve(problem.field, y0, ts, params, **options).ys
        like: Any = {"y0_bar": y0, "params_bar": params, "ts_bar": ts, "controls_bar": controls}
        leaves, spec = optree.tree_flatten(like)
        found = self.torch.autograd.grad(
            optree.tree_leaves(ys), leaves, optree.tree_leaves(ys_bar), allow_unused=True, materialize_grads=True
        )
        return _tidy({"ys": ys, **spec.unflatten(found)}, {"ys": y0, **like}, inputs)

    def watch(self, problem: Problem, inputs: Inputs, options: Options) -> Watch:
        """Every operation that PyTorch dispatches is noted."""
        return watch_torch(self, problem, inputs, options)


class Jax:
    """JAX: gradients by ``jax.vjp``, the whole of it compiled unless eager, with 64-bit types on or off."""

    def __init__(self, jax: Any, precision: str, device: Any, is_jitted: bool, x64: bool) -> None:
        self.jax, self.precision, self.device = jax, precision, device
        self.is_jitted, self.x64 = is_jitted, x64
        self._last: tuple[Any, Any] = (None, None)
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

    def arguments(self, inputs: Inputs) -> tuple[Any, ...]:
        """What ``pull`` takes."""
        y0, params, controls = (
            optree.tree_map(self.asarray, tree) for tree in (inputs.y0, inputs.params, inputs.controls)
        )
        ys_bar = optree.tree_map(lambda leaf: self.asarray(np.conj(leaf)), inputs.ys_bar)
        ts = self.jax.device_put(np.asarray(inputs.ts, dtype=np.float64 if self.x64 else np.float32), self.device)
        return (y0, params, ts, controls), ys_bar

    def pull(self, problem: Problem, options: Options) -> Any:
        """The function from arguments and cotangents to the states at all ts and the cotangents of the arguments."""

        def solve(y0: Tree, params: Tree, ts: Any, controls: Tree) -> Tree:
            given = {} if controls is None else {"controls": controls}
            return self.frontend.solve(problem.field, y0, ts, params, **options, **given).ys

        def pull(arguments: tuple[Any, ...], ys_bar: Tree) -> tuple[Tree, Sequence[Tree]]:
            ys, pullback = self.jax.vjp(solve, *arguments)
            return ys, pullback(ys_bar)

        return pull

    def run(self, problem: Problem, inputs: Inputs, options: Options) -> Outcome:
        """Call ``solve`` under ``jax.vjp``; JAX's gradients are the conjugates of the suite's."""
        key = (problem, tuple(options.items()))
        if self._last[0] != key:  # an invariant calls the same program many times
            pull = self.pull(problem, options)
            self._last = key, self.jax.jit(pull) if self.is_jitted else pull
        arguments, ys_bar = self.arguments(inputs)
        ys, bars = self._last[1](arguments, ys_bar)
        names = ("y0_bar", "params_bar", "ts_bar", "controls_bar")
        like = dict(zip(names, arguments, strict=True))
        got = dict(zip(names, self.jax.tree.map(self.jax.numpy.conj, bars), strict=True))
        return _tidy({"ys": ys, **got}, {"ys": arguments[0], **like}, inputs)

    def watch(self, problem: Problem, inputs: Inputs, options: Options) -> Watch:
        """The traced program is looked through."""
        return watch_jax(self, problem, inputs, options)

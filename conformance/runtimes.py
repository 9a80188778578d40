"""How a case is run by each array library: inputs made, the solve called as a user would, all gradients asked for.

Every runtime gives the same outcome: the states at all ts, what is read from inside steps, and the gradients of ``sum
<ys_bar, ys>`` and so on, in the convention dL/dx + i dL/dy, each with the input it must resemble in namespace, device
and dtype.
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
    lacks: frozenset[str] = frozenset()
    """What the library refuses to give, as its manual says."""


def solve_options(problem: Problem, method: str, preset: str, correction: str = "none") -> Options:
    """The keyword arguments of a solve, apart from arrays."""
    options: Options = {"method": method, "adjoint": preset, **problem.stepping()}
    if problem.is_sampled:
        options |= {"sampling": problem.sampling, "correction": correction}
    return options


def _tidy(got: dict[str, Tree], like: dict[str, Tree], inputs: Inputs) -> Outcome:
    """The outcome, without controls where there are none."""
    if inputs.controls is None:
        del got["controls_bar"], like["controls_bar"]
    return Outcome(got, {name: like[name] for name in got})


def _read(problem: Problem, solution: Any) -> dict[str, Tree]:
    """What a solution says: the states at ts, the time and the state of its event, and a state between steps."""
    read = {"ys": problem.states(solution.ys)}
    if problem.event is not None:
        read |= {"event_t": solution.event.t, "event_y": solution.event.y}
    if problem.place is not None:
        read["between"] = solution.interpolant(problem.place)
    return read


def pulled(problem: Problem, ys_bar: Tree, event_bar: Any, place_bar: Tree) -> dict[str, Tree]:
    """The cotangents of what is read."""
    bars = {"ys": problem.states(ys_bar)}
    if event_bar is not None:
        bars |= {"event_t": event_bar[0], "event_y": event_bar[1]}
    return bars if place_bar is None else {**bars, "between": place_bar}


def _as_y0(y0: Tree, time: Any) -> dict[str, Tree]:
    """What each reading must resemble."""
    return {"ys": y0, "event_t": time, "event_y": y0, "between": y0}


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
        trees: Any = (inputs.y0, inputs.params, inputs.ys_bar, inputs.controls, inputs.event_bar, inputs.place_bar)
        made: Any = [optree.tree_map(self.asarray, tree) for tree in trees]
        y0, params, ys_bar, controls, event_bar, place_bar = made
        options = {**options, **problem.given(controls)}
        solution, pullback = self.frontend.solve_vjp(problem.field, y0, inputs.ts, params, **options)
        more: dict[str, Any] = {}
        if event_bar is not None:
            more["event_bar"] = (float(event_bar[0]), event_bar[1])
            solution.event.t = self.asarray(solution.event.t)  # a Python float
        if place_bar is not None:
            bars_of_place = tuple(optree.tree_leaves(place_bar))
            more["dense_bar"] = solution.interpolant.vjp(problem.place, bars_of_place)[1]
        bars = pullback(ys_bar, **more)
        got = {
            **_read(problem, solution),
            "y0_bar": bars.y0,
            "params_bar": bars.params,
            "ts_bar": bars.ts,
            "controls_bar": bars.controls,
        }
        ts = self.asarray(list(inputs.ts))
        like = {**_as_y0(y0, ts), "y0_bar": y0, "params_bar": params, "ts_bar": ts, "controls_bar": controls}
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
        trees: Any = (inputs.y0, inputs.params, inputs.controls, (inputs.ys_bar, inputs.event_bar, inputs.place_bar))
        made: Any = [optree.tree_map(self.asarray, tree) for tree in trees]
        y0, params, controls, bars = made
        ts = self.torch.tensor(inputs.ts, dtype=self.torch.float64, device=self.device, requires_grad=True)
        options = {**options, **problem.given(controls)}
        read = _read(problem, self.frontend.solve(problem.field, y0, ts, params, **options))
        like: Any = {"y0_bar": y0, "params_bar": params, "ts_bar": ts, "controls_bar": controls}
        leaves, spec = optree.tree_flatten(like)
        pair: Any = (read, pulled(problem, *bars))
        outputs, read_bars = map(optree.tree_leaves, pair)
        found = self.torch.autograd.grad(outputs, leaves, read_bars, allow_unused=True, materialize_grads=True)
        return _tidy({**read, **spec.unflatten(found)}, {**_as_y0(y0, optree.tree_leaves(y0)[0]), **like}, inputs)

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
        trees: Any = (inputs.ys_bar, inputs.event_bar, inputs.place_bar)
        bars = optree.tree_map(lambda leaf: self.asarray(np.conj(leaf)), trees)
        ts = self.jax.device_put(np.asarray(inputs.ts, dtype=np.float64 if self.x64 else np.float32), self.device)
        return (y0, params, ts, controls), bars

    def pull(self, problem: Problem, options: Options, known_ts: tuple[float, ...] | None = None) -> Any:
        """The function from arguments and cotangents to what is read and the cotangents of the arguments."""

        def solve(y0: Tree, params: Tree, traced_ts: Any, controls: Tree) -> Tree:
            ts = traced_ts if known_ts is None else known_ts
            given = {**options, **problem.given(controls)}
            return _read(problem, self.frontend.solve(problem.field, y0, ts, params, **given))

        def pull(arguments: tuple[Any, ...], bars: tuple[Any, ...]) -> tuple[Tree, Sequence[Tree]]:
            read, pullback = self.jax.vjp(solve, *arguments)
            read_bars = pulled(problem, *bars)
            if "event_t" in read:  # in the dtype of times
                read_bars["event_t"] = read_bars["event_t"].astype(read["event_t"].dtype)
            return read, pullback(read_bars)

        return pull

    def run(self, problem: Problem, inputs: Inputs, options: Options) -> Outcome:
        """Call ``solve`` under ``jax.vjp``; JAX's gradients are the conjugates of the suite's."""
        key = (problem, tuple(options.items()))
        if self._last[0] != key:  # an invariant calls the same program many times
            pull = self.pull(problem, options, inputs.ts if self._needs_ts(problem) else None)
            self._last = key, self.jax.jit(pull) if self.is_jitted else pull
        arguments, given_bars = self.arguments(inputs)
        read, bars = self._last[1](arguments, given_bars)
        names = ("y0_bar", "params_bar", "ts_bar", "controls_bar")
        like = dict(zip(names, arguments, strict=True))
        got = dict(zip(names, self.jax.tree.map(self.jax.numpy.conj, bars), strict=True))
        outcome = _tidy({**read, **got}, {**_as_y0(arguments[0], arguments[2]), **like}, inputs)
        return outcome._replace(lacks=frozenset(["ts_bar"])) if self._needs_ts(problem) else outcome

    def _needs_ts(self, problem: Problem) -> bool:
        """Whether ts must be known when the solve is traced: where adaptive steps end at knots."""
        return bool(problem.knots) and problem.tolerances is not None

    def watch(self, problem: Problem, inputs: Inputs, options: Options) -> Watch:
        """The traced program is looked through."""
        return watch_jax(self, problem, inputs, options)

"""Layers with hand-written VJPs on Array API calls: a neural field for any array library, without its autodiff."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import InputError, unknown_name
from .layer import Layer, Params, Pull
from .protocols import Array


@dataclass(frozen=True)
class Linear(Layer):
    """out = x weight^T + bias, with params ``{"weight": (out_features, in_features), "bias": (out_features,)}``.

    Args:
        in_features, out_features: positive integers.

    Raises:
        InputError: a size is not a positive integer; when used: x, weight or bias differ from the sizes, or the
            parameters from x's dtype.

    Initial weights and biases are uniform on [-1/sqrt(in_features), 1/sqrt(in_features)], as ``torch.nn.Linear``'s.

    Example:
        >>> import numpy as np
        >>> params = {"weight": np.array([[1.0, 2.0]]), "bias": np.array([0.5])}
        >>> Linear(2, 1)(np.array(0.0), np.array([[1.0, 1.0], [0.0, 1.0]]), params)
        array([[3.5],
               [2.5]])
    """

    in_features: int
    out_features: int

    def __post_init__(self) -> None:
        """Refuse sizes that are not positive integers."""
        for name, size in (("in_features", self.in_features), ("out_features", self.out_features)):
            if not _is_size(size):
                raise InputError(f"Linear: {name} must be a positive integer; got {size!r}. Count the features.")

    def init(self, rng: Any, xp: Any, dtype: Any, device: Any = None) -> Params:
        """Draw weight, then bias, uniformly; see ``Layer.init``."""
        bound = 1 / math.sqrt(self.in_features)
        return {
            name: xp.asarray(rng.uniform(-bound, bound, shape), dtype=dtype, device=device)
            for name, shape in self._shapes().items()
        }

    def linearize_with(self, xp: Any, t: Array, x: Array, params: Params) -> tuple[Array, Pull]:
        """x_bar = out_bar weight, weight_bar = out_bar^T x and bias_bar = out_bar summed over the batch."""
        self._check(x, params)
        weight, bias = params["weight"], params["bias"]
        # The bias gets x's rank by hand: JAX can be set to refuse implicit rank promotion.
        out = x @ weight.mT + xp.reshape(bias, (1,) * (x.ndim - 1) + (self.out_features,))

        def pull(out_bar: Array) -> tuple[None, Array, Params]:
            batch = math.prod(x.shape[:-1])
            out_rows_bar = xp.reshape(out_bar, (batch, self.out_features))
            rows = xp.reshape(x, (batch, self.in_features))
            params_bar = {"weight": out_rows_bar.mT @ rows, "bias": xp.sum(out_rows_bar, axis=0)}
            return None, out_bar @ weight, params_bar

        return out, pull

    def push_with(
        self, xp: Any, t: Array, x: Array, params: Params, t_dot: Array, x_dot: Array, params_dot: Params
    ) -> tuple[Array, Array]:
        """out_dot = x_dot weight^T + x weight_dot^T + bias_dot."""
        out_dot, _ = self.linearize_with(xp, t, x, params_dot)
        return self.linearize_with(xp, t, x, params)[0], out_dot + x_dot @ params["weight"].mT

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}

    def _check(self, x: Array, params: Params) -> None:
        if x.shape[-1] != self.in_features:
            raise InputError(
                f"{self}: x must have {self.in_features} features on its last axis; got shape {tuple(x.shape)}. "
                "Match the layer's sizes to the state."
            )
        shapes = self._shapes()
        if not isinstance(params, Mapping) or params.keys() != shapes.keys():
            raise InputError(
                f"{self}: params must be a dict of weight and bias; got {_names(params)}. Take them from init."
            )
        for name, shape in shapes.items():
            array = params[name]
            if array.shape != shape or array.dtype != x.dtype:
                raise InputError(
                    f"{self}: {name} must have shape {shape} and x's dtype {x.dtype}; "
                    f"got {tuple(array.shape)} and {array.dtype}. Take params from init of this layer."
                )


def _is_size(size: object) -> bool:
    return isinstance(size, int) and size > 0


def _names(params: Params) -> str:
    return f"the keys {list(params)}" if isinstance(params, Mapping) else type(params).__name__


class Elementwise(Layer):
    """A function of each element alone: its Jacobian is diagonal, so that it pushes as it pulls."""

    def push_with(
        self, xp: Any, t: Array, x: Array, params: Params, t_dot: Array, x_dot: Array, params_dot: Params
    ) -> tuple[Array, Array]:
        """out_dot = out'(x) x_dot."""
        out, pull = self.linearize_with(xp, t, x, params)
        return out, pull(x_dot)[1]


@dataclass(frozen=True)
class Tanh(Elementwise):
    """out = tanh(x), element by element; no parameters.

    Example:
        >>> import numpy as np
        >>> Tanh()(np.array(0.0), np.array([0.0, 50.0]), ())
        array([0., 1.])
    """

    def linearize_with(self, xp: Any, t: Array, x: Array, params: Params) -> tuple[Array, Pull]:
        """x_bar = out_bar (1 - out^2)."""
        out = xp.tanh(x)
        return out, lambda out_bar: (None, out_bar * (1.0 - out * out), ())


@dataclass(frozen=True)
class Softplus(Elementwise):
    """out = log(1 + exp(x)), element by element, without overflow for any finite x; no parameters.

    Example:
        >>> import numpy as np
        >>> Softplus()(np.array(0.0), np.array([-1000.0, 1000.0]), ())
        array([   0., 1000.])
    """

    def linearize_with(self, xp: Any, t: Array, x: Array, params: Params) -> tuple[Array, Pull]:
        """x_bar = out_bar sigmoid(x), where sigmoid(x) = 1 - exp(-out)."""
        out = xp.logaddexp(x, xp.zeros_like(x))
        # expm1 of what is kept anyway: accurate for every x, where 1/(1 + exp(-x)) overflows below x = -709.
        return out, lambda out_bar: (None, out_bar * -xp.expm1(-out), ())


@dataclass(frozen=True)
class ReLU(Elementwise):
    """out = max(x, 0), element by element, with derivative 0 at 0; NaN stays NaN; no parameters.

    Example:
        >>> import numpy as np
        >>> ReLU().vjp(np.array(0.0), np.array([-1.0, 0.0, 1.0]), (), np.ones(3))[1]
        array([0., 0., 1.])
    """

    def linearize_with(self, xp: Any, t: Array, x: Array, params: Params) -> tuple[Array, Pull]:
        """x_bar = out_bar where x > 0, else 0."""
        # Not maximum(x, 0): torch and JAX would share its derivative at 0 between both arguments.
        is_off = x <= 0
        out = xp.where(is_off, xp.zeros_like(x), x)
        return out, lambda out_bar: (None, xp.where(is_off, xp.zeros_like(out_bar), out_bar), ())


@dataclass(frozen=True)
class ConcatTime(Layer):
    """out = (x, t): the time, rounded to x's dtype, as one more feature after x's; no parameters.

    Raises:
        InputError: when used: t is not a 0-d real floating array.

    Example:
        >>> import numpy as np
        >>> ConcatTime()(np.array(0.5), np.array([[1.0, 2.0], [3.0, 4.0]]), ())
        array([[1. , 2. , 0.5],
               [3. , 4. , 0.5]])
    """

    def linearize_with(self, xp: Any, t: Array, x: Array, params: Params) -> tuple[Array, Pull]:
        """t_bar = the last feature of out_bar, summed over the batch, in t's dtype; x_bar = the others."""
        if getattr(t, "shape", None) != () or not xp.isdtype(t.dtype, "real floating"):
            got = f"shape {tuple(t.shape)}, dtype {t.dtype}" if hasattr(t, "shape") else repr(t)
            raise InputError(f"ConcatTime: t must be a 0-d real floating array; got {got}. Give an array of x's dtype.")
        column = xp.broadcast_to(xp.astype(t, x.dtype), (*x.shape[:-1], 1))

        def pull(out_bar: Array) -> tuple[Array, Array, Params]:
            return xp.astype(xp.sum(out_bar[..., -1]), t.dtype), out_bar[..., :-1], ()

        return xp.concat([x, column], axis=-1), pull

    def push_with(
        self, xp: Any, t: Array, x: Array, params: Params, t_dot: Array, x_dot: Array, params_dot: Params
    ) -> tuple[Array, Array]:
        """out_dot = (x_dot, t_dot)."""
        return self.linearize_with(xp, t, x, ())[0], self.linearize_with(xp, t_dot, x_dot, ())[0]


@dataclass(frozen=True)
class Sequential(Layer):
    """out = layers[-1](t, ... layers[0](t, x, params[0]) ..., params[-1]); params is a tuple, one entry per layer.

    Args:
        layers: a tuple of layers, first to act first; an empty one is the identity.

    Raises:
        InputError: layers is not a tuple of layers; when used: params is not a tuple of as many entries.

    Example:
        >>> import numpy as np
        >>> net = Sequential((Tanh(), ReLU()))
        >>> net(np.array(0.0), np.array([-1.0, 50.0]), ((), ()))
        array([0., 1.])
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Refuse anything but a tuple of layers."""
        if not isinstance(self.layers, tuple) or not all(isinstance(layer, Layer) for layer in self.layers):
            raise InputError(
                f"Sequential: layers must be a tuple of layers; got {self.layers!r}. Give instances, as (Tanh(),)."
            )

    def init(self, rng: Any, xp: Any, dtype: Any, device: Any = None) -> Params:
        """Draw the parameters of each layer in turn; see ``Layer.init``."""
        return tuple(layer.init(rng, xp, dtype, device) for layer in self.layers)

    def linearize_with(self, xp: Any, t: Array, x: Array, params: Params) -> tuple[Array, Pull]:
        """The chain rule, last layer first; t_bar sums over the layers that use t."""
        self._check(params)
        pulls: list[Pull] = []
        for layer, layer_params in zip(self.layers, params, strict=True):
            x, pull_layer = layer.linearize_with(xp, t, x, layer_params)
            pulls.append(pull_layer)

        def pull(out_bar: Array) -> tuple[Array | None, Array, Params]:
            t_bar, x_bar, params_bar = None, out_bar, []
            for pull_layer in reversed(pulls):
                layer_t_bar, x_bar, layer_params_bar = pull_layer(x_bar)
                if layer_t_bar is not None:
                    t_bar = layer_t_bar if t_bar is None else t_bar + layer_t_bar
                params_bar.append(layer_params_bar)
            return t_bar, x_bar, tuple(reversed(params_bar))

        return x, pull

    def push_with(
        self, xp: Any, t: Array, x: Array, params: Params, t_dot: Array, x_dot: Array, params_dot: Params
    ) -> tuple[Array, Array]:
        """The chain rule, first layer first."""
        self._check(params)
        for layer, own, own_dot in zip(self.layers, params, params_dot, strict=True):
            x, x_dot = layer.push_with(xp, t, x, own, t_dot, x_dot, own_dot)
        return x, x_dot

    def _check(self, params: Params) -> None:
        if not isinstance(params, tuple) or len(params) != len(self.layers):
            got = f"{len(params)} entries" if isinstance(params, tuple) else type(params).__name__
            raise InputError(
                f"Sequential: params must be a tuple of {len(self.layers)} entries, one per layer; got {got}. "
                "Take them from init."
            )


ACTIVATIONS: dict[str, Layer] = {"tanh": Tanh(), "softplus": Softplus(), "relu": ReLU()}


def MLP(sizes: Sequence[int], activation: str = "tanh", time: bool = False) -> Sequential:
    """Build Linear layers of the given widths with an activation between each two, none after the last.

    Args:
        sizes: two or more positive integers: features in, hidden widths, features out.
        activation: "tanh", "softplus" or "relu".
        time: whether t enters as one more input feature, through ConcatTime in front.

    Returns:
        A ``Sequential``; as a field of an ODE its first and last size are the features of the state.

    Raises:
        InputError: fewer than two sizes, a size that is not a positive integer, or an unknown activation.

    Example:
        >>> MLP((2, 8, 2), activation="relu").layers
        (Linear(in_features=2, out_features=8), ReLU(), Linear(in_features=8, out_features=2))
    """
    if len(sizes) < 2 or not all(_is_size(size) for size in sizes):
        raise InputError(
            f"MLP: sizes must be two or more positive integers; got {tuple(sizes)!r}. Name features in and out."
        )
    if activation not in ACTIVATIONS:
        raise unknown_name("MLP", "activation", activation, ACTIVATIONS)
    layers: list[Layer] = [ConcatTime()] if time else []
    features = sizes[0] + 1 if time else sizes[0]
    for size in sizes[1:]:
        layers += [Linear(features, size), ACTIVATIONS[activation]]
        features = size
    return Sequential(tuple(layers[:-1]))

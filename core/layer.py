"""What a layer is: a function that brings its derivative, backwards and forwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from array_api_compat import array_namespace

from .errors import InputError
from .protocols import Array

Params = Any
"""A pytree: a dict of arrays (Linear), ``()`` (a layer without parameters) or a tuple of these (Sequential)."""
Pull = Callable[[Array], tuple[Array | None, Array, Params]]
"""out_bar -> (t_bar, x_bar, params_bar); t_bar is None where the layer ignores t."""


class Layer(ABC):
    """A function out = layer(t, x, params) that knows its own derivative; it holds structure, never arrays.

    A layer of one's own is a frozen dataclass that gives ``linearize_with`` and, if it has parameters, ``init``.
    """

    def init(self, rng: Any, xp: Any, dtype: Any, device: Any = None) -> Params:
        """Draw initial parameters, bitwise the same in every array library for the same state of ``rng``.

        Args:
            rng: a ``numpy.random.Generator``; draws are float64, weight before bias, first layer first.
            xp: the Array API namespace that makes the arrays.
            dtype: the real floating dtype of ``xp`` that each draw is rounded to.
            device: a device of ``xp``; None is its default (on JAX leave it None).

        Returns:
            The pytree ``params``; ``()`` for a layer without parameters.

        Example:
            >>> import numpy as np
            >>> from janode.core.layers import MLP
            >>> params = MLP((2, 8, 2)).init(np.random.default_rng(0), np, np.float32)
            >>> params[0]["weight"].shape, params[1], params[2]["bias"].dtype
            ((8, 2), (), dtype('float32'))
        """
        return ()

    @abstractmethod
    def linearize_with(self, xp: Any, t: Array, x: Array, params: Params) -> tuple[Array, Pull]:
        """Compute what ``linearize`` returns, in the namespace of x; the part that each layer writes.

        Args:
            xp: the Array API namespace of x.
            t, x, params: as in ``linearize``, x already checked.

        Returns:
            (out, pull). ``pull`` may be called more than once, keeps what it needs and changes none of it.

        Example:
            >>> import numpy as np
            >>> from janode.core.layers import Tanh
            >>> out, pull = Tanh().linearize_with(np, np.array(0.0), np.zeros(1), ())
            >>> pull(np.ones(1))[1]
            array([1.])
        """

    def linearize(self, t: Array, x: Array, params: Params) -> tuple[Array, Pull]:
        """Compute out = layer(t, x, params) and its pullback; the pullback recomputes nothing.

        Args:
            t: 0-d real floating array, the time; many layers ignore it.
            x: real floating array of shape (..., features); any batch shape, none and empty ones included.
            params: what ``init`` returns, in x's dtype and on its device.

        Returns:
            (out, pull): out of shape (..., features_out), and pull(out_bar) -> (t_bar, x_bar, params_bar), the
            cotangents in the structure, shapes and dtypes of t, x and params; t_bar is None if t is ignored.

        Raises:
            InputError: x is not real floating (complex, integer, boolean) or is 0-d; x or params do not fit the
                layer; from pull: out_bar differs from out in shape or dtype.

        Cost: one evaluation, and one VJP per call of pull; holds each layer's input or output until pull is dropped.

        Example:
            >>> import numpy as np
            >>> from janode.core.layers import Tanh
            >>> out, pull = Tanh().linearize(np.array(0.0), np.zeros((1, 2)), ())
            >>> pull(np.ones((1, 2)))
            (None, array([[1., 1.]]), ())
        """
        xp, name = self._namespace(x), type(self).__name__
        out, pull = self.linearize_with(xp, t, x, params)
        shape, dtype = out.shape, out.dtype

        def checked_pull(out_bar: Array) -> tuple[Array | None, Array, Params]:
            if out_bar.shape != shape or out_bar.dtype != dtype:
                raise InputError(
                    f"{name}: out_bar must have the shape and dtype of the output, {tuple(shape)} and {dtype}; "
                    f"got {tuple(out_bar.shape)} and {out_bar.dtype}. Reshape or cast the cotangent."
                )
            return pull(out_bar)

        return out, checked_pull

    def __call__(self, t: Array, x: Array, params: Params) -> Array:
        """Compute out = layer(t, x, params); arguments, errors and cost of the evaluation as in ``linearize``.

        Example:
            >>> import numpy as np
            >>> from janode.core.layers import ReLU
            >>> ReLU()(np.array(0.0), np.array([-1.0, 2.0]), ())
            array([0., 2.])
        """
        return self.linearize(t, x, params)[0]

    def vjp(self, t: Array, x: Array, params: Params, out_bar: Array) -> tuple[Array | None, Array, Params]:
        """Compute (t_bar, x_bar, params_bar) = out_bar^T d layer / d(t, x, params): ``linearize``, then pull.

        Example:
            >>> import numpy as np
            >>> from janode.core.layers import ReLU
            >>> ReLU().vjp(np.array(0.0), np.array([-1.0, 2.0]), (), np.array([3.0, 3.0]))
            (None, array([0., 3.]), ())
        """
        return self.linearize(t, x, params)[1](out_bar)

    def push_with(
        self, xp: Any, t: Array, x: Array, params: Params, t_dot: Array, x_dot: Array, params_dot: Params
    ) -> tuple[Array, Array]:
        """Compute what ``push`` returns, in the namespace of x; a layer of one's own writes it for forward mode.

        Example:
            >>> import numpy as np
            >>> from janode.core.layers import Tanh
            >>> Tanh().push_with(np, np.array(0.0), np.zeros(1), (), np.array(0.0), np.ones(1), ())
            (array([0.]), array([1.]))
        """
        name = type(self).__name__
        raise InputError(f"{name}: a layer must bring push_with for forward mode; got one without. Write it.")

    def push(
        self, t: Array, x: Array, params: Params, t_dot: Array, x_dot: Array, params_dot: Params
    ) -> tuple[Array, Array]:
        """Compute (out, out_dot): the value, and its derivative along the tangents of t, x and params.

        Args:
            t, x, params: as for ``linearize``.
            t_dot, x_dot, params_dot: their tangents, of the same structure, shapes and dtypes.

        Raises:
            InputError: as for ``linearize``; the layer does not write ``push_with``.

        Cost: one evaluation and one JVP.

        Example:
            >>> import numpy as np
            >>> from janode.core.layers import Tanh
            >>> Tanh().push(np.array(0.0), np.zeros(2), (), np.array(0.0), np.array([1.0, 2.0]), ())
            (array([0., 0.]), array([1., 2.]))
        """
        return self.push_with(self._namespace(x), t, x, params, t_dot, x_dot, params_dot)

    def _namespace(self, x: Array) -> Any:
        """The namespace of x, which must be real floating."""
        xp = array_namespace(x)
        if x.ndim == 0 or not xp.isdtype(x.dtype, "real floating"):
            raise InputError(
                f"{type(self).__name__}: x must be a real floating array of shape (..., features); got shape "
                f"{tuple(x.shape)}, dtype {x.dtype}. Cast integers; give a complex state as its real and imaginary "
                "parts."
            )
        return xp

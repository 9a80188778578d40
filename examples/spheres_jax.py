"""The same in JAX, in a loop of ``jax.grad`` and Adam: ``python -m examples.spheres_jax``.

The number of steps is static, so JAX compiles the training step anew when the monitor changes it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import janode.jax as jo
from examples.spheres import make_spheres

SPAN = [0.0, 1.0]
RATE = 2e-3


def first_params(seed: int) -> dict[str, Any]:
    draw, params = np.random.default_rng(seed), {}
    for name, fan_in, fan_out, scale in (("a", 3, 32, 1.0), ("b", 32, 32, 1.0), ("c", 32, 3, 0.1), ("out", 3, 2, 1.0)):
        weights = scale * np.sqrt(2 / fan_in) * draw.normal(size=(fan_in, fan_out))
        params[name] = (jnp.asarray(weights, jnp.float32), jnp.zeros(fan_out, jnp.float32))
    return params


def dense(layer: tuple[Any, Any], y: Any) -> Any:
    return y @ layer[0] + layer[1]


def field(t: Any, y: Any, params: dict[str, Any]) -> Any:
    return dense(params["c"], jax.nn.relu(dense(params["b"], jax.nn.relu(dense(params["a"], y)))))


def scores(params: dict[str, Any], points: Any, method: Any, steps: int) -> Any:
    own = {name: params[name] for name in "abc"}
    return dense(params["out"], jo.solve(field, points, SPAN, own, method=method, steps=steps).ys[-1])


@partial(jax.jit, static_argnames=("method", "steps"))
def is_right(params: dict[str, Any], points: Any, labels: Any, method: Any, steps: int) -> Any:
    return jnp.argmax(scores(params, points, method, steps), axis=-1) == labels


@partial(jax.jit, static_argnames="steps")
def training_step(params: Any, state: Any, points: Any, labels: Any, steps: int) -> Any:
    """One step of Adam; optax's ``update`` and ``apply_updates`` would stand here as well."""

    def loss(params: Any) -> Any:
        chosen = jnp.take_along_axis(
            jax.nn.log_softmax(scores(params, points, "euler", steps)), labels[:, None], axis=1
        )
        return -jnp.mean(chosen)

    mean, square, count = state
    slope = jax.grad(loss)(params)
    count = count + 1
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
    square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, slope)

    def moved(p: Any, m: Any, v: Any) -> Any:
        return p - RATE * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)

    return jax.tree.map(moved, params, mean, square), (mean, square, count)


def main(iterations: int = 1000) -> tuple[jo.StepSizeMonitor, jo.Validity]:
    points, labels = make_spheres(2000, seed=0)
    params = first_params(seed=0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (zeros, zeros, jnp.zeros((), jnp.float32))
    monitor = jo.StepSizeMonitor(T=1.0, h=jo.starting_step(field, points, SPAN, params))
    draw = np.random.default_rng(0)
    for iteration in range(1, iterations + 1):
        chosen = draw.integers(0, len(points), 128)
        batch = points[chosen], labels[chosen]
        params, state = training_step(params, state, *batch, steps=monitor.steps)
        if monitor.is_due(iteration):

            def evaluate(method: Any, h: float, params: Any = params, batch: Any = batch) -> Any:
                return is_right(params, *batch, method=method, steps=monitor.steps_of(h))

            check = monitor.update(evaluate, iteration)
            print(f"{iteration:5d}  h {check.before:.3f} -> {check.after:.3f}  difference {check.difference:.2f}")
    points, labels = make_spheres(1000, seed=1)
    found = jo.validate(
        field,
        points,
        SPAN,
        {name: params[name] for name in "abc"},
        trained_with=("euler", monitor.h),
        metric=lambda ys: jnp.argmax(dense(params["out"], ys[-1]), axis=-1) == labels,
    )
    print(found)
    return monitor, found


if __name__ == "__main__":
    main()

"""JAX solves on several devices: shardings stay, shards are solved by themselves, mixed devices are refused."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import json, sys
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import janode.jax as jo

W = jnp.array([[0.3, -0.2], [0.5, 0.1]])
Y0 = jnp.linspace(-1.0, 1.0, 16).reshape(8, 2)
TS = [0.0, 0.5, 1.0]
found = {}

def field(t, y, W):
    return jnp.tanh(y @ W) * jnp.cos(t)

def solved(y0, W, adjoint):
    return jo.solve(field, y0, TS, W, method="midpoint", adjoint=adjoint, steps=2).ys

def size(y0, W, adjoint):
    return jnp.sum(jnp.cos(solved(y0, W, adjoint)))

def note(name, ys, gradient):
    wanted = jax.jit(jax.grad(size, argnums=(0, 1)), static_argnums=2)(Y0, W, "symplectic")
    errors = [float(jnp.max(jnp.abs(jax.device_get(got) - want))) for got, want in zip(gradient, wanted)]
    specs = [list(leaf.sharding.spec) + [None] * (leaf.ndim - len(leaf.sharding.spec)) for leaf in (ys, *gradient)]
    found[name] = {"specs": specs, "error": max(errors), "devices": [len(leaf.devices()) for leaf in (ys, *gradient)]}

for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(kind,))
    y0, weights = jax.device_put(Y0, NamedSharding(mesh, P("batch"))), jax.device_put(W, NamedSharding(mesh, P()))
    with jax.set_mesh(mesh):
        for adjoint in ("symplectic", "backprop"):
            jitted = jax.jit(lambda y0, W: (solved(y0, W, adjoint), jax.grad(size, argnums=(0, 1))(y0, W, adjoint)))
            note(f"{kind.name}-{adjoint}", *jitted(y0, weights))
        eager = solved(y0, weights, "symplectic"), jax.grad(size, argnums=(0, 1))(y0, weights, "symplectic")
        note(f"{kind.name}-eager", *eager)

mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
for adjoint in ("symplectic", "backprop"):
    mapped = jax.shard_map(
        lambda y0, W: solved(y0, W, adjoint), mesh=mesh, in_specs=(P("batch"), P()), out_specs=P(None, "batch")
    )
    gradient = jax.jit(jax.grad(lambda y0, W: jnp.sum(jnp.cos(mapped(y0, W))), argnums=(0, 1)))
    note(f"shard_map-{adjoint}", jax.jit(mapped)(Y0, W), gradient(Y0, W))

def refused(solve):
    try:
        solve()
    except jo.InputError as error:
        return str(error)

first, second = (jax.device_put(jnp.ones(2), device) for device in jax.devices()[:2])
solve = lambda field, y0, **rest: jo.solve(field, y0, TS, method="euler", steps=1, **rest)
found["mixed"] = {
    "state": refused(lambda: solve(lambda t, y: y, {"a": first, "b": second})),
    "params": refused(lambda: solve(lambda t, y, p: p * y, first, params=second)),
    "captured": refused(lambda: solve(lambda t, y: second * y, first)),
    "controls": refused(lambda: solve(lambda t, y, u: u * y, first, controls=jnp.stack([second] * 2))),
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What a process with four devices finds."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout))


@pytest.mark.parametrize("way", ["symplectic", "backprop", "eager"])
@pytest.mark.parametrize("axes", ["Auto", "Explicit"])
def test_a_sharded_batch_stays_sharded(axes: str, way: str, found: dict[str, Any]) -> None:
    case = found[f"{axes}-{way}"]
    assert case["specs"] == [[None, "batch", None], ["batch", None], [None, None]]
    assert case["devices"] == [4, 4, 4]
    assert case["error"] < 1e-14


@pytest.mark.parametrize("preset", ["symplectic", "backprop"])
def test_shards_can_be_solved_by_themselves(preset: str, found: dict[str, Any]) -> None:
    case = found[f"shard_map-{preset}"]
    assert case["specs"][0] == [None, "batch", None]
    assert case["error"] < 1e-14


@pytest.mark.parametrize(
    ("where", "listed"),
    [
        ("state", "y0['a']: ['cpu:0'], y0['b']: ['cpu:1']"),
        ("params", "y0: ['cpu:0'], params, controls or captured: ['cpu:1']"),
        ("captured", "y0: ['cpu:0'], params, controls or captured: ['cpu:1']"),
        ("controls", "y0: ['cpu:0'], params, controls or captured: ['cpu:1']"),
    ],
)
def test_arrays_on_different_devices_are_refused(where: str, listed: str, found: dict[str, Any]) -> None:
    text = f"solve: all arrays must be on the same devices; got {listed}. Use jax.device_put."
    assert found["mixed"][where] == text

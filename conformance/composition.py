"""What composes with what: one probe for each library, adjoint and transformation, each held to a closed form.

``python -m janode.conformance.composition --json FILE --page PAGE`` runs them all, and writes both.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from janode.core.errors import InputError

EVIDENCE = Path(__file__).with_name("composition.json")
YES, REFUSED, NONE, WRONG = "yes", "refused", "-", "wrong"
COLUMNS = {
    "gradient": "the gradient of a solution on fixed steps",
    "adaptive": "that of one on adaptive steps",
    "jit": "the gradient, compiled by `jax.jit`",
    "vmap": "a batch of gradients by `jax.vmap` or `torch.func.vmap`",
    "jvp": "forward mode: `jax.jvp`, `torch.autograd.forward_ad`, `solve_jvp`",
    "hessian": "second derivatives, `jax.hessian` or `torch.autograd.functional.hessian`, on fixed steps",
    "hessian, adaptive": "the same on adaptive steps",
    "grad of grad": "`jax.grad` of `jax.grad`, `create_graph=True`, on adaptive steps",
    "events": "the gradient of the time of an event",
    "events twice": "its second derivative",
    "complex": "the gradient through a complex state",
    "per sample": "a batch whose samples take adaptive steps of their own: `batch_axis=0`, `jax.vmap`",
}
ADJOINTS = ("backprop", "stages", "aca", "symplectic", "restart", "revolve", "reversible", "reconstruct", "backsolve")
BY_LIBRARY = ("Reverse-mode differentiation does not work", "can't apply forward-mode")
"""How JAX itself says that it refuses."""
K, TOLERANCE = 0.7, 1e-4
FIXED: dict[str, Any] = {"method": "rk4", "steps": 16}
ADAPTIVE: dict[str, Any] = {"method": "bosh3", "rtol": 1e-7, "atol": 1e-9}
FIRST, SECOND = -1.0 / (1.0 + K) ** 2, 2.0 / (1.0 + K) ** 3
"""Derivatives of y(1) = 1 / (1 + k), the solution of dy/dt = -k y^2 from y = 1, at k = K."""
EVENT, EVENT_TWICE = -1.0 / K**2, 2.0 / K**3
"""Those of the time 1 / k at which y = 1 / 2."""
COMPLEX = -math.sin(K)
"""That of Re exp(i k), of dy/dt = i k y from y = 1."""


@dataclass(frozen=True)
class Entry:
    """The outcome of one probe: yes, refused, wrong, or - where the library has no such thing."""

    library: str
    adjoint: str
    column: str
    outcome: str
    text: str = ""
    """What a refusal or a fault said."""


Probe = tuple[Callable[[], Any], float]
"""What is computed, and what it must be."""


def _fixed(adjoint: str) -> dict[str, Any]:
    return {**FIXED, "adjoint": adjoint} | ({"method": "reversible(rk4)"} if adjoint == "reversible" else {})


def _numpy(adjoint: str) -> dict[str, Probe]:
    import numpy as np

    import janode.numpy as jo

    def pull(t: Any, y: Any, k: Any, f_bar: Any) -> Any:
        return None, -2.0 * k * y * f_bar, np.asarray(-np.sum(y * y * f_bar))

    def push(t: Any, y: Any, k: Any, t_dot: Any, y_dot: Any, k_dot: Any) -> Any:
        return -2.0 * k * y * y_dot - k_dot * y * y

    def turn(t: Any, y: Any, k: Any, f_bar: Any) -> Any:
        return None, -1j * k * f_bar, np.asarray(np.sum(np.real(np.conj(1j * y) * f_bar)))

    square, circle = jo.Field(lambda t, y, k: -k * y * y, pull, push), jo.Field(lambda t, y, k: 1j * k * y, turn)
    one, k = np.ones(1), np.asarray(K)
    when = jo.Event(lambda t, y, k: y[0] - 0.5, vjp=lambda t, y, k, bar: (None, bar * one, None))

    def gradient(field: Any, y0: Any, **options: Any) -> Any:
        solution, pullback = jo.solve_vjp(field, y0, [0.0, 1.0], k, **options)
        return pullback(np.concatenate([0.0 * solution.ys[:1], np.ones_like(solution.ys[1:])])).params

    def event() -> Any:
        pullback: Any
        solution, pullback = jo.solve_vjp(square, one, [0.0, 3.0], k, event=when, adjoint=adjoint, **ADAPTIVE)
        return pullback(0.0 * np.nan_to_num(solution.ys), event_bar=(1.0, None)).params

    def pushed() -> Any:
        return jo.solve_jvp(square, one, [0.0, 1.0], k, params_dot=np.asarray(1.0), **FIXED)[1][-1, 0]

    return {
        "gradient": (lambda: gradient(square, one, **_fixed(adjoint)), FIRST),
        "adaptive": (lambda: gradient(square, one, adjoint=adjoint, **ADAPTIVE), FIRST),
        "jvp": (pushed, FIRST),
        "events": (event, EVENT),
        "complex": (lambda: gradient(circle, one + 0j, **_fixed(adjoint)), COMPLEX),
    }


@dataclass(frozen=True)
class _Solves:
    """What a library that differentiates by itself is asked to differentiate: results of its ``solve`` at k."""

    solve: Callable[..., Any]
    one: Any
    """An array: 1."""
    fixed: dict[str, Any]
    adaptive: dict[str, Any]

    def _end(self, k: Any, options: dict[str, Any]) -> Any:
        """y(1)."""
        return self.solve(lambda t, y, k: -k * y * y, self.one, [0.0, 1.0], k, **options).ys[-1, 0]

    def on_fixed(self, k: Any) -> Any:
        """y(1) by fixed steps."""
        return self._end(k, self.fixed)

    def on_adaptive(self, k: Any) -> Any:
        """y(1) by adaptive steps."""
        return self._end(k, self.adaptive)

    def event(self, k: Any) -> Any:
        """The time at which y = 1 / 2."""
        field, when = (lambda t, y, k: -k * y * y), (lambda t, y, k: y[0] - 0.5)
        return self.solve(field, self.one, [0.0, 3.0], k, event=when, **self.adaptive).event.t

    def turned(self, k: Any) -> Any:
        """Re exp(i k)."""
        return self.solve(lambda t, y, k: 1j * k * y, self.one + 0j, [0.0, 1.0], k, **self.fixed).ys[-1, 0].real


def _torch(adjoint: str) -> dict[str, Probe]:
    import torch
    from torch.autograd import forward_ad, functional

    import janode.torch as jo

    k = torch.tensor(K, dtype=torch.float64)
    adaptive: dict[str, Any] = {**ADAPTIVE, "adjoint": adjoint}
    of = _Solves(jo.solve, torch.ones(1, dtype=torch.float64), _fixed(adjoint), adaptive)

    def batch(k: Any) -> Any:
        y0 = torch.ones(2, 1, dtype=torch.float64)
        return jo.solve(lambda t, y, k: -k * y * y, y0, [0.0, 1.0], k, batch_axis=0, **adaptive).ys[-1].mean()

    def grad(f: Callable[..., Any]) -> Any:
        leaf = k.clone().requires_grad_()
        return torch.autograd.grad(f(leaf), leaf)[0]

    def grad_of_grad() -> Any:
        leaf = k.clone().requires_grad_()
        (first,) = torch.autograd.grad(of.on_adaptive(leaf), leaf, create_graph=True)
        return torch.autograd.grad(first, leaf)[0]

    def pushed() -> Any:
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(of.on_fixed(forward_ad.make_dual(k, torch.ones_like(k)))).tangent

    return {
        "gradient": (lambda: grad(of.on_fixed), FIRST),
        "adaptive": (lambda: grad(of.on_adaptive), FIRST),
        "vmap": (lambda: torch.func.vmap(torch.func.grad(of.on_fixed))(k.expand(2))[1], FIRST),
        "jvp": (pushed, FIRST),
        "hessian": (lambda: functional.hessian(of.on_fixed, k), SECOND),
        "hessian, adaptive": (lambda: functional.hessian(of.on_adaptive, k), SECOND),
        "grad of grad": (grad_of_grad, SECOND),
        "events": (lambda: grad(of.event), EVENT),
        "events twice": (lambda: functional.hessian(of.event, k), EVENT_TWICE),
        "complex": (lambda: grad(of.turned), COMPLEX),
        "per sample": (lambda: grad(batch), FIRST),
    }


def _jax(adjoint: str) -> dict[str, Probe]:
    import jax
    import jax.numpy as jnp

    import janode.jax as jo

    adaptive: dict[str, Any] = {**ADAPTIVE, "adjoint": adjoint, "max_steps": 512}
    of = _Solves(jo.solve, jnp.ones(1), _fixed(adjoint), adaptive)
    grad = jax.jacfwd if adjoint == "forward" else jax.grad

    def second(f: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(jax.jacfwd(jax.jacfwd(f)) if adjoint == "forward" else jax.hessian(f))

    return {
        "gradient": (lambda: grad(of.on_fixed)(K), FIRST),
        "adaptive": (lambda: jax.jit(grad(of.on_adaptive))(K), FIRST),
        "jit": (lambda: jax.jit(grad(of.on_fixed))(K), FIRST),
        "vmap": (lambda: jax.jit(jax.vmap(grad(of.on_fixed)))(jnp.array([1.0, K]))[1], FIRST),
        "jvp": (lambda: jax.jvp(of.on_fixed, (K,), (1.0,))[1], FIRST),
        "hessian": (lambda: second(of.on_fixed)(K), SECOND),
        "hessian, adaptive": (lambda: second(of.on_adaptive)(K), SECOND),
        "grad of grad": (lambda: jax.jit(jax.grad(jax.grad(of.on_adaptive)))(K), SECOND),
        "events": (lambda: jax.jit(grad(of.event))(K), EVENT),
        "events twice": (lambda: second(of.event)(K), EVENT_TWICE),
        "complex": (lambda: jax.jit(grad(of.turned))(K), COMPLEX),
        "per sample": (lambda: jax.jit(jax.vmap(grad(of.on_adaptive)))(jnp.array([1.0, K]))[1], FIRST),
    }


LIBRARIES: dict[str, tuple[Callable[[str], dict[str, Probe]], tuple[str, ...]]] = {
    "numpy": (_numpy, ADJOINTS),
    "torch": (_torch, ADJOINTS),
    "jax": (_jax, (*ADJOINTS, "forward")),
}
"""For each library its probes and its adjoints."""


def outcome(library: str, adjoint: str, column: str) -> Entry:
    """Run one probe."""
    probe = LIBRARIES[library][0](adjoint).get(column)
    if probe is None:
        return Entry(library, adjoint, column, NONE)
    compute, expected = probe
    try:
        found = complex(compute())
    except InputError as error:
        return Entry(library, adjoint, column, REFUSED, str(error))
    except Exception as error:
        text = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        is_named = library == "jax" and any(words in text for words in BY_LIBRARY)
        return Entry(library, adjoint, column, REFUSED if is_named else WRONG, text)
    if abs(found - expected) <= TOLERANCE * abs(expected):
        return Entry(library, adjoint, column, YES)
    return Entry(library, adjoint, column, WRONG, f"got {found}, which should be {expected}")


def run() -> Iterator[Entry]:
    """Every probe in turn."""
    for library, (_, adjoints) in LIBRARIES.items():
        for adjoint in adjoints:
            for column in COLUMNS:
                yield outcome(library, adjoint, column)


def page(record: dict[str, Any]) -> str:
    """The page in Markdown: what the columns are, a table for each library, and what refusals say."""
    entries = [Entry(**entry) for entry in record["entries"]]
    on = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        "# What composes with what",
        "",
        "Written by `python -m janode.conformance.composition --json conformance/composition.json --page "
        "docs/composition.md`. Each cell is a computation that was run: **yes** means that its value agreed with a "
        f"closed form to {TOLERANCE:g}, *refused* that an error was raised at once which says what to do, - that the "
        f"library has no such thing. The row `forward` takes every derivative forwards. Run on {on}.",
        "",
        "| column | what it is |",
        "|---|---|",
        *(f"| {name} | {text} |" for name, text in COLUMNS.items()),
    ]
    texts: dict[str, list[str]] = {}
    for library, (_, adjoints) in LIBRARIES.items():
        lines += ["", f"## {library}", "", "| `adjoint=` | " + " | ".join(COLUMNS) + " |", "|---" * 13 + "|"]
        for adjoint in adjoints:
            row = {entry.column: entry for entry in entries if (entry.library, entry.adjoint) == (library, adjoint)}
            shown = {YES: "**yes**", REFUSED: "*refused*", NONE: "-", WRONG: "WRONG"}
            lines.append(f"| `{adjoint}` | " + " | ".join(shown[row[name].outcome] for name in COLUMNS) + " |")
            for entry in row.values():
                if entry.outcome == REFUSED:
                    texts.setdefault(entry.text, []).append(f"{library} `{adjoint}` {entry.column}")
    lines += ["", "## What the refusals say", ""]
    lines += [f"- {text}  \n  ({'; '.join(cells)})" for text, cells in texts.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, write, and say what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    parser.add_argument("--page", type=Path, help="write the page to this file")
    options = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    entries = []
    for entry in run():
        print(entry.library, entry.adjoint, entry.column, entry.outcome, entry.text[:80], flush=True)
        entries.append(entry)
    record = {
        "versions": {name: version(name) for name in ("janode", "numpy", "torch", "jax")},
        "entries": [asdict(entry) for entry in entries],
    }
    if options.json is not None:
        rows = ",\n  ".join(json.dumps(entry) for entry in record["entries"])
        options.json.write_text(f'{{"versions": {json.dumps(record["versions"])},\n "entries": [\n  {rows}\n]}}\n')
    if options.page is not None:
        options.page.write_text(page(record))
    return int(any(entry.outcome == WRONG for entry in entries))


if __name__ == "__main__":
    sys.exit(main())

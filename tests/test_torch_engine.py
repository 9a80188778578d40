"""Pullbacks by the engine are those of ``torch.autograd.grad``."""

from __future__ import annotations

import pytest
import torch

from janode.torch_engine import pulled


def graph() -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """(two outputs, three inputs of which the last is not used, cotangents)."""
    x = torch.tensor([0.3, -1.2], dtype=torch.float64, requires_grad=True)
    z = torch.tensor(1.0 + 0.5j, dtype=torch.complex128, requires_grad=True)
    unused = torch.ones(2, requires_grad=True)
    return [x.sin() * z, x.exp()], [x, z, unused], [torch.tensor([1.0 - 1.0j, 2.0]), torch.tensor([0.5, 0.25]).double()]


def test_the_cotangents_are_those_of_autograd() -> None:
    outputs, inputs, bars = graph()
    bars[0] = bars[0].to(torch.complex128)
    found = pulled(outputs, inputs, bars, keeps_graph=True)
    expected = torch.autograd.grad(outputs, inputs, bars, allow_unused=True)
    assert found[2] is None
    assert expected[2] is None
    assert all(torch.equal(a, b) for a, b in zip(found[:2], expected[:2], strict=True))
    assert all(leaf.grad is None for leaf in inputs)
    assert not any(bar is not None and bar.requires_grad for bar in found)


def test_the_graph_is_freed_unless_it_is_kept() -> None:
    outputs, inputs, bars = graph()
    pulled(outputs[1:], inputs[:1], bars[1:], keeps_graph=True)
    pulled(outputs[1:], inputs[:1], bars[1:])
    with pytest.raises(RuntimeError, match="second time"):
        pulled(outputs[1:], inputs[:1], bars[1:])

"""ResidualStack of janode.torch: the gradients of the plain loop, with its modes, random numbers and refusals."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import janode.torch as jo
from tests.torch_oracle import F64, assert_equal_gradients, one_thread

__all__ = ["one_thread"]

SCHEMES = ("euler", "heun", "leapfrog")
EXACT = [("euler", "symplectic"), ("heun", "symplectic"), ("leapfrog", "symplectic"), ("leapfrog", "reconstruct")]
RECOMPUTING = [*EXACT, ("euler", "reconstruct"), ("heun", "reconstruct"), ("euler", "predict")]
ALL = [*RECOMPUTING, *((scheme, "backprop") for scheme in SCHEMES)]
RECONSTRUCTING = pytest.mark.filterwarnings("ignore:the backward pass missed:RuntimeWarning")


class Block(torch.nn.Module):
    """tanh(W x + b + extra) V, in double precision."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(size, 5, dtype=F64)
        self.outer = torch.nn.Linear(5, size, dtype=F64)

    def forward(self, x: torch.Tensor, shift: Any = 0.0) -> torch.Tensor:
        return self.outer(torch.tanh(self.inner(x) + shift))


def written_out(scheme: str, blocks: Sequence[Callable[..., Any]], x: torch.Tensor, *extra: Any, step: float) -> Any:
    """The stack in plain torch."""
    following = [*blocks[1:], blocks[-1]]
    if scheme == "euler":
        for f in blocks:
            x = x + step * f(x, *extra)
    elif scheme == "heun":
        for f, g in zip(blocks, following, strict=True):
            slope = f(x, *extra)
            x = x + step / 2 * (slope + g(x + step * slope, *extra))
    else:
        before, x = x, x + step * blocks[0](x, *extra)
        for f in blocks[1:]:
            before, x = x, before + 2 * step * f(x, *extra)
    return x


def start(*shape: int, dtype: torch.dtype = F64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def pull(output: torch.Tensor, leaves: Sequence[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
    """The gradient of a number that depends on every entry of the output in its own way."""
    weights = torch.linspace(0.3, 1.1, output.numel(), dtype=output.dtype).reshape(output.shape)
    return torch.autograd.grad((weights * output**2).sum(), list(leaves), allow_unused=True)


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("step", [None, 0.3])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_output_is_that_of_the_layers_written_out(scheme: str, step: float | None, depth: int) -> None:
    stack = jo.ResidualStack([Block() for _ in range(depth)], scheme, step=step)
    x = start(4, 3)
    expected = written_out(scheme, list(stack.blocks), x, step=step or 1 / depth)
    torch.testing.assert_close(stack(x), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize(("scheme", "adjoint"), [*EXACT, *((scheme, "backprop") for scheme in SCHEMES)])
def test_gradient_is_that_of_the_layers_written_out(scheme: str, adjoint: str, depth: int) -> None:
    stack, x, shift = jo.ResidualStack([Block() for _ in range(depth)], scheme, adjoint), start(4, 3), start(5)
    leaves = [x, shift, *stack.parameters()]
    expected = pull(written_out(scheme, list(stack.blocks), x, shift, step=1 / depth), leaves)
    assert_equal_gradients(pull(stack(x, shift), leaves), expected)


@pytest.mark.parametrize(
    ("scheme", "adjoint", "order"),
    [("euler", "reconstruct", 1.0), ("euler", "predict", 2.0), ("heun", "reconstruct", 2.0)],
)
def test_reconstructed_gradient_converges_with_the_depth(scheme: str, adjoint: str, order: float) -> None:
    first, last, x = Block(), Block(), start(4, 3)

    def error(depth: int) -> float:
        blocks = [Block() for _ in range(depth)]
        for n, block in enumerate(blocks):
            state = {
                key: torch.lerp(value, last.state_dict()[key], n / depth) for key, value in first.state_dict().items()
            }
            block.load_state_dict(state)
        stack = jo.ResidualStack(blocks, scheme, adjoint)
        found, exact = pull(stack(x), [x]), pull(written_out(scheme, blocks, x, step=1 / depth), [x])
        return float((found[0] - exact[0]).norm() / exact[0].norm())

    errors = [error(depth) for depth in (20, 80)]
    assert 0.0 < errors[1] < errors[0] / 4 ** (order - 0.15)


@pytest.mark.parametrize(("scheme", "adjoint"), EXACT)
def test_tied_and_frozen_blocks_get_what_autograd_gives_them(scheme: str, adjoint: str) -> None:
    tied, frozen = Block(), Block()
    frozen.inner.requires_grad_(False)
    blocks, x = [tied, frozen, tied, Block(), frozen], start(2, 3)
    stack = jo.ResidualStack(blocks, scheme, adjoint)
    assert len(list(stack.parameters())) == 12
    leaves = [x, *[p for p in stack.parameters() if p.requires_grad]]
    expected = pull(written_out(scheme, blocks, x, step=0.2), leaves)
    assert_equal_gradients(pull(stack(x), leaves), expected)
    stack(x).sum().backward()
    assert frozen.inner.weight.grad is None


@pytest.mark.parametrize(("scheme", "adjoint"), EXACT)
def test_extra_arguments_may_be_trees(scheme: str, adjoint: str) -> None:
    class Conditioned(Block):
        def forward(self, x: torch.Tensor, given: Any, scale: float) -> torch.Tensor:
            return scale * super().forward(x, given["shift"]) + given["rows"][1]

    stack, x = jo.ResidualStack([Conditioned() for _ in range(4)], scheme, adjoint), start(2, 3)
    given = {"shift": start(5), "rows": (torch.tensor([1, 2]), start(3)), "none": None}
    leaves = [x, given["shift"], given["rows"][1], *stack.parameters()]
    expected = pull(written_out(scheme, list(stack.blocks), x, given, 0.5, step=0.25), leaves)
    assert_equal_gradients(pull(stack(x, given, 0.5), leaves), expected)


@pytest.mark.parametrize(("scheme", "adjoint"), EXACT)
def test_only_what_requires_gradient_gets_one(scheme: str, adjoint: str) -> None:
    stack, x = jo.ResidualStack([Block() for _ in range(3)], scheme, adjoint), torch.randn(2, 3, dtype=F64)
    for parameter in list(stack.parameters())[:-1]:
        parameter.requires_grad_(False)
    leaves = list(stack.parameters())[-1:]
    assert_equal_gradients(pull(stack(x), leaves), pull(written_out(scheme, list(stack.blocks), x, step=1 / 3), leaves))
    assert not jo.ResidualStack([torch.nn.Tanh()], scheme, adjoint)(x).requires_grad


@pytest.mark.parametrize(("scheme", "adjoint"), RECOMPUTING)
def test_backward_pass_may_be_repeated(scheme: str, adjoint: str) -> None:
    stack, x = jo.ResidualStack([Block() for _ in range(3)], scheme, adjoint, step=0.01), start(2, 3)
    total = stack(x).sum()
    leaves = [x, *stack.parameters()]
    first = torch.autograd.grad(total, leaves, retain_graph=True)
    assert_equal_gradients(torch.autograd.grad(total, leaves), first, rtol=0.0)


@pytest.mark.parametrize(("scheme", "adjoint"), RECOMPUTING)
@RECONSTRUCTING
def test_batch_norm_updates_its_statistics_once_and_keeps_its_mode(scheme: str, adjoint: str) -> None:
    def blocks() -> list[torch.nn.Module]:
        torch.manual_seed(0)
        return [torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).double() for _ in range(4)]

    stack, plain, x = jo.ResidualStack(blocks(), scheme, adjoint), blocks(), start(6, 3)
    plain[2].eval()
    stack.blocks[2].eval()
    output = stack(x)
    output.sum().backward()
    torch.testing.assert_close(output, written_out(scheme, plain, x, step=0.25), rtol=1e-13, atol=1e-13)
    for block, other in zip(stack.blocks, plain, strict=True):
        torch.testing.assert_close(dict(block.named_buffers()), dict(other.named_buffers()))
    assert [block.training for block in stack.blocks] == [True, True, False, True]


@pytest.mark.parametrize(("scheme", "adjoint"), EXACT)
def test_gradient_through_batch_norm_is_exact(scheme: str, adjoint: str) -> None:
    blocks = [torch.nn.Sequential(Block(), torch.nn.BatchNorm1d(3, dtype=F64)) for _ in range(4)]
    stack, x = jo.ResidualStack(blocks, scheme, adjoint), start(6, 3)
    leaves = [x, *(block[0].inner.weight for block in blocks), *(block[1].weight for block in blocks)]
    expected = pull(written_out(scheme, copy.deepcopy(blocks), x, step=0.25), [x])
    found = pull(stack(x), leaves)
    assert_equal_gradients(found[:1], expected, rtol=1e-12)
    assert_equal_gradients(found, pull(written_out(scheme, blocks, x, step=0.25), leaves), rtol=1e-12)


@pytest.mark.parametrize(("scheme", "adjoint"), EXACT)
def test_dropout_draws_the_same_mask_again_and_leaves_the_stream_alone(scheme: str, adjoint: str) -> None:
    blocks = [torch.nn.Sequential(Block(), torch.nn.Dropout(0.5)) for _ in range(4)]
    stack, x = jo.ResidualStack(blocks, scheme, adjoint), start(6, 3)
    leaves = [x, *stack.parameters()]
    torch.manual_seed(3)
    expected = pull(written_out(scheme, blocks, x, step=0.25), leaves)
    following = torch.rand(3)
    torch.manual_seed(3)
    found = pull(stack(x), leaves)
    assert_equal_gradients(found, expected)
    assert torch.equal(torch.rand(3), following)


@pytest.mark.parametrize(("scheme", "adjoint"), RECOMPUTING)
@RECONSTRUCTING
def test_the_backward_pass_runs_under_the_autocast_of_the_forward_pass(scheme: str, adjoint: str) -> None:
    dtypes: list[torch.dtype] = []

    class Noted(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            f = super().forward(x)
            dtypes.append(f.dtype)
            return f

    stack, x = jo.ResidualStack([Noted(3, 3) for _ in range(3)], scheme, adjoint), start(2, 3, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = stack(x)
    num_forward = len(dtypes)
    output.sum().backward()
    assert len(dtypes) > num_forward
    assert set(dtypes) == {torch.bfloat16}
    assert (output.dtype, x.grad.dtype, stack.blocks[0].weight.grad.dtype) == (torch.float32,) * 3


@pytest.mark.parametrize(("scheme", "adjoint"), RECOMPUTING)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@RECONSTRUCTING
def test_precision_is_that_of_the_input(scheme: str, adjoint: str, dtype: torch.dtype) -> None:
    stack, x = jo.ResidualStack([Block().to(dtype) for _ in range(3)], scheme, adjoint), start(2, 3, dtype=dtype)
    output = stack(x)
    output.sum().backward()
    assert {output.dtype, x.grad.dtype, stack.blocks[1].inner.weight.grad.dtype} == {dtype}


@pytest.mark.parametrize(("scheme", "adjoint"), ALL)
def test_output_needs_no_gradient_where_none_is_wanted(scheme: str, adjoint: str) -> None:
    stack, x = jo.ResidualStack([Block(), Block()], scheme, adjoint), start(2, 3)
    with torch.no_grad():
        assert not stack(x).requires_grad


@pytest.mark.parametrize(("scheme", "adjoint"), RECOMPUTING)
def test_memory_does_not_grow_with_the_activations_of_a_block(scheme: str, adjoint: str) -> None:
    saved: list[torch.Tensor] = []

    class Wide(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(torch.tanh(torch.tanh(x.repeat(50))))[: x.shape[0]]

    x = start(40)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        jo.ResidualStack([Wide() for _ in range(30)], scheme, adjoint)(x)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    states = sum(storages.values()) / (x.numel() * x.element_size())
    limit = {"reconstruct": 3, "predict": 3, "symplectic": 31}[adjoint]
    assert states <= limit


def test_a_lossy_way_back_is_warned_of_with_its_numbers() -> None:
    stack, x = jo.ResidualStack([Block() for _ in range(3)], step=2.0), start(2, 3)
    with pytest.warns(RuntimeWarning, match=r"missed the initial state by \d.\de[+-]\d\d of its norm"):
        stack(x).sum().backward()
    assert stack.stats.reconstruction_error > 0.01


def test_reconstruction_error_is_that_of_the_inverse_steps() -> None:
    stack, x = jo.ResidualStack([Block() for _ in range(30)], step=0.01), start(2, 3)
    output = stack(x)
    output.sum().backward()
    y = output.detach()
    for block in reversed(stack.blocks):
        y = (y - 0.01 * block(y)).detach()
    assert stack.stats.reconstruction_error == pytest.approx(
        float((y - x).detach().norm() / x.detach().norm()), rel=1e-9
    )


class InPlace(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2.0)


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class Generating(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rand((), generator=self.generator, dtype=x.dtype)


class Closed(torch.nn.Module):
    tensors = (torch.ones(3, dtype=F64, requires_grad=True),)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.tensors[0]


class Returning(torch.nn.Module):
    def __init__(self, change: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: torch.Tensor) -> Any:
        return self.change(x)


@pytest.mark.parametrize(
    ("block", "text"),
    [
        pytest.param(InPlace(), r"must not change its input in place; block 1 did", id="in-place"),
        pytest.param(Counting(), r"block 1 changed 'calls'", id="buffer"),
        pytest.param(Generating(), r"block 1 keeps one of its own", id="generator"),
        pytest.param(Closed(), r"got another one in block 1", id="closure"),
        pytest.param(torch.nn.Linear(3, 2, dtype=F64), r"\(2, 3\) float64 on cpu; got \(2, 2\) float64", id="shape"),
        pytest.param(Returning(torch.Tensor.float), r"got \(2, 3\) float32 on cpu from block 1", id="dtype"),
        pytest.param(Returning(lambda x: x.to("meta")), r"on meta from block 1", id="device"),
        pytest.param(Returning(lambda x: (x, x)), r"got tuple from block 1", id="type"),
    ],
)
@pytest.mark.parametrize(("scheme", "adjoint"), [("euler", "reconstruct"), ("leapfrog", "symplectic")])
def test_block_that_cannot_be_stacked_is_refused(block: torch.nn.Module, text: str, scheme: str, adjoint: str) -> None:
    x = start(2, 3)
    with pytest.raises(jo.InputError, match=text):
        jo.ResidualStack([Block(), block], scheme, adjoint, step=1e-3)(x).sum().backward()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param({"blocks": []}, "blocks must be at least one; got none", id="none"),
        pytest.param({"scheme": "eular"}, r"scheme must be one of: euler, .*; got 'eular'", id="scheme"),
        pytest.param({"adjoint": "aca"}, r"adjoint must be one of: .*; got 'aca'", id="adjoint"),
        pytest.param(
            {"scheme": "heun", "adjoint": "predict"}, r"'predict' must have scheme \"euler\"; got 'heun'", id="predict"
        ),
        pytest.param({"step": 0.0}, "step must be a positive finite number; got 0.0", id="zero-step"),
        pytest.param({"step": float("nan")}, "step must be a positive finite number; got nan", id="nan-step"),
        pytest.param({"step": True}, "step must be a positive finite number; got True", id="bool-step"),
    ],
)
def test_bad_argument_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.ResidualStack(**{"blocks": [Block()], **arguments})


@pytest.mark.parametrize(("x", "got"), [(torch.tensor([1, 2, 3]), "torch.int64"), ([1.0], "list")])
def test_input_that_is_no_float_tensor_is_refused(x: Any, got: str) -> None:
    with pytest.raises(jo.InputError, match=f"x must be a real or complex floating-point tensor; got {got}"):
        jo.ResidualStack([Block()])(x)


@pytest.mark.parametrize(("scheme", "adjoint"), RECOMPUTING)
def test_second_derivative_is_refused(scheme: str, adjoint: str) -> None:
    x = start(2, 3)
    output = jo.ResidualStack([Block(), Block()], scheme, adjoint, step=1e-3)(x)
    (x_bar,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    with pytest.raises(jo.InputError, match="ResidualStack: second derivatives must be taken by the framework"):
        x_bar.sum().backward()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_backprop_has_second_derivatives(scheme: str) -> None:
    x = start(2, 3)
    assert torch.autograd.gradgradcheck(jo.ResidualStack([Block(), Block()], scheme, "backprop"), (x,))


@pytest.mark.parametrize(("scheme", "adjoint"), RECOMPUTING)
def test_torch_func_is_refused_by_name(scheme: str, adjoint: str) -> None:
    stack = jo.ResidualStack([Block(), Block()], scheme, adjoint)
    with pytest.raises(jo.InputError, match=r"ResidualStack: transforms of torch\.func"):
        torch.func.vmap(stack)(torch.ones(2, 3, dtype=F64))


def test_hook_on_a_parameter_is_refused() -> None:
    stack = jo.ResidualStack([Block()])
    stack.blocks[0].inner.weight.register_hook(lambda bar: bar)
    with pytest.raises(jo.InputError, match="ResidualStack: parameters with tensor hooks"):
        stack(start(2, 3))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        pytest.param(torch.nn.Module.eval, "modes", id="mode"),
        pytest.param(lambda stack: stack.blocks[0].requires_grad_(False), "parameters", id="parameters"),
    ],
)
def test_stack_changed_before_the_backward_pass_is_refused(change: Callable[[Any], Any], what: str) -> None:
    stack = jo.ResidualStack([Block(), Block()])
    output = stack(start(2, 3))
    change(stack)
    with pytest.raises(jo.InputError, match=f"blocks must have the same {what}"):
        output.sum().backward()


def test_optimiser_step_before_the_backward_pass_is_refused_by_torch() -> None:
    stack = jo.ResidualStack([Block(), Block()])
    output = stack(start(2, 3))
    with torch.no_grad():
        stack.blocks[0].inner.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()

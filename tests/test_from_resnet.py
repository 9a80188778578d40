"""from_resnet and deepen: a torchvision-style network rewritten in place computes what it did, and trains as it did."""

import copy
import itertools
from collections.abc import Callable

import pytest
import torch

import janode.torch as jo
from tests.torch_oracle import F64, assert_equal_gradients, one_thread

__all__ = ["one_thread"]


class Basic(torch.nn.Module):
    """torchvision's BasicBlock: relu after the sum, in place."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(channels)
        self.relu = torch.nn.ReLU(inplace=True)
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = torch.nn.Sequential(
                torch.nn.Conv2d(channels_in, channels, 1, stride, bias=False), torch.nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class Bottleneck(torch.nn.Module):
    """torchvision's Bottleneck with an expansion of 4."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        wide = 4 * channels
        self.conv1, self.bn1 = torch.nn.Conv2d(channels_in, channels, 1, bias=False), torch.nn.BatchNorm2d(channels)
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = torch.nn.Conv2d(channels, wide, 1, bias=False), torch.nn.BatchNorm2d(wide)
        self.relu = torch.nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels_in != wide:
            self.downsample = torch.nn.Sequential(torch.nn.Conv2d(channels_in, wide, 1, stride, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet(torch.nn.Module):
    """Two stages of three blocks."""

    def __init__(self, block: Callable[..., torch.nn.Module], expansion: int) -> None:
        super().__init__()
        wide = 4 * expansion
        self.conv1 = torch.nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.layer1 = torch.nn.Sequential(block(4, 4), block(wide, 4), block(wide, 4))
        self.layer2 = torch.nn.Sequential(block(wide, 8, 2), block(8 * expansion, 8), block(8 * expansion, 8))
        self.fc = torch.nn.Linear(8 * expansion, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer2(self.layer1(torch.relu(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


KINDS = pytest.mark.parametrize(("block", "expansion"), [(Basic, 1), (Bottleneck, 4)], ids=["basic", "bottleneck"])


def network(block: Callable[..., torch.nn.Module], expansion: int) -> ResNet:
    torch.manual_seed(1)
    model = ResNet(block, expansion).double()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.weight.data.uniform_(0.2, 1.0)
    return model


def gradients(model: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor | None]:
    parameters = list(model.parameters())
    return list(torch.autograd.grad((model(x) ** 2).sum(), parameters))


@KINDS
@pytest.mark.parametrize("is_training", [True, False], ids=["train", "eval"])
def test_rewritten_network_computes_what_it_did(
    block: Callable[..., torch.nn.Module], expansion: int, is_training: bool
) -> None:
    model, x = network(block, expansion).train(is_training), torch.randn(5, 1, 8, 8, dtype=F64)
    original, names = copy.deepcopy(model), {id(p) for p in model.parameters()}
    assert jo.from_resnet(model) is model
    assert {id(p) for p in model.parameters()} == names
    torch.testing.assert_close(model(x), original(x), rtol=1e-12, atol=1e-12)
    buffers = [buffer for buffer in model.buffers() if buffer.dtype == F64]
    others = [buffer for buffer in original.buffers() if buffer.dtype == F64]
    torch.testing.assert_close(buffers, others, rtol=1e-12, atol=1e-12)
    assert_equal_gradients(gradients(model, x), gradients(original, x), rtol=1e-10)


@pytest.mark.parametrize(("block", "expansion", "kinds"), [
    (Basic, 1, [["ResidualStack"], ["Basic", "ResidualStack"]]),
    (Bottleneck, 4, [["Bottleneck", "ResidualStack"], ["Bottleneck", "ResidualStack"]]),
], ids=["basic", "bottleneck"])  # fmt: skip
def test_runs_of_blocks_that_keep_the_shape_become_stacks(
    block: Callable[..., torch.nn.Module], expansion: int, kinds: list[list[str]]
) -> None:
    model = jo.from_resnet(network(block, expansion))
    assert [[type(part).__name__ for part in stage] for stage in (model.layer1, model.layer2)] == kinds
    stack = model.layer2[1]
    assert (len(stack.blocks), stack.step, stack.scheme, stack.adjoint) == (2, 1.0, "euler", "symplectic")


def test_modes_of_frozen_blocks_are_kept() -> None:
    model = network(Basic, 1).train()
    model.layer1[1].eval()
    jo.from_resnet(model)
    assert [part.block.bn1.training for part in model.layer1[0].blocks] == [True, False, True]
    assert [part.block.bn1.training for part in jo.deepen(model.layer1[0], 2).blocks] == [True] * 2 + [False] * 2 + [
        True
    ] * 2


def test_blocks_of_ones_own_are_found_by_a_rule() -> None:
    layers = [torch.nn.Linear(3, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)]
    model, x = torch.nn.Sequential(*layers), torch.randn(2, 3)
    expected = model(x)
    jo.from_resnet(model, adjoint="reconstruct", is_block=lambda part: part in layers[1:3])
    assert [type(part).__name__ for part in model] == ["Linear", "ResidualStack", "Linear"]
    assert model[1].adjoint == "reconstruct"
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("change", [
    pytest.param(lambda block: setattr(block, "downsample", torch.nn.Identity()), id="downsample"),
    pytest.param(lambda block: delattr(block, "downsample"), id="no-downsample"),
    pytest.param(lambda block: delattr(block, "bn2"), id="no-norm"),
    pytest.param(lambda block: setattr(block, "conv1", torch.nn.Conv2d(4, 4, 3, 2)), id="stride"),
    pytest.param(lambda block: setattr(block, "conv1", torch.nn.Conv2d(3, 4, 3)), id="channels"),
    pytest.param(lambda block: setattr(block, "conv2", torch.nn.Linear(4, 4)), id="no-convolution"),
])  # fmt: skip
def test_what_is_no_block_is_left_alone_and_a_model_without_any_refused(change: Callable[[Basic], None]) -> None:
    block = Basic(4, 4)
    change(block)
    with pytest.raises(jo.InputError, match=r"from_resnet: model must have residual blocks.*got Sequential"):
        jo.from_resnet(torch.nn.Sequential(block))


def test_unknown_adjoint_is_refused() -> None:
    with pytest.raises(jo.InputError, match="adjoint must be one of"):
        jo.from_resnet(network(Basic, 1), adjoint="aca")


def test_deepened_stack_copies_each_block_and_divides_the_step() -> None:
    first, second = torch.nn.Linear(3, 3, dtype=F64), torch.nn.Linear(3, 3, dtype=F64)
    stack = jo.ResidualStack([first, second, first], "heun", "symplectic", step=0.6).eval()
    deep = jo.deepen(stack, 2)
    assert (len(deep.blocks), deep.step, deep.scheme, deep.adjoint, deep.training) == (
        6,
        0.3,
        "heun",
        "symplectic",
        False,
    )
    weights = [block.weight for block in deep.blocks]
    assert [torch.equal(w, first.weight) for w in weights] == [True, True, False, False, True, True]
    assert [weights[i] is weights[j] for i, j in ((0, 4), (1, 5), (0, 1), (2, 3))] == [True, True, False, False]
    assert all(w is not first.weight for w in weights)


def test_deepened_stacks_converge_to_the_ode() -> None:
    torch.manual_seed(0)
    blocks = [torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh()).double() for _ in range(4)]
    stack, x = jo.ResidualStack(blocks), torch.randn(5, 3, dtype=F64)
    with torch.no_grad():
        outputs = [jo.deepen(stack, factor)(x) for factor in (8, 16, 32)]
    first, second = (float((b - a).norm()) for a, b in itertools.pairwise(outputs))
    assert 1.8 < first / second < 2.2


@pytest.mark.parametrize("factor", [0, -1, 1.5, True])
def test_factor_that_is_no_count_is_refused(factor: object) -> None:
    with pytest.raises(jo.InputError, match="deepen: factor must be an integer >= 1; got"):
        jo.deepen(jo.ResidualStack([torch.nn.Tanh()]), factor)  # type: ignore[arg-type]

"""Section 17.4.2: layers for what a forward pass does without a module of `torch.nn`.

`trace` puts them where it meets ``a + b``, ``(x - mean) / std``, ``torch.cat``, ``x.mean((2, 3))``,
``x.view(...)``. Each acts on a batch and keeps it, example by example.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

Number = Tensor | float


def kind(layer: nn.Module) -> type[nn.Module]:
    """The layer's type, looking through torch's parametrisations (spectral norm and the like)."""
    return type_before_parametrizations(layer)


def doubled(layer: nn.Module) -> nn.Module:
    """A copy in double precision, without gradients."""
    computed = [t for t in layer.buffers() if not t.is_leaf]  # torch does not copy these itself
    known = {id(t): t.detach().clone() for t in computed}
    return copy.deepcopy(layer, known).double().requires_grad_(False)


class Add(nn.Module):
    """The sum of two values: where a shortcut rejoins."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Concat(nn.Module):
    """Values side by side along one dimension, which is not the batch's."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *values: Tensor) -> Tensor:
        return torch.cat(values, self.dim)


def check_concat(layer: Concat, dimensions: int) -> None:
    """Raise ValueError where examples, not their coordinates, would be put side by side."""
    if layer.dim % dimensions == 0:
        raise ValueError("torch.cat along dim=0 joins examples, and bounds are of one example")


class _Constant(nn.Module):
    """A layer with one constant, a number or a tensor; a parameter stays the network's own."""

    constant: Number

    def __init__(self, constant: Number) -> None:
        super().__init__()
        if isinstance(constant, Tensor) and not isinstance(constant, nn.Parameter):
            self.register_buffer("constant", constant)
        else:
            self.constant = constant


class Shift(_Constant):
    """z + c"""

    def forward(self, z: Tensor) -> Tensor:
        return z + self.constant


class Scale(_Constant):
    """z c"""

    def forward(self, z: Tensor) -> Tensor:
        return z * self.constant


class Divide(_Constant):
    """z / c"""

    def forward(self, z: Tensor) -> Tensor:
        return z / self.constant


class Mean(nn.Module):
    """The mean over some dimensions."""

    def __init__(self, dim: int | tuple[int, ...], keepdim: bool = False) -> None:
        super().__init__()
        self.dim, self.keepdim = dim, keepdim

    def forward(self, z: Tensor) -> Tensor:
        return z.mean(self.dim, keepdim=self.keepdim)


class Sum(Mean):
    """The sum over some dimensions."""

    def forward(self, z: Tensor) -> Tensor:
        return z.sum(self.dim, keepdim=self.keepdim)


class View(nn.Module):
    """z.view(n, *rest)"""

    def __init__(self, *rest: int) -> None:
        super().__init__()
        self.rest = rest

    def forward(self, z: Tensor) -> Tensor:
        return z.reshape(len(z), *self.rest)


class Moved(nn.Module):
    """A method of tensors that only moves, drops or repeats values: transpose, permute, [...]."""

    def __init__(self, method: str, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.method, self.args, self.kwargs = method, args, kwargs

    def forward(self, z: Tensor) -> Tensor:
        return getattr(z, self.method)(*self.args, **self.kwargs)


class Abs(nn.Module):
    """|z|"""

    def forward(self, z: Tensor) -> Tensor:
        return z.abs()

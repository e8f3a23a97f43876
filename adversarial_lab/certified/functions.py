"""Section 17.4.2: the layer that stands for a function or a method called in `forward`.

One table, `FUNCTIONS`: what is called -> a maker of layers, given the arguments after the value.
Where a maker refuses, it says what to write instead.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adversarial_lab.certified.layers import Abs, Mean, Moved, Sum, View


class Batch(int):
    """The size of the batch, which bounds do not know: it may head a shape, and nothing else."""

    def _refuse(self, *_: Any) -> Any:
        raise ValueError(
            "forward computes with the batch size: bounds are of one example each, so the batch"
            " must stay a dimension of its own, x.view(x.size(0), ...)"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __floordiv__ = _refuse
    __truediv__ = __rtruediv__ = __mod__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    if start_dim == 0:
        raise ValueError("flatten must keep the batch, start_dim >= 1, got 0")
    return nn.Flatten(start_dim, end_dim)


def _view(*shape: Any) -> nn.Module:
    sizes = tuple(shape[0]) if isinstance(shape[0], tuple | list) else shape
    first, rest = sizes[0], sizes[1:]
    heads = isinstance(first, Batch) or (first == -1 and -1 not in rest)
    if not heads or not rest or any(isinstance(size, Batch) for size in rest):
        raise ValueError(
            f"view{tuple(sizes)} must keep the batch: write x.view(x.size(0), ...) or x.flatten(1)"
        )
    return View(*rest)


def _max_pool(layer: type[nn.Module]) -> Callable[..., nn.Module]:
    def make(
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> nn.Module:
        # the function and the layer order their arguments differently
        return layer(kernel_size, stride, padding, dilation, return_indices, ceil_mode)

    return make


def _clamp(min: Any = None, max: Any = None) -> nn.Module:
    low, high = -torch.inf if min is None else min, torch.inf if max is None else max
    if isinstance(low, Tensor) or isinstance(high, Tensor) or not low < high:
        raise ValueError(f"clamp needs two numbers, min < max, got {min} and {max}")
    return nn.Hardtanh(low, high)


def _reduced(layer: type[Mean]) -> Callable[..., nn.Module]:
    def make(dim: Any = None, keepdim: bool = False) -> nn.Module:
        if dim is None or dim == ():
            raise ValueError("a mean or a sum over everything joins examples: name its dimensions")
        return layer(tuple(dim) if isinstance(dim, list) else dim, keepdim)

    return make


def _moved(method: str) -> Callable[..., nn.Module]:
    return lambda *args, **kwargs: Moved(method, *args, **kwargs)


def _dropout(layer: type[nn.Module]) -> Callable[..., nn.Module]:
    def make(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
        return layer(p).train(training)

    return make


def _rrelu(
    lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> nn.Module:
    return nn.RReLU(lower, upper).train(training)


def _along(layer: type[nn.Module]) -> Callable[..., nn.Module]:
    def make(dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> nn.Module:
        if dtype is not None:
            raise ValueError(f"dtype must stay the network's, got {dtype}")
        return layer(dim)

    return make


def _gelu(approximate: str = "none") -> nn.Module:
    return nn.GELU(approximate)


def with_tensors(layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """The layer, made without weights, with those of the network: parameters stay what they are."""
    for name, value in tensors.items():
        layer._parameters.pop(name, None)
        layer._buffers.pop(name, None)
        if isinstance(value, nn.Parameter):
            layer.register_parameter(name, value)
        else:
            layer.register_buffer(name, value)
    return layer


def _constant(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be a tensor of the network, got {value}")
    return value


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    o, i = _constant("weight", weight).shape
    layer = nn.Linear(i, o, bias is not None, device="meta")
    return with_tensors(layer, weight=weight, bias=bias)


def _matmul(weight: Tensor) -> nn.Module:
    if _constant("the right factor", weight).ndim != 2:
        raise ValueError(f"x @ W needs a matrix W, got shape {tuple(weight.shape)}")
    return _linear(weight.T)


def _convolution(layer: type[nn.Module]) -> Callable[..., nn.Module]:
    def make(
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> nn.Module:
        o, i, *size = _constant("weight", weight).shape
        how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        empty = layer(i * groups, o, size, **how, bias=bias is not None, device="meta")
        return with_tensors(empty, weight=weight, bias=bias)

    return make


def _batch_norm(
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> nn.Module:
    layer = nn.BatchNorm3d(len(_constant("running_mean", running_mean)), eps, momentum)
    layer.__dict__["_check_input_dim"] = lambda z: None
    tensors = {"running_mean": running_mean, "running_var": running_var}
    return with_tensors(layer, **tensors, weight=weight, bias=bias).train(training)


def _prelu(weight: Tensor) -> nn.Module:
    layer = nn.PReLU(_constant("weight", weight).numel(), device="meta")
    return with_tensors(layer, weight=weight)


def _identity(*args: Any, **kwargs: Any) -> nn.Module:
    return nn.Identity()


def _both(name: str, *more: Any) -> tuple[Any, ...]:
    """A function of torch, the method of that name, and others that are called like them."""
    return (getattr(torch, name), name, *more)


FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys(_both("relu", F.relu, F.relu_, torch.relu_, "relu_"), nn.ReLU),
    **dict.fromkeys(_both("sigmoid", F.sigmoid, torch.sigmoid_, "sigmoid_"), nn.Sigmoid),
    **dict.fromkeys(_both("tanh", F.tanh, torch.tanh_, "tanh_"), nn.Tanh),
    **dict.fromkeys(_both("abs"), Abs),
    **dict.fromkeys(_both("clamp", "clamp_", torch.clip, "clip"), _clamp),
    F.relu6: nn.ReLU6,
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), nn.LeakyReLU),
    **dict.fromkeys((F.prelu, torch.prelu, "prelu"), _prelu),
    F.rrelu: _rrelu,
    **dict.fromkeys((F.elu, F.elu_), nn.ELU),
    **dict.fromkeys((F.selu, torch.selu), nn.SELU),
    **dict.fromkeys((F.celu, torch.celu), nn.CELU),
    F.gelu: _gelu,
    F.silu: nn.SiLU,
    F.mish: nn.Mish,
    F.softplus: nn.Softplus,
    F.softsign: nn.Softsign,
    F.logsigmoid: nn.LogSigmoid,
    F.tanhshrink: nn.Tanhshrink,
    F.softshrink: nn.Softshrink,
    F.hardshrink: nn.Hardshrink,
    F.hardtanh: nn.Hardtanh,
    F.hardsigmoid: nn.Hardsigmoid,
    F.hardswish: nn.Hardswish,
    **dict.fromkeys((F.threshold, torch.threshold), nn.Threshold),
    F.glu: nn.GLU,
    **dict.fromkeys(_both("softmax", F.softmax), _along(nn.Softmax)),
    **dict.fromkeys(_both("log_softmax", F.log_softmax), _along(nn.LogSoftmax)),
    F.softmin: _along(nn.Softmin),
    F.avg_pool1d: nn.AvgPool1d,
    F.avg_pool2d: nn.AvgPool2d,
    F.avg_pool3d: nn.AvgPool3d,
    F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.adaptive_avg_pool3d: nn.AdaptiveAvgPool3d,
    F.max_pool1d: _max_pool(nn.MaxPool1d),
    F.max_pool2d: _max_pool(nn.MaxPool2d),
    F.max_pool3d: _max_pool(nn.MaxPool3d),
    F.dropout: _dropout(nn.Dropout),
    F.dropout1d: _dropout(nn.Dropout1d),
    F.dropout2d: _dropout(nn.Dropout2d),
    F.dropout3d: _dropout(nn.Dropout3d),
    F.linear: _linear,
    **dict.fromkeys(_both("matmul", operator.matmul), _matmul),
    F.conv1d: _convolution(nn.Conv1d),
    F.conv2d: _convolution(nn.Conv2d),
    F.conv3d: _convolution(nn.Conv3d),
    F.batch_norm: _batch_norm,
    **dict.fromkeys(_both("mean"), _reduced(Mean)),
    **dict.fromkeys(_both("sum"), _reduced(Sum)),
    **dict.fromkeys(_both("flatten"), _flatten),
    **dict.fromkeys(("view", "reshape"), _view),
    torch.reshape: lambda shape: _view(*shape),
    **dict.fromkeys(_both("unflatten"), _moved("unflatten")),
    **dict.fromkeys(_both("permute"), _moved("permute")),
    **dict.fromkeys(_both("transpose"), _moved("transpose")),
    **dict.fromkeys(_both("squeeze"), _moved("squeeze")),
    **dict.fromkeys(_both("unsqueeze"), _moved("unsqueeze")),
    operator.getitem: _moved("__getitem__"),
    **dict.fromkeys(("contiguous", "clone", torch.clone), _identity),
}


def called(target: Any) -> str:
    """The name that a reader of `forward` sees."""
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def layer_of(target: Any, args: tuple, kwargs: dict[str, Any]) -> nn.Module:
    """The layer for a call; args: those after the value. ValueError lists what is known."""
    if target not in FUNCTIONS:
        known = sorted({called(f) for f in FUNCTIONS})
        raise ValueError(f"forward calls {called(target)!r}, which has no bounds; known: {known}")
    try:
        return FUNCTIONS[target](*args, **kwargs)
    except (TypeError, AssertionError) as error:
        raise ValueError(
            f"forward calls {called(target)!r} with {args} {kwargs}: {error}"
        ) from error

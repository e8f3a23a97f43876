r"""A network as people bring it, and as an attack asks it: for logits $h(x)$ of shape (n, k).

`attacking` puts it in eval mode with its parameters frozen. `evaluating` does that and hands over
a `Classifier`: any callable, whatever it returns its logits in, and never a write into its input.
`check_labels` and `check_logits` refuse, in words, what makes no sense.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

Labels = Int[Tensor, " n"]
Model = Callable[[Tensor], Any]  # a network, or any function of a batch that asks one
LAYERS = ("torch.nn.", "adversarial_lab.")  # modules known to take any layout in memory


class NoGradient(ValueError):
    """The model has no gradient with respect to its input."""

    def __init__(self) -> None:
        super().__init__(
            "the model has no gradient with respect to its input (it detaches, or computes outside"
            " torch), so no ascent can move: attack it with square, along or transfer, and ask"
            " masking_report"
        )


class Classifier(nn.Module):
    """Any model as an attack asks it: logits (n, k), and the input is left as it was."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.writes = True  # into its input? the first pass tells

    def forward(self, z: Tensor) -> Tensor:
        if not self.writes:
            return self._ask(z)
        own = z.clone()
        logits = self._ask(own)
        self.writes = own._version > 0 or not torch.equal(own, z)
        return logits

    def _ask(self, z: Tensor) -> Tensor:
        try:
            logits = logits_of(self.model(z))
        except RuntimeError as error:
            if z.requires_grad and "numpy()" in str(error):
                raise NoGradient from error
            raise
        if z.requires_grad and not logits.requires_grad:
            raise NoGradient
        return logits


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returns: a tensor, an object with `.logits` or a dict with them.

    (n, k, 1, 1) becomes (n, k). Raises ValueError on anything else, with what to wrap.
    """
    found = output.get("logits") if isinstance(output, dict) else output
    found = getattr(found, "logits", found)
    if not isinstance(found, Tensor):
        what = f"a dict with keys {list(output)}" if isinstance(output, dict) else type(output)
        raise ValueError(
            f"model must return logits, a tensor (n, k), got {what}: wrap it, as in"
            " lambda x: model(x)[0]"
        )
    flat = found.ndim > 2 and found.shape[2:].numel() == 1
    return found.flatten(1) if flat else found


def networks(model: Any) -> list[nn.Module]:
    """The networks behind a model: itself, or those that a function, method or object names."""
    if isinstance(model, nn.Module):
        return [model]
    if isinstance(model, partial):
        parts = (model.func, *model.args, *model.keywords.values())
        return [network for part in parts for network in networks(part)]
    if inspect.ismethod(model):
        return networks(model.__self__)
    if inspect.isfunction(model):
        names = inspect.getclosurevars(model)
        inside = [*names.nonlocals.values(), *names.globals.values()]
    else:
        inside = list(getattr(model, "__dict__", {}).values())
    return [part for part in inside if isinstance(part, nn.Module)]


@contextmanager
def attacking(model: Model) -> Iterator[None]:
    """Eval mode, parameters frozen: only the input has a gradient. Both restored on exit.

    Of a function, the networks it names (`networks`). Raises ValueError on TorchScript.
    """
    found = networks(model)
    if any(isinstance(network, torch.jit.ScriptModule) for network in found):
        raise ValueError(
            "model is TorchScript, whose parameters cannot be frozen: give the nn.Module that it"
            " was scripted or traced from"
        )
    modes = [(m, m.training) for network in found for m in network.modules()]
    flags = [(p, p.requires_grad) for network in found for p in network.parameters()]
    try:
        for network in found:
            network.eval().requires_grad_(False)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextmanager
def evaluating(
    model: Model,
    layout: torch.memory_format = torch.channels_last,
    dtype: torch.dtype | None = None,
) -> Iterator[Classifier]:
    """`attacking`, the model as a `Classifier`, gradients on, convolutions stored in `layout`.

    dtype: what the network computes in, on a copy if need be; None leaves it. Channels last takes
    up to a fifth off an attack by gradients on a CPU; forward passes alone are faster in torch's
    own order, `torch.contiguous_format`.
    """
    with attacking(model), torch.inference_mode(False), torch.enable_grad():
        if not isinstance(model, Classifier):
            model = Classifier(model if dtype is None else computing_in(dtype, model))
        with _stored(model, layout):
            yield model


@contextmanager
def _stored(model: nn.Module, layout: torch.memory_format) -> Iterator[None]:
    """Kernels of convolutions in this layout, unless code of others might `view` what comes out."""
    known = all(type(module).__module__.startswith(LAYERS) for module in model.modules())
    kept = [(p, p.data) for p in model.parameters() if known and p.ndim == 4]
    try:
        for parameter, data in kept:
            parameter.data = data.contiguous(memory_format=layout)
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def precision(model: Model, x: Tensor) -> torch.dtype:
    """float32, or what the input or the network needs if that is more."""
    return reduce(torch.promote_types, (x.dtype, *_dtypes(model)), torch.float32)


def computing_in(dtype: torch.dtype, model: Model) -> Model:
    """The model, or a copy of it with every weight in this dtype; a function cannot be copied."""
    if _dtypes(model) <= {dtype}:
        return model
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model is a function of a network in {_dtypes(model)}, to be evaluated in {dtype}:"
            " convert the network and x first, as in network.float() and x.float()"
        )
    try:
        return copy.deepcopy(model).to(dtype)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"model could not be copied to {dtype} ({error}): give it and x in that precision"
        ) from error


def _dtypes(model: Model) -> set[torch.dtype]:
    found = networks(model)
    kept = [v for network in found for v in (*network.parameters(), *network.buffers())]
    return {v.dtype for v in kept if v.is_floating_point() and v.itemsize > 1}  # not float8


def check_labels(y: Any, x: Tensor) -> Labels:
    """Labels as int64 (n,), beside the images x; also from other integers, bool, and (n, 1).

    Raises ValueError unless they are integers, one for each of x.
    """
    y, n = torch.as_tensor(y, device=x.device), len(x)
    if y.is_floating_point() or y.is_complex():
        raise ValueError(f"y must be integer labels (n,), got {y.dtype} of shape {tuple(y.shape)}")
    if y.shape == (n, 1):
        y = y.squeeze(1)
    if y.ndim > 1:
        raise ValueError(
            f"y must be integer labels (n,), got shape {tuple(y.shape)}: of one-hot rows,"
            " y.argmax(1)"
        )
    if y.numel() != n or y.ndim == 0:
        alone = ": a single image needs a batch, x[None] and y[None]" if y.numel() == 1 else ""
        raise ValueError(
            f"y must hold one label per example, got {y.numel()} for {n} examples{alone}"
        )
    return y.long()


def check_logits(logits: Tensor, y: Tensor) -> None:
    """Raise ValueError unless logits (n, k) and labels y (n,) belong together."""
    n = len(y)
    if y.ndim != 1 or y.is_floating_point():
        raise ValueError(f"y must be integer labels (n,), got {y.dtype} of shape {tuple(y.shape)}")
    if logits.ndim != 2 or logits.shape[0] != n or logits.shape[1] < 2:
        one = ": of one logit z make two, torch.cat([-z, z], 1)" if logits.numel() == n else ""
        raise ValueError(
            f"model must return logits of shape (n, k) for {n} labels, got"
            f" {tuple(logits.shape)}{one}"
        )
    if y.min() < 0 or y.max() >= logits.shape[1]:
        raise ValueError(
            f"y must hold labels 0..{logits.shape[1] - 1}, got {int(y.min())}..{int(y.max())}"
        )
    _check_values(logits)


def _check_values(logits: Tensor) -> None:
    if not logits.isfinite().all():
        bad = int((~logits.isfinite()).flatten(1).any(1).sum())
        raise ValueError(
            f"model must return finite logits, got NaN or inf for {bad} of {len(logits)} examples"
        )
    if (logits >= 0).all() and (logits.sum(1) - 1).abs().max() < 1e-4:
        raise ValueError(
            "model must return logits, got probabilities: a second softmax flattens the gradient"
            " and only looks like robustness (Section 17.2)"
        )


def slope(value: Tensor, z: Tensor) -> Tensor:
    """The gradient of each example's value, (n,), at z; summed over the examples, not averaged."""
    (g,) = torch.autograd.grad(value.sum(), z, allow_unused=True)
    if g is None:
        raise NoGradient
    return g

"""What a device is asked to do and what it could do: half precision, compiling, counted FLOPs.

A GPU of today computes faster in half precision, with pixels' channels last. Processors differ: one
with bfloat16 instructions gains twofold, one without loses tenfold. So on a CPU a probe tells.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from adversarial_lab.nets import PreActBlock
from adversarial_lab.training import Objective

SPEEDS = ("plain", "half", "compiled")  # compiled: in half precision too
MARGIN = 0.9  # of the time of torch's own way: what another way must take at most to be chosen
LOSS_SCALE = 1024.0  # of float16 gradients, which underflow below 6e-8


@dataclass(frozen=True)
class Speed:
    """How the device is used; what it cannot do is left out, and the record says so."""

    device: torch.device
    half: torch.dtype | None  # of autocast; None: float32 throughout
    compiled: bool
    channels_last: bool = False  # how images and convolutions lie in memory

    @property
    def precision(self) -> str:
        return str(self.half or torch.float32).removeprefix("torch.")

    def autocast(self) -> torch.autocast:
        dtype = self.half or torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.half is not None)

    def place(self, model: nn.Module) -> nn.Module:
        """The network on the device, its convolutions in the order that images shall have."""
        model = model.to(self.device)
        if self.channels_last:
            for p in model.parameters():
                if p.ndim == 4:
                    p.data = p.data.contiguous(memory_format=torch.channels_last)
        if self.compiled:
            model.compile()
        return model


class InHalf(nn.Module):
    """The network under autocast, its logits in float32 again: losses are never taken in half."""

    def __init__(self, model: nn.Module, how: Speed) -> None:
        super().__init__()
        self.model, self.how = model, how
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        with self.how.autocast():
            return self.model(x).float()


_LIMITS = [SPEEDS[-1]]


@contextmanager
def at_most(limit: str) -> Iterator[None]:
    """Inside, a run computes in this way at most, whatever it wishes: others failed here."""
    _LIMITS.append(limit)
    try:
        yield
    finally:
        _LIMITS.pop()


def speed(device: torch.device, wish: str) -> Speed:
    """The wish, one of `SPEEDS`, as far as the device grants it; on a CPU a short probe tells."""
    if wish not in SPEEDS:
        raise ValueError(f"speed must be one of {SPEEDS}, got {wish!r}")
    wish = min(wish, *_LIMITS, key=SPEEDS.index)
    if wish == "plain":
        return Speed(device, None, False, channels_last=device.type == "cuda")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        half = torch.bfloat16 if native else torch.float16
        how = Speed(device, half, False, channels_last=True)
    elif device.type == "cpu":
        how = fastest(probe())
    else:
        return Speed(device, None, False)
    return replace(how, compiled=True) if wish == "compiled" and compiles(device) else how


CPU_WAYS = {
    "float32": Speed(torch.device("cpu"), None, False),
    "float32, channels last": Speed(torch.device("cpu"), None, False, channels_last=True),
    "bfloat16, channels last": Speed(torch.device("cpu"), torch.bfloat16, False, True),
}


@cache
def compiles(device: torch.device) -> bool:
    """Can torch.compile make a program for this device? It wants a compiler; without, says why."""
    try:
        torch.compile(lambda v: v.sin() + 1)(torch.ones(3, device=device, requires_grad=True))
    except Exception as error:  # whatever its back end raises, the eager network does the same work
        reason = str(error).strip().splitlines() or [""]
        print(f"not compiled: {type(error).__name__}: {reason[0][:200]}", file=sys.stderr)
        return False
    return True


def fastest(seconds: dict[str, float]) -> Speed:
    """The way of `CPU_WAYS` that took least, if it is clearly less than torch's own took."""
    best = min(seconds, key=seconds.__getitem__)
    return CPU_WAYS[best if seconds[best] <= MARGIN * seconds["float32"] else "float32"]


@cache
def probe(repeats: int = 4) -> dict[str, float]:
    """CPU seconds of a training step of a small network in each of `CPU_WAYS`, best of `repeats`.

    Taken in turn, so that other work on the machine slows all of them.
    """
    x = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    steps = {name: _step(how, x) for name, how in CPU_WAYS.items()}
    rounds = [
        {name: _cpu_seconds(step) for name, step in steps.items()} for _ in range(1 + repeats)
    ]
    return {name: min(found[name] for found in rounds[1:]) for name in steps}  # the first warms up


def _step(how: Speed, x: Tensor) -> Callable[[], None]:
    """Forward and backward of two blocks of a residual network: what a training's time goes to."""
    with torch.random.fork_rng(devices=[]):
        first, blocks = (
            nn.Conv2d(3, 16, 3, padding=1),
            (PreActBlock(16, 16, 1), PreActBlock(16, 32, 2)),
        )
    model = InHalf(how.place(nn.Sequential(first, *blocks)), how)
    return lambda: model(x).sum().backward()


def _cpu_seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def in_half(objective: Objective, how: Speed, optimizer: torch.optim.Optimizer) -> Objective:
    """The objective of the network in half precision (`InHalf`), if that is how.

    In float16 its gradient is scaled up, and down in the step; the value keeps its size. Attacks
    have a scale of their own (`pgd.SCALE`).
    """
    if how.half is None:
        return objective
    scale = LOSS_SCALE if how.half is torch.float16 else 1.0
    if scale != 1.0:
        optimizer.register_step_pre_hook(lambda *_: _unscale(optimizer, scale))

    def wrapped(model: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> Tensor:
        loss = objective(InHalf(model, how), x, y, **settings)
        return loss if scale == 1.0 else loss.detach() + scale * (loss - loss.detach())

    return wrapped


def _unscale(optimizer: torch.optim.Optimizer, scale: float) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                p.grad.div_(scale)


class FlopCounter(TorchDispatchMode):
    """Counts products and convolutions by torch's own formulas.

    torch's FlopCounterMode would also tell modules apart, and for that refuses the gradient with
    respect to a network's input.
    """

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


def count_flops(
    objective: Objective, model: nn.Module, x: Tensor, y: Tensor, settings: dict[str, Any]
) -> float:
    """Floating point operations of one training step for each image."""
    copy = deepcopy(model).train()
    with FlopCounter() as counter:
        objective(copy, x, y, **settings).backward()
    return counter.flops / len(x)


def matmul_rate(how: Speed, *, side: int | None = None, repeats: int = 10) -> float:
    """FLOP a second of square matrix products on this device, the best of `repeats`."""
    gpu = how.device.type == "cuda"
    side = side or (8192 if gpu else 512)
    a = torch.randn(side, side, device=how.device, dtype=how.half or torch.float32)
    seconds = min(seconds_of(lambda: a @ a, gpu) for _ in range(repeats))
    return 2 * side**3 / seconds


def seconds_of(work: Callable[[], Any], gpu: bool) -> float:
    wait: Callable[[], Any] = torch.cuda.synchronize if gpu else lambda: None
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def told(done: dict[str, Any]) -> str:
    """The speed of a training in one line."""
    return (
        f"{done['pflop']:.3g} PFLOP of training, {done['flop_per_second'] / 1e12:.3g} TFLOP/s:"
        f" {done['share_of_matmul']:.0%} of the matmul rate measured here"
        f" ({done['matmul_flop_per_second'] / 1e12:.3g} TFLOP/s, {done['precision']})"
    )

"""What a device is asked to do and what it could do: half precision, compiling, counted FLOPs."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from adversarial_lab.training import Objective

SPEEDS = ("plain", "half", "compiled")  # compiled: in half precision too
LOSS_SCALE = 1024.0  # of float16 gradients, which underflow below 6e-8


@dataclass(frozen=True)
class Speed:
    """How the device is used; what it cannot do is left out, and the record says so."""

    device: torch.device
    half: torch.dtype | None  # of autocast; None: float32 throughout
    compiled: bool

    @property
    def precision(self) -> str:
        return str(self.half or torch.float32).removeprefix("torch.")

    def autocast(self) -> torch.autocast:
        dtype = self.half or torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.half is not None)

    def place(self, model: nn.Module) -> nn.Module:
        """The network on the device; on a GPU its convolutions are stored channels last."""
        model = model.to(self.device)
        if self.device.type == "cuda":
            for p in model.parameters():
                if p.ndim == 4:
                    p.data = p.data.contiguous(memory_format=torch.channels_last)
        if self.compiled:
            model.compile()
        return model


def speed(device: torch.device, wish: str) -> Speed:
    """The wish, one of `SPEEDS`, as far as the device grants it: on a CPU everything is plain."""
    if wish not in SPEEDS:
        raise ValueError(f"speed must be one of {SPEEDS}, got {wish!r}")
    if device.type != "cuda" or wish == "plain":
        return Speed(device, None, False)
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return Speed(device, torch.bfloat16 if native else torch.float16, wish == "compiled")


def in_half(objective: Objective, how: Speed, optimizer: torch.optim.Optimizer) -> Objective:
    """The objective under autocast. In float16 its gradient is scaled up, and down in the step.

    The value keeps its size. Attacks have a scale of their own (`pgd.SCALE`).
    """
    scale = LOSS_SCALE if how.half is torch.float16 else 1.0
    if scale != 1.0:
        optimizer.register_step_pre_hook(lambda *_: _unscale(optimizer, scale))

    def wrapped(model: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> Tensor:
        with how.autocast():
            loss = objective(model, x, y, **settings)
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
    seconds = min(_seconds(lambda: a @ a, gpu) for _ in range(repeats))
    return 2 * side**3 / seconds


def _seconds(work: Callable[[], Any], gpu: bool) -> float:
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

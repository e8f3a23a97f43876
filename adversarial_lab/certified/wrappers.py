"""What stands around a network while it is read: compiled and parallel wrappers, shape checks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
from torch import nn

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrap(module: Any) -> nn.Module:
    """The network inside torch.compile or DataParallel."""
    while isinstance(module, PARALLEL) or hasattr(module, "_orig_mod"):
        module = module.module if isinstance(module, PARALLEL) else module._orig_mod
    return module


@contextmanager
def unwrapped(root: nn.Module) -> Iterator[None]:
    """The same inside the network, while it is read."""
    inside = [
        (parent, name, child)
        for parent in list(root.modules())
        for name, child in parent._modules.items()
        if child is not None and unwrap(child) is not child
    ]
    for parent, name, child in inside:
        parent._modules[name] = unwrap(child)
    try:
        yield
    finally:
        for parent, name, child in inside:
            parent._modules[name] = child


@contextmanager
def unchecked() -> Iterator[None]:
    """Shape checks off: a symbolic value has no shape, and some users check every call."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)

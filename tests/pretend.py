"""A GPU for machines that have none: tensors that say "meta" and compute on the CPU.

"meta" because a tensor of that device asks for no driver. What fails on a GPU because its tensors
are on two devices fails here too. What this cannot show: half precision, compiling, speed.
"""

from contextlib import contextmanager
from functools import partial
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU, CPU = torch.device("meta"), torch.device("cpu")
ACROSS = {"_to_copy", "copy_", "index", "index_put", "index_put_"}  # may meet another device


class OnGpu(torch.Tensor):
    """Wraps a tensor of the CPU, `inner`, which does the work."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=GPU
        )

    def __init__(self, inner):
        self.inner = inner

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, new):
        torch.Tensor.data.__set__(self, new)
        self.inner = new.inner

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _on_gpu(func, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Brings tensors that are made on the GPU, from nothing or from one of the CPU, there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _on_gpu(func, args, kwargs or {})


def _on_gpu(func, args, kwargs):
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = [isinstance(t, OnGpu) for t in tensors]
    wish = kwargs.get("device")
    gpu = any(there) if wish is None else torch.device(wish).type == GPU.type
    name = func.overloadpacket.__name__
    if name not in ACROSS and any(there):
        bad = [t.shape for t, on in zip(tensors, there, strict=True) if not on and t.ndim]
        assert not bad, f"{name} is asked to join a tensor of the CPU, {bad}, with one of the GPU"
    if wish is not None:
        kwargs = {**kwargs, "device": CPU}
    args, kwargs = tree_map_only(OnGpu, lambda t: t.inner, (args, kwargs))
    out = func(*args, **kwargs)
    if not gpu or out is None or (name == "copy_" and not there[0]):
        return out
    if name.endswith("_") and there[0]:
        return tensors[0]
    return tree_map_only(torch.Tensor, OnGpu, out)


class Placed(torch.Generator):
    """A generator of the CPU that says it is where it was asked to be."""

    device = CPU

    def __new__(cls, device=CPU):
        rng = super().__new__(cls)
        rng.device = torch.device(device)
        return rng

    def __init__(self, device=CPU):
        pass


class _Draws(TorchFunctionMode):
    """Asks of every draw that its generator is on its device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if rng := kwargs.get("generator"):
            where = torch.device(kwargs.get("device") or CPU)
            assert rng.device == where, f"a draw on {where} from a generator on {rng.device}"
        return func(*args, **kwargs)


@contextmanager
def pretended_gpu():
    """Inside, `nets.best_device()` is a GPU that is none."""
    plain = partial(torch.autocast, "cpu", enabled=False)
    with (
        mock.patch("torch.autocast", lambda device, **settings: plain()),
        mock.patch("adversarial_lab.nets.best_device", lambda: GPU),
        mock.patch("torch.Generator", Placed),
        _Draws(),
        _Factories(),
    ):
        yield GPU

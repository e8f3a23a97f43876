r"""Section 17.5.1: the features of a network's layers, and the heat maps of Figure 17.2.

A layer is a module by its name in `named_modules`; its features are its output, flattened to
(n, d). Forward hooks read them, and are gone when the pass ends, however it ends.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from adversarial_lab.cka.hsic import check_tensor
from adversarial_lab.cka.kernels import Features, linear_kernel
from adversarial_lab.cka.minibatch import Kernel, cka_path, final
from adversarial_lab.threat import Points
from adversarial_lab.training import Scalar, attacking

Take = Callable[[Tensor], Tensor]  # what is kept of a layer's features
Layers = Sequence[str] | str | None


@dataclass(frozen=True, eq=False)
class Similarity:
    """A heat map: values[i, j] is the CKA of layers_a[i] and layers_b[j] on n examples."""

    values: Float[Tensor, "p q"]
    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    n: int
    batch_size: int
    unbiased: bool


def layer_names(model: nn.Module) -> list[str]:
    """The direct children of a network, in order: what is compared where no layers are named."""
    return [name for name, _ in model.named_children()]


def features(
    model: nn.Module, x: Points, layers: Layers = None, *, batch_size: int = 500
) -> dict[str, Features]:
    """Layer name -> its outputs on x, flattened to (n, d), on the CPU, in the order of `layers`.

    The network runs in eval mode, without gradients, in batches; its modes are restored. Raises
    ValueError for a name that is no module, listing the names, and for a layer that does not
    run exactly once in a pass or does not return a tensor with one row per example.
    """
    names = check_layers(model, layers)
    parts = [outputs(model, part, names, _kept) for part in batches(x, batch_size)]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def similarity(
    model_a: nn.Module,
    model_b: nn.Module,
    x: Points,
    layers_a: Layers = None,
    layers_b: Layers = None,
    *,
    x_b: Float[Tensor, "m *d"] | None = None,
    kernel: Kernel = linear_kernel,
    unbiased: bool = True,
    batch_size: int = 500,
    progress: bool = False,
) -> Similarity:
    """CKA of every layer of model_a with every layer of model_b on x, Figure 17.2.

    layers_b: by default the names in layers_a. x_b: what model_b sees instead of x, row for row,
    such as the attacked images. Batch by batch, as `minibatch_cka`, so x should be in random
    order; batch_size >= len(x) is the CKA of all examples at once. Held at a time: a Gram matrix of
    batch_size^2 float64 numbers per layer, and the output of one layer. A layer that is constant
    over the examples has nan, with a warning that names it.
    """
    names_a = check_layers(model_a, layers_a)
    names_b = check_layers(model_b, layers_b or layers_a)
    other = x if x_b is None else x_b
    if len(other) != len(x):
        raise ValueError(f"x_b must have a row for each row of x, got {len(other)} for {len(x)}")
    same = model_a is model_b and names_a == names_b and other is x
    parts = list(zip(batches(x, batch_size), batches(other, batch_size), strict=True))

    def grams() -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        for one, two in tqdm(parts, "batches", leave=False, disable=not progress):
            k = list(outputs(model_a, one, names_a, kernel).values())
            yield k, k if same else list(outputs(model_b, two, names_b, kernel).values())

    values = final(cka_path(grams(), unbiased=unbiased))
    _name_dead(values, names_a, names_b)
    size = min(batch_size, len(x))
    return Similarity(values.cpu(), names_a, names_b, len(x), size, unbiased)


def _name_dead(values: Tensor, names_a: Sequence[str], names_b: Sequence[str]) -> None:
    """Warn of layers that say the same of every example: nan in the map, the rest stands."""
    gone = values.isnan()
    sides = ("model_a", names_a, gone.all(1)), ("model_b", names_b, gone.all(0))
    for model, names, lost in sides:
        if at := [name for name, is_lost in zip(names, lost.tolist(), strict=True) if is_lost]:
            warnings.warn(
                f"layers {at} of {model} are constant over the examples: their CKA is nan",
                stacklevel=3,
            )


def late_similarity(values: Float[Tensor, "p p"], last: int) -> Scalar:
    """Mean CKA of two different layers among the `last` ones of a self-similarity map.

    One number for the first pattern of Section 17.5.1, "higher self-similarity in deeper layers".
    """
    if not 2 <= last <= len(values):
        raise ValueError(f"last must be 2..{len(values)}, the number of layers, got {last}")
    block = values[-last:, -last:]
    return (block.sum() - block.trace()) / (last * (last - 1))


def check_layers(model: nn.Module, layers: Layers) -> tuple[str, ...]:
    """The names, if the network has such modules; one name may stand alone."""
    given = [layers] if isinstance(layers, str) else layers
    names = tuple(layer_names(model) if given is None else given)
    known = [name for name, _ in model.named_modules() if name]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"layers must be modules of the network, {known}; got {unknown}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"layers must be different names, at least one, got {list(names)}")
    return names


def batches(x: Points, batch_size: int) -> list[Tensor]:
    """x in as few parts as possible of at most batch_size rows, their sizes differing by 1."""
    check_tensor("x", x)
    if batch_size < 1 or len(x) < 1:
        raise ValueError(f"need batch_size >= 1 and len(x) >= 1, got {batch_size} and {len(x)}")
    return list(x.tensor_split(-(-len(x) // batch_size)))


def outputs(model: nn.Module, x: Points, names: Sequence[str], take: Take) -> dict[str, Tensor]:
    """One pass: layer name -> take(its features (n, d)), in the order of `names`."""
    with attacking(model), torch.no_grad(), _hooked(model, names, len(x), take) as found:
        model(x)
    if silent := [name for name in names if name not in found]:
        raise ValueError(f"layers {silent} did not run in this pass; name modules that do")
    return {name: found[name] for name in names}


@contextmanager
def _hooked(
    model: nn.Module, names: Sequence[str], n: int, take: Take
) -> Iterator[dict[str, Tensor]]:
    """A dict that the named modules fill while the network runs; no hook is left behind."""
    found: dict[str, Tensor] = {}
    modules = dict(model.named_modules())

    def hook(name: str) -> Callable:
        def keep(module: nn.Module, given: tuple, output: Any) -> None:
            if name in found:
                raise ValueError(f"layer {name!r} runs more than once in a pass; name another")
            if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != n:
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ValueError(f"layer {name!r} must return a tensor ({n}, ...), got {shape}")
            found[name] = take(output.detach().flatten(1))

        return keep

    handles = [modules[name].register_forward_hook(hook(name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _kept(output: Tensor) -> Tensor:
    """A copy on the CPU: an in-place layer that follows would overwrite the output itself."""
    return output.cpu().clone()

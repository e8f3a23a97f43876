"""Section 17.4.2: a network as the list of layers that bounds travel through.

`trace` reads any `nn.Module` whose forward is a fixed composition of layers: nested modules are
opened, functions such as ``F.relu`` and ``+`` become layers of their own. The graph holds the
network's own layers, so it sees new weights and a change of mode; nothing is copied.
"""

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jaxtyping
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from adversarial_lab.nets import Normalize

INPUT = "input"
LEAVES: set[type[nn.Module]] = {Normalize}  # layers outside torch.nn that are not opened


class Add(nn.Module):
    """The sum of two values: where a shortcut rejoins."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


@dataclass(frozen=True)
class Node:
    """One layer. `name` is its place in the network, `inputs` the names of what it reads."""

    name: str
    layer: nn.Module
    inputs: tuple[str, ...]
    done: tuple[str, ...] = ()  # what nobody reads after this layer


@dataclass(frozen=True)
class Graph:
    """Layers in an order in which they can be run; the last is the network's output."""

    nodes: tuple[Node, ...]

    def run(self, value: Any, step: Callable[..., Any]) -> Any:
        """The output when the input is `value` and a layer acts by step(node, *values)."""
        values = {INPUT: value}
        for node in self.nodes:
            values[node.name] = step(node, *[values[name] for name in node.inputs])
            for name in node.done:
                del values[name]
        return values[self.nodes[-1].name]

    def __call__(self, x: Tensor) -> Tensor:
        """The network itself, layer by layer."""
        return self.run(x, lambda node, *values: node.layer(*values))


def trace(model: nn.Module | Graph) -> Graph:
    """The graph of a network, in milliseconds; a graph is returned as it is.

    Raises ValueError where `forward` branches on values, calls what has no row in `FUNCTIONS`,
    takes or returns more than one tensor, writes over a value that is read again, or where a
    module has hooks, which bounds would not see.
    """
    if isinstance(model, Graph):
        return model
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(f"layer {name!r} has hooks, which bounds cannot see: remove them")
    nodes: list[Node] = []
    order, output = _symbolic(model)
    names = _names(order)
    for at in order[1:]:
        nodes.append(Node(names[at], _layer(at, model), tuple(names[i] for i in _inputs(at))))
    return Graph(_with_last_use(_only_needed(nodes, names[output])))


def _symbolic(model: nn.Module) -> tuple[list[fx.Node], fx.Node]:
    """torch.fx's nodes, one placeholder and the calls; and which of them is the output."""
    try:
        with _unchecked():
            order = list(_Tracer().trace(model).nodes)
    except (fx.proxy.TraceError, TypeError) as error:
        raise ValueError(
            f"model must be a fixed composition of layers, but {type(model).__name__} could not be"
            f" read symbolically: {error}"
        ) from error
    order = [at for at in order if at.op != "get_attr"]
    if [at.op for at in order].count("placeholder") != 1 or len(order) < 3:
        raise ValueError("model must take one tensor and do something to it")
    output = order.pop().args[0]
    if not isinstance(output, fx.Node):
        raise ValueError(f"model must return one tensor, got {output}")
    return order, output


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in LEAVES or super().is_leaf_module(m, module_qualified_name)


@contextmanager
def _unchecked() -> Iterator[None]:
    """Shape checks off: a symbolic value has no shape, and some users check every call."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def _names(order: list[fx.Node]) -> dict[fx.Node, str]:
    """A place for each node; a layer that is used again gets a number."""
    names, used = {order[0]: INPUT}, Counter[str]()
    for at in order[1:]:
        name = str(at.target) if at.op == "call_module" else at.name
        used[name] += 1
        names[at] = name if used[name] == 1 else f"{name}({used[name]})"
    return names


def _inputs(at: fx.Node) -> list[fx.Node]:
    inputs = [i for i in at.args if isinstance(i, fx.Node)]
    fine = len(inputs) == (2 if at.target in SUMS else 1) and list(at.args[: len(inputs)]) == inputs
    if not fine or any(i.op == "get_attr" for i in inputs):
        raise ValueError(f"{at.name!r} must act on values of the network alone, got {at.args}")
    return inputs


def _layer(at: fx.Node, model: nn.Module) -> nn.Module:
    if at.op == "call_module":
        layer = model.get_submodule(str(at.target))
    else:
        if at.target not in FUNCTIONS:
            known = sorted({getattr(f, "__name__", f) for f in FUNCTIONS})
            called = getattr(at.target, "__name__", at.target)
            raise ValueError(f"forward calls {called!r}, which has no bounds; known: {known}")
        layer = FUNCTIONS[at.target](*at.args[len(_inputs(at)) :], **at.kwargs)
    if getattr(layer, "return_indices", False):
        raise ValueError(f"layer {at.name!r} returns indices as well, which have no bounds")
    if not (getattr(layer, "inplace", False) or at.target is operator.iadd):
        return layer
    if len(_inputs(at)[0].users) > 1:
        raise ValueError(f"layer {at.name!r} writes over a value that is read elsewhere")
    layer = copy.copy(layer)
    layer.__dict__["inplace"] = False  # bounds must not write over each other
    return layer


def _add(alpha: float = 1) -> nn.Module:
    if alpha != 1:
        raise ValueError(f"torch.add with alpha={alpha} has no bounds, only a plain sum has")
    return Add()


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    if start_dim < 1:
        raise ValueError(f"flatten must keep the batch, start_dim >= 1, got {start_dim}")
    return nn.Flatten(start_dim, end_dim)


def _max_pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Module:
    # the function and the layer order their arguments differently
    return nn.MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)


SUMS = (operator.add, operator.iadd, torch.add, "add")

FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys(SUMS, _add),
    **dict.fromkeys((F.relu, torch.relu, "relu"), nn.ReLU),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid"), nn.Sigmoid),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh"), nn.Tanh),
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    F.leaky_relu: nn.LeakyReLU,
    F.elu: nn.ELU,
    F.softplus: nn.Softplus,
    F.hardtanh: nn.Hardtanh,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.max_pool2d: _max_pool,
}


def _only_needed(nodes: list[Node], output: str) -> list[Node]:
    """Without layers whose result never reaches the output."""
    needed, kept = {output}, []
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
            kept.append(node)
    if INPUT not in needed:
        raise ValueError("model must depend on its input")
    return kept[::-1]


def _with_last_use(nodes: list[Node]) -> tuple[Node, ...]:
    last = {name: i for i, node in enumerate(nodes) for name in node.inputs}
    return tuple(
        Node(node.name, node.layer, node.inputs, tuple(n for n, k in last.items() if k == i))
        for i, node in enumerate(nodes)
    )

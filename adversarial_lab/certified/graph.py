"""Section 17.4.2: a network as the layers that bounds travel through; `tracing` reads it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

INPUT = "input"


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

    def walk(self, value: Any, step: Callable[..., Any]) -> Iterator[tuple[Node, tuple, Any]]:
        """Yields each layer, what it is given and what it gives: step(node, *given).

        The input is `value`. What no later layer reads is dropped once the next one is asked for.
        """
        values = {INPUT: value}
        for node in self.nodes:
            given = tuple(values[name] for name in node.inputs)
            values[node.name] = step(node, *given)
            yield node, given, values[node.name]
            del given
            for name in node.done:
                del values[name]

    def run(self, value: Any, step: Callable[..., Any]) -> Any:
        """The output when the input is `value` and a layer acts by step(node, *values)."""
        for passed in self.walk(value, step):
            out = passed[2]
            del passed  # what the layer was given need not outlive it
        return out

    def __call__(self, x: Tensor) -> Tensor:
        """The network itself, layer by layer."""
        return self.run(x, lambda node, *values: node.layer(*values))

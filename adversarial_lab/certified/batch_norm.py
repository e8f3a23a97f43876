r"""Section 17.4.4: batch norm while a network is trained to be certified.

In training mode one image's output depends on the others, so no image has bounds of its own. Held
at the mean and variance of the clean batch the layer is affine, and the network is the one that
training sees. The gradient goes through both statistics. Source: Shi et al. 2021.
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.graph import Graph

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Held(nn.Module):
    """A batch norm at the mean and variance of one batch: z -> z * scale + shift by channel."""

    def __init__(self, layer: Any, z: Float[Tensor, "n c *d"]) -> None:
        super().__init__()
        variance, mean = torch.var_mean(z, [i for i in range(z.ndim) if i != 1], correction=0)
        self.scale = (variance + layer.eps).rsqrt()
        if layer.weight is not None:
            self.scale = self.scale * layer.weight
        bias = torch.zeros_like(mean) if layer.bias is None else layer.bias
        self.shift = bias - mean * self.scale
        self.offset = bias.abs() + (mean * self.scale).abs()  # of what shift is computed

    def forward(self, z: Float[Tensor, "n c *d"]) -> Float[Tensor, "n c *d"]:
        shape = (-1, *[1] * (z.ndim - 2))
        return z * self.scale.view(shape) + self.shift.view(shape)


def depends_on_batch(graph: Graph) -> bool:
    """Is there a batch norm in training mode?"""
    return any(isinstance(n.layer, BATCH_NORMS) and n.layer.training for n in graph.nodes)


def hold(graph: Graph, x: Float[Tensor, "n *d"]) -> tuple[Float[Tensor, "n k"], Graph]:
    """The network's logits, and the graph with its batch norms in training mode `Held` at them.

    One pass through the network, which moves the running statistics as every training step does.
    """
    held = []
    for node, given, out in graph.walk(x, lambda node, *values: node.layer(*values)):  # noqa: B007
        if isinstance(node.layer, BATCH_NORMS) and node.layer.training:
            node = replace(node, layer=Held(node.layer, *given))
        held.append(node)
    return out, Graph(tuple(held))

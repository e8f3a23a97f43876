r"""Lecture, explicit penalization: an L with $\|\nabla_x^2\,\ell(h(x),y)\|_2\le L$ for all x and y.

Two numbers travel through the layers of h: s, how far the values u so far can stretch a difference
(`certified.spectral.stretch`), and b, which bounds $\|\sum_kg_k\nabla^2u_k\|_2$ for every g of
length one. A linear layer multiplies both by its norm. An activation has
$s\leftarrow\sup|\sigma'|\,s$, $b\leftarrow\sup|\sigma'|\,b+\sup|\sigma''|\,s^2$, the s on the right
being the old one. Cross-entropy has the gradient $p-e_y$, of length $\sqrt2$ at most, and a Hessian
of norm 1/2 at most: $L=\frac12s^2+\sqrt2\,b$. What is added to all logits changes neither, so the
last layer counts without the mean of its rows.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from adversarial_lab.certified.affine import AFFINE
from adversarial_lab.certified.graph import Node
from adversarial_lab.certified.layers import Add, kind
from adversarial_lab.certified.spectral import Shape, stretch
from adversarial_lab.certified.tracing import trace

Bounded = tuple[Tensor, float, float]  # one example of what a layer gives, s and b

# sup |sigma''|; inf at a kink
BENDS: dict[type[nn.Module], Callable[[nn.Module], float]] = {
    nn.ELU: lambda layer: 1.0 if layer.alpha == 1 else math.inf,
    nn.Tanh: lambda layer: 4 / math.sqrt(27),
    nn.Sigmoid: lambda layer: 1 / math.sqrt(108),
    nn.ReLU: lambda layer: math.inf,
    nn.LeakyReLU: lambda layer: math.inf,
    Add: lambda layer: 0.0,
}


def curvature_bound(model: nn.Module, shape: Shape) -> float:
    r"""$L=\frac12s^2+\sqrt2\,b$, proven; inf for a network with kinks. shape: of one example.

    Attained by logistic models of two classes. For a network far above what can be met: the worst
    directions of the layers do not line up.
    """
    graph = trace(model)
    if any(math.isinf(bend(node.layer)) for node in graph.nodes):
        return math.inf

    def step(node: Node, *values: Bounded) -> Bounded:
        images, stretched, bent = zip(*values, strict=True)
        out = node.layer(*images)
        if isinstance(node.layer, Add):
            return out, sum(stretched), sum(bent)
        layer = _centred(node.layer) if node is graph.nodes[-1] else node.layer
        size = stretch(layer, tuple(images[0].shape[1:]))
        return out, size * stretched[0], size * bent[0] + bend(layer) * stretched[0] ** 2

    like = next(model.parameters(), torch.zeros(()))
    with torch.no_grad():
        _, s, b = graph.run((like.new_zeros(1, *shape), 1.0, 0.0), step)
    return s**2 / 2 + math.sqrt(2) * b


def bend(layer: nn.Module) -> float:
    r"""$\sup|\sigma''|$ of one layer, 0 for a linear one. TypeError lists the known layers."""
    if kind(layer) in AFFINE:
        return 0.0
    if kind(layer) not in BENDS:
        known = sorted(of.__name__ for of in [*AFFINE, *BENDS])
        raise TypeError(f"no curvature rule for {type(layer).__name__}; known: {known}")
    return BENDS[kind(layer)](layer)


def _centred(layer: nn.Module) -> nn.Module:
    """A dense layer without what all its outputs share; any other layer as it is."""
    if not isinstance(layer, nn.Linear):
        return layer
    centred = nn.Linear(layer.in_features, layer.out_features, bias=False).to(layer.weight)
    centred.weight.copy_(layer.weight - layer.weight.mean(0))
    return centred

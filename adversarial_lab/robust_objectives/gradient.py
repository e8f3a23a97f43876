r"""Lecture, regularisation: to first order the worst loss is $\ell+\varepsilon\|\nabla_x\ell\|_*$.

Exact where the loss is linear in x on N(x). For a loss with curvature between -L and L along every
direction (unit in the threat's norm) the error is at most $L\varepsilon^2/2$. Across a kink, as in
ReLU networks, it can be of order eps.
"""

import torch
import torch.nn.functional as F
from torch import nn

from adversarial_lab.masking.curvature import Values, gradient
from adversarial_lab.robust_objectives.linear import dual_norm
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels, PerExample, Scalar, check_logits


def first_order(f: PerExample, x: Points, threat: ThreatModel) -> Values:
    r"""$f(x)+\varepsilon\|\nabla f(x)\|_*\approx\max_{\|\delta\|\le\varepsilon}f(x+\delta)$.

    The box is ignored: inside one the first-order gain can be smaller.
    """
    with torch.no_grad():
        value = f(x)
    return value + threat.eps * dual_norm(gradient(f, x), threat)


def gradient_penalty(model: nn.Module, x: Points, y: Labels, *, threat: ThreatModel) -> Scalar:
    r"""$\mathbb E\,[\ell(h(x),y)+\varepsilon\|\nabla_x\ell(h(x),y)\|_*]$ with cross-entropy.

    An objective for `training.fit`. Its gradient in the weights differentiates the input gradient
    once more (double backward). One forward and two backward passes, whatever eps.
    Source: Drucker and Le Cun 1992 for the squared norm; Lyu, Huang and Liang 2015 for dual norms.
    """
    x = x.detach().requires_grad_()
    logits = model(x)
    check_logits(logits.detach(), y)
    loss = F.cross_entropy(logits, y, reduction="none")
    (g,) = torch.autograd.grad(loss.sum(), x, create_graph=True)
    return (loss + threat.eps * dual_norm(g, threat)).mean()

r"""Section 17.3: TRADES, accuracy plus $\beta$ times stability, Eq. (4) (Zhang et al. 2019).

The h(x) of Eq. (4) is the probability vector, here p(x) = softmax(h(x)) with h(x) the logits, which
is what functions take. $\beta$ is $1/\lambda$ in the paper.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.classifier import Model
from adversarial_lab.pgd import attack_model, pgd
from adversarial_lab.protocol import Attacked
from adversarial_lab.threat import Points, Rng, ThreatModel, normal_like
from adversarial_lab.training import (
    Attack,
    Labels,
    PerExample,
    Scalar,
    attacking,
    check_logits,
    erm,
)

Logits = Float[Tensor, "n k"]


def kl(p_logits: Logits, q_logits: Logits) -> Float[Tensor, " n"]:
    r"""$D_{\mathrm{KL}}(p\|q)=\sum_j p_j\log(p_j/q_j)$ of each row, in nats, as in Eq. (4).

    p = softmax(p_logits) stands first, q = softmax(q_logits) second; both carry a gradient.
    """
    if p_logits.shape != q_logits.shape:
        raise ValueError(
            f"p_logits and q_logits must have one shape (n, k), got {tuple(p_logits.shape)} and"
            f" {tuple(q_logits.shape)}"
        )
    log_p, log_q = p_logits.log_softmax(1), q_logits.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def trades(
    model: nn.Module,
    x: Points,
    y: Labels,
    *,
    threat: ThreatModel,
    attack: Attack,
    beta: float,
) -> Scalar:
    r"""$\mathbb{E}\,[\ell(h(x),y)+\beta\max_{x'\in N(x)}D_{\mathrm{KL}}(p(x)\|p(x'))]$, Eq. (4).

    The maximum is found by `attack` on the network in eval mode, with p(x) held constant.
    In the gradient of Section 17.3.4 x' is constant, and p(x) and p(x') both depend on the weights.
    The attack must not start at x, where the gradient is zero: see `pgd_from_noise`.
    """
    if not (beta >= 0 and math.isfinite(beta)):
        raise ValueError(f"beta must be finite and >= 0, got {beta}")
    if beta == 0:
        return erm(model, x, y)
    threat.check(x)
    with attacking(model):
        constant = model(x).detach()
        check_logits(constant, y)
        z = attack(lambda z: kl(constant, model(z)), x, threat)
    clean = model(x)
    return F.cross_entropy(clean, y) + beta * kl(clean, model(z.detach())).mean()


def pgd_from_noise(
    f: PerExample,
    x: Points,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float | None = None,
    noise: float = 0.001,
    rng: Rng = None,
) -> Points:
    r"""`pgd` from $x^{(0)}=x+\xi$, $\xi\sim N(0,\mathrm{noise}^2I)$, Section 17.3.3.

    noise: standard deviation in data units, 0.001 in the authors' code. At x itself the KL to p(x)
    is at its minimum 0 and its gradient is 0, so PGD has nowhere to go; noise = 0 is refused.
    """
    if not (noise > 0 and math.isfinite(noise)):
        raise ValueError(
            f"noise must be finite and > 0, got {noise}: at x the KL divergence to p(x) is at its"
            " minimum, its gradient is 0, and PGD would follow rounding errors"
        )
    start = x + noise * normal_like(x, rng)
    return pgd(f, x, threat, steps=steps, step_size=step_size, rng=rng, start=start)


@dataclass(frozen=True)
class Risks:
    r"""The 0-1 risks of Section 17.3.1, as shares of n examples; robust = natural + boundary.

    natural: wrong at x. boundary: right at x, wrong somewhere in N(x). robust: wrong somewhere in
    N(x), x included.
    """

    natural: float
    boundary: float
    robust: float
    n: int


def decompose(
    model: Model,
    x: Points,
    y: Tensor,
    threat: ThreatModel,
    *,
    attack: Callable[..., Attacked] = attack_model,
    **settings: Any,
) -> Risks:
    r"""$R_{\mathrm{rob}}=R_{\mathrm{nat}}+R_{\mathrm{bdy}}$ for 0-1 loss, Section 17.3.1.

    attack: any attack on a classifier, with its settings; what it finds bounds boundary and robust
    from below.
    """
    found = attack(model, x, y, threat, **settings)
    natural, boundary, robust = (
        int(event.sum()) / len(x)
        for event in (found.natural, found.fooled & ~found.natural, found.fooled)
    )
    return Risks(natural, boundary, robust, n=len(x))


def flip_cost(p_logits: Logits) -> Float[Tensor, " n"]:
    r"""Least $D_{\mathrm{KL}}(p\|q)$ over all q with another top class, in nats: Section 17.3.2.

    The nearest such q gives the two largest probabilities a >= b of p one value, (a + b) / 2, so
    the cost is a ln(2a / (a + b)) + b ln(2b / (a + b)). Where the KL stays below it on all of
    N(x), the prediction is constant there: so boundary risk <= share of x with max KL >= cost.
    """
    a, b = p_logits.softmax(1).topk(2).values.unbind(1)
    middle = (a + b) / 2
    return torch.xlogy(a, a / middle) + torch.xlogy(b, b / middle)

r"""Section 17.4.4: certified training, a loss that no attack in N(x) can exceed.

Bounds on the margins give the worst logits $\hat z$: 0 for the class y and, for each rival j, minus
the lower bound on $z_y-z_j$. Cross-entropy there is an upper bound on $\max_{N(x)}\ell$, where PGD
training minimises a lower one. At first it is useless, so eps and its weight grow: see
`certified_ramp`.
Sources: Gowal et al. 2018 (IBP), Zhang et al. 2020 (CROWN-IBP). `short_warmup` has the faster way
of Shi et al. 2021.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.certified.batch_norm import depends_on_batch, hold
from adversarial_lab.certified.criterion import Margins, interval_margins
from adversarial_lab.certified.crown import crown_margins
from adversarial_lab.certified.interval import region
from adversarial_lab.certified.tracing import trace
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels, Scalar, check_logits


def ibp_loss(
    model: nn.Module, x: Points, y: Labels, *, threat: ThreatModel, kappa: float
) -> Scalar:
    r"""$\kappa\,\ell(h(x),y)+(1-\kappa)\,\ell(\hat z,y)$, batch mean, with interval bounds.

    kappa in [0, 1]. kappa = 1 is `training.erm`, and so is threat.eps = 0. Batch norm in training
    mode is held at the clean batch's statistics. Raises ValueError on layers without an interval
    rule.
    """
    return crown_ibp_loss(model, x, y, threat=threat, kappa=kappa, beta=0.0)


def crown_ibp_loss(
    model: nn.Module,
    x: Points,
    y: Labels,
    *,
    threat: ThreatModel,
    kappa: float,
    beta: float,
) -> Scalar:
    r"""`ibp_loss` with $\hat z=\beta\,\hat z_{\text{CROWN-IBP}}+(1-\beta)\,\hat z_{\text{IBP}}$.

    Linear bounds on the margins, tight early in training, hand over to interval bounds as beta goes
    from 1 to 0. beta = 0 is `ibp_loss` and costs no linear bounds.
    """
    check_share("kappa", kappa)
    check_share("beta", beta)
    threat.check(x)
    graph = trace(model, x[:1])
    if kappa == 0 and not depends_on_batch(graph):
        return F.cross_entropy(_worst(graph, x, y, threat, beta), y)
    clean, graph = hold(graph, x)
    check_logits(clean.detach(), y)
    loss = F.cross_entropy(clean, y)
    if kappa == 1:
        return loss
    return kappa * loss + (1 - kappa) * F.cross_entropy(_worst(graph, x, y, threat, beta), y)


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless the value is in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def worst_logits(margins: Margins, y: Labels) -> Float[Tensor, "n k"]:
    r"""$\hat z_j=-\underline{z_y-z_j}$ and $\hat z_y=0$: no x' in N(x) has a larger cross-entropy.

    Cross-entropy sees differences of logits alone, and grows with each $z_j-z_y$.
    """
    return (-margins).scatter(1, y[:, None], 0.0)


def _worst(graph: Any, x: Tensor, y: Tensor, threat: ThreatModel, beta: float) -> Tensor:
    where = region(x, threat)
    if beta == 0:
        return worst_logits(interval_margins(graph, where, y, outward=False), y)
    linear = worst_logits(crown_margins(graph, where, y, outward=False, refine=False), y)
    if beta == 1:
        return linear
    return torch.lerp(_worst(graph, x, y, threat, 0.0), linear, beta)


def certified_ramp(
    threat: ThreatModel,
    *,
    warm: float,
    over: float,
    excess: float = 1.1,
    kappa: float = 0.5,
    mix: bool = False,
) -> Callable[[float], dict[str, Any]]:
    """A ramp (`training.fit`): plain training first, then eps and the weight of its bound grow.

    warm: fraction of training at eps 0 and kappa 1. over: fraction over which eps then rises to
    excess * threat.eps and kappa falls to its last value, linearly. mix: beta falls from 1 to 0 as
    well, for `crown_ibp_loss`.
    """
    growth = grown(warm, over)
    if not (excess >= 1 and 0 <= kappa <= 1):
        raise ValueError(f"need excess >= 1 and kappa in [0, 1], got {excess} and {kappa}")
    target = threat.with_eps(excess * threat.eps)

    def ramp(t: float) -> dict[str, Any]:
        done = growth(t)
        settings = {"threat": target.with_eps(target.eps * done), "kappa": 1 - (1 - kappa) * done}
        return settings | ({"beta": 1 - done} if mix else {})

    return ramp


def grown(warm: float, over: float) -> Callable[[float], float]:
    """Fraction of training -> 0 until `warm`, then linearly up to 1 over the fraction `over`."""
    if not (0 <= warm < 1 and 0 < over <= 1 - warm):
        raise ValueError(f"need 0 <= warm, 0 < over, warm + over <= 1, got {warm} and {over}")
    return lambda t: min(1.0, max(0.0, (t - warm) / over))

r"""Lecture, regularisation: for a linear model the worst loss is a loss plus a norm of the weights.

The model is $t=w^\top x+b$; an adversary moves it by at most $\varepsilon\|w\|_*$, the dual norm.
y is -1 or 1 for the margin losses, and any number for the squared one. No box: with one, the
adversary cannot always go the whole way, and the sums here are upper bounds.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from adversarial_lab.robust_objectives.wrm import check_price
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Scalar

Rows = Float[Tensor, "n d"]
Values = Float[Tensor, " n"]
Vector = Float[Tensor, " d"]


def hinge(t: Values, y: Values, reach: Scalar) -> Values:
    r"""$[1-yt+\mathrm{reach}]_+$: the margin falls by the reach."""
    return (1 - y * t + reach).clamp(min=0)


def logistic(t: Values, y: Values, reach: Scalar) -> Values:
    r"""$\ln(1+e^{-yt+\mathrm{reach}})$."""
    return F.softplus(reach - y * t)


def squared(t: Values, y: Values, reach: Scalar) -> Values:
    r"""$(|t-y|+\mathrm{reach})^2$: the residual grows, whatever its sign."""
    return ((t - y).abs() + reach).square()


Loss = Callable[[Values, Values, Scalar], Values]
LOSSES: dict[str, Loss] = {
    "hinge": hinge,
    "logistic": logistic,
    "squared": squared,
}


def dual_norm(v: Points, threat: ThreatModel) -> Values:
    r"""$\|v\|_*=\max_{\|u\|\le1}\langle u,v\rangle$ of each example: l1 for linf, l2 for l2.

    At v = 0 its gradient is 0, one of the subgradients.
    """
    return threat.dual_norm(v)


def robust(
    w: Vector, b: Scalar, x: Rows, y: Values, threat: ThreatModel, loss: str = "logistic"
) -> Scalar:
    r"""$\mathbb E\max_{\|\delta\|\le\varepsilon}\ell(w^\top(x+\delta)+b,y)$, exactly.

    = the mean of $\ell$ at the reach $\varepsilon\|w\|_*$, with a gradient in w and b.
    loss: a key of `LOSSES`. Raises ValueError for a threat with a box.
    """
    no_box(threat)
    reach = threat.eps * dual_norm(w[None], threat)[0]
    return named(loss, y)(x @ w + b, y, reach).mean()


def worst_points(
    w: Vector, b: Scalar, x: Rows, y: Values, threat: ThreatModel, loss: str = "logistic"
) -> Rows:
    r"""$x+\varepsilon\,s\,v$, v the steepest direction of w, s = -y or the sign of t - y.

    The maximisers in `robust`: against the margin, or away from the target.
    """
    no_box(threat)
    named(loss, y)
    t = x @ w + b
    side = torch.where(t >= y, 1.0, -1.0).to(x) if loss == "squared" else -y
    return x + threat.eps * side[:, None] * threat.steepest(w[None])


def distributional(
    w: Vector, b: Scalar, x: Rows, y: Values, threat: ThreatModel, loss: str = "logistic"
) -> Scalar:
    r"""$\sup\{\mathbb E_{\tilde\mu}\ell:W_p(\mu,\tilde\mu)\le\varepsilon\}$, exactly; labels stay.

    hinge, logistic, p = 1: $\mathbb E\,\ell+\varepsilon\|w\|_*$. squared, p = 2:
    $(\sqrt{\mathbb E\,\ell}+\varepsilon\|w\|_*)^2$. A supremum: the logistic loss comes near
    with ever less mass moved ever further.
    Sources: Shafieezadeh-Abadeh, Kuhn and Mohajerin Esfahani 2019; Blanchet, Kang and Murthy 2019.
    """
    no_box(threat)
    reach = threat.eps * dual_norm(w[None], threat)[0]
    plain = named(loss, y)(x @ w + b, y, torch.zeros_like(reach)).mean()
    return (plain.sqrt() + reach).square() if loss == "squared" else plain + reach


def penalised_squared(w: Vector, b: Scalar, x: Rows, y: Values, gamma: float) -> Scalar:
    r"""$\mathbb E\sup_\delta\{(t+w^\top\delta-y)^2-\gamma\|\delta\|_2^2\}$, t = w.x + b, exactly.

    $=\frac{\gamma}{\gamma-\|w\|_2^2}\,\mathbb E(t-y)^2$, and infinite unless $\gamma>\|w\|_2^2$.
    """
    check_price(gamma)
    size = w.square().sum()
    if size >= gamma:
        return torch.full_like(size, float("inf"))
    return (x @ w + b - y).square().mean() * gamma / (gamma - size)


def named(loss: str, y: Values) -> Loss:
    """The row of `LOSSES`; ValueError lists the names, or the labels that a margin cannot have."""
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {sorted(LOSSES)}, got {loss!r}")
    if loss != "squared" and not (y.abs() == 1).all():
        found = y.unique().tolist()
        raise ValueError(f"y must be -1 or 1 for {loss!r}, got {found[:5]}")
    return LOSSES[loss]


def no_box(threat: ThreatModel) -> None:
    """Raise ValueError for a threat with a box, where the identities are only bounds."""
    if threat.box is not None:
        raise ValueError(
            f"threat must have box=None, got box={threat.box}: at the walls of a box the adversary"
            " of a linear model cannot go the whole way"
        )

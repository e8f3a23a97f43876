r"""Section 17.6.3: two Gaussians on the line, $X|Y=k\sim N(\mu_k,\sigma_k^2)$, $P(Y=k)=\pi_k$.

The adversary moves x anywhere in [x - eps, x + eps]. Everything here is a closed form.
"""

import math
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from adversarial_lab.measures import check_weights

Pair = tuple[float, float]  # one number for class 0, one for class 1
Values = Float[Tensor, " n"]
Labels = Int[Tensor, " n"]


@dataclass(frozen=True, kw_only=True)
class TwoGaussians:
    r"""$X|Y=k\sim N(\mu_k,\sigma_k^2)$ with $P(Y=k)=\pi_k$, Section 17.6.3.

    mu, sigma, prior: a number for each class; the means may stand in any order.
    Raises ValueError on values that are not finite, sigma <= 0, and priors that are not positive
    or do not sum to one.
    """

    mu: Pair
    sigma: Pair = (1.0, 1.0)
    prior: Pair = (0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("mu", "sigma", "prior"):
            pair = getattr(self, name)
            if len(pair) != 2 or not all(map(math.isfinite, pair)):
                raise ValueError(f"{name} must be two finite numbers, got {pair}")
        if min(self.sigma) <= 0:
            raise ValueError(f"sigma must be positive standard deviations, got {self.sigma}")
        check_prior(self.prior)


@dataclass(frozen=True)
class LineClassifier:
    """A classifier on the line: `left` up to the first cut, then the classes in turn.

    cuts: increasing; none makes a constant, one a threshold, two an interval. A cut itself belongs
    to the class on its left. Raises ValueError on cuts that do not increase and another `left`.
    """

    cuts: tuple[float, ...]
    left: int = 0

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, self.cuts))
        if not finite or any(low >= high for low, high in pairwise(self.cuts)):
            raise ValueError(f"cuts must be finite and increase, got {self.cuts}")
        if self.left not in (0, 1):
            raise ValueError(f"left must be class 0 or 1, got {self.left!r}")

    @property
    def kind(self) -> str:
        """What it is called: constant, threshold, interval, or the number of its cuts."""
        names = {0: "constant", 1: "threshold", 2: "interval"}
        return names.get(len(self.cuts), f"{len(self.cuts)} cuts")

    def predict(self, x: Values) -> Labels:
        """The class of each point."""
        return (self._piece(x) + self.left) % 2

    def errs(self, x: Values, y: Labels, eps: float) -> Bool[Tensor, " n"]:
        """True where some point of [x - eps, x + eps] is not given the label y."""
        check_eps(eps)
        first, last = self._piece(x - eps), self._piece(x + eps)
        return (first != last) | (self.predict(x) != y)

    def risk(self, model: TwoGaussians, eps: float = 0.0) -> float:
        r"""$L_{\mathcal N}(h)=\sum_k\pi_kP(\exists x':|x'-X|\le\varepsilon,h(x')\ne k|Y=k)$, exact.

        Class k is safe at x where all of [x - eps, x + eps] lies in one piece of class k: on its
        pieces less eps at either end. Everything between those is an error. Section 17.6.1.
        """
        check_eps(eps)
        return sum(
            model.prior[label] * _mass(low, high, model.mu[label], model.sigma[label])
            for label in (0, 1)
            for low, high in self.unsafe(label, eps)
        )

    def unsafe(self, label: int, eps: float) -> list[Pair]:
        """The intervals in which an example of class `label` can be made an error."""
        pieces = list(pairwise((-math.inf, *self.cuts, math.inf)))
        own = pieces[0 if label == self.left else 1 :: 2]
        safe = [(low + eps, high - eps) for low, high in own if low + eps < high - eps]
        edges = [-math.inf, *chain.from_iterable(safe), math.inf]
        return [
            (low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if low < high
        ]

    def _piece(self, x: Values) -> Labels:
        return torch.searchsorted(torch.tensor(self.cuts, dtype=x.dtype), x)


def optimal_classifier(model: TwoGaussians, eps: float) -> LineClassifier:
    r"""$h^*_{\mathcal N}\in\arg\min_hL_{\mathcal N}(h)$ over all measurable h, Section 17.6.3.

    The class i with the smaller sigma is predicted on one interval, or everywhere, or nowhere. The
    left end of the interval solves pi_i p_i(t) = pi_o p_o(t) with the means moved apart by eps
    (mu_i - eps, mu_o + eps), the right end with (mu_i + eps, mu_o - eps), where o is the other
    class. With equal sigmas one end is infinite, and the interval is a threshold. Equal risks: the
    constant. Raises ValueError on an eps that is negative or not finite.
    """
    check_eps(eps)
    inside = int(model.sigma[1] < model.sigma[0])
    low, _ = _favoured(model, inside, -eps)
    _, high = _favoured(model, inside, eps)
    candidates = [LineClassifier((), 0), LineClassifier((), 1)]
    if low < high:
        cuts = tuple(end for end in (low, high) if math.isfinite(end))
        outside_first = math.isfinite(low)
        candidates.append(LineClassifier(cuts, 1 - inside if outside_first else inside))
    return min(candidates, key=lambda h: h.risk(model, eps))


def optimal_risk(model: TwoGaussians, eps: float) -> float:
    r"""$L^*_{\mathcal N}=\inf_hL_{\mathcal N}(h)$, Section 17.6.3, never above $\min_k\pi_k$.

    With equal priors and sigmas it is $\min(1/2,\Phi((2\varepsilon-|\mu_1-\mu_0|)/(2\sigma)))$.
    """
    return optimal_classifier(model, eps).risk(model, eps)


def divergence(model: TwoGaussians, eps: float) -> float:
    r"""$D_{\mathcal N}(P_0,P_1)=1-2L^*_{\mathcal N}$ at equal priors, Section 17.6.5.

    It depends on the two Gaussians alone; the priors of `model` do not enter.
    """
    return 1 - 2 * optimal_risk(replace(model, prior=(0.5, 0.5)), eps)


def _favoured(model: TwoGaussians, inside: int, shift: float) -> Pair:
    r"""Where $\pi_ip_i>\pi_op_o$ with the means at $\mu_i+s$ and $\mu_o-s$, s = `shift`.

    i = `inside` has the smaller sigma, so this is one interval (low, high), or (inf, -inf) where it
    is empty. With t = (mu_0 + mu_1)/2 + u scale, twice the log ratio times sigma_i^2 is a positive
    multiple of a u^2 + 2 b u + c with a <= 0. The scale keeps squares in range for any eps.
    """
    (s_in, s_out), (p_in, p_out) = (
        (pair[inside], pair[1 - inside]) for pair in (model.sigma, model.prior)
    )
    half = (model.mu[1 - inside] - model.mu[inside]) / 2 - shift
    scale = max(abs(half), s_in)
    half, s, ratio = half / scale, s_in / scale, s_in / s_out
    a, b = ratio**2 - 1, -half * (1 + ratio**2)
    odds = 2 * s**2 * (math.log(p_in / p_out) + math.log(s_out) - math.log(s_in))
    inner = (2 * half * ratio) ** 2 - a * odds  # b^2 - a c without its cancellation
    low, high = _positive(a, b, a * half**2 + odds, inner)
    middle = sum(model.mu) / 2
    return middle + scale * low, middle + scale * high


def _positive(a: float, b: float, c: float, inner: float) -> Pair:
    """Where a u^2 + 2 b u + c > 0 for a <= 0, as (low, high); (inf, -inf) without any border.

    inner: b^2 - a c.
    """
    if a == 0 and b == 0:
        return math.inf, -math.inf  # the same odds everywhere: a constant
    if a == 0:
        return (-math.inf, -c / (2 * b)) if b < 0 else (-c / (2 * b), math.inf)
    if inner <= 0:
        return math.inf, -math.inf
    q = -b - math.copysign(math.sqrt(inner), b)  # no cancellation: q/a and c/q are the two roots
    low, high = sorted((q / a, c / q))
    return low, high


def _mass(low: float, high: float, mu: float, sigma: float) -> float:
    """P(low < X < high) for X ~ N(mu, sigma^2), computed in the nearer tail."""
    a, b = (low - mu) / sigma, (high - mu) / sigma
    return normal_cdf(b) - normal_cdf(a) if a < 0 else normal_cdf(-a) - normal_cdf(-b)


def normal_cdf(t: float) -> float:
    r"""$\Phi(t)$, accurate in the left tail."""
    return math.erfc(-t / math.sqrt(2)) / 2


def check_eps(eps: float) -> None:
    """Raise ValueError unless eps is finite and >= 0."""
    if not (eps >= 0 and math.isfinite(eps)):
        raise ValueError(f"eps must be finite and >= 0 in data units, got {eps}")


def check_prior(prior: Pair) -> None:
    """Raise ValueError unless both classes have mass and the masses sum to one."""
    if len(prior) != 2 or not min(prior) > 0:
        raise ValueError(f"prior must be two positive numbers, one a class, got {prior}")
    check_weights(prior, 2, "prior")

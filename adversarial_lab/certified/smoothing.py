r"""Section 17.4: randomised smoothing, a certificate for $\ell_2$ that holds for any network.

The smoothed classifier is $g(x)=\arg\max_c P(h(x+\xi)=c)$, $\xi\sim N(0,\sigma^2I)$. It is another
classifier than h, and its certificate is statistical: wrong with probability at most alpha over the
noise. Noise leaves the box [0, 1] on purpose; clipping it would void the theorem.
Source: Cohen, Rosenfeld and Kolter 2019, "Certified adversarial robustness via randomized
smoothing".
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.stats import beta, binomtest, norm
from torch import Tensor, nn

from adversarial_lab.threat import Points, Rng, normal_like
from adversarial_lab.training import attacking

ABSTAIN = -1  # the answer of a smoothed classifier that is not sure


@dataclass(frozen=True)
class Smoothed:
    """Answers of a smoothed classifier, one per image.

    All on the device of x. label: the class, or `ABSTAIN`. radius: l2, in data units, within which
    g keeps that class; 0 where it abstains. p: the lower confidence bound on the share of noise
    that h gives that class.
    """

    label: Int[Tensor, " n"]
    radius: Float[Tensor, " n"]
    p: Float[Tensor, " n"]


def lower_bound(hits: int, n: int, alpha: float) -> float:
    r"""The p at which hits or more of n have probability alpha: Clopper and Pearson 1934.

    $p\le$ the true share with probability at least 1 - alpha, exactly and for every n: no normal
    approximation. It is the alpha-quantile of Beta(hits, n - hits + 1).
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"need 0 <= hits <= n and n >= 1, got hits={hits}, n={n}")
    _check_alpha(alpha)
    return float(beta.ppf(alpha, hits, n - hits + 1)) if hits else 0.0


def radius(p: float, sigma: float) -> float:
    r"""$R=\sigma\,\Phi^{-1}(p)$, in data units, for the top class's share p; 0 up to 1/2.

    The general form is $\frac\sigma2(\Phi^{-1}(p_A)-\Phi^{-1}(p_B))$; with $p_B\le1-p_A$ it is
    this one. Exact for a linear classifier: there R is the distance to its boundary.
    """
    return sigma * float(norm.ppf(p)) if p > 0.5 else 0.0


def counts(
    model: nn.Module, x: Points, *, sigma: float, n: int, batch: int = 1000, rng: Rng = None
) -> Int[Tensor, "m k"]:
    """How often h gives each class under n draws of noise, one row per image."""
    _check(sigma, n, batch)
    with attacking(model), torch.no_grad():
        return torch.stack([_count(model, image, sigma, n, batch, rng) for image in x])


def _count(model: nn.Module, image: Tensor, sigma: float, n: int, batch: int, rng: Rng) -> Tensor:
    seen = []
    for begin in range(0, n, batch):
        copies = image.expand(min(batch, n - begin), *image.shape)
        logits = model(copies + sigma * normal_like(copies, rng))
        _check_votes(logits, len(copies))
        seen.append(torch.bincount(logits.argmax(1), minlength=logits.shape[1]))
    return torch.stack(seen).sum(0)


def _check_votes(logits: Tensor, n: int) -> None:
    """Raise ValueError unless each draw has a finite score for each of two classes or more."""
    if logits.ndim != 2 or len(logits) != n or logits.shape[1] < 2:
        raise ValueError(
            "model must return logits (n, k) of k >= 2 classes: without a rival there is nothing to"
            f" prove; got {tuple(logits.shape)} for {n} draws"
        )
    if not logits.isfinite().all():
        bad = int((~logits.isfinite()).any(1).sum())
        raise ValueError(f"model must return finite logits, got NaN or inf for {bad} of {n} draws")


def predict(
    model: nn.Module,
    x: Points,
    *,
    sigma: float,
    n: int = 1000,
    alpha: float = 0.001,
    batch: int = 1000,
    rng: Rng = None,
) -> Int[Tensor, " m"]:
    """g(x), or `ABSTAIN` where the two classes seen most often may be equally likely.

    A two-sided binomial test at level alpha: it names a wrong class with probability <= alpha.
    """
    _check_alpha(alpha)
    top = counts(model, x, sigma=sigma, n=n, batch=batch, rng=rng).topk(2)
    labels = top.indices[:, 0]
    for i, (most, second) in enumerate(top.values.tolist()):
        if binomtest(most, most + second, 0.5).pvalue > alpha:
            labels[i] = ABSTAIN
    return labels


def certify(
    model: nn.Module,
    x: Points,
    *,
    sigma: float,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 0.001,
    batch: int = 1000,
    rng: Rng = None,
) -> Smoothed:
    r"""g(x) with the radius $\sigma\,\Phi^{-1}(\underline{p_A})$, or an abstention.

    n0 draws name the class, n other draws bound its share from below (`lower_bound`): the same
    draws for both would bias the bound. Each certificate holds with probability >= 1 - alpha. The
    radius cannot exceed $\sigma\,\Phi^{-1}(\alpha^{1/n})$, however robust g is.
    """
    _check_alpha(alpha)
    guess = counts(model, x, sigma=sigma, n=n0, batch=batch, rng=rng).argmax(1)
    seen = counts(model, x, sigma=sigma, n=n, batch=batch, rng=rng)
    hits = seen.gather(1, guess[:, None]).flatten().tolist()
    shares = [lower_bound(h, n, alpha) for h in hits]
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # MPS has no float64
    p = torch.tensor(shares, dtype=wide, device=x.device)
    reach = torch.tensor([radius(share, sigma) for share in shares], dtype=wide, device=x.device)
    return Smoothed(torch.where(p > 0.5, guess, ABSTAIN), reach, p)


def _check(sigma: float, n: int, batch: int) -> None:
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma must be finite and > 0 in data units, got {sigma}")
    if n < 1 or batch < 1:
        raise ValueError(f"numbers of draws must be >= 1, got n={n}, batch={batch}")


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be a probability in (0, 1), got {alpha}")

r"""Lecture, explicit penalization: training against an adversary who pays $\gamma\|x'-x\|_2^2$.

$\phi_\gamma(x)=\sup_{x'}\{f(x')-\gamma\|x'-x\|_2^2\}$ is what an example is worth to it. Where
$\lambda_{\max}(\nabla^2f)\le L<2\gamma$ the supremum is over a strongly concave function: gradient
ascent finds it, and says how far it is. The price also bounds every distribution in a transport
ball: $\sup_{W_2^2\le\rho}\mathbb Ef\le\gamma\rho+\mathbb E\phi_\gamma$.
Source: Sinha, Namkoong and Duchi 2018 (WRM); their cost is 1-strongly convex, half of ours.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.masking.curvature import gradient, top_curvature
from adversarial_lab.pgd import cross_entropy
from adversarial_lab.threat import Box, Points, Rng
from adversarial_lab.training import Labels, PerExample, Scalar, attacking, erm

Values = Float[Tensor, " n"]


def squared_distance(x: Points, z: Points) -> Values:
    r"""$\|z-x\|_2^2$ of each example: the price of a move at gamma = 1."""
    return (z - x).flatten(1).square().sum(1)


def ascent(
    f: PerExample,
    x: Points,
    *,
    gamma: float,
    steps: int,
    damping: float = 1.0,
    box: Box = (0.0, 1.0),
) -> Iterator[Points]:
    r"""Yields $x^{(0)}=x$ and $x^{(k+1)}=\Pi(x^{(k)}+\frac{s}{2\gamma}\nabla
    [f-\gamma\|\cdot-x\|_2^2](x^{(k)}))$, s = damping.

    At s = 1 a step is $\Pi(x+\nabla f(x^{(k)})/(2\gamma))$, which contracts by the factor
    $L/(2\gamma)$ where the eigenvalues of the Hessian lie in [-L, L]. There is no radius; box: the
    valid range of inputs.
    """
    check_price(gamma)
    if steps < 1 or not 0 < damping <= 1:
        raise ValueError(f"need steps >= 1 and damping in (0, 1], got {steps} and {damping}")
    z = x.detach()
    yield z
    for _ in range(steps):
        move = x + gradient(f, z) / (2 * gamma)
        z = (1 - damping) * z + damping * move
        z = z if box is None else z.clamp(*box)
        yield z


def wrm(
    model: nn.Module,
    x: Points,
    y: Labels,
    *,
    gamma: float,
    steps: int,
    damping: float = 1.0,
    box: Box = (0.0, 1.0),
) -> Scalar:
    r"""$\mathbb E\sup_{x'}\{\ell(h(x'),y)-\gamma\|x'-x\|_2^2\}$ with cross-entropy.

    An objective for `training.fit`. The supremum is found by `ascent` in eval mode, and is constant
    in the gradient: Danskin's theorem, which strong concavity makes exact.
    """
    with attacking(model):
        path = ascent(
            lambda z: cross_entropy(model(z), y),
            x,
            gamma=gamma,
            steps=steps,
            damping=damping,
            box=box,
        )
        z = deque(path, maxlen=1).pop()
    return erm(model, z, y) - gamma * squared_distance(x, z).mean()


@dataclass(frozen=True)
class Certificate:
    r"""$\sup\{\mathbb E_{\tilde\mu}f:W_2^2(\mu,\tilde\mu)\le\rho\}\le\gamma\rho+\phi+$ gap.

    mu: the n examples with equal weights. surrogate: phi, the mean of $f-\gamma\|z-x\|_2^2$ at the
    points found. loss: the mean of f there. spent: their mean squared distance, the rho at which
    the bound is attained. gap: how much higher phi can be, if the curvature given is right.
    """

    gamma: float
    surrogate: float
    loss: float
    spent: float
    gap: float
    n: int

    def bound(self, rho: float) -> float:
        r"""An upper bound on the mean of f over all distributions within W_2^2 <= rho."""
        if not (rho >= 0 and math.isfinite(rho)):
            raise ValueError(f"rho must be finite and >= 0, got {rho}")
        return self.gamma * rho + self.surrogate + self.gap


def certify(
    f: PerExample,
    x: Points,
    *,
    gamma: float,
    curvature: float,
    steps: int = 50,
    damping: float = 1.0,
    box: Box = (0.0, 1.0),
) -> Certificate:
    r"""Ascend from every example, and bound what is left: the certificate of Sinha et al. 2018.

    curvature: L with $\nabla^2f\le L$ everywhere in the box. It is an assumption: as good as the
    bound you have; for a network's cross-entropy `curvature_bound` proves one.
    Raises ValueError unless L < 2 gamma.
    """
    if not curvature < 2 * gamma:
        raise ValueError(
            f"curvature must be below 2 gamma = {2 * gamma:g}, got {curvature:g}: the inner problem"
            " is not concave, and the point that ascent finds proves nothing"
        )
    path = ascent(f, x, gamma=gamma, steps=steps, damping=damping, box=box)
    z = deque(path, maxlen=1).pop()
    with torch.no_grad():
        loss, moved = f(z).double(), squared_distance(x, z).double()
    left = slack(gradient(f, z) - 2 * gamma * (z - x), z, 2 * gamma - curvature, box)
    return Certificate(
        gamma=gamma,
        surrogate=(loss - gamma * moved).mean().item(),
        loss=loss.mean().item(),
        spent=moved.mean().item(),
        gap=left.double().mean().item(),
        n=len(x),
    )


def slack(g: Points, z: Points, concavity: float, box: Box) -> Values:
    r"""$\max_{z'}\langle g,z'-z\rangle-\frac m2\|z'-z\|^2$ over the box, one coordinate at a time.

    A bound on what is left above z of an m-strongly concave function with gradient g at z.
    """
    t = g / concavity
    t = t if box is None else t.clamp(box[0] - z, box[1] - z)
    return (g * t - concavity * t.square() / 2).flatten(1).sum(1)


def sampled_curvature(
    f: PerExample, x: Points, z: Points, *, points: int = 4, steps: int = 20, rng: Rng = None
) -> Values:
    r"""The largest $\lambda_{\max}(\nabla^2f)$ met at `points` even places from x to z.

    A lower bound on the L that `certify` needs: above 2 gamma it refutes concavity, below it
    proves nothing. ReLU networks bend at kinks, which no Hessian sees.
    """
    if points < 1:
        raise ValueError(f"points must be >= 1, got {points}")
    places = torch.linspace(0, 1, points).tolist()
    met = [top_curvature(f, x + t * (z - x), steps=steps, rng=rng)[0] for t in places]
    return torch.stack(met).amax(0)


def smooth(model: nn.Sequential) -> nn.Sequential:
    """The network with ELU in place of ReLU, as WRM needs it: its gradient has no jumps."""
    return nn.Sequential(*(nn.ELU() if isinstance(layer, nn.ReLU) else layer for layer in model))


def check_price(gamma: float) -> None:
    """Raise ValueError unless gamma is finite and > 0."""
    if not (gamma > 0 and math.isfinite(gamma)):
        raise ValueError(f"gamma must be finite and > 0, got {gamma}")

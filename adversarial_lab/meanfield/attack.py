r"""Lecture, mean field: $m^*_\nu=\sup_{\tilde\pi_z=\mu}U(\tilde\pi,\nu)$, the best attack.

It is a problem for each point of data, closed with a proof by `bound.maximise`; where the price
$c_a$ is high it is strongly concave, and one gradient is the proof.
"""

import math

import torch
from torch import Tensor

from adversarial_lab.meanfield.bound import Maximum, maximise
from adversarial_lab.meanfield.game import (
    ACTIVATIONS,
    Game,
    Inputs,
    Neurons,
    Values,
    Weights,
    activations,
    network,
    network_and_gradient,
)


def best_attack(game: Game, theta: Neurons, alpha: Weights, *, tolerance: float = 1e-3) -> Maximum:
    r"""$\sup_{\tilde z}(f_\nu(\tilde x)-\tilde y)^2-c_a|z_i-\tilde z|^2$, all $\tilde z$, each i.

    The best label is known (`best_label`); with it the payoff is
    $\frac{c_a}{c_a-1}(f_\nu(\tilde x)-y)^2-c_a|x-\tilde x|^2$, and only $\tilde x$ is searched.
    Raises ValueError where the supremum is infinite ($c_a\le1$) or may be.
    """
    check_cost(game)
    slope, bend = lipschitz(game, theta, alpha)
    mass = float((alpha * theta[:, 0].abs()).sum())
    now = (network(game, theta, alpha, game.x) - game.y).abs()
    radius, largest = _reach(game, mass, slope, now)
    ratio = game.cost / (game.cost - 1)
    curvature = 2 * ratio * (slope**2 + largest * bend) - 2 * game.cost

    def evaluate(x: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
        f, gradient = network_and_gradient(game, theta, alpha, x)
        residual, moved = f - game.y[owner], x - game.x[owner]
        value = ratio * residual.square() - game.cost * moved.square().sum(1)
        return value, 2 * ratio * residual[:, None] * gradient - 2 * game.cost * moved

    box = radius[:, None]
    return maximise(evaluate, game.x - box, game.x + box, curvature, tolerance=tolerance)


def check_cost(game: Game) -> None:
    r"""Raise ValueError unless $c_a>1$: otherwise the supremum is infinite for every learner."""
    if game.cost <= 1:
        raise ValueError(
            f"cost must be > 1, got {game.cost}: the adversary also moves labels, for which it"
            " gains (f - y~)^2 and pays cost (y - y~)^2, so the supremum is infinite"
        )


def best_label(game: Game, f: Values, y: Values) -> Values:
    r"""$\tilde y=y-\frac{f-y}{c_a-1}$: the label moves away from the prediction."""
    check_cost(game)
    return y - (f - y) / (game.cost - 1)


def lipschitz(game: Game, theta: Neurons, alpha: Weights) -> tuple[float, float]:
    r"""Bounds of $|\nabla f_\nu|$ and $\|\nabla^2f_\nu\|$ everywhere, from the sizes of neurons."""
    _, slope, bend = ACTIVATIONS[game.activation].bounds
    size = alpha * theta[:, 0].abs()
    length = theta[:, 1 : game.x.shape[1] + 1].norm(dim=1)
    return slope * float((size * length).sum()), bend * float((size * length.square()).sum())


def concave_from(game: Game, theta: Neurons, alpha: Weights, x: Inputs, labels: Values) -> Values:
    r"""$1+|\nabla f_\nu|^2+|f_\nu-\tilde y|\,\|\nabla^2f_\nu\|$ at each $(\tilde x,\tilde y)$.

    Where $c_a$ is larger, the payoff is strongly concave in $\tilde z$: its Hessian is at most
    $-2(c_a-\text{this})$, and (PL) holds with $\lambda=4(c_a-\text{this})$ if it holds everywhere.
    """
    f, gradient = network_and_gradient(game, theta, alpha, x)
    b = theta[:, 1 : game.x.shape[1] + 1]
    s, h = activations(game, theta[:, 1:], x)
    bend = ACTIVATIONS[game.activation].bend(s, h) * alpha * theta[:, 0]
    hessian = torch.einsum("pN,Ni,Nj->pij", bend, b, b)
    size = torch.linalg.matrix_norm(hessian, ord=2)
    return 1 + gradient.square().sum(1) + (f - labels).abs() * size


def _reach(game: Game, mass: float, slope: float, now: Values) -> tuple[Values, Values]:
    """A radius that no best attack leaves, and the largest |f - y| in the box around its ball.

    At the best attack the gradient is zero: c r = c/(c-1) |f - y| |grad f|, where |f - y| is at
    most now + slope r. And its payoff c/(c-1) |f - y|^2 - c r^2 is not negative, where a bounded
    activation bounds |f - y|.
    """
    bound = ACTIVATIONS[game.activation].bounds[0] * mass if mass else 0.0
    room = game.cost - 1
    steep = torch.full_like(now, torch.inf)
    if slope**2 < room:
        steep = now * slope / (room - slope**2)
    radius = torch.minimum(steep, (bound + game.y.abs()) / math.sqrt(room))
    if not radius.isfinite().all():
        raise ValueError(
            f"cost={game.cost:g} must be > 1 + |grad f|^2 = {1 + slope**2:.4g} for the unbounded"
            f" activation {game.activation!r}: the supremum may be infinite"
        )
    corner = math.sqrt(game.x.shape[1]) * radius
    return radius, torch.minimum(now + slope * corner, bound + game.y.abs())

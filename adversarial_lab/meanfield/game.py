r"""Lecture, mean field: $f_\nu(x)=\int a\,h(b\cdot x)\,d\nu(a,b)$, and all that a game holds fixed.

The learner is a probability measure over neurons $\theta=(a,b)$ of a bounded set $\Theta$, here N
weighted neurons. The adversary moves inputs and labels, and pays $c_a|z-\tilde z|^2$.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Inputs = Float[Tensor, "p d"]
Values = Float[Tensor, " p"]
Neurons = Float[Tensor, "N e"]  # a row is (a, b), with the bias last where the game has one
Inner = Float[Tensor, "N e_inner"]  # a row is b, or (b, bias)
Weights = Float[Tensor, " N"]

_AT_ONCE = 2**22  # activations held in memory at a time


class Activation(NamedTuple):
    """h with its derivatives, and the largest absolute values of the three.

    The derivatives take s and h(s): that of tanh needs no second tanh.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    bend: Callable[[Tensor, Tensor], Tensor]
    bounds: tuple[float, float, float]


# the theorems need Lipschitz gradients, so there is no relu
ACTIVATIONS: dict[str, Activation] = {
    "tanh": Activation(
        torch.tanh,
        lambda s, h: 1 - h * h,
        lambda s, h: -2 * h * (1 - h * h),
        (1.0, 1.0, 4 / 27**0.5),
    ),
    "sin": Activation(torch.sin, lambda s, h: s.cos(), lambda s, h: -h, (1.0, 1.0, 1.0)),
    "linear": Activation(
        torch.clone,
        lambda s, h: torch.ones_like(s),
        lambda s, h: torch.zeros_like(s),
        (math.inf, 1.0, 0.0),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Game:
    r"""The data, $c_a$ and the neurons that are allowed: all that is fixed.

    x: (n, d), y: (n,), the same mass 1/n each. cost: $c_a$, the price of moving by one, squared.
    bias: a neuron is $h(b\cdot x+b_0)$; without, as on the slides, $h(b\cdot x)$.
    largest: the neurons are $\Theta=\{|a|\le\text{largest}_0,\ |b_i|\le\text{largest}_1\}$, bounded
    as the theorems ask. Raises ValueError on data that do not match or are not finite, cost <= 0.
    """

    x: Float[Tensor, "n d"]
    y: Float[Tensor, " n"]
    cost: float
    activation: str = "tanh"
    bias: bool = True
    largest: tuple[float, float] = (5.0, 5.0)

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)}, got {self.activation!r}"
            )
        if not (self.cost > 0 and math.isfinite(self.cost)):
            raise ValueError(f"cost must be finite and > 0, got {self.cost}")
        _check_data(self.x, self.y)
        if len(self.largest) != 2 or not all(0 < v < math.inf for v in self.largest):
            raise ValueError(f"largest must be two finite numbers > 0, got {self.largest}")

    @property
    def data(self) -> Float[Tensor, "n dy"]:
        """The points z = (x, y)."""
        return torch.cat([self.x, self.y[:, None]], 1)

    @property
    def width(self) -> int:
        """How many numbers a neuron has: a, b, and the bias."""
        return 1 + self.x.shape[1] + self.bias


def _check_data(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.shape != x.shape[:1] or len(x) == 0:
        raise ValueError(f"x and y must be (n, d) and (n,), got {tuple(x.shape)}, {tuple(y.shape)}")
    if x.dtype != y.dtype or not x.is_floating_point():
        raise ValueError(f"x and y must have one floating dtype, got {x.dtype} and {y.dtype}")
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("x and y must be finite")


def within(game: Game, theta: Neurons) -> Neurons:
    r"""The nearest neurons in $\Theta$."""
    a, b = game.largest
    return torch.cat([theta[:, :1].clamp(-a, a), theta[:, 1:].clamp(-b, b)], 1)


def activations(game: Game, inner: Inner, x: Inputs) -> tuple[Tensor, Tensor]:
    r"""s and h(s) with $s_{pi}=b_i\cdot x_p$, plus the bias; each (p, N)."""
    d = game.x.shape[1]
    s = x @ inner[:, :d].T
    if game.bias:
        s = s + inner[:, d]
    return s, ACTIVATIONS[game.activation].value(s)


def network(game: Game, theta: Neurons, alpha: Weights, x: Inputs) -> Values:
    r"""$f_\nu(x)=\int a\,h(b\cdot x)\,d\nu(a,b)=\sum_i\alpha_ia_ih(b_i\cdot x)$."""
    heights = alpha * theta[:, 0]
    parts = x.split(max(1, _AT_ONCE // len(theta)))
    return torch.cat([activations(game, theta[:, 1:], part)[1] @ heights for part in parts])


def network_and_gradient(
    game: Game, theta: Neurons, alpha: Weights, x: Inputs
) -> tuple[Values, Inputs]:
    r"""$f_\nu(x)$ and $\nabla_xf_\nu(x)=\sum_i\alpha_ia_ih'(b_i\cdot x)\,b_i$."""
    heights = alpha * theta[:, 0]
    inner = heights[:, None] * theta[:, 1 : game.x.shape[1] + 1]
    values, gradients = [], []
    for part in x.split(max(1, _AT_ONCE // len(theta))):
        s, h = activations(game, theta[:, 1:], part)
        values.append(h @ heights)
        gradients.append(ACTIVATIONS[game.activation].slope(s, h) @ inner)
    return torch.cat(values), torch.cat(gradients)


def with_one(x: Inputs) -> Float[Tensor, "p e"]:
    """Inputs with a one behind, for the bias."""
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)

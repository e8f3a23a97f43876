"""Section 17.2: ways to hide a gradient without being robust, each around any network.

They are made, not staged: each of them has been published as a defence, and fell (Athalye et al.
2018, "Obfuscated gradients give a false sense of security").
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adversarial_lab.threat import Rng


class Quantised(nn.Module):
    """Rounds every pixel to one of `levels` values: the gradient is zero almost everywhere.

    Eight levels are three bits. Source: Guo et al. 2018; Xu et al. 2018.
    """

    def __init__(self, model: nn.Module, levels: int = 8) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be >= 2, got {levels}")
        self.model, self.steps = model, levels - 1

    def forward(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n k"]:
        return self.model((x * self.steps).round() / self.steps)


class Scaled(nn.Module):
    """Logits times a factor: the same decisions, and a cross-entropy that underflows to 0.

    Source: the temperature of defensive distillation (Papernot et al. 2016).
    """

    def __init__(self, model: nn.Module, factor: float = 1000.0) -> None:
        super().__init__()
        if not factor > 0:
            raise ValueError(f"factor must be > 0, got {factor}")
        self.model, self.factor = model, factor

    def forward(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n k"]:
        return self.model(x) * self.factor


class Noisy(nn.Module):
    """Adds fresh Gaussian noise to the input of every pass, so no two gradients agree.

    sigma: in data units. rng: where the noise comes from, torch's global generator by default.
    """

    def __init__(self, model: nn.Module, sigma: float = 0.3, rng: Rng = None) -> None:
        super().__init__()
        if not sigma >= 0:
            raise ValueError(f"sigma must be >= 0 in data units, got {sigma}")
        self.model, self.sigma, self.rng = model, sigma, rng

    def forward(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n k"]:
        device = x.device if self.rng is None else self.rng.device
        noise = torch.randn(x.shape, generator=self.rng, dtype=x.dtype, device=device)
        return self.model(x + self.sigma * noise.to(x.device))


class Probabilities(nn.Module):
    """Returns probabilities where logits are asked for: a second softmax flattens the gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n k"]:
        return self.model(x).softmax(1)

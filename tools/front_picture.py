"""Draw the picture of the README, front.png: python -m tools.front_picture

The first digit of each kind that both networks read right, and the same under attack: 40 steps of
projected gradient ascent, every pixel changed by at most 0.3.
"""

import os
from pathlib import Path

import torch
from matplotlib.figure import Figure

from adversarial_lab import data, nets
from adversarial_lab.figures import images, to_png
from adversarial_lab.pgd import attack_model
from adversarial_lab.threat import ThreatModel
from tools.book import ROOT

PICTURE = ROOT / "front.png"
NETWORKS = {"trained as usual": "mnist-standard", "trained against\nthe attack": "mnist-pgd"}
THREAT = ThreatModel(norm="linf", eps=0.3)
COLOURS, DPI = 64, 110


def draw() -> tuple[Figure, str]:
    """The figure, and what it shows in a sentence, for its alternative text."""
    models = {label: nets.shipped(name) for label, name in NETWORKS.items()}
    x, y = _digits(list(models.values()))
    rows, titles, fooled = [x], [_reads(y)], []
    for model in models.values():
        rng = torch.Generator().manual_seed(0)
        z = attack_model(model, x, y, THREAT, steps=40, step_size=0.01, rng=rng).z
        read = model(z).argmax(1)
        fooled.append(int((read != y).sum()))
        rows.append(z)
        titles.append(_reads(read))
    fig = images(rows, titles=titles, labels=["test digits", *models], size=0.75)
    return fig, (
        f"Ten handwritten digits, and the same attacked: the network trained as usual misreads"
        f" {fooled[0]} of them, the one trained against the attack {fooled[1]}."
    )


def _digits(models: list[torch.nn.Module]) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = data.load("mnist-mini", "test", 200)
    right = torch.stack([model(x).argmax(1) == y for model in models]).all(0)
    first = [int((right & (y == kind)).nonzero()[0]) for kind in range(10)]
    return x[first], y[first]


def _reads(labels: torch.Tensor) -> list[str]:
    return [f"{int(label)}" for label in labels]


def main() -> None:
    """Write the file, whole or not at all, and print its sentence."""
    fig, sentence = draw()
    partial = Path(f"{PICTURE}.partial")
    partial.write_bytes(to_png(fig, COLOURS, DPI))
    os.replace(partial, PICTURE)
    print(sentence)


if __name__ == "__main__":
    main()

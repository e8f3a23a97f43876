"""One TRADES training step on MNIST, forward and backward: `trades` and a port of the original.

Same network, images, noise, radius, steps and batch. The port follows the published algorithm line
by line: it computes p(x) again in every inner step, and again for the divergence of the outer one.
Both must return the same loss. Run it by `python -m benchmarks.bench_trades`.
"""

from dataclasses import asdict, dataclass
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adversarial_lab import data, nets
from adversarial_lab.threat import ThreatModel
from adversarial_lab.trades import pgd_from_noise, trades
from benchmarks import harness

PORT, OURS = "port of the published algorithm", "trades"
LIMIT = 1 / 1.2  # what the project promises: at least 1.2 times faster than the port


@dataclass(frozen=True)
class Setting:
    """The step, in data units, and how it is measured. Ten inner steps, as for CIFAR-10."""

    images: int = 896
    batch_size: int = 128
    eps: float = 0.3
    steps: int = 10
    step_size: float = 0.05
    beta: float = 6.0
    rounds: int = 7
    threads: int = 1


def port(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    """The loss, written from the published description with nothing saved."""
    model.eval()
    z = x + 0.001 * torch.randn(x.shape)
    for _ in range(s.steps):
        z.requires_grad_()
        log_q, p = F.log_softmax(model(z), 1), F.softmax(model(x), 1)
        (gradient,) = torch.autograd.grad(F.kl_div(log_q, p, reduction="sum"), [z])
        z = z.detach() + s.step_size * gradient.sign()
        z = torch.min(torch.max(z, x - s.eps), x + s.eps).clamp(0, 1)
    model.train()
    natural = F.cross_entropy(model(x), y)
    log_q, p = F.log_softmax(model(z), 1), F.softmax(model(x), 1)
    return natural + s.beta * F.kl_div(log_q, p, reduction="batchmean")


def ours(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    model.train()
    attack = partial(pgd_from_noise, steps=s.steps, step_size=s.step_size)
    threat = ThreatModel(norm="linf", eps=s.eps)
    return trades(model, x, y, threat=threat, attack=attack, beta=s.beta)


def contender(step, model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    """seed -> the loss of every batch, each with its gradient taken."""

    def one(a: Tensor, b: Tensor) -> Tensor:
        model.zero_grad()
        loss = step(model, a, b, s)
        loss.backward()
        return loss.detach()

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        batches = zip(x.split(s.batch_size), y.split(s.batch_size), strict=True)
        return torch.stack([one(a, b) for a, b in batches])

    return run


def measure(s: Setting) -> list[harness.Row]:
    """Both contenders, on a fresh network: the row's `accuracy` holds the mean loss of a round."""
    torch.manual_seed(0)
    model = nets.mnist_cnn()
    x, y = data.load("mnist-mini", "test", s.images)
    makers = {PORT: lambda: contender(port, model, x, y, s)}
    makers[OURS] = lambda: contender(ours, model, x, y, s)
    rows = harness.race(makers, lambda losses: losses.mean().item(), s.rounds, (PORT,))
    for theirs, mine in zip(rows[0].accuracy, rows[1].accuracy, strict=True):
        if abs(theirs - mine) > 1e-4 * theirs:
            raise AssertionError(f"the losses differ: {theirs} and {mine}")
    return rows


def report(rows: list[harness.Row], s: Setting) -> str:
    """Seconds per step, and the speed-up beside what is promised."""
    batches = -(-s.images // s.batch_size)
    lines = [
        f"TRADES step: mnist_cnn, linf eps {s.eps}, {s.steps} inner steps, batch {s.batch_size},"
        f" {s.threads} thread(s), {s.rounds} rounds"
    ]
    for row in rows:
        step = 1000 * median(row.seconds) / batches
        lines.append(f"{row.name:34} {step:8.2f} ms a step, loss {row.accuracy[-1]:.6f}")
    kept = "kept" if rows[1].ratios[PORT] <= LIMIT else "MISSED"
    lines.append(f"{1 / rows[1].ratios[PORT]:.2f} times faster; promised >= 1.2: {kept}")
    return "\n".join(lines)


def facts(s: Setting) -> dict[str, dict]:
    return {
        "setting": asdict(s),
        "versions": harness.versions("torch", "numpy", "adversarial-lab-companion"),
    }


def main() -> None:
    s = Setting()
    torch.set_num_threads(s.threads)
    print(report(measure(s), s))


if __name__ == "__main__":
    main()

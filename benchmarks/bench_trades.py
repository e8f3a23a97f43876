"""One TRADES training step, forward and backward: `trades` and a port of the original.

Same network, images, noise, radius, steps and batch. The port follows the published algorithm line
by line: it computes p(x) again in every inner step, and again for the divergence of the outer one.
Both must return the same loss, to 1e-3 (the tests hold it to 1e-6 at the same x_adv).

    python -m benchmarks.bench_trades
"""

import sys
from dataclasses import dataclass, replace
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
LIMIT = 1.2  # what the project promises: at least so many times faster than the port


@dataclass(frozen=True)
class Setting:
    """The step, in data units, and how it is measured. Ten inner steps, as for CIFAR-10."""

    dataset: str
    batch_size: int
    eps: float
    step_size: float
    steps: int = 10
    beta: float = 6.0
    rounds: int = 9
    threads: int = 1


SETTINGS = {
    "mnist_cnn": Setting("mnist-mini", batch_size=128, eps=0.3, step_size=0.05),
    "preact_resnet18(16)": Setting("cifar-10-mini", batch_size=32, eps=0.031, step_size=0.007),
}
NETWORKS = {"mnist_cnn": nets.mnist_cnn, "preact_resnet18(16)": partial(nets.preact_resnet18, 16)}


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
    """seed -> the loss, its gradient taken; from the same weights and BatchNorm statistics."""
    begin = {name: value.clone() for name, value in model.state_dict().items()}

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        model.load_state_dict(begin)
        model.zero_grad()
        loss = step(model, x, y, s)
        loss.backward()
        return loss.detach()

    return run


def measure(network: str, s: Setting) -> list[harness.Row]:
    """Both contenders, on a fresh network: the row's `accuracy` holds the loss of a round."""
    torch.manual_seed(0)
    model = NETWORKS[network]()
    x, y = data.load(s.dataset, "test", s.batch_size)
    makers = {PORT: lambda: contender(port, model, x, y, s)}
    makers[OURS] = lambda: contender(ours, model, x, y, s)
    rows = harness.race(makers, lambda loss: loss.item(), s.rounds, (PORT,))
    for theirs, mine in zip(rows[0].accuracy, rows[1].accuracy, strict=True):
        # the sign of a gradient near zero is rounding, so x_adv differs in a few pixels
        if abs(theirs - mine) > 1e-3 * theirs:
            raise AssertionError(f"the losses differ: {theirs} and {mine}")
    return rows


def report(network: str, rows: list[harness.Row], s: Setting) -> str:
    """Seconds per step, and the speed-up beside what is promised."""
    lines = [
        f"TRADES step: {network} on {s.dataset}, linf eps {s.eps}, {s.steps} inner steps,"
        f" batch {s.batch_size}, {s.threads} thread(s), {s.rounds} rounds"
    ]
    for row in rows:
        step = 1000 * median(row.seconds)
        lines.append(f"{row.name:34} {step:8.2f} ms a step, loss {row.accuracy[-1]:.6f}")
    kept = promise(network, rows)
    return "\n".join([*lines, f"{kept.found} times faster; {kept}"])


def promise(network: str, rows: list[harness.Row]) -> harness.Promise:
    return harness.at_least(f"{network}: {OURS}", 1 / rows[1].ratios[PORT], LIMIT, PORT)


def benchmark(rounds: int = Setting.rounds) -> harness.Said:
    """One TRADES step against a port of the published algorithm."""
    for network, setting in SETTINGS.items():
        s = replace(setting, rounds=rounds)
        torch.set_num_threads(s.threads)
        rows = measure(network, s)
        yield report(network, rows, s) + "\n"
        yield promise(network, rows)


if __name__ == "__main__":
    sys.exit(harness.main(benchmark, rounds=(harness.positive, Setting.rounds)))

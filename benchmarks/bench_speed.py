"""One step of N-FGSM on a CPU: `speed=half`, as a probe of this processor grants it, and plain.

The network of the scale `laptop`, PreActResNet-18 at width 16, and CIFAR-10 images. Plain is
float32 in torch's own layout. Both start from the same weights and noise; their losses differ by
the rounding of half precision.

    python -m benchmarks.bench_speed
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from adversarial_lab import data, nets
from adversarial_lab.pgd import noise_fgsm
from adversarial_lab.runs.speed import InHalf, Speed, probe, speed
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import adversarial
from benchmarks import harness

PLAIN, HALF = "plain float32", "speed=half"
FASTER = 1.6  # promised with bfloat16 instructions
NOT_SLOWER = 0.95  # promised without: what differs is noise
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    batch_size: int = 128
    eps: float = 8 / 255
    rounds: int = 7
    threads: int = 1


def contender(how: Speed, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    """seed -> the loss of a step, its gradient taken; from the same weights."""
    torch.manual_seed(0)
    model = how.place(nets.preact_resnet18(16)).train()
    network: nn.Module = model if how.half is None else InHalf(model, how)
    threat = ThreatModel(norm="linf", eps=s.eps)

    def run(seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        loss = adversarial(network, x, y, threat=threat, attack=partial(noise_fgsm, rng=rng))
        model.zero_grad()
        loss.backward()
        return loss.detach()

    return run


def measure(how: Speed, s: Setting) -> list[harness.Row]:
    """Both ways; the row's `accuracy` holds the loss of a round."""
    x, y = data.load("cifar-10-mini", "train", s.batch_size)
    makers = {
        PLAIN: lambda: contender(speed(CPU, "plain"), x, y, s),
        HALF: lambda: contender(how, x, y, s),
    }
    rows = harness.race(makers, lambda loss: loss.item(), s.rounds, (PLAIN,))
    for plain, half in zip(rows[0].accuracy, rows[1].accuracy, strict=True):
        if abs(plain - half) > 0.05 * plain:
            raise AssertionError(f"the losses differ: {plain} and {half}")
    return rows


def promise(how: Speed, rows: list[harness.Row]) -> harness.Promise:
    limit = NOT_SLOWER if how.half is None else FASTER
    return harness.at_least(f"{HALF} ({how.precision})", 1 / rows[1].ratios[PLAIN], limit, PLAIN)


def report(how: Speed, rows: list[harness.Row], s: Setting) -> str:
    """What the probe found, seconds per step, and the speed-up beside what is promised."""
    found = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in probe().items())
    layout = "channels last" if how.channels_last else "torch's layout"
    lines = [
        f"N-FGSM step: preact_resnet18(16), batch {s.batch_size}, {s.rounds} rounds",
        f"probe: {found}; so {how.precision}, {layout}",
    ]
    for row in rows:
        step = 1000 * median(row.seconds)
        lines.append(f"{row.name:16} {step:8.1f} ms a step, loss {row.accuracy[-1]:.4f}")
    kept = promise(how, rows)
    return "\n".join([*lines, f"{kept.found} times faster; {kept}"])


def benchmark(rounds: int = Setting.rounds) -> harness.Said:
    """A training step on a CPU in the speed that a probe grants, against plain float32."""
    s = replace(Setting(), rounds=rounds)
    torch.set_num_threads(s.threads)
    how = speed(CPU, "half")
    rows = measure(how, s)
    yield report(how, rows, s) + "\n"
    yield promise(how, rows)


if __name__ == "__main__":
    sys.exit(harness.main(benchmark, rounds=(harness.positive, Setting.rounds)))

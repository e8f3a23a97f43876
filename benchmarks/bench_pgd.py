"""PGD-40 in linf on MNIST test images: this library, two hand-written loops and three libraries.

Same network, images, radius, step, number of steps and uniform random start for all, each by its
leanest public call with all images at once; `attack_model` splits them itself (batches of 200 fit a
CPU's cache), so one loop is timed in such batches too. Adversarial images are judged here: one
outside the ball or the box is an error, and robust accuracy is what the network gets right on them.

    python -m benchmarks.bench_pgd
"""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adversarial_lab import data, nets
from adversarial_lab.classifier import attacking, evaluating
from adversarial_lab.pgd import attack_model, first_wrong, pgd
from adversarial_lab.threat import ThreatModel
from benchmarks import harness

LEAN, USUAL = "lean loop", "usual loop"  # autograd.grad on the input alone; loss.backward()
SPLIT = "lean loop, batches of 200"
OURS, WHOLE, STOP = "pgd", "first_wrong, every step", "attack_model"
PEERS = ("foolbox", "torchattacks", "adversarial-robustness-toolbox")


@dataclass(frozen=True)
class Setting:
    """The attack, in data units, and how it is measured."""

    images: int = 1000
    eps: float = 0.3
    steps: int = 40
    step_size: float = 0.01
    batch_size: int | None = None  # None: all at once, and attack_model's own
    rounds: int = 3
    threads: int = 1


# --- the hand-written loops: what one types without a library -------------------------------------


def usual_loop(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    delta = torch.empty_like(x).uniform_(-s.eps, s.eps)
    delta = (x + delta).clamp(0, 1).sub(x).requires_grad_()
    for _ in range(s.steps):
        loss = F.cross_entropy(model(x + delta), y)
        model.zero_grad()
        loss.backward()
        grad = delta.grad.detach()
        step = (delta.detach() + s.step_size * grad.sign()).clamp(-s.eps, s.eps)
        delta = (x + step).clamp(0, 1).sub(x).requires_grad_()
    return (x + delta).detach()


def lean_loop(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> Tensor:
    z = (x + torch.empty_like(x).uniform_(-s.eps, s.eps)).clamp(0, 1)
    for _ in range(s.steps):
        z.requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(z), y), z)
        z = z.detach() + s.step_size * grad.sign()
        z = torch.clamp(z, x - s.eps, x + s.eps).clamp(0, 1)
    return z


# --- the contenders: each maker imports, prepares, and returns seed -> adversarial images ---------

Batchwise = Callable[[Tensor, Tensor], Tensor]


def in_batches(attack: Batchwise, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    def contender(seed: int) -> Tensor:
        torch.manual_seed(seed)
        size = s.batch_size or len(x)
        parts = zip(x.split(size), y.split(size), strict=True)
        return torch.cat([attack(a, b) for a, b in parts])

    return contender


def by_hand(
    loop: Callable[..., Tensor], model: nn.Module, x: Tensor, y: Tensor, s: Setting
) -> harness.Contender:
    return in_batches(lambda a, b: loop(model, a, b, s), x, y, s)


def ours(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    threat = ThreatModel(norm="linf", eps=s.eps)

    def attack(a: Tensor, b: Tensor) -> Tensor:
        with attacking(model):
            f = lambda z: F.cross_entropy(model(z), b, reduction="none")  # noqa: E731
            return pgd(f, a, threat, steps=s.steps, step_size=s.step_size)

    return in_batches(attack, x, y, s)


def ours_evaluation(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    attack = partial(
        attack_model, model, x, y, ThreatModel(norm="linf", eps=s.eps),
        steps=s.steps, step_size=s.step_size, batch_size=s.batch_size,
    )  # fmt: skip
    return lambda seed: attack(rng=torch.Generator().manual_seed(seed)).z


def ours_every_step(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    threat, size = ThreatModel(norm="linf", eps=s.eps), s.batch_size or 200
    settings = {"steps": s.steps, "step_size": s.step_size, "stop_when_fooled": False}

    def contender(seed: int) -> Tensor:
        start = threat.sample(x, torch.Generator().manual_seed(seed))
        parts = zip(*(v.split(size) for v in (x, y, start)), strict=True)
        with evaluating(model) as network:
            found = [first_wrong(network, a, b, threat, z, **settings) for a, b, z in parts]
        return torch.cat(found)

    return contender


def foolbox(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    import foolbox as fb

    bounded = fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = fb.attacks.LinfPGD(abs_stepsize=s.step_size, steps=s.steps, random_start=True)
    return in_batches(lambda a, b: attack.run(bounded, a, b, epsilon=s.eps), x, y, s)


def torchattacks(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    import torchattacks as ta

    return in_batches(ta.PGD(model, s.eps, s.step_size, s.steps, random_start=True), x, y, s)


def art(model: nn.Module, x: Tensor, y: Tensor, s: Setting) -> harness.Contender:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    shape, images, labels = tuple(x.shape[1:]), x.numpy(), y.numpy()
    loss = nn.CrossEntropyLoss()
    classifier = PyTorchClassifier(model, loss, shape, 10, clip_values=(0, 1), device_type="cpu")
    attack = ProjectedGradientDescentPyTorch(
        classifier, norm=np.inf, eps=s.eps, eps_step=s.step_size, max_iter=s.steps,
        num_random_init=1, batch_size=s.batch_size or len(x), verbose=False,
    )  # fmt: skip

    def contender(seed: int) -> Tensor:
        np.random.seed(seed)  # noqa: NPY002 (ART draws from the global generator)
        return torch.from_numpy(attack.generate(images, labels))

    return contender


MAKERS: dict[str, Callable[..., harness.Contender]] = {
    LEAN: partial(by_hand, lean_loop),
    USUAL: partial(by_hand, usual_loop),
    SPLIT: lambda model, x, y, s: by_hand(lean_loop, model, x, y, replace(s, batch_size=200)),
    OURS: ours,
    WHOLE: ours_every_step,
    STOP: ours_evaluation,
    "torchattacks": torchattacks,
    "foolbox": foolbox,
    "adversarial-robustness-toolbox": art,
}

# What the project promises: contender -> (at most, times which loop).
LIMITS = {
    "mnist-pgd": {OURS: (1.05, LEAN), STOP: (0.55, USUAL)},
    "mnist-standard": {OURS: (1.05, LEAN), STOP: (0.3, LEAN)},
}


def judge(model: nn.Module, x: Tensor, y: Tensor, s: Setting, z: Tensor) -> float:
    """Share of the images that stay right; an error if an adversarial image is not allowed."""
    far = (z - x).abs().max().item()
    if far > s.eps + 1e-5 or z.min() < 0 or z.max() > 1:
        raise AssertionError(f"not in the threat model: distance {far}, range {z.aminmax()}")
    with torch.no_grad():
        return (model(z).argmax(1) == y).double().mean().item()


def measure(network: str, s: Setting) -> list[harness.Row]:
    """All contenders on one shipped network."""
    model = nets.shipped(network)
    x, y = data.load("mnist-mini", "test", s.images)  # the first images of the full test set
    makers, warm = (
        {name: partial(make, model, x[:n], y[:n], s) for name, make in MAKERS.items()}
        for n in (len(x), 100)
    )
    return harness.race(makers, partial(judge, model, x, y, s), s.rounds, (LEAN, USUAL), warm)


def promises(network: str, rows: list[harness.Row]) -> list[harness.Promise]:
    """What the project promises of its contenders on one network."""
    ratios = {row.name: row.ratios for row in rows if row.absent is None}
    peers = [ratios[name][LEAN] for name in ratios if name in PEERS]
    found = [
        harness.at_most(name, ratios[name][loop], limit, loop)
        for name, (limit, loop) in LIMITS[network].items()
    ]
    if WHOLE in ratios and peers:
        faster = ratios[WHOLE][LEAN] / min(peers)
        promised = "faster than every library below"
        found.append(harness.Promise(WHOLE, promised, f"{faster:.2f}", faster < 1))
    return found


def report(network: str, rows: list[harness.Row], s: Setting) -> str:
    """The table of one network, with the promise beside each contender that has one."""
    size = f"batches of {s.batch_size}" if s.batch_size else "all at once"
    title = (
        f"{network}: PGD-{s.steps}, linf eps {s.eps}, step {s.step_size}, {s.images} MNIST test "
        f"images, {size}, {s.threads} thread(s), {s.rounds} rounds"
    )
    limits = {promise.of: str(promise) for promise in promises(network, rows)}
    return harness.table(title, rows, (LEAN, USUAL), limits)


def facts(s: Setting) -> dict[str, dict]:
    names = ("torch", "numpy", "adversarial-lab-companion", *PEERS)
    return {"setting": asdict(s), "versions": harness.versions(*names)}


def benchmark(json: Path | None = None, **given: int | None) -> harness.Said:
    """PGD against two loops and three libraries."""
    s = Setting(**given)
    torch.set_num_threads(s.threads)
    results = {}
    for network in LIMITS:
        rows = results[network] = measure(network, s)
        yield report(network, rows, s) + "\n"
        yield from (replace(p, of=f"{network}: {p.of}") for p in promises(network, rows))
    if json:
        harness.save(json, results, **facts(s))


if __name__ == "__main__":
    sys.exit(
        harness.main(
            benchmark,
            json=(Path, None),
            rounds=(harness.positive, Setting.rounds),
            batch_size=(int, Setting.batch_size),
            threads=(int, Setting.threads),
            images=(int, Setting.images),
        )
    )

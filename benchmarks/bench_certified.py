"""Bounds on the margins of 1,000 digits: ours, a hand-written loop, and auto_LiRPA.

Same network, images, radius and batch, on one thread. Interval bounds must agree to 1e-5 of their
size and cost at most 1.1 times the loop written for this one network; linear bounds (CROWN) at most
1.5 times auto_LiRPA's. auto_LiRPA 0.3 was written for torch 1.12: where it does not import, four
names that it looks for are put back (`_revive`), and its own code runs as published.

    python -m benchmarks.bench_certified
"""

import contextlib
import io
import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adversarial_lab import data, nets
from adversarial_lab.certified import margins, trace
from adversarial_lab.threat import ThreatModel
from benchmarks import harness

OURS, LOOP, LIRPA = "adversarial_lab", "hand-written loop", "auto_LiRPA 0.3"


@dataclass(frozen=True)
class Setting:
    """What is bounded, in data units, and how it is measured."""

    method: str  # of ours; auto_LiRPA's name is in `LIRPA_METHODS`
    baseline: str
    limit: float  # what the project promises: at most this times the baseline
    network: str = "mnist-pgd"
    eps: float = 0.1
    images: int = 1000
    batch: int = 200
    rounds: int = 9
    threads: int = 1


SETTINGS = {
    "interval bounds": Setting("ibp", LOOP, 1.1),
    "linear bounds": Setting("crown", LIRPA, 1.5, images=100, batch=50, rounds=3),
    "linear bounds from intervals": Setting("crown-ibp", LIRPA, 1.5, rounds=3),
}
LIRPA_METHODS = {"ibp": "IBP", "crown": "CROWN", "crown-ibp": "CROWN-IBP"}
Bounds = Callable[[Tensor, Tensor], Tensor]  # images and labels -> margins (n, k)


def ours(model: nn.Module, s: Setting) -> Bounds:
    threat, graph = (
        ThreatModel(norm="linf", eps=s.eps),
        trace(model),
    )  # read once, as auto_LiRPA does
    return lambda x, y: margins(graph, x, y, threat, s.method, outward=False)


def loop(model: nn.Module, s: Setting) -> Bounds:
    """Centre and radius through this network's layers, one after the other, the last one elided."""
    conv1, _, conv2, _, _, dense, _, last = model

    def relu(c: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        low, high = F.relu(c - r), F.relu(c + r)
        return (low + high) / 2, (high - low) / 2

    def bounds(x: Tensor, y: Tensor) -> Tensor:
        low, high = (x - s.eps).clamp(0, 1), (x + s.eps).clamp(0, 1)
        c, r = (low + high) / 2, (high - low) / 2
        for conv in (conv1, conv2):
            c, r = conv(c), F.conv2d(r, conv.weight.abs(), None, conv.stride, conv.padding)
            c, r = relu(c, r)
        c, r = c.flatten(1), r.flatten(1)
        c, r = relu(dense(c), F.linear(r, dense.weight.abs()))
        z, spread = last(c), (last.weight[y][:, None] - last.weight).abs()
        return z.gather(1, y[:, None]) - z - torch.einsum("nkh,nh->nk", spread, r)

    return bounds


def lirpa(model: nn.Module, s: Setting) -> Bounds:
    """The graph is built beforehand, for the batch; bounds are asked for as its examples do."""
    with _quiet():
        _revive()
        from auto_LiRPA import BoundedModule, BoundedTensor
        from auto_LiRPA.perturbations import PerturbationLpNorm

        bounded = BoundedModule(model, torch.zeros(s.batch, 1, 28, 28), device="cpu")
    eye, method = torch.eye(10), LIRPA_METHODS[s.method]

    def bounds(x: Tensor, y: Tensor) -> Tensor:
        low, high = (x - s.eps).clamp(0, 1), (x + s.eps).clamp(0, 1)
        region = PerturbationLpNorm(norm=np.inf, eps=s.eps, x_L=low, x_U=high)
        rows = eye[y][:, None] - eye
        given = {"x": (BoundedTensor(x, region),), "C": rows, "method": method}
        return bounded.compute_bounds(**given, bound_upper=False)[0]

    return bounds


@contextlib.contextmanager
def _quiet():
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _revive() -> None:
    """Put back what auto_LiRPA 0.3 imports and torch and NumPy have since moved or dropped.

    Raises ImportError where it is not installed or torch no longer has the parts.
    """
    utils, helper = (import_module(f"torch.onnx.{name}") for name in ("utils", "symbolic_helper"))
    inner = "torch.onnx._internal.torchscript_exporter"
    exporter, settings = (import_module(f"{inner}.{name}") for name in ("utils", "_globals"))
    sets = types.ModuleType("numpy.lib.arraysetops")
    sets.isin = np.isin
    sys.modules.setdefault("numpy.lib.arraysetops", sets)
    utils._optimize_graph = exporter._optimize_graph
    version = "_export_onnx_opset_version"
    helper._set_opset_version = lambda number: setattr(settings.GLOBALS, version, number)
    torch._C.Node.__getitem__ = lambda node, key: getattr(node, node.kindOf(key))(key)


def contender(make: Callable[..., Bounds], s: Setting, x: Tensor, y: Tensor) -> harness.Contender:
    """seed -> all margins, batch by batch, 0 at the label itself."""
    bounds = make(nets.shipped(s.network), s)
    parts = list(zip(x.split(s.batch), y.split(s.batch), strict=True))

    def run(seed: int) -> Tensor:
        with torch.no_grad():
            found = torch.cat([bounds(*part) for part in parts])
        return found.scatter(1, y[:, None], 0.0)

    return run


def measure(s: Setting) -> tuple[list[harness.Row], dict[str, Tensor]]:
    """Seconds of all contenders, and the bounds that each found."""
    x, y = data.load("mnist-mini", "test", s.images)
    makes = {OURS: ours, LIRPA: lirpa} | ({LOOP: loop} if s.method == "ibp" else {})
    makers = {name: partial(contender, make, s, x, y) for name, make in makes.items()}
    rows = harness.race(makers, partial(_proved, y), s.rounds, ())
    here = {row.name: row for row in rows if row.absent is None}
    for row in here.values():
        for base in here.values():
            pairs = zip(row.seconds, base.seconds, strict=True)
            row.ratios[base.name] = median(a / b for a, b in pairs)
    return rows, {name: makers[name]()(0) for name in here}


def _proved(y: Tensor, low: Tensor) -> float:
    """The share of images with a certificate."""
    return (low.scatter(1, y[:, None], 1.0) > 0).all(1).double().mean().item()


def check(s: Setting, found: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """How far each contender's bounds are above and below ours, relative to the largest one.

    Interval bounds are one number: AssertionError where they differ by more than 1e-5.
    """
    mine, size = found[OURS], found[OURS].abs().max()
    apart = {}
    for name, other in found.items():
        gap = (other - mine) / size
        apart[name] = (gap.max().item(), -gap.min().item())
        if s.method == "ibp" and max(apart[name]) > 1e-5:
            raise AssertionError(f"interval bounds of {name} differ by {max(apart[name])}")
    return apart


def report(
    title: str, s: Setting, rows: list[harness.Row], apart: dict[str, tuple[float, float]]
) -> str:
    """Seconds, certified share and difference of every contender, and what is promised."""
    lines = [
        f"{title} ({s.method}): {s.network}, {s.images} images, linf eps {s.eps}, batches of"
        f" {s.batch}, {s.threads} thread(s), {s.rounds} rounds"
    ]
    for row in rows:
        if row.absent:
            lines.append(f"{row.name:20} left out, it does not import here: {row.absent}")
            continue
        above, below = apart[row.name]
        lines.append(
            f"{row.name:20}{median(row.seconds):9.3f} s, certifies {100 * row.accuracy[-1]:.1f} %,"
            f" bounds above ours by at most {above:.1e}, below by {below:.1e} of the largest"
        )
    kept = promise(title, s, rows)
    return "\n".join([*lines, f"{kept.found or '?'} x {s.baseline}; {kept}"])


def promise(title: str, s: Setting, rows: list[harness.Row]) -> harness.Promise:
    return harness.at_most(title, rows[0].ratios.get(s.baseline), s.limit, s.baseline)


def benchmark(rounds: int | None = None) -> harness.Said:
    """Bounds on margins against a loop and auto_LiRPA."""
    for title, setting in SETTINGS.items():
        s = replace(setting, rounds=rounds or setting.rounds)
        torch.set_num_threads(s.threads)
        rows, found = measure(s)
        yield report(title, s, rows, check(s, found)) + "\n"
        yield promise(title, s, rows)
    yield harness.told("torch", "numpy", "auto_LiRPA")


if __name__ == "__main__":
    sys.exit(harness.main(benchmark, rounds=(harness.positive, None)))

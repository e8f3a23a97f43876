"""Section 17.5.1 on real data: heat maps within and across standard and robust networks.

The networks are given by name, or trained here from several seeds: with one network of a kind
nobody can tell what adversarial training changed from what another initialisation changes.
"""

import json
import math
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import combinations, combinations_with_replacement, product
from pathlib import Path
from statistics import mean, stdev

import torch
from scipy.stats import t as student
from torch import Tensor, nn
from tqdm.auto import tqdm

from adversarial_lab import data, nets
from adversarial_lab.cka import late_similarity, similarity
from adversarial_lab.pgd import attack_model, pgd
from adversarial_lab.runs.classifier import (
    NETWORKS,
    USUAL_NETWORK,
    Ramp,
    check_counts,
    known,
    right,
    share,
    train_network,
)
from adversarial_lab.runs.record import Job, Metric
from adversarial_lab.runs.weights import read_into
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import Objective, adversarial, eps_warmup, erm

KINDS = ("standard", "robust")
Networks = dict[str, nn.Module]


@dataclass(frozen=True)
class Config:
    """All that decides the result. Radii in data units; epochs of the training images used."""

    dataset: str = "mnist"
    standard: str = "mnist-standard,mnist-trades-0"  # shipped names, run ids or paths, or ""
    robust: str = "mnist-pgd,mnist-trades-6"
    network: str = ""  # trained here, or of weights without a record; "": the data set's usual
    layers: str = "1,3,6,7"  # modules by name; "": the direct children
    images: int = 5_000  # of the test split
    batch_size: int = 500
    folds: int = 10  # disjoint parts of the images, for the intervals
    late: int = 3  # the last layers of the first pattern
    seeds: int = 0  # networks of each kind that are trained here, if none are named
    eps: float = 0.3  # linf radius of their training and test; and what follows is theirs too
    steps: int = 5
    step_size: float = 0.1
    warmup: float = 0.3
    epochs: int = 5
    train_batch: int = 128
    peak: float = 0.003
    average: float = 0.99
    train_images: int | None = 10_000
    attacked_images: int = 500  # of the test images, for PGD-40
    seed: int = 0  # the first of the seeds

    def __post_init__(self) -> None:
        check_counts(self)
        known("dataset", self.dataset, USUAL_NETWORK)
        if self.images < 4 * self.folds or self.folds < 2:
            raise ValueError(
                f"need folds >= 2 of at least 4 images, got {self.folds} of {self.images}"
            )


COLOUR = Config(  # of the networks that `robust` trained: standard=RUN_ID robust=RUN_ID
    dataset="cifar-10",
    standard="",
    robust="",
    layers="",
    late=5,
    eps=8 / 255,
    step_size=2 / 255,
)
SCALES = {
    "quick": Config(),
    "seeds": Config(standard="", robust="", seeds=3, train_images=4_000, images=2_000, folds=4),
    "laptop": replace(
        COLOUR,
        network="preact-resnet18-16",
        layers="1,2,3,4,5,6,7,8,9,11,14",  # first convolution, eight blocks, last ReLU, logits
        images=2_000,
        folds=4,
    ),
    "full": COLOUR,
}
COST = {
    "quick": "1 minute on one CPU core",
    "seeds": "2 minutes on one CPU core",
    "laptop": "minutes on one CPU core, for weights that `robust --scale laptop` made",
    "full": "minutes on a GPU, for weights that `pgd` and `trades` runs made; not run yet",
}


@dataclass(frozen=True)
class Training:
    """One network that is trained here: all that decides its weights."""

    kind: str
    dataset: str
    network: str
    eps: float
    steps: int
    step_size: float
    warmup: float
    epochs: int
    batch_size: int
    peak: float
    average: float
    train_images: int | None
    seed: int


def run(config: Config, job: Job) -> dict:
    """All heat maps as rows (a, b, layer_a, layer_b, cka), and the patterns in numbers."""
    device = nets.best_device()
    test = data.load(config.dataset, "test", config.images)
    x = test.x[torch.randperm(len(test.x), generator=torch.Generator().manual_seed(0))]
    groups = {kind: networks(config, kind, job) for kind in KINDS}
    metrics = scores(config, groups, test.x.to(device), test.y.to(device))
    everyone = [(name, model) for group in groups.values() for name, model in group.items()]
    maps, rows = {}, []
    pairs = list(combinations_with_replacement(everyone, 2))
    for (a, one), (b, two) in tqdm(pairs, "pairs", disable=not job.progress):
        maps[a, b], found = heat_maps(config, one, two, x.to(device))
        rows += [{"a": a, "b": b, **row} for row in found]
    kinds = {name: kind for kind, group in groups.items() for name in group}
    metrics |= patterns(config, maps, kinds)
    trained = "train" if config.seeds and not config.standard else "networks"
    size = len(everyone) if trained == "networks" else config.train_images
    record = job.save(metrics, rows, {"name": test.name, trained: size, "test": len(x)})
    for one in trainings(config):
        replace(job, config=one).checkpoint.unlink(missing_ok=True)
    return record


def networks(config: Config, kind: str, job: Job) -> Networks:
    """The named networks of one kind, or those trained here."""
    names = [name for name in getattr(config, kind).split(",") if name]
    if names:
        return {name: load(name, config, job.out) for name in names}
    if not config.seeds:
        raise ValueError(
            f"{kind} must name at least one network, comma between names, or seeds be >= 1: a"
            f" shipped one of {sorted(nets.SHIPPED)}, a run id in {job.out}, or the path of a"
            " .safetensors file"
        )
    chosen = [one for one in trainings(config) if one.kind == kind]
    return {f"{kind} seed {one.seed}": train(one, job) for one in chosen}


def trainings(config: Config) -> list[Training]:
    """The networks that the configuration has trained here."""
    kept = {f.name: getattr(config, f.name) for f in fields(Training) if hasattr(config, f.name)}
    every = product(KINDS, range(config.seed, config.seed + config.seeds))
    return [
        Training(**kept | {"kind": kind, "seed": seed, "batch_size": config.train_batch})
        for kind, seed in every
    ]


def load(name: str, config: Config, folder: Path) -> nn.Module:
    """A network by its shipped name, its run id, or the path of its weights; in eval mode."""
    if name in nets.SHIPPED:
        return nets.shipped(name).to(nets.best_device())
    path = Path(name) if name.endswith(".safetensors") else folder / f"{name}.safetensors"
    if not path.exists() and not path.with_suffix(".json").exists():
        raise FileNotFoundError(
            f"no network {name!r}: it is none of the shipped {sorted(nets.SHIPPED)}, and there is"
            f" no {path}"
        )
    return read_into(NETWORKS[_network_of(path, config)](), path)


def _network_of(path: Path, config: Config) -> str:
    """The architecture: as asked for, else of the record beside the weights, else the usual one."""
    record = path.with_suffix(".json")
    made = json.loads(record.read_text())["config"] if record.exists() else {}
    usual = USUAL_NETWORK[made.get("dataset", config.dataset)]
    return known("network", config.network or made.get("network") or usual, NETWORKS)


def train(one: Training, job: Job) -> nn.Module:
    """The network; after an interruption from its own checkpoint."""
    images = data.load(one.dataset, "train", one.train_images)
    model, _ = train_network(
        one,
        images.x,
        images.y,
        partial(_objective, one),
        device=nets.best_device(),
        job=replace(job, config=one),
        network=one.network or None,
    )
    return model


def _objective(one: Training, rng: torch.Generator) -> tuple[Objective, Ramp]:
    if one.kind == "standard":
        return erm, lambda t: {}
    attack = partial(pgd, steps=one.steps, step_size=one.step_size, rng=rng)
    threat = ThreatModel(norm="linf", eps=one.eps)
    return partial(adversarial, attack=attack), eps_warmup(threat, one.warmup)


def scores(config: Config, groups: dict[str, Networks], x: Tensor, y: Tensor) -> dict[str, Metric]:
    """Clean accuracy and accuracy under PGD-40 of every network: are the robust ones robust?"""
    threat, some = ThreatModel(norm="linf", eps=config.eps), slice(0, config.attacked_images)
    found = {}
    for name, model in (pair for group in groups.values() for pair in group.items()):
        rng = torch.Generator().manual_seed(0)
        attacked = attack_model(model, x[some], y[some], threat, steps=40, rng=rng)
        found[f"clean: {name}"] = share(right(model, x, y))
        found[f"pgd-40: {name}"] = share(~attacked.fooled)
    return found


def heat_maps(
    config: Config, a: nn.Module, b: nn.Module, x: Tensor
) -> tuple[Tensor, list[dict[str, str | float]]]:
    """The map of every fold (folds, p, q), and their mean as rows."""
    layers = config.layers.split(",") if config.layers else None
    compare = partial(similarity, a, b, layers_a=layers, batch_size=config.batch_size)
    found = [compare(part) for part in x.tensor_split(config.folds)]
    folds = torch.stack([one.values for one in found])
    whole = folds.mean(0)
    rows: list[dict[str, str | float]] = [
        {"layer_a": p, "layer_b": q, "cka": round(whole[i, j].item(), 6)}
        for i, p in enumerate(found[0].layers_a)
        for j, q in enumerate(found[0].layers_b)
    ]
    return folds, rows


def patterns(
    config: Config, maps: dict[tuple[str, str], Tensor], kinds: dict[str, str]
) -> dict[str, Metric]:
    """The first two patterns of Section 17.5.1 in numbers, each with its 95 % interval over folds.

    "late": mean CKA of different layers among the last ones of one network. "same layer": mean CKA
    of a layer with the layer of that name in another network.
    """
    found = {}
    for name in kinds:
        late = [late_similarity(m, config.late).item() for m in maps[name, name]]
        found[f"late: {name}"] = interval(late)
    for a, b in combinations(kinds, 2):
        if maps[a, b].shape[1] == maps[a, b].shape[2]:
            same = maps[a, b].diagonal(0, 1, 2).mean(1).tolist()
            found[f"same layer, {kinds[a]} and {kinds[b]}: {a} | {b}"] = interval(same)
    return found


def interval(values: list[float]) -> Metric:
    """Mean with its 95 % Student interval; n is the number of values, one for each fold."""
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    centre = mean(values)
    return {"value": centre, "n": len(values), "low": centre - half, "high": centre + half}

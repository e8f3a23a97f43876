"""Section 17.2.3: the standard evaluation, AutoAttack's four attacks in sequence.

Croce and Hein (2020): APGD on the cross-entropy, APGD-T on the targeted DLR, FAB-T, Square; one
start and 100 steps each, nine targets, 5,000 queries. Every attack sees the survivors of the one
before, so the numbers only fall, and the last one is an upper bound on the robust accuracy.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from adversarial_lab.attacks.apgd import apgd, apgd_targets
from adversarial_lab.attacks.fab import fab_targets
from adversarial_lab.attacks.square import square
from adversarial_lab.attacks.survivors import BatchAttack, attack_survivors, start_survey
from adversarial_lab.pgd import Attacked
from adversarial_lab.threat import Points, ThreatModel
from adversarial_lab.training import Labels

STANDARD: dict[str, BatchAttack] = {
    "apgd-ce": partial(apgd, steps=100),
    "apgd-t": partial(apgd_targets, steps=100, targets=9),
    "fab-t": partial(fab_targets, steps=100, targets=9),
    "square": partial(square, queries=5000),
}


@dataclass(frozen=True)
class Stage:
    """After one attack: its name, all that is broken so far, and its seconds."""

    name: str
    found: Attacked
    seconds: float

    def __str__(self) -> str:
        n = len(self.found.fooled)
        share = self.found.robust_accuracy
        return f"{self.name:>8}: {share:6.1%} of {n} stand  ({self.seconds:.1f} s)"


def evaluation_path(
    model: nn.Module,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    attacks: Mapping[str, BatchAttack] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> Iterator[Stage]:
    """Yields the stage "clean" and one after each attack, of `STANDARD` unless told otherwise.

    Every attack draws from a generator of its own, made of seed and place: the same numbers alone,
    in sequence and resumed. checkpoint: a safetensors file, replaced after every stage; with the
    same file an interrupted evaluation goes on where it stopped. ValueError if the file belongs
    to other examples, labels, weights, threat, seed or attacks.
    """
    attacks = STANDARD if attacks is None else attacks
    label = "" if checkpoint is None else _label(model, threat, seed, attacks)
    stages = [] if checkpoint is None else _load(Path(checkpoint), x, y, label)
    if not stages:
        began = time.perf_counter()
        found = start_survey(model, x, y, threat, batch_size)
        stages = [Stage("clean", found, time.perf_counter() - began)]
    yield from stages
    for place, (name, attack) in list(enumerate(attacks.items()))[len(stages) - 1 :]:
        began = time.perf_counter()
        found = attack_survivors(
            attack,
            model,
            x,
            y,
            threat,
            before=stages[-1].found,
            rng=torch.Generator().manual_seed(1000 * seed + place),
            batch_size=batch_size,
            progress=name if progress else "",
        )
        stages.append(Stage(name, found, time.perf_counter() - began))
        if checkpoint is not None:
            _save(Path(checkpoint), x, y, label, stages)
        yield stages[-1]


def standard_evaluation(
    model: nn.Module, x: Points, y: Labels, threat: ThreatModel, **settings
) -> list[Stage]:
    """`evaluation_path` to its end: `[-1].found.robust_accuracy` is the number to report."""
    return list(evaluation_path(model, x, y, threat, **settings))


def _label(
    model: nn.Module, threat: ThreatModel, seed: int, attacks: Mapping[str, BatchAttack]
) -> str:
    """What an evaluation is of, in words that are the same in the next process."""
    weights = hashlib.sha256()
    for name, value in model.state_dict().items():
        weights.update(name.encode())
        weights.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    settings = {name: _words(attack) for name, attack in attacks.items()}
    return f"{threat} seed={seed} {settings} weights={weights.hexdigest()}"


def _words(attack: BatchAttack) -> str:
    """An attack's name and settings; its repr would hold an address in memory."""
    if isinstance(attack, partial):
        return f"{_words(attack.func)} {attack.args} {attack.keywords}"
    return getattr(attack, "__qualname__", type(attack).__qualname__)


def _save(path: Path, x: Tensor, y: Tensor, label: str, stages: list[Stage]) -> None:
    """All stages in one file: points of the last, who was broken after each, the rest as JSON."""
    tensors = {"x": x, "y": y, "z": stages[-1].found.z}
    tensors["fooled"] = torch.stack([s.found.fooled for s in stages])
    plain = {"label": label, "stages": [(s.name, s.seconds) for s in stages]}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(path.name + ".partial")
    contents = {k: v.cpu().contiguous() for k, v in tensors.items()}
    save_file(contents, partial_file, metadata={"evaluation": json.dumps(plain)})
    os.replace(partial_file, path)


def _load(path: Path, x: Tensor, y: Tensor, label: str) -> list[Stage]:
    """The stages in the file, none if there is no file; their points are those of the last."""
    if not path.exists():
        return []
    with safe_open(path, framework="pt") as file:
        plain = json.loads(file.metadata()["evaluation"])
        saved = {k: file.get_tensor(k).to(x.device) for k in ("x", "y", "z", "fooled")}
    same = all(torch.equal(saved[k], v) for k, v in {"x": x, "y": y}.items())
    if not same or plain["label"] != label:
        raise ValueError(f"checkpoint {path} belongs to another evaluation: give another file")
    return [
        Stage(name, Attacked(saved["z"], fooled), seconds)
        for (name, seconds), fooled in zip(plain["stages"], saved["fooled"], strict=True)
    ]

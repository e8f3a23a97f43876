"""Section 17.2.3: the evaluation: any attacks in sequence, each on what the last left standing.

The standard one is AutoAttack's, Croce and Hein (2020): APGD on the cross-entropy, APGD-T on the
targeted DLR, FAB-T, Square; one start and 100 steps each, nine targets, 5,000 queries. Since every
attack sees the survivors of the one before, the numbers only fall, and the last one is an upper
bound on the robust accuracy.
"""

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from adversarial_lab.attacks.apgd import apgd, apgd_targets
from adversarial_lab.attacks.fab import fab_targets
from adversarial_lab.attacks.square import square
from adversarial_lab.classifier import Model, check_labels, networks
from adversarial_lab.files import whole
from adversarial_lab.pgd import attack_model, fgsm
from adversarial_lab.protocol import (
    Attacked,
    Search,
    Undefined,
    ascent_attack,
    attack_survivors,
    start_survey,
)
from adversarial_lab.threat import Points, ThreatModel

Attacks = str | Search | Iterable[str | Search] | Mapping[str, str | Search]
STANDARD: dict[str, Callable[..., Attacked]] = {
    "apgd-ce": partial(apgd, steps=100),
    "apgd-t": partial(apgd_targets, steps=100, targets=9),
    "fab-t": partial(fab_targets, steps=100, targets=9),
    "square": partial(square, queries=5000),
}
ATTACKS: dict[str, Callable[..., Attacked]] = {
    **STANDARD,
    "fgsm": ascent_attack(fgsm),
    "pgd": partial(attack_model, steps=40),
}


@dataclass(frozen=True)
class Stage:
    """After one attack: its name, all that is broken so far, and its seconds.

    left_out: why the attack was not run, empty where it was.
    """

    name: str
    found: Attacked
    seconds: float
    left_out: str = ""

    def __str__(self) -> str:
        if self.left_out:
            return f"{self.name:>8}: left out, {self.left_out}"
        n = len(self.found.fooled)
        share = self.found.robust_accuracy
        return f"{self.name:>8}: {share:6.1%} of {n} stand  ({self.seconds:.1f} s)"


def evaluation_path(
    model: Model,
    x: Points,
    y: Tensor,
    threat: ThreatModel,
    attacks: Attacks = tuple(STANDARD),
    *,
    seed: int = 0,
    batch_size: int | None = None,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> Iterator[Stage]:
    """Yields the stage "clean" and one after each attack; what is not defined here is left out.

    attacks: names of `ATTACKS`, attacks or functions `(model, x, y, threat, *, rng) -> points`, one
    or several, or a dict with names of your own. Every attack draws from a generator of its own,
    made of seed and place: the same numbers alone, in sequence and resumed. checkpoint: a
    safetensors file, replaced after every stage; with the same file an interrupted evaluation goes
    on where it stopped. ValueError if the file belongs to other examples, labels, weights, threat,
    seed or attacks, and if no attack at all is defined.
    """
    named = by_name(attacks)
    x, y = x.detach(), check_labels(y, x)
    label = "" if checkpoint is None else _label(model, threat, seed, named)
    stages = [] if checkpoint is None else _load(Path(checkpoint), x, y, label)
    if not stages:
        began = time.perf_counter()
        found = start_survey(model, x, y, threat, batch_size)
        stages = [Stage("clean", found, time.perf_counter() - began)]
    yield from stages
    for place, (name, attack) in list(enumerate(named.items()))[len(stages) - 1 :]:
        run = partial(attack_survivors, attack, model, x, y, threat, batch_size=batch_size)
        rng = torch.Generator().manual_seed(1000 * seed + place)
        stages.append(_stage(name, run, stages[-1].found, rng, progress))
        if checkpoint is not None:
            _save(Path(checkpoint), x, y, label, stages)
        yield stages[-1]
    reasons = [stage.left_out for stage in stages[1:]]
    if reasons and all(reasons):
        raise Undefined("; ".join(dict.fromkeys(reasons)))


def evaluate(
    model: Model, x: Points, y: Tensor, threat: ThreatModel, attacks: Attacks, **settings: Any
) -> list[Stage]:
    """`evaluation_path` to its end: `[-1].found.robust_accuracy` is the number to report."""
    return list(evaluation_path(model, x, y, threat, attacks, **settings))


def standard_evaluation(
    model: Model,
    x: Points,
    y: Tensor,
    threat: ThreatModel,
    attacks: Attacks = tuple(STANDARD),
    **settings: Any,
) -> list[Stage]:
    """`evaluate` with the four attacks of `STANDARD`, or those of them that are named."""
    return evaluate(model, x, y, threat, attacks, **settings)


def by_name(attacks: Attacks) -> dict[str, Search]:
    """Attacks under their names; ValueError on a name that is unknown or given twice."""
    if isinstance(attacks, Mapping):
        return {name: _attack(name, attack) for name, attack in attacks.items()}
    given = [attacks] if isinstance(attacks, str) or callable(attacks) else list(attacks)
    names = [attack if isinstance(attack, str) else _name(attack) for attack in given]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"attacks must have different names, got {twice} twice: give a dict")
    return {name: _attack(name, attack) for name, attack in zip(names, given, strict=True)}


def _attack(name: str, attack: Any) -> Search:
    """The attack of this name, which can be called as one; else ValueError."""
    if isinstance(attack, str):
        if attack not in ATTACKS:
            raise ValueError(f"attacks must be callable or among {list(ATTACKS)}, got {attack!r}")
        attack = ATTACKS[attack]
    try:
        inspect.signature(attack).bind(*(None,) * 4, rng=None)
    except TypeError as error:
        raise ValueError(
            f"attack {name!r} must be callable as attack(model, x, y, threat, rng=...): {error}"
            " (an ascent (f, x, threat) becomes an attack by ascent_attack)"
        ) from error
    return attack


def _name(attack: Any) -> str:
    while isinstance(attack, partial):
        attack = attack.func
    return getattr(attack, "__name__", type(attack).__name__)


def _stage(
    name: str,
    run: Callable[..., Attacked],
    before: Attacked,
    rng: torch.Generator,
    progress: bool,
) -> Stage:
    """One attack on what `before` left standing, or why it is not defined on it."""
    began, left_out = time.perf_counter(), ""
    try:
        found = run(before=before, rng=rng, progress=name if progress else "")
    except Undefined as error:
        found, left_out = before, str(error)
    return Stage(name, found, time.perf_counter() - began, left_out)


def _label(model: Model, threat: ThreatModel, seed: int, attacks: Mapping[str, Search]) -> str:
    """What an evaluation is of, in words that are the same in the next process."""
    weights = hashlib.sha256()
    for network in networks(model):
        for name, value in network.state_dict().items():
            weights.update(name.encode())
            weights.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    settings = {name: _words(attack) for name, attack in attacks.items()}
    return f"{threat} seed={seed} {settings} weights={weights.hexdigest()}"


def _words(attack: Search) -> str:
    """An attack's name and settings; its repr would hold an address in memory."""
    if isinstance(attack, partial):
        settings = {k: _words(v) if callable(v) else v for k, v in attack.keywords.items()}
        return f"{_words(attack.func)} {attack.args} {settings}"
    return getattr(attack, "__qualname__", type(attack).__qualname__)


def _save(path: Path, x: Tensor, y: Tensor, label: str, stages: list[Stage]) -> None:
    """All stages in one file: points of the last, who was broken after each, the rest as JSON."""
    tensors = {"x": x, "y": y, "z": stages[-1].found.z}
    tensors["fooled"] = torch.stack([s.found.fooled for s in stages])
    plain = {"label": label, "stages": [(s.name, s.seconds, s.left_out) for s in stages]}
    contents = {k: v.cpu().contiguous() for k, v in tensors.items()}
    with whole(path) as file:
        save_file(contents, file, metadata={"evaluation": json.dumps(plain)})


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
    natural = saved["fooled"][0]
    return [
        Stage(name, Attacked(saved["z"], fooled, natural), *about)
        for (name, *about), fooled in zip(plain["stages"], saved["fooled"], strict=True)
    ]

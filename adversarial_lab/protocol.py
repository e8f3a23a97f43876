r"""An attack on a classifier: one signature, one result, one verification.

Every attack is called as ``attack(model, x, y, threat, *, rng=None, ...)`` and returns an
`Attacked`. A search for points becomes one by `verified_attack`, an ascent of any per-example f,
such as `pgd`, by `ascent_attack`. What counts as broken is decided in one place, `verified`:
inside N(x), and wrong when asked once more in float32 or better.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from adversarial_lab.classifier import (
    Classifier,
    Labels,
    Model,
    check_labels,
    check_logits,
    evaluating,
    logits_of,
    precision,
)
from adversarial_lab.threat import Points, Rng, ThreatModel

LogitLoss = Callable[[Tensor, Tensor], Tensor]  # logits (n, k), labels (n,) -> (n,)
Search = Callable[..., Any]  # (model, x, y, threat, *, rng) -> points; only verified ones count
Fooled = Bool[Tensor, " n"]


class Undefined(ValueError):
    """The attack is not defined on such data; an evaluation leaves it out and says so."""


def cross_entropy(logits: Float[Tensor, "n k"], y: Labels) -> Float[Tensor, " n"]:
    r"""$\ell(h(x),y)=-\log p_y$ in nats, per example: what PGD ascends unless told otherwise."""
    return F.cross_entropy(logits, y, reduction="none")


@dataclass(frozen=True)
class Attacked:
    """What attacks on a classifier found, without a graph, in float32 or better.

    z: for each example a point of N(x), the last one tried where nothing was found. fooled: the
    network is wrong there, or was at x. natural: it was wrong at x, before any attack.
    """

    z: Tensor
    fooled: Fooled
    natural: Fooled

    @property
    def robust_accuracy(self) -> float:
        """Share of the examples that the attack could not break."""
        return int((~self.fooled).sum()) / len(self.fooled)


@contextmanager
def strict(device: torch.device) -> Iterator[None]:
    """float32 as it is: no autocast, and on a GPU no factors rounded to TF32."""
    rounding = tf32(False) if device.type == "cuda" else nullcontext()
    with torch.autocast(device.type, enabled=False), rounding:
        yield


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether a GPU may round the factors of float32 products to 10 bits."""
    places, name, value = _tf32_switch(allowed)
    before = [getattr(place, name) for place in places]
    for place in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, old in zip(places, before, strict=True):
            setattr(place, name, old)


def _tf32_switch(allowed: bool) -> tuple[tuple[Any, ...], str, Any]:
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    try:
        _ = matmul.allow_tf32, cudnn.allow_tf32
    except RuntimeError:  # somebody has used torch's newer switch, and the two may not be mixed
        return (matmul, cudnn.conv), "fp32_precision", "tf32" if allowed else "ieee"
    return (matmul, cudnn), "allow_tf32", allowed


@torch.no_grad()
def verified(model: Model, x: Points, y: Labels, z: Points, threat: ThreatModel) -> Fooled:
    """True where z lies in N(x) and the network is wrong there, or has no answer (NaN).

    The network is asked once more, outside autocast and TF32.
    """
    with strict(z.device):
        logits = logits_of(model(z.clone()))  # it may write into what it is given
    wrong = (logits.argmax(1) != y) | logits.isnan().any(1)
    return threat.contains(x, z) & wrong


@dataclass(frozen=True)
class Trial:
    """A classifier and examples, checked and ready to be attacked `size` at a time."""

    model: Classifier
    x: Tensor
    y: Tensor
    threat: ThreatModel
    size: int

    @torch.no_grad()
    def clean(self) -> Attacked:
        """Before any attack: an example that the network gets wrong at x is broken at x.

        Raises ValueError on logits that make no sense.
        """
        with strict(self.x.device):
            logits = torch.cat([self.model(part) for part in self.x.split(self.size)])
        check_logits(logits, self.y)
        wrong = logits.argmax(1) != self.y
        return Attacked(self.x.clone(), wrong, wrong.clone())

    def pursue(
        self, search: Search, before: Attacked, *beside: Tensor, progress: str = ""
    ) -> Attacked:
        """One search among the examples that `before` left standing; returns both together.

        beside: what else the search is given of each example, after the threat.
        """
        z, fooled = before.z.clone(), before.fooled.clone()
        parts = batches(~fooled, self.size)
        for rows in tqdm(parts, progress, leave=False, disable=not progress):
            given = self.x[rows], self.y[rows], self.threat, *(b[rows] for b in beside)
            tried = points(search(self.model, *given), self.x[rows])
            inside = self.threat.contains(self.x[rows], tried)
            z[rows[inside]] = tried[inside]
            fooled[rows] = verified(self.model, self.x[rows], self.y[rows], tried, self.threat)
        return replace(before, z=z, fooled=fooled)


@contextmanager
def trial(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    size: int | None = None,
    layout: torch.memory_format = torch.channels_last,
) -> Iterator[Trial]:
    """The model ready to be attacked (`evaluating`) in float32 or better, x and y as it wants them.

    size: examples at a time, by default 100 on a CPU and 1,000 elsewhere. layout: see `evaluating`.
    Raises ValueError on inputs, labels, models that make no sense.
    """
    threat.check(x)
    y = check_labels(y, x)
    if size is not None and size < 1:
        raise ValueError(f"batch_size must be >= 1, got {size}")
    size = size or (100 if x.device.type == "cpu" else 1000)
    dtype = precision(model, x)
    with evaluating(model, layout, dtype) as network:
        x, y = (v.clone() if v.is_inference() else v.detach() for v in (x, y))
        yield Trial(network, x.to(dtype), y, threat, size)


def batches(chosen: Tensor, size: int) -> Sequence[Tensor]:
    """The chosen rows in batches; none, not one empty batch, if there are none."""
    rows = chosen.nonzero().squeeze(1)
    return rows.split(size) if len(rows) else ()


def points(found: Any, x: Tensor) -> Tensor:
    """The points in what a search returned, as x is; ValueError if they are none."""
    z = found.z if isinstance(found, Attacked) else found
    if not isinstance(z, Tensor) or z.shape != x.shape:
        shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(f"attack must return points of x's shape {tuple(x.shape)}, got {shape}")
    return z.detach().to(x)


def start_survey(
    model: Model, x: Points, y: Tensor, threat: ThreatModel, batch_size: int | None = None
) -> Attacked:
    """What is broken before any attack; see `Trial.clean`."""
    with trial(model, x, y, threat, batch_size) as t:
        return t.clean()


def attack_survivors(
    attack: Search,
    model: Model,
    x: Points,
    y: Tensor,
    threat: ThreatModel,
    *,
    before: Attacked | None = None,
    rng: Rng = None,
    batch_size: int | None = None,
    progress: str = "",
) -> Attacked:
    """Run one attack on the examples that `before` left standing; returns both together.

    attack: of any kind, or a function that returns points. before: what earlier attacks found, by
    default the network's errors at x. batch_size: by default 100 on a CPU, 1,000 elsewhere.
    progress: label of a progress bar, none if empty.
    """
    with trial(model, x, y, threat, batch_size) as t:
        found = t.clean() if before is None else before
        return t.pursue(partial(search_of(attack), rng=rng), found, progress=progress)


def search_of(attack: Search) -> Search:
    """The search inside a `verified_attack`, for a caller that verifies: once is enough."""
    if isinstance(attack, partial):
        return type(attack)(search_of(attack.func), *attack.args, **attack.keywords)
    return getattr(attack, "search", attack)


def verified_attack(search: Callable[..., Points]) -> Callable[..., Attacked]:
    """Make an attack of a search, `(model, x, y, threat, *, rng, ...) -> points` of one batch.

    The model that the search is given is a `Classifier`, its parameters frozen, and right at x.
    """

    @wraps(search)
    def attack(
        model: Model,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        *,
        rng: Rng = None,
        batch_size: int | None = None,
        progress: str = "",
        **settings: Any,
    ) -> Attacked:
        return attack_survivors(
            partial(search, **settings),
            model,
            x,
            y,
            threat,
            rng=rng,
            batch_size=batch_size,
            progress=progress,
        )

    attack.search = search  # type: ignore[attr-defined]
    attack.__signature__ = _joined(search)  # type: ignore[attr-defined]
    return attack


def _joined(search: Callable) -> inspect.Signature:
    """What an attack takes: the parameters of its search, and how the work is done."""
    named = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    more = [
        named("batch_size", default=None, annotation=int | None),
        named("progress", default="", annotation=str),
    ]
    own = inspect.signature(search)
    parameters = sorted([*own.parameters.values(), *more], key=lambda p: p.kind)
    return own.replace(parameters=parameters, return_annotation=Attacked)


def ascent_attack(
    ascent: Callable[..., Points], loss: LogitLoss = cross_entropy
) -> Callable[..., Attacked]:
    r"""Make an attack of an ascent `(f, x, threat, *, rng, ...)`, with $f(z)=\ell(h(z),y)$.

    `ascent_attack(pgd)` is PGD's last iterate; `attack_model` counts every iterate.
    """

    def search(
        model: Model, x: Points, y: Labels, threat: ThreatModel, *, rng: Rng = None, **settings: Any
    ) -> Points:
        return ascent(lambda z: loss(model(z), y), x, threat, rng=rng, **settings)

    search.__name__ = search.__qualname__ = getattr(ascent, "__name__", type(ascent).__name__)
    return verified_attack(search)

r"""Section 17.1.2: the outer minimisation, Eq. (2), for any objective.

An objective maps (model, x, y) to a scalar; `erm` and `adversarial` live here, other sections
bring their own. `fit_path` is the one training loop and yields a row per epoch; `fit` runs it to
the end. What may change while training (eps, kappa) comes from `ramp`, a function of the fraction
of training done.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from adversarial_lab.classifier import Labels, attacking, check_logits
from adversarial_lab.files import whole
from adversarial_lab.threat import Points, ThreatModel

Scalar = Float[Tensor, ""]
PerExample = Callable[[Tensor], Tensor]  # (n, *d) -> (n,), one value per example
Attack = Callable[[PerExample, Tensor, ThreatModel], Tensor]
Objective = Callable[..., Tensor]  # (model, x, y, **what ramp gives) -> scalar
Row = dict[str, float]


def erm(model: nn.Module, x: Points, y: Labels) -> Scalar:
    r"""$\mathbb{E}\,\ell(h(x),y)$ with cross-entropy: training without an adversary."""
    return _mean_loss(model(x), y)


def adversarial(
    model: nn.Module, x: Points, y: Labels, *, threat: ThreatModel, attack: Attack
) -> Scalar:
    r"""$\mathbb{E}\max_{x'\in N(x)}\ell(h(x'),y)$, Eq. (1), the maximum found by `attack`.

    The attack sees the network in eval mode; x' is a constant in the gradient of Eq. (2).
    Source: Madry et al. 2018.
    """
    with attacking(model):
        z = attack(lambda z: F.cross_entropy(model(z), y, reduction="none"), x, threat)
    return _mean_loss(model(z.detach()), y)


def _mean_loss(logits: Tensor, y: Tensor) -> Tensor:
    check_logits(logits.detach(), y)
    return F.cross_entropy(logits, y)


def fit_path(
    model: nn.Module,
    loader: Iterable[tuple[Tensor, Tensor]],
    objective: Objective,
    *,
    epochs: int,
    optimizer: torch.optim.Optimizer,
    rng: torch.Generator,
    schedule: LRScheduler | None = None,
    average: AveragedModel | None = None,
    ramp: Callable[[float], dict[str, Any]] = lambda t: {},
    watch: Callable[[nn.Module], Row] = lambda model: {},
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Iterator[Row]:
    r"""$\theta_t=\theta_{t-1}-\alpha\nabla_\theta L$, Eq. (2), a row {epoch, loss, ...} per epoch.

    ramp: fraction of training done -> keyword arguments of the objective. watch: measured at each
    epoch's end on the averaged network if there is one. rng: the generator that loader and attack
    draw from; reseeded by epoch, so a run that resumes from `checkpoint` ends in the same digits
    (torch's global generator, which dropout uses, is not). loader: with a length (`data.Batches`).
    Raises FloatingPointError when the loss is no longer finite, ValueError on a checkpoint of
    another training.
    """
    about = {"epochs": epochs, "seed": rng.initial_seed(), "batches": _batches(loader)}
    state = State(model, optimizer, schedule, average, about)
    history = state.load(checkpoint) if checkpoint is not None else []
    yield from history
    for epoch in range(len(history), epochs):
        total = torch.zeros(())
        model.train()
        bar = tqdm(loader, f"epoch {epoch + 1}/{epochs}", leave=False, disable=not progress)
        with _seeded(rng, epoch):
            for i, (x, y) in enumerate(bar):
                loss = objective(model, x, y, **ramp((epoch + i / len(bar)) / epochs))
                optimizer.zero_grad()
                loss.backward()
                state.step()
                total = total.to(loss.device) + loss.detach()
        mean = float(total) / len(bar)
        if not math.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean} in epoch {epoch + 1}")
        watched = watch(model if average is None else average.module)
        history.append({"epoch": epoch + 1, "loss": mean, **watched})
        if checkpoint is not None:
            state.save(checkpoint, history)
        yield history[-1]


def _batches(loader: Iterable) -> int:
    if not isinstance(loader, Sized) or not len(loader):
        raise ValueError(f"loader must have a length >= 1 (see data.Batches), got {loader!r}")
    return len(loader)


@contextmanager
def _seeded(rng: torch.Generator, epoch: int) -> Iterator[None]:
    """The generator seeded for one epoch, then as it was found: calling again resumes the same run.

    Seeds are spread by a large odd factor, so the epochs of two runs never share their noise.
    """
    seed = rng.initial_seed()
    rng.manual_seed((seed * 2654435761 + epoch) % 2**32)
    try:
        yield
    finally:
        rng.manual_seed(seed)


def fit(*args: Any, **kwargs: Any) -> list[Row]:
    """Run `fit_path` to the end and return its rows. Ctrl-C loses at most the running epoch."""
    return list(fit_path(*args, **kwargs))


def one_cycle(optimizer: torch.optim.Optimizer, *, peak: float, steps: int) -> LRScheduler:
    """Learning rate up to `peak` over the first 30 % of `steps`, then down to almost 0."""
    return OneCycleLR(optimizer, max_lr=peak, total_steps=steps)


def piecewise(
    optimizer: torch.optim.Optimizer, *, milestones: list[int], factor: float = 0.1
) -> LRScheduler:
    """Learning rate times `factor` at each of the `milestones`, counted in steps."""
    return MultiStepLR(optimizer, milestones=milestones, gamma=factor)


def eps_warmup(threat: ThreatModel, over: float) -> Callable[[float], dict[str, Any]]:
    """A ramp: eps grows linearly from 0 over the fraction `over` of training, then stays."""
    if not 0 <= over <= 1:
        raise ValueError(f"over must be a fraction of training in [0, 1], got {over}")
    return lambda t: {"threat": threat.with_eps(threat.eps * min(1.0, t / over if over else 1.0))}


def weight_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of the weights, one update per step; BatchNorm is copied."""
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


class State:
    """All that training changes, moved together: stepped, saved and loaded whole."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler | None,
        average: AveragedModel | None,
        about: dict[str, Any],
    ) -> None:
        self.model, self.optimizer = model, optimizer
        self.schedule, self.average = schedule, average
        parts: dict[str, Any] = {
            "model": model,
            "optimizer": optimizer,
            "schedule": schedule,
            "average": average,
        }
        self.parts = {name: part for name, part in parts.items() if part is not None}
        kinds = {n: type(p).__name__ for n, p in self.parts.items() if not isinstance(p, nn.Module)}
        shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
        self.about = {**about, **kinds, "shapes": shapes, "average": average is not None}

    def step(self) -> None:
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def save(self, path: Path, history: list[Row]) -> None:
        """One safetensors file, replaced whole: tensors by name, all else as JSON beside them."""
        tensors: dict[str, Tensor] = {}
        plain = _pack({name: p.state_dict() for name, p in self.parts.items()}, "", tensors)
        text = json.dumps({"history": history, "about": self.about, "state": plain})
        with whole(Path(path)) as file:
            save_file(tensors, file, metadata={"training": text})

    def load(self, path: Path) -> list[Row]:
        """Restore every part, return the rows so far; [] without a file."""
        if not Path(path).exists():
            return []
        try:
            with safe_open(path, framework="pt") as file:
                saved = json.loads(file.metadata()["training"])
                about, state = saved["about"], _unpack(saved["state"], file.get_tensor)
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"checkpoint {path} is not one of a training: {error}") from error
        if other := {k for k in about | self.about if about.get(k) != self.about.get(k)}:
            was, now = ({k: d.get(k) for k in sorted(other)} for d in (about, self.about))
            raise ValueError(
                f"checkpoint {path} is of another training, {was}, and this one has {now}:"
                " delete it or give another path"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return saved["history"]


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for a nested state: a dict becomes its items (keys may be int), a tensor its name."""
    if isinstance(value, Tensor):
        tensors[path] = value.detach().clone().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        return {"items": [[k, _pack(v, f"{path}/{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_pack(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
    return value


def _unpack(value: Any, tensor: Callable[[str], Tensor]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensor(value["tensor"])
        return {k: _unpack(v, tensor) for k, v in value["items"]}
    return [_unpack(v, tensor) for v in value] if isinstance(value, list) else value

r"""Section 17.2.3: Auto-PGD, ascent with momentum that chooses its own step size.

Algorithm 1 of Croce and Hein (2020), "Reliable evaluation of adversarial robustness with an
ensemble of diverse parameter-free attacks". The step starts at 2 eps; at a few checkpoints it is
halved for the examples that stopped improving, which then go on from their best point.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from adversarial_lab.attacks.margins import targeted_dlr
from adversarial_lab.attacks.targets import each_target
from adversarial_lab.classifier import Labels, Model, slope
from adversarial_lab.protocol import Undefined, cross_entropy, verified_attack
from adversarial_lab.threat import Points, Rng, ThreatModel

Goal = Callable[[Tensor, Tensor], Tensor]  # logits (n, k), goal labels -> (n,), to be maximised


@dataclass(frozen=True)
class State:
    """What Algorithm 1 remembers of each example that is still in the race; rows name them."""

    rows: Tensor
    x: Tensor
    goal: Tensor  # labels (n,), or (n, 2) with a target; column 0 is the true class
    z: Tensor
    before: Tensor  # the iterate before z
    value: Tensor  # of the goal, at z
    g: Tensor
    wrong: Tensor  # is z misclassified?
    best: Tensor
    best_value: Tensor
    best_g: Tensor
    step: Tensor
    rises: Tensor  # steps that raised the value since the last checkpoint
    halved: Tensor  # was the step halved there?
    best_then: Tensor  # best value there

    def keep(self, mask: Tensor) -> "State":
        """The state of the examples in the mask."""
        return State(**{f.name: getattr(self, f.name)[mask] for f in fields(self)})


def apgd_path(
    model: Model,
    x: Points,
    goal: Tensor,
    threat: ThreatModel,
    *,
    loss: Goal = cross_entropy,
    steps: int = 100,
    rng: Rng = None,
    start: Points | None = None,
    stop_when_fooled: bool = True,
) -> Iterator[State]:
    r"""Yields the state at $x^{(0)},\dots,x^{(K)}$ of Algorithm 1; the fooled leave it.

    goal: what `loss` gets beside the logits: y, or columns (y, t). start: x^(0), by default
    uniform in the ball. Call it inside `evaluating(model)`.
    """
    _check(threat, steps)
    look = partial(_look, model, loss)
    state = _begin(look, x, goal, threat.sample(x, rng) if start is None else start, threat)
    marks = checkpoints(steps)
    for k in range(1, steps + 1):
        yield state
        if stop_when_fooled and state.wrong.any():
            state = state.keep(~state.wrong)
        if not len(state.rows):
            return
        state = _advance(look, state, threat, momentum=0.25 if k > 1 else 0.0, rng=rng)
        if k in marks:
            state = _judge(state, steps_since=k - marks[k])
    yield state


@verified_attack
def apgd(
    model: Model,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    loss: Goal = cross_entropy,
    steps: int = 100,
    rng: Rng = None,
) -> Points:
    """APGD: per example its first wrong iterate, else the one with the largest loss."""
    return towards(model, x, y, threat, loss=loss, steps=steps, rng=rng)


@verified_attack
def apgd_targets(
    model: Model,
    x: Points,
    y: Labels,
    threat: ThreatModel,
    *,
    targets: int = 9,
    steps: int = 100,
    rng: Rng = None,
) -> Points:
    """APGD-T: APGD on `targeted_dlr` towards each of the likeliest wrong classes at x in turn."""

    def attack(model: Model, x: Points, y: Labels, target: Labels) -> Points:
        goal = torch.stack([y, target], 1)
        return towards(model, x, goal, threat, loss=targeted_dlr, steps=steps, rng=rng)

    return each_target(attack, model, x, y, threat, targets=targets)


def towards(
    model: Model, x: Points, goal: Tensor, threat: ThreatModel, *, loss: Goal, steps: int, rng: Rng
) -> Points:
    """Per example the first wrong iterate of `apgd_path`, else the one with the largest loss."""
    z = x.clone()
    for state in apgd_path(model, x, goal, threat, loss=loss, steps=steps, rng=rng):
        z[state.rows[state.wrong]] = state.z[state.wrong]
    z[state.rows[~state.wrong]] = state.best[~state.wrong]
    return z


def checkpoints(steps: int) -> dict[int, int]:
    r"""Checkpoint -> the one before it: $p_{j+1}=p_j+\max(p_j-p_{j-1}-0.03,\,0.06)$, in steps."""
    length, shrink, shortest = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    marks, mark = {}, 0
    while mark + length <= steps:
        marks[mark + length] = mark
        mark, length = mark + length, max(length - shrink, shortest)
    return marks


def _check(threat: ThreatModel, steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}")
    if threat.norm not in ("linf", "l2"):
        raise Undefined(f"norm must be one of ['l2', 'linf'] for APGD, got {threat.norm!r}")


def _look(model: Model, loss: Goal, z: Tensor, goal: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Value and gradient at z, and whether z is misclassified, from one pass."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        logits = model(z)
        value = loss(logits, goal)
        g = slope(value, z)
    y = goal if goal.ndim == 1 else goal[:, 0]
    return value.detach(), g, logits.detach().argmax(1) != y


def _begin(look: Callable, x: Tensor, goal: Tensor, start: Tensor, threat: ThreatModel) -> State:
    z = threat.project(x, start)
    value, g, wrong = look(z, goal)
    full = partial(torch.full, (len(x),), device=x.device)
    return State(
        rows=torch.arange(len(x), device=x.device),
        x=x,
        goal=goal,
        z=z,
        before=z,
        value=value,
        g=g,
        wrong=wrong,
        best=z,
        best_value=value,
        best_g=g,
        step=full(2 * threat.eps, dtype=x.dtype),
        rises=full(0),
        halved=full(True),
        best_then=value,
    )


def _advance(look: Callable, s: State, threat: ThreatModel, momentum: float, rng: Rng) -> State:
    """One step: ascend, mix in the last move, project, and remember what is best."""
    ahead = threat.project(s.x, s.z + _like(s.step, s.z) * threat.steepest(s.g, rng))
    z = threat.project(s.x, s.z + (1 - momentum) * (ahead - s.z) + momentum * (s.z - s.before))
    value, g, wrong = look(z, s.goal)
    better = value > s.best_value
    return replace(
        s,
        z=z,
        before=s.z,
        value=value,
        g=g,
        wrong=wrong,
        best=torch.where(_like(better, z), z, s.best),
        best_value=torch.where(better, value, s.best_value),
        best_g=torch.where(_like(better, z), g, s.best_g),
        rises=s.rises + (value > s.value),
    )


def _judge(s: State, steps_since: int) -> State:
    """Checkpoint: halve the step and return to the best point where progress has stalled.

    Stalled: fewer than 3/4 of the steps since the last checkpoint went up, or neither the step nor
    the best value has changed since then.
    """
    stuck = ~s.halved & (s.best_then >= s.best_value)
    halve = (s.rises <= 0.75 * steps_since) | stuck
    back = _like(halve, s.z)
    return replace(
        s,
        z=torch.where(back, s.best, s.z),
        before=torch.where(back, s.best, s.before),
        g=torch.where(back, s.best_g, s.g),
        value=torch.where(halve, s.best_value, s.value),
        step=torch.where(halve, s.step / 2, s.step),
        rises=torch.zeros_like(s.rises),
        halved=halve,
        best_then=s.best_value,
    )


def _like(v: Tensor, x: Tensor) -> Tensor:
    return v.view(-1, *[1] * (x.ndim - 1))

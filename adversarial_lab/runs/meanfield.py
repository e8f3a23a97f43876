"""Lecture, mean field: the error of the particle method against time, and W_1 between N and 4N."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tqdm import tqdm

from adversarial_lab.meanfield import (
    Game,
    NikaidoIsoda,
    State,
    ascent_descent,
    dense_early,
    distance,
    nikaido_isoda,
    snapshots,
    start,
    time_average,
)
from adversarial_lab.runs.classifier import numbers
from adversarial_lab.runs.record import Job

# the lines of the figure: name -> (c_a, variant, extragradient)
LINES = {
    "c=2": (2.0, "wfr", False),
    "c=2, extragradient": (2.0, "wfr", True),
    "c=2, Wasserstein only": (2.0, "wasserstein", False),
    "c=2, Fisher-Rao only": (2.0, "fisher-rao", False),
    "c=16": (16.0, "wfr", False),
}


@dataclass(frozen=True)
class Config:
    """The regression lab: points on [-width, width] with y = sin 2x + noise, and the particles."""

    points: int = 16
    width: float = 1.0
    noise: float = 0.1
    neurons: int = 200
    copies: int = 8
    spread: float = 0.1  # of the adversary's start around the data
    scale_a: float = 3.0  # of the neurons' start
    scale_b: float = 2.0
    eta: float = 0.02
    kappa: float = 0.05
    times: str = "100,300,1000,3000"
    tolerance: float = 5e-4  # of each half of the error
    sizes: str = "8,16,32"  # N of the limit, against 4N: N neurons, N/4 copies of 4 points
    pairs: int = 6  # independent pairs of runs a size
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("times", "sizes"):
            if min(self.whole(name), default=0) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")

    def whole(self, name: str) -> list[int]:
        """The setting `times` or `sizes`, as sorted numbers."""
        return sorted(numbers(name, getattr(self, name), int))


SCALES = {
    "quick": Config(times="100,300", neurons=60, sizes="4,8", pairs=1, tolerance=2e-3),
    "full": Config(),
}
COST = {"quick": "seconds", "full": "a few minutes on one CPU core"}


def lab(config: Config, cost: float) -> Game:
    """The data of the regression lab, the same for every c_a."""
    rng = torch.Generator().manual_seed(config.seed)
    x = torch.linspace(-config.width, config.width, config.points, dtype=torch.float64)
    noise = torch.randn(config.points, generator=rng, dtype=torch.float64)
    y = torch.sin(2 * x) + config.noise * noise
    return Game(x=x[:, None], y=y, cost=cost, bias=False, largest=(10.0, 5.0))


def run(config: Config, job: Job) -> dict:
    """Each line of the figure, then the limit; returns the record."""
    history = []
    bar = tqdm(LINES, desc="error", disable=not job.progress)
    for line in bar:
        history += [{"line": line, **row} for row in errors(config, line)]
    limit = []
    for size in tqdm(config.whole("sizes"), desc="limit", disable=not job.progress):
        limit += [{"size": size, **row} for row in apart(config, size)]
    last = config.whole("times")[-1]
    metrics = {
        f"error at {last}, {row['line']}": {"value": row["upper"], "n": config.points}
        for row in history
        if row["t"] == last
    }
    return job.save(metrics, history, {"name": "sin 2x + noise", "n": config.points}, limit=limit)


def errors(config: Config, line: str) -> Iterator[dict]:
    """The bracket of the error of the time average, and of the last state, at each time."""
    cost, variant, extragradient = LINES[line]
    game, times = lab(config, cost), config.whole("times")
    first = start(
        game,
        neurons=config.neurons,
        copies=config.copies,
        spread=config.spread,
        scale=(config.scale_a, config.scale_b),
        rng=torch.Generator().manual_seed(config.seed + 1),
    )
    path = ascent_descent(
        game,
        first,
        steps=times[-1],
        eta=config.eta,
        kappa=config.kappa,
        variant=variant,
        extragradient=extragradient,
    )
    taken = list(snapshots(path, {*dense_early(times[-1], 70), *times}))
    states = dict(taken)
    for t in times:
        mean = _error(config, game, time_average(taken, t))
        end = _error(config, game, states[t])
        yield {
            "t": t,
            "lower": mean.lower,
            "upper": mean.upper,
            "last_lower": end.lower,
            "last_upper": end.upper,
        }


def _error(config: Config, game: Game, state: State) -> NikaidoIsoda:
    return nikaido_isoda(game, state, tolerance=config.tolerance)


def apart(config: Config, size: int) -> Iterator[dict]:
    """W_1 between runs with N and 4N neurons, N/4 and N copies of 4 points, against time."""
    x = torch.linspace(-config.width, config.width, 4, dtype=torch.float64)[:, None]
    game = Game(x=x, y=torch.sin(2 * x[:, 0]), cost=4.0, bias=False)
    times = [0, 25, 50, 100]
    for pair in range(config.pairs):
        runs = []
        for count in (size, 4 * size):
            rng = torch.Generator().manual_seed(config.seed + 1000 * pair + count)
            first = start(game, neurons=count, copies=max(count // 4, 1), spread=0.3, rng=rng)
            path = ascent_descent(game, first, steps=times[-1], eta=config.eta, kappa=config.kappa)
            runs.append(dict(snapshots(path, times)))
        for t in times:
            found = distance(game, runs[0][t], runs[1][t])
            yield {"pair": pair, "t": t, "plan": found.plan, "neurons": found.neurons}

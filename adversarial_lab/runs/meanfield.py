"""Lecture, mean field: the error of the particle method against time, and W_1 between N and 4N."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

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
    """The regression lab: x normal, y = sin 2x + noise, and the particles."""

    points: int = 16
    deviation: float = 0.9  # of x
    noise: float = 0.1
    draws: int = 12  # independent draws of data and start
    neurons: int = 200
    copies: int = 8
    spread: float = 0.3  # of the adversary's start around the data
    scale_a: float = 3.0  # of the neurons' start
    scale_b: float = 1.5
    eta: float = 0.02
    kappa: float = 0.05
    times: str = "100,300,1000,3000"
    tolerance: float = 0.1  # the width of an error's bracket, as a share of the error
    width: float = 1.0  # of the 4 points of the limit
    sizes: str = "8,16,32"  # N of the limit, against 4N: N neurons, N/4 copies of 4 points
    pairs: int = 6  # independent pairs of runs a size
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.tolerance < 1:
            raise ValueError(
                f"need draws >= 1 and tolerance in (0, 1), got {self.draws} and {self.tolerance}"
            )
        for name in ("times", "sizes"):
            if min(self.whole(name), default=0) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")

    def whole(self, name: str) -> list[int]:
        """The setting `times` or `sizes`, as sorted numbers."""
        return sorted(numbers(name, getattr(self, name), int))


SCALES = {
    "quick": Config(times="100,300", neurons=60, draws=1, sizes="4,8", pairs=1),
    "full": Config(),
}
COST = {"quick": "seconds", "full": "ten minutes on one CPU core"}


def lab(config: Config, cost: float, draw: int) -> tuple[Game, State]:
    """The game and the start of one draw, the same for every line."""
    rng = torch.Generator().manual_seed(config.seed + draw)
    x, noise = torch.randn(2, config.points, generator=rng, dtype=torch.float64)
    x = config.deviation * x
    y = torch.sin(2 * x) + config.noise * noise
    game = Game(x=x[:, None], y=y, cost=cost, bias=False)
    scale = (config.scale_a, config.scale_b)
    counts = {"neurons": config.neurons, "copies": config.copies}
    return game, start(game, **counts, spread=config.spread, scale=scale, rng=rng)


def run(config: Config, job: Job) -> dict:
    """Each line of the figure for each draw, then the limit; returns the record."""
    history = []
    asked = [(draw, line) for draw in range(config.draws) for line in LINES]
    for draw, line in tqdm(asked, desc="error", disable=not job.progress):
        history += [{"draw": draw, "line": line, **row} for row in errors(config, line, draw)]
    limit = []
    for size in tqdm(config.whole("sizes"), desc="limit", disable=not job.progress):
        limit += [{"size": size, **row} for row in apart(config, size)]
    last = config.whole("times")[-1]
    metrics = {}
    for line in LINES:
        found = [r["upper"] for r in history if (r["line"], r["t"]) == (line, last)]
        metrics[f"error at {last}, {line}, median"] = {"value": median(found), "n": len(found)}
    return job.save(metrics, history, {"name": "sin 2x + noise", "n": config.points}, limit=limit)


def errors(config: Config, line: str, draw: int) -> Iterator[dict]:
    """The bracket of the error of the time average, and of the last state, at each time."""
    cost, variant, extragradient = LINES[line]
    game, first = lab(config, cost, draw)
    times = config.whole("times")
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
    """As narrow as was asked for, or to 2e-4."""
    each = 0.01
    while True:
        found = nikaido_isoda(game, state, tolerance=each)
        if found.upper - found.lower <= config.tolerance * found.upper or each <= 1e-4:
            return found
        each /= 5


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

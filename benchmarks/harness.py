"""Times contenders side by side: interleaved rounds, medians, every answer judged the same way.

A ratio compares two contenders of the same round and is the median over the rounds, so a machine
that is busy for a while slows both. With one thread the clock is the CPU time of this process,
which other processes hardly change; with more it is the wall clock.
"""

import argparse
import gc
import json
import platform
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module, metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

Contender = Callable[[int], torch.Tensor]  # seed -> adversarial images, one per image
Judge = Callable[[torch.Tensor], float]  # adversarial images -> robust accuracy


@dataclass(frozen=True)
class Promise:
    """What the project promises of one contender, and whether this run kept it."""

    of: str
    promised: str
    found: str
    kept: bool | None  # None: not measured

    @property
    def verdict(self) -> str:
        return {True: "kept", False: "MISSED", None: "not measured"}[self.kept]

    def __str__(self) -> str:
        return f"{self.verdict}: {self.promised}"


def at_most(of: str, ratio: float | None, limit: float, base: str) -> Promise:
    """The contender takes at most `limit` times what `base` takes; ratio None: not measured."""
    return _promise(of, ratio, f"at most {limit:g} x {base}", lambda found: found <= limit)


def at_least(of: str, speed: float | None, limit: float, base: str) -> Promise:
    """The contender is at least `limit` times faster than `base`; speed None: not measured."""
    return _promise(of, speed, f"at least {limit:g} times faster than {base}", lambda v: v >= limit)


def _promise(of: str, found: float | None, promised: str, holds: Callable) -> Promise:
    if found is None:
        return Promise(of, promised, "", None)
    return Promise(of, promised, f"{found:.2f}", holds(found))


Said = Iterator[str | Promise]  # a benchmark: what it prints as it goes, and its promises


def listen(said: Iterable[str | Promise]) -> list[Promise]:
    """Print what a benchmark says when it says it; returns its promises."""
    promises = []
    for item in said:
        if isinstance(item, Promise):
            promises.append(item)
        else:
            print(item, flush=True)
    return promises


def perform(name: str, rounds: int | None) -> list[Promise]:
    """What `benchmarks.bench_<name>` promises, after it has said what it has to say."""
    benchmark = import_module(f"benchmarks.bench_{name}").benchmark
    return listen(benchmark(rounds=rounds) if rounds else benchmark())


def closing(promises: Sequence[Promise]) -> str:
    """All promises of a run as a table."""
    rows = [("", "found", "", "promised")]
    rows += [(p.of, p.found, p.verdict, p.promised) for p in promises]
    a, b, c, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(f"{of:{a}}  {found:>{b}}  {v:{c}}  {what}" for of, found, v, what in rows)


def main(benchmark: Callable[..., Said], **options: tuple[Callable, Any]) -> int:
    """A benchmark as a command, whose options are its arguments: name=(type, default).

    Returns the exit status: 1 if a promise was missed.
    """
    parser = argparse.ArgumentParser(description=benchmark.__doc__)
    for name, (kind, default) in options.items():
        help_text = "" if default is None else f"default: {default}"
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, default=default, help=help_text
        )
    promises = listen(benchmark(**vars(parser.parse_args())))
    print(f"\n{closing(promises)}")
    return int(any(p.kept is False for p in promises))


@dataclass
class Row:
    """One contender: seconds of every round, or why it did not take part."""

    name: str
    absent: str | None = None
    seconds: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)  # to each baseline


def race(
    makers: Mapping[str, Callable[[], Contender]],
    judge: Judge,
    rounds: int,
    baselines: Sequence[str],
    warm: Mapping[str, Callable[[], Contender]] | None = None,
) -> list[Row]:
    """Every contender once per round, after one round that does not count.

    warm: the same makers with a smaller task, for that round, where one takes long.

    makers: name -> function that imports and prepares; an ImportError there makes an absent row.
    Each round has an order of its own (what ran before leaves the memory in its own state), and
    all have the round's number as seed.
    """
    ready = {name: _prepared(make) for name, make in makers.items()}
    first = {name: _prepared(make) for name, make in warm.items()} if warm else ready
    rows = [Row(name, absent=attack if isinstance(attack, str) else None)
            for name, attack in ready.items()]  # fmt: skip
    here = [row for row in rows if row.absent is None]
    with tqdm(total=(rounds + 1) * len(here), mininterval=5, leave=False) as progress:
        for k in range(-1, rounds):
            for row in random.Random(k).sample(here, len(here)):
                progress.set_postfix_str(f"{row.name}, round {k + 1} of {rounds}")
                attack = (first if k < 0 else ready)[row.name]
                _once(row, attack, judge, seed=k + 1, counts=k >= 0)
                progress.update()
    seconds = {row.name: row.seconds for row in here}
    for row in here:
        for base in baselines:
            pairs = zip(row.seconds, seconds[base], strict=True)
            row.ratios[base] = median(a / b for a, b in pairs)
    return rows


def _prepared(make: Callable[[], Contender]) -> Contender | str:
    """The contender, or why it cannot take part."""
    try:
        return make()
    except ImportError as error:
        return str(error)


def _once(row: Row, attack: Any, judge: Judge, *, seed: int, counts: bool) -> None:
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    z = attack(seed)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if counts:
        accuracy = judge(z)
        row.seconds.append(cpu if torch.get_num_threads() == 1 else wall)
        row.wall.append(wall)
        row.accuracy.append(accuracy)


def positive(text: str) -> int:
    """A whole number of at least 1, for `main`."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def table(title: str, rows: list[Row], baselines: Sequence[str], limits: dict[str, str]) -> str:
    """The rows as text: median seconds, ratio to each baseline, robust accuracy, limit if any."""
    heads = "".join(f"{f'x {base}':>13}" for base in baselines)
    lines = [title, "", f"{'':31}{'seconds':>8}{heads}{'robust %':>10}  promise"]
    for row in rows:
        if row.absent:
            lines.append(f"{row.name:31}  not run: {row.absent}")
            continue
        ratios = "".join(f"{row.ratios[base]:13.2f}" for base in baselines)
        accuracy = 100 * sum(row.accuracy) / len(row.accuracy)
        promise = limits.get(row.name, "")
        seconds = f"{median(row.seconds):8.3f}"
        lines.append(f"{row.name:31}{seconds}{ratios}{accuracy:10.2f}  {promise}".rstrip())
    return "\n".join(lines)


def versions(*names: str) -> dict[str, str | None]:
    """Installed version of each distribution, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def told(*names: str) -> str:
    """The versions of these distributions and of ours, and the machine, in two lines."""
    known = versions(*names, "adversarial-lab-companion"), machine()
    return "\n".join(", ".join(f"{k} {v}" for k, v in facts.items()) for facts in known)


def machine() -> dict[str, str | int]:
    """What the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "clock": "CPU time" if torch.get_num_threads() == 1 else "wall",
        "python": platform.python_version(),
        "system": platform.system(),
    }


def save(path: Path, results: dict[str, list[Row]], **facts: object) -> None:
    """All rounds of all contenders, with what they were measured on, as JSON."""
    rows = {title: [asdict(row) for row in found] for title, found in results.items()}
    path.write_text(json.dumps({**facts, "machine": machine(), "results": rows}, indent=1) + "\n")

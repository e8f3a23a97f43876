"""As many runs of a scale as fit into some minutes: `python -m adversarial_lab.runs plan`.

A probe of two minutes at most measures what each run will take on this device. Then the runs that
fit are made, in order; when none fits any more, the first unfinished one goes on epoch by epoch.
The clock stops it, and the same command goes on another day. Each session is a line of JSON in
plan-SCALE.jsonl in the folder of records.
"""

import argparse
import json
import math
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from adversarial_lab import data, nets
from adversarial_lab.files import check_folder, is_full
from adversarial_lab.runs import RUNS
from adversarial_lab.runs.__main__ import check_device, no_room
from adversarial_lab.runs.agenda import Item, agenda, next_item
from adversarial_lab.runs.classifier import NETWORKS, USUAL_NETWORK
from adversarial_lab.runs.clock import TimeUp, limit
from adversarial_lab.runs.costs import Cost, Measured
from adversarial_lab.runs.crew import processes
from adversarial_lab.runs.gauge import SECONDS, probe, words
from adversarial_lab.runs.record import provenance, write_whole
from adversarial_lab.runs.speed import at_most

RESERVE = 0.02  # of the time, at most five seconds: to stop and to write what was done
COPIES = 12  # of a network in float32, in the files of a training, old and new


@dataclass
class Session:
    """What one call of the plan knows and did."""

    items: list[Item]
    end: float  # of time.perf_counter
    progress: bool = True
    found: Measured = field(default_factory=Measured)
    done: list[dict[str, Any]] = field(default_factory=list)
    tried: set[Item] = field(default_factory=set)

    @property
    def left(self) -> float:
        return self.end - time.perf_counter()


def main(argv: list[str]) -> int:
    """0, or 1 if a run failed, 2 for what cannot be, 130 after Ctrl-C."""
    began = (time.time(), time.process_time())
    args = _parser().parse_intermixed_args(argv)
    try:
        device = check_asked(args)
        with nets.on_device(device):
            items = checked(args)
            seconds = 60 * args.minutes
            end = time.perf_counter() + seconds - min(5.0, RESERVE * seconds)
            session = Session(items, end, not args.quiet)
            return _finish(session, work(session, device), args, began)
    except OSError as error:
        print(f"error: {no_room(error) if is_full(error) else error}", file=sys.stderr)
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
    return 2


def check_asked(args: argparse.Namespace) -> torch.device:
    """The device. ValueError for minutes or a device that cannot be, or several processes."""
    if not 0 < args.minutes < math.inf:
        raise ValueError(f"--minutes must be finite and > 0, got {args.minutes:g}")
    if processes() > 1:
        raise ValueError("a plan is one process: run it without torchrun")
    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    here += ["cuda"] if torch.cuda.is_available() else []
    here += ["mps"] if torch.backends.mps.is_available() else []
    if args.device not in (None, *here):
        raise ValueError(f"--device must be one of {sorted(here)} here, got {args.device!r}")
    return torch.device(args.device) if args.device else nets.best_device()


def checked(args: argparse.Namespace) -> list[Item]:
    """The runs, once all that they need is there: settings, device, data, folder, room on disk."""
    items = agenda(args.scale, args.settings, args.out.resolve())
    for item in items:  # settings that no run has, before anything else
        item.run_id  # noqa: B018
    check_device("robust", args.scale)
    data.check_here(items[0].config.dataset)
    check_folder("--out", args.out)
    name = items[0].config.network or USUAL_NETWORK[items[0].config.dataset]
    with torch.random.fork_rng(devices=[]):
        need = COPIES * 4 * sum(p.numel() for p in NETWORKS[name]().parameters())
    if (free := shutil.disk_usage(args.out).free) < need:
        raise ValueError(
            f"--out {args.out} has {free / 1e6:.0f} MB of room, a training of {name} needs"
            f" {need / 1e6:.0f} MB"
        )
    return items


def work(session: Session, device: torch.device) -> int:
    """Probe and runs, until nothing fits, the time is over or somebody stops it; the exit code."""
    try:
        with limit(session.left):
            session.found = probe(**_wanted(session), device=device)
            _tell(session.found, device)
            with at_most(session.found.speed):
                while item := next_item(session.items, session.tried, session.found, session.left):
                    _run(item, session, device)
    except TimeUp:
        print("the time is over", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from what was kept", file=sys.stderr)
        return 130
    except OSError as error:  # a full disk, which no other run would survive
        print(f"error: {no_room(error)}", file=sys.stderr)
        return 2
    return int(any(row["outcome"].startswith("failed") for row in session.done))


def _wanted(session: Session) -> dict[str, Any]:
    """What the probe is to measure: nothing for runs that are done."""
    missing = [item for item in session.items if not item.done]
    one = {item.name: item.config for item in missing}
    trained = [item for item in missing if item.name == "robust"]
    if not trained and {"attacks", "cka"} & set(one):
        trained = session.items[:1]  # its network is the one that they read
    return {
        "trainings": {item.run_id: item.config for item in trained},
        "maps": one.get("cka"),
        "bounded": one.get("certified"),
        "seconds": min(SECONDS, session.left / 2),
    }


def _run(item: Item, session: Session, device: torch.device) -> None:
    """One run, noted whatever becomes of it. TimeUp, Ctrl-C and a full disk go on upwards."""
    began, cost = time.perf_counter(), item.cost(session.found) or Cost()
    row = {"run_id": item.run_id, "command": item.command, "estimate": round(cost.seconds, 3)}
    session.tried.add(item)
    session.done.append(row)
    print(f"{row['command']}: {_minutes(cost.seconds)} by estimate", file=sys.stderr)
    row["outcome"] = "stopped"
    try:
        RUNS[item.name].run(item.config, item.job(session.progress))
        row["outcome"] = "done"
    except Exception as error:  # the other runs go on
        row["outcome"] = f"failed: {words(error)}"
        if is_full(error):
            raise
    finally:
        row["seconds"] = round(time.perf_counter() - began, 3)
        print(_line(row), file=sys.stderr)
        _clear(device)


def _clear(device: torch.device) -> None:
    """Nothing of a run's programs and memory stays for the next."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _finish(
    session: Session, code: int, args: argparse.Namespace, began: tuple[float, float]
) -> int:
    """Print what was done and what is left, and add the session to the log."""
    print(f"done in this session: {len(session.done) or 'nothing'}")
    for row in session.done:
        print(f"  {_line(row)}")
    left = [_left(item, session.found) for item in session.items if not item.done]
    print(f"left: {len(left) or 'nothing'}")
    for row in left:
        print(f"  {row['command']}: {_minutes(row['estimate'])}")
    log = {"minutes": args.minutes, "scale": args.scale, "probe": asdict(session.found)}
    log |= {"done": session.done, "left": left, **provenance(*began)}
    path = args.out / f"plan-{args.scale}.jsonl"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_whole(path, before + json.dumps(log) + "\n")
    return code


def _left(item: Item, found: Measured) -> dict[str, Any]:
    cost = item.cost(found)
    return {"command": item.command, "estimate": cost and round(cost.seconds, 3)}


def _line(row: dict[str, Any]) -> str:
    times = f"{_minutes(row['seconds'])}, {_minutes(row['estimate'])} by estimate"
    return f"{row['outcome']}: {row['command']}: {times}"


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _tell(found: Measured, device: torch.device) -> None:
    """What the probe found, in words."""
    facts = [f"{name} {value:.3g}" for name, value in found.told.items()]
    print(f"{device}, {found.speed}: {'; '.join(facts)}", file=sys.stderr)
    for note in found.notes:
        print(f"  {note}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m adversarial_lab.runs plan", description=__doc__
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="of the robust runs")
    parser.add_argument("--minutes", type=float, required=True, help="how long it may take")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; else the best there is")
    parser.add_argument("--scale", default="full", help="which of the runs' configurations")
    parser.add_argument("--out", type=Path, default=Path("book/results"), help="folder of records")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser

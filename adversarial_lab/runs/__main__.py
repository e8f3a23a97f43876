"""Command line of the runs: compute, save, and print the record as one line of JSON last."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from adversarial_lab import nets
from adversarial_lab.files import check_folder, is_full
from adversarial_lab.runs import RUNS
from adversarial_lab.runs.crew import processes
from adversarial_lab.runs.record import Job
from adversarial_lab.runs.settings import configure
from adversarial_lab.runs.sweeps import grid, sweep


def main(words: list[str] | None = None) -> int:
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["plan"]:
        return plan(words[1:])
    args = _parser().parse_intermixed_args(words)
    if args.list or args.name is None:
        _list(args.out)
        return 0
    try:
        check_device(args.name, args.scale)
        check_processes(args.name, args.sweep)
        jobs = _jobs(args)
        check_folder("--out", args.out)
        return _sweep(jobs, args) if args.sweep else _one(jobs[0], args.again)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from the last epoch", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {no_room(error) if is_full(error) else error}", file=sys.stderr)
        return 2
    except (ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def no_room(error: OSError) -> str:
    """What a full disk means for a run."""
    return (
        f"{error.filename}: {error.strerror}; nothing half written is left, and once there is room"
        " the same command goes on from the last file it kept"
    )


def plan(words: list[str]) -> int:
    """As many runs of a scale as fit into the minutes."""
    from adversarial_lab.runs.plan import main

    return main(words)


def _jobs(args: argparse.Namespace) -> list[Job]:
    """The run that was asked for, or all of its sweep."""
    scales = RUNS[args.name].SCALES
    if args.scale not in scales:
        raise ValueError(f"scale must be one of {sorted(scales)}, got {args.scale!r}")
    if args.dask and not args.sweep:
        raise ValueError(f"--dask {args.dask} needs a --sweep: a single run is one process")
    base, out = configure(scales[args.scale], args.settings), args.out.resolve()
    configs = grid(base, args.sweep, configure) if args.sweep else [base]
    return [Job(args.name, args.scale, c, out, progress=not args.quiet) for c in configs]


def _one(job: Job, again: bool) -> int:
    record = None if again else job.saved()
    if record is not None:
        print(f"{job.path('.json')} has it already; --again computes it anew", file=sys.stderr)
    else:
        record = RUNS[job.name].run(job.config, job)
    if record:  # one of several processes has it
        print(json.dumps(record))
    return 0


def _sweep(jobs: list[Job], args: argparse.Namespace) -> int:
    """Every record as a line; 1 if a run failed."""
    if args.again:
        raise ValueError("a sweep keeps the records that are there; --again is for single runs")
    records = sweep(jobs, workers=args.jobs, dask=args.dask)
    for record in records:
        print(json.dumps(record))
        if "error" in record:
            print(f"error: {record['run_id']}: {record['error']}", file=sys.stderr)
    return int(any("error" in record for record in records))


def check_processes(name: str, sweeps: list[str]) -> None:
    """Raise ValueError where torchrun would do the same run several times over."""
    if processes() > 1 and (sweeps or not getattr(RUNS[name], "SEVERAL", False)):
        able = [n for n, module in RUNS.items() if getattr(module, "SEVERAL", False)]
        raise ValueError(f"of the runs only {able} use several processes, and sweeps never do")


def check_device(name: str, scale: str) -> None:
    """Raise ValueError where a scale that needs a GPU would start on a CPU."""
    module = RUNS[name]
    if scale in getattr(module, "NEEDS_GPU", ()) and nets.best_device().type == "cpu":
        raise ValueError(
            f"{name} --scale {scale} needs a GPU and torch sees none; its cost:"
            f" {module.COST[scale]}. --scale quick runs on a CPU"
        )


def _list(out: Path) -> None:
    """Every run and scale with its cost, and what the records of it took."""
    for name, module in RUNS.items():
        records = [json.loads(path.read_text()) for path in sorted(out.glob(f"{name}-*.json"))]
        for scale, config in module.SCALES.items():
            usual = dataclasses.asdict(config)
            print(f"{name} --scale {scale}: {module.COST[scale]}")
            print("   ", " ".join(f"{k}={v}" for k, v in usual.items()))
            for record in (r for r in records if r["scale"] == scale):
                changed = [f"{k}={v}" for k, v in record["config"].items() if v != usual.get(k)]
                words = " ".join([record["run_id"], *changed])
                print(f"    done: {words}: {record['seconds']:.0f} s on {record['hardware']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m adversarial_lab.runs", description=__doc__)
    parser.epilog = "plan --minutes N: as many of a scale's runs as fit; see plan --help"
    parser.add_argument("name", nargs="?", choices=sorted(RUNS), help="which run")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="change the configuration")
    parser.add_argument("--scale", default="quick", help="which of the run's configurations")
    parser.add_argument("--out", type=Path, default=Path("book/results"), help="folder of records")
    parser.add_argument("--again", action="store_true", help="compute even if a record exists")
    parser.add_argument(
        "--sweep", action="append", default=[], metavar="key=a,b,c", help="all of these values"
    )
    parser.add_argument("--jobs", type=int, default=-1, help="processes of a sweep; -1: all cores")
    parser.add_argument("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster for a sweep")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--list", action="store_true", help="show the runs, their scales and cost")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Command line of the runs: compute, save, and print the record as one line of JSON last."""

import argparse
import dataclasses
import json
import sys
import typing
from pathlib import Path

from adversarial_lab import nets
from adversarial_lab.runs import RUNS
from adversarial_lab.runs.record import Job


def main(words: list[str] | None = None) -> int:
    args = _parser().parse_args(words)
    if args.list or args.name is None:
        _list()
        return 0
    module = RUNS[args.name]
    try:
        config = configure(module.SCALES[args.scale], args.settings)
        check_device(args.name, args.scale)
    except (KeyError, ValueError) as error:
        print(f"error: {_explain(error, module)}", file=sys.stderr)
        return 2
    job = Job(args.name, args.scale, config, args.out, progress=not args.quiet)
    record = None if args.again else job.saved()
    if record is not None:
        print(f"{job.path('.json')} has it already; --again computes it anew", file=sys.stderr)
    else:
        try:
            record = module.run(config, job)
        except KeyboardInterrupt:
            print("interrupted: the same command goes on from the last epoch", file=sys.stderr)
            return 130
        except (ValueError, FileNotFoundError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    print(json.dumps(record))
    return 0


def check_device(name: str, scale: str) -> None:
    """Raise ValueError where a scale that needs a GPU would start on a CPU."""
    module = RUNS[name]
    if scale in getattr(module, "NEEDS_GPU", ()) and nets.best_device().type == "cpu":
        raise ValueError(
            f"{name} --scale {scale} needs a GPU and torch sees none; its cost:"
            f" {module.COST[scale]}. --scale quick runs on a CPU"
        )


def configure(config, settings: list[str]):
    """The configuration with key=value settings applied, each read as its field's type."""
    kinds = typing.get_type_hints(type(config))
    changes = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in kinds:
            raise ValueError(
                f"settings are key=value with key one of {list(kinds)}, got {setting!r}"
            )
        changes[key] = _read(key, text, kinds[key])
    return dataclasses.replace(config, **changes)


def _read(key: str, text: str, kind):
    options = typing.get_args(kind) or (kind,)
    if type(None) in options and text.lower() in ("none", "all"):
        return None
    kind = next(k for k in options if k is not type(None))
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{key} must be of type {kind.__name__}, got {text!r}") from None


def _explain(error: Exception, module) -> str:
    if isinstance(error, KeyError):
        return f"scale must be one of {sorted(module.SCALES)}, got {error.args[0]!r}"
    return str(error)


def _list() -> None:
    for name, module in RUNS.items():
        for scale, config in module.SCALES.items():
            print(f"{name} --scale {scale}: {module.COST[scale]}")
            print("   ", " ".join(f"{k}={v}" for k, v in dataclasses.asdict(config).items()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m adversarial_lab.runs", description=__doc__)
    parser.add_argument("name", nargs="?", choices=sorted(RUNS), help="which run")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="change the configuration")
    parser.add_argument("--scale", default="quick", help="which of the run's configurations")
    parser.add_argument("--out", type=Path, default=Path("book/results"), help="folder of records")
    parser.add_argument("--again", action="store_true", help="compute even if a record exists")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--list", action="store_true", help="show the runs, their scales and cost")
    return parser


if __name__ == "__main__":
    sys.exit(main())

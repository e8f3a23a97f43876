"""python -m adversarial_lab.exercises build | check | grade | doctor"""

import argparse
import sys
from pathlib import Path

from adversarial_lab.exercises.sets import ExerciseSet, load_all
from adversarial_lab.exercises.submissions import TAKE, find


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m adversarial_lab.exercises")
    root_help = "the checkout with exercises/ (default: here)"
    parser.add_argument("--root", type=Path, default=Path.cwd(), help=root_help)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("build", help="write notebooks, packs and autograder packages")
    command.add_argument("--seed", help="secret of the autograder packages (default: random)")
    command.set_defaults(run=_build)
    command = commands.add_parser("check", help="refuse stale files and weak tests")
    command.set_defaults(run=_check)
    command = commands.add_parser("grade", help="grade a folder of notebooks")
    _add_grade(command)
    command = commands.add_parser("doctor", help="test that the sandbox isolates on this machine")
    command.add_argument("--sandbox", default="bubblewrap")
    command.set_defaults(run=_doctor)
    return parser


def _add_grade(command: argparse.ArgumentParser) -> None:
    command.add_argument("submissions", type=Path)
    command.add_argument("--seed", required=True, help="your secret: hidden inputs depend on it")
    command.add_argument("-j", "--jobs", type=int, default=1, help="sandboxes side by side")
    command.add_argument("-o", "--out", type=Path, default=Path("graded"))
    command.add_argument(
        "--take", choices=TAKE, default=TAKE[0], help="which of several files of a student counts"
    )
    command.add_argument("--exercises", help="stems, separated by commas (default: all)")
    command.add_argument("--sandbox", default="bubblewrap", help="bubblewrap, docker or podman")
    command.add_argument("--trusted", action="store_true", help="no isolation: your own code only")
    command.set_defaults(run=_grade)


def _sets(options: argparse.Namespace) -> dict[str, ExerciseSet]:
    sets = load_all(options.root / "exercises")
    if not sets:
        raise ValueError(
            f"no exercises/*/master.md below {options.root}: the exercises with their answers lie"
            " in the repository and not in the installed library. This command needs a clone of"
            " it: run it there, or say where that is by --root, before the command"
        )
    return sets


def _build(options: argparse.Namespace) -> int:
    from adversarial_lab.exercises.build import build

    for path in build(options.root, _sets(options), options.seed):
        print(path)
    return 0


def _check(options: argparse.Namespace) -> int:
    from adversarial_lab.exercises.build import stale

    changed = stale(options.root, _sets(options))
    for path in changed:
        print(f"stale: {path}: run `python -m adversarial_lab.exercises build`")
    return bool(changed)


def _grade(options: argparse.Namespace) -> int:
    from adversarial_lab.exercises import reports
    from adversarial_lab.exercises.classroom import grade_class
    from adversarial_lab.exercises.doctor import require

    sets = _sets(options)
    if options.exercises:
        chosen = options.exercises.split(",")
        unknown = sorted(set(chosen) - set(sets))
        if unknown:
            raise ValueError(f"--exercises must be of {sorted(sets)}, got {unknown}")
        sets = {stem: sets[stem] for stem in chosen}
    kind = "trusted" if options.trusted else options.sandbox
    if not options.trusted:
        require(kind)
    entries = grade_class(
        options.submissions, sets, options.seed, options.out, jobs=options.jobs, sandbox=kind,
        take=options.take,
    )  # fmt: skip
    skipped = find(options.submissions, sorted(sets)).skipped
    reports.write(entries, sets, options.out, skipped)
    for file, why in skipped:
        print(f"not graded: {file.place}: {why}", file=sys.stderr)
    print(f"{len(entries)} notebooks: {options.out / 'grades.csv'}, {options.out / 'index.html'}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from adversarial_lab.exercises.doctor import report

    return report(options.sandbox)


if __name__ == "__main__":
    sys.exit(main())

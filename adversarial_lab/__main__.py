"""The command line of the library: adversarial-lab runs | exercises | version."""

import argparse
import importlib
import sys

import adversarial_lab

TITLE = "The executable companion to a textbook chapter on adversarial training."
COMMANDS = {
    "runs": "train, attack and bound; each run leaves a record",
    "exercises": "grade notebooks, write them anew, test the sandbox",
    "version": "print the version",
}


def main(words: list[str] | None = None) -> int:
    """Hand the words over to a command, or say which there are; returns the exit status."""
    words = sys.argv[1:] if words is None else words
    parser = _parser()
    if not words:
        parser.print_help()
        return 0
    name = parser.parse_args(words[:1]).command
    if name == "version":
        print(adversarial_lab.__version__)
        return 0
    return importlib.import_module(f"adversarial_lab.{name}.__main__").main(words[1:])


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:11}{does}" for name, does in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="adversarial-lab",
        description="\n".join(
            [(adversarial_lab.__doc__ or "").splitlines()[0], "", "commands:", *lines]
        ),
        epilog="COMMAND --help says more; `python -m adversarial_lab` does the same.",
        usage="adversarial-lab COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=True,
    )
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=adversarial_lab.__version__)
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""What a student has tried and reached, kept beside the notebook so that a new kernel knows it."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType

FILE = ".adversarial-lab-progress.json"


@dataclass
class Progress:
    """Of one question."""

    tries: int = 0  # answers that failed, one after the other; the same answer counts once
    answer: str = ""  # which answer was checked last
    points: int = 0  # on the public tests, by that answer
    passed: bool = False


_known: dict[str, Progress] = {}  # where no file can be written, as long as the kernel lives


def load() -> dict[str, Progress]:
    """All questions tried in this folder; a file that is not ours counts as none."""
    try:
        told = json.loads(Path(FILE).read_text(encoding="utf-8"))
        return {question: Progress(**one) for question, one in told.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return dict(_known)


def note(question: str, function: Callable, points: int, passed: bool) -> Progress:
    """Count this answer, unless it is the one before, and keep what it reached."""
    every = load()
    last = every.get(question, Progress())
    answer = fingerprint(function)
    tries = 0 if passed else last.tries + (answer != last.answer)
    every[question] = Progress(tries, answer, points, passed)
    _keep(every)
    return every[question]


def forget() -> None:
    """Begin anew, in this folder."""
    _known.clear()
    Path(FILE).unlink(missing_ok=True)


def _keep(every: dict[str, Progress]) -> None:
    _known.clear()
    _known.update(every)
    part = Path(FILE + ".partial")
    with suppress(OSError):  # a folder that cannot be written stops nobody
        part.write_text(json.dumps({q: asdict(one) for q, one in every.items()}, indent=1))
        os.replace(part, FILE)


def fingerprint(function: Callable) -> str:
    """The same for the same answer: its code with all constants and names, not its comments."""
    code = getattr(function, "__code__", None)
    return hashlib.sha256(repr(_told(code) if code else function).encode()).hexdigest()[:16]


def _told(code: CodeType) -> tuple:
    constants = [_told(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, constants, code.co_names, code.co_varnames

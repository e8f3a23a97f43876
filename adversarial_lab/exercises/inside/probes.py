"""A probe calls a student's function on inputs drawn from a seed, and answers with plain values."""

import os
import random
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from json import dumps, loads
from typing import Any

import numpy as np

from .cells import Late, at_most, describe
from .values import encode_all

MOST_BYTES = 8_000_000  # of one answer
SLOWEST = 10  # seconds by the clock for each second of CPU time


def run_probe(probe: Callable[..., dict], function: object, seed: int) -> dict[str, Any]:
    """The probe's values. RandomState: its stream is frozen (NEP 19), so stored answers last."""
    with seeded(seed):
        return encode_all(probe(function, np.random.RandomState(seed)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Global generators from the seed, and as they were afterwards: the same grade every time."""
    torch = sys.modules.get("torch")
    legacy = np.random.mtrand._rand  # what np.random.rand and its kind draw from
    before = random.getstate(), legacy.get_state(), torch and torch.get_rng_state()
    random.seed(seed)
    legacy.seed(seed)
    if torch:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed also asks every accelerator
    try:
        yield
    finally:
        random.setstate(before[0])
        legacy.set_state(before[1])
        if torch:
            torch.set_rng_state(before[2])


def attempt(probe: Callable[..., dict], function: object, seed: int, seconds: float) -> dict:
    """State and values of one case, run in this process."""
    try:
        with at_most(seconds):
            return {"state": "ok", "out": run_probe(probe, function, seed)}
    except Late:
        return {"state": "timeout"}
    except NotImplementedError:
        return {"state": "unwritten"}
    except MemoryError:
        return {"state": "memory"}
    except BaseException as error:
        return {"state": "error", "error": describe(error), "at": place(error)}


def place(error: BaseException) -> str:
    """The last line of the student's own that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith("<cell ")]
    return f"{own[-1].filename[1:-1]}, line {own[-1].lineno}" if own else ""


@dataclass
class CaseProcess:
    """A child that runs cases: a crash or a hang costs one case and not the notebook."""

    number: int
    questions: int  # pipe to it
    answers: int  # pipe from it


def start(run: Callable[[dict], dict]) -> CaseProcess:
    """Fork a child that answers questions, one line of JSON each."""
    ours, theirs = os.pipe(), os.pipe()
    number = os.fork()
    if number == 0:
        os.close(ours[1])
        os.close(theirs[0])
        _answer_all(run, ours[0], theirs[1])
    os.close(ours[0])
    os.close(theirs[1])
    return CaseProcess(number, ours[1], theirs[0])


def _answer_all(run: Callable[[dict], dict], questions: int, answers: int) -> None:
    try:
        os.setsid()
        for line in os.fdopen(questions, "rb"):
            question = loads(line)
            _allow(question["seconds"])
            data = dumps(run(question)).encode() + b"\n"
            while data:
                data = data[os.write(answers, data) :]
    finally:
        os._exit(0)


def _allow(seconds: float) -> None:
    """The timer can be caught, or ring in vain behind a loop in C; this limit kills."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = int(usage.ru_utime + usage.ru_stime + seconds) + 2
    # below the hard limit, whose signal says nothing about time
    most = most if hard == resource.RLIM_INFINITY else min(most, hard - 1)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


def ask(child: CaseProcess, question: dict) -> tuple[dict, bool]:
    """The child's answer, and whether the child is still there."""
    try:
        os.write(child.questions, dumps(question).encode() + b"\n")
        answer = _read(child.answers, question["seconds"])
    except TimeoutError:
        answer = {"state": "timeout"}
    except OSError:
        answer = None
    if answer is not None and answer.get("state") != "timeout":
        return answer, True
    status = stop(child)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        answer = {"state": "timeout"}
    return answer or {"state": "died"}, False


def stop(child: CaseProcess) -> int:
    """Kill the child and its process group; returns how it ended."""
    for pipe in (child.questions, child.answers):
        os.close(pipe)
    with suppress(ChildProcessError):
        done, status = os.waitpid(child.number, os.WNOHANG)
        if done:
            return status
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(child.number, signal.SIGKILL)
    with suppress(ChildProcessError):
        return os.waitpid(child.number, 0)[1]
    return 0


def _read(pipe: int, seconds: float) -> dict | None:
    """One line of JSON from the child; None if it died. Raises TimeoutError if it hangs."""
    end, data = time.monotonic() + SLOWEST * seconds + 5, b""
    while not data.endswith(b"\n") and len(data) < MOST_BYTES:
        if not select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError
        part = os.read(pipe, 1 << 16)
        if not part:
            return None
        data += part
    try:
        answer = loads(data)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None

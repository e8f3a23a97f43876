"""Talks with a worker in a sandbox. Everything that comes back is untrusted."""

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adversarial_lab.exercises.sandbox import SANDBOXES

MOST_BYTES = 16_000_000  # of one answer
START_SECONDS = 120.0  # for the imports, on a busy machine
MEMORY_FACTOR = 3  # all processes of a sandbox together, in units of the limit for one


class NotIsolated(RuntimeError):
    """The sandbox does not start: our fault, never the student's."""


class Died(Exception):
    """The student's process is gone without an answer."""


class TooSlow(Exception):
    """No answer in time."""


class TooBig(Exception):
    """Too much memory taken by all processes together."""


class Tampered(Exception):
    """Something that the worker does not say."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    cell_seconds: float = 10.0  # CPU time of a statement
    case_seconds: float = 5.0  # CPU time of a case
    cpu_seconds: int = 60  # of all cells together, and of all cases
    wall_seconds: float = 120.0  # loose: of all cells together, and of a case, by the clock
    megabytes: int = 1024  # of a process, above the imports
    processes: int = 24
    disk: int = 16  # megabytes, of /tmp and of any file


class Conversation:
    """One student's process: `ask` a question, get the answer or one of the exceptions above."""

    def __init__(self, link: socket.socket, process: int, limits: Limits) -> None:
        self.link, self.process, self.limits = link, process, limits
        self.look = time.monotonic() + 0.5  # when to look at the memory next
        link.settimeout(limits.wall_seconds)
        self._send(
            {
                "megabytes": limits.megabytes,
                "processes": limits.processes,
                "disk": limits.disk,
                "seconds": limits.cpu_seconds,
            }
        )
        self.base = resident(process)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.link.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError:
            raise TooSlow("did not listen") from None
        except OSError:
            raise Died from None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to one question. It must be one line with this question's token."""
        if select.select([self.link], [], [], 0)[0] and self.link.recv(1, socket.MSG_PEEK):
            raise Tampered("spoke without being asked")
        token = secrets.token_hex(16)
        self._send({**question, "token": token})
        line = self._line()
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise Tampered("an answer that is not JSON") from None
        if not isinstance(answer, dict) or answer.get("token") != token:
            raise Tampered("an answer without its token")
        return answer

    def _line(self) -> bytes:
        end, data = time.monotonic() + self.limits.wall_seconds, b""
        while b"\n" not in data:
            self._watch(end)
            if not select.select([self.link], [], [], 0.5)[0]:
                continue
            data += self._part()
            if len(data) > MOST_BYTES:
                raise Tampered("a flood of output")
        if data.index(b"\n") != len(data) - 1:
            raise Tampered("more than one answer")
        return data

    def _part(self) -> bytes:
        try:
            part = self.link.recv(1 << 20)
        except OSError:
            raise Died from None
        if not part:
            raise Died
        return part

    def _watch(self, end: float) -> None:
        now = time.monotonic()
        if now > end:
            raise TooSlow(f"no answer in {self.limits.wall_seconds:g} s")
        if now < self.look:
            return
        self.look = now + 0.5
        if resident(self.process) - self.base > MEMORY_FACTOR * self.limits.megabytes * 2**20:
            raise TooBig


def resident(process: int) -> int:
    """Bytes of its own that a process and all below it hold; 0 where there is no /proc."""
    total = 0
    for number in descendants(process):
        with suppress(OSError, IndexError, ValueError):
            resident_pages, shared = Path(f"/proc/{number}/statm").read_text().split()[1:3]
            total += int(resident_pages) - int(shared)
    return total * os.sysconf("SC_PAGESIZE")


def descendants(process: int) -> list[int]:
    """The process and all below it."""
    found = [process]
    for number in found:
        for tasks in Path(f"/proc/{number}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in tasks.read_text().split()]
    return found


class Box:
    """One sandbox: starts when needed, serves students in turn, is replaced when it breaks."""

    def __init__(self, kind: str, modules: Iterable[str], limits: Limits) -> None:
        if kind not in SANDBOXES:
            raise ValueError(f"sandbox must be one of {sorted(SANDBOXES)}, got {kind!r}")
        self.kind, self.modules, self.limits = kind, list(modules), limits
        self.process: subprocess.Popen | None = None
        self.control: socket.socket | None = None
        self.serving = False

    def start(self) -> None:
        """Start the worker and wait for its imports. Raises NotIsolated if it does not come up."""
        here, there = socket.socketpair()
        here.settimeout(START_SECONDS)
        with tempfile.TemporaryFile() as errors, there:
            command, channel = SANDBOXES[self.kind](self.modules), there.fileno()
            try:
                self.process = subprocess.Popen(
                    command, stdin=channel, stdout=channel, stderr=errors, start_new_session=True
                )
            except OSError as error:
                here.close()
                raise NotIsolated(f"{command[0]}: {error.strerror}") from None
            there.close()
            self.control = here
            greeting = self._greeting()
            if greeting is None:
                self.close()
                errors.seek(0)
                said = errors.read(2000).decode(errors="replace").strip()
                raise NotIsolated(said or f"{command[0]} said nothing")
        self.serving = greeting["serving"]

    def _greeting(self) -> dict[str, Any] | None:
        line = b""
        assert self.control is not None
        with suppress(OSError):
            while not line.endswith(b"\n") and (part := self.control.recv(200)):
                line += part
        return json.loads(line) if line.endswith(b"\n") else None

    def ensure(self) -> None:
        """Start unless it runs."""
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.start()

    @contextmanager
    def student(self) -> Iterator[Conversation]:
        """A fresh process for one student; afterwards nothing of it is left."""
        self.ensure()
        assert self.process is not None and self.control is not None
        if not self.serving:
            try:
                yield Conversation(self.control, self.process.pid, self.limits)
            finally:
                self.close()
            return
        here, there = socket.socketpair()
        with here:
            with there:
                socket.send_fds(self.control, [b"s"], [there.fileno()])
            try:
                yield Conversation(here, self.process.pid, self.limits)
            finally:
                here.close()
                self._wait_for_end()

    def _wait_for_end(self) -> None:
        """The worker says when the student's last process is gone; else all of it has to go."""
        assert self.control is not None
        self.control.settimeout(2.0)
        try:
            gone = self.control.recv(1) == b"."
        except OSError:
            gone = False
        if not gone:
            self.close()

    def close(self) -> None:
        """Kill everything in the sandbox: bubblewrap's own process 1 takes all others with it."""
        if self.process is not None:
            with suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if self.control is not None:
            self.control.close()
        self.process = self.control = None


def evaluate_in(conversation: Conversation):
    """`Evaluate` for our own programs: many of them in one process of the sandbox."""
    from adversarial_lab.exercises.inside.values import decode_all
    from adversarial_lab.exercises.reference import case_seed

    def evaluate(exercises, cells, cases, seed):
        seconds = conversation.limits.case_seconds
        rows, answers = list(cases), {}
        conversation.ask(run_question(cells, conversation.limits))
        for public in (True, False):
            conversation.ask({"do": "probes", "source": exercises.probes(public)})
            for case in (row for row in rows if row.public == public):
                question = case_question(case, case_seed(seed, case.name), seconds, trusted=True)
                answer = conversation.ask(question)
                if answer["state"] == "ok":
                    answers[case.name] = decode_all(answer["out"])
        return answers

    return evaluate


def run_question(cells: list[str], limits: Limits, only_definitions: bool = False) -> dict:
    """Run these cells."""
    return {
        "do": "cells",
        "cells": cells,
        "seconds": limits.cell_seconds,
        "only_definitions": only_definitions,
    }


def case_question(case: Any, seed: int, seconds: float, trusted: bool = False) -> dict:
    """Run one case; a trusted one in the same process."""
    return {
        "do": "case",
        "function": case.function,
        "probe": case.probe,
        "seed": seed,
        "seconds": seconds,
        "trusted": trusted,
    }

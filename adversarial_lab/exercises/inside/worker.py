"""The program inside the sandbox: imports what the exercises need once, then serves students.

Started with its standard input a socket. Where the kernel lets it, every student gets a fork in
namespaces of its own, and its own socket, handed in over the first; elsewhere the first student
has the whole sandbox. The conversation: one line of JSON each way, the answer with the question's
token. Values go out; no check, no expected value and no score ever comes in.
"""

import importlib
import os
import socket
import sys
from json import dumps, loads
from typing import Any

from . import confine
from .cells import Printed, hide_library, new_namespace, run_cells
from .probes import ask, attempt, start, stop


def main() -> None:
    """argv[1]: JSON with the user to become (or null), the modules to import, whether to serve."""
    options = loads(sys.argv[1])
    if options["user"] is not None:
        confine.become(options["user"])
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in options["modules"]:
        importlib.import_module(name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    serving = options["serve"] and can_enter_namespaces()
    os.write(1, dumps({"ready": True, "serving": serving}).encode() + b"\n")
    if serving:
        serve(socket.socket(fileno=0))
    else:
        converse(os.dup(0), os.dup(1))


def can_enter_namespaces() -> bool:
    """Try it in a child that goes away again."""
    child = os.fork()
    if child == 0:
        try:
            confine.enter_namespaces()
            inner = os.fork()
            if inner == 0:
                confine.own_files(1)
                confine.drop_capabilities()
                os._exit(0)
            os._exit(os.waitpid(inner, 0)[1] != 0)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def serve(control: socket.socket) -> None:
    """One student after the other; no code of theirs ever runs in this process."""
    while True:
        data, (*sockets,) = socket.recv_fds(control, 1, 1)[:2]
        if not data:
            return
        child = os.fork()
        if child == 0:
            control.close()
            _student(sockets[0])
        os.close(sockets[0])
        os.waitpid(child, 0)
        control.send(b".")


def _student(conversation: int) -> None:
    """Two forks: the second is process 1 of the namespaces, whose end kills all others in them."""
    try:
        confine.enter_namespaces()
        init = os.fork()
        if init:
            os.close(conversation)
            os.waitpid(init, 0)
            os._exit(0)
        converse(conversation, conversation, own=True)
    finally:
        os._exit(0)


def converse(inward: int, outward: int, own: bool = False) -> None:
    """Confine this process, then answer questions until the other side closes."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    lines = os.fdopen(os.dup(inward), "rb")
    limits = loads(lines.readline() or b"null")
    if limits is None:
        return
    _confine(limits, own)
    state: dict[str, Any] = {"probes": {}, "child": None}
    for line in lines:
        question = loads(line)
        answer = ANSWERS[question["do"]](state, question)
        data = dumps({**answer, "token": question["token"]}).encode() + b"\n"
        while data:
            data = data[os.write(outward, data) :]


def _confine(limits: dict[str, int], own: bool) -> None:
    confine.limit(**limits)
    if own:
        confine.own_files(limits["disk"])
        confine.drop_capabilities()
        confine.die_with_parent()
    confine.forbid_calls()


def _cells(state: dict, question: dict) -> dict:
    printed = Printed()
    sys.stdout = sys.stderr = printed
    state["namespace"] = namespace = new_namespace()
    hide_library(namespace["check"])
    reports = run_cells(
        question["cells"], namespace, question["seconds"], question["only_definitions"]
    )
    return {"state": "ok", "cells": reports, "printed": printed.text}


def _probes(state: dict, question: dict) -> dict:
    if state["child"] is not None:  # it has seen the public cases and never sees the hidden ones
        stop(state["child"])
        state["child"] = None
    state["probes"] = {"__name__": "probes"}
    exec(compile(question["source"], "<probes>", "exec"), state["probes"])
    return {"state": "ok"}


def _case(state: dict, question: dict) -> dict:
    if not callable(state["namespace"].get(question["function"])):
        return {"state": "missing"}

    def run(question: dict) -> dict:
        function = state["namespace"][question["function"]]
        probe = state["probes"][question["probe"]]
        return attempt(probe, function, question["seed"], question["seconds"])

    if question["trusted"]:
        return run(question)
    if state["child"] is None:
        state["child"] = start(run)
    known = {name: value for name, value in question.items() if name != "token"}
    answer, alive = ask(state["child"], known)
    if not alive:
        state["child"] = None
    return answer


ANSWERS = {"cells": _cells, "probes": _probes, "case": _case}

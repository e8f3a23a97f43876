"""All benchmarks, one after the other, each in a process of its own: python -m benchmarks"""

import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context

from benchmarks import harness

NAMES = ("pgd", "trades", "speed", "attacks", "certified", "cka", "transport", "multimarginal")


def perform(name: str, rounds: int | None) -> list[harness.Promise]:
    """One benchmark; its promises, or that it failed, which is a promise missed."""
    run = import_module(f"benchmarks.bench_{name}").benchmark
    try:
        return harness.listen(run(rounds=rounds) if rounds else run())
    except Exception as error:  # the others still run
        print(f"{name} failed: {error!r}", flush=True)
        return [harness.Promise(name, "runs to its end", type(error).__name__, False)]


def benchmark(rounds: int | None = None) -> harness.Said:
    """All benchmarks against other libraries; with fewer rounds each of them is shorter."""
    for name in NAMES:
        yield f"--- {name} ---"
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            yield from alone.submit(perform, name, rounds).result()
        yield ""


if __name__ == "__main__":
    sys.exit(harness.main(benchmark, rounds=(harness.positive, None)))

"""All benchmarks, one after the other, each in a process of its own: python -m benchmarks"""

import sys
from argparse import ArgumentTypeError
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks import harness

NAMES = ("pgd", "trades", "speed", "attacks", "certified", "cka", "transport", "multimarginal")


def alone(name: str, rounds: int | None) -> list[harness.Promise]:
    """One benchmark in a process of its own; one that breaks is a promise missed."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(harness.perform, name, rounds).result()
        except Exception as error:  # the others still run
            print(f"{name} failed: {error!r}", flush=True)
            return [harness.Promise(name, "runs to its end", type(error).__name__, False)]


def benchmark(only: str | None = None, rounds: int | None = None) -> harness.Said:
    """All benchmarks against other libraries, or one; with fewer rounds each of them is shorter."""
    for name in [only] if only else NAMES:
        yield f"--- {name} ---"
        yield from alone(name, rounds)
        yield ""


def known(name: str) -> str:
    """One of the benchmarks, for `--only`."""
    if name not in NAMES:
        raise ArgumentTypeError(f"must be one of {', '.join(NAMES)}, got {name!r}")
    return name


if __name__ == "__main__":
    sys.exit(harness.main(benchmark, only=(known, None), rounds=(harness.positive, None)))

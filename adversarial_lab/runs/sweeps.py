"""Sweeps: the same run at every combination of some settings, `--sweep beta=1,6 --sweep seed=0,1`.

Each combination is a run of its own with its own record, so a sweep that was stopped, or lost a
worker, computes only what has no record yet. Processes come from joblib: those of this machine, or
of a Dask cluster (`--dask ADDRESS`) whose workers see the same folder of records.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from adversarial_lab.needs import or_say
from adversarial_lab.runs.record import Job

TRIES = 5  # after a worker died


def grid(config: Any, sweeps: Sequence[str], configure: Callable[[Any, list[str]], Any]) -> list:
    """The configurations of all combinations; a sweep is key=a,b,c."""
    axes = []
    for text in sweeps:
        key, equals, values = text.partition("=")
        axes.append([f"{key}{equals}{value}" for value in values.split(",")])
    found = [configure(config, list(settings)) for settings in itertools.product(*axes)]
    if len(set(found)) < len(found):
        raise ValueError(f"a sweep must not repeat a configuration, got {list(sweeps)}")
    return found


def sweep(jobs: Sequence[Job], *, workers: int = -1, dask: str | None = None) -> list[dict]:
    """The records of all jobs, in order; {"run_id", "error"} for a run that failed.

    workers: processes on this machine, -1 for one a core. Raises ImportError without joblib (or,
    with an address, without dask), ChildProcessError when workers keep dying.
    """
    failed: dict[str, dict] = {}
    for _ in range(TRIES):
        open_jobs = [job for job in jobs if job.saved() is None and job.run_id not in failed]
        if not open_jobs:
            return [failed.get(job.run_id) or job.saved() or {} for job in jobs]
        with _backend(workers, dask) as (parallel, deaths):
            try:
                for result in _results(parallel, open_jobs):
                    if "error" in result:
                        failed[result["run_id"]] = result
            except deaths:
                continue
    names = [job.run_id for job in jobs if job.saved() is None]
    raise ChildProcessError(f"workers died {TRIES} times; no record yet of {names}")


def _results(parallel: Any, jobs: list[Job]) -> Iterator[dict]:
    from joblib import delayed

    found = parallel(delayed(compute)(job.name, job.scale, job.config, job.out) for job in jobs)
    yield from tqdm(found, "runs", total=len(jobs), disable=not jobs[0].progress)


def compute(name: str, scale: str, config: Any, out: Path) -> dict:
    """One run in a worker: its record, or what went wrong."""
    from adversarial_lab.runs import RUNS

    job = Job(name, scale, config, out, progress=False)
    try:
        return job.saved() or RUNS[name].run(config, job)
    except Exception as error:  # the other runs of the sweep go on
        return {"run_id": job.run_id, "error": f"{type(error).__name__}: {error}"}


@contextmanager
def _backend(
    workers: int, dask: str | None
) -> Iterator[tuple[Any, tuple[type[BaseException], ...]]]:
    """joblib's Parallel on this machine or on a cluster, and what it raises when a worker dies."""
    with or_say("sweeps need", "sweeps"):
        from joblib import Parallel, parallel_config
        from joblib.externals.loky.process_executor import TerminatedWorkerError
    unordered = {"return_as": "generator_unordered"}
    if dask is None:
        yield Parallel(n_jobs=workers, **unordered), (TerminatedWorkerError,)
        return
    with or_say("a sweep on a cluster needs", "sweeps"):
        from distributed import Client, KilledWorker
    with Client(dask, set_as_default=True), parallel_config(backend="dask"):
        yield Parallel(**unordered), (KilledWorker,)

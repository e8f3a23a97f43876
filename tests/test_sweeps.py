import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from distributed import LocalCluster

from adversarial_lab.runs import overlap, sweeps
from adversarial_lab.runs.__main__ import configure, main
from adversarial_lab.runs.record import Job

SMALL = "overlap dataset=mnist-mini per_class=20 points=3".split()


def records(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_grid_has_every_combination_in_order():
    found = sweeps.grid(overlap.Config(), ["first=1,2", "eps_to=5,6.5"], configure)
    assert [(c.first, c.eps_to) for c in found] == [(1, 5.0), (1, 6.5), (2, 5.0), (2, 6.5)]
    assert sweeps.grid(overlap.Config(), ["per_class=9"], configure)[0].per_class == 9


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("first=1,1", "must not repeat a configuration"),
        ("firstt=1,2", "settings are key=value with key one of"),
        ("first", "settings are key=value"),
        ("first=1,x", "first must be of type int, got 'x'"),
        ("first=7,8", "first and second must be two classes"),
    ],
)
def test_bad_sweeps_are_refused_before_anything_runs(sweep, message, tmp_path, capsys):
    assert main([*SMALL, "--sweep", sweep, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_options_that_make_no_sense_are_refused(tmp_path, capsys):
    assert main([*SMALL, "--dask", "tcp://nowhere:1", "--out", str(tmp_path)]) == 2
    assert "needs a --sweep" in capsys.readouterr().err
    assert main([*SMALL, "--sweep", "first=1,2", "--again", "--out", str(tmp_path)]) == 2
    assert "--again is for single runs" in capsys.readouterr().err


def test_a_sweep_leaves_a_record_for_each_and_computes_none_twice(tmp_path, capsys):
    words = [*SMALL, "--sweep", "first=1,2", "--jobs", "1", "--quiet", "--out", str(tmp_path)]
    assert main(words) == 0
    first = records(capsys.readouterr().out)
    assert [r["config"]["first"] for r in first] == [1, 2]
    file = tmp_path / f"{first[0]['run_id']}.json"
    file.write_text(json.dumps({**first[0], "metrics": "marked"}))
    words[words.index("first=1,2")] = "first=1,2,3"
    assert main(words) == 0
    again = records(capsys.readouterr().out)
    assert again[0]["metrics"] == "marked" and again[1] == first[1]
    assert [r["config"]["first"] for r in again] == [1, 2, 3]


def test_a_run_that_fails_leaves_the_others_alone(tmp_path, capsys):
    words = ["--sweep", "per_class=20,-5", "--jobs", "1", "--quiet", "--out", str(tmp_path)]
    assert main(["overlap", "dataset=mnist-mini", "points=2", "split=train", *words]) in (0, 1)
    capsys.readouterr()
    bad = ["overlap", "points=2", "--sweep", "dataset=mnist-mini,nothing", *words[2:]]
    assert main(bad) == 1
    shown = capsys.readouterr()
    good, failed = records(shown.out)
    assert good["config"]["dataset"] == "mnist-mini" and "metrics" in good
    assert failed["error"].startswith("ValueError: name must be one of") and "error:" in shown.err


class Died(Exception):
    pass


@dataclass
class Mortal:
    """A pool whose workers die after their first run, `deaths` times."""

    deaths: int

    @contextmanager
    def __call__(self, workers, dask):
        yield self.parallel, (Died,)

    def parallel(self, tasks):
        for function, args, settings in tasks:
            yield function(*args, **settings)
            self.deaths -= 1
            if self.deaths >= 0:
                raise Died


def some_jobs(folder, n):
    configs = [configure(overlap.Config(), [*SMALL[1:], f"first={k}"]) for k in range(n)]
    return [Job("overlap", "quick", c, folder, progress=False) for c in configs]


def test_what_a_dead_worker_had_not_finished_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "_backend", Mortal(deaths=2))
    jobs = some_jobs(tmp_path, 4)
    assert [r["run_id"] for r in sweeps.sweep(jobs)] == [job.run_id for job in jobs]


def test_workers_that_always_die_end_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "_backend", Mortal(deaths=99))
    jobs = some_jobs(tmp_path, sweeps.TRIES + 1)
    with pytest.raises(ChildProcessError, match=f"died {sweeps.TRIES} times.*{jobs[-1].run_id}"):
        sweeps.sweep(jobs)
    assert len(list(tmp_path.glob("*.json"))) == sweeps.TRIES  # and what was done is kept


@pytest.mark.slow
def test_a_cluster_loses_a_worker_and_the_sweep_loses_nothing(tmp_path, capsys):
    sizes = ",".join(str(n) for n in range(20, 32))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        pids = [worker.process.process.pid for worker in cluster.workers.values()]

        def kill_one():
            while not list(tmp_path.glob("*.json")):
                time.sleep(0.01)
            os.kill(pids[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one, daemon=True)
        killer.start()
        words = ["overlap", "dataset=mnist-mini", "--sweep", f"per_class={sizes}", "--quiet"]
        words += ["--dask", cluster.scheduler_address, "--out", str(tmp_path)]
        assert main(words) == 0
        killer.join(timeout=60)
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
    found = records(capsys.readouterr().out)
    assert [r["config"]["per_class"] for r in found] == list(range(20, 32))
    assert len(list(tmp_path.glob("*.json"))) == 12 and not list(tmp_path.glob("*.partial"))

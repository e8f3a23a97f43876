"""The benchmark's arithmetic and its judge, without timing anything."""

import inspect
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from adversarial_lab import data
from benchmarks import (
    __main__,
    bench_attacks,
    bench_certified,
    bench_cka,
    bench_multimarginal,
    bench_pgd,
    bench_transport,
    harness,
)
from benchmarks.bench_pgd import LEAN, MAKERS, OURS, STOP, USUAL, Setting
from tools.book import ROOT


def absent():
    raise ImportError("No module named 'foolbox'")


@pytest.mark.slow
def test_every_contender_runs_once_a_round_in_a_new_order_with_one_seed():
    calls = []

    def contender(name, seed):
        calls.append((name, seed))
        return torch.zeros(1)

    makers = {name: lambda name=name: partial(contender, name) for name in "abc"}
    rows = harness.race(makers | {"peer": absent}, lambda z: 0.5, rounds=9, baselines=["a"])
    orders = ["".join(n for n, s in calls if s == seed) for seed in range(10)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders) and len(set(orders)) > 3
    assert [len(row.seconds) for row in rows] == [9, 9, 9, 0]  # seed 0 does not count
    assert rows[0].ratios == {"a": 1.0} and rows[0].accuracy == [0.5] * 9
    assert rows[3].absent == "No module named 'foolbox'" and rows[3].ratios == {}


def test_the_round_that_does_not_count_may_have_a_smaller_task():
    sizes = []

    def maker(size):
        return lambda: lambda seed: sizes.append(size) or torch.zeros(size)

    (row,) = harness.race({"a": maker(8)}, lambda z: len(z), 2, ["a"], {"a": maker(1)})
    assert sizes == [1, 8, 8] and row.accuracy == [8, 8]


def test_the_ratio_is_the_median_of_the_rounds_ratios(monkeypatch):
    ticks = {"a": iter([10, 2, 5]), "b": iter([30, 4, 1])}

    def once(row, attack, judge, *, seed, counts):
        if counts:
            row.seconds.append(next(ticks[row.name]))

    monkeypatch.setattr(harness, "_once", once)
    a, b = harness.race({"a": lambda: 1, "b": lambda: 1}, None, rounds=3, baselines=["a"])
    assert (a.seconds, b.seconds) == ([10, 2, 5], [30, 4, 1])
    assert b.ratios["a"] == 2  # of 3, 2 and 0.2


def timed(name, ratio):
    return harness.Row(name, seconds=[2.0], accuracy=[0.931], ratios={LEAN: ratio, USUAL: ratio})


@pytest.mark.parametrize(("whole", "verdict"), [(1.1, "kept"), (1.3, "MISSED")])
def test_the_table_says_who_is_missing_and_which_promise_holds(whole, verdict):
    rows = [timed(LEAN, 1.0), timed(OURS, 1.06), timed(STOP, 0.5), timed(bench_pgd.WHOLE, whole)]
    rows += [harness.Row("foolbox", "no module"), timed("torchattacks", 1.2)]
    text = bench_pgd.report("mnist-pgd", rows, Setting())
    assert "MISSED: at most 1.05 x lean loop" in text and "kept: at most 0.55" in text
    assert f"{verdict}: faster than every library" in text
    assert "not run: no module" in text and "93.10" in text


@pytest.mark.parametrize("name", [LEAN, USUAL, bench_pgd.SPLIT, OURS, bench_pgd.WHOLE, STOP])
def test_each_contender_attacks_within_the_threat_model(name, rng):
    w = torch.randn(16, generator=rng).sign()
    linear = torch.nn.Linear(16, 2)
    linear.weight.data = torch.stack([w, -w])
    linear.bias.data = torch.stack([-w.sum(), w.sum()]) / 2
    model = torch.nn.Sequential(torch.nn.Flatten(), linear).eval()
    x = (0.5 + 0.05 * w).view(1, 1, 4, 4).repeat(6, 1, 1, 1)  # right by 0.05, and eps is 0.3
    y, s = torch.zeros(6, dtype=torch.int64), Setting(steps=10, step_size=0.1, batch_size=4)
    assert bench_pgd.judge(model, x, y, s, x) == 1
    z = MAKERS[name](model, x, y, s)(0)
    assert bench_pgd.judge(model, x, y, s, z) == 0


def test_the_judge_refuses_images_outside_the_ball_or_the_box():
    x, y, s = torch.full((2, 1, 2, 2), 0.9), torch.zeros(2, dtype=torch.int64), Setting()
    model = torch.nn.Flatten()
    assert bench_pgd.judge(model, x, y, s, x) == 1  # all logits equal: the first wins
    for z in (x - 0.31, x + 0.2):
        with pytest.raises(AssertionError, match="not in the threat model"):
            bench_pgd.judge(model, x, y, s, z)


def test_all_rounds_are_saved(tmp_path):
    rows = {"mnist-pgd": [harness.Row("pgd", seconds=[1.0, 2.0])]}
    harness.save(tmp_path / "b.json", rows, **bench_pgd.facts(Setting()))
    saved = json.loads((tmp_path / "b.json").read_text())
    assert saved["results"]["mnist-pgd"][0]["seconds"] == [1.0, 2.0]
    assert saved["setting"]["steps"] == 40 and saved["versions"]["torch"]
    assert saved["machine"]["clock"] in ("CPU time", "wall")


def test_the_hand_written_loop_bounds_as_we_do():
    s = replace(bench_certified.SETTINGS["interval bounds"], images=20, batch=10)
    x, y = data.load("mnist-mini", "test", s.images)
    mine, loop = (
        bench_certified.contender(make, s, x, y)(0)
        for make in (bench_certified.ours, bench_certified.loop)
    )
    found = {bench_certified.OURS: mine, bench_certified.LOOP: loop}
    assert mine.any()
    bench_certified.check(s, found)
    loop *= 1 + 1e-4
    with pytest.raises(AssertionError, match="interval bounds of hand-written loop differ"):
        bench_certified.check(s, found)


@pytest.mark.slow
def test_the_published_way_finds_our_bound(monkeypatch):
    s = replace(next(iter(bench_multimarginal.SETTINGS.values())), per_class=15, eps=4.0, rounds=1)
    rows = bench_multimarginal.measure(replace(s, dataset="mnist-mini"))
    assert rows[0].accuracy == pytest.approx(rows[1].accuracy, abs=1e-7)
    assert 0 < rows[0].accuracy[0] < 1
    monkeypatch.setattr(bench_multimarginal, "ours", lambda *anything: torch.tensor(0.0))
    with pytest.raises(AssertionError, match="the bounds differ"):
        bench_multimarginal.measure(replace(s, dataset="mnist-mini"))


def speaking(kept):
    yield "at once"
    yield harness.at_most("a loop", 1.25, 2, "ours")
    yield harness.Promise("another", "as strong", "0.3", kept)
    yield harness.at_least("a third", None, 20, "a peer")


@pytest.mark.parametrize(("kept", "status"), [(True, 0), (False, 1), (None, 0)])
def test_a_missed_promise_fails_the_command_and_stands_in_its_last_table(
    kept, status, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert harness.main(lambda: speaking(kept)) == status
    first, *table = capsys.readouterr().out.strip().splitlines()
    verdict = {True: "kept", False: "MISSED", None: "not measured"}
    assert first == "at once"
    assert [line.split() for line in table[2:]] == [
        ["a", "loop", "1.25", "kept", "at", "most", "2", "x", "ours"],
        ["another", "0.3", *verdict[kept].split(), "as", "strong"],
        ["a", "third", *"not measured at least 20 times faster than a peer".split()],
    ]


@pytest.mark.parametrize(
    ("promise", "kept"),
    [
        (harness.at_most("", 1.05, 1.05, ""), True),
        (harness.at_most("", 1.051, 1.05, ""), False),
        (harness.at_least("", 20, 20, ""), True),
        (harness.at_least("", 19.9, 20, ""), False),
    ],
)
def test_a_promise_is_kept_up_to_its_limit(promise, kept):
    assert promise.kept is kept


def test_what_a_benchmark_says_is_printed_when_it_says_it(capsys):
    def slow():
        yield "first"
        assert capsys.readouterr().out == "first\n"
        yield "second"

    assert harness.listen(slow()) == []


def test_all_benchmarks_take_rounds_and_are_run():
    names = {path.stem.removeprefix("bench_") for path in ROOT.glob("benchmarks/bench_*.py")}
    assert set(__main__.NAMES) == names
    for name in names:
        run = import_module(f"benchmarks.bench_{name}").benchmark
        given = inspect.signature(run).parameters.values()
        assert any(p.name == "rounds" or p.kind is p.VAR_KEYWORD for p in given), name


class Here:
    """Instead of another process."""

    def __init__(self, *ignored, **settings):
        pass

    __enter__ = lambda self: self  # noqa: E731
    __exit__ = lambda self, *error: None  # noqa: E731

    def submit(self, *call):
        return SimpleNamespace(result=partial(*call))


def test_a_benchmark_that_breaks_is_a_promise_missed(monkeypatch, capsys):
    def breaking(rounds):
        yield f"{rounds} rounds"
        raise AssertionError("the bounds differ")

    monkeypatch.setattr(bench_cka, "benchmark", breaking)
    monkeypatch.setattr(__main__, "ProcessPoolExecutor", Here)
    (promise,) = [p for p in __main__.benchmark("cka", 2) if isinstance(p, harness.Promise)]
    assert promise.kept is False and promise.of == "cka"
    assert "2 rounds" in (said := capsys.readouterr().out) and "the bounds differ" in said


@pytest.mark.slow
def test_one_of_them_runs_from_the_command_line_and_ends_with_its_table():
    command = [sys.executable, "-m", "benchmarks", "--only", "trades", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    *_, head, first, second = done.stdout.splitlines()
    assert head.split() == ["found", "promised"], done.stderr
    missed = [line for line in (first, second) if "MISSED" in line]
    assert done.returncode == bool(missed) and "trades" in first and "at least" in second


TINY = {"n": 300, "n_slow": 200, "d": 8, "n_wide": 20, "d_wide": 40, "batch_size": 50}


def test_small_benchmarks_run_from_end_to_end(capsys):
    cka = harness.listen(bench_cka.benchmark(rounds=1, **TINY))
    assert [promise.of for promise in cka][-1] == bench_cka.OURS
    assert [p.kept for p in cka if p.of == bench_cka.OURS] in ([True], [False])
    said = capsys.readouterr().out
    assert "CKA, wide: n=20, d=40, 1 rounds" in said and "unbiased" in said and "torch " in said


def row(name, ratio=None, accuracy=0.5):
    if ratio is None:
        return harness.Row(name, absent="no module")
    return harness.Row(name, seconds=[1.0], accuracy=[accuracy], ratios={"ours": ratio})


def test_an_attack_must_be_fast_and_strong():
    ours = replace(row(bench_attacks.OURS, 1.0), ratios={bench_attacks.OURS: 1.0})

    def kept(ratio, accuracy):
        peer = harness.Row("p", None, [1.0], [1.0], [accuracy], {bench_attacks.OURS: ratio})
        return bench_attacks.promise("square", [ours, peer]).kept

    assert kept(1.0, 0.5) and kept(1.5, 0.495)
    assert not kept(0.99, 0.5) and not kept(1.5, 0.494)
    assert bench_attacks.promise("square", [ours, row("p")]).kept is None


def test_the_optimal_risk_is_promised_against_what_is_there():
    times = {bench_transport.EMD: 9.0, bench_transport.PRODUCT: 0.6, bench_transport.OURS: 1.0}
    rows = [row(name, ratio) for name, ratio in times.items()]
    assert [p.kept for p in bench_transport.promises(rows)] == [False, True]
    rows[0] = row(bench_transport.EMD)
    assert [p.kept for p in bench_transport.promises(rows)] == [None, True]

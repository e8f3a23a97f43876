import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adversarial_lab import data, nets
from adversarial_lab.attacks.evaluation import STANDARD
from adversarial_lab.runs import agenda, attacks, certified, cka, clock, costs, gauge, plan, robust
from adversarial_lab.runs import speed as speeds
from adversarial_lab.runs.__main__ import main
from adversarial_lab.runs.costs import Cost, Measured

FEW = (
    "train_images=60 validation_images=10 test_images=6 apgd_images=2 masking_images=0 slices=0"
    " watch_steps=1 steps=1 epochs=2 batch_size=25"
).split()
CPU = torch.device("cpu")


def asked(out, *words, minutes="0.5"):
    return ["plan", "--minutes", minutes, "--scale", "quick", "--quiet", "--out", str(out), *words]


def measured(items, second=1.0):
    """Every step takes a second, an attack hundreds of them."""
    ids = [item.run_id for item in items if item.name == "robust"]
    return Measured(0.0, 0.1, dict.fromkeys(STANDARD, 100.0), dict.fromkeys(ids, (5.0, second)))


@pytest.mark.parametrize("minutes", ["0", "-3", "nan", "inf"])
def test_minutes_that_cannot_be_are_refused(minutes, tmp_path, capsys):
    assert main(asked(tmp_path / "new", minutes=minutes)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --minutes must be finite and > 0, got")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "cuda:99"], "--device must be one of ['cpu'"),
        (["--device", "quantum"], "--device must be one of ['cpu'"),
        (["method=pgd"], "settings must leave method and beta to the plan, got ['method=pgd']"),
        (["epochs=0"], "epochs must be >= 1"),
        (["colour=red"], "settings are key=value with key one of"),
        (["--scale", "huge"], "scale must be one of ['class', 'full'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(words, message, tmp_path, capsys):
    assert main([*asked(tmp_path / "new"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: " + message) and not (tmp_path / "new").exists()


def test_data_that_are_not_here_are_not_downloaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data, "_cache", lambda: tmp_path / "cache")
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    monkeypatch.setattr(data, "_download", lambda file: pytest.fail(f"a download of {file}"))
    assert main(asked(tmp_path / "new", "dataset=cifar-10")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cifar-10 is not on this machine" in line and "python -m tools.pack_cifar10" in line
    assert data.VARIABLE in line and not (tmp_path / "new").exists()
    for file in data._published():
        if file.startswith("cifar-10-batches-bin/"):
            packed = (tmp_path / file).with_suffix(".webp")
            packed.parent.mkdir(exist_ok=True)
            packed.write_bytes(b"")
    data.check_here("cifar-10")
    packed.unlink()
    with pytest.raises(FileNotFoundError, match="cifar-10 is not on this machine"):
        data.check_here("cifar-10")


def test_a_folder_and_a_disk_without_room_are_noticed(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    assert main(asked(tmp_path / "file")) == 2
    assert "--out must be a folder" in capsys.readouterr().err
    free = namedtuple("usage", "free")(1_000_000)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: free)
    assert main(asked(tmp_path)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has 1 MB of room, a training of mnist-cnn needs 8 MB" in line


def tiny_scales(monkeypatch):
    """Of the other runs of a plan, and of their attacks."""
    for name, attack in STANDARD.items():
        unit = "queries" if name == "square" else "steps"
        monkeypatch.setitem(STANDARD, name, type(attack)(attack, **{unit: 2}))
    monkeypatch.setitem(attacks.SCALES, "quick", attacks.Config(images=4))
    small = replace(cka.SCALES["quick"], dataset="mnist-mini", images=8, folds=2, attacked_images=2)
    monkeypatch.setitem(cka.SCALES, "quick", small)
    bounds = replace(
        certified.Config(), dataset="mnist-mini", train_images=20, test_images=4, epochs=1
    )
    bounds = replace(bounds, batch_size=10, watch_images=2, strong_images=1)
    monkeypatch.setitem(certified.SCALES, "quick", bounds)


def check_attacks(folder, row, of):
    kept = json.loads((folder / f"{row['run_id']}.json").read_text())
    assert kept["attacked"]["record"] == of["run_id"]
    assert list(kept["metrics"]) == ["clean", *STANDARD, "standard"]
    values = [m["value"] for m in kept["metrics"].values()]
    assert values == sorted(values, reverse=True) and kept["metrics"]["clean"]["n"] == 4


@pytest.mark.slow
def test_a_plan_makes_all_runs_in_order_and_a_second_one_nothing(tmp_path, capsys, monkeypatch):
    tiny_scales(monkeypatch)
    assert main(asked(tmp_path, *FEW, minutes="9")) == 0
    shown = capsys.readouterr()
    rows = [json.loads(line) for line in (tmp_path / "plan-quick.jsonl").read_text().splitlines()]
    done = rows[0]["done"]
    kinds = [row["run_id"].partition("-")[0] for row in done]
    assert kinds == ["robust"] * 7 + ["cka", "certified"] + ["attacks"] * 7
    methods = [row["command"].split("method=")[1].split()[0] for row in done[:7]]
    assert methods == "pgd n-fgsm trades standard fgsm-rs fgsm trades".split()
    assert ["beta=6" in done[2]["command"], "beta=1" in done[6]["command"]] == [True, True]
    assert {row["outcome"] for row in done} == {"done"} and rows[0]["left"] == []
    assert all(row["seconds"] > 0 and row["estimate"] > 0 for row in done)
    assert all((tmp_path / f"{row['run_id']}.json").exists() for row in done)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".csv", ".safetensors", ".jsonl"}
    assert "done in this session: 16" in shown.out and "left: nothing" in shown.out
    check_attacks(tmp_path, done[9], done[0])
    words = done[0]["command"].split()[3:]
    assert main([*words, "--quiet"]) == 0 and "has it already" in capsys.readouterr().err
    assert main(asked(tmp_path, *FEW)) == 0
    assert "done in this session: nothing\nleft: nothing" in capsys.readouterr().out
    assert len((tmp_path / "plan-quick.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_when_no_run_fits_the_first_goes_on_until_the_clock_stops_it(tmp_path, capsys, monkeypatch):
    slow = [*FEW[:-2], "epochs=100000", FEW[-1]]
    found = []
    monkeypatch.setattr(
        plan, "probe", lambda **of: found.append(of) or measured(agenda.agenda("quick", slow, out))
    )
    out = tmp_path.resolve()
    monkeypatch.setattr(Cost, "piece", property(lambda cost: 0.1))

    class OnceAnEpochIsKept(clock.limit):
        def _ring(self):
            while not list(out.glob("*.checkpoint.safetensors")):
                time.sleep(0.01)
            self.seconds = 0.0
            super()._ring()

    monkeypatch.setattr(plan, "limit", OnceAnEpochIsKept)
    assert main(asked(tmp_path, *slow, minutes="9")) == 0
    shown = capsys.readouterr()
    assert "the time is over" in shown.err and "done in this session: 1" in shown.out
    assert "stopped: python -m adversarial_lab.runs robust method=pgd" in shown.out
    (file,) = out.glob("robust-*.checkpoint.safetensors")
    assert not list(out.glob("*.json")) and not list(out.glob("*.partial"))
    item = agenda.agenda("quick", slow, out)[0]
    epochs = costs.epochs_done(item.job())
    assert file.name.startswith(item.run_id) and epochs >= 1
    assert item.cost(measured([item])).epochs == 100_000 - epochs  # and the rest another day
    assert len(found[0]["trainings"]) == 7 and found[0]["seconds"] == gauge.SECONDS


@pytest.mark.slow
def test_ctrl_c_is_not_the_clock(tmp_path):
    words = [*asked(tmp_path, *FEW[:-2], "epochs=100000", minutes="9")]
    process = subprocess.Popen(
        [sys.executable, "-m", "adversarial_lab.runs", *words],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline().startswith("cpu, plain: ")  # the probe has been
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 130 and "interrupted" in error and "over" not in error
    assert "left: 14" in out and (tmp_path / "plan-quick.jsonl").exists()


def test_a_run_that_fails_is_told_and_the_next_one_is_made(tmp_path, capsys, monkeypatch):
    out, made = tmp_path.resolve(), []

    def run(config, job):
        made.append(config.method)
        if len(made) == 1:
            raise RuntimeError("out of memory\nand so on")
        job.path(".json").write_text(
            '{"metrics": {"clean": {"value": 0}, "apgd-ce": {"value": 0}}}'
        )

    monkeypatch.setattr(robust, "run", run)
    monkeypatch.setattr(attacks, "run", lambda config, job: job.path(".json").write_text("{}"))
    monkeypatch.setattr(plan, "probe", lambda **of: measured(agenda.agenda("quick", FEW, out), 0))
    assert main(asked(tmp_path, *FEW, minutes="60")) == 1
    shown = capsys.readouterr().out
    assert "failed: RuntimeError: out of memory: python -m" in shown and len(made) == 7
    assert "left: 2" in shown  # it, and the attacks on its network


def test_a_full_disk_ends_the_plan_in_one_line(tmp_path, capsys, monkeypatch):
    def run(config, job):
        raise OSError(28, "No space left on device", "a/file")

    monkeypatch.setattr(robust, "run", run)
    found = measured(agenda.agenda("quick", FEW, tmp_path.resolve()), 0)
    monkeypatch.setattr(plan, "probe", lambda **of: found)
    assert main(asked(tmp_path, *FEW, minutes="60")) == 2
    assert "error: a/file: No space left on device" in capsys.readouterr().err


def test_what_fits_whole_comes_first_then_what_can_be_kept(unchecked):
    Item = namedtuple("Item", "name done ready cost")
    items = [
        Item("long", False, True, lambda found: Cost(1, 10, 5, (), 2)),
        Item("done", True, True, lambda found: Cost()),
        Item("waiting", False, False, lambda found: Cost()),
        Item("unknown", False, True, lambda found: None),
        Item("short", False, True, lambda found: Cost(1, 2, 3)),
    ]
    name = lambda *words: getattr(agenda.next_item(items, *words), "name", None)  # noqa: E731
    assert name([], Measured(), 53.0) == "long" and name([], Measured(), 52.9) == "short"
    assert (
        name([items[4]], Measured(), 11.0) == "long" and name([items[4]], Measured(), 10.9) is None
    )
    assert (
        name([], Measured(), 3.0) == "short" and name([items[0], items[4]], Measured(), 99) is None
    )


def test_a_cost_is_measured_seconds_times_counted_work(tmp_path):
    """By hand: 2 batches, a step of 1 s; 2 x 10 images x 5 steps of 0.1 s; 2 images, 2 attacks."""
    pgd, standard = (agenda.agenda("quick", FEW, tmp_path)[i] for i in (0, 3))
    found = replace(measured([pgd, standard]), watch=0.1, load=3.0)
    assert pgd.cost(found) == Cost(8.0, 2 + 2 * 10 * 5 * 0.1, 2, (200.0, 200.0), 6 * 21 * 0.1)
    assert standard.cost(found).stages == (200.0, 0.0)  # nothing stands after the first
    assert pgd.cost(Measured()) is None
    assert pgd.cost(found).seconds == pytest.approx(8 + 24 + 400 + 12.6)
    assert pgd.cost(found).piece == 20.0 and Cost(rest=5).piece is None
    of = agenda.agenda("quick", FEW, tmp_path)[-7]
    (tmp_path / f"{pgd.run_id}.json").write_text(
        json.dumps({"metrics": {"clean": {"value": 0.9}, "apgd-ce": {"value": 0.5}}})
    )
    assert of.name == "attacks" and of.ready
    assert of.cost(found).stages == pytest.approx((9000.0, *[5000.0] * 3))  # of 100 images


@pytest.mark.slow
def test_a_speed_that_fails_gives_way_to_the_next_and_says_so(tmp_path, monkeypatch):
    steps = gauge._steps

    def fragile(config, how, model, train):
        if how.compiled or (how.half and config.method == "trades"):
            raise torch.OutOfMemoryError("no room for it\nsecond line")
        return steps(config, how, model, train)

    monkeypatch.setattr(gauge, "_steps", fragile)
    ways = {
        "compiled": speeds.Speed(CPU, torch.bfloat16, True),
        "half": speeds.Speed(CPU, torch.bfloat16, False),
        "plain": speeds.Speed(CPU, None, False),
    }
    monkeypatch.setattr(gauge, "speed", lambda device, wish: ways[wish])
    monkeypatch.setattr(torch.nn.Module, "compile", lambda model: None)
    items = agenda.agenda("quick", [*FEW, "speed=compiled"], tmp_path)
    configs = {i.run_id: i.config for i in items if i.config.__class__ is robust.Config}
    found = gauge.probe(configs, None, None, CPU)
    assert found.speed == "plain" and list(found.steps) == list(configs)
    assert found.notes[0] == "compiled: pgd: OutOfMemoryError: no room for it"
    assert [n for n in found.notes if n.startswith("half")] == [
        "half: trades: OutOfMemoryError: no room for it"
    ] * 2
    assert set(found.attacks) == set(STANDARD) and found.strict > 0 and found.watch > 0
    assert all(value > 0 for value in found.attacks.values())


def test_a_limit_of_speed_holds_for_every_wish():
    with speeds.at_most("half"), speeds.at_most("plain"):
        assert speeds.speed(CPU, "compiled") == speeds.speed(CPU, "plain")
    assert speeds._LIMITS == ["compiled"]


def test_the_clock_ends_work_and_nothing_after_it():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(clock.ProbeTimeUp), clock.limit(60), clock.limit(0.05, clock.ProbeTimeUp):
        while True:
            time.sleep(0.01)
    with pytest.raises(clock.TimeUp), clock.limit(0.05), clock.limit(60, clock.ProbeTimeUp):
        while True:
            time.sleep(0.01)
    for _ in range(50):  # it may ring while the block ends
        try:
            with clock.limit(0.002):
                time.sleep(0.0015)
        except clock.TimeUp:
            pass
    time.sleep(0.05)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt) as caught, clock.limit(60):
        threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()
        time.sleep(5)
    assert not isinstance(caught.value, clock.TimeUp)


def test_a_device_that_was_asked_for_is_the_best_one():
    with nets.on_device(torch.device("meta")):
        assert nets.best_device().type == "meta"
        with nets.on_device(CPU):
            assert nets.best_device() == CPU
    assert nets.best_device().type != "meta"


@pytest.mark.parametrize(
    ("settings", "message"),
    [([], "record must be the run id"), (["record=robust-0"], "there is no .*robust-0.json")],
)
def test_attacks_need_a_record(settings, message, tmp_path, capsys):
    assert main(["attacks", *settings, "--out", str(tmp_path)]) == 2
    assert re.search(message, capsys.readouterr().err)

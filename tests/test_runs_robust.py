import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adversarial_lab import data, nets
from adversarial_lab.pgd import attack_model, pgd
from adversarial_lab.runs import evaluation, speed
from adversarial_lab.runs.__main__ import main
from adversarial_lab.runs.classifier import NETWORKS
from adversarial_lab.runs.crew import Crew
from adversarial_lab.runs.methods import METHODS
from adversarial_lab.runs.record import Job
from adversarial_lab.runs.resident import Resident
from adversarial_lab.runs.robust import SCALES, Config
from adversarial_lab.runs.selection import Selection, chosen, held_out
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import adversarial, erm, weight_average

TINY = (
    "train_images=260 validation_images=60 test_images=20 apgd_images=4 masking_images=4"
    " watch_steps=2 steps=2 epochs=2"
).split()
CPU = torch.device("cpu")


def run(out, *settings):
    assert main(["robust", *TINY, *settings, "--out", str(out), "--quiet"]) == 0


def last_line(text):
    return json.loads(text.strip().splitlines()[-1])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_a_whole_record(method, tmp_path, capsys):
    run(tmp_path, f"method={method}", "epochs=1", "standard_images=2")
    shown = capsys.readouterr()
    record = last_line(shown.out)
    assert record["data"] == {"name": "mnist-mini", "train": 200, "validation": 60, "test": 20}
    assert list(record["metrics"]) == ["clean", "pgd-20", "apgd-ce", "apgd-t", "standard"]
    assert [m["n"] for m in record["metrics"].values()] == [20, 20, 4, 4, 2]
    assert record["masking"]["n"] == 4 and len(record["slices"][0]["loss"]) == evaluation.SIDE
    assert record["compute"]["pflop"] > 0 and "of the matmul rate" in shown.err
    assert record["chosen"] == record["history"][0]
    names = {p.name.removeprefix(record["run_id"]) for p in tmp_path.iterdir()}
    assert names == {".json", ".csv", ".safetensors"}  # nothing of the way there is left


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path, capsys):
    words = [*TINY, "method=n-fgsm", "epochs=12"]
    process = subprocess.Popen(
        [sys.executable, "-m", "adversarial_lab.runs", "robust", *words, "--out", str(tmp_path)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*.checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -9
    assert not list(tmp_path.glob("*.json"))
    run(tmp_path, "method=n-fgsm", "epochs=12")
    resumed = last_line(capsys.readouterr().out)
    run(tmp_path / "whole", "method=n-fgsm", "epochs=12")
    whole = last_line(capsys.readouterr().out)
    untimed = [[{**row, "seconds": 0} for row in r["history"]] for r in (resumed, whole)]
    assert untimed[0] == untimed[1] and resumed["weights"] == whole["weights"]
    assert resumed["metrics"] == whole["metrics"] and resumed["slices"] == whole["slices"]


def test_the_epoch_is_chosen_on_images_that_are_neither_trained_nor_tested_on():
    images = data.load("mnist-mini", "train", 50)
    train, validation = held_out(images, 20)
    assert torch.equal(torch.cat([train.x, validation.x]), images.x)
    assert torch.equal(torch.cat([train.y, validation.y]), images.y)
    assert len(validation.x) == 20
    for n in (0, 50):
        with pytest.raises(ValueError, match=rf"validation_images must be in 1\.\.49, got {n}"):
            held_out(images, n)


def test_the_first_of_the_best_epochs_is_kept_and_outlives_its_process(tmp_path):
    scores = [0.2, 0.5, 0.5, 0.4]
    model, file = nn.Linear(1, 1, bias=False), tmp_path / "a" / "best.safetensors"
    history = []
    for epoch, score in enumerate(scores):  # a new process in every epoch
        watch = Selection(lambda m, score=score: {"pgd": score}, "pgd", file)
        nn.init.constant_(model.weight, float(epoch))
        history.append({"epoch": epoch, **watch(model)})
    assert watch.restore(model).weight.item() == 1.0 and not model.training
    assert chosen(history, "pgd")["epoch"] == 1 and all(row["seconds"] >= 0 for row in history)
    nn.init.constant_(model.weight, 9.0)
    Selection(lambda m: {"pgd": 0.6}, "pgd", file)(model)
    assert watch.restore(model).weight.item() == 9.0


def test_standard_training_is_chosen_by_clean_accuracy():
    assert METHODS["standard"].choose == "validation clean"
    assert {m.choose for name, m in METHODS.items() if name != "standard"} == {"validation pgd"}


def crews(size):
    return [Crew(CPU, rank, size) for rank in range(size)]


def test_processes_share_out_every_batch_and_go_on_with_noise_of_their_own():
    images = data.load("mnist-mini", "train", 50)
    batches, noise = [], []
    for crew in [Crew(CPU), *crews(2)]:
        rng = torch.Generator().manual_seed(5)
        loader = Resident(images, 8, rng, crew=crew)
        batches.append(list(loader))
        noise.append(torch.rand(4, generator=rng))
        assert len(loader) == len(batches[-1]) == 6  # 2 images are left out
    for whole, first, second in zip(*batches, strict=True):
        for v, a, b in zip(whole, first, second, strict=True):
            assert torch.equal(v[0::2], a) and torch.equal(v[1::2], b)
    assert torch.equal(noise[0], noise[1]) and not torch.equal(noise[1], noise[2])
    seen = torch.cat([x for x, _ in batches[0]])
    assert all((images.x == x).flatten(1).all(1).any() for x in seen)  # k / 255, exactly


def test_augmentation_is_that_of_the_data_module():
    images = data.load("cifar-10-mini", "train", 12)
    loader = Resident(images, 4, torch.Generator().manual_seed(0), data.crop_flip, crew=Crew(CPU))
    rng = torch.Generator().manual_seed(0)
    rows = torch.randperm(12, generator=rng)
    x, y = next(iter(loader))
    assert torch.equal(x, data.crop_flip(images.x[rows[:4]], rng)) and torch.equal(
        y, images.y[rows[:4]]
    )


def test_a_batch_must_fit_the_images_and_the_processes():
    images = data.load("mnist-mini", "train", 10)
    for size, batch in ((1, 11), (2, 5), (1, 0)):
        with pytest.raises(ValueError, match=rf"multiple of {size} in 1\.\.10, got {batch}"):
            Resident(images, batch, torch.Generator(), crew=Crew(CPU, 0, size))


def test_flops_are_those_of_the_layers(rng):
    """mnist-cnn by hand: products 2 m n k, backward twice that, and no gradient of the pixels."""
    first = 2 * 16 * 14 * 14 * 1 * 16
    rest = 2 * (32 * 7 * 7 * 16 * 16 + 32 * 7 * 7 * 100 + 100 * 10)
    model, x, y = nets.mnist_cnn(), torch.rand(3, 1, 28, 28, generator=rng), torch.arange(3)
    assert speed.count_flops(erm, model, x, y, {}) == 3 * rest + 2 * first
    threat = ThreatModel(norm="linf", eps=0.1)
    objective = partial(adversarial, attack=partial(pgd, steps=4, rng=rng))
    found = speed.count_flops(objective, model, x, y, {"threat": threat})
    assert found == 4 * 2 * (rest + first) + 3 * rest + 2 * first  # no weight gradient inside
    assert all(p.grad is None for p in model.parameters())


def test_plain_is_float32_in_torchs_own_order_on_a_cpu():
    how = speed.speed(CPU, "plain")
    assert how == speed.Speed(CPU, None, False) and how.precision == "float32"
    with pytest.raises(ValueError, match="speed must be one of .*'compiled'.*got 'fast'"):
        speed.speed(CPU, "fast")
    assert speed.matmul_rate(how, side=64, repeats=2) > 0


@pytest.mark.parametrize(
    ("last", "half", "way"),
    [
        (0.7, 0.4, "bfloat16, channels last"),  # a processor with bfloat16 instructions
        (0.7, 9.0, "float32, channels last"),  # one without
        (0.95, 0.95, "float32"),  # no clear gain: torch's own
        (1.2, 9.0, "float32"),
    ],
)
def test_a_probe_chooses_how_a_cpu_computes(last, half, way, monkeypatch):
    seconds = dict(zip(speed.CPU_WAYS, (1.0, last, half), strict=True))
    monkeypatch.setattr(speed, "probe", lambda: seconds)
    assert speed.speed(CPU, "half") == speed.CPU_WAYS[way]
    for able in (True, False):
        monkeypatch.setattr(speed, "compiles", lambda device: able)  # noqa: B023
        assert speed.speed(CPU, "compiled") == replace(speed.CPU_WAYS[way], compiled=able)


def test_without_a_compiler_nothing_is_compiled_and_the_reason_is_told(monkeypatch, capsys):
    def broken(f):
        raise RuntimeError("no C++ compiler\nsecond line")

    monkeypatch.setattr(torch, "compile", broken)
    assert not speed.compiles.__wrapped__(CPU)
    assert capsys.readouterr().err == "not compiled: RuntimeError: no C++ compiler\n"


def test_the_probe_measures_every_way_and_draws_nothing_from_the_runs_generator():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    seconds = speed.probe.__wrapped__(repeats=1)
    assert list(seconds) == list(speed.CPU_WAYS) and all(v > 0 for v in seconds.values())
    assert torch.equal(torch.rand(1), expected)


def test_in_half_precision_the_network_is_and_the_loss_is_not(rng):
    """The loss is that of the half logits, in float32 to its own rounding and not to bfloat16's."""
    seen, model = [], nets.mnist_cnn()
    x, y = torch.rand(4, 1, 28, 28, generator=rng), torch.arange(4)
    with torch.autocast("cpu", torch.bfloat16):
        model[-1].bias.data.mul_(30)  # large logits, which bfloat16 rounds coarsely
        logits = model(x)
    model.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    how = speed.CPU_WAYS["bfloat16, channels last"]
    wrapped = speed.in_half(erm, how, torch.optim.SGD(model.parameters()))
    loss = wrapped(how.place(model), x, y)
    expected = F.cross_entropy(logits.double(), y).item()
    assert seen == [torch.bfloat16] and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_an_attack_of_a_training_in_half_precision_runs_in_it_too(rng):
    seen, model = [], nets.mnist_cnn()
    model.register_forward_hook(
        lambda module, args, out: seen.append((out.dtype, module.training, out.requires_grad))
    )
    objective, ramp = METHODS["pgd"].make(Config(steps=2), rng)
    how = speed.CPU_WAYS["bfloat16, channels last"]
    wrapped = speed.in_half(objective, how, torch.optim.SGD(model.parameters()))
    x, y = torch.rand(4, 1, 28, 28, generator=rng), torch.arange(4)
    wrapped(model.train(), x, y, **ramp(1.0)).backward()
    half = torch.bfloat16
    assert seen == [(half, False, True)] * 2 + [(half, True, True)] and model.training


@pytest.mark.parametrize(("method", "graphs"), [("standard", 1), ("trades", 3)])
def test_a_network_is_compiled_whole_and_once_for_each_use(
    method, graphs, rng, monkeypatch, unchecked
):
    """Of trades: the step, the gradient of the attack, the output at x that the attack leaves."""
    seen, compile_it = [], nn.Module.compile
    keep = lambda graph, inputs: seen.append(graph) or graph.forward  # noqa: E731
    monkeypatch.setattr(nn.Module, "compile", lambda m: compile_it(m, backend=keep))
    torch._dynamo.reset()
    model = speed.Speed(CPU, None, True).place(nets.wide_resnet(10, 1))
    average = weight_average(model, 0.5)
    objective, ramp = METHODS[method].make(Config(steps=2, eps=8 / 255), rng)
    x, y = data.load("cifar-10-mini", "train", 6)
    for _ in range(2):
        objective(model, x[:4], y[:4], **ramp(1.0)).backward()
        attack_model(average.module, x, y, ThreatModel(norm="linf", eps=8 / 255), steps=2, rng=rng)
    speed.count_flops(objective, model, x, y, ramp(1.0))  # copies are not compiled
    assert len(seen) == graphs


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_takes_the_same_step(half, rng):
    """float16 gradients are scaled up on the way and down before the step."""
    x, y = torch.rand(8, 1, 28, 28, generator=rng), torch.arange(8)
    how, steps = speed.Speed(CPU, half, False), []
    for wrap in (lambda objective, optimizer: objective, partial_in_half(how)):
        torch.manual_seed(0)
        model = nets.mnist_cnn()
        before = [p.detach().clone() for p in model.parameters()]
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        loss = wrap(erm, optimizer)(model, x, y)
        loss.backward()
        optimizer.step()
        steps.append(([p - q for p, q in zip(model.parameters(), before, strict=True)], loss))
    (plain, value), (halved, again) = steps
    assert again.dtype == torch.float32 and again.item() == pytest.approx(value.item(), rel=1e-2)
    for p, q in zip(plain, halved, strict=True):
        assert F.cosine_similarity(p.flatten(), q.flatten(), dim=0) > 0.97
        assert q.norm().item() == pytest.approx(p.norm().item(), rel=0.05)


def partial_in_half(how):
    return lambda objective, optimizer: speed.in_half(objective, how, optimizer)


def test_float16_gradients_do_not_underflow():
    """A gradient of 1e-8 is nothing in float16, and 1e-8 once it is scaled."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)

    def objective(model, x, y):
        return (weight.half() * 1e-4).sum() * 1e-4  # two small factors, the first in float16

    wrapped = speed.in_half(objective, speed.Speed(CPU, torch.float16, False), optimizer)
    wrapped(nn.Identity(), torch.zeros(1), torch.zeros(1)).backward()
    optimizer.step()
    assert weight.item() == pytest.approx(-1e-8, rel=0.01)


def test_every_attack_of_the_evaluation_only_lowers_what_stands(tmp_path):
    x, y = data.load("mnist-mini", "test", 12)
    threat, model = ThreatModel(norm="linf", eps=0.2), nets.shipped("mnist-pgd")
    config = Config(apgd_images=None, standard_images=None, masking_images=0)
    job = Job("robust", "quick", config, tmp_path, progress=False)
    quick = {"apgd-ce": 5, "apgd-t": 3, "fab-t": 3, "square": 20}
    key = {"square": "queries"}
    less = {
        name: partial(attack.func, **{**attack.keywords, key.get(name, "steps"): quick[name]})
        for name, attack in evaluation.STANDARD.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "STANDARD", less)
        found = evaluation.evaluate(model, x, y, threat, config, job)
    values = [found[name]["value"] for name in ("clean", *less)]
    assert values == sorted(values, reverse=True) and found["standard"] == found["square"]
    assert all(m["n"] == 12 for m in found.values())
    assert evaluation.masking(model, x, y, threat, config) == {}


def test_verification_is_strict_and_attacks_are_not():
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [p.allow_tf32 for p in places]
    seen = []
    look = lambda: [p.allow_tf32 for p in places]  # noqa: E731
    attack = evaluation.Fast(lambda: seen.append(look()) or torch.zeros(1))
    with evaluation.float32_is_strict():
        attack()
        seen.append(look())
    assert seen == [[True, True], [False, False]]
    assert look() == before


def test_the_masking_report_is_strict_too(monkeypatch):
    class Told:
        def to_json(self):
            places = (torch.backends.cuda.matmul, torch.backends.cudnn)
            return json.dumps({"tf32": [p.allow_tf32 for p in places]})

    monkeypatch.setattr(evaluation, "masking_report", lambda *anything: Told())
    x, y = data.load("mnist-mini", "test", 2)
    threat = ThreatModel(norm="linf", eps=0.1)
    assert evaluation.masking(nets.mnist_cnn(), x, y, threat, Config()) == {"tf32": [False, False]}


def test_a_slice_has_the_image_in_its_middle(rng):
    x, y = data.load("mnist-mini", "test", 2)
    threat, model = ThreatModel(norm="linf", eps=0.1), nets.shipped("mnist-standard")
    cuts = evaluation.loss_slices(model, x, y, threat, Config(slices=2))
    loss = F.cross_entropy(model(x), y, reduction="none").tolist()
    middle = evaluation.SIDE // 2
    for cut, label, value in zip(cuts, y.tolist(), loss, strict=True):
        assert cut["label"] == label
        assert cut["loss"][middle][middle] == pytest.approx(value, abs=1e-4)
        along = [line[middle] for line in cut["loss"]]
        assert sum(along[middle + 1 :]) > sum(along[:middle])  # PGD's point lies ahead
    assert [cut["image"] for cut in cuts] == [0, 1]


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("preact-resnet18-16", 0.701),
        ("preact-resnet18-32", 2.80),
        ("wrn-16-4", 2.75),
        ("wrn-28-10", 36.5),
    ],
)
def test_wide_and_narrow_networks_have_the_published_sizes(name, millions):
    with torch.device("meta"):
        model = NETWORKS[Config(dataset="cifar-10", network=name).network]()
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=5e-3)


def test_settings_are_refused_before_anything_runs(tmp_path, capsys):
    for setting, message in (
        ("method=magic", "method must be one of ['fgsm', 'fgsm-rs'"),
        ("network=vgg", "network must be one of"),
        ("speed=warp", "speed must be one of"),
    ):
        assert main(["robust", setting, "--out", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
    assert (
        torch.cuda.is_available()
        or main(["robust", "--scale", "full", "--out", str(tmp_path)]) == 2
    )
    assert {"quick", "class", "full"} <= set(SCALES) and not list(tmp_path.iterdir())


def test_settings_may_follow_options_and_the_list_tells_what_was_done(tmp_path, capsys):
    assert main(["robust", "--quiet", *TINY, "epochs=1", "--out", str(tmp_path)]) == 0
    record = last_line(capsys.readouterr().out)
    assert main(["--list", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if record["run_id"] in line)
    assert "done: " in line and "epochs=1" in line and record["hardware"] in line
    assert "seed" not in line  # only what differs from the scale

"""Two processes train one network; gloo on the CPU does what NCCL does on GPUs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from adversarial_lab.nets import mnist_cnn
from adversarial_lab.runs.__main__ import main
from adversarial_lab.runs.crew import Crew, Routed, assemble
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import adversarial, erm

TINY = (
    "robust method=fgsm epochs=3 train_images=260 validation_images=60 test_images=20"
    " apgd_images=2 masking_images=0 watch_steps=2 slices=0"
).split()
ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, capsys):
    """FGSM from x itself has no noise, so nothing tells two processes from one but rounding."""
    torchrun = "-m torch.distributed.run --standalone --nproc_per_node 2".split()
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "adversarial_lab.runs", *TINY, "--out", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == 1  # the first process prints, the second does not
    two = json.loads(lines[0])
    assert main([*TINY, "--out", str(tmp_path / "alone"), "--quiet"]) == 0
    one = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert two["compute"]["processes"] == 2 and one["compute"]["processes"] == 1
    losses = [[row["loss"] for row in record["history"]] for record in (one, two)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[0][-1] != losses[0][0] and two["compute"]["pflop"] == one["compute"]["pflop"]
    endings = {p.name.removeprefix(two["run_id"]) for p in tmp_path.iterdir() if p.is_file()}
    assert endings == {".json", ".csv", ".safetensors"}


class Counted(nn.Module):
    """Stands for the network that shares its gradients."""

    def __init__(self, model):
        super().__init__()
        self.model, self.calls = model, 0

    def forward(self, x):
        self.calls += 1
        return self.model(x)


def test_the_attack_runs_on_the_bare_network_and_the_step_on_the_shared_one(rng):
    bare = mnist_cnn()
    shared = Counted(bare)
    routed, looks = Routed(shared, bare), []

    def attack(f, x, threat):
        looks.append(shared.calls)
        f(x)
        looks.append(shared.calls)
        return x

    x, y = torch.rand(4, 1, 28, 28, generator=rng), torch.arange(4)
    threat = ThreatModel(norm="linf", eps=0.1)
    adversarial(routed, x, y, threat=threat, attack=attack).backward()
    assert looks == [0, 0] and shared.calls == 1
    assert routed.training and all(p.grad is not None for p in bare.parameters())


class Pretender:
    """An accelerator whose other process always had a loss of 3."""

    def prepare_model(self, model):
        return model

    def reduce(self, loss, how):
        assert how == "mean"
        return (loss + 3.0) / 2

    def wait_for_everyone(self):
        pass


def test_the_loss_is_the_mean_over_processes_and_its_gradient_is_ones_own(rng):
    model, x, y = mnist_cnn(), torch.rand(4, 1, 28, 28, generator=rng), torch.arange(4)
    together = Crew(CPU, 1, 2, Pretender()).together(erm, model)
    loss = together(model, x, y)
    own = erm(model, x, y)
    assert loss.item() == pytest.approx((own.item() + 3) / 2)
    gradients = [torch.autograd.grad(v, list(model.parameters())) for v in (loss, own)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert Crew(CPU).together(erm, model) is erm


def test_every_process_goes_on_from_the_state_of_the_first(tmp_path):
    first, second = (Crew(CPU, rank, 2, Pretender()) for rank in range(2))
    file = tmp_path / "run.checkpoint.safetensors"
    stale = second.own(file)
    stale.write_text("of a later epoch")
    file.write_text("epoch 2")
    assert first.own(file) == file and second.own(file) == stale != file
    assert stale.read_text() == "epoch 2"
    file.unlink()
    assert not second.own(file).exists()


def test_runs_that_know_one_process_refuse_several(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for words in (["pgd"], ["robust", "--sweep", "seed=0,1"]):
        assert main([*words, "--out", str(tmp_path)]) == 2
        assert re.search(r"only \['robust'\] use several processes", capsys.readouterr().err)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match="several processes need accelerate: pip install"):
        assemble()

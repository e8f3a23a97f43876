"""On a GPU the library finds what it finds on the CPU, or says why not: see `pretend`."""

from functools import partial

import pytest
import torch
from pretend import OnGpu, pretended_gpu

from adversarial_lab import attacks, data, nets
from adversarial_lab.certified import certify
from adversarial_lab.runs import certified, robust
from adversarial_lab.runs.__main__ import configure
from adversarial_lab.runs.record import Job
from adversarial_lab.threat import ThreatModel

pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
TINY = {
    robust: "train_images=60 validation_images=20 steps=2 watch_steps=2 apgd_images=2"
    " masking_images=2 epochs=2 batch_size=20 test_images=6",
    certified: "dataset=mnist-mini train_images=40 watch_images=4 strong_images=2 epochs=1"
    " batch_size=20 test_images=6",
}


def test_it_refuses_what_a_gpu_refuses():
    with pretended_gpu() as gpu:
        x = torch.ones(2, device=gpu)
        assert type(x) is type(x.cpu().to(gpu)) is OnGpu and type(x.cpu()) is torch.Tensor
        assert (x[torch.tensor([0])] + 1).tolist() == [2.0] and float(x.sum()) == 2.0
        with pytest.raises(AssertionError, match="add is asked to join a tensor of the CPU"):
            x + torch.ones(2)
        with pytest.raises(AssertionError, match="a draw on meta from a generator on cpu"):
            torch.rand(2, generator=torch.Generator(), device=gpu)
        with pytest.raises(RuntimeError, match="numpy"):
            x.numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "setting"), [(robust, "method=trades"), (certified, "training=crown-ibp")]
)
def test_a_run_finds_the_same(run, setting, tmp_path):
    config = configure(run.SCALES["quick"], [*TINY[run].split(), setting])
    here = run.run(config, Job("here", "quick", config, tmp_path, progress=False))
    with pretended_gpu():
        there = run.run(config, Job("there", "quick", config, tmp_path, progress=False))
    assert there["metrics"] == here["metrics"]
    losses = [[row["loss"] for row in record["history"]] for record in (here, there)]
    assert losses[1] == pytest.approx(losses[0])


@pytest.mark.parametrize("method", ["ibp", "crown", "lp", "lipschitz", "lipschitz-local"])
def test_a_certificate_is_the_same(method):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 4, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(98, 10)
    )
    x, _ = data.load("mnist-mini", "test", 2)
    y, threat = model(x).argmax(1), ThreatModel(norm="linf", eps=0.01)
    proved = certify(model, x, y, threat, method)
    with pretended_gpu() as gpu:
        again = certify(model.to(gpu), x.to(gpu), y.to(gpu), threat, method)
        assert torch.equal(again.cpu(), proved)


def test_every_attack_of_the_evaluation_runs():
    x, y = data.load("mnist-mini", "test", 3)
    threat, model = ThreatModel(norm="linf", eps=0.2), nets.shipped("mnist-standard")
    few = {
        "apgd-ce": partial(attacks.apgd, steps=4),
        "apgd-t": partial(attacks.apgd_targets, steps=3, targets=2),
        "fab-t": partial(attacks.fab_targets, steps=3, targets=2),
        "square": partial(attacks.square, queries=9),
    }
    for name, attack in few.items():
        run = partial(attacks.standard_evaluation, threat=threat, attacks={name: attack})
        here = run(model, x, y)[-1].found.fooled
        with pretended_gpu() as gpu:
            there = run(nets.shipped("mnist-standard").to(gpu), x.to(gpu), y.to(gpu))[-1].found
        assert torch.equal(there.fooled.cpu(), here), name

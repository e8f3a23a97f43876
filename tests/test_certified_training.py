import json
import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adversarial_lab import data, nets, runs
from adversarial_lab.certified import certified_ramp, certify, crown_ibp_loss, ibp_loss, margins
from adversarial_lab.certified.training import worst_logits
from adversarial_lab.data import Batches
from adversarial_lab.pgd import attack_model, cross_entropy, pgd
from adversarial_lab.runs.__main__ import main
from adversarial_lab.runs.classifier import adam_drops
from adversarial_lab.threat import ThreatModel
from adversarial_lab.training import attacking, erm, fit

LINF = ThreatModel(norm="linf", eps=0.1)
LOSSES = {"ibp": ibp_loss, "crown-ibp": partial(crown_ibp_loss, beta=0.6)}


def network(seed=5):
    torch.manual_seed(seed)
    first = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*first, nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def points(rng):
    return torch.rand(16, 1, 4, 4, generator=rng), torch.randint(3, (16,), generator=rng)


def gradients(loss, model):
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])


# -- the loss ------------------------------------------------------------------------------------


def test_worst_logits_by_hand():
    """z_y - z_j >= 1 for one rival, >= -2 for the other: the worst logits are 0, -1 and 2."""
    low = torch.tensor([[torch.inf, 1.0, -2.0], [3.0, torch.inf, 0.5]])
    expected = torch.tensor([[0.0, -1.0, 2.0], [-3.0, 0.0, -0.5]])
    assert torch.equal(worst_logits(low, torch.tensor([0, 1])), expected)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(("eps", "kappa"), [(0.1, 1.0), (0.0, 0.5), (0.0, 0.0), (0.0, 1.0)])
@pytest.mark.claim("17.4.4", "certified training at eps 0 or kappa 1 is plain training")
def test_without_radius_or_weight_it_is_erm(points, loss, eps, kappa):
    model = network()
    ours = loss(model, *points, threat=LINF.with_eps(eps), kappa=kappa)
    theirs = erm(model, *points)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        gradients(ours, model), gradients(theirs, model), rtol=1e-4, atol=1e-6
    )


def test_a_linear_model_has_its_exact_worst_case(rng):
    """Every margin falls by eps ||W_y - W_j||_1: the loss is that of the dual-norm margins."""
    layer = nn.Linear(6, 3)
    x, y = torch.rand(20, 6, generator=rng), torch.randint(3, (20,), generator=rng)
    threat, model = ThreatModel(norm="linf", eps=0.2, box=None), nn.Sequential(layer)
    for loss in LOSSES.values():
        z, w = layer(x), layer.weight
        fall = 0.2 * (w[y][:, None] - w).abs().sum(2)
        expected = F.cross_entropy(z - z.gather(1, y[:, None]) + fall, y)
        ours = loss(model, x, y, threat=threat, kappa=0.0)
        torch.testing.assert_close(ours, expected)
        mixed = loss(model, x, y, threat=threat, kappa=0.3)
        torch.testing.assert_close(mixed, 0.3 * F.cross_entropy(z, y) + 0.7 * expected)
        torch.testing.assert_close(gradients(ours, layer), gradients(expected, layer))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.claim("17.4.4", "the loss of certified training is never below the loss under attack")
def test_no_attack_reaches_a_larger_loss(points, norm, beta, rng):
    x, y = points
    model, threat = network(), ThreatModel(norm=norm, eps=0.1)
    for i in range(4):
        one = slice(4 * i, 4 * i + 4)
        bound = crown_ibp_loss(model, x[one], y[one], threat=threat, kappa=0.0, beta=beta)
        with attacking(model):
            f = lambda z, labels=y[one]: cross_entropy(model(z), labels)  # noqa: E731
            worst = f(pgd(f, x[one], threat, steps=20, rng=rng)).mean()
        assert worst <= bound
        assert worst > erm(model, x[one], y[one]) - 1e-6


@pytest.mark.claim("17.4.4", "linear bounds are tighter than interval bounds early in training")
def test_linear_bounds_lower_the_loss_of_an_untrained_network(points):
    at = lambda beta: crown_ibp_loss(  # noqa: E731
        network(), *points, threat=LINF, kappa=0.0, beta=beta
    ).item()
    assert at(1.0) < at(0.5) < at(0.0) - 0.01
    assert at(0.0) == ibp_loss(network(), *points, threat=LINF, kappa=0.0).item()


def test_the_mixture_is_linear_in_the_worst_logits(points):
    x, y = points
    model, where = network(), (*points, LINF)
    tight, loose = (
        worst_logits(margins(model, *where, method, outward=False), y)
        for method in ("crown-ibp", "ibp")
    )
    expected = F.cross_entropy(0.25 * tight + 0.75 * loose, y)
    ours = crown_ibp_loss(model, x, y, threat=LINF, kappa=0.0, beta=0.25)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_gradient_is_that_of_finite_differences(points, loss):
    model, (x, y) = network().double(), points
    value = lambda: loss(model, x.double(), y, threat=LINF, kappa=0.4)  # noqa: E731
    grads, step = gradients(value(), model), 1e-6
    start = nn.utils.parameters_to_vector(model.parameters()).detach()
    direction = torch.randn(len(start), dtype=torch.float64) / len(start) ** 0.5
    ends = []
    for sign in (1, -1):
        nn.utils.vector_to_parameters(start + sign * step * direction, model.parameters())
        ends.append(value().item())
    slope = (ends[0] - ends[1]) / (2 * step)
    assert slope == pytest.approx((grads @ direction).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kappa": 1.5}, r"kappa must be in \[0, 1\], got 1.5"),
        ({"kappa": math.nan}, "kappa must be in"),
        ({"beta": -0.1}, r"beta must be in \[0, 1\], got -0.1"),
        ({"x": torch.full((16, 1, 4, 4), 2.0)}, "x must lie in the box"),
        ({"y": torch.full((16,), 3)}, r"labels 0\.\.2"),
        ({"model": nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3))}, "batch norm"),
    ],
)
def test_bad_input_is_refused(points, change, message, unchecked):
    given = {"model": network(), "x": points[0], "y": points[1], "threat": LINF}
    with pytest.raises(ValueError, match=message):
        crown_ibp_loss(**(given | {"kappa": 0.5, "beta": 0.0} | change))


# -- the ramp ------------------------------------------------------------------------------------


def test_the_ramp_by_hand():
    ramp = certified_ramp(LINF, warm=0.2, over=0.4, excess=1.1, kappa=0.5)
    found = [(ramp(t)["threat"].eps, ramp(t)["kappa"]) for t in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0)]
    expected = [(0, 1), (0, 1), (0.0275, 0.875), (0.055, 0.75), (0.11, 0.5), (0.11, 0.5)]
    for pair, known in zip(found, expected, strict=True):
        assert pair == pytest.approx(known)
    assert set(ramp(0.3)) == {"threat", "kappa"}


def test_the_mixing_ramp_ends_in_interval_bounds():
    ramp = certified_ramp(LINF, warm=0.0, over=0.5, mix=True)
    assert [ramp(t)["beta"] for t in (0.0, 0.25, 0.5, 0.9)] == [1, 0.5, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"over": 0.0}, "need 0 <= warm, 0 < over"),
        ({"warm": 0.7}, r"warm \+ over <= 1, got 0.7 and 0.5"),
        ({"warm": -0.1}, "need 0 <= warm"),
        ({"excess": 0.9}, "need excess >= 1"),
        ({"kappa": 2.0}, r"kappa in \[0, 1\], got 1.1 and 2.0"),
    ],
)
def test_impossible_ramps_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        certified_ramp(LINF, **({"warm": 0.1, "over": 0.5} | change))


def test_the_learning_rate_drops_twice():
    adam, schedule = adam_drops(nn.Linear(2, 2), runs.certified.Config(epochs=12), per_epoch=5)
    rates = []
    for _ in range(60):
        rates.append(adam.param_groups[0]["lr"])
        adam.step()
        schedule.step()
    assert rates == pytest.approx([2e-3] * 45 + [2e-4] * 10 + [2e-5] * 5)


# -- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["ibp", "crown-ibp"])
@pytest.mark.claim("17.4.4", "training on the bound makes predictions provable that were not")
def test_training_on_the_bound_makes_digits_provable(loss):
    rng, threat = torch.Generator().manual_seed(0), ThreatModel(norm="linf", eps=0.05)
    x, y = data.load("mnist-mini", "test", 200)
    shares = {}
    for objective, ramp in (
        (erm, lambda t: {}),
        ({"ibp": ibp_loss, "crown-ibp": crown_ibp_loss}[loss],
         certified_ramp(threat, warm=0.1, over=0.4, mix=loss == "crown-ibp")),
    ):  # fmt: skip
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 40), nn.ReLU(), nn.Linear(40, 10))
        adam = torch.optim.Adam(model.parameters(), lr=0.005)
        train = Batches(*data.load("mnist-mini", "train", 1000), 50, rng)
        fit(model, train, objective, epochs=8, optimizer=adam, rng=rng, ramp=ramp, progress=False)
        shares[objective] = certify(model, x, y, threat, "ibp").double().mean().item()
    plain, trained = shares.values()
    assert plain < 0.1 and trained > 0.5


TINY = "dataset=mnist-mini train_images=100 test_images=30 strong_images=4 epochs=3 batch_size=50"


@pytest.mark.parametrize("training", ["ibp", "crown-ibp"])
def test_a_run_certifies_and_saves_its_record(training, tmp_path, capsys):
    words = ["certified", *TINY.split(), f"training={training}", "eps=0.06", "--quiet"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    m = {name: metric["value"] for name, metric in record["metrics"].items()}
    assert list(m) == ["clean", "ibp 0.02", "ibp 0.04", "ibp 0.06", "pgd-40", "pgd-100x10"]
    assert m["clean"] >= m["pgd-40"] >= m["ibp 0.06"] and m["ibp 0.02"] >= m["ibp 0.06"]
    assert set(record["history"][0]) == {"epoch", "loss", "clean", "ibp"}
    assert (tmp_path / f"{record['run_id']}.safetensors").exists()


@pytest.mark.parametrize("setting", ["dataset=imagenet", "network=vgg", "training=pgd", "recipe=x"])
def test_unknown_settings_are_refused_with_the_choices(setting, tmp_path, capsys):
    assert main(["certified", setting, "--out", str(tmp_path)]) == 2
    key, value = setting.split("=")
    assert f"{key} must be one of [" in (error := capsys.readouterr().err) and value in error


def test_the_full_scale_is_that_of_the_paper_and_needs_a_gpu(tmp_path, capsys, monkeypatch):
    c = runs.certified.SCALES["full"]
    assert (c.dataset, c.network, c.eps, c.excess) == ("cifar-10", "dm-large", 8 / 255, 1.1)
    assert (c.epochs, c.batch_size, c.peak, c.train_images) == (350, 50, 0.001, None)
    monkeypatch.setattr(nets, "best_device", lambda: torch.device("cpu"))
    assert main(["certified", "--scale", "full", "--out", str(tmp_path)]) == 2
    assert "certified --scale full needs a GPU and torch sees none" in capsys.readouterr().err


def test_the_large_network_has_the_stated_size():
    with torch.device("meta"):
        model = nets.dm_large()
        size = sum(p.numel() for p in model.parameters())
    widths = [3, 64, 64, 128, 128, 128]
    convolutions = sum(9 * a * b + b for a, b in zip(widths, widths[1:], strict=False))
    assert size == convolutions + 128 * 256 * 512 + 512 + 512 * 10 + 10


# -- the shipped network -------------------------------------------------------------------------


@pytest.mark.claim("17.4.4", "a certified network for MNIST at linf eps 0.3")
def test_the_shipped_network_is_certified_as_its_record_says():
    record = {k: v["value"] for k, v in nets.shipped_record("mnist-ibp")["metrics"].items()}
    assert record["clean"] >= 0.96 and record["pgd-40"] >= 0.905
    targets = {"ibp 0.1": 0.942, "ibp 0.2": 0.909, "ibp 0.3": 0.846}
    assert all(record[name] >= share for name, share in targets.items())
    model, (x, y) = nets.shipped("mnist-ibp"), data.load("mnist-mini", "test")
    for eps in (0.1, 0.2, 0.3):
        proved = certify(model, x, y, ThreatModel(norm="linf", eps=eps), "ibp").double().mean()
        assert proved.item() == pytest.approx(record[f"ibp {eps}"], abs=0.025)


@pytest.mark.claim("17.4.3", "no attack succeeds inside a certificate: certified <= empirical")
def test_what_is_certified_withstands_every_attack():
    model, (x, y) = nets.shipped("mnist-ibp"), data.load("mnist-mini", "test", 200)
    threat, rng = ThreatModel(norm="linf", eps=0.3), torch.Generator().manual_seed(0)
    proved = certify(model, x, y, threat, "ibp")
    found = attack_model(model, x, y, threat, steps=60, restarts=2, rng=rng)
    assert not (proved & found.fooled).any()
    assert proved.double().mean() > 0.75 and found.fooled.any()

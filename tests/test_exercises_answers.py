"""What the exercises call right is what the library computes, by other code."""

from functools import cache

import pytest
import torch
from torch import nn

from adversarial_lab import cka, masking, trades
from adversarial_lab.attacks.margins import targeted_dlr
from adversarial_lab.certified import ibp, margins, smoothing
from adversarial_lab.exercises.sets import first_function, load
from adversarial_lab.threat import ThreatModel
from tools.book import ROOT

LABELS = torch.tensor([0, 1, 2, 0, 1])


@cache
def exercises(stem):
    return load(ROOT / "exercises" / stem)


def answer(stem, question):
    """The reference solution of a question."""
    namespace = {}
    for cell in exercises(stem).program(question):
        exec(cell, namespace)
    return namespace[first_function(exercises(stem).answers[question])]


def agree(one, other):
    torch.testing.assert_close(
        torch.as_tensor(one).double(), torch.as_tensor(other).double(), rtol=1e-5, atol=1e-6
    )


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def x(rng):
    return torch.rand(5, 6, generator=rng)


def linear_loss(rng, c=1.0):
    weight = torch.randn(3, 6, generator=rng)

    def loss(z):
        return nn.functional.cross_entropy(c * z @ weight.T, LABELS, reduction="none")

    return weight, loss


def test_linearisation_error_and_scaled_gradient(rng, x):
    weight, loss = linear_loss(rng, 7.0)
    delta = torch.randn(x.shape, generator=rng)
    ours = answer("masking", "linearisation_error")(loss, x, delta)
    agree(ours, masking.linearisation_error(loss, x, delta))
    ours = answer("masking", "scaled_gradient")(weight, x, LABELS, 7.0)
    agree(ours, masking.gradient(loss, x))


def test_loss_slice(rng, x):
    weight = torch.randn(6, generator=rng)
    u, v = torch.randn(2, 1, 6, generator=rng)

    def loss(z):
        return (z @ weight).exp()

    ours = answer("masking", "loss_slice")(loss, x[0], u[0], v[0], 0.7, 6)
    plane = masking.orthonormal(u, v)
    agree(ours, masking.loss_slice(loss, x[:1], *plane, radius=0.7, resolution=6))


def test_targeted_dlr(rng):
    logits, goal = torch.randn(5, 6, generator=rng), (LABELS + 2) % 6
    ours = answer("masking", "targeted_dlr")(logits, LABELS, goal)
    agree(ours, targeted_dlr(logits, torch.stack([LABELS, goal], 1)))


def test_divergence_and_its_gradient(rng, x):
    weight, _ = linear_loss(rng)
    point = (x + 0.3).requires_grad_()
    value = trades.kl(x @ weight.T, point @ weight.T)
    agree(answer("trades", "kl")(x @ weight.T, point @ weight.T).detach(), value.detach())
    (slope,) = torch.autograd.grad(value.sum(), point)
    agree(answer("trades", "kl_gradient")(weight, x, point.detach()), slope)


def test_trades_loss(x):
    model, threat = nn.Linear(6, 3), ThreatModel(norm="linf", eps=0.1)
    ours = answer("trades", "trades_loss")(model, x, LABELS, x + 0.05, 6.0)
    theirs = trades.trades(
        model, x, LABELS, threat=threat, attack=lambda f, x, threat: x + 0.05, beta=6.0
    )
    agree(ours.detach(), theirs.detach())
    for one, other in zip(
        *(torch.autograd.grad(v, model.parameters()) for v in (ours, theirs)), strict=True
    ):
        agree(one, other)


def layers_of(model):
    return [(layer.weight.detach(), layer.bias.detach()) for layer in model[::2]]


def test_interval_bounds_and_elided_margins(x):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    threat = ThreatModel(norm="linf", eps=0.1)
    *hidden, last = layers = layers_of(model)
    for ours, theirs in zip(
        answer("certified", "network_bounds")(layers, x, 0.1), ibp(model, x, threat), strict=True
    ):
        agree(ours, theirs.detach())
    box = [end.relu() for end in answer("certified", "network_bounds")(hidden, x, 0.1)]
    ours = answer("certified", "elided_margins")(*last, *box, LABELS)
    theirs = margins(model, x, LABELS, threat, "ibp", outward=False).detach()
    agree(ours, theirs.scatter(1, LABELS[:, None], 0.0))


def test_crown(x):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        model[2].weight[1], model[2].bias[1] = 0, 0  # logits (f, 0): the margin of class 0 is f
    (weight, bias), (v, c) = layers_of(model)
    ours = answer("certified", "crown_lower")(weight, bias, v[0], c[0].item(), x, 0.3)
    threat, first = ThreatModel(norm="linf", eps=0.3, box=None), torch.zeros(5, dtype=torch.long)
    crown, plain = (
        margins(model, x, first, threat, method, outward=False)[:, 1].detach()
        for method in ("crown", "ibp")
    )
    assert (ours > plain).any()
    agree(torch.maximum(ours, plain), crown)  # the library never returns less than intervals


@pytest.mark.parametrize("hits, n", [(95, 100), (100, 100), (51, 100), (0, 10)])
def test_certified_radius(hits, n):
    theirs = smoothing.radius(smoothing.lower_bound(hits, n, 0.001), 0.5)
    agree(answer("certified", "certified_radius")(hits, n, 0.5, 0.001), theirs)


def test_hsic_and_cka(rng):
    a, b = (torch.randn(9, d, generator=rng).double() + 1 for d in (4, 5))
    grams = a @ a.T, b @ b.T
    for names, unbiased in (
        (("hsic", "linear_cka"), False),
        (("unbiased_hsic", "unbiased_cka"), True),
    ):
        hsic, alignment = (answer("cka", name) for name in names)
        agree(hsic(*(k.numpy() for k in grams)), cka.hsic(*grams, unbiased=unbiased))
        agree(alignment(a.numpy(), b.numpy()), cka.linear_cka(a, b, unbiased=unbiased))

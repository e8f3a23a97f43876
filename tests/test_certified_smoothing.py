import copy

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm
from torch import nn

from adversarial_lab.certified.smoothing import (
    ABSTAIN,
    certify,
    counts,
    lower_bound,
    predict,
    radius,
)
from adversarial_lab.threat import ThreatModel


def linear(w, b=0.0):
    """Class 1 where w.x + b > 0, class 0 elsewhere."""
    model = nn.Linear(len(w), 2).requires_grad_(False)
    model.weight.copy_(torch.stack([0 * w, w]))
    model.bias.copy_(torch.tensor([0.0, b]))
    return model


@pytest.fixture
def half_space(rng):
    w = torch.randn(5, generator=rng)
    x = torch.randn(6, 5, generator=rng)
    return linear(w, 0.3), x, (x @ w + 0.3) / w.norm()  # signed distance to the hyperplane


# -- the bound -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.2), (10, 0.05), (57, 0.001), (100, 0.3)])
@pytest.mark.claim("17.4", "the confidence bound of randomised smoothing holds for every n")
def test_the_lower_bound_covers_at_least_as_often_as_it_says(n, alpha):
    """The probability that the bound exceeds p, summed exactly over all counts."""
    bounds = np.array([lower_bound(k, n, alpha) for k in range(n + 1)])
    for p in np.linspace(0.01, 0.99, 99):
        assert binom.pmf(np.flatnonzero(bounds > p), n, p).sum() <= alpha + 1e-12
    # and no larger bound would do: at p = bound the tail has probability alpha
    k = np.arange(1, n + 1)
    np.testing.assert_allclose(binom.sf(k - 1, n, bounds[1:]), alpha, rtol=1e-7)
    assert (np.diff(bounds) > 0).all()


@pytest.mark.parametrize(("hits", "n", "alpha"), [(0, 5, 0.1), (3, 9, 0.05), (99, 100, 0.001)])
def test_the_lower_bound_is_that_of_the_binomial_test(hits, n, alpha):
    test = binomtest(hits, n, alternative="greater")
    expected = test.proportion_ci(confidence_level=1 - alpha, method="exact").low
    assert lower_bound(hits, n, alpha) == pytest.approx(expected, abs=1e-12)


def test_all_hits_give_the_root_of_alpha():
    assert lower_bound(100, 100, 0.001) == pytest.approx(0.001 ** (1 / 100), rel=1e-12)


def test_the_radius_by_hand():
    assert radius(0.5, 1.0) == radius(0.2, 1.0) == 0
    assert radius(norm.cdf(1.5), 0.25) == pytest.approx(0.375)


# -- certificates --------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
@pytest.mark.claim("17.4", "the smoothed radius of a linear classifier is its distance, any sigma")
def test_a_linear_classifier_is_certified_up_to_its_distance(half_space, sigma, rng):
    """h(x + noise) = h(x) with probability Phi(distance / sigma): the radius is the distance."""
    model, x, signed = half_space
    found = certify(model, x, sigma=sigma, n0=1000, n=40_000, batch=20_000, rng=rng)
    distance = signed.abs().double()
    limit = radius(lower_bound(40_000, 40_000, 0.001), sigma)
    sure = distance > 0.15 * sigma  # nearer than that the draws may name either side
    assert torch.equal(found.label[sure], (signed[sure] > 0).long())
    assert (found.radius <= distance + 1e-9)[sure].all()
    reachable = sure & (distance < 0.8 * limit)
    assert reachable.any()
    torch.testing.assert_close(
        found.radius[reachable], distance[reachable], rtol=0, atol=0.06 * sigma
    )


def test_certificates_fail_no_more_often_than_alpha():
    """500 certificates at alpha 0.2 for a point whose radius is known: at most 0.2 exceed it."""
    x, rng = torch.full((500, 1), 0.7), torch.Generator().manual_seed(3)
    found = certify(linear(torch.ones(1)), x, sigma=1.0, n0=20, n=60, alpha=0.2, rng=rng)
    wrong = (found.label == 0) | (found.radius > 0.7)
    exact = binom.sf(
        max(k for k in range(61) if radius(lower_bound(k, 60, 0.2), 1.0) <= 0.7),
        60,
        norm.cdf(0.7),
    )
    assert exact <= 0.2
    assert 0 < wrong.double().mean() < exact + 4 * (exact * (1 - exact) / 500) ** 0.5


def test_the_class_is_named_by_other_draws_than_its_share(half_space):
    model, x, _ = half_space
    found = certify(model, x, sigma=1.0, n0=30, n=50, rng=torch.Generator().manual_seed(1))
    rng = torch.Generator().manual_seed(1)
    guess = counts(model, x, sigma=1.0, n=30, rng=rng).argmax(1)
    hits = counts(model, x, sigma=1.0, n=50, rng=rng).gather(1, guess[:, None]).flatten()
    expected = [lower_bound(h, 50, 0.001) for h in hits.tolist()]
    torch.testing.assert_close(found.p, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(found.label, torch.where(found.p > 0.5, guess, ABSTAIN))
    assert (found.label == ABSTAIN).any() and (found.radius[found.label == ABSTAIN] == 0).all()


def test_noise_is_not_clipped_to_the_box():
    """Class 1 beyond the box only: half the draws from the edge must land there."""
    seen = counts(linear(torch.ones(1), -1.0), torch.ones(1, 1), sigma=0.5, n=4000)
    assert 0.45 < seen[0, 1] / 4000 < 0.55


def test_no_attack_moves_a_certified_smoothed_prediction(rng):
    """The worst l2 step against a two-class linear h leaves g's answer, up to the radius."""
    w, x = torch.tensor([3.0, -4.0]), torch.tensor([[0.9, 0.2]])
    model = linear(w)
    found = certify(model, x, sigma=0.5, n=5000, rng=rng)
    threat = ThreatModel(norm="l2", eps=found.radius.item(), box=None)
    z = x - 0.99 * threat.eps * threat.steepest(w[None])
    assert threat.contains(x, z).all()
    assert predict(model, z, sigma=0.5, n=200_000, rng=rng) in (found.label, ABSTAIN)


# -- predictions ---------------------------------------------------------------------------------


class Always(nn.Module):
    """Gives its classes in turn, whatever the input: exact counts."""

    def __init__(self, first, second):
        super().__init__()
        self.answers = torch.tensor([0] * first + [1] * second)

    def forward(self, x):
        return nn.functional.one_hot(self.answers[: len(x)], 3).double()


@pytest.mark.parametrize(("first", "second"), [(10, 0), (9, 1), (13, 5), (5, 5), (1, 9), (14, 4)])
def test_predict_abstains_where_the_binomial_test_does(first, second):
    n, alpha = first + second, 0.05
    found = predict(Always(first, second), torch.rand(1, 2), sigma=1.0, n=n, alpha=alpha)
    tail = 2 * binom.sf(max(first, second) - 1, n, 0.5)  # the symmetric two-sided test, by hand
    top = 0 if first >= second else 1
    assert found.item() == (top if min(tail, 1) <= alpha else ABSTAIN)


def test_counts_are_complete_and_repeat_with_the_seed(half_space):
    model, x, _ = half_space
    seeded = lambda batch: counts(  # noqa: E731
        model, x, sigma=2.0, n=70, batch=batch, rng=torch.Generator().manual_seed(5)
    )
    assert torch.equal(seeded(32), seeded(32)) and (seeded(32).sum(1) == 70).all()
    assert torch.equal(seeded(70), seeded(1000))


def test_the_model_is_left_as_it_was(half_space, rng):
    model = nn.Sequential(nn.BatchNorm1d(5), half_space[0]).train()
    before = copy.deepcopy(model.state_dict())
    certify(model, half_space[1], sigma=1.0, n0=5, n=5, rng=rng)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "sigma must be finite and > 0 in data units, got 0.0"),
        ({"sigma": float("nan")}, "sigma must be finite and > 0"),
        ({"n": 0}, "draws must be >= 1, got n=0"),
        ({"batch": 0}, "batch=0"),
        ({"alpha": 1.0}, r"alpha must be a probability in \(0, 1\), got 1.0"),
    ],
)
def test_bad_settings_are_refused(half_space, change, message):
    model, x, _ = half_space
    for function in (predict, certify):
        with pytest.raises(ValueError, match=message):
            function(model, x, **({"sigma": 1.0, "n": 10} | change))


@pytest.mark.parametrize(("hits", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(hits, n):
    with pytest.raises(ValueError, match=f"got hits={hits}, n={n}"):
        lower_bound(hits, n, 0.05)

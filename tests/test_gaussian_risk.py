import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from scipy.sparse import coo_array
from scipy.stats import norm

from adversarial_lab.gaussian_risk import (
    LEARNERS,
    LinearClassifier,
    LineClassifier,
    SharedCovariance,
    TwoGaussians,
    contract,
    divergence,
    erm_threshold,
    fit_gaussians,
    isotropic_alpha,
    learning_curve,
    optimal_classifier,
    optimal_linear,
    optimal_risk,
    quantities,
    sample,
)
from adversarial_lab.threat import ThreatModel

EVEN = TwoGaussians(mu=(-1.0, 1.0))
UNEVEN = TwoGaussians(mu=(-1.0, 1.0), prior=(0.7, 0.3))
WIDER = TwoGaussians(mu=(0.0, 1.0), sigma=(1.0, 2.0))
MODELS = {
    "even": EVEN,
    "uneven": UNEVEN,
    "wider": WIDER,
    "class 1 narrower": TwoGaussians(mu=(0.5, 0.0), sigma=(1.5, 0.7), prior=(0.4, 0.6)),
    "class 1 on the left": TwoGaussians(mu=(1.0, -0.5), prior=(0.45, 0.55)),
    "one mean": TwoGaussians(mu=(0.0, 0.0), sigma=(1.0, 3.0), prior=(0.6, 0.4)),
}
models = st.builds(
    lambda mu, sigma, p: TwoGaussians(mu=mu, sigma=sigma, prior=(p, 1 - p)),
    st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    st.tuples(st.floats(0.3, 3), st.floats(0.3, 3)),
    st.floats(0.05, 0.95),
)
budgets = st.floats(0, 2)


# -- a second solver: the best of all classifiers on a grid, by linear programming ---------------


def least_risk(weights, pairs):
    """1 - max of sum w q over q in [0, 1] with q0 + q1 <= 1 on every pair that meets."""
    w0, w1 = weights
    i, j = pairs
    rows = np.repeat(np.arange(len(i)), 2)
    columns = np.stack([i, len(w0) + j], 1).ravel()
    table = coo_array((np.ones(2 * len(i)), (rows, columns)), (len(i), len(w0) + len(w1))).tocsr()
    solved = linprog(-np.concatenate(weights), table, np.ones(len(i)), bounds=(0, 1))
    assert solved.status == 0
    return 1 + solved.fun


def masses(mean, sigma, edges):
    """P(cell) of N(mean, sigma^2), the tails in the outer cells."""
    inner = norm.cdf(edges[1:-1], mean, sigma)
    return np.diff(np.concatenate([[0], inner, [1]]))


def bracket(model, eps, cell):
    """A lower and an upper bound on L* from cells of width `cell`, a divisor of 2 eps.

    Any two points of cells i, j are within 2 eps if |i - j| < k, and none are if |i - j| > k, with
    k = 2 eps / cell (the cells are half open). The upper one holds all classifiers whose cuts lie
    on edges of cells, so it is too large by the square of the cell only.
    """
    edges = np.arange(-9, 9 + cell / 2, cell)
    k = round(2 * eps / cell)
    weights = [
        p * masses(m, s, edges) for p, m, s in zip(model.prior, model.mu, model.sigma, strict=True)
    ]
    index = np.arange(len(edges) - 1)
    apart = np.abs(index[:, None] - index)
    return [least_risk(weights, np.nonzero(near)) for near in (apart < k, apart <= k)]


@pytest.mark.claim("17.6.3", "the optimal classifier is a constant, a threshold or an interval")
@pytest.mark.parametrize("eps", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_no_classifier_on_a_grid_beats_the_formula(name, eps):
    low, high = bracket(MODELS[name], eps, 0.125)
    found = optimal_risk(MODELS[name], eps)
    solver = 1e-6
    assert low - solver <= found <= high + solver
    assert found == pytest.approx(high, abs=4e-4)


def test_a_finer_grid_agrees_to_five_digits():
    assert optimal_risk(WIDER, 0.5) == pytest.approx(bracket(WIDER, 0.5, 0.05)[1], abs=1e-5)


@pytest.mark.parametrize("eps", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("name", MODELS)
def test_sampled_errors_have_the_frequency_that_the_risk_says(name, eps, rng):
    model = MODELS[name]
    x, y = sample(model, 200_000, rng)
    for h in [optimal_classifier(model, eps), LineClassifier((-1.0, 0.5, 2.8, 4.0), 1)]:
        risk = h.risk(model, eps)
        frequency = h.errs(x, y, eps).double().mean().item()
        assert abs(frequency - risk) < 5 * math.sqrt(risk * (1 - risk) / len(x)) + 1e-9


@pytest.mark.parametrize("sigma", [1e-6, 1e-8, 1e-9, 1e-12])
def test_a_class_that_is_nearly_a_point_is_kept(sigma):
    """Class 0 at -1 up to sigma: class 1 loses what lies within 2 eps of it, class 0 nothing."""
    eps, model = 0.1, TwoGaussians(mu=(-1.0, 1.0), sigma=(sigma, 1.0))
    known = (norm.cdf(-1 + 2 * eps, 1) - norm.cdf(-1 - 2 * eps, 1)) / 2
    assert optimal_risk(model, eps) == pytest.approx(known, abs=10 * sigma + 1e-12)


def test_numbers_of_any_size_have_a_risk():
    assert optimal_risk(EVEN, 1e300) == optimal_risk(WIDER, 1e300) == 0.5
    far = TwoGaussians(mu=(-1e200, 1e200), sigma=(1.0, 2.0))
    assert optimal_risk(far, 1.0) == 0 and optimal_risk(far, 1e200) == 0.5


# -- classifiers on the line ---------------------------------------------------------------------


def test_pieces_of_a_classifier_by_hand():
    h = LineClassifier((0.0, 1.0), 1)
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 1.5])
    assert h.predict(x).tolist() == [1, 1, 0, 0, 1]  # a cut belongs to its left
    assert h.unsafe(0, 0.25) == [(-math.inf, 0.25), (0.75, math.inf)]
    assert h.unsafe(1, 0.25) == [(-0.25, 1.25)]
    assert h.unsafe(0, 0.5) == [(-math.inf, math.inf)]  # the piece is too short for anyone
    assert [LineClassifier(tuple(range(n))).kind for n in range(4)] == [
        "constant",
        "threshold",
        "interval",
        "3 cuts",
    ]


def test_errs_is_the_search_over_all_perturbed_points(rng):
    h = LineClassifier((-1.0, 0.2, 0.5, 2.0), 1)
    x, y = sample(EVEN, 500, rng)
    near = x[:, None] + torch.linspace(-0.3, 0.3, 2001, dtype=x.dtype)
    wrong = (h.predict(near.flatten()).view(near.shape) != y[:, None]).any(1)
    assert torch.equal(h.errs(x, y, 0.3), wrong)


@given(
    models, budgets, st.lists(st.floats(-4, 4), max_size=4, unique=True), st.sampled_from([0, 1])
)
def test_no_other_classifier_is_better(model, eps, cuts, left):
    other = LineClassifier(tuple(sorted(cuts)), left).risk(model, eps)
    assert optimal_risk(model, eps) <= other + 1e-12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1.0, 1.0),), r"cuts must be finite and increase, got \(1.0, 1.0\)"),
        (((math.inf,),), "cuts must be finite and increase"),
        (((0.0,), 2), "left must be class 0 or 1, got 2"),
    ],
)
def test_a_classifier_that_is_none_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LineClassifier(*arguments)


# -- equal variances -----------------------------------------------------------------------------


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.2, 3), budgets)
@pytest.mark.claim("17.6.3", "the risk is the error of classes 2 eps closer, and at most 1/2")
def test_equal_priors_and_variances_have_the_closed_form(mu0, mu1, sigma, eps):
    model = TwoGaussians(mu=(mu0, mu1), sigma=(sigma, sigma))
    gap = abs(mu1 - mu0)
    truth = min(0.5, norm.cdf((2 * eps - gap) / (2 * sigma)))
    assert optimal_risk(model, eps) == pytest.approx(truth, abs=1e-12)
    reach = max(gap - 2 * eps, 0) / (2 * sigma)
    assert divergence(model, eps) == pytest.approx(2 * norm.cdf(reach) - 1, abs=1e-12)


@pytest.mark.claim("17.6.3", "the midpoint is the optimal threshold for eps < (mu1 - mu0)/2")
@pytest.mark.parametrize("eps", [0.0, 0.3, 0.9, 0.999])
def test_the_midpoint_is_optimal_while_the_means_stay_apart(eps):
    model = TwoGaussians(mu=(1.0, 3.0), sigma=(0.7, 0.7))
    h = optimal_classifier(model, eps)
    assert h.kind == "threshold" and h.left == 0
    assert h.cuts[0] == pytest.approx(2.0, abs=1e-12)
    assert h.risk(model, eps) == pytest.approx(norm.cdf((eps - 1) / 0.7), abs=1e-15)


@pytest.mark.claim("17.6.3", "beyond eps = (mu1 - mu0)/2 the printed risk is wrong: it is 1/2")
def test_the_printed_formula_fails_when_the_adversary_bridges_the_means():
    printed = norm.cdf((1.5 - (1.0 - -1.0) / 2) / 1.0)
    midpoint = LineClassifier((0.0,))
    assert midpoint.risk(EVEN, 1.5) == pytest.approx(printed, abs=1e-15)
    assert printed == pytest.approx(0.69146, abs=5e-6)
    assert optimal_risk(EVEN, 1.5) == 0.5
    assert optimal_classifier(EVEN, 1.5).kind == "constant"


@pytest.mark.claim(
    "17.6.3", "setting the derivative to zero finds a maximum once eps > (mu1-mu0)/2"
)
@pytest.mark.parametrize(("eps", "sign"), [(0.5, 1), (0.99, 1), (1.01, -1), (1.5, -1)])
def test_the_second_derivative_at_the_midpoint_changes_sign(eps, sign):
    t = 1e-3
    left, middle, right = (LineClassifier((at,)).risk(EVEN, eps) for at in (-t, 0.0, t))
    assert left == pytest.approx(right, abs=1e-15)  # stationary, on both sides of the border
    assert sign * (left - 2 * middle + right) > 0
    closed = (1 - eps) * norm.pdf(1 - eps)  # (Delta/2 - eps)/sigma^3 phi((Delta/2 - eps)/sigma)
    assert (left - 2 * middle + right) / t**2 == pytest.approx(closed, rel=1e-3)


@pytest.mark.claim("17.6.3", "with unequal priors the optimal threshold moves with eps")
@pytest.mark.parametrize(
    ("eps", "threshold"), [(0.0, 0.4236), (0.3, 0.6052), (0.6, 1.0591), (0.9, 4.2365)]
)
def test_unequal_priors_move_the_threshold(eps, threshold):
    (cut,) = optimal_classifier(UNEVEN, eps).cuts
    assert cut == pytest.approx(threshold, abs=5e-5)
    assert cut == pytest.approx(math.log(7 / 3) / (2 - 2 * eps), rel=1e-12)


@pytest.mark.parametrize("eps", [1.0, 1.5, 4.0])
def test_with_the_means_bridged_the_rarer_class_is_given_up(eps):
    assert optimal_classifier(UNEVEN, eps) == LineClassifier((), 0)
    assert optimal_risk(UNEVEN, eps) == 0.3


@pytest.mark.claim("17.6.2", "the benign risk is a lower bound on the optimal adversarial risk")
@given(models, budgets, budgets)
def test_the_risk_grows_with_eps_from_bayes_to_the_smaller_prior(model, eps, more):
    low, high = sorted((eps, eps + more))
    risks = [optimal_risk(model, e) for e in (0.0, low, high)]
    assert risks == sorted(risks)
    assert risks[-1] <= min(model.prior)
    assert optimal_risk(model, 100.0) == min(model.prior)


@pytest.mark.claim("17.6.2", "the inequality need not be strict where neighbourhoods overlap")
def test_overlap_need_not_cost_anything():
    same = TwoGaussians(mu=(0.0, 0.0))
    assert [optimal_risk(same, eps) for eps in (0.0, 0.5, 2.0)] == [0.5] * 3
    rare = TwoGaussians(mu=(0.0, 1.0), sigma=(1.0, 2.0), prior=(0.1, 0.9))
    assert [optimal_risk(rare, eps) for eps in (0.0, 1.0)] == [0.1, 0.1]


@pytest.mark.parametrize("name", ["even", "uneven", "wider"])
@pytest.mark.claim("17.6.2", "for Gaussians the inequality is strict until a constant is optimal")
def test_before_the_cap_the_inequality_is_strict(name):
    risks = np.array([optimal_risk(MODELS[name], eps) for eps in np.linspace(0, 3, 61)])
    free = risks < min(MODELS[name].prior)
    assert (np.diff(risks)[free[1:]] > 0).all()
    assert (risks[~free] == min(MODELS[name].prior)).all() and free[0]


@given(models)
@pytest.mark.claim("17.6.3", "without an adversary the optimal risk is the Bayes error")
def test_without_an_adversary_it_is_the_bayes_risk(model):
    x = np.linspace(-15, 15, 6001)
    joint = [
        p * norm.pdf(x, m, s) for p, m, s in zip(model.prior, model.mu, model.sigma, strict=True)
    ]
    assert optimal_risk(model, 0.0) == pytest.approx(np.trapezoid(np.minimum(*joint), x), abs=1e-5)


# -- unequal variances ---------------------------------------------------------------------------


@pytest.mark.claim(
    "17.6.3", "with unequal variances the narrower class is predicted on an interval"
)
@pytest.mark.parametrize(
    ("eps", "risk"), [(0.0, 0.30497), (0.25, 0.36677), (0.5, 0.41630), (1.0, 0.47736)]
)
def test_the_interval_classifier(eps, risk):
    h = optimal_classifier(WIDER, eps)
    assert h.kind == "interval" and h.left == 1
    assert h.risk(WIDER, eps) == pytest.approx(risk, abs=6e-6)
    a, b = h.cuts
    for end, (m0, m1) in ((a, (-eps, 1 + eps)), (b, (eps, 1 - eps))):
        odds = (end - m1) ** 2 / 4 - (end - m0) ** 2 + 2 * math.log(2)
        assert odds == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("eps", [0.0, 0.25, 1.0])
def test_the_ends_are_where_a_search_finds_them(eps):
    found = minimize(
        lambda ends: (
            LineClassifier((ends[0], ends[1]), 1).risk(WIDER, eps) if ends[0] < ends[1] else 1
        ),
        [-2.0, 2.0],
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-15, "maxiter": 2000},
    )
    assert optimal_classifier(WIDER, eps).cuts == pytest.approx(found.x, abs=1e-4)
    assert optimal_risk(WIDER, eps) == pytest.approx(found.fun, abs=1e-12)


@given(models, budgets)
def test_naming_the_classes_the_other_way_round_changes_nothing(model, eps):
    swapped = TwoGaussians(mu=model.mu[::-1], sigma=model.sigma[::-1], prior=model.prior[::-1])
    assert optimal_risk(swapped, eps) == pytest.approx(optimal_risk(model, eps), abs=1e-12)


@given(models, budgets, st.floats(-2, 2), st.sampled_from([-2.0, -0.5, 0.5, 3.0]))
def test_the_units_and_the_direction_of_the_axis_do_not_matter(model, eps, shift, scale):
    mu0, mu1 = (scale * m + shift for m in model.mu)
    sigma0, sigma1 = (abs(scale) * s for s in model.sigma)
    moved = replace(model, mu=(mu0, mu1), sigma=(sigma0, sigma1))
    assert optimal_risk(moved, abs(scale) * eps) == pytest.approx(
        optimal_risk(model, eps), abs=1e-10
    )


@pytest.mark.parametrize("eps", [0.0, 0.4, 1.0, 1.3])
@pytest.mark.parametrize("prior", [0.5, 0.7])
def test_risk_is_continuous_where_the_variances_become_equal(eps, prior):
    base = TwoGaussians(mu=(-1.0, 1.0), prior=(prior, 1 - prior))
    risks = [optimal_risk(replace(base, sigma=(1.0, s)), eps) for s in (1 - 1e-9, 1.0, 1 + 1e-9)]
    assert risks == pytest.approx([risks[1]] * 3, abs=1e-7)


@given(models, budgets)
def test_risk_is_continuous_in_eps(model, eps):
    # one more step of the adversary moves two cuts by it for either class: at most 2 of density
    steepest = 2 * sum(
        p / (s * math.sqrt(2 * math.pi)) for p, s in zip(model.prior, model.sigma, strict=True)
    )
    step = 1e-6
    rise = optimal_risk(model, eps + step) - optimal_risk(model, eps)
    assert -1e-12 <= rise <= steepest * step + 1e-12


@pytest.mark.claim("17.6.5", "at equal priors the least risk is (1 - D_N)/2")
def test_divergence_ignores_the_priors_and_halves_the_risk():
    assert divergence(UNEVEN, 0.4) == divergence(EVEN, 0.4)
    assert optimal_risk(WIDER, 0.5) == pytest.approx((1 - divergence(WIDER, 0.5)) / 2)


def test_divergence_is_the_cost_of_a_transport_plan_on_quantiles():
    # two samples of n quantiles: cost 1 on pairs further than 2 eps, solved as an assignment
    from scipy.optimize import linear_sum_assignment

    n, eps = 400, 0.3
    at = (np.arange(n) + 0.5) / n
    far = np.abs(norm.ppf(at, -1)[:, None] - norm.ppf(at, 1)) > 2 * eps
    cost = far[linear_sum_assignment(far)].mean()
    assert divergence(EVEN, eps) == pytest.approx(cost, abs=2 / n)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mu": (0.0, math.nan)}, "mu must be two finite numbers"),
        ({"sigma": (1.0, 0.0)}, r"sigma must be positive standard deviations, got \(1.0, 0.0\)"),
        ({"sigma": (1.0, -2.0)}, "sigma must be positive"),
        ({"prior": (0.5, 0.6)}, r"prior must sum to one, got 1.1"),
        ({"prior": (1.0, 0.0)}, "prior must be two positive numbers, one a class"),
        ({"prior": (1.5, -0.5)}, "prior must be two positive numbers"),
    ],
)
def test_a_model_that_is_none_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(EVEN, **changes)


@pytest.mark.parametrize("eps", [-0.1, math.inf, math.nan])
def test_a_budget_that_is_none_is_refused(eps):
    for use in (optimal_classifier, optimal_risk, divergence, LineClassifier((0.0,)).risk):
        with pytest.raises(ValueError, match="eps must be finite and >= 0"):
            use(*([EVEN, eps]))


# -- R^d -----------------------------------------------------------------------------------------


def threat(norm, eps):
    return ThreatModel(norm=norm, eps=eps, box=None)


def shared(d, rng, prior=(0.5, 0.5)):
    """Random means and a covariance with condition number around 100."""
    root = torch.randn(d, d, generator=rng, dtype=torch.float64)
    mu0, mu1 = torch.randn(2, d, generator=rng, dtype=torch.float64)
    cov = root @ root.T / d + 0.05 * torch.eye(d, dtype=torch.float64)
    return SharedCovariance(mu0=mu0, mu1=mu1, cov=cov, prior=prior)


@pytest.mark.claim("17.6.3", "in R^d the least risk is Phi(-alpha), alpha a convex program")
@pytest.mark.parametrize("norm_name", ["linf", "l2"])
@pytest.mark.parametrize("d", [1, 2, 5, 30])
@pytest.mark.parametrize("eps", [0.0, 0.02, 0.2, 0.5])
def test_the_duality_gap_closes(norm_name, d, eps, rng):
    model = shared(d, rng)
    solved = contract(model, threat(norm_name, eps))
    assert 0 <= solved.gap + 1e-12 <= 1e-9 * (1 + solved.primal)
    zero = torch.zeros(1, d, dtype=torch.float64)
    assert threat(norm_name, eps).distance(zero, solved.z[None]) <= eps * (1 + 1e-12)
    best = optimal_linear(model, threat(norm_name, eps))
    assert best.risk(model, threat(norm_name, eps)) == pytest.approx(
        norm.cdf(-solved.primal), abs=1e-10
    )


@pytest.mark.parametrize("norm_name", ["linf", "l2"])
def test_the_program_agrees_with_a_general_solver(norm_name, rng):
    model, eps = shared(4, rng), 0.3
    mu, cov = ((model.mu1 - model.mu0) / 2).numpy(), model.cov.numpy()
    inverse = np.linalg.inv(cov)
    limits = {"bounds": [(-eps, eps)] * 4}
    if norm_name == "l2":
        limits = {"constraints": {"type": "ineq", "fun": lambda z: eps**2 - z @ z}}
    found = minimize(
        lambda z: (mu - z) @ inverse @ (mu - z),
        np.zeros(4),
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
        **limits,
    )
    solved = contract(model, threat(norm_name, eps))
    assert solved.primal == pytest.approx(math.sqrt(found.fun), abs=1e-6)
    assert solved.z.numpy() == pytest.approx(found.x, abs=1e-4)


@pytest.mark.parametrize("eps", [0.0, 0.3, 0.7, 3.0])
def test_linf_solution_satisfies_the_kkt_conditions(eps, rng):
    solved = contract(shared(8, rng), threat("linf", eps))
    # the gradient of the objective at z is -2w: it may only push outwards, and only at a wall
    free = solved.z.abs() < eps - 1e-9
    assert solved.w[free].abs().max() < 1e-9 if free.any() else True
    assert (solved.w[~free] * solved.z[~free].sign() >= -1e-9).all() or eps == 0


def test_l2_solution_satisfies_the_kkt_conditions(rng):
    solved = contract(shared(8, rng), threat("l2", 0.4))
    # w = m z with a multiplier m > 0
    cosine = solved.w @ solved.z / solved.w.norm() / solved.z.norm()
    assert cosine.item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.5, 0.8])
@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.7, 0.3)])
def test_in_one_dimension_both_norms_are_the_univariate_model(eps, prior):
    one = torch.ones(1, dtype=torch.float64)
    model = SharedCovariance(mu0=-0.6 * one, mu1=1.2 * one, cov=0.49 * one[None], prior=prior)
    line = TwoGaussians(mu=(-0.6, 1.2), sigma=(0.7, 0.7), prior=prior)
    (cut,) = optimal_classifier(line, eps).cuts
    for name in ("linf", "l2"):
        h = optimal_linear(model, threat(name, eps))
        assert h.c / h.w.item() == pytest.approx(cut, rel=1e-12)
        assert h.risk(model, threat(name, eps)) == pytest.approx(optimal_risk(line, eps), abs=1e-12)


@given(
    st.lists(st.integers(-200, 200), min_size=1, max_size=6),
    st.floats(0.3, 3),
    st.integers(0, 250),
)
@settings(max_examples=50)
def test_isotropic_closed_forms(percent, sigma, budget):
    mu, eps = torch.tensor(percent, dtype=torch.float64) / 100, budget / 100
    model = SharedCovariance(mu0=-mu, mu1=mu, cov=sigma**2 * torch.eye(len(mu)).double())
    closed = {
        "l2": max(mu.norm().item() - eps, 0) / sigma,
        "linf": (mu.abs() - eps).clamp(min=0).norm().item() / sigma,
    }
    for name, alpha in closed.items():
        assert isotropic_alpha(mu, sigma, threat(name, eps)) == pytest.approx(alpha, abs=1e-9)
        assert contract(model, threat(name, eps)).primal == pytest.approx(alpha, abs=1e-9)


@pytest.mark.parametrize("norm_name", ["linf", "l2"])
@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.8, 0.2)])
def test_sampled_errors_of_the_linear_classifier(norm_name, prior, rng):
    model, ball = shared(3, rng, prior), threat(norm_name, 0.2)
    h = optimal_linear(model, ball)
    y = (torch.rand(200_000, generator=rng, dtype=torch.float64) < prior[1]).long()
    noise = torch.randn(len(y), 3, generator=rng, dtype=torch.float64)
    x = torch.stack([model.mu0, model.mu1])[y] + noise @ torch.linalg.cholesky(model.cov).T
    risk = h.risk(model, ball)
    assert h.errs(x, y, ball).double().mean().item() == pytest.approx(risk, abs=0.004)
    # the worst point is x moved by eps against the label along the steepest direction of w
    worst = x + 0.2 * ball.steepest((1 - 2 * y)[:, None] * h.w)
    assert torch.equal(h.predict(worst) != y, h.errs(x, y, ball))


@pytest.mark.parametrize("norm_name", ["linf", "l2"])
def test_no_other_linear_classifier_is_better(norm_name, rng):
    model, ball = shared(3, rng, (0.6, 0.4)), threat(norm_name, 0.2)
    best = optimal_linear(model, ball)
    least = best.risk(model, ball)
    for _ in range(200):
        step = 0.3 * torch.randn(3, generator=rng, dtype=torch.float64)
        shift = 0.3 * torch.randn(1, generator=rng).item()
        assert LinearClassifier(best.w + step, best.c + shift).risk(model, ball) >= least - 1e-12


@pytest.mark.claim("17.6.3", "in R^d no classifier, linear or not, beats the linear one")
@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.65, 0.35)])
def test_no_classifier_on_a_grid_in_the_plane_beats_the_linear_one(prior):
    eps, cell = 0.5, 0.25  # as in `bracket`, for squares
    side = np.arange(-4, 4 + cell / 2, cell)
    cov = torch.tensor([[1.0, 0.0], [0.0, 0.36]], dtype=torch.float64)
    mu = torch.tensor([0.9, 0.7], dtype=torch.float64)
    model = SharedCovariance(mu0=-mu, mu1=mu, cov=cov, prior=prior)
    weights = [
        p * np.outer(masses(s * 0.9, 1, side), masses(s * 0.7, 0.6, side)).ravel()
        for p, s in zip(prior, (-1, 1), strict=True)
    ]
    cells = np.stack(np.meshgrid(*[np.arange(len(side) - 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    apart, k = np.abs(cells[:, None] - cells).max(-1), round(2 * eps / cell)
    low, high = (least_risk(weights, np.nonzero(near)) for near in (apart < k, apart <= k))
    ball = threat("linf", eps)
    found = optimal_linear(model, ball).risk(model, ball)
    assert low <= found <= high
    assert found == pytest.approx(high, abs=1e-3)


@pytest.mark.claim("17.6.3", "the optimal w turns with eps: robust and benign boundary differ")
@pytest.mark.parametrize("norm_name", ["linf", "l2"])
def test_the_direction_turns_with_eps_unless_the_ball_is_the_covariance(norm_name, rng):
    model = shared(3, rng)
    angle = contract(model, threat(norm_name, 0.0)).w, contract(model, threat(norm_name, 0.2)).w
    assert torch.cosine_similarity(*angle, dim=0) < 0.999
    round_model = replace(model, cov=torch.eye(3, dtype=torch.float64))
    angle = [contract(round_model, threat("l2", eps)).w for eps in (0.0, 0.2)]
    assert torch.cosine_similarity(*angle, dim=0).item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("norm_name", ["linf", "l2"])
@pytest.mark.parametrize("prior", [(0.7, 0.3), (0.3, 0.7)])
def test_bridged_means_leave_a_constant(norm_name, prior, rng):
    model, ball = shared(3, rng, prior), threat(norm_name, 50.0)
    h = optimal_linear(model, ball)
    assert h.risk(model, ball) == min(prior)
    assert h.predict(torch.zeros(4, 3)).tolist() == [int(prior[1] > prior[0])] * 4
    assert contract(model, ball).gap == 0


def test_a_covariance_that_is_none_is_refused(unchecked):
    zero, eye = torch.zeros(2), torch.eye(2)
    for cov, message in [
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "positive definite, got smallest eigenvalue -1"),
        (torch.tensor([[1.0, 0.5], [0.0, 1.0]]), "symmetric: False"),
        (torch.eye(3), r"shapes \(d,\), \(d,\), \(d, d\), got \(2,\), \(2,\), \(3, 3\)"),
        (eye * math.nan, "cov must be finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            SharedCovariance(mu0=zero, mu1=zero + 1, cov=cov)
    with pytest.raises(ValueError, match="prior must sum to one"):
        SharedCovariance(mu0=zero, mu1=zero + 1, cov=eye, prior=(0.2, 0.2))


def test_threats_without_a_program_are_refused():
    zero = torch.zeros(2)
    model = SharedCovariance(mu0=zero, mu1=zero + 1, cov=torch.eye(2))
    with pytest.raises(ValueError, match=r"norm must be one of \['l2', 'linf'\], got 'l1'"):
        contract(model, threat("l1", 0.1))
    with pytest.raises(ValueError, match=r"box must be None: .* got \(0.0, 1.0\)"):
        optimal_linear(model, ThreatModel(norm="l2", eps=0.1))
    with pytest.raises(ValueError, match="sigma must be finite and > 0, got 0"):
        isotropic_alpha(zero + 1, 0.0, threat("l2", 0.1))


# -- learning from a sample ----------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.25, 1.0, 2.0]),
)
def test_the_minimiser_of_the_empirical_risk_is_one(points, eps):
    x = torch.tensor([float(a) for a, _ in points], dtype=torch.float64)
    y = torch.tensor([int(b) for _, b in points])
    found = erm_threshold(x, y, eps).errs(x, y, eps).sum()
    t = torch.arange(-10, 10.01, 0.125, dtype=torch.float64)[:, None]  # at the ends constant
    errors = torch.where(y == 0, x + eps > t, x - eps <= t).sum(1)
    assert found == errors.min()


def test_a_clear_gap_is_cut_in_its_middle():
    x, y = torch.tensor([-3.0, -1.0, 2.0, 5.0], dtype=torch.float64), torch.tensor([0, 0, 1, 1])
    assert erm_threshold(x, y, 0.5).cuts == (0.5,)


def test_a_sample_has_the_moments_of_the_model(rng):
    model = MODELS["class 1 narrower"]
    fitted = fit_gaussians(*sample(model, 200_000, rng))
    for name in ("mu", "sigma", "prior"):
        assert getattr(fitted, name) == pytest.approx(getattr(model, name), abs=0.02)


def test_the_fit_by_hand():
    x, y = torch.tensor([0.0, 2.0, 10.0, 16.0, 10.0, 16.0]), torch.tensor([0, 0, 1, 1, 1, 1])
    fitted = fit_gaussians(x, y)
    assert (fitted.mu, fitted.sigma) == ((1.0, 13.0), (1.0, 3.0))
    assert fitted.prior == pytest.approx((1 / 3, 2 / 3))
    pooled = fit_gaussians(x, y, equal_sigma=True)
    assert pooled.sigma == pytest.approx([math.sqrt((1 + 2 * 9) / 3)] * 2)


@pytest.mark.claim("17.6.1", "the excess risk vanishes with the sample, the optimal risk stays")
def test_excess_and_gap_shrink_and_the_optimal_risk_stays(rng):
    few, many = (
        list(learning_curve("plug-in, equal sigma", EVEN, 0.4, n=n, repeats=60, rng=rng))
        for n in (30, 3000)
    )
    excess = [np.mean([q.excess for q in part]) for part in (few, many)]
    gap = [np.mean([abs(q.generalization_gap) for q in part]) for part in (few, many)]
    assert excess[1] < excess[0] / 30 and excess[1] < 1e-3  # 1/n; the exact risk is smooth at h*
    assert gap[1] < gap[0] / 5  # 1/sqrt(n)
    assert {q.optimal for q in few + many} == {optimal_risk(EVEN, 0.4)}
    assert all(q.excess >= 0 for q in few + many)


@pytest.mark.claim("17.6.1", "the optimal risk is intrinsic only over all measurable classifiers")
def test_over_thresholds_alone_the_infimum_is_higher(rng):
    best = min(LineClassifier((t,)).risk(WIDER, 0.25) for t in np.linspace(-6, 6, 2401).tolist())
    best = min(best, *WIDER.prior)
    approximation = best - optimal_risk(WIDER, 0.25)
    assert approximation > 0.005
    for q in learning_curve("erm", WIDER, 0.25, n=20_000, repeats=5, rng=rng):
        assert approximation - 1e-6 <= q.excess < approximation + 0.005


@pytest.mark.claim(
    "17.6.1", "the empirical minimiser flatters itself: its gap is positive on average"
)
def test_the_empirical_minimiser_flatters_itself(rng):
    found = list(learning_curve("erm", EVEN, 0.3, n=40, repeats=200, rng=rng))
    assert np.mean([q.generalization_gap for q in found]) > 0.02


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_finds_the_optimum_of_a_large_sample(learner, rng):
    (found,) = learning_curve(learner, EVEN, 0.3, n=100_000, repeats=1, rng=rng)
    assert 0 <= found.excess < 1e-3
    assert abs(found.generalization_gap) < 0.01


def test_the_quantities_of_a_classifier_by_hand():
    x, y = torch.tensor([-1.0, 0.2, 1.0], dtype=torch.float64), torch.tensor([0, 0, 1])
    found = quantities(LineClassifier((0.0,)), x, y, EVEN, 0.5)
    assert found.empirical == pytest.approx(1 / 3)
    assert found.risk == found.optimal == pytest.approx(norm.cdf(-0.5))
    assert found.generalization_gap == pytest.approx(norm.cdf(-0.5) - 1 / 3)


def test_samples_that_are_none_are_refused(unchecked):
    x, y = torch.tensor([0.0, 1.0]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="class 0 needs two different values, got"):
        fit_gaussians(x, y)
    with pytest.raises(ValueError, match="one length > 0, got 2 and 1"):
        erm_threshold(x, y[:1], 0.1)
    with pytest.raises(ValueError, match="one length > 0, got 0 and 0"):
        erm_threshold(x[:0], y[:0], 0.1)
    with pytest.raises(ValueError, match="x must be finite, got 1 NaN or inf"):
        erm_threshold(torch.tensor([0.0, math.nan]), y, 0.1)
    with pytest.raises(ValueError, match=r"y must hold classes 0 and 1, got \[1, 2\]"):
        erm_threshold(x, y + 1, 0.1)
    with pytest.raises(ValueError, match="eps must be finite"):
        erm_threshold(x, y, -1.0)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        sample(EVEN, 0)
    with pytest.raises(
        ValueError, match=r"learner must be one of \['erm', 'plug-in', .* got 'svm'"
    ):
        next(learning_curve("svm", EVEN, 0.1, n=10, repeats=1))

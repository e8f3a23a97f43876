"""Barycenters and multimarginal costs: the line, Gaussians, electrons, grids, free masses."""

from itertools import combinations, product

import numpy as np
import ot
import pytest
import torch
from scipy.stats import norm

from adversarial_lab.barycenter import (
    by_subsets,
    comonotone,
    comotion,
    cost_between,
    coulomb,
    energy,
    entropic,
    fixed_point,
    fixed_support,
    free_mass,
    gaussian_barycenter,
    mean_place,
    meeting_cost,
    pairwise_cost,
    quantile_average,
    squared_price,
    strictly_correlated,
)
from adversarial_lab.barycenter.costs import distances
from adversarial_lab.barycenter.entropic import axis_cost, smooth
from adversarial_lab.barycenter.gaussians import root, squared_distance
from adversarial_lab.barycenter.seidl import tiles
from adversarial_lab.multimarginal import enumerated, meeting_places, play
from adversarial_lab.multimarginal.coupling import couple
from adversarial_lab.multimarginal.sinkhorn import scaling
from adversarial_lab.threat import ThreatModel
from adversarial_lab.transport import conflicts

LAM = np.array([0.2, 0.5, 0.3])


def on_a_line(seed, sizes=(5, 7, 6)):
    """Points in ascending order and masses that sum to one, for each measure."""
    rng = np.random.default_rng(seed)
    points = [np.sort(rng.normal(size=n)) for n in sizes]
    return points, [rng.dirichlet(np.ones(n)) for n in sizes]


def columns(points):
    return [p[:, None] for p in points]


def in_a_plane(seed, sizes=(3, 4, 3)):
    rng = np.random.default_rng(seed)
    points = [rng.normal(size=(n, 2)) for n in sizes]
    return points, [rng.dirichlet(np.ones(n)) for n in sizes]


def marginals_of(pi):
    axes = range(pi.ndim)
    return [pi.sum(tuple(a for a in axes if a != k)) for k in axes]


# -- couplings of several measures ---------------------------------------------------------------


def test_two_marginals_are_ordinary_transport():
    points, masses = in_a_plane(0, (6, 8))
    cost = distances(*points)
    solution = couple(cost, masses)
    assert solution.value == pytest.approx(ot.emd2(*masses, cost), abs=1e-9)


def test_a_coupling_and_its_potentials_prove_each_other():
    points, masses = in_a_plane(1)
    table = pairwise_cost(points, np.sqrt)
    solution = couple(table, [3 * m for m in masses])
    for found, side in zip(marginals_of(solution.pi), masses, strict=True):
        assert found == pytest.approx(3 * side, abs=1e-9)
    slack = table - sum(np.ix_(*solution.phi))
    assert slack.min() > -1e-9 and np.abs(slack[solution.pi > 1e-12]).max() < 1e-9
    dual = 3 * sum(m @ phi for m, phi in zip(masses, solution.phi, strict=True))
    assert dual == pytest.approx(solution.value, abs=1e-9)
    assert solution.value == pytest.approx((solution.pi * table).sum(), abs=1e-9)


def test_the_costs_are_the_sums_they_say():
    points, _ = in_a_plane(2)
    table, weighted = pairwise_cost(points, np.exp), pairwise_cost(points, np.square, LAM)
    mean = mean_place(points, LAM)
    for t in product(*map(range, table.shape)):
        z = np.stack([p[i] for p, i in zip(points, t, strict=True)])
        r = [np.linalg.norm(z[i] - z[j]) for i, j in combinations(range(3), 2)]
        assert table[t] == pytest.approx(np.exp(r).sum())
        assert mean[t] == pytest.approx(LAM @ z)
        # pairs of weighted squares are the cost of a meeting at the mean
        assert weighted[t] == pytest.approx(LAM @ ((z - LAM @ z) ** 2).sum(1))


def test_the_meeting_cost_takes_the_cheapest_place():
    costs = [np.array([[1.0, np.inf], [0.0, 5.0]]), np.array([[2.0, 0.0]])]
    table, where = meeting_cost(costs)
    assert table.tolist() == [[3.0], [2.0]] and where.tolist() == [[0], [0]]
    table, where = meeting_cost(costs, np.array([0.1, 0.9]))
    assert table == pytest.approx(np.array([[1.9], [0.5]]))
    assert where.tolist() == [[0], [1]]
    table, _ = meeting_cost([np.array([[0.0, np.inf]]), np.array([[np.inf, 0.0]])])
    assert table == np.inf


def test_a_forbidden_way_is_forbidden_at_weight_zero():
    costs = [np.array([[np.inf, 1.0]]), np.array([[0.0, 2.0]])]
    lam, ones = np.array([0.0, 1.0]), [np.ones(1)] * 2
    assert meeting_cost(costs, lam)[0].item() == 2
    assert fixed_support(costs, ones, lam).value == pytest.approx(2)
    table = pairwise_cost([np.zeros((1, 1))] * 2, coulomb, lam)
    assert table.item() == np.inf


def test_sinkhorn_of_two_marginals_is_that_of_a_second_solver():
    points, masses = in_a_plane(3, (6, 5))
    cost = distances(*points)
    *_, last = scaling(cost, masses, eta=0.1, tolerance=1e-12, steps=5000)
    assert last.pi == pytest.approx(ot.sinkhorn(*masses, cost, 0.1, stopThr=1e-13), abs=1e-9)
    assert last.value == pytest.approx((last.pi * cost).sum())


@pytest.mark.claim("lecture", "(MOT) for a general cost: exact and entropic solvers agree")
def test_sinkhorn_comes_down_to_the_linear_program():
    x, masses = np.linspace(0, 1, 7), np.random.default_rng(4).dirichlet(np.full(7, 5.0))
    masses[3], masses[0] = 0, masses[0] + masses[3] / 2  # a point without mass
    masses = masses / masses.sum()
    table = pairwise_cost([x[:, None]] * 3, coulomb)
    exact = couple(table, [masses] * 3).value
    values = []
    for eta in (1.0, 0.3, 0.1):
        *_, last = scaling(table, [masses] * 3, eta=eta, steps=4000, tolerance=1e-7)
        for found in marginals_of(last.pi):
            assert found == pytest.approx(masses, abs=1e-6)
        values.append(last.value)
    assert values[0] > values[1] > values[2] > exact - 1e-9
    assert values[2] == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("eta", [1e-3, 1e-5])
def test_a_small_eta_does_not_overflow(eta):
    table = np.array([[0.0, 30.0], [40.0, 1.0]])
    *_, last = scaling(table, [np.array([0.4, 0.6])] * 2, eta=eta, steps=10)
    assert last.pi == pytest.approx(np.diag([0.4, 0.6]), abs=1e-12)


# -- electrons -----------------------------------------------------------------------------------


def uniform_energy(k):
    """Neighbours at distance 1/k on a unit interval: k of them less one, and so on."""
    return k * sum((k - d) / d for d in range(1, k))


@pytest.mark.claim("lecture", "density functional theory: Seidl's co-motion functions solve MOT")
@pytest.mark.parametrize("k", [2, 3, 4])
def test_electrons_of_a_uniform_density(k):
    n = {2: 24, 3: 12, 4: 8}[k]
    x, masses = (np.arange(n) + 0.5) / n, np.full(n, 1 / n)
    exact = couple(pairwise_cost([x[:, None]] * k, coulomb), [masses] * k).value
    assert exact == pytest.approx(uniform_energy(k), rel=1e-9)
    assert energy(x, strictly_correlated(masses, k)) == pytest.approx(uniform_energy(k), rel=1e-12)


@pytest.mark.parametrize("k, n", [(2, 25), (3, 13)])
@pytest.mark.parametrize("f", [coulomb, lambda r: np.exp(-r), lambda r: -np.sqrt(r)])
@pytest.mark.claim(
    "lecture", "density functional theory: co-motion is optimal for convex repulsion"
)
def test_seidl_is_optimal_for_convex_repulsion_and_any_atoms(k, n, f):
    rng = np.random.default_rng(n)
    x, masses = np.sort(rng.normal(size=n)), rng.dirichlet(np.full(n, 3.0))
    exact = couple(pairwise_cost([x[:, None]] * k, f), [masses] * k).value
    assert energy(x, strictly_correlated(masses, k), f) == pytest.approx(exact, rel=1e-8)


@pytest.mark.claim("lecture", "density functional theory: co-motion is not optimal for attraction")
def test_seidl_is_not_optimal_for_attraction():
    x, masses = np.linspace(0, 1, 8), np.full(8, 1 / 8)
    exact = couple(pairwise_cost([x[:, None]] * 2, np.square), [masses] * 2).value
    assert exact == pytest.approx(0, abs=1e-12)  # everybody stays together
    assert energy(x, strictly_correlated(masses, 2), np.square) > 0.1


def test_in_every_order_the_electrons_have_the_density():
    masses = np.random.default_rng(5).dirichlet(np.full(11, 4.0))
    chain = strictly_correlated(masses, 3)
    found = sum(np.bincount(row, chain.mass, minlength=11) for row in chain.index) / 3
    assert found == pytest.approx(masses, abs=1e-12)
    parts = tiles(masses, 3)
    assert parts.sum(0) == pytest.approx(masses) and parts.sum(1) == pytest.approx(1 / 3)
    assert all((np.diff(np.flatnonzero(part > 1e-12)) == 1).all() for part in parts)


def test_the_comotion_of_a_gaussian():
    x = np.linspace(-6, 6, 24001)
    maps, middle = comotion(x, norm.pdf(x), 3), np.abs(x) < 1.5
    share = norm.cdf(x)
    assert (maps[0] == pytest.approx(x, abs=1e-6)) and maps.shape == (3, len(x))
    for i in (1, 2):
        expected = norm.ppf((share + i / 3) % 1)
        inside = middle & (np.abs(expected) < 3)
        assert maps[i, inside] == pytest.approx(expected[inside], abs=1e-3)


@pytest.mark.parametrize("n", [7, 101, 560])
def test_an_electron_at_the_end_stays_there(n):
    x = np.linspace(0, 1, n)
    for density in (np.ones(n), 1 + x, np.exp(-30 * (x - 0.5) ** 2)):
        maps = comotion(x, density, 3)
        assert maps[0] == pytest.approx(x, abs=1e-9)  # F(1) = 1, not 0: row 0 is x itself
        steps = (density[1:] + density[:-1]) / 2
        shares = np.interp(maps[:, -1], x, np.append(0, np.cumsum(steps) / steps.sum()))
        assert shares == pytest.approx([1, 1 / 3, 2 / 3])


def test_the_forces_of_the_comotion_have_a_potential_that_proves_it():
    # phi' = the force at contact; phi(x) + phi(y) <= 1/|x - y| everywhere, equal at y = f(x)
    x = np.linspace(-4, 4, 4001)
    f = comotion(x, norm.pdf(x), 2)[1]
    force = -np.sign(x - f) / (x - f) ** 2
    phi = np.concatenate([[0], np.cumsum((force[1:] + force[:-1]) / 2 * np.diff(x))])
    away = (np.abs(x) > 0.05) & (np.abs(x) < 2)  # at 0, f jumps from one end to the other
    shift = (1 / np.abs(x - f) - phi - np.interp(f, x, phi))[away]
    assert np.ptp(shift) < 2e-3
    phi += shift.mean() / 2
    some = slice(None, None, 20)
    slack = coulomb(np.abs(x[some, None] - x[some])) - phi[some, None] - phi[some]
    assert slack.min() > -3e-3


@pytest.mark.claim(
    "lecture", "density functional theory: an atom heavier than 1/K makes the infimum infinite"
)
def test_a_heavy_atom_has_no_finite_energy():
    x, masses = np.array([0.0, 1.0, 2.0]), np.array([0.6, 0.3, 0.1])
    with pytest.raises(ValueError, match="no coupling"):
        couple(pairwise_cost([x[:, None]] * 2, coulomb), [masses] * 2)
    with pytest.raises(ValueError, match=r"0.6 > 1/2"):
        strictly_correlated(masses, 2)
    # at 1/2 exactly it is finite: one electron at 0, the other elsewhere
    half = np.array([0.5, 0.3, 0.2])
    exact = couple(pairwise_cost([x[:, None]] * 2, coulomb), [half] * 2).value
    assert exact == pytest.approx(0.6 + 0.4 / 2)
    assert energy(x, strictly_correlated(half, 2)) == pytest.approx(exact)


# -- barycenters on the line ---------------------------------------------------------------------


def test_the_comonotone_coupling_by_hand():
    chain = comonotone([np.array([0.5, 0.5]), np.array([0.2, 0.0, 0.8])])
    assert chain.mass == pytest.approx([0.2, 0.3, 0.5])
    assert chain.index.tolist() == [[0, 0, 1], [0, 2, 2]]


def test_the_order_of_the_points_does_not_matter():
    points, masses = on_a_line(10)
    z, m = quantile_average(points, masses, LAM)
    turned = quantile_average([x[::-1] for x in points], [m[::-1] for m in masses], LAM)
    assert turned[0] == pytest.approx(z) and turned[1] == pytest.approx(m)


def test_rounding_makes_no_tuples():
    tenths, hundredths = np.full(10, 1 / 10), np.full(100, 1 / 100)
    assert (np.cumsum(tenths)[:-1] != np.cumsum(hundredths)[9:-1:10]).any()  # as numbers
    assert len(comonotone([tenths, hundredths]).mass) == 100


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_the_distance_on_the_line_is_that_of_a_second_solver(p):
    (x, y), (a, b) = on_a_line(6, (7, 9))
    shuffled = np.random.default_rng(0).permutation(7)
    ours = cost_between(x[shuffled], a[shuffled], y, b, p)
    assert ours == pytest.approx(ot.emd2(a, b, np.abs(x[:, None] - y) ** p), abs=1e-10)


@pytest.mark.claim("lecture", "barycenter problems: the MOT and the barycenter have one value")
@pytest.mark.parametrize("seed", range(4))
def test_on_the_line_transport_quantiles_and_barycenter_agree(seed):
    points, masses = on_a_line(seed)
    plan = couple(pairwise_cost(columns(points), np.square, LAM), masses)
    z, m = quantile_average(points, masses, LAM)
    rows = zip(LAM, points, masses, strict=True)
    total = sum(w * cost_between(x, a, z, m) for w, x, a in rows)
    assert plan.value == pytest.approx(total, abs=1e-10)
    assert m.sum() == pytest.approx(1) and (np.diff(z) >= 0).all()
    # and no measure on the places of all tuples is better
    places = np.unique(mean_place(columns(points), LAM))
    lp = fixed_support([(x[:, None] - places) ** 2 for x in points], masses, LAM)
    assert lp.value == pytest.approx(total, abs=1e-9)
    assert lp.rho @ places == pytest.approx(m @ z, abs=1e-8)
    assert lp.rho @ places**2 == pytest.approx(m @ z**2, abs=1e-7)


@pytest.mark.parametrize("p", [1, 3])
def test_climbing_together_is_optimal_for_every_convex_cost(p):
    points, masses = on_a_line(7, (4, 5, 4))
    places = np.linspace(-3, 3, 301)
    table, _ = meeting_cost([np.abs(x[:, None] - places) ** p for x in points], LAM)
    chain = comonotone(masses)
    assert chain.mass @ table[tuple(chain.index)] == pytest.approx(
        couple(table, masses).value, abs=2e-3 if p == 3 else 1e-2
    )


@pytest.mark.claim("lecture", "barycenter problems: inf over pi with cost inf sum c = inf over rho")
@pytest.mark.parametrize("seed", range(3))
def test_transport_and_barycenter_agree_for_any_cost(seed):
    rng = np.random.default_rng(seed)
    masses = [rng.dirichlet(np.ones(n)) for n in (4, 3, 5)]
    costs = [rng.uniform(size=(len(m), 6)) for m in masses]
    costs[0][1, 2] = np.inf
    table, where = meeting_cost(costs)
    plan, lp = couple(table, masses), fixed_support(costs, masses)
    assert plan.value == pytest.approx(lp.value, abs=1e-9)
    # the plan, pushed to its meeting places, is a barycenter
    rho = np.bincount(where.ravel(), plan.pi.ravel(), minlength=6)
    each = [
        ot.emd2(m, rho, np.where(np.isinf(c), 99.0, c)) for m, c in zip(masses, costs, strict=True)
    ]
    assert sum(each) == pytest.approx(lp.value, abs=1e-9)


@pytest.mark.claim(
    "lecture", "barycenter problems: equivalence needs one order of the arguments of c"
)
def test_with_the_arguments_as_printed_the_equivalence_fails():
    # three unit masses at 0, 0, 1; to the right a step costs 2, to the left 1
    x = np.array([0.0, 0.0, 1.0])
    places = np.linspace(0, 1, 11)
    there = 2 * (places - x[:, None]).clip(0) + (x[:, None] - places).clip(0)  # c(xi_i, xi')
    back = 2 * (x[:, None] - places).clip(0) + (places - x[:, None]).clip(0)  # c(xi', xi_i)
    ones = [np.ones(1)] * 3
    barycenter = fixed_support([row[None] for row in there], ones).value
    right, _ = meeting_cost([row[None] for row in there])
    printed, _ = meeting_cost([row[None] for row in back])
    assert barycenter == pytest.approx(1) and right.item() == pytest.approx(1)
    assert printed.item() == pytest.approx(2)


@pytest.mark.claim("lecture", "barycenter problems: the optimal rho need not be unique")
def test_the_barycenter_need_not_be_unique():
    corners = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    first, second, half = corners[:2], corners[2:], np.full(2, 0.5)
    value = couple(pairwise_cost([first, second], np.square, half), [half, half]).value
    for middle in ([[0, 0.5], [1, 0.5]], [[0.5, 0], [0.5, 1]]):
        rho = np.array(middle)
        reached = sum(ot.emd2(half, half, distances(p, rho) ** 2) / 2 for p in (first, second))
        assert reached == pytest.approx(value)


@pytest.mark.claim("lecture", "barycenter problems: rho must be free to go where points meet")
def test_a_grid_without_the_meeting_places_costs_more():
    points, masses = in_a_plane(8)
    exact = couple(pairwise_cost(points, np.square, LAM), masses).value
    grid = np.stack(np.meshgrid(*[np.linspace(-2, 2, 4)] * 2), -1).reshape(-1, 2)
    means = mean_place(points, LAM).reshape(-1, 2)
    for places, sign in ((grid, 1), (means, 0)):
        lp = fixed_support([distances(p, places) ** 2 for p in points], masses, LAM)
        assert lp.value - exact > 0.01 if sign else abs(lp.value - exact) < 1e-9


def test_the_barycenter_on_a_grid_is_that_of_a_second_solver():
    rng = np.random.default_rng(9)
    x = rng.normal(size=(8, 2))
    cost, masses = distances(x, x) ** 2, rng.dirichlet(np.ones(8), 3)
    theirs, log = ot.lp.barycenter(masses.T, cost, LAM, solver="highs", log=True)
    ours = fixed_support([cost] * 3, list(masses), LAM)
    reached = sum(w * ot.emd2(m, theirs, cost) for w, m in zip(LAM, masses, strict=True))
    assert ours.value == pytest.approx(reached, abs=1e-8)
    for flow, m in zip(ours.flows, masses, strict=True):
        assert flow.sum(1) == pytest.approx(m, abs=1e-9)
        assert flow.sum(0) == pytest.approx(ours.rho, abs=1e-9)


# -- Gaussians -----------------------------------------------------------------------------------


def covariances(seed, k=3, d=3):
    a = np.random.default_rng(seed).normal(size=(k, d, d))
    return a @ a.swapaxes(1, 2) + 0.05 * np.eye(d)


@pytest.mark.claim("lecture", "barycenters of Gaussians on the line: means and deviations averaged")
def test_gaussians_on_the_line():
    means, stds = np.array([[-1.0], [0.5], [2.0]]), np.array([0.5, 1.5, 1.0])
    mean, cov = gaussian_barycenter(means, (stds**2)[:, None, None], LAM)
    assert mean.item() == pytest.approx(LAM @ means[:, 0])
    assert cov.item() == pytest.approx((LAM @ stds) ** 2, rel=1e-12)
    # the same by quantiles of atoms
    u = (np.arange(4000) + 0.5) / 4000
    atoms = [m + s * norm.ppf(u) for m, s in zip(means[:, 0], stds, strict=True)]
    z, mass = quantile_average(atoms, [np.full(4000, 1 / 4000)] * 3, LAM)
    assert mass @ z == pytest.approx(mean.item(), abs=1e-9)
    assert mass @ z**2 - (mass @ z) ** 2 == pytest.approx(cov.item(), rel=2e-3)


def test_commuting_covariances_average_their_roots():
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    values = np.random.default_rng(1).uniform(0.1, 3, (3, 3))
    covs = np.stack([vectors @ np.diag(v) @ vectors.T for v in values])
    _, cov = gaussian_barycenter(np.zeros((3, 3)), covs, LAM)
    assert cov == pytest.approx(vectors @ np.diag((LAM @ np.sqrt(values)) ** 2) @ vectors.T)


def test_two_gaussians_have_the_midpoint_of_their_geodesic():
    a, b = covariances(2, k=2)
    half = root(a)
    inverse = np.linalg.inv(half)
    to_b = inverse @ root(half @ b @ half) @ inverse
    step = 0.7 * np.eye(3) + 0.3 * to_b
    _, cov = gaussian_barycenter(np.zeros((2, 3)), np.stack([a, b]), np.array([0.7, 0.3]))
    assert cov == pytest.approx(step @ a @ step, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_fixed_point_is_that_of_a_second_solver(seed):
    covs = covariances(seed)
    means = np.random.default_rng(seed).normal(size=(3, 3))
    mean, cov = gaussian_barycenter(means, covs, LAM)
    theirs = ot.gaussian.bures_wasserstein_barycenter(means, covs, LAM, num_iter=5000, eps=1e-13)
    assert mean == pytest.approx(theirs[0]) and cov == pytest.approx(theirs[1], abs=1e-8)
    assert squared_distance(covs[0], covs[1]) == pytest.approx(
        ot.gaussian.bures_wasserstein_distance(0 * mean, 0 * mean, covs[0], covs[1]) ** 2
    )


@pytest.mark.claim("lecture", "barycenters of Gaussians: the fixed point is the minimiser")
def test_every_step_lowers_the_cost_and_no_neighbour_is_better():
    covs = covariances(5)

    def total(cov):
        return sum(w * squared_distance(cov, c) for w, c in zip(LAM, covs, strict=True))

    steps = list(fixed_point(covs, LAM))
    costs = [total(step.cov) for step in steps]
    assert all(after <= before + 1e-12 for before, after in zip(costs, costs[1:], strict=False))
    assert steps[-1].residual <= 1e-12 < steps[0].residual
    rng = np.random.default_rng(0)
    for _ in range(20):
        move = np.eye(3) + 0.05 * rng.normal(size=(3, 3))
        assert total(move @ steps[-1].cov @ move.T) > costs[-1]


def test_covariances_that_are_too_thin_are_no_silent_answer():
    def turned(angle, short):
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, -s], [s, c]])
        return turn @ np.diag([1, short]) @ turn.T

    pair = [np.stack([turned(0, short), turned(0.5, short)]) for short in (1e-8, 1e-10)]
    with pytest.raises(RuntimeError, match="covs are too thin: the residual is still"):
        gaussian_barycenter(np.zeros((2, 2)), pair[0], np.full(2, 0.5))
    with pytest.raises(ValueError, match="eigenvalues above 1e-09 times the largest, 1; the least"):
        gaussian_barycenter(np.zeros((2, 2)), pair[1], np.full(2, 0.5))


# -- images --------------------------------------------------------------------------------------


def gaussian_on_a_grid(mean, std, n=200):
    p = np.exp(-((np.arange(n) / n - mean) ** 2) / (2 * std**2))
    return p / p.sum()


def moments(p):
    x = np.arange(len(p)) / len(p)
    return p @ x, p @ x**2 - (p @ x) ** 2


def last(*args, **kind):
    return list(entropic(*args, **kind))[-1]


def test_entropy_blurs_and_debiasing_does_not():
    # of equal measures the entropic barycenter is their blur, of variance eta / 2
    a, eta = gaussian_on_a_grid(0.45, 0.05), 0.004
    same, half = np.stack([a, a]), np.full(2, 0.5)
    mean, variance = moments(last(same, half, eta=eta).rho)
    assert mean == pytest.approx(0.45, abs=1e-6)
    assert variance == pytest.approx(0.05**2 + eta / 2, rel=1e-3)
    sharp = last(same, half, eta=eta, debiased=True, steps=2000, tolerance=1e-9)
    assert sharp.rho == pytest.approx(a, abs=1e-6)


def test_two_atoms_meet_in_the_middle_however_small_eta():
    for eta in (1e-2, 1e-4, 1e-7):
        atoms = np.zeros((2, 41))
        atoms[0, 4], atoms[1, 34] = 1, 1
        rho = last(atoms, np.full(2, 0.5), eta=eta).rho
        x = np.arange(41) / 41
        expected = np.exp(-((x - 19 / 41) ** 2) / eta)
        assert rho == pytest.approx(expected / expected.sum(), abs=1e-12)


def test_the_debiased_barycenter_on_the_line_comes_near_the_quantiles():
    measures = np.stack([gaussian_on_a_grid(0.3, 0.04), gaussian_on_a_grid(0.6, 0.08)])
    lam = np.array([0.25, 0.75])
    step = last(measures, lam, eta=0.002, debiased=True, steps=1000)
    mean, variance = moments(step.rho)
    assert step.error < 1e-4
    assert mean == pytest.approx(0.525, abs=1e-3)
    assert np.sqrt(variance) == pytest.approx(0.07, rel=0.01)
    _, blurred = moments(last(measures, lam, eta=0.002, steps=1000).rho)
    assert np.sqrt(blurred) > 0.074


@pytest.mark.parametrize("debiased", [False, True])
def test_images_have_the_barycenter_of_a_second_solver(debiased):
    images, eta = np.random.default_rng(3).dirichlet(np.ones(36), 3).reshape(3, 6, 6), 0.02
    ours = last(images, LAM, eta=eta, debiased=debiased, steps=1000, tolerance=1e-11)
    solve = (
        ot.bregman.convolutional_barycenter2d_debiased
        if debiased
        else ot.bregman.convolutional_barycenter2d
    )
    # there the pixels are 1/(n - 1) apart
    theirs = solve(images, eta * (6 / 5) ** 2, LAM, numItermax=1000, stopThr=1e-12, warn=False)
    assert ours.rho == pytest.approx(theirs / theirs.sum(), abs=1e-6)


def test_smoothing_axis_by_axis_is_one_large_kernel():
    rng = np.random.default_rng(0)
    f = np.log(rng.uniform(size=(1, 4, 6)))
    f[0, 2] = -np.inf  # a row without mass
    kernels = [-axis_cost(n) / 0.1 for n in (4, 6)]
    whole = np.exp(kernels[0][:, None, :, None] + kernels[1][None, :, None, :])
    expected = np.einsum("ijkl,kl->ij", whole, np.exp(f[0]))
    assert np.exp(smooth(f, kernels)[0]) == pytest.approx(expected)


# -- generalized barycenters ---------------------------------------------------------------------


def classes(seed, sizes=(4, 3, 4)):
    """Points of each class in the plane, and masses of any sum."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, 2)) for n in sizes], [rng.uniform(0.1, 1, n) for n in sizes]


def stacked(points, masses):
    y = np.repeat(np.arange(len(points)), [len(p) for p in points])
    return np.concatenate(points), y, np.concatenate(masses)


def by_class(rows, y):
    return [rows[y == k] for k in range(y.max() + 1)]


def group_means(points):
    """The mean of every set of points of different classes."""
    some = [a for k in range(1, len(points) + 1) for a in combinations(points, k)]
    means = [mean_place(a, np.full(len(a), 1 / len(a))).reshape(-1, 2) for a in some]
    return np.concatenate(means)


@pytest.mark.claim("lecture", "generalized barycenters with a budget: the cover by groups")
@pytest.mark.parametrize("seed, norm", list(product(range(4), ["l2", "linf"])))
def test_the_generalized_barycenter_is_the_packing_problem(seed, norm):
    points, masses = classes(seed)
    x, y, w = stacked(points, masses)
    w = w / w.sum()
    z, labels, threat = (
        torch.from_numpy(x),
        torch.from_numpy(y),
        ThreatModel(norm=norm, eps=0.7, box=None),
    )
    packing = enumerated(conflicts(z, labels, threat), norm, weights=w)
    costs = by_class(meeting_places(z, labels, threat)[1], y)
    measures = by_class(w, y)
    whole = free_mass(costs, measures)
    assert 1 - whole.value == pytest.approx(packing.risk, abs=1e-9)
    assert whole.rho.sum() == pytest.approx(whole.value, abs=1e-9)
    plans = by_subsets(lambda a: meeting_cost([costs[k] for k in a])[0], measures)
    assert plans.value == pytest.approx(whole.value, abs=1e-9)
    # the masses of the groups are a cover, and q is a packing of the same value
    assert sum(m.sum() for m in plans.masses.values()) == pytest.approx(1 - packing.risk, abs=1e-9)
    q = np.concatenate(plans.q)
    assert w @ q == pytest.approx(1 - packing.risk, abs=1e-9)
    assert all((q[g].sum(1) <= 1 + 1e-9).all() for g in packing.groups)
    assert packing.risk > 0.05


@pytest.mark.claim("lecture", "(AT) is a generalized barycenter problem, for any cost")
@pytest.mark.parametrize("price", [0.05, 0.3, 1.5])
def test_the_generalized_barycenter_is_the_game(price):
    points, masses = classes(11)
    x, y, w = stacked(points, masses)
    places = group_means(points)
    costs = [price * distances(p, places) ** 2 for p in points]
    game = play(np.concatenate(costs), y, w)
    whole, plans = free_mass(costs, masses), by_subsets(squared_price(points, price), masses)
    assert w.sum() - whole.value == pytest.approx(game.value, abs=1e-9)
    assert plans.value == pytest.approx(whole.value, abs=1e-9)
    assert max(m.sum() for m in masses) < whole.value + 1e-9 < w.sum()


@pytest.mark.claim(
    "lecture", "the optimal attack lives on barycenters of groups of k or less points"
)
@pytest.mark.parametrize("seed", range(3))
def test_more_places_do_not_help_and_are_not_used(seed):
    points, masses = classes(seed)
    means = group_means(points)
    more = np.random.default_rng(seed).uniform(-2, 2, (60, 2))
    costs = [0.3 * distances(p, np.concatenate([means, more])) ** 2 for p in points]
    at_means = free_mass([c[:, : len(means)] for c in costs], masses).value
    solution = free_mass(costs, masses)
    assert solution.value == pytest.approx(at_means, abs=1e-9)
    assert solution.rho[len(means) :].max() < 1e-9
    assert max(flow[:, len(means) :].max() for flow in solution.flows) < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_who_meets_where_staying_costs_too(seed):
    rng = np.random.default_rng(seed)
    masses = [rng.uniform(0.1, 1, n) for n in (2, 3, 2)]
    costs = [rng.uniform(0, 2, (len(m), 5)) for m in masses]  # nobody stays for nothing
    plans = by_subsets(lambda a: meeting_cost([costs[k] for k in a])[0], masses)
    assert plans.value == pytest.approx(free_mass(costs, masses).value, abs=1e-9)


@pytest.mark.claim("lecture", "the barycenter of a group weighs its points equally")
def test_who_meets_and_what_it_costs():
    points, masses = classes(12)
    plans = by_subsets(squared_price(points, 0.4), masses)
    covered = [np.zeros(len(m)) for m in masses]
    paid = 0.0
    for a, tuples in plans.tuples.items():
        for t, mass in zip(tuples.T, plans.masses[a], strict=True):
            z = np.stack([points[k][i] for k, i in zip(a, t, strict=True)])
            paid += mass * (1 + 0.4 * ((z - z.mean(0)) ** 2).sum())
            worth = sum(plans.q[k][i] for k, i in zip(a, t, strict=True))
            assert worth == pytest.approx(1 + 0.4 * ((z - z.mean(0)) ** 2).sum(), abs=1e-9)
            for k, i in zip(a, t, strict=True):
                covered[k][i] += mass
    assert paid == pytest.approx(plans.value, abs=1e-9)
    for found, m in zip(covered, masses, strict=True):
        assert found == pytest.approx(m, abs=1e-9)
    assert len(plans.masses[0, 1, 2]) > 0


@pytest.mark.parametrize("price", [0.1, 0.5, 0.66, 0.7])
def test_an_equilateral_triangle_meets_as_a_whole_or_not_at_all(price):
    angles = 2 * np.pi * np.arange(3) / 3
    corners = [np.array([[np.cos(a), np.sin(a)]]) for a in angles]  # of side sqrt(3)
    plans = by_subsets(squared_price(corners, price), [np.full(1, 1 / 3)] * 3)
    assert 1 - plans.value == pytest.approx(max(0, (2 - 3 * price) / 3), abs=1e-12)
    assert plans.masses[0, 1, 2].sum() == pytest.approx(1 / 3 if 3 * price < 2 else 0)


def test_two_classes_far_apart_or_at_one_place():
    masses = [np.array([0.3]), np.array([0.7])]
    for gap, value in ((9.0, 1.0), (0.0, 0.7), (1.0, 0.7 + 0.3 * 0.5)):
        costs = [np.array([[0.0, gap**2 / 4, gap**2]]), np.array([[gap**2, gap**2 / 4, 0.0]])]
        assert free_mass(costs, masses).value == pytest.approx(value)


def test_three_equal_measures_in_full_agreement_are_an_ordinary_barycenter():
    # at a low price everybody meets: mass one, and the transport cost of the barycenter
    points, masses = in_a_plane(14)
    price = 1e-3
    plans = by_subsets(squared_price(points, price), masses)
    ordinary = couple(pairwise_cost(points, np.square, np.full(3, 1 / 3)), masses).value
    assert plans.value == pytest.approx(1 + 3 * price * ordinary, abs=1e-9)


# -- what is refused -----------------------------------------------------------------------------


def one(n=2):
    return np.full(n, 1 / n)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: couple(np.zeros((2, 3)), [one(), one()]), r"shape \(2, 3\)"),
        (lambda: couple(np.zeros((2, 2)), [one(), 2 * one()]), "one total mass"),
        (lambda: couple(np.zeros((2, 2)), [one(), np.array([2.0, -1.0])]), ">= 0"),
        (lambda: couple(np.zeros((2000, 2000)), [one(2000)] * 2), "coarser"),
        (lambda: next(scaling(np.zeros((2, 2)), [one()] * 2, eta=-1.0)), "eta"),
        (lambda: comonotone([one(), 2 * one()]), "one total mass"),
        (
            lambda: quantile_average([one(), one()], [one(), one()], np.array([0.5, 0.6])),
            "sum to one",
        ),
        (lambda: cost_between(one(), one(), one(), one(), 0.5), "p must be >= 1"),
        (lambda: cost_between(one(), one(), one(), one(), np.nan), "p must be >= 1"),
        (lambda: cost_between(one(3), one(), one(), one()), r"got \(3,\) for \(2,\) masses"),
        (lambda: quantile_average([np.nan * one()], [one()], np.ones(1)), "points must be finite"),
        (lambda: next(entropic(np.full((2, 4), np.nan), one(), eta=0.1)), "measures must be"),
        (lambda: comotion(np.arange(3.0), np.ones(3), 1), "electrons must be >= 2, got 1"),
        (lambda: strictly_correlated(one(), 0), "electrons must be >= 2, got 0"),
        (lambda: comotion(np.arange(3.0), np.ones(4), 2), r"x and density must match, got \(3,\)"),
        (lambda: meeting_cost([np.zeros((2, 2)), np.zeros((2, 3))]), "one set of places"),
        (lambda: meeting_cost([np.zeros((2, 2))] * 2, np.ones(3)), "weights must be 2 finite"),
        (lambda: pairwise_cost([np.eye(2)] * 2, np.square, -one()), "weights must be 2 finite"),
        (lambda: squared_price([np.eye(2)], np.nan), "price must be finite and >= 0, got nan"),
        (lambda: by_subsets(lambda a: np.full([2] * len(a), np.inf), [one()]), "must be finite"),
        (lambda: free_mass([np.full((2, 2), np.nan)], [one()]), r"costs\[0\] must be finite, or"),
        (lambda: next(fixed_point(np.array([[[1.0, 5.0], [0, 1]]] * 2), one())), "symmetric"),
        (lambda: comotion(np.arange(3.0), np.array([1.0, 0.0, 1.0]), 2), "density"),
        (lambda: comotion(-np.arange(3.0), np.ones(3), 2), "ascend"),
        (lambda: next(fixed_point(np.zeros((2, 2, 2)), one())), "positive definite"),
        (lambda: fixed_support([np.zeros((2, 2))] * 2, [one(), 2 * one()]), "measures"),
        (lambda: free_mass([np.zeros((2, 2))], [np.array([0.5, np.nan])]), "measures"),
        (lambda: by_subsets(squared_price([np.eye(2)], 1.0), [-one()]), "measures"),
        (lambda: comonotone([np.array([2.0, -1.0])] * 2), ">= 0"),
        (
            lambda: fixed_support([np.zeros((2, 2)), np.zeros((3, 2))], [one(), one()]),
            r"costs\[1\]",
        ),
        (lambda: free_mass([np.full((2, 2), np.inf)], [one()]), "go nowhere"),
        (lambda: next(entropic(np.ones((2, 4)) / 4, one(), eta=0.0)), "eta"),
        (lambda: next(entropic(np.ones((2, 4)), one(), eta=0.1)), "sum to one"),
    ],
)
def test_bad_inputs_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

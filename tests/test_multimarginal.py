"""Multimarginal transport: groups, packing, the exact solver, the theorem, the saddle."""

import json
from fractions import Fraction
from functools import cache
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from adversarial_lab import data
from adversarial_lab.measures import TOUCH
from adversarial_lab.multimarginal import (
    agnostic,
    bound,
    centre,
    cutting,
    enumerated,
    exact,
    induced_cost,
    levels,
    meeting_places,
    mot,
    optimal_attack,
    optimal_risk,
    play,
    radius,
    soft_classifier,
    transport,
)
from adversarial_lab.multimarginal.coupling import couple
from adversarial_lab.multimarginal.enclosing import ball_weights, squared_radius
from adversarial_lab.multimarginal.groups import common_point
from adversarial_lab.multimarginal.pairs import pairs
from adversarial_lab.multimarginal.sinkhorn import scaling, sinkhorn
from adversarial_lab.multimarginal.toy import toy
from adversarial_lab.runs import bounds
from adversarial_lab.runs.__main__ import main
from adversarial_lab.threat import ThreatModel
from adversarial_lab.transport import Conflicts, class_weights, conflicts, divergence

TRIANGLE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]], dtype=torch.float64)
THREE = torch.arange(3)


def ball(norm, eps):
    return ThreatModel(norm=norm, eps=eps, box=None)


def cloud(seed, n=24, classes=4, d=2, spread=1.0):
    """Points of every class, and weights that sum to one."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    x = spread * rng.normal(size=(n, d))
    return torch.from_numpy(x), torch.from_numpy(y), rng.dirichlet(np.ones(n))


def distances(x, norm):
    p = {"l2": 2.0, "linf": float("inf"), "l1": 1.0}[norm]
    return torch.cdist(x, x, p, compute_mode="donot_use_mm_for_euclid_dist").numpy()


def all_groups(x, y, threat, order=None, rips=False):
    """The groups from the definition, point by point: cliques whose smallest ball is small."""
    d, most = distances(x, threat.norm), order or len(y.unique())
    limit = threat.eps * (1 + TOUCH)
    near = ((d <= 2 * limit) & (y[:, None] != y).numpy()).tolist()

    def larger(group, candidates):
        for j in candidates:
            new = (*group, j)
            if len(new) > 2 and not rips and radius(d[np.ix_(new, new)], threat.norm) > limit:
                continue
            if len(new) > 1:
                yield new
            if len(new) < most:
                yield from larger(new, [k for k in candidates if k > j and near[j][k]])

    return list(larger((), range(len(x))))


def by_definition(x, y, threat, w, **kind):
    """The risk: HiGHS on every group."""
    rows = [np.bincount(g, minlength=len(x)) for g in all_groups(x, y, threat, **kind)]
    if not rows:
        return 0.0
    return 1 + linprog(-w, A_ub=np.array(rows), b_ub=np.ones(len(rows)), bounds=(0, 1)).fun


# -- balls that share a point --------------------------------------------------------------------


@pytest.mark.claim(
    "lecture", "equilateral triangle, side s, l2: pairs meet from s/2, a common point from s/sqrt 3"
)
def test_thresholds_of_the_equilateral_triangle():
    side = 1.7
    d = distances(side * TRIANGLE, "l2")
    assert radius(d[:2, :2], "l2") == pytest.approx(side / 2, abs=1e-15)
    assert radius(d, "l2") == pytest.approx(side / 3**0.5, abs=1e-15)
    for norm, ratio in (("l2", 3**-0.5), ("linf", 0.5)):
        d = distances(side * TRIANGLE, norm)
        assert radius(d, norm) == pytest.approx(ratio * d.max(), abs=1e-15)


@pytest.mark.parametrize("k", [3, 4, 5, 6])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_smallest_ball_is_that_of_a_second_solver(k, d):
    z = np.random.default_rng(10 * k + d).normal(size=(k, d))

    def slack(v):
        return v[-1] - ((z - v[:-1]) ** 2).sum(1)

    start = np.append(z.mean(0), 9.0)
    constraint = {"type": "ineq", "fun": slack}
    best = minimize(lambda v: v[-1], start, constraints=constraint, options={"ftol": 1e-14})
    points = torch.from_numpy(z)
    assert radius(distances(points, "l2"), "l2") == pytest.approx(best.fun**0.5, abs=1e-6)
    middle = centre(points, ball("l2", 1.0))
    far = (points - middle).norm(dim=1).max()
    assert far == pytest.approx(radius(distances(points, "l2"), "l2"), abs=1e-7)


def test_the_smallest_ball_of_whole_numbers_is_exact():
    rng = np.random.default_rng(0)
    for _ in range(50):
        z = rng.integers(-4, 5, size=(3, 2))
        a, b, c = sorted(int(((z[i] - z[j]) ** 2).sum()) for i, j in combinations(range(3), 2))
        # squared sides: obtuse or right, the longest side is a diameter; else the circumcircle
        sixteen_areas = 2 * (a * b + b * c + a * c) - a * a - b * b - c * c
        exact = Fraction(c, 4) if a + b <= c else Fraction(a * b * c, sixteen_areas)
        d = np.sqrt(((z[:, None] - z) ** 2).sum(-1))
        assert squared_radius(ball_weights(d), d**2) == pytest.approx(float(exact), rel=1e-14)


def test_points_that_lie_badly_have_a_ball():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    line = np.array([[0, 0], [1, 0], [2, 0], [2, 0]])
    for z, size in ((square, 0.5**0.5), (line, 1.0), (np.zeros((3, 2)), 0.0)):
        assert radius(distances(torch.from_numpy(z).double(), "l2"), "l2") == pytest.approx(size)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_centre_reaches_every_point_and_stays_in_the_box(norm):
    z = torch.rand(4, 1, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    threat = ThreatModel(norm=norm, eps=1.0)
    middle = centre(z, threat)
    assert middle.shape == (1, 3, 3) and 0 <= middle.min() and middle.max() <= 1
    reach = threat.distance(z, middle.expand(4, 1, 3, 3)).max().item()
    assert reach == pytest.approx(radius(distances(z.flatten(1), norm), norm), abs=1e-12)


# -- groups --------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm, eps", [("l2", 0.6), ("linf", 0.5)])
@pytest.mark.parametrize("seed", range(4))
def test_the_groups_are_those_of_the_definition(norm, eps, seed):
    x, y, _ = cloud(seed, n=18, classes=5)
    threat = ball(norm, eps)
    found = conflicts(x, y, threat)
    listed = [tuple(g) for level in levels(found, common_point(norm)(found)) for g in level.members]
    assert sorted(listed) == sorted(all_groups(x, y, threat))
    assert max(map(len, listed)) >= 4
    cliques = common_point(norm, rips=True)(found)
    listed = [tuple(g) for level in levels(found, cliques, 3) for g in level.members]
    assert sorted(listed) == sorted(all_groups(x, y, threat, order=3, rips=True))


def test_faces_are_the_groups_without_one_member():
    x, y, _ = cloud(3, n=18, classes=5)
    found = conflicts(x, y, ball("l2", 0.7))
    below = None
    for level in levels(found, common_point("l2")(found)):
        if below is not None:
            for t in range(level.members.shape[1]):
                without = np.delete(level.members, t, axis=1)
                assert (below.members[level.faces[:, t]] == without).all()
        assert (np.diff(level.keys) > 0).all()
        below = level


@pytest.mark.claim("lecture", "boxes that meet in pairs share a point; balls need not (Helly)")
def test_helly_holds_in_linf_and_fails_in_l2():
    for norm, risk, above in (("l2", 1 / 2, 2 / 3), ("linf", 2 / 3, 2 / 3)):
        d = distances(TRIANGLE, norm).max()
        threat = ball(norm, 0.51 * d)
        assert optimal_risk(TRIANGLE, THREE, threat).risk == pytest.approx(risk, abs=1e-9)
        rips = optimal_risk(TRIANGLE, THREE, threat, rips=True).risk
        assert rips == pytest.approx(above, abs=1e-9)


def test_the_boundary_counts():
    for ratio, risk in ((0.5, 1 / 2), (3**-0.5, 2 / 3)):
        assert optimal_risk(TRIANGLE, THREE, ball("l2", ratio)).risk == pytest.approx(risk)
    assert optimal_risk(TRIANGLE, THREE, ball("l2", 0.4999999)).risk == 0
    assert optimal_risk(TRIANGLE, THREE, ball("l2", 0.5773502)).risk == pytest.approx(1 / 2)


# -- the exact solver against every group written out ----------------------------------------------


@cache
def solved(norm, seed):
    """A problem that is large for its size: many groups, some of four points and more."""
    x, y, w = cloud(seed, n=26, classes=5, spread=1.0 if seed % 3 else 0.7)
    w = None if seed % 2 else w
    threat = ball(norm, 0.45)
    found = conflicts(x, y, threat)
    steps = list(cutting(found, y, norm, weights=w))
    return SimpleNamespace(x=x, y=y, w=w, threat=threat, found=found, steps=steps, seed=seed)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("seed", range(8))
def test_exact_is_the_lp_over_every_group(norm, seed):
    p = solved(norm, seed)
    w = np.full(len(p.x), 1 / len(p.x)) if p.w is None else p.w
    assert p.steps[-1].risk == pytest.approx(by_definition(p.x, p.y, p.threat, w), abs=1e-9)
    assert abs(p.steps[-1].gap) <= 1e-9
    for kind in ({"order": 2}, {"order": 3}, {"rips": True}):
        fast = bound(p.found, p.y, norm, weights=p.w, **kind)
        slow = enumerated(p.found, norm, weights=p.w, **kind)
        oracle = by_definition(p.x, p.y, p.threat, w, **kind)
        assert fast.risk == pytest.approx(oracle, abs=1e-9)
        assert slow.risk == pytest.approx(oracle, abs=1e-9) and abs(fast.gap) <= 1e-9


def test_the_instances_above_need_what_the_solver_has():
    steps = [solved(norm, seed).steps for norm in ("l2", "linf") for seed in range(8)]
    assert sum(len(s) > 1 for s in steps) >= 8  # a kernel that larger groups change
    assert max(s[-1].order for s in steps) >= 4 and max(s[-1].rounds for s in steps) >= 3


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("seed", range(0, 8, 3))
def test_the_certificate_holds_without_trusting_the_solver(norm, seed):
    p = solved(norm, seed)
    last = p.steps[-1]
    assert (last.q >= 0).all() and (last.q <= 1).all()
    real = all_groups(p.x, p.y, p.threat)
    for g in real:
        assert last.q[list(g)].sum() <= 1 + 1e-9
    covered, real = np.zeros(len(p.x)), set(real)
    for members, masses in zip(last.groups, last.masses, strict=True):
        assert (masses > 0).all()
        for g, mass in zip(members.tolist(), masses, strict=True):
            assert len(g) == 1 or tuple(sorted(g)) in real
            covered[g] += mass
    assert (covered >= last.weights - 1e-12).all()


def test_every_round_is_a_lower_bound_and_names_its_truncation():
    for norm in ("l2", "linf"):
        for seed in range(8):
            p = solved(norm, seed)
            risks = [step.risk for step in p.steps]
            assert all(b >= a - 1e-9 for a, b in zip(risks, risks[1:], strict=False))
            triples = [step for step in p.steps if step.order <= 3][-1].risk
            assert triples == pytest.approx(bound(p.found, p.y, norm, weights=p.w, order=3).risk)


@pytest.mark.claim("lecture", "L*(2) <= L*(3) <= L* <= the bound from pairs that meet")
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_the_bounds_are_in_order(seed):
    p = solved("l2", seed)
    two, three = (bound(p.found, p.y, "l2", weights=p.w, order=m).risk for m in (2, 3))
    above = bound(p.found, p.y, "l2", weights=p.w, rips=True).risk
    assert two <= three + 1e-9 and three <= p.steps[-1].risk + 1e-9 <= above + 2e-9
    assert two < above - 1e-3


@pytest.mark.claim("lecture", "groups of at most m points prove a risk of at most 1 - 1/m")
def test_truncated_bounds_are_at_most_one_minus_one_over_m():
    x, y = torch.zeros(10, 2, dtype=torch.float64), torch.arange(10) % 5
    threat = ball("l2", 0.0)
    for m in (2, 3, 4, 5):
        assert optimal_risk(x, y, threat, order=m).risk == pytest.approx(1 - 1 / m)
    assert optimal_risk(x, y, threat).risk == pytest.approx(4 / 5)
    for seed in range(3):
        p = solved("linf", seed)
        for m in (2, 3):
            assert bound(p.found, p.y, "linf", weights=p.w, order=m).risk <= 1 - 1 / m + 1e-9


# -- pairs ---------------------------------------------------------------------------------------


@pytest.mark.claim("lecture", "the best packing of pairs is half-integral")
@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_half_integral_and_optimal(seed):
    x, y, w = cloud(seed, n=60, classes=4)
    w = [w, np.full(60, 1 / 60), np.where(np.arange(60) % 2, 1 / 30, 0.0)][seed % 3]
    found = conflicts(x, y, ball("l2", 0.35))
    best = pairs(found, w)
    assert set(best.q) <= {0.0, 0.5, 1.0}
    assert (best.q[found.i] + best.q[found.j] <= 1).all()
    rows = np.eye(60)[found.i] + np.eye(60)[found.j]
    lp = linprog(-w, A_ub=rows, b_ub=np.ones(len(rows)), bounds=(0, 1))
    assert w @ best.q == pytest.approx(-lp.fun, abs=1e-12) and abs(best.gap) <= 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_the_points_outside_the_kernel_keep_their_value(seed):
    """With groups of any size, fixing q at 0 and 1 where pairs say so loses nothing."""
    x, y, w = cloud(seed, n=24, classes=4)
    threat = ball("l2", 0.4)
    q = pairs(conflicts(x, y, threat), w).q
    rows = np.array([np.bincount(g, minlength=24) for g in all_groups(x, y, threat)])
    low, high = np.where(q == 1, 1.0, 0.0), np.where(q == 0, 0.0, 1.0)
    free = linprog(-w, A_ub=rows, b_ub=np.ones(len(rows)), bounds=(0, 1)).fun
    fixed = linprog(-w, A_ub=rows, b_ub=np.ones(len(rows)), bounds=np.stack([low, high], 1)).fun
    assert fixed == pytest.approx(free, abs=1e-12)


def test_an_isolated_conflict_needs_no_kernel():
    x = torch.tensor([[0.0], [1.0], [5.0], [6.0], [9.0]])
    y = torch.tensor([0, 1, 1, 2, 2])
    q = pairs(conflicts(x, y, ball("l2", 0.5)), np.full(5, 0.2)).q
    assert 0.5 not in q and q.sum() == 3


@pytest.mark.claim("lecture", "two classes: L* = (1 - D_N) / 2, and hard classifiers suffice")
@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_two_classes_are_binary_transport(norm):
    x, y, _ = cloud(5, n=40, classes=2)
    threat = ball(norm, 0.3)
    d_n = divergence(x[y == 0], x[y == 1], threat)
    solution = optimal_risk(x, y, threat, weights=class_weights(y))
    assert solution.risk == pytest.approx((1 - d_n) / 2, abs=1e-12) and 0 < d_n < 1
    assert set(solution.q) <= {0.0, 1.0}


# -- three points --------------------------------------------------------------------------------

PATTERNS = {
    "no overlap": [[0, 0], [3, 0], [0, 3]],
    "one pair": [[0, 0], [1, 0], [0, 5]],
    "path": [[0, 0], [1.5, 0], [-1.5, 0]],
    "ring": [[0, 0], [1.9, 0], [0.95, 1.6]],
    "common point": [[0, 0], [1, 0], [0.5, 0.5]],
}


def by_hand(pattern, w):
    """FACTS of the toy example: the middle of the path is the first point."""
    if pattern == "ring":
        rest = w.sum() - w.max()
        return rest if w.max() >= rest else 0.5
    return {
        "no overlap": 0.0,
        "one pair": min(w[0], w[1]),
        "path": min(w[0], w[1] + w[2]),
        "common point": 1 - w.max(),
    }[pattern]


@pytest.mark.claim("lecture", "toy example, cases 1 to 4 (ii)")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("seed", range(5))
def test_three_points(pattern, seed):
    x, threat = torch.tensor(PATTERNS[pattern], dtype=torch.float64), ball("l2", 1.0)
    w = np.random.default_rng(seed).dirichlet(np.ones(3))
    answer = toy(x, w, threat)
    assert answer.pattern.startswith("case 4" if pattern == "ring" else pattern)
    assert answer.risk == pytest.approx(by_hand(pattern, w), abs=1e-15)
    assert answer.risk == pytest.approx(optimal_risk(x, THREE, threat, weights=w).risk, abs=1e-9)
    assert w @ (1 - np.array(answer.q)) == pytest.approx(answer.risk, abs=1e-15)
    groups = all_groups(x, THREE, threat)
    assert all(sum(answer.q[i] for i in g) <= 1 for g in groups)
    taken = np.zeros(3)
    for g, mass in answer.masses.items():
        assert g in groups and mass >= 0
        taken[list(g)] += mass
    # the group with m points hides m - 1 of them; nobody gives more than it has
    assert (taken <= w + 1e-15).all()
    hidden = sum((len(g) - 1) * mass for g, mass in answer.masses.items())
    assert hidden == pytest.approx(answer.risk, abs=1e-15)


def test_the_balanced_ring_splits_its_mass_by_hand():
    x, w = torch.tensor(PATTERNS["ring"], dtype=torch.float64), np.array([0.45, 0.3, 0.25])
    answer = toy(x, w, ball("l2", 1.0))
    assert answer.pattern == "case 4 (ii): balanced" and answer.q == (0.5, 0.5, 0.5)
    assert answer.masses == pytest.approx({(0, 1): 0.25, (0, 2): 0.2, (1, 2): 0.05})
    heavy = toy(x, np.array([0.6, 0.3, 0.1]), ball("l2", 1.0))
    assert heavy.pattern == "case 4 (i): one heavy point" and heavy.risk == pytest.approx(0.4)


@pytest.mark.claim("lecture", "in linf case 4 cannot occur")
def test_a_ring_in_linf_has_a_common_point():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        x = torch.from_numpy(rng.normal(size=(3, 2)))
        seen.add(toy(x, np.full(3, 1 / 3), ball("linf", 0.6)).pattern)
    assert seen == {"no overlap", "one pair", "path", "common point"}


@pytest.mark.claim("lecture", "three classes: soft classifiers are strictly better than hard ones")
def test_the_hollow_triangle_needs_a_soft_classifier():
    threat = ball("l2", 0.51)
    places, cost = meeting_places(TRIANGLE, THREE, threat)
    w = np.full(3, 1 / 3)
    hard = min(
        agnostic.risk(np.eye(3)[list(answers)], cost, np.arange(3), w)
        for answers in product(range(3), repeat=len(places))
    )
    assert hard == pytest.approx(2 / 3)
    assert play(cost, np.arange(3), w).value == pytest.approx(1 / 2)


# -- the theorem ---------------------------------------------------------------------------------


@cache
def game(seed, quadratic):
    """A few points of three classes, of any mass, against a budget or a quadratic cost."""
    rng = np.random.default_rng(seed)
    y = np.array([0, 1, 2, seed % 3])[: 3 + seed % 2]
    x, w = rng.normal(size=(len(y), 2)), rng.uniform(0.2, 1.0, len(y))
    if quadratic:
        grid = np.stack(np.meshgrid(*[np.linspace(-2, 2, 5)] * 2), -1).reshape(-1, 2)
        places = np.concatenate([x, grid])
        cost = 0.4 * ((x[:, None] - places) ** 2).sum(-1)
    else:
        cost = meeting_places(torch.from_numpy(x), torch.from_numpy(y), ball("l2", 0.9))[1]
    solution = transport(induced_cost(cost, y), w)
    return SimpleNamespace(x=x, y=y, w=w, cost=cost, mot=solution, game=play(cost, y, w))


CASES = [(seed, quadratic) for seed in range(4) for quadratic in (False, True)]


@pytest.mark.claim("lecture", "(AT) = mu(Z) (1 - 2 inf of the multimarginal transport)")
@pytest.mark.parametrize("seed, quadratic", CASES)
def test_the_theorem_with_the_right_constant(seed, quadratic):
    p = game(seed, quadratic)
    assert p.mot.risk(p.w.sum()) == pytest.approx(p.game.value, abs=1e-9)
    if not quadratic:
        x, y, threat = torch.from_numpy(p.x), torch.from_numpy(p.y), ball("l2", 0.9)
        packing = optimal_risk(x, y, threat, weights=p.w / p.w.sum())
        assert p.w.sum() * packing.risk == pytest.approx(p.game.value, abs=1e-9)


@pytest.mark.claim("lecture", "the factor before the transport cost is 2, not 1/2 as printed")
def test_the_printed_constant_is_wrong():
    errors = [game(*c).mot.risk(game(*c).w.sum(), factor=0.5) - game(*c).game.value for c in CASES]
    assert min(errors) > 0.1
    # nothing overlaps: the risk is 0, the coupling costs 1/2, and 1 - 1/4 is printed
    cost = np.where(np.eye(3), 0.0, np.inf)
    apart = transport(induced_cost(cost, np.arange(3)), np.full(3, 1 / 3))
    assert apart.value == pytest.approx(1 / 2) and apart.risk() == pytest.approx(0, abs=1e-12)
    assert apart.risk(factor=0.5) == pytest.approx(3 / 4)


@pytest.mark.claim(
    "lecture", "(f*, mu~*) built from the transport problem and its dual is a saddle"
)
@pytest.mark.parametrize("seed, quadratic", CASES)
def test_the_saddle_has_no_gap(seed, quadratic):
    p = game(seed, quadratic)
    f = mot.classifier(p.mot.phi, p.cost, p.y)
    moved = mot.attack(p.mot.pi, p.cost, p.y, p.w)
    assert f.min() >= 0 and f.sum(1) == pytest.approx(1)
    assert moved.min() >= 0 and moved.sum(1) == pytest.approx(p.w, abs=1e-12)
    assert not moved[np.isinf(p.cost)].any()
    highest = agnostic.risk(f, p.cost, p.y, p.w)
    lowest = agnostic.damage(moved, p.cost, p.y)
    assert highest == pytest.approx(lowest, abs=1e-9)
    assert highest == pytest.approx(p.game.value, abs=1e-9)
    assert p.game.value == pytest.approx(agnostic.risk(p.game.f, p.cost, p.y, p.w), abs=1e-9)
    assert p.game.value == pytest.approx(agnostic.damage(p.game.moved, p.cost, p.y), abs=1e-9)


@pytest.mark.claim("lecture", "the attack of the second theorem lacks the factor 2 mu(Z)")
def test_without_its_factor_the_attack_moves_another_mass():
    p = game(1, False)
    moved = mot.attack(p.mot.pi, p.cost, p.y, p.w) / (2 * p.w.sum())
    assert moved.sum() == pytest.approx(0.5)


def test_what_a_point_is_worth_by_hand():
    # sums over the marginals: points 0.8 and -0.3, ghost -0.1
    phi = np.array([[0.5, 0.0, -0.1], [0.3, -0.3, 0.0]])
    assert mot.worth(phi) == pytest.approx([0.7, 0.0])


def test_the_induced_cost_by_hand():
    # two points that meet and one far away, K = 3: one third each
    cost = np.array([[0, np.inf, np.inf, 0], [np.inf, 0, np.inf, 0], [np.inf, np.inf, 0, np.inf]])
    table = induced_cost(cost, np.arange(3))
    assert table[0, 1, 2] == pytest.approx(2 / 3) and table[0, 1, 3] == pytest.approx(1 / 3)
    assert table[0, 0, 1] == pytest.approx(2 / 3) and table[3, 3, 3] == 0
    assert (table == table.transpose(1, 0, 2)).all() and (table == table.transpose(2, 1, 0)).all()


# -- the saddle at any scale -----------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.claim("lecture", "a classifier from the dual and an attack from the plan attain L*")
def test_classifier_and_attack_attain_the_bound(norm):
    p = solved(norm, 2)
    last = p.steps[-1]
    classify, attack = (
        soft_classifier(p.x, p.y, last.q, p.threat),
        optimal_attack(p.x, last, p.threat),
    )
    assert np.bincount(attack.point, attack.mass) == pytest.approx(last.weights, abs=1e-12)
    away = p.threat.distance(p.x[attack.point], attack.places[attack.place])
    assert away.max() <= p.threat.eps + 1e-9
    assert attack.damage(p.y) == pytest.approx(last.risk, abs=1e-9)
    assert attack.risk(classify, p.y) == pytest.approx(last.risk, abs=1e-9)
    rng = torch.Generator().manual_seed(0)
    for _ in range(50):
        z = p.threat.sample(p.x, rng)
        f = classify(z)
        assert f.min() >= 0 and f.sum(1).numpy() == pytest.approx(1, abs=1e-9)
        assert (f[torch.arange(len(z)), p.y].numpy() >= last.q - 1e-9).all()
        other = soft_classifier(p.x, p.y[torch.randperm(len(z), generator=rng)], last.q, p.threat)
        guess = lambda z, other=other: other(z).softmax(1)  # noqa: E731
        assert attack.risk(guess, p.y) >= last.risk - 1e-9


@pytest.mark.parametrize("norm, step", [("linf", 16), ("l2", 16), ("l2", 7)])
def test_bytes_at_the_threshold_are_within_reach_of_their_centre(norm, step):
    """k/255 in float32 is off by more than touching allows: the saddle must see what k says."""
    threat, y = ball(norm, step / 510), torch.arange(2)
    for low in range(0, 255 - step, 9):
        x = torch.tensor([[low], [low + step]]).float() / 255
        best = optimal_risk(x, y, threat)
        classify, attack = soft_classifier(x, y, best.q, threat), optimal_attack(x, best, threat)
        assert best.risk == attack.damage(y) == 0.5
        assert attack.risk(classify, y) == pytest.approx(0.5, abs=1e-12)
        _, cost = meeting_places(x, y, threat)
        assert play(cost, y.numpy(), np.full(2, 0.5)).value == pytest.approx(0.5)


def test_labels_that_are_no_columns_are_refused():
    x, signs = torch.zeros(2, 1, dtype=torch.float64), torch.tensor([-1, 1])
    best = optimal_risk(x, signs, ball("l2", 1.0))
    assert best.risk == pytest.approx(0.5)
    attack = optimal_attack(x, best, ball("l2", 1.0))
    with pytest.raises(ValueError, match=r"labels must be whole numbers >= 0, got \[-1, 1\]"):
        attack.damage(signs)
    with pytest.raises(ValueError, match="labels must be whole numbers >= 0"):
        soft_classifier(x, signs, best.q, ball("l2", 1.0))


def test_an_attack_cannot_reach_a_group_without_a_common_point():
    threat = ball("l2", 0.51)
    above = optimal_risk(TRIANGLE, THREE, threat, rips=True)
    with pytest.raises(ValueError, match=r"a group 0.57735 from its centre, beyond eps=0.51"):
        optimal_attack(TRIANGLE, above, threat)


# -- entropic transport ----------------------------------------------------------------------------


@pytest.mark.claim("lecture", "entropic solvers overestimate the transport cost")
def test_sinkhorn_is_too_high_and_converges():
    p = game(1, False)
    table, bias = induced_cost(p.cost, p.y), []
    for eta in (0.2, 0.1, 0.05):
        *_, last = sinkhorn(table, p.w, eta=eta, steps=5000)
        assert last.error <= 1e-9
        bias.append(last.value - p.mot.value)
    assert bias[0] > bias[1] > bias[2] > 1e-6 and bias[2] < 0.5 * bias[0]


def test_sinkhorn_of_two_marginals_by_hand():
    # symmetric 2 x 2: pi = [[a, b], [b, a]] / 2 with a / b = exp(1 / eta)
    table, eta = np.array([[0.0, 1.0], [1.0, 0.0]]), 0.5
    *_, last = sinkhorn(table, np.array([1.0]), eta=eta)
    assert last.value == pytest.approx(1 / (1 + np.exp(1 / eta)), abs=1e-9)


# -- bad input -------------------------------------------------------------------------------------


def test_weights_must_be_a_probability(unchecked):
    x, y, w = cloud(0)
    for bad, message in (
        (2 * w, "weights must sum to one"),
        (np.where(np.arange(24) == 3, -w, w), "weights must be finite and >= 0"),
        (np.where(np.arange(24) == 3, np.nan, w), "weights must be finite"),
        (w[:-1], "weights must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            optimal_risk(x, y, ball("l2", 0.3), weights=bad)
        with pytest.raises(ValueError, match=message):
            enumerated(conflicts(x, y, ball("l2", 0.3)), "l2", weights=bad)


def test_bad_problems_are_refused(unchecked):
    x, y, _ = cloud(0)
    threat = ball("l2", 0.3)
    with pytest.raises(ValueError, match="labels must name at least two classes"):
        optimal_risk(x, torch.zeros_like(y), threat)
    with pytest.raises(ValueError, match="x must be finite"):
        optimal_risk(torch.full_like(x, np.nan), y, threat)
    with pytest.raises(ValueError, match="is too small"):
        optimal_risk(x, y, threat, memory=10)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_conflicts_know_their_norm(norm):
    """Three discs that meet in pairs only: 1/2 in l2, where no point is common; 2/3 in linf."""
    turn = 2 * np.pi * np.arange(3) / 3 + np.pi / 2
    x = torch.from_numpy(np.stack([np.cos(turn), np.sin(turn)], 1))
    found = conflicts(x, torch.arange(3), ThreatModel(norm=norm, eps=0.9, box=None))
    assert len(found) == 3 and found.norm == found.within(0.89).norm == norm
    exact = bound(found, torch.arange(3))
    assert exact.risk == pytest.approx({"l2": 1 / 2, "linf": 2 / 3}[norm])
    assert enumerated(found).risk == pytest.approx(exact.risk)
    assert bound(found, torch.arange(3), rips=True).risk == pytest.approx(2 / 3)


def test_bad_settings_are_refused(unchecked):
    x, y, _ = cloud(0)
    threat = ball("l2", 0.3)
    found = conflicts(x, y, threat)
    with pytest.raises(ValueError, match="norm must be one of .*, got 'l3'"):
        bound(found, y, "l3")
    for solve in (bound, lambda *of: list(cutting(*of)), lambda c, y, norm: enumerated(c, norm)):
        with pytest.raises(
            ValueError, match="norm must be that of the conflicts, 'l2', got 'linf'"
        ):
            solve(found, y, "linf")
    with pytest.raises(ValueError, match="labels must have shape"):
        bound(found, y[:-1], "l2")
    for order in (1, 2.5):
        with pytest.raises(ValueError, match=f"order must be a whole number >= 2, .*{order}"):
            bound(found, y, "l2", order=order)
    with pytest.raises(ValueError, match="norm must be one of .*, got 'l3'"):
        radius(distances(x[:3], "l2"), "l3")
    with pytest.raises(ValueError, match="norm='l1' has no exact test"):
        bound(conflicts(x, y, ball("l1", 0.5)), y, "l1")
    with pytest.raises(ValueError, match="l1"):
        radius(distances(x[:3], "l1"), "l1")
    with pytest.raises(ValueError, match="l1"):
        centre(x[:3], ball("l1", 0.5))
    with pytest.raises(ValueError, match="x must hold three points"):
        toy(x, np.full(3, 1 / 3), threat)
    with pytest.raises(ValueError, match="tuples are more than"):
        induced_cost(np.zeros((24, 1)), y.numpy())
    with pytest.raises(ValueError, match="eta must be finite and > 0"):
        next(sinkhorn(np.zeros((2, 2)), np.ones(1), eta=0.0))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"y": np.array([-1, 1])}, "y must hold classes 0, 1, 2, ..., got -1"),
        (
            {"y": np.array([0, 1, 1])},
            "cost, y and weights must have one length > 0, got 2, 3 and 2",
        ),
        ({"weights": np.array([-0.5, 1.5])}, "weights must be finite and >= 0, the least is -0.5"),
        ({"weights": np.array([np.nan, 1.0])}, "weights must be finite and >= 0"),
        ({"cost": np.array([[0.0], [np.nan]])}, "cost must be >= 0"),
        ({"cost": np.array([[0.0], [-1.0]])}, "cost must be >= 0"),
        ({"cost": np.array([[0.0], [np.inf]])}, "cost must have a finite entry for every point"),
    ],
)
def test_a_game_that_is_none_is_refused(change, message, unchecked):
    good = {"cost": np.zeros((2, 1)), "y": np.array([0, 1]), "weights": np.full(2, 0.5)}
    assert play(**good).value == pytest.approx(0.5)
    with pytest.raises(ValueError, match=message):
        play(**(good | change))


@pytest.mark.parametrize(
    "table, side, message",
    [
        ([[0, np.nan], [1, 0]], [0.5, 0.5], "table must be finite, or inf"),
        ([[0, -np.inf], [1, 0]], [0.5, 0.5], "table must be finite, or inf"),
        ([[0, 1], [1, 0]], [np.nan, 1], "marginals must be finite, >= 0, and have some mass"),
        ([[0, 1], [1, 0]], [-1, 2], "marginals must be finite, >= 0, and have some mass"),
        ([[0, 1], [1, 0]], [0, 0], "marginals must be finite, >= 0, and have some mass"),
    ],
)
def test_a_transport_problem_that_is_none_is_refused(table, side, message):
    for solver in (couple, lambda table, sides: next(scaling(table, sides, eta=0.1))):
        with pytest.raises(ValueError, match=message):
            solver(np.array(table, float), [np.array(side, float)] * 2)


def test_a_point_that_may_go_nowhere_is_named():
    table = np.array([[np.inf, np.inf], [1, 0]])
    with pytest.raises(ValueError, match="table is inf on every tuple of a point that has mass"):
        next(scaling(table, [np.full(2, 0.5)] * 2, eta=0.1))
    massless = [np.array([0.0, 1.0]), np.array([0.0, 1.0])]
    assert [*scaling(table, massless, eta=0.1)][-1].value == 0


def test_l1_has_pairs():
    x, y, w = cloud(1)
    threat = ball("l1", 0.5)
    solution = optimal_risk(x, y, threat, weights=w, order=2)
    assert solution.risk == pytest.approx(by_definition(x, y, threat, w, order=2), abs=1e-9)
    assert solution.risk > 0


def test_the_limits():
    x, y, w = cloud(0)
    assert optimal_risk(x, y, ball("l2", 0.0), weights=w).risk == 0
    everything = optimal_risk(x, y, ball("linf", 100.0), weights=w)
    per_class = np.bincount(y.numpy(), w)
    assert everything.risk == pytest.approx(1 - per_class.max(), abs=1e-9)
    # the same point three times, with three labels
    same = torch.cat([x, x[:1], x[:1]])
    labels = torch.cat([y, (y[:1] + 1) % 4, (y[:1] + 2) % 4])
    shares = np.append(0.5 * w, [0.2, 0.3])
    alone = optimal_risk(same, labels, ball("l2", 0.0), weights=shares)
    assert alone.risk == pytest.approx(shares[0] + 0.2, abs=1e-9)


# -- the run ---------------------------------------------------------------------------------------

MINI = ["dataset=mnist-mini", "classes=all", "per_class=12", "eps=4.5", "curve=3,4"]


def test_the_run_prints_its_record(tmp_path, capsys):
    assert main(["bounds", *MINI, "--out", str(tmp_path), "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    images = data.load("mnist-mini")
    rows = torch.cat([(images.y == k).nonzero()[:12, 0] for k in range(10)]).sort().values
    x, y = images.x[rows], images.y[rows]
    assert [row["eps"] for row in record["history"]] == [3.0, 4.0, 4.5]
    kinds = {"risk": {}, "risk_pairs": {"order": 2}, "risk_triples": {"order": 3}}
    for row in record["history"]:
        found = conflicts(x, y, ThreatModel(norm="l2", eps=row["eps"]))
        for name, kind in (kinds | {"risk_rips": {"rips": True}}).items():
            assert row[name] == pytest.approx(enumerated(found, "l2", **kind).risk, abs=1e-7)
    m = record["metrics"]
    assert 0 < m["risk_pairs"] <= m["risk_triples"] <= m["risk"] + 1e-9 <= m["risk_rips"] + 2e-9
    assert m["risk"] == record["history"][-1]["risk"] and abs(m["gap"]) <= 1e-9
    far = distances(x.flatten(1).double(), "l2")[(y[:, None] != y).numpy()]
    assert m["first_eps"] == pytest.approx(far.min() / 2, abs=1e-6)
    assert record["data"]["n"] == 120 and not list(tmp_path.glob("*.conflicts"))


def test_the_run_chooses_the_first_images_of_each_class():
    y = torch.tensor([3, 7, 3, 1, 7, 3])
    rows = bounds.chosen_rows(y, bounds.Config(classes="7,3", per_class=2))
    assert rows.tolist() == [0, 1, 2, 4]
    every = bounds.chosen_rows(y, bounds.Config(classes=None, per_class=None))
    assert every.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="class 1 has 1 images"):
        bounds.chosen_rows(y, bounds.Config(classes="1,3", per_class=2))


def test_the_run_refuses_what_it_cannot_do(tmp_path, capsys):
    for setting, message in (
        ("classes=3", "classes must name two classes or more"),
        ("classes=3,x", "classes must be numbers with commas"),
        ("per_class=0", "per_class must be >= 1, or all"),
        ("norm=l3", "norm must be one of"),
        ("dataset=svhn", "dataset must be one of"),
        ("curve=2,9", "curve must have radii of at most eps=3.0"),
    ):
        assert main(["bounds", setting, "--out", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err


def test_a_smaller_radius_is_read_from_a_larger_one():
    p = solved("l2", 1)
    near = p.found.within(0.3)
    assert isinstance(near, Conflicts) and len(near) < len(p.found)
    again = optimal_risk(p.x, p.y, ball("l2", 0.3), weights=p.w).risk
    assert bound(near, p.y, "l2", weights=p.w).risk == pytest.approx(again, abs=1e-12)


def test_the_kernel_is_made_of_components_with_a_group_of_three():
    # a triangle with a common point, and five conflicts in a ring, whose pairs are at 1/2 for good
    near = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]])
    angle = torch.arange(5) * 2 * torch.pi / 5
    ring = 10 + torch.stack([angle.cos(), angle.sin()], 1)
    x = torch.cat([near, ring]).double()
    y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    found = conflicts(x, y, ball("l2", 0.6))
    *_, last = cutting(found, y, "l2")
    assert last.kernel == 3 and last.risk == pytest.approx(
        by_definition(x, y, ball("l2", 0.6), last.weights)
    )
    assert exact.pairs(found, last.weights).risk < last.risk

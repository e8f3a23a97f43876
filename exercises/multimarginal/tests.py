"""Cases of the lecture's multimarginal part. probe_* run in the sandbox, check_* outside it."""

from itertools import product

import numpy as np

QUESTIONS = {
    "hollow_triangle": {
        "title": "Case 4: pairs meet, all three do not",
        "section": "lecture",
        "minutes": 15,
        "difficulty": 1,
        "hints": [
            "Two ways of choosing q: be right at one point only, or be half right everywhere.",
            "Compare what they earn: max w against 1/2.",
            "All below 1/2: every point is used up, m_01 + m_02 = w_0 and so on. Solve for m.",
        ],
    },
    "packing_risk": {
        "title": "The packing problem",
        "section": "lecture",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "linprog minimises: maximise <w, q> as minus the minimum of <-w, q>.",
            "Each group is a row of A_ub; a point in no group still has q <= 1.",
            "Hedging counts: q need not be 0 or 1.",
        ],
    },
    "transport_risk": {
        "title": "The theorem, with its constant",
        "section": "lecture",
        "minutes": 25,
        "difficulty": 3,
        "hints": [
            "One variable for each of the (n + 1)^K tuples; cost.ravel() is the objective.",
            "K (n + 1) equations: for axis k and entry z, the sum of pi over tuples with z_k = z.",
            "Each marginal has total one: half is the ghost, whatever the mass of mu.",
        ],
    },
    "dual_classifier": {
        "title": "The classifier in the dual",
        "section": "lecture",
        "minutes": 20,
        "difficulty": 3,
        "hints": [
            "g has one entry for each point: column sums of phi, plus that of the ghost.",
            "Out of the reach of class i, f_i = 0: g_j minus infinity never wins.",
            "The rest, one minus the row's sum, goes to class 0 on top of what it has.",
        ],
    },
}

CASES = [
    {
        "id": "hollow_triangle.equal",
        "points": 1,
        "public": True,
        "hint": "Three points of weight 1/3: what does being right at one of them earn?",
    },
    {
        "id": "hollow_triangle.balanced",
        "points": 1,
        "public": True,
        "hint": "Every point's masses add up to its weight.",
    },
    {
        "id": "hollow_triangle.heavy",
        "points": 1,
        "public": False,
        "hint": "Against a point that outweighs both others, hedging loses.",
    },
    {
        "id": "packing_risk.hollow",
        "points": 1,
        "public": True,
        "hint": "Three pairs without a common place; beside them a path of three points.",
    },
    {
        "id": "packing_risk.common",
        "points": 1,
        "public": True,
        "hint": "One group of three shares one unit: that says more than its three pairs.",
    },
    {
        "id": "packing_risk.mixed",
        "points": 2,
        "public": False,
        "hint": "Groups overlap, and one point is in none.",
    },
    {
        "id": "packing_risk.none",
        "points": 1,
        "public": False,
        "hint": "Without any group the classifier is right everywhere.",
        "needs": "packing_risk.hollow",
    },
    {
        "id": "transport_risk.two",
        "points": 2,
        "public": True,
        "hint": "Two classes: a plan with n + 1 rows and columns, the last of them the ghost's.",
    },
    {
        "id": "transport_risk.apart",
        "points": 1,
        "public": True,
        "hint": "Where no neighbourhoods meet the risk is 0: this settles the constant.",
        "needs": "transport_risk.two",
    },
    {
        "id": "transport_risk.three",
        "points": 1,
        "public": False,
        "hint": "Three classes: three marginals, each the same.",
    },
    {
        "id": "transport_risk.mass",
        "points": 1,
        "public": False,
        "hint": "The theorem is for any mass: normalise the marginals, scale the result.",
        "needs": "transport_risk.two",
    },
    {
        "id": "dual_classifier.budget",
        "points": 1,
        "public": True,
        "hint": "With costs 0 and infinity: of each class, the largest g within reach.",
    },
    {
        "id": "dual_classifier.costs",
        "points": 1,
        "public": True,
        "hint": "A point far away may offer less than nothing; then it has no say.",
    },
    {
        "id": "dual_classifier.nobody",
        "points": 1,
        "public": False,
        "hint": "A place out of everybody's reach still needs a row with sum one.",
        "needs": "dual_classifier.budget",
    },
]


def balanced(rng):
    """Three weights, all below 1/2, no two of them close to each other."""
    w = np.array([0.2, 0.33, 0.47]) + 0.01 * rng.random_sample(3)
    return w[rng.permutation(3)] / w.sum()


def case_four(hollow_triangle, w):
    q, mass = hollow_triangle(w)
    return {"q": q, "mass": mass}


def probe_hollow_triangle_equal(hollow_triangle, rng):
    return case_four(hollow_triangle, np.full(3, 1 / 3))


def probe_hollow_triangle_balanced(hollow_triangle, rng):
    return case_four(hollow_triangle, balanced(rng))


def probe_hollow_triangle_heavy(hollow_triangle, rng):
    w = np.array([0.12, 0.23, 0.65]) + 0.02 * rng.random_sample(3)
    return case_four(hollow_triangle, w[rng.permutation(3)] / w.sum())


def rows(n, *groups):
    """Groups given by their members, as rows of a matrix."""
    out = np.zeros((len(groups), n), bool)
    for row, members in zip(out, groups, strict=True):
        row[list(members)] = True
    return out


def probe_packing_risk_hollow(packing_risk, rng):
    w = np.append(0.7 * balanced(rng), [0.09, 0.12, 0.09])
    groups = [(0, 1), (0, 2), (1, 2), (3, 4), (4, 5)]
    return {"risk": packing_risk(rows(6, *groups), w)}


def probe_packing_risk_common(packing_risk, rng):
    w = np.append(0.7 * balanced(rng), [0.1, 0.2])
    return {"risk": packing_risk(rows(5, (0, 1, 2), (3, 4)), w)}


def probe_packing_risk_mixed(packing_risk, rng):
    # a hollow triangle, a common point with a light neighbour, a path of three, a point alone
    groups = [(0, 1), (0, 2), (1, 2), (3, 4, 5), (5, 10), (6, 7), (7, 8)]
    w = np.array([*balanced(rng), *balanced(rng), 0.3, 0.4, 0.3, 0.3, 0.02])
    return {"risk": packing_risk(rows(11, *groups), w / w.sum())}


def probe_packing_risk_none(packing_risk, rng):
    w = rng.random_sample(5)
    return {"risk": packing_risk(np.zeros((0, 5), bool), w / w.sum())}


def induced_cost(n, classes, groups):
    """c(z_1..z_K): what a classifier earns on the tuple's points, 1/K each; n is the ghost.

    The best q for up to three points is half-integral; points outside the tuple have no share.
    """
    every = np.array(list(product((0.0, 0.5, 1.0), repeat=n)))
    q = every[(every @ rows(n, *groups).T <= 1).all(1)]
    places = np.indices((n + 1,) * classes).reshape(classes, -1)
    share = np.stack([(places == i).sum(0) / classes for i in range(n)])
    return (q @ share).max(0).reshape((n + 1,) * classes)


def probe_transport_risk_two(transport_risk, rng):
    # a path: points 0 and 2 of one class, 1 and 3 of the other
    w = np.array([0.3, 0.25, 0.15, 0.3]) + 0.04 * rng.random_sample(4)
    cost = induced_cost(4, 2, [(0, 1), (1, 2), (2, 3)])
    return {"risk": transport_risk(cost, w / w.sum())}


def probe_transport_risk_apart(transport_risk, rng):
    w = balanced(rng)
    return {"risk": transport_risk(induced_cost(3, 3, []), w)}


def probe_transport_risk_three(transport_risk, rng):
    # a hollow triangle, and a fourth point that meets one of its corners
    w = np.append(0.8 * balanced(rng), 0.2)
    cost = induced_cost(4, 3, [(0, 1), (0, 2), (1, 2), (1, 3)])
    return {"risk": transport_risk(cost, w)}


def probe_transport_risk_mass(transport_risk, rng):
    groups, w = [(0, 1, 2), (0, 1), (0, 2), (1, 2)], balanced(rng)
    cost = induced_cost(3, 3, groups)
    return {"more": transport_risk(cost, 2.5 * w), "less": transport_risk(cost, 0.4 * w)}


def potentials(rng, g, classes=3):
    """Random potentials whose sums give g before it is cut off at zero."""
    phi = rng.standard_normal((classes, len(g) + 1))
    phi[0, :-1] += g - phi.sum(0)[:-1] - phi.sum(0)[-1]
    return phi


def probe_dual_classifier_budget(dual_classifier, rng):
    g, y = 0.1 + 0.2 * rng.random_sample(6), np.array([0, 1, 2, 1, 0, 2])
    g[1], g[3] = 0.3, 0.2
    reach = rng.random_sample((6, 5)) < 0.5
    reach[:, 0], reach[:, 1] = True, [False, True, False, True, False, False]
    reach[:, 2] = [False, False, False, True, True, False]
    return {"f": dual_classifier(potentials(rng, g), np.where(reach, 0.0, np.inf), y)}


def probe_dual_classifier_costs(dual_classifier, rng):
    g, y = 0.15 + 0.15 * rng.random_sample(5), np.array([0, 1, 2, 2, 1])
    cost = 0.3 * rng.random_sample((5, 6))
    cost[1, 0], cost[4, 0] = 0.8, 0.9  # class 1 is too far
    cost[2:4, 1] = 0.02, 0.05
    return {"f": dual_classifier(potentials(rng, g), cost, y)}


def probe_dual_classifier_nobody(dual_classifier, rng):
    g, y = np.array([0.3, -0.4, 0.25, -0.1]), np.array([0, 1, 2, 2])
    g = g + 0.02 * rng.random_sample(4)
    reach = np.array([[0, 1, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]], bool)
    return {"f": dual_classifier(potentials(rng, g), np.where(reach, 0.0, np.inf), y)}

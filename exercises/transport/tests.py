"""Cases of Section 17.6.4 to 17.6.6. probe_* run in the sandbox, check_* outside it."""

import numpy as np

QUESTIONS = {
    "conflict_matrix": {
        "title": "Which neighbourhoods meet",
        "section": "17.6.4",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "Two balls of radius eps: how far may their centres be apart, at most?",
            "x0[:, None] - x1[None] has all differences; take the norm over the last axis.",
            "Closed balls that touch share a point: is your comparison true there?",
        ],
    },
    "divergence": {
        "title": "D_N by a maximum matching",
        "section": "17.6.6",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "Each matched pair carries the mass 1/n of a coupling along a conflict.",
            "All other mass pays 1, whatever its coupling: D_N counts it.",
            "Taking any free pair first can block two later ones. SciPy's csgraph has a matching.",
        ],
    },
    "optimal_risk": {
        "title": "The optimal risk of weighted points",
        "section": "17.6.6",
        "minutes": 20,
        "difficulty": 2,
        "hints": [
            "It is a linear program with a variable for each pair in conflict.",
            "One inequality for each point: what leaves it, or arrives, is at most its weight.",
            "linprog minimises. Without any conflict there is no variable, and no risk.",
        ],
    },
    "given_up": {
        "title": "Whom the optimal classifier gives up",
        "section": "17.6.5",
        "minutes": 30,
        "difficulty": 3,
        "hints": [
            "Keep two masks, reached in class 0 and in class 1, and repeat until nothing changes.",
            "From reached points of class 0 along all conflicts; back along matched pairs only.",
            "Check yourself: as many given up as matched pairs, and no conflict among the others.",
        ],
    },
}

CASES = [
    {
        "id": "conflict_matrix.l2",
        "points": 1,
        "public": True,
        "hint": "Neighbourhoods meet when the centres are at most 2 eps apart.",
    },
    {
        "id": "conflict_matrix.touching",
        "points": 1,
        "public": True,
        "hint": "At distance 2 eps exactly, closed balls share their midpoint.",
        "needs": "conflict_matrix.l2",
    },
    {
        "id": "conflict_matrix.linf",
        "points": 1,
        "public": False,
        "hint": "The l_inf distance is the largest difference of any coordinate.",
    },
    {
        "id": "divergence.star",
        "points": 1,
        "public": True,
        "hint": "A point in conflict with many others can be paired with one of them only.",
    },
    {
        "id": "divergence.chain",
        "points": 2,
        "public": True,
        "hint": "The first free partner is not always the right one.",
        "needs": "divergence.star",
    },
    {
        "id": "divergence.sparse",
        "points": 1,
        "public": False,
        "hint": "Random conflicts: as many pairs as there can be, out of n.",
    },
    {
        "id": "divergence.apart",
        "points": 1,
        "public": False,
        "hint": "Without any conflict D_N = 1.",
        "needs": "divergence.star",
    },
    {
        "id": "optimal_risk.priors",
        "points": 2,
        "public": True,
        "hint": "The weights are what they are: the classes need not weigh the same.",
    },
    {
        "id": "optimal_risk.split",
        "points": 1,
        "public": True,
        "hint": "A heavy point may share its mass among several light ones.",
    },
    {
        "id": "optimal_risk.sparse",
        "points": 2,
        "public": False,
        "hint": "Mass moves along conflicts only, and no point gives more than it has.",
    },
    {
        "id": "optimal_risk.apart",
        "points": 1,
        "public": False,
        "hint": "Without any conflict the risk is 0, and a program without variables may raise.",
        "needs": "optimal_risk.priors",
    },
    {
        "id": "given_up.star",
        "points": 1,
        "public": True,
        "hint": "One point that meets all others: give up that one.",
    },
    {
        "id": "given_up.chain",
        "points": 1,
        "public": True,
        "hint": "No conflict may be left among the points that are kept.",
    },
    {
        "id": "given_up.greedy",
        "points": 2,
        "public": False,
        "hint": "The point with the most conflicts need not be one of those given up.",
    },
    {
        "id": "given_up.sparse",
        "points": 2,
        "public": False,
        "hint": "As many points as a maximum matching has pairs.",
        "needs": "given_up.chain",
    },
]


def around(rng, shares, norm):
    """Two points of class 0, and one of class 1 at each share of the distance 2 eps, eps = 1."""
    x0 = rng.standard_normal((2, 3))
    x0[1] += 40.0
    away = rng.standard_normal((len(shares), 3))
    away /= np.linalg.norm(away, ord=norm, axis=1, keepdims=True)
    return x0, x0[0] + 2 * np.array(shares)[:, None] * away


def probe_conflict_matrix_l2(conflict_matrix, rng):
    x0, x1 = around(rng, (0.2, 0.45, 0.7, 0.95, 1.05, 1.5), 2)
    corner = rng.choice([-1.0, 1.0], (2, 3)) / np.sqrt(3)  # far in l1, near in linf
    x1[3:5] = x0[0] + np.array([[1.9], [2.1]]) * corner
    return {"conflict": conflict_matrix(x0, x1, 1.0, "l2")}


def probe_conflict_matrix_touching(conflict_matrix, rng):
    # whole numbers and their quarters: 3, 4, 5 and 5, 12, 13 are exact in any order of work
    corner = rng.randint(-8, 8, (1, 2)) / 4
    signs = rng.choice([-1.0, 1.0], (4, 2))
    steps = np.array([[3.0, 4.0], [4.0, 3.0], [5.0, 0.0], [5.0, 12.0]]) * signs / 4
    return {
        "at": conflict_matrix(corner, corner + steps, 0.625, "l2"),
        "below": conflict_matrix(corner, corner + steps, 0.6171875, "l2"),
        "wide": conflict_matrix(corner, corner + steps, 1.625, "l2"),
    }


def probe_conflict_matrix_linf(conflict_matrix, rng):
    x0, x1 = around(rng, (0.2, 0.45, 0.7, 0.95, 1.05, 1.5), np.inf)
    x1[1] = x0[0] + [1.8, -1.8, 1.8]  # far in l2
    return {"conflict": conflict_matrix(x0, x1, 1.0, "linf")}


def shuffled(rng, conflict):
    rows, columns = (rng.permutation(size) for size in conflict.shape)
    return conflict[rows][:, columns]


def probe_divergence_star(divergence, rng):
    # a point of either class that meets three others
    n = 7 + rng.randint(3)
    conflict = np.zeros((n, n), bool)
    conflict[0, :3], conflict[1:4, 3] = True, True
    return {"divergence": divergence(shuffled(rng, conflict))}


def probe_divergence_chain(divergence, rng):
    # row i meets columns i - 1 and i; begun at the wrong end, a greedy hand loses one pair
    n = 6 + rng.randint(3)
    conflict = np.eye(n, dtype=bool) | np.eye(n, k=-1, dtype=bool)
    conflict = np.pad(conflict, ((0, 2), (0, 2)))
    return {"ahead": divergence(conflict[::-1]), "behind": divergence(conflict[:, ::-1])}


def sparse(rng, n, m, degree):
    """Random conflicts; planted are points that meet nobody, a crowd that meets one, and a trap:
    row 6 meets columns 2 and 3, row 7 column 2 alone, and whoever comes first must give way."""
    conflict = rng.random_sample((n, m)) < degree / m
    conflict[:8], conflict[:, :4] = False, False
    conflict[2:6, 1] = True
    conflict[6, [2, 3]], conflict[7, 2] = True, True
    return conflict


def probe_divergence_sparse(divergence, rng):
    # of 13 points no number of pairs makes D_N equal to its complement or to the risk
    return {"divergence": divergence(sparse(rng, 13, 13, 3.0))}


def probe_divergence_apart(divergence, rng):
    return {"divergence": divergence(np.zeros((6, 6), bool))}


def shares(rng, n, total):
    w = 0.8 + 0.4 * rng.random_sample(n)
    return total * w / w.sum()


def probe_optimal_risk_priors(optimal_risk, rng):
    rare = 0.2 + 0.05 * rng.random_sample()
    w0, w1 = shares(rng, 5, rare), shares(rng, 4, 1 - rare)
    return {
        "all meet": optimal_risk(np.ones((5, 4), bool), w0, w1),
        "some meet": optimal_risk(np.eye(4, 5, dtype=bool), w1, w0),
    }


def probe_optimal_risk_split(optimal_risk, rng):
    # one point of class 0 against three of class 1, which weigh less together; two stay away
    w1 = np.array([0.1, 0.08, 0.12, 0.2]) + 0.02 * rng.random_sample(4)
    w0 = (1 - w1.sum()) * np.array([0.9, 0.1])
    return {"risk": optimal_risk(np.array([[1, 1, 1, 0], [0, 0, 0, 0]], bool), w0, w1)}


def probe_optimal_risk_sparse(optimal_risk, rng):
    w0, w1 = np.full(11, 0.05), np.array([0.0, 0.12, 0.07, 0.07, 0.0, 0.0, 0.0])
    w0[[0, 1, 8, 9, 10]] = shares(rng, 5, 0.3)
    w1[[0, 4, 5, 6]] = shares(rng, 4, 0.14)
    return {"risk": optimal_risk(sparse(rng, 11, 7, 3.0), w0, w1)}


def probe_optimal_risk_apart(optimal_risk, rng):
    w0, w1 = shares(rng, 4, 0.5), shares(rng, 3, 0.5)
    return {"risk": optimal_risk(np.zeros((4, 3), bool), w0, w1)}


def masks(given_up, conflict):
    up0, up1 = given_up(conflict)
    return {"up0": up0, "up1": up1, "conflict": conflict}


def cover(out, ref):
    """A set of points that leaves no conflict, no larger than the reference's."""
    up0, up1 = out["up0"].astype(bool), out["up1"].astype(bool)
    left = int(ref["conflict"].astype(bool)[~up0][:, ~up1].sum())
    assert left == 0, f"expected no conflict among the points that are kept, got {left}"
    size, least = int(up0.sum() + up1.sum()), int(ref["up0"].sum() + ref["up1"].sum())
    assert size == least, f"expected {least} points to be given up, got {size}"


def probe_given_up_star(given_up, rng):
    conflict = np.zeros((5, 6), bool)
    conflict[2] = True
    return masks(given_up, shuffled(rng, conflict))


def check_given_up_star(out, ref):
    cover(out, ref)


def probe_given_up_chain(given_up, rng):
    # two rows meet column 0; two rows meet three columns, one of them a fourth; one meets nobody
    conflict = np.zeros((5, 6), bool)
    conflict[:2, 0], conflict[2:4, 1:4], conflict[3, 4] = True, True, True
    return masks(given_up, shuffled(rng, conflict))


def check_given_up_chain(out, ref):
    cover(out, ref)


def trap(rows):
    """The last column meets every row, and each row must be given up for two columns of its own."""
    own = np.kron(np.eye(rows, dtype=bool), np.ones((1, 2), bool))
    return np.hstack([own, np.ones((rows, 1), bool)])


def beside(*blocks):
    """Blocks of conflicts that have nothing to do with each other."""
    sizes = np.array([block.shape for block in blocks])
    conflict, (row, column) = np.zeros(sizes.sum(0), bool), (0, 0)
    for block, (height, width) in zip(blocks, sizes, strict=True):
        conflict[row : row + height, column : column + width] = block
        row, column = row + height, column + width
    return conflict


def probe_given_up_greedy(given_up, rng):
    return masks(given_up, shuffled(rng, beside(trap(5), np.ones((2, 1), bool))))


def check_given_up_greedy(out, ref):
    cover(out, ref)


def probe_given_up_sparse(given_up, rng):
    # a path of four rows and three columns: from any row without a partner the walk is long
    path = (np.eye(4, 3) + np.eye(4, 3, k=-1)).astype(bool)
    conflict = beside(path, trap(4), rng.random_sample((6, 5)) < 0.4)
    return masks(given_up, shuffled(rng, conflict))


def check_given_up_sparse(out, ref):
    cover(out, ref)

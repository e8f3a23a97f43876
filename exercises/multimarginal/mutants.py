"""Wrong answers to the multimarginal part, the cases each must lose, and what is said."""

HEDGE = "return np.full(3, 0.5), 0.5 - w[::-1]"
LP = "best = linprog(-w, A_ub=rows, b_ub=room, bounds=(0, 1))"
RESULT = "w.sum() * (1 - 2 * plan.fun)"
REST = "f[:, 0] += 1 - f.sum(1)"

MUTANTS = [
    {
        "name": "always_half",
        "question": "hollow_triangle",
        "swap": [("w[heavy] > 0.5", "False")],
        "loses": ["heavy"],
        "says": "Where one weight is above 1/2 your masses are negative: hedging loses there.",
    },
    {
        "name": "hard",
        "question": "hollow_triangle",
        "swap": [("w[heavy] > 0.5", "True")],
        "loses": ["equal", "balanced"],
        "says": "You commit to the heaviest point; being half right everywhere earns more.",
    },
    {
        "name": "thirds",
        "question": "hollow_triangle",
        "swap": [("np.full(3, 0.5)", "np.full(3, 1 / 3)")],
        "loses": ["equal", "balanced"],
        "says": "One unit for all three would be right in a common place, which there is none.",
    },
    {
        "name": "twice",
        "question": "hollow_triangle",
        "swap": [("0.5 - w[::-1]", "1 - 2 * w[::-1]")],
        "loses": ["equal", "balanced"],
        "says": "Your masses are twice what the points weigh.",
    },
    {
        "name": "pair_minimum",
        "question": "hollow_triangle",
        "swap": [(HEDGE, "return np.full(3, 0.5), np.minimum(w[[0, 0, 1]], w[[1, 2, 2]])")],
        "loses": ["equal", "balanced"],
        "says": "You merge each pair as if the third were not there, and spend points twice.",
    },
    {
        "name": "wrong_pairs",
        "question": "hollow_triangle",
        "swap": [("0.5 - w[::-1]", "0.5 - w")],
        "loses": ["balanced"],
        "says": "Your masses belong to the pair opposite: m_01 is 1/2 - w_2.",
    },
    {
        "name": "hard",
        "question": "packing_risk",
        "swap": [("bounds=(0, 1))", "bounds=(0, 1), integrality=1)")],
        "loses": ["hollow", "mixed", "none"],
        "says": "Your q is 0 or 1; a soft classifier may be half right at several points.",
    },
    {
        "name": "pairs_only",
        "question": "packing_risk",
        "swap": [
            (
                "rows, room =",
                "pairs = [(i, j) for g in groups for i in np.flatnonzero(g)\n"
                "             for j in np.flatnonzero(g) if i < j]\n"
                "    groups = np.zeros((len(pairs), len(w)))\n"
                "    for row, pair in zip(groups, pairs):\n"
                "        row[list(pair)] = 1\n"
                "    rows, room =",
            )
        ],
        "loses": ["common", "mixed"],
        "says": "You bound pairs only: a group of three shares one unit, not three halves.",
    },
    {
        "name": "unbounded",
        "question": "packing_risk",
        "swap": [("bounds=(0, 1)", "bounds=(0, None)")],
        "loses": ["mixed", "none"],
        "says": "A point in no group has no bound: q is a probability, at most one.",
    },
    {
        "name": "earned",
        "question": "packing_risk",
        "swap": [("w.sum() + best.fun", "-best.fun")],
        "loses": ["hollow", "common", "mixed", "none"],
        "says": "That is the probability of being right; the risk is one minus it.",
    },
    {
        "name": "unweighted",
        "question": "packing_risk",
        "swap": [("    rows,", "    w = np.full(len(w), 1 / len(w))\n    rows,")],
        "loses": ["hollow", "common", "mixed", "none"],
        "says": "Your points all weigh the same.",
    },
    {
        "name": "heaviest_first",
        "question": "packing_risk",
        "swap": [
            (
                LP,
                "q = np.zeros(len(w))\n"
                "    for i in np.argsort(-w):\n"
                "        rest = [1 - g @ q for g in rows if g[i]]\n"
                "        q[i] = min([1.0, *rest])",
            ),
            ("w.sum() + best.fun", "w.sum() - w @ q"),
        ],
        "loses": ["hollow", "mixed", "none"],
        "says": "You serve the heaviest point first; several lighter ones can be worth more.",
    },
    {
        "name": "group_by_group",
        "question": "packing_risk",
        "source": """def packing_risk(groups, w):
    return sum(w[g].sum() - w[g].max() for g in groups)
""",
        "loses": ["hollow", "mixed", "none"],
        "says": "You pay for every group by itself; groups that share points share the loss.",
    },
    {
        "name": "printed",
        "question": "transport_risk",
        "swap": [("1 - 2 * plan.fun", "1 - plan.fun / 2")],
        "loses": ["two", "apart", "three", "mass"],
        "says": "Your constant is the 1/2 of the slides. Where nothing meets the risk must be 0.",
    },
    {
        "name": "one",
        "question": "transport_risk",
        "swap": [("1 - 2 * plan.fun", "1 - plan.fun")],
        "loses": ["two", "apart", "three", "mass"],
        "says": "The constant 2 is missing: the ghost takes half of every marginal.",
    },
    {
        "name": "no_mass",
        "question": "transport_risk",
        "swap": [(RESULT, "1 - 2 * plan.fun")],
        "loses": ["mass"],
        "says": "You return the risk of the normalised measure; scale it by the mass of mu.",
    },
    {
        "name": "not_normalised",
        "question": "transport_risk",
        "swap": [("w / (2 * w.sum())", "w / 2")],
        "loses": ["mass"],
        "says": "Your marginals have total one only where mu has: divide by its mass.",
    },
    {
        "name": "no_ghost",
        "question": "transport_risk",
        "swap": [("np.append(w / (2 * w.sum()), 0.5)", "np.append(w / w.sum(), 0.0)")],
        "loses": ["two", "apart", "three", "mass"],
        "says": "Half of each marginal belongs to the ghost.",
    },
    {
        "name": "dearest",
        "question": "transport_risk",
        "swap": [("linprog(cost", "linprog(-cost"), ("plan.fun)", "-plan.fun)")],
        "loses": ["two", "apart", "three", "mass"],
        "says": "You take the dearest plan; the theorem has an infimum.",
    },
    {
        "name": "two_marginals",
        "question": "transport_risk",
        "swap": [
            ("for k in range(cost.ndim)", "for k in range(2)"),
            ("np.tile(side, cost.ndim)", "np.tile(side, 2)"),
        ],
        "loses": ["apart", "three", "mass"],
        "says": "You fix two marginals; with K classes there are K.",
    },
    {
        "name": "independent",
        "question": "transport_risk",
        "source": """def transport_risk(cost, w):
    side = np.append(w / (2 * w.sum()), 0.5)
    for _ in range(cost.ndim):
        cost = cost @ side
    return w.sum() * (1 - 2 * cost)
""",
        "loses": ["two", "apart", "three", "mass"],
        "says": "Your plan is the product of the marginals, not the cheapest one.",
    },
    {
        "name": "no_ghost",
        "question": "dual_classifier",
        "swap": [("total[:-1] + total[-1]", "total[:-1]")],
        "loses": ["budget", "costs", "nobody"],
        "says": "The ghost's potentials are missing in g.",
    },
    {
        "name": "ghost_once",
        "question": "dual_classifier",
        "swap": [("total[-1]", "phi[0, -1]")],
        "loses": ["budget", "costs", "nobody"],
        "says": "The ghost has one potential for each marginal: sum them all.",
    },
    {
        "name": "added_up",
        "question": "dual_classifier",
        "swap": [
            (
                "f[:, y[j]] = np.maximum(f[:, y[j]], g[j] - cost[j])",
                "f[:, y[j]] += np.maximum(g[j] - cost[j], 0)",
            )
        ],
        "loses": ["budget", "costs", "nobody"],
        "says": "You add up the points of a class; only the best of them counts.",
    },
    {
        "name": "last_point",
        "question": "dual_classifier",
        "swap": [
            (
                "np.maximum(f[:, y[j]], g[j] - cost[j])",
                "np.maximum(g[j] - cost[j], 0)",
            )
        ],
        "loses": ["budget", "costs", "nobody"],
        "says": "The last point of a class replaces the others instead of competing with them.",
    },
    {
        "name": "negative",
        "question": "dual_classifier",
        "swap": [
            ("np.zeros((cost.shape[1], len(phi)))", "np.full((cost.shape[1], len(phi)), -1e9)")
        ],
        "loses": ["budget", "costs", "nobody"],
        "says": "Your f goes below zero where a class is far away.",
    },
    {
        "name": "no_rest",
        "question": "dual_classifier",
        "swap": [(REST, "pass")],
        "loses": ["budget", "costs", "nobody"],
        "says": "Your rows sum to less than one: the rest belongs to class 0.",
    },
    {
        "name": "rescaled",
        "question": "dual_classifier",
        "swap": [(REST, "f /= np.maximum(f.sum(1, keepdims=True), 1e-12)")],
        "loses": ["budget", "costs", "nobody"],
        "says": "You rescale rows to sum one; that changes every f, and cannot help an empty row.",
    },
    {
        "name": "spread",
        "question": "dual_classifier",
        "swap": [(REST, "f += (1 - f.sum(1, keepdims=True)) / len(phi)")],
        "loses": ["budget", "costs", "nobody"],
        "says": "You spread the rest over all classes. Allowed in theory; here it goes to class 0.",
    },
    {
        "name": "rest_replaces",
        "question": "dual_classifier",
        "swap": [(REST, "f[:, 0] = 1 - f.sum(1)")],
        "loses": ["budget", "costs", "nobody"],
        "says": "Class 0 keeps what it had, and gets the rest on top.",
    },
]

ACCEPT = {
    "hollow_triangle": [
        """def hollow_triangle(w):
    # both linear programs
    pairs = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], float)
    q = linprog(-w, A_ub=pairs, b_ub=np.ones(3)).x
    return q, linprog(-np.ones(3), A_ub=pairs.T, b_ub=w).x
""",
        """def hollow_triangle(w):
    a, b, c = w
    m = np.array([a + b - c, a + c - b, b + c - a]) / 2
    if (m < 0).any():
        k = 2 - int(m.argmin())
        light = [w[j] for j in range(3) if j != k]
        m = np.insert(light, 2 - k, 0.0)
        return [float(i == k) for i in range(3)], m
    return [0.5, 0.5, 0.5], m
""",
    ],
    "packing_risk": [
        """def packing_risk(groups, w):
    # the cover: masses on groups and on single points
    n = len(w)
    members = np.vstack([groups, np.eye(n)])
    cover = linprog(np.ones(len(members)), A_ub=-members.T, b_ub=-w)
    return 1 - cover.fun
"""
    ],
    "transport_risk": [
        """def transport_risk(cost, w):
    # the dual: potentials below the cost
    k, m = cost.ndim, cost.shape[0]
    side = np.append(w / (2 * w.sum()), 0.5)
    index = np.indices(cost.shape).reshape(k, -1)
    below = np.zeros((cost.size, k * m))
    for axis in range(k):
        below[np.arange(cost.size), axis * m + index[axis]] = 1
    best = linprog(-np.tile(side, k), A_ub=below, b_ub=cost.ravel(), bounds=(None, None))
    return w.sum() * (1 + 2 * best.fun)
""",
        """def transport_risk(cost, w):
    # the cost is symmetric: the sum of the marginals is enough
    side = np.append(w / (2 * w.sum()), 0.5)
    index = np.indices(cost.shape).reshape(cost.ndim, -1)
    count = np.array([(index == z).sum(0) for z in range(len(side))], float)
    return w.sum() * (1 - 2 * linprog(cost.ravel(), A_eq=count, b_eq=cost.ndim * side).fun)
""",
    ],
    "dual_classifier": [
        """def dual_classifier(phi, cost, y):
    s = phi.sum(axis=0)
    offer = np.clip(s[:-1] + s[-1], 0, None)[:, None] - cost
    f = np.stack([np.clip(offer[y == i].max(axis=0), 0, None) for i in range(len(phi))], 1)
    f[:, 0] = 1 - f[:, 1:].sum(axis=1)
    return f
"""
    ],
}

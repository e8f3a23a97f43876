"""Wrong answers to Section 17.6.4 to 17.6.6, the cases each must lose, and what is said."""

TEST = "np.linalg.norm(apart, ord=order, axis=2) <= 2 * eps"
SIZE = "1 - (partner >= 0).sum() / len(conflict)"
NORMS = ["l2", "touching", "linf"]

MUTANTS = [
    {
        "name": "one_eps",
        "question": "conflict_matrix",
        "swap": [("2 * eps", "eps")],
        "loses": NORMS,
        "says": "You compare with eps; both points move, so neighbourhoods meet up to 2 eps.",
    },
    {
        "name": "open_balls",
        "question": "conflict_matrix",
        "swap": [("<=", "<")],
        "loses": ["touching"],
        "says": "At distance 2 eps exactly you see no conflict: closed balls share their midpoint.",
    },
    {
        "name": "always_l2",
        "question": "conflict_matrix",
        "swap": [("ord=order", "ord=2")],
        "loses": ["linf"],
        "says": "You measure in l_2 whatever the norm.",
    },
    {
        "name": "always_linf",
        "question": "conflict_matrix",
        "swap": [("ord=order", "ord=np.inf")],
        "loses": ["l2", "touching"],
        "says": "You measure in l_inf whatever the norm.",
    },
    {
        "name": "squared",
        "question": "conflict_matrix",
        "swap": [(TEST, "np.linalg.norm(apart, ord=order, axis=2) ** 2 <= 2 * eps")],
        "loses": NORMS,
        "says": "You compare the squared distance with 2 eps.",
    },
    {
        "name": "transposed_signs",
        "question": "conflict_matrix",
        "swap": [(TEST, "np.linalg.norm(apart, ord=order, axis=2) > 2 * eps")],
        "loses": NORMS,
        "says": "Your matrix is True where neighbourhoods do not meet.",
    },
    {
        "name": "greedy",
        "question": "divergence",
        "source": """def divergence(conflict):
    free, pairs = np.ones(len(conflict), bool), 0
    for row in conflict:
        choice = np.flatnonzero(row & free)
        if len(choice):
            free[choice[0]] = False
            pairs += 1
    return 1 - pairs / len(conflict)
""",
        "loses": ["chain", "sparse"],
        "says": "You take the first free partner: an earlier pair may have to change for a later.",
    },
    {
        "name": "halved",
        "question": "divergence",
        "swap": [("/ len(conflict)", "/ (2 * len(conflict))")],
        "loses": ["star", "chain", "sparse", "apart"],
        "says": "You divide by all points: each class alone has mass one in D_N.",
    },
    {
        "name": "risk",
        "question": "divergence",
        "swap": [(SIZE, "(partner >= 0).sum() / (2 * len(conflict))")],
        "loses": ["star", "chain", "sparse", "apart"],
        "says": "That is the optimal risk, (1 - D_N) / 2.",
    },
    {
        "name": "complement",
        "question": "divergence",
        "swap": [("1 - (partner", "(partner")],
        "loses": ["star", "chain", "sparse", "apart"],
        "says": "You return the mass that moves along conflicts; D_N is the mass that does not.",
    },
    {
        "name": "independent",
        "question": "divergence",
        "source": "def divergence(conflict):\n    return 1 - conflict.mean()\n",
        "loses": ["star", "chain", "sparse", "apart"],
        "says": "You count conflicts: that is the coupling of independent draws, not the best one.",
    },
    {
        "name": "touched",
        "question": "divergence",
        "source": "def divergence(conflict):\n    return 1 - conflict.any(1).mean()\n",
        "loses": ["star", "sparse", "chain", "apart"],
        "says": "You count points that have a conflict; several of them may need the same partner.",
    },
    {
        "name": "no_weights",
        "question": "optimal_risk",
        "source": """def optimal_risk(conflict, w0, w1):
    partner = maximum_bipartite_matching(csr_matrix(conflict), perm_type="column")
    return (partner >= 0).sum() / sum(conflict.shape)
""",
        "loses": ["priors", "split", "sparse", "apart"],
        "says": "You count pairs as if all points had the same weight.",
    },
    {
        "name": "normalised",
        "question": "optimal_risk",
        "swap": [
            ("np.concatenate([w0, w1])", "np.concatenate([w0 / w0.sum(), w1 / w1.sum()]) / 2")
        ],
        "loses": ["priors", "split", "sparse", "apart"],
        "says": "You give both classes the prior 1/2: (1 - D_N) / 2 holds for equal priors only.",
    },
    {
        "name": "no_room",
        "question": "optimal_risk",
        "source": """def optimal_risk(conflict, w0, w1):
    return np.minimum(w0[:, None], w1)[conflict].sum()
""",
        "loses": ["priors", "sparse", "apart"],
        "says": "You spend the weight of a point once for each of its conflicts.",
    },
    {
        "name": "one_side",
        "question": "optimal_risk",
        "swap": [
            ("np.concatenate([leaves, arrives])", "leaves"),
            ("np.concatenate([w0, w1])", "w0"),
        ],
        "loses": ["priors", "split", "sparse", "apart"],
        "says": "Points of class 1 take in more than they weigh.",
    },
    {
        "name": "one_partner",
        "question": "optimal_risk",
        "source": """def optimal_risk(conflict, w0, w1):
    from scipy.optimize import linear_sum_assignment

    mass = np.where(conflict, np.minimum(w0[:, None], w1), 0.0)
    return mass[linear_sum_assignment(-mass)].sum()
""",
        "loses": ["priors", "split", "sparse", "apart"],
        "says": "Each of your points has one partner; with weights, mass may be split.",
    },
    {
        "name": "in_order",
        "question": "optimal_risk",
        "source": """def optimal_risk(conflict, w0, w1):
    rest, room, total = w0.copy(), w1.copy(), 0.0
    for i, j in zip(*np.nonzero(conflict)):
        mass = min(rest[i], room[j])
        rest[i], room[j], total = rest[i] - mass, room[j] - mass, total + mass
    return total
""",
        "loses": ["sparse"],
        "says": "You fill pair after pair; an early one can take what a later one needs.",
    },
    {
        "name": "no_guard",
        "question": "optimal_risk",
        "swap": [("    if len(i) == 0:\n        return 0.0\n", "")],
        "loses": ["apart"],
        "says": "Without any conflict your program has no variables.",
    },
    {
        "name": "class_0",
        "question": "given_up",
        "swap": [("~reached0, reached1", "partner >= 0, np.zeros_like(reached1)")],
        "loses": ["chain", "greedy", "sparse"],
        "says": "You give up the points of class 0 with a partner: conflicts of others remain.",
    },
    {
        "name": "class_1",
        "question": "given_up",
        "swap": [("~reached0, reached1", "np.zeros_like(reached0), matched.any(0)")],
        "loses": ["star", "chain", "greedy", "sparse"],
        "says": "You give up the points of class 1 with a partner: conflicts of others remain.",
    },
    {
        "name": "both",
        "question": "given_up",
        "swap": [("~reached0, reached1", "partner >= 0, matched.any(0)")],
        "loses": ["star", "chain", "greedy", "sparse"],
        "says": "You give up both points of every pair; one of the two is enough.",
    },
    {
        "name": "everyone",
        "question": "given_up",
        "swap": [("~reached0, reached1", "conflict.any(1), conflict.any(0)")],
        "loses": ["star", "chain", "greedy", "sparse"],
        "says": "You give up every point that has a conflict.",
    },
    {
        "name": "inverted",
        "question": "given_up",
        "swap": [("~reached0, reached1", "reached0, ~reached1")],
        "loses": ["star", "chain", "greedy", "sparse"],
        "says": "It is the other way round: not reached in class 0, reached in class 1.",
    },
    {
        "name": "one_step",
        "question": "given_up",
        "swap": [("range(len(conflict))", "range(1)")],
        "loses": ["sparse"],
        "says": "You walk one step; go on until nothing new is reached.",
    },
    {
        "name": "most_conflicts",
        "question": "given_up",
        "source": """def given_up(conflict):
    left = conflict.copy()
    up0, up1 = np.zeros(left.shape[0], bool), np.zeros(left.shape[1], bool)
    while left.any():
        rows, columns = left.sum(1), left.sum(0)
        if rows.max() >= columns.max():
            up0[rows.argmax()], left[rows.argmax()] = True, False
        else:
            up1[columns.argmax()], left[:, columns.argmax()] = True, False
    return up0, up1
""",
        "loses": ["greedy", "sparse"],
        "says": "You give up the point with the most conflicts first, which can cost one too many.",
    },
]

ACCEPT = {
    "conflict_matrix": [
        """def conflict_matrix(x0, x1, eps, norm):
    out = np.zeros((len(x0), len(x1)), bool)
    for i, a in enumerate(x0):
        for j, b in enumerate(x1):
            if norm == "l2":
                out[i, j] = ((a - b) ** 2).sum() <= (2 * eps) ** 2
            else:
                out[i, j] = max(abs(a - b)) <= 2 * eps
    return out
""",
        """def conflict_matrix(x0, x1, eps, norm):
    # by the midpoint: it lies in both balls
    middle = (x0[:, None] + x1[None]) / 2
    away = np.abs(middle - x0[:, None])
    size = np.sqrt((away**2).sum(-1)) if norm == "l2" else away.max(-1)
    return size <= eps
""",
    ],
    "divergence": [
        """def divergence(conflict):
    # the coupling itself, as an assignment of least cost
    from scipy.optimize import linear_sum_assignment

    cost = ~conflict
    return cost[linear_sum_assignment(cost)].mean()
""",
        """def divergence(conflict):
    # augmenting paths
    owner = {}

    def place(i, seen):
        for j in np.flatnonzero(conflict[i]):
            if j not in seen:
                seen.add(j)
                if j not in owner or place(owner[j], seen):
                    owner[j] = i
                    return True
        return False

    return 1 - sum(place(i, set()) for i in range(len(conflict))) / len(conflict)
""",
    ],
    "optimal_risk": [
        """def optimal_risk(conflict, w0, w1):
    # the dual: the weight of a fractional cover
    i, j = np.nonzero(conflict)
    n, m = conflict.shape
    both = np.zeros((len(i) + 1, n + m))
    both[np.arange(len(i)), i] = both[np.arange(len(i)), n + j] = -1
    limit = np.append(-np.ones(len(i)), 0)
    return linprog(np.concatenate([w0, w1]), A_ub=both, b_ub=limit).fun
"""
    ],
    "given_up": [
        """def given_up(conflict):
    # the smallest cover as a linear program: its vertices are whole numbers
    n, m = conflict.shape
    i, j = np.nonzero(conflict)
    both = np.zeros((len(i), n + m))
    both[np.arange(len(i)), i] = both[np.arange(len(i)), n + j] = -1
    x = linprog(np.ones(n + m), A_ub=both, b_ub=-np.ones(len(i)), bounds=(0, 1)).x > 0.5
    return x[:n], x[n:]
"""
    ],
}

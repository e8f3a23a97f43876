"""Wrong answers about barycenters, the cases each must lose, and what its author is told."""

FIRST = "first = np.searchsorted(np.cumsum(mass), u)"
TILES = "tiles = x.reshape(electrons, -1)"
PAIR = "total += np.mean(1 / np.abs(tiles[i] - tiles[j]))"
WEIGHTED = "first, second, third = (w * c for w, c in zip(weights, costs))"
TOGETHER = "together.min(axis=-1)"
WRONG = "wrong = arrived.sum() - arrived.max(axis=0).sum()"
PAID = "paid = sum((flow[flow > 0] * cost[flow > 0]).sum() for flow, cost in zip(flows, costs))"

MUTANTS = [
    {
        "name": "unweighted",
        "question": "quantiles",
        "swap": [("weight * x[first]", "x[first] / len(points)")],
        "loses": ["equal", "masses", "sizes"],
        "says": "You give every measure the same weight; the weights are an argument.",
    },
    {
        "name": "equal_masses",
        "question": "quantiles",
        "swap": [(FIRST, "first = np.minimum((u * len(x)).astype(int), len(x) - 1)")],
        "loses": ["masses", "sizes"],
        "says": "Your quantiles take all atoms of a measure for equally heavy.",
    },
    {
        "name": "one_too_far",
        "question": "quantiles",
        "swap": [
            (FIRST, "first = np.minimum(np.searchsorted(np.cumsum(mass), u) + 1, len(x) - 1)")
        ],
        "loses": ["equal", "masses", "sizes"],
        "says": "Your quantile is the next point: the masses up to it already exceeded u.",
    },
    {
        "name": "interpolated",
        "question": "quantiles",
        "swap": [("weight * x[first]", "weight * np.interp(u, np.cumsum(mass), x)")],
        "loses": ["equal", "masses", "sizes"],
        "says": "You interpolate between atoms; the quantile function of atoms is a step function.",
    },
    {
        "name": "mixture",
        "question": "quantiles",
        "source": """def quantiles(points, masses, weights, u):
    x = np.concatenate(points)
    mass = np.concatenate([w * m for w, m in zip(weights, masses)])
    order = np.argsort(x)
    first = np.searchsorted(np.cumsum(mass[order]), u)
    return x[order][np.minimum(first, len(x) - 1)]
""",
        "loses": ["equal", "masses", "sizes"],
        "says": "That is the quantile function of the mixture; the barycenter averages quantiles.",
    },
    {
        "name": "mirrored",
        "question": "repulsion",
        "swap": [
            (
                TILES,
                "tiles = x.reshape(electrons, -1)\n    tiles = np.stack("
                "[t if k % 2 == 0 else t[::-1] for k, t in enumerate(tiles)])",
            )
        ],
        "loses": ["two", "uniform", "many"],
        "says": "Every other electron climbs down: it meets its neighbour where their tiles touch.",
    },
    {
        "name": "interleaved",
        "question": "repulsion",
        "swap": [(TILES, "tiles = x.reshape(-1, electrons).T")],
        "loses": ["two", "uniform", "many"],
        "says": "You deal the atoms out in turn; a tile has atoms that are neighbours.",
    },
    {
        "name": "neighbours",
        "question": "repulsion",
        "swap": [("range(i + 1, electrons)", "range(i + 1, min(i + 2, electrons))")],
        "loses": ["uniform", "many"],
        "says": "You count neighbours only; every pair of electrons repels.",
    },
    {
        "name": "twice",
        "question": "repulsion",
        "swap": [(PAIR, "total += 2 * np.mean(1 / np.abs(tiles[i] - tiles[j]))")],
        "loses": ["two", "uniform", "many"],
        "says": "You count every pair twice.",
    },
    {
        "name": "summed",
        "question": "repulsion",
        "swap": [(PAIR, "total += np.sum(1 / np.abs(tiles[i] - tiles[j])) / len(x)")],
        "loses": ["two", "uniform", "many"],
        "says": "You divide by n; there are n / K places for the K electrons together.",
    },
    {
        "name": "independent",
        "question": "repulsion",
        "swap": [(PAIR, "total += np.mean(1 / np.abs(tiles[i][:, None] - tiles[j]))")],
        "loses": ["two", "uniform", "many"],
        "says": "Your electrons move independently in their tiles; they climb together.",
    },
    {
        "name": "each_its_own",
        "question": "meeting",
        "swap": [
            (
                WEIGHTED,
                "first, second, third = (w * c.min(axis=1, keepdims=True) "
                "for w, c in zip(weights, costs))",
            )
        ],
        "loses": ["squares", "weights", "sizes"],
        "says": "Everybody goes to a place of their own; a meeting has one place.",
    },
    {
        "name": "unweighted",
        "question": "meeting",
        "swap": [("(w * c for", "(c for")],
        "loses": ["weights", "sizes"],
        "says": "You leave the weights out.",
    },
    {
        "name": "weights_at_the_end",
        "question": "meeting",
        "source": """def meeting(costs, weights):
    a, b, c = costs
    together = a[:, None, None] + b[None, :, None] + c[None, None, :]
    place = together.argmin(axis=-1)
    i, j, k = np.indices(place.shape)
    return weights[0] * a[i, place] + weights[1] * b[j, place] + weights[2] * c[k, place]
""",
        "loses": ["weights", "sizes"],
        "says": "You choose the place without weights and only pay with them.",
    },
    {
        "name": "reversed",
        "question": "meeting",
        "swap": [(TOGETHER, "together.min(axis=-1).T")],
        "loses": ["squares", "weights", "sizes"],
        "says": "Your axes come in the opposite order.",
    },
    {
        "name": "dearest",
        "question": "meeting",
        "swap": [(TOGETHER, "together.max(axis=-1)")],
        "loses": ["squares", "weights", "sizes"],
        "says": "You meet at the dearest place.",
    },
    {
        "name": "one_place_for_everybody",
        "question": "meeting",
        "swap": [(TOGETHER, "together[..., together.mean(axis=(0, 1, 2)).argmin()]")],
        "loses": ["squares", "weights", "sizes"],
        "says": "You send all triples to one place; each has a cheapest of its own.",
    },
    {
        "name": "free",
        "question": "worth",
        "swap": [("return wrong - paid", "return wrong")],
        "loses": ["paid", "budget"],
        "says": "You forget what the moves cost.",
    },
    {
        "name": "on_top",
        "question": "worth",
        "swap": [("wrong - paid", "wrong + paid")],
        "loses": ["paid", "budget"],
        "says": "The price is a loss to the adversary: subtract it.",
    },
    {
        "name": "right_not_wrong",
        "question": "worth",
        "swap": [(WRONG, "wrong = arrived.max(axis=0).sum()")],
        "loses": ["merged", "paid", "budget"],
        "says": "That is the mass on which the learner is right.",
    },
    {
        "name": "heaviest_point",
        "question": "worth",
        "swap": [
            (
                WRONG,
                "wrong = arrived.sum() - np.concatenate(flows).max(axis=0).sum()",
            )
        ],
        "loses": ["merged", "paid", "budget"],
        "says": "Your learner is right on the heaviest point; it is right on all of a class.",
    },
    {
        "name": "one_answer",
        "question": "worth",
        "swap": [(WRONG, "wrong = arrived.sum() - arrived.sum(axis=1).max()")],
        "loses": ["merged", "paid", "budget"],
        "says": "Your learner answers the same class everywhere; it may choose at every place.",
    },
    {
        "name": "zero_times_infinity",
        "question": "worth",
        "swap": [(PAID, "paid = sum((flow * cost).sum() for flow, cost in zip(flows, costs))")],
        "loses": ["budget"],
        "says": "Where a way costs infinity and carries nothing, you multiply 0 by infinity.",
    },
]

ACCEPT = {
    "quantiles": [
        """def quantiles(points, masses, weights, u):
    result = []
    for level in u:
        total = 0.0
        for x, mass, weight in zip(points, masses, weights):
            below = 0.0
            for place, m in zip(x, mass):
                below += m
                if below >= level:
                    break
            total += weight * place
        result.append(total)
    return np.array(result)
"""
    ],
    "repulsion": [
        """def repulsion(x, electrons):
    n = len(x)
    step = n // electrons
    apart = [np.abs(x - np.roll(x, k * step)) for k in range(1, electrons)]
    return sum((1 / a).sum() for a in apart) / (2 * step)
"""
    ],
    "meeting": [
        """def meeting(costs, weights):
    best = np.full([len(c) for c in costs], np.inf)
    for place in range(costs[0].shape[1]):
        a, b, c = (w * cost[:, place] for w, cost in zip(weights, costs))
        best = np.minimum(best, a[:, None, None] + b[:, None] + c)
    return best
"""
    ],
    "worth": [
        """def worth(flows, costs):
    gain = 0.0
    for place in range(flows[0].shape[1]):
        arrived = sorted(float(flow[:, place].sum()) for flow in flows)
        gain += sum(arrived[:-1])
    for flow, cost in zip(flows, costs):
        gain -= (flow * np.where(flow > 0, cost, 0.0)).sum()
    return gain
"""
    ],
}

"""Cases of the lecture's barycenters. probe_* run in the sandbox, check_* outside it."""

import numpy as np

QUESTIONS = {
    "quantiles": {
        "title": "A barycenter on the line",
        "section": "lecture",
        "minutes": 15,
        "difficulty": 1,
        "hints": [
            "Quantiles are averaged, level by level; neither masses nor densities are.",
            "np.cumsum(masses) has the levels at which a quantile function jumps.",
            "np.searchsorted(levels, u) is the first index whose level is u or more.",
        ],
    },
    "repulsion": {
        "title": "Three electrons, and more",
        "section": "lecture",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "x.reshape(K, n // K) has one tile a row.",
            "A column of that is where the electrons are, together.",
            "Each of the n / K columns has the same chance; each pair counts once.",
        ],
    },
    "meeting": {
        "title": "The cost of a meeting",
        "section": "lecture",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "Sum first, for every place, and take the minimum then.",
            "The sum has the shape (n_1, n_2, n_3, m): insert axes with None.",
        ],
    },
    "worth": {
        "title": "What an attack is worth",
        "section": "lecture",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "At a place the learner is right on the class with the most mass there.",
            "Add up what arrives from each class before you compare classes.",
            "0 times infinity is not a number: look at used ways only.",
        ],
    },
}

CASES = [
    {
        "id": "quantiles.equal",
        "points": 1,
        "public": True,
        "hint": "With n atoms of equal mass, the barycenter averages the smallest, the second, ...",
    },
    {
        "id": "quantiles.masses",
        "points": 1,
        "public": True,
        "hint": "A point of mass 0.6 is the quantile of six tenths of all levels.",
        "needs": "quantiles.equal",
    },
    {
        "id": "quantiles.sizes",
        "points": 2,
        "public": False,
        "hint": "Measures may have different numbers of points, and one of them a single one.",
    },
    {
        "id": "repulsion.two",
        "points": 1,
        "public": True,
        "hint": "Two electrons are always half of the atoms apart.",
    },
    {
        "id": "repulsion.uniform",
        "points": 1,
        "public": True,
        "hint": "On an even grid of unit length, all neighbours are 1/K apart.",
    },
    {
        "id": "repulsion.many",
        "points": 2,
        "public": False,
        "hint": "All pairs repel each other, not only neighbours.",
    },
    {
        "id": "meeting.squares",
        "points": 1,
        "public": True,
        "hint": "One place for all three.",
    },
    {
        "id": "meeting.weights",
        "points": 1,
        "public": False,
        "hint": "A measure of weight 0 does not mind where they meet.",
    },
    {
        "id": "meeting.sizes",
        "points": 1,
        "public": False,
        "hint": "Costs may be negative; the axes of the answer are in the order of the costs.",
        "needs": "meeting.squares",
    },
    {
        "id": "worth.merged",
        "points": 1,
        "public": True,
        "hint": "Where two classes share a place, the lighter one is lost.",
    },
    {
        "id": "worth.paid",
        "points": 1,
        "public": True,
        "hint": "Moving costs mass times price.",
    },
    {
        "id": "worth.budget",
        "points": 2,
        "public": False,
        "hint": "Ways of cost infinity that carry no mass are not paid.",
        "needs": "worth.paid",
    },
]


def ascending(rng, n):
    return np.cumsum(0.2 + rng.random_sample(n)) + rng.standard_normal()


def levels(n):
    """In the middle of the steps of masses that are multiples of 1/n."""
    return (np.arange(n) + 0.5) / n


def pieces(rng, n, parts):
    """Masses that are multiples of 1/n, each positive."""
    cuts = np.sort(rng.permutation(np.arange(1, n))[: parts - 1])
    return np.diff(np.concatenate([[0], cuts, [n]])) / n


def probe_quantiles_equal(quantiles, rng):
    points = [ascending(rng, 5) for _ in range(2)]
    masses = [np.full(5, 0.2)] * 2
    return {"q": quantiles(points, masses, np.array([0.3, 0.7]), levels(5))}


def probe_quantiles_masses(quantiles, rng):
    points = [ascending(rng, 4), ascending(rng, 4)]
    masses = [np.array([0.6, 0.1, 0.2, 0.1]), np.array([0.1, 0.1, 0.1, 0.7])]
    return {"q": quantiles(points, masses, np.array([0.25, 0.75]), levels(10))}


def probe_quantiles_sizes(quantiles, rng):
    sizes = (1, 3, 6)
    points = [ascending(rng, n) for n in sizes]
    masses = [pieces(rng, 20, n) for n in sizes]
    masses[1] = np.array([0.05, 0.15, 0.8])
    return {"q": quantiles(points, masses, np.array([0.5, 0.2, 0.3]), levels(20))}


def probe_repulsion_two(repulsion, rng):
    return {"energy": repulsion(ascending(rng, 8), 2)}


def probe_repulsion_uniform(repulsion, rng):
    return {"energy": repulsion((np.arange(12) + 0.5) / 12, 3)}


def probe_repulsion_many(repulsion, rng):
    return {"energy": [repulsion(ascending(rng, 12), k) for k in (3, 4, 6)]}


def probe_meeting_squares(meeting, rng):
    places = np.linspace(0, 1, 7)
    # one point on the left and one on the right, so that triples meet in different places
    costs = [([[0.1], [0.8]] + 0.1 * rng.random_sample((2, 1)) - places) ** 2 for _ in range(3)]
    return {"cost": meeting(costs, np.ones(3))}


def probe_meeting_weights(meeting, rng):
    costs = [rng.random_sample((n, 5)) for n in (2, 3, 2)]
    costs[0][:, 2] = -3.0  # where the measure of weight 0 would like to meet
    costs[2][[0, 1], [0, 4]] = -1.0  # where they do
    return {"cost": meeting(costs, np.array([0.0, 0.2, 0.8]))}


def probe_meeting_sizes(meeting, rng):
    costs = [4 * rng.random_sample((n, 9)) - 2 for n in (2, 4, 3)]
    return {"cost": meeting(costs, np.array([0.5, 1.0, 2.0]))}


def probe_worth_merged(worth, rng):
    # class 0 has two points that share place 1 with class 1, and place 0 to itself
    a, b, c = 0.2 + 0.1 * rng.random_sample(3)
    flows = [np.array([[0.1, a, 0.0], [0.0, b, 0.0]]), np.array([[0.0, c, 0.1]])]
    return {"worth": worth(flows, [np.zeros((2, 3)), np.zeros((1, 3))])}


def probe_worth_paid(worth, rng):
    flows = [0.1 + rng.random_sample((n, 4)) for n in (2, 3)]
    costs = [0.1 + 0.2 * rng.random_sample((n, 4)) for n in (2, 3)]
    flows[0][:, 0] += 2.0  # the best answer is class 0 here
    flows[1][:, 3] += 2.0  # and class 1 there
    return {"worth": worth(flows, costs)}


def probe_worth_budget(worth, rng):
    flows = [0.2 + rng.random_sample((n, 5)) for n in (3, 2, 2)]
    costs = [0.1 * rng.random_sample((n, 5)) for n in (3, 2, 2)]
    flows[0][:, 4] += 3.0
    flows[2][:, 2] += 3.0
    for flow, cost in zip(flows, costs, strict=True):
        flow[0, :2], cost[0, :2] = 0.0, np.inf
        flow[1, 3], cost[1, 3] = 0.0, np.inf
    return {"worth": worth(flows, costs)}

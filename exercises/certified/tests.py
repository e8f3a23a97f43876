"""Cases of Section 17.4. probe_* run in the sandbox, check_* outside it and on plain arrays."""

import torch

QUESTIONS = {
    "affine_bounds": {
        "title": "A box through an affine layer",
        "section": "17.4.2",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "A sum is smallest when each term is: look at the sign of each weight.",
            "Centre and radius: the centre goes through the layer, the radius through |W|.",
            "The bias moves both ends alike, so it belongs to the centre.",
        ],
    },
    "network_bounds": {
        "title": "A box through a network",
        "section": "17.4.2",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "First the box of the input: two clamps.",
            "A ReLU never falls, so it takes the ends to the ends.",
            "Where does the ReLU stand? Before every layer but the first.",
        ],
    },
    "elided_margins": {
        "title": "Elided margins",
        "section": "17.4.1",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "z_y - z_j = (W_y - W_j) h + b_y - b_j: an affine layer with other weights.",
            "weight[y][:, None] - weight holds all these rows, shape (n, k, d).",
            "Its minimum over a box is the value at the centre minus |W_y - W_j| r.",
        ],
    },
    "crown_lower": {
        "title": "CROWN for one hidden layer",
        "section": "17.4.2",
        "minutes": 35,
        "difficulty": 3,
        "hints": [
            "First l and u of each neuron, for each row: an affine layer on a box of radius eps.",
            "For v_i > 0 the line below makes f smaller, for v_i < 0 the line above.",
            "A line is slope and offset. Only lines above crossing neurons have one: -l u/(u-l).",
            "The minimum of a'x' over the l_inf ball is a'x - eps times the l_1 norm of a.",
        ],
    },
    "certified_radius": {
        "title": "A vote and its radius",
        "section": "17.4.2",
        "minutes": 10,
        "difficulty": 2,
        "hints": [
            "Two steps: the lower bound of the share, then the normal quantile of that bound.",
            "One-sided: all of alpha is spent on one end.",
            "If all n draws agree the bound is alpha^(1/n), which is less than 1.",
        ],
    },
}

CASES = [
    {
        "id": "affine_bounds.signs",
        "points": 1,
        "public": True,
        "hint": "For a negative weight the lower end comes from the input's upper end.",
    },
    {
        "id": "affine_bounds.point",
        "points": 1,
        "public": True,
        "hint": "A box without width goes to a point: both ends are W z + b.",
        "needs": "affine_bounds.signs",
    },
    {
        "id": "affine_bounds.sides",
        "points": 1,
        "public": False,
        "hint": "Every coordinate of every row has its own width.",
    },
    {
        "id": "network_bounds.two",
        "points": 1,
        "public": True,
        "hint": "Affine, ReLU, affine.",
    },
    {
        "id": "network_bounds.box",
        "points": 1,
        "public": True,
        "hint": "Pixels stay in [0, 1]: the input's box is cut there.",
    },
    {
        "id": "network_bounds.single",
        "points": 1,
        "public": False,
        "hint": "A network of one layer has no ReLU at all.",
    },
    {
        "id": "network_bounds.deep",
        "points": 1,
        "public": False,
        "hint": "Four layers, three times a ReLU.",
    },
    {
        "id": "elided_margins.values",
        "points": 1,
        "public": True,
        "hint": "Bound the difference of two logits, not two logits.",
    },
    {
        "id": "elided_margins.common",
        "points": 2,
        "public": True,
        "hint": "What all logits have in common cancels before anything is bounded.",
    },
    {
        "id": "elided_margins.point",
        "points": 1,
        "public": False,
        "hint": "Without width the margins are differences of logits, biases included.",
    },
    {
        "id": "crown_lower.stable",
        "points": 1,
        "public": True,
        "hint": "No neuron crosses 0: f is affine, and the bound exact.",
    },
    {
        "id": "crown_lower.below",
        "points": 2,
        "public": True,
        "hint": "All v_i > 0: the lines below, of slope 0 or 1.",
    },
    {
        "id": "crown_lower.above",
        "points": 2,
        "public": True,
        "hint": "All v_i < 0: the lines above, with their offsets.",
    },
    {
        "id": "crown_lower.mixed",
        "points": 1,
        "public": False,
        "hint": "Each row has its own intervals, and so its own lines.",
    },
    {
        "id": "certified_radius.votes",
        "points": 1,
        "public": True,
        "hint": "The bound of Clopper and Pearson, then the normal quantile, times sigma.",
    },
    {
        "id": "certified_radius.all",
        "points": 1,
        "public": True,
        "hint": "All draws agree: the radius is finite all the same.",
    },
    {
        "id": "certified_radius.abstains",
        "points": 1,
        "public": False,
        "hint": "Where the bound is at most 1/2 nothing is certified: 0, and never less.",
        "needs": "certified_radius.votes",
    },
]


def points(rng, *shape):
    return torch.tensor(rng.random_sample(shape), dtype=torch.float32)


def normal(rng, *shape):
    return torch.tensor(rng.standard_normal(shape), dtype=torch.float32)


def ends(pair):
    low, high = pair
    return {"low": low, "high": high}


def probe_affine_bounds_signs(affine_bounds, rng):
    weight = torch.tensor([[1.0, -2.0, 0.5], [-0.5, -1.0, 3.0]]) * (1 + points(rng, 2, 3))
    low = points(rng, 2, 3)
    return ends(affine_bounds(weight, normal(rng, 2), low, low + 0.5))


def probe_affine_bounds_point(affine_bounds, rng):
    weight, z = normal(rng, 3, 4), normal(rng, 5, 4)
    return ends(affine_bounds(weight, 1 + points(rng, 3), z, z.clone()))


def probe_affine_bounds_sides(affine_bounds, rng):
    weight, low = normal(rng, 4, 6), normal(rng, 5, 6)
    high = low + 2 * points(rng, 5, 6)
    high[:, 0] = low[:, 0]
    return ends(affine_bounds(weight, normal(rng, 4), low, high))


def stack(rng, *widths):
    """Layers of random weights; the first has a neuron that is surely on and one surely off."""
    layers = [
        (normal(rng, k, d) / d**0.5, 0.3 * normal(rng, k))
        for d, k in zip(widths, widths[1:], strict=False)
    ]
    layers[0][1][:2] = torch.tensor([4.0, -4.0])
    layers[-1][1].sub_(2)  # logits may be negative
    return layers


def probe_network_bounds_two(network_bounds, rng):
    return ends(network_bounds(stack(rng, 3, 6, 2), 0.3 + 0.4 * points(rng, 4, 3), 0.1))


def probe_network_bounds_box(network_bounds, rng):
    x = torch.cat([0.05 * points(rng, 2, 4), 1 - 0.05 * points(rng, 2, 4)])
    return ends(network_bounds(stack(rng, 4, 5, 3), x, 0.2))


def probe_network_bounds_single(network_bounds, rng):
    return ends(network_bounds(stack(rng, 4, 3), 0.3 + 0.4 * points(rng, 3, 4), 0.1))


def probe_network_bounds_deep(network_bounds, rng):
    x = points(rng, 4, 5)
    x[0], x[1] = 0.97, 0.03
    return ends(network_bounds(stack(rng, 5, 8, 8, 6, 3), x, 0.08))


def probe_elided_margins_values(elided_margins, rng):
    low = normal(rng, 4, 5)
    y = torch.tensor([0, 1, 2, 1])
    weight, bias = normal(rng, 3, 5), normal(rng, 3)
    return {"margins": elided_margins(weight, bias, low, low + 0.2 + points(rng, 4, 5), y)}


def probe_elided_margins_common(elided_margins, rng):
    # one large row is part of every logit
    weight = 5 * normal(rng, 4).sign() * (1 + points(rng, 4)) + 0.5 * normal(rng, 4, 4)
    low = normal(rng, 3, 4)
    y = torch.tensor([3, 0, 2])
    return {"margins": elided_margins(weight, normal(rng, 4), low, low + 0.5, y)}


def probe_elided_margins_point(elided_margins, rng):
    h = normal(rng, 4, 3)
    bias = torch.tensor([2.0, -1.0, 0.5, 4.0, -3.0])
    y = torch.tensor([4, 0, 2, 1])
    return {"margins": elided_margins(normal(rng, 5, 3), bias, h, h.clone(), y)}


def neurons(rng, reach, offset, d=4):
    """One x, and neurons with W x + b = offset and a row of W with l_1 norm `reach` each."""
    weight = normal(rng, len(reach), d)
    weight = weight * (torch.tensor(reach) / weight.abs().sum(1))[:, None]
    x = points(rng, 1, d)
    return weight, torch.tensor(offset) - weight @ x[0], x


def probe_crown_lower_stable(crown_lower, rng):
    weight, bias, x = neurons(rng, [1.0] * 5, [1.5, -1.4, 2.0, -1.8, 1.2])
    v = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.5]) * (1 + points(rng, 5))
    return {"bound": crown_lower(weight, bias, v, 0.3, x, 1.0)}


def probe_crown_lower_below(crown_lower, rng):
    # crossing: two with u > -l, two with u < -l; one on, one off
    weight, bias, x = neurons(rng, [2.0] * 6, [0.5, 0.2, -0.4, -0.6, 1.3, -1.3])
    return {"bound": crown_lower(weight, bias, 0.5 + points(rng, 6), -0.2, x, 0.5)}


def probe_crown_lower_above(crown_lower, rng):
    weight, bias, x = neurons(rng, [2.0] * 6, [0.5, 0.2, -0.4, -0.6, 1.3, -1.3])
    return {"bound": crown_lower(weight, bias, -0.5 - points(rng, 6), 0.7, x, 0.5)}


def probe_crown_lower_mixed(crown_lower, rng):
    offset = [0.5, -0.5, 0.4, -0.4, 0.6, -0.6, 1.5, -1.5]
    weight, bias, x = neurons(rng, [2.0] * 8, offset)
    v = torch.tensor([1.0, 1.0, -1.0, -1.0, 0.7, -0.7, -1.0, 1.0]) * (1 + points(rng, 8))
    x = torch.cat([x, x + 0.02 * normal(rng, 3, 4)])
    return {"bound": crown_lower(weight, bias, v, 0.1, x, 0.5)}


def radii(certified_radius, votes):
    return {"radius": [float(certified_radius(*vote)) for vote in votes]}


def probe_certified_radius_votes(certified_radius, rng):
    hits = [int(k) for k in rng.randint(0, 30, 3)]
    votes = [(900 + hits[0], 1000, 0.5, 0.001), (80 + hits[1] // 3, 100, 0.25, 0.01)]
    return radii(certified_radius, [*votes, (19_000 + 20 * hits[2], 20_000, 1.0, 0.001)])


def probe_certified_radius_all(certified_radius, rng):
    n = int(rng.randint(50, 90))
    return radii(certified_radius, [(n, n, 0.5, 0.01), (1000, 1000, 0.5, 0.001)])


def probe_certified_radius_abstains(certified_radius, rng):
    # the share seen is above 1/2 in the first two, the bound is not
    k = int(rng.randint(0, 3))
    votes = [(51 + k, 100, 0.5, 0.01), (510 + k, 1000, 1.0, 0.001), (20 + k, 100, 0.5, 0.01)]
    return radii(certified_radius, [*votes, (0, 100, 0.5, 0.01), (70, 100, 0.5, 0.01)])

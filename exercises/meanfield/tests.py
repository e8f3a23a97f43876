"""Cases of the lecture's mean field part. probe_* run in the sandbox, check_* outside it."""

import torch

QUESTIONS = {
    "replicator": {
        "title": "The replicator equation",
        "section": "Lecture, mean field",
        "minutes": 15,
        "difficulty": 1,
        "hints": [
            "What does subtracting the mean do to a row that is normalised anyway?",
            "exp(1000) overflows. Which constant may be subtracted in a row without any change?",
        ],
    },
    "wfr_step": {
        "title": "A Wasserstein-Fisher-Rao step",
        "section": "Lecture, mean field",
        "minutes": 25,
        "difficulty": 2,
        "hints": [
            "Write U as a function of two numbers, the moved input and the moved label.",
            "The derivative in the label has two terms: the loss falls as the label rises to f.",
            "The conditional mean is a sum along the attacks, with weights, for each point.",
        ],
    },
    "nikaido_isoda": {
        "title": "The Nikaido-Isoda error",
        "section": "Lecture, mean field",
        "minutes": 20,
        "difficulty": 2,
        "hints": [
            "Given alpha, each point of data has its own best attack.",
            "Given omega, one neuron must do for all points: average first, then take the least.",
        ],
    },
}

CASES = [
    {
        "id": "replicator.rows",
        "points": 2,
        "public": True,
        "hint": "Multiply by exp(kappa U), then divide each row by its own sum.",
    },
    {
        "id": "replicator.large",
        "points": 1,
        "public": False,
        "hint": "Subtract the largest rate of the row before exp.",
        "needs": "replicator.rows",
    },
    {
        "id": "replicator.zero",
        "points": 1,
        "public": False,
        "hint": "A weight that is zero stays zero, and nothing becomes NaN.",
        "needs": "replicator.rows",
    },
    {
        "id": "wfr_step.positions",
        "points": 2,
        "public": True,
        "hint": "Both coordinates of an attack move, along the gradient of U, upwards.",
    },
    {
        "id": "wfr_step.weights",
        "points": 2,
        "public": True,
        "hint": "Subtract the mean payoff of the attacks on the same point, with their weights.",
    },
    {
        "id": "wfr_step.marginal",
        "points": 1,
        "public": False,
        "hint": "Points with very different payoffs: every row must keep its sum.",
        "needs": "wfr_step.weights",
    },
    {
        "id": "nikaido_isoda.value",
        "points": 2,
        "public": True,
        "hint": "The best attack is a maximum for each point, then a mean over points.",
    },
    {
        "id": "nikaido_isoda.saddle",
        "points": 1,
        "public": False,
        "hint": "At the equilibrium of matching pennies the error is zero.",
        "needs": "nikaido_isoda.value",
    },
]


def normal(rng, *shape):
    return torch.tensor(rng.standard_normal(shape), dtype=torch.float64)


def shares(rng, *shape):
    """Unequal weights, each row with the sum one."""
    raw = torch.tensor(0.2 + rng.random_sample(shape), dtype=torch.float64)
    raw[..., 0] += 1.0
    return raw / raw.sum(-1, keepdim=True)


def probe_replicator_rows(replicator, rng):
    payoff = normal(rng, 3, 4)
    payoff[0] += 3.0  # a point on which all attacks are good
    return {"omega": replicator(payoff, shares(rng, 3, 4), 0.7)}


def probe_replicator_large(replicator, rng):
    payoff = 2000.0 + normal(rng, 3, 4)
    payoff[1] -= 5000.0
    return {"omega": replicator(payoff, shares(rng, 3, 4), 1.0)}


def probe_replicator_zero(replicator, rng):
    omega = shares(rng, 3, 4)
    omega[0] = torch.tensor([0.0, 0.5, 0.5, 0.0])
    omega[2] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    payoff = normal(rng, 3, 4)
    payoff[:, 0] += 1.0
    return {"omega": replicator(payoff, omega, 0.5)}


def learner(v):
    return 1.5 * torch.tanh(2 * v)


def steepness(v):
    return 3.0 * (1 - torch.tanh(2 * v) ** 2)


def attacks(rng, n, m, spread):
    x, y = normal(rng, n), normal(rng, n)
    z = torch.stack([x, y], 1)[:, None] + spread * normal(rng, n, m, 2)
    return x, y, z, shares(rng, n, m)


def probe_wfr_step_positions(wfr_step, rng):
    x, y, z, omega = attacks(rng, 3, 4, 0.5)
    moved, _ = wfr_step(learner, steepness, x, y, z, omega, 2.5, 0.1, 0.05)
    return {"z": moved}


def probe_wfr_step_weights(wfr_step, rng):
    x, y, z, omega = attacks(rng, 3, 4, 0.5)
    _, weights = wfr_step(learner, steepness, x, y, z, omega, 2.5, 0.1, 0.05)
    return {"omega": weights}


def probe_wfr_step_marginal(wfr_step, rng):
    x, y, z, omega = attacks(rng, 4, 5, 0.3)
    y[0] += 6.0  # far from f: every attack on it is good
    z[0, :, 1] += 6.0
    _, weights = wfr_step(learner, steepness, x, y, z, omega, 1.5, 0.1, 0.01)
    return {"sums": weights.sum(1), "omega": weights}


def probe_nikaido_isoda_value(nikaido_isoda, rng):
    payoff = normal(rng, 4, 3, 5)
    payoff[0] += 4.0
    return {"error": float(nikaido_isoda(payoff, shares(rng, 4, 3), shares(rng, 5)))}


def probe_nikaido_isoda_saddle(nikaido_isoda, rng):
    size = 1.0 + float(rng.random_sample())
    pennies = size * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    payoff = torch.stack([pennies, 3 * pennies, pennies + 2.0])
    even = torch.full((3, 2), 0.5, dtype=torch.float64)
    off = even[0] + torch.tensor([0.1, -0.1], dtype=torch.float64)
    return {
        "even": float(nikaido_isoda(payoff, even, even[0])),
        "off": float(nikaido_isoda(payoff, even, off)),
    }

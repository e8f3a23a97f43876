"""Cases of Section 17.3. probe_* run in the sandbox, check_* outside it and on plain arrays."""

import torch

QUESTIONS = {
    "risks": {
        "title": "Benign plus boundary",
        "section": "17.3.1",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "Begin with two masks over the examples: wrong at x, wrong at one of the points.",
            "any(dim=0) joins the m points of each example.",
            "The first two events exclude each other; their shares add up to the third.",
        ],
    },
    "kl": {
        "title": "The divergence",
        "section": "17.3.2",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "The logarithm of a softmax has a function of its own, log_softmax, which is stable.",
            "p weighs the differences of the logarithms: p stands first.",
            "Sum over the classes. A mean would divide by k.",
        ],
    },
    "kl_gradient": {
        "title": "Its gradient, and where it vanishes",
        "section": "17.3.3",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "Only - sum_j p_j ln q_j depends on x': a cross-entropy with the soft label p.",
            "The gradient of a cross-entropy with respect to the logits is q minus the label.",
            "From logits to x' it is the transpose of W, as everywhere in a linear model.",
        ],
    },
    "trades_loss": {
        "title": "The objective, and where its gradient flows",
        "section": "17.3.2",
        "minutes": 20,
        "difficulty": 3,
        "hints": [
            "Two forward passes: one at x, one at the adversarial points.",
            "Average over examples, sum over classes: kl_div calls that reduction batchmean.",
            "detach stands in one place only. What is it that the weights must not move?",
        ],
    },
}

CASES = [
    {
        "id": "risks.parts",
        "points": 1,
        "public": True,
        "hint": "One point for each example: wrong at x, and right at x but wrong at the point.",
    },
    {
        "id": "risks.recovered",
        "points": 1,
        "public": True,
        "hint": "Some examples are wrong at x and right at the point: they are not robust either.",
    },
    {
        "id": "risks.several",
        "points": 1,
        "public": False,
        "hint": "One wrong point of several is enough.",
    },
    {
        "id": "kl.values",
        "points": 1,
        "public": True,
        "hint": "Softmax both, and sum p (ln p - ln q) over the classes.",
    },
    {
        "id": "kl.far",
        "points": 1,
        "public": True,
        "hint": "Where p underflows, 0 times ln 0 is not a number: never take ln of a softmax.",
    },
    {
        "id": "kl.shifted",
        "points": 1,
        "public": False,
        "hint": "A constant on all logits of a row changes nothing.",
        "needs": "kl.values",
    },
    {
        "id": "kl_gradient.apart",
        "points": 2,
        "public": True,
        "hint": "Hold p(x) constant: what is left is a cross-entropy with p(x) as its label.",
    },
    {
        "id": "kl_gradient.start",
        "points": 1,
        "public": True,
        "hint": "At x' = x the divergence is at its minimum, so the gradient is zero.",
        "needs": "kl_gradient.apart",
    },
    {
        "id": "kl_gradient.near",
        "points": 1,
        "public": False,
        "hint": "Close to x the gradient grows in proportion to x' - x.",
    },
    {
        "id": "trades_loss.value",
        "points": 1,
        "public": True,
        "hint": "Cross-entropy at x, plus beta times the mean divergence over the batch.",
    },
    {
        "id": "trades_loss.natural",
        "points": 1,
        "public": True,
        "hint": "With beta = 0 the cross-entropy at x is left, and its gradient.",
    },
    {
        "id": "trades_loss.gradient",
        "points": 2,
        "public": True,
        "hint": "The weights move both p(x) and p(x'): neither is a constant.",
    },
    {
        "id": "trades_loss.constant",
        "points": 2,
        "public": False,
        "hint": "x' depends on the weights here, and must count as a constant.",
    },
]


def points(rng, *shape):
    return torch.tensor(rng.random_sample(shape), dtype=torch.float32)


def normal(rng, *shape):
    return torch.tensor(rng.standard_normal(shape), dtype=torch.float32)


def answering(rng, y, right):
    """Logits (*right.shape, 4) whose largest is y's where `right`, else that of the next class."""
    logits = points(rng, *right.shape, 4)
    top = torch.where(right, y, (y + 1) % 4)
    return logits + 2 * torch.nn.functional.one_hot(top, 4)


def probe_risks_parts(risks, rng):
    # 2 wrong at x and at the point, 3 broken by it, 7 that stand
    y = torch.tensor(rng.randint(0, 4, 12))
    right = torch.tensor([False] * 2 + [True] * 10)
    kept = torch.tensor([[False] * 5 + [True] * 7])
    return {"risks": risks(answering(rng, y, right), answering(rng, y, kept), y)}


def probe_risks_recovered(risks, rng):
    # 4 wrong at x, of which the point makes 3 right; 2 broken; 5 that stand
    y = torch.tensor(rng.randint(0, 4, 11))
    right = torch.tensor([False] * 4 + [True] * 7)
    kept = torch.tensor([[True] * 3 + [False] * 3 + [True] * 5])
    return {"risks": risks(answering(rng, y, right), answering(rng, y, kept), y)}


def probe_risks_several(risks, rng):
    # 3 wrong at x; 1 broken by all points, 2 by the first alone, 1 by the last alone; 6 stand
    y = torch.tensor(rng.randint(0, 4, 13))
    right = torch.tensor([False] * 3 + [True] * 10)
    kept = torch.ones(3, 13, dtype=torch.bool)
    kept[:, 3] = kept[0, 4:6] = kept[2, 6] = kept[1, 0] = False
    attacked = answering(rng, y, kept)
    attacked[0, 4:6] *= 5  # so wrong that the mean over the points is wrong as well
    return {"risks": risks(answering(rng, y, right), attacked, y)}


def probe_kl_values(kl, rng):
    return {"divergence": kl(normal(rng, 5, 4), 2 * normal(rng, 5, 4))}


def probe_kl_far(kl, rng):
    a, b = points(rng, 4, 3), points(rng, 4, 3)
    a[0, 1] -= 300.0  # exp(-300) is 0 in float32
    a[1, 2] -= 200.0
    b[1, 0] -= 150.0
    b[2, 1] -= 400.0
    a[3] += torch.tensor([0.0, 500.0, 0.0])
    b[3] += torch.tensor([0.0, 500.0, 490.0])
    return {"divergence": kl(a, b)}


def probe_kl_shifted(kl, rng):
    a, b = normal(rng, 4, 5), normal(rng, 4, 5)
    return {"divergence": kl(a + 7.0, b - 5 * points(rng, 4, 1))}


def probe_kl_gradient_apart(kl_gradient, rng):
    weight, x = normal(rng, 4, 5), points(rng, 6, 5)
    return {"gradient": kl_gradient(weight, x, x + normal(rng, 6, 5))}


def probe_kl_gradient_start(kl_gradient, rng):
    weight, x = normal(rng, 3, 4), points(rng, 5, 4)
    return {"gradient": kl_gradient(weight, x, x.clone())}


def probe_kl_gradient_near(kl_gradient, rng):
    # in float64, and divided by the distance, so that the linear part is seen
    weight, x = normal(rng, 3, 4).double(), points(rng, 5, 4).double()
    step = 1e-3 * normal(rng, 5, 4).double()
    return {"slope": kl_gradient(weight, x, x + step) / 1e-3}


def linear(rng, k, d):
    weight = normal(rng, k, d).requires_grad_()
    return weight, lambda z: z @ weight.T


def probe_trades_loss_value(trades_loss, rng):
    model, x = linear(rng, 4, 5)[1], points(rng, 6, 5)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    return {"loss": trades_loss(model, x, y, x + normal(rng, 6, 5), 6.0)}


def probe_trades_loss_natural(trades_loss, rng):
    (weight, model), x = linear(rng, 3, 4), points(rng, 5, 4)
    loss = trades_loss(model, x, torch.tensor([0, 1, 2, 0, 1]), x + normal(rng, 5, 4), 0.0)
    return {"loss": loss, "gradient": torch.autograd.grad(loss, weight)[0]}


def probe_trades_loss_gradient(trades_loss, rng):
    (weight, model), x = linear(rng, 3, 4), points(rng, 5, 4)
    loss = trades_loss(model, x, torch.tensor([0, 1, 2, 0, 1]), x + normal(rng, 5, 4), 2.0)
    return {"gradient": torch.autograd.grad(loss, weight)[0]}


def probe_trades_loss_constant(trades_loss, rng):
    (weight, model), x = linear(rng, 3, 4), points(rng, 5, 4)
    x_adv = x + 0.5 * torch.tanh(weight[[0, 1, 2, 0, 1]])
    loss = trades_loss(model, x, torch.tensor([2, 1, 0, 2, 1]), x_adv, 3.0)
    return {"gradient": torch.autograd.grad(loss, weight)[0]}

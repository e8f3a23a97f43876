"""Cases of Section 17.2. probe_* run in the sandbox, check_* outside it and on plain arrays."""

import numpy as np
import torch

QUESTIONS = {
    "linearisation_error": {
        "title": "Linearisation error",
        "section": "17.2.1",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "torch.autograd.grad(f(point).sum(), point) gives every row its own gradient.",
            "The gradient is taken at x, not at x + delta.",
            "The inner product is one number for each row: multiply, then sum over the columns.",
        ],
    },
    "loss_slice": {
        "title": "A slice of the loss",
        "section": "17.2.2",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "Give u length 1 first. Then subtract from v its part along that unit vector.",
            "What is left of v is shorter than v: give it length 1, too.",
            "Rows follow v1, columns v2. Build all points at once and call f once.",
        ],
    },
    "scaled_gradient": {
        "title": "A factor on the logits",
        "section": "17.2.4",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "The softmax is taken of the scaled logits; the chain rule brings c out once more.",
            "exp(1000) is infinite: use torch.softmax, which subtracts the largest logit first.",
        ],
    },
    "targeted_dlr": {
        "title": "The targeted DLR loss",
        "section": "17.2.4",
        "minutes": 10,
        "difficulty": 2,
        "hints": [
            "Numerator: two logits of each row, chosen by y and t.",
            "Denominator: from the sorted row, the first, third and fourth.",
            "Work on the logits themselves. A softmax would bring the exponential back.",
        ],
    },
    "one_step_shares": {
        "title": "FGSM fails, and who is to blame",
        "section": "17.2.4",
        "minutes": 20,
        "difficulty": 3,
        "hints": [
            "Write the step once, as a loop over two losses that map logits to one value a row.",
            "For the margin set the logit of y to minus infinity before taking the largest.",
            "sign(0) is 0: where the cross-entropy has no gradient, the step goes nowhere.",
        ],
    },
}

CASES = [
    {
        "id": "linearisation_error.curved",
        "points": 1,
        "public": True,
        "hint": "A curved loss has another gradient at x + delta: take the one at x.",
    },
    {
        "id": "linearisation_error.linear",
        "points": 1,
        "public": True,
        "hint": "A linear loss has no linearisation error.",
        "needs": "linearisation_error.curved",
    },
    {
        "id": "linearisation_error.rounded",
        "points": 1,
        "public": False,
        "hint": "Rounded pixels have a zero gradient: the whole change of the loss is the error.",
    },
    {
        "id": "loss_slice.orthogonal",
        "points": 1,
        "public": True,
        "hint": "u and v have any length; the grid is measured along unit vectors.",
    },
    {
        "id": "loss_slice.skew",
        "points": 2,
        "public": True,
        "hint": "Gram and Schmidt: subtract from v its part along u, then give the rest length 1.",
    },
    {
        "id": "loss_slice.even",
        "points": 1,
        "public": False,
        "hint": "With an even resolution x itself is not on the grid, but both ends are.",
    },
    {
        "id": "scaled_gradient.plain",
        "points": 1,
        "public": True,
        "hint": "With c = 1 it is W'(p - e_y), row by row.",
    },
    {
        "id": "scaled_gradient.steep",
        "points": 1,
        "public": False,
        "hint": "c stands inside the softmax and in front of everything.",
    },
    {
        "id": "scaled_gradient.saturated",
        "points": 1,
        "public": True,
        "hint": "At c = 1000 exponentials overflow unless the largest logit is subtracted.",
    },
    {
        "id": "targeted_dlr.right",
        "points": 1,
        "public": True,
        "hint": "Rows where y has the largest logit.",
    },
    {
        "id": "targeted_dlr.wrong",
        "points": 1,
        "public": True,
        "hint": "The sorting knows nothing of y: where the model is wrong, pi_1 is not y.",
    },
    {
        "id": "targeted_dlr.scaled",
        "points": 1,
        "public": False,
        "hint": "Logits times 1000, plus 50: the value is what it was before.",
    },
    {
        "id": "one_step_shares.honest",
        "points": 1,
        "public": True,
        "hint": "With two classes and small logits both losses give the same step.",
    },
    {
        "id": "one_step_shares.masked",
        "points": 2,
        "public": True,
        "hint": "Logits times 1000: the cross-entropy has no gradient left, the margin has.",
    },
    {
        "id": "one_step_shares.box",
        "points": 1,
        "public": False,
        "hint": "Put the point back into [0, 1] before asking the model.",
    },
    {
        "id": "one_step_shares.rivals",
        "points": 1,
        "public": False,
        "hint": "The rival of the margin is the largest of the *other* logits, in each row.",
    },
    {
        "id": "one_step_shares.clean",
        "points": 1,
        "public": False,
        "hint": "An example that is wrong at x has fallen, even if the step makes it right.",
    },
]


def points(rng, *shape):
    return torch.tensor(rng.random_sample(shape), dtype=torch.float32)


def normal(rng, *shape):
    return torch.tensor(rng.standard_normal(shape), dtype=torch.float32)


def probe_linearisation_error_curved(linearisation_error, rng):
    # the cube of z @ b bends up in three rows, down in the others
    b, c = normal(rng, 4), normal(rng, 4)
    b = b / b.norm()
    side = torch.tensor([1.0, -1.0, 0.7, -0.8, 1.2, -0.6])
    x, delta = points(rng, 6, 4), 0.2 * normal(rng, 6, 4)
    x = x + (side - x @ b)[:, None] * b
    delta = delta + (0.3 - delta @ b)[:, None] * b
    return {"error": linearisation_error(lambda z: (z @ b).pow(3) + z @ c, x, delta)}


def probe_linearisation_error_linear(linearisation_error, rng):
    x, w = points(rng, 4, 5), normal(rng, 5)
    return {"error": linearisation_error(lambda z: z @ w, x, 0.3 * normal(rng, 4, 5))}


def probe_linearisation_error_rounded(linearisation_error, rng):
    x = (torch.tensor(rng.randint(1, 7, (5, 6))) + 0.2) / 8  # away from where rounding jumps
    w = 1 + points(rng, 6)
    delta = torch.tensor([[-1.0], [1.0], [2.0], [-1.0], [1.0]]).expand(5, 6) / 8
    return {"error": linearisation_error(lambda z: (8 * z).round() @ w / 8, x, delta)}


def quadratic(rng, d):
    a, b = normal(rng, d, d), normal(rng, d)
    return lambda z: ((z @ a) * z).sum(1) + z @ b


def probe_loss_slice_orthogonal(loss_slice, rng):
    f, x = quadratic(rng, 3), points(rng, 3)
    u, v = torch.tensor([2.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, -3.0])
    return {"loss": loss_slice(f, x, u, v, 1.5, 5)}


def leaning(rng, d, length, along, across):
    """u of that length, and v with a planted part along u and one across it."""
    q = np.linalg.qr(rng.standard_normal((d, 2)))[0]
    q = torch.tensor(q, dtype=torch.float32)
    return length * q[:, 0], along * q[:, 0] + across * q[:, 1]


def probe_loss_slice_skew(loss_slice, rng):
    f, x = quadratic(rng, 6), points(rng, 6)
    return {"loss": loss_slice(f, x, *leaning(rng, 6, 3.0, 1.2, 0.7), 2.0, 7)}


def probe_loss_slice_even(loss_slice, rng):
    f, x = quadratic(rng, 8), points(rng, 8)
    return {"loss": loss_slice(f, x, *leaning(rng, 8, 0.3, -0.5, 1.6), 0.5, 4)}


def probe_scaled_gradient_plain(scaled_gradient, rng):
    weight, x = normal(rng, 4, 6), points(rng, 5, 6)
    return {"gradient": scaled_gradient(weight, x, torch.tensor([0, 1, 2, 3, 1]), 1.0)}


def probe_scaled_gradient_steep(scaled_gradient, rng):
    weight, x = 0.3 * normal(rng, 3, 5), points(rng, 6, 5)
    return {"gradient": scaled_gradient(weight, x, torch.tensor([0, 1, 2, 0, 1, 2]), 4.0)}


def probe_scaled_gradient_saturated(scaled_gradient, rng):
    # margins of 0.5 at least: right rows have no gradient at all, wrong ones 1000 (w_j - w_y)
    weight = torch.eye(3, 5) + 0.05 * points(rng, 3, 5)
    x = 0.1 * points(rng, 6, 5)
    x[range(6), [0, 1, 2, 0, 1, 2]] += 0.9
    return {"gradient": scaled_gradient(weight, x, torch.tensor([0, 1, 2, 1, 2, 0]), 1000.0)}


def apart(rng, n, k):
    """Logits of which no two in a row are close."""
    steps = 0.4 + points(rng, n, k)
    order = torch.stack([torch.tensor(rng.permutation(k)) for _ in range(n)])
    return (steps.cumsum(1) - k / 2).gather(1, order)


def probe_targeted_dlr_right(targeted_dlr, rng):
    logits = apart(rng, 6, 6)
    y = logits.argmax(1)
    return {"loss": targeted_dlr(logits, y, (y + torch.tensor([1, 2, 3, 4, 5, 1])) % 6)}


def probe_targeted_dlr_wrong(targeted_dlr, rng):
    logits = apart(rng, 5, 7)
    order = logits.argsort(1, descending=True)
    row = torch.arange(5)
    y, t = order[row, [1, 2, 4, 6, 3]], order[row, [0, 0, 1, 3, 5]]
    return {"loss": targeted_dlr(logits, y, t)}


def probe_targeted_dlr_scaled(targeted_dlr, rng):
    logits = apart(rng, 4, 5)
    order = logits.argsort(1, descending=True)
    row = torch.arange(4)
    y, t = order[row, [0, 1, 0, 2]], order[row, [2, 0, 4, 1]]
    return {"loss": targeted_dlr(1000 * logits + 50, y, t)}


def planted(rng, reach, c=1.0):
    """Two classes: logits c (s, -s) with s the sum of x minus d / 2; how far rows are from s = 0.

    `reach`: the share of eps that each row needs before it falls, negative where it is wrong.
    """
    d, eps = 4, 0.1
    y = torch.arange(len(reach)) % 2
    towards = (1.0 - 2 * y)[:, None]
    wobble = 0.05 * normal(rng, len(reach), d)
    x = 0.5 + towards * eps * torch.tensor(reach)[:, None] + wobble - wobble.mean(1, keepdim=True)

    def model(z):
        side = c * (z.sum(1) - d / 2)
        return torch.stack([side, -side], 1)

    return model, x, y, eps


def probe_one_step_shares_honest(one_step_shares, rng):
    reach = [0.5] * 5 + [1.8] * 6 + [-0.5] * 2 + [-1.5]
    return {"shares": one_step_shares(*planted(rng, reach))}


def probe_one_step_shares_masked(one_step_shares, rng):
    # the smallest margin is 480, and exp(-104) is 0 in float32
    reach = [0.6] * 7 + [1.7] * 4 + [-0.6] * 3
    return {"shares": one_step_shares(*planted(rng, reach, c=1000.0))}


def probe_one_step_shares_box(one_step_shares, rng):
    # class 1 begins at a sum of 1.5: in five of the rows the box cuts the step short of it
    weight = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    bias = torch.tensor([0.0, -1.5])
    x = 0.02 * points(rng, 8, 2) + torch.tensor([0.56, 0.77])
    x[3:] = 0.02 * points(rng, 5, 2) + torch.tensor([0.34, 0.98])
    y = torch.zeros(8, dtype=torch.long)
    return {"shares": one_step_shares(lambda z: z @ weight.T + bias, x, y, 0.1)}


def probe_one_step_shares_rivals(one_step_shares, rng):
    # class 0 between two rivals: some rows reach the one, some the other, two neither
    weight, bias = torch.tensor([[0.0], [1.0], [-1.0]]), torch.tensor([0.0, -0.6, 0.3])
    x = 0.01 * points(rng, 9, 1) + torch.tensor([[0.55]] * 4 + [[0.35]] * 3 + [[0.44]] * 2)
    y = torch.zeros(9, dtype=torch.long)
    return {"shares": one_step_shares(lambda z: 1e4 * (z @ weight.T + bias), x, y, 0.1)}


def probe_one_step_shares_clean(one_step_shares, rng):
    # class 1 lives close to 0.5: a step falls into that strip, or leaps over it from inside
    def model(z):
        near = 0.002 - (z[:, 0] - 0.5).pow(2)
        return torch.stack([-50 * near, 50 * near], 1)

    x = 0.01 * points(rng, 10, 1) + torch.tensor([[0.48]] * 4 + [[0.41]] * 3 + [[0.2]] * 3)
    return {"shares": one_step_shares(model, x, torch.zeros(10, dtype=torch.long), 0.1)}

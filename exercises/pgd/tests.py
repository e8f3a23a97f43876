"""Cases of Section 17.1. probe_* run in the sandbox, check_* outside it and on plain arrays."""

import numpy as np
import torch

from adversarial_lab.exercises import close

QUESTIONS = {
    "project_linf": {
        "title": "Projection onto the l_inf ball",
        "section": "17.1.1",
        "minutes": 5,
        "difficulty": 1,
        "hints": [
            "The ball and the box are both made of intervals: each coordinate goes its own way.",
            "The nearest point of an interval is a clamp. Which two clamps, around which centre?",
        ],
    },
    "project_l2": {
        "title": "Projection onto the l_2 ball",
        "section": "17.1.1",
        "minutes": 10,
        "difficulty": 1,
        "hints": [
            "Outside the ball, the nearest point lies on the straight line from z to x.",
            "Shorten z - x to length eps where it is longer, row by row, and not elsewhere.",
            "Which length would you divide by where z = x?",
        ],
    },
    "project_l1": {
        "title": "Projection onto the l_1 ball",
        "section": "17.1.1",
        "minutes": 25,
        "difficulty": 3,
        "hints": [
            "If the k largest sizes stay positive, their sum minus k lambda must be eps.",
            "So lambda = (sum of the k largest - eps) / k. For which k is it consistent?",
            "k is the number of places where the sorted size exceeds its own candidate lambda.",
        ],
    },
    "pgd_step": {
        "title": "One step of projected gradient ascent",
        "section": "17.1.1",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "torch.autograd.grad gives the gradient and stores it nowhere else.",
            "Sum f over the rows first: every row then gets its own gradient.",
            "Order: step, ball around x (the clean point, not z), box.",
        ],
    },
    "strongest_point": {
        "title": "The loop, and the strongest point",
        "section": "17.1.1",
        "minutes": 20,
        "difficulty": 2,
        "hints": [
            "Keep two things beside the iterate: the best point so far and its value.",
            "Compare row by row: one example may peak early, another at the end.",
        ],
    },
    "random_start": {
        "title": "A random start in the l_2 ball",
        "section": "17.1.1",
        "minutes": 15,
        "difficulty": 2,
        "hints": [
            "Direction and radius are independent: draw them apart.",
            "A normal vector divided by its length has a uniform direction; a cube has corners.",
            "P(radius <= r) = (r / eps)^d. Which function of a uniform number has that law?",
        ],
    },
    "robust_accuracy": {
        "title": "Robust accuracy with restarts",
        "section": "17.1.3",
        "minutes": 25,
        "difficulty": 3,
        "hints": [
            "An example is broken as soon as one point in its neighbourhood is misclassified.",
            "Combine over restarts and iterates with `and`, per example; average at the very end.",
            "The clean input is a point of the neighbourhood, too.",
        ],
    },
}

CASES = [
    {
        "id": "project_linf.ball",
        "points": 1,
        "public": True,
        "hint": "The ball has radius eps around x: each coordinate lies in [x - eps, x + eps].",
    },
    {
        "id": "project_linf.box",
        "points": 1,
        "public": True,
        "hint": "Pixels also stay in [0, 1].",
        "needs": "project_linf.ball",
    },
    {
        "id": "project_linf.inside",
        "points": 1,
        "public": False,
        "hint": "A point that is already in the neighbourhood does not move.",
        "needs": "project_linf.ball",
    },
    {
        "id": "project_l2.outside",
        "points": 1,
        "public": True,
        "hint": "Far away, z - x is shortened to length eps and keeps its direction.",
    },
    {
        "id": "project_l2.inside",
        "points": 1,
        "public": True,
        "hint": "A point of the ball stays where it is.",
        "needs": "project_l2.outside",
    },
    {
        "id": "project_l2.rows",
        "points": 1,
        "public": False,
        "hint": "Each row has its own length, and z = x must not divide by zero.",
    },
    {
        "id": "project_l1.outside",
        "points": 2,
        "public": True,
        "hint": "Shrink all sizes by one lambda; the ones below it become 0.",
    },
    {
        "id": "project_l1.inside",
        "points": 1,
        "public": True,
        "hint": "Rows inside the ball do not change.",
        "needs": "project_l1.outside",
    },
    {
        "id": "project_l1.rows",
        "points": 2,
        "public": False,
        "hint": "Each row has its own lambda and its own number of entries that survive.",
    },
    {
        "id": "pgd_step.linear",
        "points": 1,
        "public": True,
        "hint": "The attack maximises f: which way does the gradient point?",
    },
    {
        "id": "pgd_step.border",
        "points": 1,
        "public": True,
        "hint": "Project onto the ball around x, not around z, then into the box.",
    },
    {
        "id": "pgd_step.curved",
        "points": 2,
        "public": False,
        "hint": "The l_inf step has the same length in every coordinate: the sign of the gradient.",
    },
    {
        "id": "pgd_step.traces",
        "points": 1,
        "public": False,
        "hint": "z, x and the parameters inside f must look as before, and the result be detached.",
        "needs": "pgd_step.border",
    },
    {
        "id": "strongest_point.linear",
        "points": 1,
        "public": True,
        "hint": "On a linear f the last iterate is the strongest.",
    },
    {
        "id": "strongest_point.overshoot",
        "points": 2,
        "public": True,
        "hint": "A long step jumps over the peak and back: keep the best, row by row.",
    },
    {
        "id": "strongest_point.start",
        "points": 1,
        "public": False,
        "hint": "The start is an iterate, too.",
        "needs": "strongest_point.linear",
    },
    {
        "id": "strongest_point.curved",
        "points": 1,
        "public": False,
        "hint": "Project after every step, onto the ball around x.",
    },
    {
        "id": "random_start.radius",
        "points": 2,
        "public": True,
        "hint": "In d dimensions P(radius <= r) = (r / eps)^d.",
    },
    {
        "id": "random_start.direction",
        "points": 1,
        "public": True,
        "hint": "No direction is more likely than another: use a normal vector.",
    },
    {
        "id": "random_start.generator",
        "points": 1,
        "public": False,
        "hint": "Two generators with one seed give one draw; two draws from one generator differ.",
        "needs": "random_start.radius",
    },
    {
        "id": "robust_accuracy.linear",
        "points": 1,
        "public": True,
        "hint": "On a linear model one restart with enough steps finds the worst point.",
    },
    {
        "id": "robust_accuracy.restarts",
        "points": 2,
        "public": False,
        "hint": "Broken in any restart, at any iterate, is broken.",
    },
    {
        "id": "robust_accuracy.clean",
        "points": 1,
        "public": False,
        "hint": "An example that is wrong on the clean input is not robust.",
    },
]


def points(rng, *shape):
    return torch.tensor(rng.random_sample(shape), dtype=torch.float32)


def normal(rng, *shape):
    return torch.tensor(rng.standard_normal(shape), dtype=torch.float32)


def probe_project_linf_ball(project_linf, rng):
    x = 0.3 + 0.4 * points(rng, 4, 6)
    z = x + 0.15 * torch.sign(normal(rng, 4, 6))
    z[:, :2] = x[:, :2] + 0.05 * normal(rng, 4, 2).clamp(-1, 1)
    return {"point": project_linf(z, x, 0.1)}


def probe_project_linf_box(project_linf, rng):
    x = points(rng, 4, 6)
    x[0], x[1] = 0.05, 0.97
    z = x + 0.5 * normal(rng, 4, 6)
    z[0], z[1] = -0.4, 1.3
    return {"point": project_linf(z, x, 0.1)}


def probe_project_linf_inside(project_linf, rng):
    x = 0.2 + 0.6 * points(rng, 3, 5)
    z = x + 0.1 * (2 * points(rng, 3, 5) - 1)
    z[0] = x[0] + 0.09
    return {"point": project_linf(z, x, 0.1)}


def probe_project_l2_outside(project_l2, rng):
    x, away = points(rng, 4, 6), normal(rng, 4, 6)
    lengths = torch.tensor([[0.6], [1.0], [2.0], [5.0]])
    return {"point": project_l2(x + lengths * away / away.norm(dim=1, keepdim=True), x, 0.5)}


def probe_project_l2_inside(project_l2, rng):
    x, away = points(rng, 3, 6), normal(rng, 3, 6)
    z = x + torch.tensor([[0.1], [0.3], [0.45]]) * away / away.norm(dim=1, keepdim=True)
    return {"point": project_l2(z, x, 0.5)}


def probe_project_l2_rows(project_l2, rng):
    x, away = points(rng, 3, 6), normal(rng, 3, 6)
    z = x + torch.tensor([[0.0], [0.2], [3.0]]) * away / away.norm(dim=1, keepdim=True)
    return {"point": project_l2(z, x, 0.5)}


def probe_project_l1_outside(project_l1, rng):
    x = points(rng, 3, 5)
    sizes = torch.tensor([[0.9, 0.5, 0.3, 0.1, 0.05]]) + 0.01 * points(rng, 3, 5)
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0])
    return {"point": project_l1(x + sizes * signs, x, 0.7)}


def probe_project_l1_inside(project_l1, rng):
    x = points(rng, 3, 5)
    return {"point": project_l1(x + 0.1 * (2 * points(rng, 3, 5) - 1), x, 0.7)}


def probe_project_l1_rows(project_l1, rng):
    x = points(rng, 4, 6)
    delta = torch.zeros(4, 6)
    delta[0, 2] = 2.0  # one entry survives
    delta[1] = 0.5 * torch.sign(normal(rng, 6))  # all survive
    delta[2] = 0.05 * torch.sign(normal(rng, 6))  # inside
    delta[3] = normal(rng, 6) + torch.tensor([3.0, -2.0, 0.0, 0.0, 0.0, 0.0])
    return {"point": project_l1(x + delta, x, 0.7)}


def probe_pgd_step_linear(pgd_step, rng):
    x, w = 0.25 + 0.5 * points(rng, 4, 6), normal(rng, 6)
    w[0], w[1] = 2.0, -0.1
    return {"point": pgd_step(lambda z: z @ w, x.clone(), x.clone(), 0.1, 0.03)}


def probe_pgd_step_border(pgd_step, rng):
    x, w = 0.3 + 0.4 * points(rng, 4, 6), torch.ones(6)
    x[0] = 0.95
    z = (x + 0.08).clamp(0, 1)
    return {"point": pgd_step(lambda z: z @ w, z, x, 0.1, 0.04)}


def probe_pgd_step_curved(pgd_step, rng):
    x, w = points(rng, 6, 8), normal(rng, 8, 8)
    x[0], x[1] = 0.02, 0.98
    z = (x + 0.08 * (2 * points(rng, 6, 8) - 1)).clamp(0, 1)
    return {"point": pgd_step(lambda z: torch.tanh(z @ w).pow(2).sum(1), z, x, 0.08, 0.12)}


def probe_pgd_step_traces(pgd_step, rng):
    x, w = 0.3 + 0.4 * points(rng, 4, 6), torch.ones(6, requires_grad=True)
    z = x + 0.05
    before = z.clone(), x.clone()
    out = pgd_step(lambda z: z @ w, z, x, 0.1, 0.03)
    moved = torch.stack([(z - before[0]).abs().max(), (x - before[1]).abs().max()])
    gradient = torch.zeros(6) if w.grad is None else w.grad
    return {"moved": moved, "gradient": gradient, "tracked": out.requires_grad, "point": out}


def probe_strongest_point_linear(strongest_point, rng):
    x, w = 0.2 + 0.6 * points(rng, 4, 6), normal(rng, 6)
    start = x + 0.1 * (2 * points(rng, 4, 6) - 1)
    return {"point": strongest_point(lambda z: z @ w, x, start, 0.1, 0.03, 4)}


def peak(x, offset):
    return lambda z: -(z - x - offset).pow(2).sum(1)


def probe_strongest_point_overshoot(strongest_point, rng):
    x = 0.3 + 0.4 * points(rng, 4, 3)
    # rows peak after one step, never, after two, after three: 0.05 each, then they jump about
    offset = torch.tensor([[0.03], [0.0], [0.08], [0.13]])
    return {"point": strongest_point(peak(x, offset), x, x.clone(), 0.2, 0.05, 6)}


def probe_strongest_point_start(strongest_point, rng):
    x = 0.3 + 0.4 * points(rng, 3, 4)
    start = x + 0.1 * (2 * points(rng, 3, 4) - 1)
    return {"point": strongest_point(peak(start, 0.001), x, start, 0.2, 0.07, 1)}


def probe_strongest_point_curved(strongest_point, rng):
    x, w = points(rng, 5, 8), normal(rng, 5, 8)  # every row has its own way up, to the end
    x[0] = 0.95
    start = (x + 0.1 * (2 * points(rng, 5, 8) - 1)).clamp(0, 1)
    return {"point": strongest_point(lambda z: torch.tanh(z * w).sum(1), x, start, 0.1, 0.03, 5)}


def probe_random_start_radius(random_start, rng):
    x = points(rng, 3000, 3)
    z = random_start(x, 0.5, torch.Generator().manual_seed(int(rng.randint(2**31))))
    radius = (z - x).norm(dim=1) / 0.5
    return {"shape": list(z.shape), "quantiles": radius.quantile(torch.linspace(0, 1, 21))}


def check_random_start_radius(out, ref):
    close(out["shape"], ref["shape"])
    radius, share = out["quantiles"], np.linspace(0, 1, 21)
    assert radius[-1] <= 1 + 1e-5, f"a start lies {0.5 * radius[-1]:.3g} from x, eps is 0.5"
    worst = int(np.abs(radius**3 - share).argmax())
    assert abs(radius[worst] ** 3 - share[worst]) < 0.05, (
        f"{share[worst]:.0%} of the starts lie within {0.5 * radius[worst]:.3g} of x;"
        f" in a ball of radius 0.5 in 3 dimensions it is {radius[worst] ** 3:.0%}"
    )


def probe_random_start_direction(random_start, rng):
    x = points(rng, 8000, 2)
    z = random_start(x, 0.1, torch.Generator().manual_seed(int(rng.randint(2**31))))
    unit = (z - x) / (z - x).norm(dim=1, keepdim=True)
    return {"mean": unit.mean(dim=0), "fourth": unit.pow(4).mean()}


def check_random_start_direction(out, ref):
    # in the plane the mean of cos^4 is 3/8 for a uniform angle, less when corners are favoured
    close(out["mean"], np.zeros(2), 0.08)
    close(out["fourth"], np.array(0.375), 0.009)


def probe_random_start_generator(random_start, rng):
    x, seed = points(rng, 5, 4), int(rng.randint(2**31))
    first = torch.Generator().manual_seed(seed)
    one, two = random_start(x, 0.3, first), random_start(x, 0.3, first)
    again = random_start(x, 0.3, torch.Generator().manual_seed(seed))
    return {"repeats": (one - again).abs().max(), "differs": (one - two).abs().max() > 1e-4}


def probe_robust_accuracy_linear(robust_accuracy, rng):
    x = 0.2 + 0.6 * points(rng, 60, 4)
    y = (x.sum(1) > 2).long()
    y[:6] = 1 - y[:6]  # wrong from the beginning
    x[6:20] = 0.5 + 0.02 * (2 * y[6:20, None] - 1)  # right, and broken by eps
    x[20:40] = 0.5 + 0.2 * (2 * y[20:40, None] - 1)  # right, and out of reach

    def model(z):
        side = z.sum(1) - 2
        return torch.stack([-side, side], 1)

    return {"share": robust_accuracy(model, x, y, x[None], 0.05, 0.02, 4)}


def bumps(centres, width):
    """Class 1 close to one of the centres, class 0 elsewhere."""

    def model(z):
        near = torch.exp(-((z[:, None] - centres).pow(2).sum(2)) / width**2).sum(1)
        return torch.stack([torch.full_like(near, 0.5), near], 1)

    return model


def probe_robust_accuracy_restarts(robust_accuracy, rng):
    # y is 0 everywhere; class 1 lives in one small bump, which only some of the starts reach
    x = 0.5 + 0.01 * (2 * points(rng, 8, 2) - 1)
    y = torch.zeros(8, dtype=torch.long)
    starts = torch.stack([x - 0.15, x - 0.12, x - 0.14])
    starts[0, :2] = 0.56  # broken in the first restart, after the step
    starts[1, 2:4] = 0.605  # in the second, before the step leaps over the bump
    starts[2, 4] = 0.56  # in the third
    model = bumps(torch.tensor([[0.62, 0.62]]), 0.05)
    return {"share": robust_accuracy(model, x, y, starts, 0.2, 0.05, 1)}


def probe_robust_accuracy_clean(robust_accuracy, rng):
    # wrong at x alone: the bump is too narrow for any start or step to fall into it
    x, y = torch.full((10, 2), 0.5), torch.zeros(10, dtype=torch.long)
    x[:3] = 0.8 + 0.02 * points(rng, 3, 2)
    model = bumps(x[:3].clone(), 0.01)
    starts = (x + 0.1)[None]
    return {"share": robust_accuracy(model, x, y, starts, 0.1, 0.001, 1)}

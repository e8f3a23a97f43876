"""Wrong answers to Section 17.1, the cases each must lose, and what its author is told."""

BALL = "ball = torch.minimum(torch.maximum(z, x - eps), x + eps)"
STEP = "moved = torch.minimum(torch.maximum(moved, x - eps), x + eps)"
LOOP = "z = torch.minimum(torch.maximum(z + alpha * gradient.sign(), x - eps), x + eps)"

MUTANTS = [
    {
        "name": "half_radius",
        "question": "project_linf",
        "swap": [("x - eps", "x - eps / 2"), ("x + eps", "x + eps / 2")],
        "loses": ["ball", "box", "inside"],
        "says": "Your ball has radius eps / 2: eps is the radius, not the diameter.",
    },
    {
        "name": "no_box",
        "question": "project_linf",
        "swap": [("ball.clamp(0.0, 1.0)", "ball")],
        "loses": ["box"],
        "says": "Your point leaves [0, 1]: the neighbourhood is the ball and the box.",
    },
    {
        "name": "no_ball",
        "question": "project_linf",
        "swap": [(BALL, "ball = z")],
        "loses": ["ball", "box", "inside"],
        "says": "You clamp to the box only; the ball around x is missing.",
    },
    {
        "name": "always_border",
        "question": "project_linf",
        "swap": [(BALL, "ball = x + eps * torch.sign(z - x)")],
        "loses": ["ball", "box", "inside"],
        "says": "You move every coordinate to the border; inner ones should stay.",
    },
    {
        "name": "inner_shrunk",
        "question": "project_linf",
        "swap": [
            (
                BALL,
                "ball = torch.where((z - x).abs().amax(1, keepdim=True) > eps, "
                + BALL[7:]
                + ", x + 0.9 * (z - x))",
            )
        ],
        "loses": ["inside"],
        "says": "You also move points that already lie in the ball.",
    },
    {
        "name": "always_scaled",
        "question": "project_l2",
        "swap": [
            ("torch.where(length > eps, eps / length, 1.0)", "(eps / length.clamp(min=1e-12))")
        ],
        "loses": ["inside", "rows"],
        "says": "You put every point on the sphere; points inside the ball should stay.",
    },
    {
        "name": "no_guard",
        "question": "project_l2",
        "swap": [
            (
                "torch.where(length > eps, eps / length, 1.0)",
                "torch.minimum(eps / length, length / length)",
            )
        ],
        "loses": ["rows"],
        "says": "Where z = x you divide 0 by 0.",
    },
    {
        "name": "whole_batch",
        "question": "project_l2",
        "swap": [("delta.norm(dim=1, keepdim=True)", "delta.norm()")],
        "loses": ["outside", "inside", "rows"],
        "says": "You take one length for the whole batch; every row has its own.",
    },
    {
        "name": "around_zero",
        "question": "project_l2",
        "swap": [("delta = z - x", "delta = z"), ("return x + ", "return ")],
        "loses": ["outside", "inside", "rows"],
        "says": "Your ball lies around 0; it should lie around x.",
    },
    {
        "name": "clipped",
        "question": "project_l2",
        "swap": [
            ("delta * torch.where(length > eps, eps / length, 1.0)", "delta.clamp(-eps, eps)")
        ],
        "loses": ["outside", "inside", "rows"],
        "says": "You clip each coordinate, which is the l_inf projection.",
    },
    {
        "name": "scaled",
        "question": "project_l1",
        "swap": [
            (
                "delta.sign() * (size - amount).clamp(min=0)",
                "delta * eps / size.sum(dim=1, keepdim=True)",
            )
        ],
        "loses": ["outside", "inside", "rows"],
        "says": "You scale delta to length eps: that is in the ball, but not the nearest point.",
    },
    {
        "name": "all_kept",
        "question": "project_l1",
        "swap": [("amount = shift.gather(1, kept - 1)", "amount = shift[:, -1:]")],
        "loses": ["outside", "inside", "rows"],
        "says": "Your lambda counts every entry; the ones that become 0 do not share it.",
    },
    {
        "name": "no_inside",
        "question": "project_l1",
        "swap": [("torch.where(size.sum(dim=1, keepdim=True) > eps, shorter, delta)", "shorter")],
        "loses": ["inside", "rows"],
        "says": "Inside the ball lambda comes out negative and your point grows.",
    },
    {
        "name": "sign_lost",
        "question": "project_l1",
        "swap": [("delta.sign() * (size", "(size")],
        "loses": ["outside", "inside", "rows"],
        "says": "The sizes are right, the signs of delta are gone.",
    },
    {
        "name": "off_by_one",
        "question": "project_l1",
        "swap": [
            ("shift.gather(1, kept - 1)", "shift.gather(1, kept.clamp(max=size.shape[1] - 1))")
        ],
        "loses": ["outside", "inside", "rows"],
        "says": "Your lambda counts one entry too many.",
    },
    {
        "name": "descends",
        "question": "pgd_step",
        "swap": [("+ alpha", "- alpha")],
        "loses": ["linear", "border", "curved", "traces"],
        "says": "You descend: the attack raises f, so add alpha times the sign.",
    },
    {
        "name": "half_radius",
        "question": "pgd_step",
        "swap": [("x - eps", "x - eps / 2"), ("x + eps", "x + eps / 2")],
        "loses": ["border", "curved", "traces"],
        "says": "Your ball has radius eps / 2: eps is the radius, not the diameter.",
    },
    {
        "name": "no_ball",
        "question": "pgd_step",
        "swap": [(STEP, "pass")],
        "loses": ["border", "curved", "traces"],
        "says": "The projection onto the eps-ball is missing.",
    },
    {
        "name": "no_box",
        "question": "pgd_step",
        "swap": [("moved.clamp(0.0, 1.0)", "moved")],
        "loses": ["border", "curved", "traces"],
        "says": "The clamp to [0, 1] is missing.",
    },
    {
        "name": "around_z",
        "question": "pgd_step",
        "swap": [("x - eps), x + eps", "z - eps), z + eps")],
        "loses": ["border", "curved", "traces"],
        "says": "The ball lies around x, the clean point, and not around z.",
    },
    {
        "name": "l2_step",
        "question": "pgd_step",
        "swap": [("gradient.sign()", "(gradient / gradient.norm(dim=1, keepdim=True))")],
        "loses": ["linear", "border", "curved", "traces"],
        "says": "That is the l_2 step; in l_inf it is the sign of the gradient.",
    },
    {
        "name": "in_place",
        "question": "pgd_step",
        "swap": [("return moved.clamp(0.0, 1.0)", "return z.copy_(moved.clamp(0.0, 1.0))")],
        "loses": ["traces"],
        "says": "You overwrite the caller's z.",
    },
    {
        "name": "leaves_gradients",
        "question": "pgd_step",
        "swap": [
            (
                "(gradient,) = torch.autograd.grad(f(point).sum(), point)",
                "f(point).sum().backward(); gradient = point.grad",
            )
        ],
        "loses": ["traces"],
        "says": "backward() leaves gradients on the model: use torch.autograd.grad.",
    },
    {
        "name": "last_iterate",
        "question": "strongest_point",
        "swap": [("return best", "return z")],
        "loses": ["overshoot", "start"],
        "says": "You return the last iterate; evaluation keeps the strongest.",
    },
    {
        "name": "whole_batch",
        "question": "strongest_point",
        "swap": [
            ("better = value > highest", "better = (value.sum() > highest.sum()).expand(len(z))"),
        ],
        "loses": ["overshoot"],
        "says": "You keep the best iterate of the whole batch; each row has its own.",
    },
    {
        "name": "start_forgotten",
        "question": "strongest_point",
        "swap": [("highest = f(z).detach()", "highest = torch.full((len(z),), -torch.inf)")],
        "loses": ["start"],
        "says": "The start is an iterate, too, and may be the strongest.",
    },
    {
        "name": "no_ball",
        "question": "strongest_point",
        "swap": [(LOOP, "z = z + alpha * gradient.sign()")],
        "loses": ["linear", "curved", "start"],
        "says": "The projection onto the eps-ball is missing.",
    },
    {
        "name": "no_box",
        "question": "strongest_point",
        "swap": [("z = z.clamp(0.0, 1.0)", "pass")],
        "loses": ["curved"],
        "says": "The clamp to [0, 1] is missing.",
    },
    {
        "name": "one_step_short",
        "question": "strongest_point",
        "swap": [("range(steps)", "range(steps - 1)")],
        "loses": ["linear", "curved", "start"],
        "says": "You take one step too few.",
    },
    {
        "name": "weakest",
        "question": "strongest_point",
        "swap": [("value > highest", "value < highest")],
        "loses": ["linear", "overshoot", "start", "curved"],
        "says": "You keep the weakest point: compare with >.",
    },
    {
        "name": "uniform_radius",
        "question": "random_start",
        "swap": [(" ** (1 / x.shape[1])", "")],
        "loses": ["radius", "generator"],
        "says": "A uniform radius sits too close to the centre: take its d-th root.",
    },
    {
        "name": "sphere",
        "question": "random_start",
        "swap": [("eps * radius * direction", "eps * direction")],
        "loses": ["radius", "generator"],
        "says": "All your starts lie on the sphere; the ball has an inside.",
    },
    {
        "name": "cube",
        "question": "random_start",
        "swap": [
            (
                "direction = torch.randn(x.shape, generator=generator)",
                "direction = 2 * torch.rand(x.shape, generator=generator) - 1",
            )
        ],
        "loses": ["direction"],
        "says": "A direction drawn from a cube favours its corners.",
    },
    {
        "name": "half_space",
        "question": "random_start",
        "swap": [
            (
                "torch.randn(x.shape, generator=generator)",
                "torch.randn(x.shape, generator=generator).abs()",
            )
        ],
        "loses": ["direction"],
        "says": "All your coordinates grow: directions need both signs.",
    },
    {
        "name": "own_randomness",
        "question": "random_start",
        "swap": [("torch.randn(x.shape, generator=generator)", "torch.randn(x.shape)")],
        "loses": ["generator"],
        "says": "Some of your randomness does not come from the generator.",
    },
    {
        "name": "last_restart",
        "question": "robust_accuracy",
        "swap": [
            (
                "        robust &= model(z).argmax(dim=1) == y\n        for",
                "        robust = model(x).argmax(1) == y\n"
                "        robust &= model(z).argmax(1) == y\n        for",
            ),
        ],
        "loses": ["restarts"],
        "says": "Only your last restart counts; an example broken in any of them is broken.",
    },
    {
        "name": "last_iterate",
        "question": "robust_accuracy",
        "swap": [
            ("        robust &= model(z).argmax(dim=1) == y\n        for", "        for"),
            ("            robust &= model(z)", "        robust &= model(z)"),
        ],
        "loses": ["restarts"],
        "says": "Only the last iterate of a restart counts for you; every one can break.",
    },
    {
        "name": "clean_forgotten",
        "question": "robust_accuracy",
        "swap": [
            (
                "robust = model(x).argmax(dim=1) == y",
                "robust = torch.ones(len(x), dtype=torch.bool)",
            )
        ],
        "loses": ["clean"],
        "says": "The clean input is forgotten: an example that is wrong there is not robust.",
    },
    {
        "name": "averaged",
        "question": "robust_accuracy",
        "source": """def robust_accuracy(model, x, y, starts, eps, alpha, steps):
    shares = []
    for start in starts:
        robust = model(x).argmax(dim=1) == y
        z = start.detach()
        robust &= model(z).argmax(dim=1) == y
        for _ in range(steps):
            point = z.clone().requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(point), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, point)
            z = torch.minimum(torch.maximum(z + alpha * gradient.sign(), x - eps), x + eps)
            z = z.clamp(0.0, 1.0)
            robust &= model(z).argmax(dim=1) == y
        shares.append(robust.float().mean().item())
    return sum(shares) / len(shares)
""",
        "loses": ["restarts"],
        "says": "You average over restarts; the adversary takes the best one for each example.",
    },
    {
        "name": "descends",
        "question": "robust_accuracy",
        "swap": [("z + alpha", "z - alpha")],
        "loses": ["linear", "restarts"],
        "says": "You lower the loss; the attack has to raise it.",
    },
    {
        "name": "clean_accuracy",
        "question": "robust_accuracy",
        "source": """def robust_accuracy(model, x, y, starts, eps, alpha, steps):
    return (model(x).argmax(dim=1) == y).float().mean().item()
""",
        "loses": ["linear", "restarts"],
        "says": "That is the clean accuracy.",
    },
]

ACCEPT = {
    "project_linf": [
        """def project_linf(z, x, eps):
    return torch.clip(x + torch.clip(z - x, -eps, eps), 0, 1)
"""
    ],
    "project_l2": [
        """def project_l2(z, x, eps):
    d = z - x
    return x + d * (eps / d.norm(dim=1).clamp(min=eps))[:, None]
""",
        """def project_l2(z, x, eps):
    rows = []
    for a, b in zip(z, x):
        r = float((a - b).norm())
        rows.append(a if r <= eps else b + (a - b) * eps / r)
    return torch.stack(rows)
""",
    ],
    "project_l1": [
        """def project_l1(z, x, eps):
    # bisection on lambda
    d = (z - x).double()
    low, high = torch.zeros(len(d), 1).double(), d.abs().amax(1, keepdim=True)
    for _ in range(60):
        mid = (low + high) / 2
        long = (d.abs() - mid).clamp(min=0).sum(1, keepdim=True) > eps
        low, high = torch.where(long, mid, low), torch.where(long, high, mid)
    s = torch.where(d.abs().sum(1, keepdim=True) > eps, high, 0.0)
    return x + (d.sign() * (d.abs() - s).clamp(min=0)).float()
"""
    ],
    "pgd_step": [
        """def pgd_step(f, z, x, eps, alpha):
    p = z.clone().detach()
    p.requires_grad = True
    f(p).sum().backward(inputs=[p])
    d = (p.detach() + alpha * torch.sign(p.grad) - x).clamp(-eps, eps)
    return torch.clip(x + d, 0, 1)
"""
    ],
    "strongest_point": [
        """def strongest_point(f, x, start, eps, alpha, steps):
    path = [start]
    for _ in range(steps):
        p = path[-1].detach().requires_grad_(True)
        f(p).sum().backward(inputs=[p])
        step = p.detach() + alpha * p.grad.sign()
        path.append((x + (step - x).clamp(-eps, eps)).clamp(0, 1))
    with torch.no_grad():
        values = torch.stack([f(p) for p in path])
        pick = values.argmax(0)
    return torch.stack([path[k][i].detach() for i, k in enumerate(pick)])
"""
    ],
    "random_start": [
        """def random_start(x, eps, generator):
    # the first d coordinates of a uniform point of the sphere in d + 2 dimensions
    g = torch.randn(len(x), x.shape[1] + 2, generator=generator)
    return x + eps * (g / g.norm(dim=1, keepdim=True))[:, : x.shape[1]]
"""
    ],
    "robust_accuracy": [
        """def robust_accuracy(model, x, y, starts, eps, alpha, steps):
    broken = set((model(x).argmax(1) != y).nonzero().flatten().tolist())
    for z in starts:
        for k in range(steps + 1):
            p = z.clone().requires_grad_(True)
            logits = model(p)
            broken |= set((logits.argmax(1) != y).nonzero().flatten().tolist())
            loss = -logits.log_softmax(1)[range(len(y)), y].sum()
            g = torch.autograd.grad(loss, p)[0]
            z = (x + (z + alpha * g.sign() - x).clamp(-eps, eps)).clamp(0, 1)
    return 1 - len(broken) / len(x)
"""
    ],
}

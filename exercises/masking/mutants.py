"""Wrong answers to Section 17.2, the cases each must lose, and what its author is told."""

MUTANTS = [
    {
        "name": "signed",
        "question": "linearisation_error",
        "swap": [(".sum(dim=1)).abs()", ".sum(dim=1))")],
        "loses": ["curved", "linear", "rounded"],
        "says": "Your error has a sign: take its absolute value.",
    },
    {
        "name": "gradient_at_the_end",
        "question": "linearisation_error",
        "swap": [
            ("value = f(point)", "value = f(x)"),
            ("grad(value.sum(), point)", "grad(f(point + delta).sum(), point)"),
        ],
        "loses": ["curved", "linear"],
        "says": "You take the gradient at x + delta; the linear model is the one at x.",
    },
    {
        "name": "whole_batch",
        "question": "linearisation_error",
        "swap": [("(gradient * delta).sum(dim=1)", "(gradient * delta).sum()")],
        "loses": ["curved", "linear"],
        "says": "Your inner product runs over the whole batch; every row has its own.",
    },
    {
        "name": "mean_gradient",
        "question": "linearisation_error",
        "swap": [("value.sum()", "value.mean()")],
        "loses": ["curved", "linear"],
        "says": "The mean over the batch divides every gradient by n: sum the losses instead.",
    },
    {
        "name": "change_only",
        "question": "linearisation_error",
        "swap": [("(change - (gradient * delta).sum(dim=1))", "change")],
        "loses": ["curved", "linear"],
        "says": "That is the change of the loss; what the gradient predicts is not subtracted.",
    },
    {
        "name": "own_lengths",
        "question": "loss_slice",
        "swap": [
            ("first = u / u.norm()", "first = u"),
            ("(v @ first) * first", "(v @ first) / (u @ u) * first"),
            ("second = second / second.norm()", "pass"),
        ],
        "loses": ["orthogonal", "skew", "even"],
        "says": "Your directions keep their own lengths; the grid is measured along unit vectors.",
    },
    {
        "name": "not_orthogonal",
        "question": "loss_slice",
        "swap": [("v - (v @ first) * first", "v")],
        "loses": ["skew", "even"],
        "says": "Your second direction still leans on the first: the plane is right, the grid not.",
    },
    {
        "name": "second_too_short",
        "question": "loss_slice",
        "swap": [
            ("second = v -", "second = v / v.norm() -"),
            ("(v @ first) * first", "(v / v.norm() @ first) * first"),
            ("second = second / second.norm()", "pass"),
        ],
        "loses": ["skew", "even"],
        "says": "After the projection your second direction is shorter than 1: divide again.",
    },
    {
        "name": "long_projection",
        "question": "loss_slice",
        "swap": [("(v @ first) * first", "(v @ u) * first")],
        "loses": ["skew", "even"],
        "says": "You project with u as it is: the part along u needs the unit vector twice.",
    },
    {
        "name": "transposed",
        "question": "loss_slice",
        "swap": [(".view(resolution, resolution)", ".view(resolution, resolution).T")],
        "loses": ["orthogonal", "skew", "even"],
        "says": "Rows and columns are swapped: i goes with v1, j with v2.",
    },
    {
        "name": "end_missing",
        "question": "loss_slice",
        "swap": [
            (
                "torch.linspace(-radius, radius, resolution, dtype=x.dtype)",
                "-radius + 2 * radius / resolution * torch.arange(resolution)",
            ),
        ],
        "loses": ["orthogonal", "skew", "even"],
        "says": "Your grid stops one step before the radius; both ends belong to it.",
    },
    {
        "name": "through_the_middle",
        "question": "loss_slice",
        "swap": [
            (
                "resolution, dtype=x.dtype)",
                "resolution, dtype=x.dtype)\n    axis = axis - axis[resolution // 2]",
            )
        ],
        "loses": ["even"],
        "says": "You move the grid so that x lies on it; with an even resolution it does not.",
    },
    {
        "name": "factor_forgotten",
        "question": "scaled_gradient",
        "swap": [("return c * ", "return ")],
        "loses": ["steep", "saturated"],
        "says": "The chain rule's own factor c is missing.",
    },
    {
        "name": "plain_softmax",
        "question": "scaled_gradient",
        "swap": [("(c * x @ weight.T)", "(x @ weight.T)")],
        "loses": ["steep", "saturated"],
        "says": "Your softmax is that of the logits without the factor.",
    },
    {
        "name": "descends",
        "question": "scaled_gradient",
        "swap": [("(share - one_hot)", "(one_hot - share)")],
        "loses": ["plain", "steep", "saturated"],
        "says": "The sign is turned: the loss rises along W'(p - e_y).",
    },
    {
        "name": "averaged",
        "question": "scaled_gradient",
        "swap": [("@ weight\n", "@ weight / len(x)\n")],
        "loses": ["plain", "steep", "saturated"],
        "says": "You divide by n: each example has its own loss, and no mean is taken.",
    },
    {
        "name": "overflow",
        "question": "scaled_gradient",
        "swap": [
            (
                "(c * x @ weight.T).softmax(dim=1)",
                "(c * x @ weight.T).exp() / (c * x @ weight.T).exp().sum(dim=1, keepdim=True)",
            ),
        ],
        "loses": ["saturated"],
        "says": "exp overflows at c = 1000 and leaves infinity over infinity: use torch.softmax.",
    },
    {
        "name": "no_label",
        "question": "scaled_gradient",
        "swap": [("(share - one_hot)", "share")],
        "loses": ["plain", "steep", "saturated"],
        "says": "The label is missing: subtract e_y from the softmax.",
    },
    {
        "name": "turned",
        "question": "targeted_dlr",
        "swap": [("logits[row, t] - logits[row, y]", "logits[row, y] - logits[row, t]")],
        "loses": ["right", "wrong", "scaled"],
        "says": "The attack raises this loss: it is z_t - z_y, and not the other way round.",
    },
    {
        "name": "third_only",
        "question": "targeted_dlr",
        "swap": [("(ordered[:, 2] + ordered[:, 3]) / 2", "ordered[:, 2]")],
        "loses": ["right", "wrong", "scaled"],
        "says": "That is the untargeted loss's denominator; here third and fourth are averaged.",
    },
    {
        "name": "from_y",
        "question": "targeted_dlr",
        "swap": [("ordered[:, 0] -", "logits[row, y] -")],
        "loses": ["wrong", "scaled"],
        "says": "Your denominator starts at z_y; it starts at the largest logit, whoever has it.",
    },
    {
        "name": "ascending",
        "question": "targeted_dlr",
        "swap": [("descending=True", "descending=False")],
        "loses": ["right", "wrong", "scaled"],
        "says": "You sort from small to large.",
    },
    {
        "name": "margin_only",
        "question": "targeted_dlr",
        "swap": [(" / width", "")],
        "loses": ["right", "wrong", "scaled"],
        "says": "That is the margin: without the denominator the factor on the logits stays in.",
    },
    {
        "name": "probabilities",
        "question": "targeted_dlr",
        "swap": [("    ordered =", "    logits = logits.softmax(dim=1)\n    ordered =")],
        "loses": ["right", "wrong", "scaled"],
        "says": "You work on probabilities; the loss is made of logits to avoid the exponential.",
    },
    {
        "name": "no_box",
        "question": "one_step_shares",
        "swap": [(".clamp(0.0, 1.0)", "")],
        "loses": ["box"],
        "says": "Your points leave [0, 1].",
    },
    {
        "name": "descends",
        "question": "one_step_shares",
        "swap": [("x + eps", "x - eps")],
        "loses": ["honest", "masked", "box", "rivals", "clean"],
        "says": "You lower the loss; the attack has to raise it.",
    },
    {
        "name": "clean_forgotten",
        "question": "one_step_shares",
        "swap": [("(model(x).argmax(dim=1) == y) & ", "")],
        "loses": ["clean"],
        "says": "An example that is wrong at x does not stand, wherever the step leads.",
    },
    {
        "name": "own_rival",
        "question": "one_step_shares",
        "swap": [("others = logits.scatter(1, y[:, None], -torch.inf)", "others = logits")],
        "loses": ["honest", "masked", "box", "rivals", "clean"],
        "says": "Your margin lets y compete with itself: where y leads, it is constantly 0.",
    },
    {
        "name": "last_rival",
        "question": "one_step_shares",
        "swap": [("others.amax(dim=1)", "logits[:, -1]")],
        "loses": ["honest", "masked", "rivals"],
        "says": "The rival is the largest of the other logits, and not always the same class.",
    },
    {
        "name": "probabilities",
        "question": "one_step_shares",
        "swap": [("others = logits", "logits = logits.softmax(dim=1)\n        others = logits")],
        "loses": ["masked", "rivals"],
        "says": "Both of your losses saturate: take the margin of logits, not of probabilities.",
    },
    {
        "name": "swapped",
        "question": "one_step_shares",
        "swap": [("(cross_entropy, margin)", "(margin, cross_entropy)")],
        "loses": ["masked", "rivals"],
        "says": "Your two numbers are swapped: the cross-entropy comes first.",
    },
    {
        "name": "fooled_share",
        "question": "one_step_shares",
        "swap": [("stands.double()", "(~stands).double()")],
        "loses": ["honest", "masked", "box", "rivals", "clean"],
        "says": "You return the shares that fall, not those that stand.",
    },
]

ACCEPT = {
    "linearisation_error": [
        """def linearisation_error(f, x, delta):
    with torch.enable_grad():
        value, slope = torch.autograd.functional.jvp(f, x, delta)
    return torch.abs(f(x + delta) - (value + slope)).detach()
"""
    ],
    "loss_slice": [
        """def loss_slice(f, x, u, v, radius, resolution):
    q, r = torch.linalg.qr(torch.stack([u, v], 1))
    q = q * torch.sign(torch.diagonal(r))
    out = torch.empty(resolution, resolution)
    for i in range(resolution):
        for j in range(resolution):
            a, b = (2 * radius * k / (resolution - 1) - radius for k in (i, j))
            out[i, j] = f((x + a * q[:, 0] + b * q[:, 1])[None])[0]
    return out
"""
    ],
    "scaled_gradient": [
        """def scaled_gradient(weight, x, y, c):
    z = x.clone().requires_grad_(True)
    torch.nn.functional.cross_entropy(c * (z @ weight.T), y, reduction="sum").backward()
    return z.grad
"""
    ],
    "targeted_dlr": [
        """def targeted_dlr(logits, y, t):
    out = []
    for row, a, b in zip(logits.tolist(), y.tolist(), t.tolist()):
        s = sorted(row)
        out.append((row[b] - row[a]) / (s[-1] - (s[-3] + s[-4]) / 2))
    return torch.tensor(out)
"""
    ],
    "one_step_shares": [
        """def one_step_shares(model, x, y, eps):
    def stand(loss):
        p = x.clone()
        p.requires_grad = True
        loss(model(p)).backward(inputs=[p])
        z = torch.clip(x + eps * torch.sign(p.grad), 0, 1)
        with torch.no_grad():
            return ((model(x).argmax(1) == y) * (model(z).argmax(1) == y)).float().mean().item()

    def margin(logits):
        hot = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
        return (logits.masked_fill(hot, -1e9).max(1).values - logits[hot]).sum()

    return [stand(lambda z: -z.log_softmax(1)[range(len(y)), y].sum()), stand(margin)]
"""
    ],
}

"""Wrong answers to Section 17.4, the cases each must lose, and what its author is told."""

ENDS = "return middle - reach, middle + reach"

MUTANTS = [
    {
        "name": "ends_to_ends",
        "question": "affine_bounds",
        "source": """def affine_bounds(weight, bias, low, high):
    return low @ weight.T + bias, high @ weight.T + bias
""",
        "loses": ["signs", "point", "sides"],
        "says": "For a negative weight the ends change places: the radius goes through |W|, not W.",
    },
    {
        "name": "sorted_ends",
        "question": "affine_bounds",
        "source": """def affine_bounds(weight, bias, low, high):
    one, two = low @ weight.T + bias, high @ weight.T + bias
    return torch.minimum(one, two), torch.maximum(one, two)
""",
        "loses": ["signs", "point", "sides"],
        "says": "Two corners of the box are not all: every coordinate chooses its own end.",
    },
    {
        "name": "bias_in_the_radius",
        "question": "affine_bounds",
        "swap": [("weight.abs().T", "weight.abs().T + bias.abs()")],
        "loses": ["signs", "point", "sides"],
        "says": "The bias is no uncertainty: it moves the centre only.",
    },
    {
        "name": "bias_forgotten",
        "question": "affine_bounds",
        "swap": [("weight.T + bias,", "weight.T,")],
        "loses": ["signs", "point", "sides"],
        "says": "The bias is missing.",
    },
    {
        "name": "one_width",
        "question": "affine_bounds",
        "swap": [("(high - low) / 2", "((high - low) / 2).amax(1, keepdim=True).expand_as(low)")],
        "loses": ["sides"],
        "says": "You use the widest side for all; every coordinate has its own radius.",
    },
    {
        "name": "whole_width",
        "question": "affine_bounds",
        "swap": [("(high - low) / 2", "high - low")],
        "loses": ["signs", "point", "sides"],
        "says": "The radius is half of the width: your interval is twice too long.",
    },
    {
        "name": "relu_at_the_end",
        "question": "network_bounds",
        "swap": [("return low, high", "return low.relu(), high.relu()")],
        "loses": ["two", "box", "single", "deep"],
        "says": "There is no ReLU after the last layer: logits may be negative.",
    },
    {
        "name": "no_relu",
        "question": "network_bounds",
        "swap": [("low.relu(), high.relu()", "low, high")],
        "loses": ["two", "box", "deep"],
        "says": "The ReLU between the layers is missing.",
    },
    {
        "name": "relu_below_only",
        "question": "network_bounds",
        "swap": [("low.relu(), high.relu()", "low.relu(), high")],
        "loses": ["two", "deep", "box"],
        "says": "A neuron that is surely off is 0 at both ends.",
    },
    {
        "name": "no_box",
        "question": "network_bounds",
        "swap": [("(x - eps).clamp(min=0.0), (x + eps).clamp(max=1.0)", "x - eps, x + eps")],
        "loses": ["box", "deep"],
        "says": "The input's box is not cut at [0, 1].",
    },
    {
        "name": "half_box",
        "question": "network_bounds",
        "swap": [("(x + eps).clamp(max=1.0)", "x + eps")],
        "loses": ["box", "deep"],
        "says": "You cut the input's box at 0 and not at 1.",
    },
    {
        "name": "half_radius",
        "question": "network_bounds",
        "swap": [("x - eps", "x - eps / 2"), ("x + eps", "x + eps / 2")],
        "loses": ["two", "box", "single", "deep"],
        "says": "Your box has radius eps / 2: eps is the radius, not the width.",
    },
    {
        "name": "relu_of_the_centre",
        "question": "network_bounds",
        "source": """def network_bounds(layers, x, eps):
    low, high = (x - eps).clamp(min=0.0), (x + eps).clamp(max=1.0)
    centre, radius = (low + high) / 2, (high - low) / 2
    for k, (weight, bias) in enumerate(layers):
        if k:
            centre = centre.relu()
        centre, radius = centre @ weight.T + bias, radius @ weight.abs().T
    return centre - radius, centre + radius
""",
        "loses": ["two", "box", "deep"],
        "says": "You apply the ReLU to the centre and keep the radius: apply it to both ends.",
    },
    {
        "name": "relu_first",
        "question": "network_bounds",
        "swap": [("if k:", "if k < len(layers) - 1 or k == 0:")],
        "loses": ["two", "box", "deep"],
        "says": "Your ReLU stands before the first layer and is missing before the last.",
    },
    {
        "name": "logit_criterion",
        "question": "elided_margins",
        "source": """def elided_margins(weight, bias, low, high, y):
    centre, radius = (low + high) / 2, (high - low) / 2
    z, reach = centre @ weight.T + bias, radius @ weight.abs().T
    margins = (z - reach).gather(1, y[:, None]) - (z + reach)
    return margins.scatter(1, y[:, None], 0.0)
""",
        "loses": ["values", "common"],
        "says": "You bound two logits and subtract: h is then in two places at once.",
    },
    {
        "name": "largest",
        "question": "elided_margins",
        "swap": [("return middle - ", "return middle + ")],
        "loses": ["values", "common"],
        "says": "That is the largest margin in the box; a certificate needs the smallest.",
    },
    {
        "name": "turned",
        "question": "elided_margins",
        "swap": [
            ("weight[y][:, None] - weight", "weight - weight[y][:, None]"),
            ("+ bias[y][:, None] - bias", "+ bias - bias[y][:, None]"),
        ],
        "loses": ["values", "common", "point"],
        "says": "You bound z_j - z_y; the margin is z_y - z_j.",
    },
    {
        "name": "no_bias",
        "question": "elided_margins",
        "swap": [(" + bias[y][:, None] - bias", "")],
        "loses": ["values", "common", "point"],
        "says": "The difference of the biases is missing.",
    },
    {
        "name": "one_bias",
        "question": "elided_margins",
        "swap": [(" + bias[y][:, None] - bias", " + bias[y][:, None]")],
        "loses": ["values", "common", "point"],
        "says": "The bias of z_j is not subtracted.",
    },
    {
        "name": "absolute_first",
        "question": "elided_margins",
        "swap": [("rows.abs()", "(weight[y][:, None].abs() - weight.abs()).abs()")],
        "loses": ["values"],
        "says": "You take absolute values before the difference: it is |W_y - W_j|.",
    },
    {
        "name": "at_the_centre",
        "question": "elided_margins",
        "swap": [("return middle - (rows.abs() * radius[:, None]).sum(dim=2)", "return middle")],
        "loses": ["values", "common"],
        "says": "That is the margin at the centre of the box; the radius is not used.",
    },
    {
        "name": "first_label",
        "question": "elided_margins",
        "swap": [("[y][:, None]", "[y[:1]][:, None]")],
        "loses": ["values", "common", "point"],
        "says": "You use the label of the first row for all rows.",
    },
    {
        "name": "no_offset",
        "question": "crown_lower",
        "swap": [("torch.where(crossing, -above * low, 0.0)", "torch.zeros_like(low)")],
        "loses": ["above", "mixed"],
        "says": "The line above does not pass through 0: its offset -l u/(u-l) is missing.",
    },
    {
        "name": "lines_swapped",
        "question": "crown_lower",
        "swap": [
            ("torch.where(v > 0, below, above)", "torch.where(v > 0, above, below)"),
            ("v.clamp(max=0.0)", "v.clamp(min=0.0)"),
        ],
        "loses": ["below", "above", "mixed"],
        "says": "For v_i > 0 you take the line above: that bounds f from above.",
    },
    {
        "name": "always_zero",
        "question": "crown_lower",
        "swap": [("(high > -low).to(x.dtype)", "0.0")],
        "loses": ["below", "mixed"],
        "says": "Your line below always has slope 0; where u > -l it is the other one.",
    },
    {
        "name": "always_one",
        "question": "crown_lower",
        "swap": [("(high > -low).to(x.dtype)", "1.0")],
        "loses": ["below", "mixed"],
        "says": "Your line below always has slope 1; where u <= -l it is the other one.",
    },
    {
        "name": "parallel",
        "question": "crown_lower",
        "swap": [("(high > -low).to(x.dtype)", "high / (high - low)")],
        "loses": ["below", "mixed"],
        "says": "Your line below is parallel to the one above: sound, but not the one asked for.",
    },
    {
        "name": "wrong_slope",
        "question": "crown_lower",
        "swap": [
            (
                "high / torch.where(crossing, high - low, 1.0)",
                "high / torch.where(crossing, high + low.abs() + eps, 1.0)",
            )
        ],
        "loses": ["above", "mixed"],
        "says": "Your line above does not go through (l, 0) and (u, u): its slope is u/(u-l).",
    },
    {
        "name": "l_inf_norm",
        "question": "crown_lower",
        "swap": [("eps * a.abs().sum(dim=1)", "eps * a.abs().amax(dim=1)")],
        "loses": ["stable", "below", "above", "mixed"],
        "says": "The norm dual to l_inf is the l_1 norm: sum the |a_i|.",
    },
    {
        "name": "at_the_centre",
        "question": "crown_lower",
        "swap": [(" - eps * a.abs().sum(dim=1)", "")],
        "loses": ["stable", "below", "above", "mixed"],
        "says": "You evaluate the linear function at x; its minimum over the ball is lower.",
    },
    {
        "name": "intervals",
        "question": "crown_lower",
        "source": """def crown_lower(weight, bias, v, c, x, eps):
    middle, reach = x @ weight.T + bias, eps * weight.abs().sum(dim=1)
    low, high = (middle - reach).relu(), (middle + reach).relu()
    return (torch.where(v > 0, low, high) * v).sum(dim=1) + c
""",
        "loses": ["stable", "below", "above", "mixed"],
        "says": "That is the interval bound: neurons no longer know that they share x'.",
    },
    {
        "name": "no_bias",
        "question": "crown_lower",
        "swap": [("(v * slope) @ bias + ", "")],
        "loses": ["stable", "below", "above", "mixed"],
        "says": "On its way back each line also meets the bias of its neuron.",
    },
    {
        "name": "constant_forgotten",
        "question": "crown_lower",
        "swap": [("* offset).sum(dim=1) + c", "* offset).sum(dim=1)")],
        "loses": ["stable", "below", "above", "mixed"],
        "says": "The constant c is missing.",
    },
    {
        "name": "on_forgotten",
        "question": "crown_lower",
        "swap": [("stable = (low >= 0).to(x.dtype)", "stable = torch.zeros_like(low)")],
        "loses": ["stable", "below", "above", "mixed"],
        "says": "You drop neurons that are surely on: their ReLU is the line s itself.",
    },
    {
        "name": "off_kept",
        "question": "crown_lower",
        "swap": [("stable = (low >= 0).to(x.dtype)", "stable = torch.ones_like(low)")],
        "loses": ["stable", "below", "above", "mixed"],
        "says": "You keep neurons that are surely off: their ReLU is 0.",
    },
    {
        "name": "two_sided",
        "question": "certified_radius",
        "swap": [("hits + 1, alpha)", "hits + 1, alpha / 2)")],
        "loses": ["votes", "all", "abstains"],
        "says": "You spend alpha on two ends; only the lower one is used.",
    },
    {
        "name": "upper_end",
        "question": "certified_radius",
        "swap": [
            (
                "betaincinv(hits, n - hits + 1, alpha)",
                "betaincinv(hits + 1, max(n - hits, 1), 1 - alpha)",
            )
        ],
        "loses": ["votes", "all", "abstains"],
        "says": "That is the upper end of the interval: it certifies more than was proved.",
    },
    {
        "name": "share_seen",
        "question": "certified_radius",
        "swap": [("betaincinv(hits, n - hits + 1, alpha)", "min(hits / n, 1 - 1e-9)")],
        "loses": ["votes", "all", "abstains"],
        "says": "You use the share that was seen; the true one may be lower.",
    },
    {
        "name": "normal_interval",
        "question": "certified_radius",
        "swap": [
            (
                "betaincinv(hits, n - hits + 1, alpha)",
                "min(hits / n + ndtri(alpha) * (hits * (n - hits) / n**3) ** 0.5, 1 - 1e-9)",
            )
        ],
        "loses": ["votes", "all", "abstains"],
        "says": "A normal approximation fails near 1: it calls n of n draws a certainty.",
    },
    {
        "name": "posterior",
        "question": "certified_radius",
        "swap": [
            ("betaincinv(hits, n - hits + 1, alpha)", "betaincinv(hits + 1, n - hits + 1, alpha)")
        ],
        "loses": ["votes", "all", "abstains"],
        "says": "That is a Bayesian bound with a flat prior: the first parameter is hits itself.",
    },
    {
        "name": "negative",
        "question": "certified_radius",
        "swap": [(" if p > 0.5 else 0.0", "")],
        "loses": ["abstains"],
        "says": "Your radius is negative where the class has no majority: abstain, with 0.",
    },
    {
        "name": "absolute",
        "question": "certified_radius",
        "swap": [("float(sigma * ndtri(p)) if p > 0.5 else 0.0", "float(abs(sigma * ndtri(p)))")],
        "loses": ["abstains"],
        "says": "A share below 1/2 certifies nothing, however far below it is.",
    },
    {
        "name": "majority_seen",
        "question": "certified_radius",
        "swap": [("if p > 0.5", "if hits / n > 0.5")],
        "loses": ["abstains"],
        "says": "You abstain where the share seen is low; it is the bound that must exceed 1/2.",
    },
    {
        "name": "no_sigma",
        "question": "certified_radius",
        "swap": [("sigma * ndtri(p)", "ndtri(p)")],
        "loses": ["votes", "all", "abstains"],
        "says": "The radius is measured in units of the noise: multiply by sigma.",
    },
]

ACCEPT = {
    "affine_bounds": [
        """def affine_bounds(weight, bias, low, high):
    up, down = weight.clamp(min=0).T, weight.clamp(max=0).T
    return low @ up + high @ down + bias, high @ up + low @ down + bias
"""
    ],
    "network_bounds": [
        """def network_bounds(layers, x, eps):
    low, high = torch.clip(x - eps, 0, 1), torch.clip(x + eps, 0, 1)
    for weight, bias in layers[:-1]:
        ends = torch.stack([low[:, None] * weight, high[:, None] * weight])
        low = torch.clip(ends.amin(0).sum(-1) + bias, min=0)
        high = torch.clip(ends.amax(0).sum(-1) + bias, min=0)
    weight, bias = layers[-1]
    ends = torch.stack([low[:, None] * weight, high[:, None] * weight])
    return ends.amin(0).sum(-1) + bias, ends.amax(0).sum(-1) + bias
"""
    ],
    "elided_margins": [
        """def elided_margins(weight, bias, low, high, y):
    out = torch.zeros(len(low), len(weight))
    for i, label in enumerate(y.tolist()):
        for j in range(len(weight)):
            row = weight[label] - weight[j]
            worst = torch.where(row > 0, low[i], high[i])
            out[i, j] = row @ worst + bias[label] - bias[j]
    return out
"""
        """def elided_margins(weight, bias, low, high, y):
    centre, radius = (low + high) / 2, (high - low) / 2
    z = centre @ weight.T + bias
    spread = torch.einsum("nkd,nd->nk", (weight[y].unsqueeze(1) - weight).abs(), radius)
    return z.gather(1, y.unsqueeze(1)) - z - spread
""",
    ],
    "crown_lower": [
        """def crown_lower(weight, bias, v, c, x, eps):
    out = []
    for point in x:
        a, constant = torch.zeros_like(point), float(c)
        for w, b, s in zip(weight, bias.tolist(), v.tolist()):
            m, r = float(w @ point) + b, eps * float(w.abs().sum())
            l, u = m - r, m + r
            if u <= 0:
                k, t = 0.0, 0.0
            elif l >= 0:
                k, t = 1.0, 0.0
            elif s > 0:
                k, t = float(u > -l), 0.0
            else:
                k, t = u / (u - l), -l * u / (u - l)
            a = a + s * k * w
            constant += s * (k * b + t)
        out.append(float(a @ point) + constant - eps * float(a.abs().sum()))
    return torch.tensor(out)
"""
    ],
    "certified_radius": [
        """def certified_radius(hits, n, sigma, alpha):
    from scipy.stats import beta, norm
    p = beta(hits, n - hits + 1).ppf(alpha) if hits else 0.0
    return sigma * max(norm.ppf(p), 0.0)
""",
        """def certified_radius(hits, n, sigma, alpha):
    # bisection on P(Binomial(n, p) >= hits) = alpha
    from scipy.special import bdtrc
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        low, high = (p, high) if hits and bdtrc(hits - 1, n, p) < alpha else (low, p)
    return sigma * float(ndtri(low)) if low > 0.5 else 0.0
""",
    ],
}

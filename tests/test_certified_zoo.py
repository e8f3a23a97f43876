"""Every layer and activation of `torch.nn`, every method, and what people write in `forward`.

A bound is sound where none of 10,000 points of N(x) goes below it; where there is no bound, a
ValueError says so.
"""

import functools
import inspect
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adversarial_lab import nets
from adversarial_lab.certified import (
    METHODS,
    certified_radius,
    certify,
    ibp,
    lipschitz_bound,
    margins,
    smoothing,
    support,
    support_table,
    trace,
)
from adversarial_lab.certified.activations import CURVES, curve_of, slope_at
from adversarial_lab.certified.support import COVERED
from adversarial_lab.threat import ThreatModel

FAST = [name for name in METHODS if name not in ("lp", "milp")]
linf = functools.partial(ThreatModel, norm="linf", box=None)


def gaps(logits, y):
    """z_y - z_j of logits (..., n, k), +inf at j = y."""
    at = y[:, None].expand(*logits.shape[:-1], 1)
    return (logits.gather(-1, at) - logits).scatter(-1, at, torch.inf)


# -- activations ---------------------------------------------------------------------------------

ACTIVATIONS = {
    nn.LeakyReLU: [(0.1,), (-0.5,), (2.0,)],
    nn.PReLU: [(), (4, -0.5)],
    nn.Hardtanh: [(), (-0.2, 0.7)],
    nn.Softshrink: [(0.3,), (0.0,)],
    nn.Hardshrink: [(0.3,), (-0.3,), (0.0,)],
    nn.Threshold: [(0.1, 2.0), (0.1, -2.0), (0.3, 0.3)],
    nn.ELU: [(), (2.0,), (-1.0,), (0.0,)],
    nn.CELU: [(), (3.0,), (-1.0,)],
    nn.Softplus: [(), (1, 0.5), (-1, 0.5), (2, -3.0), (5, 1.0)],
    nn.GELU: [("none",), ("tanh",)],
    nn.RReLU: [(), (-0.4, 0.9)],
}
CASES = [(kind, args) for kind in CURVES for args in ACTIVATIONS.get(kind, [()])]


@pytest.mark.parametrize(("kind", "args"), CASES, ids=lambda v: getattr(v, "__name__", str(v)))
@pytest.mark.claim("17.4.2", "sound bounds for every activation, whatever its parameters")
def test_no_point_goes_below_the_bounds_of_an_activation(kind, args, rng):
    act = kind(*args)
    if kind is nn.PReLU and args:
        act.weight.data = torch.tensor([-0.5, 0.2, 1.5, 0.0])
    model = nn.Sequential(nn.Linear(2, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 3))
    model.double().eval().requires_grad_(False)
    y = torch.tensor([0, 1, 2, 0])
    for scale, eps in ((1.0, 0.1), (6.0, 0.4)):
        model[0].weight.mul_(scale)
        x = torch.randn(4, 2, generator=rng, dtype=torch.float64)
        z = x + eps * (2 * torch.rand(2500, 4, 2, generator=rng, dtype=torch.float64) - 1)
        logits = model(z.flatten(0, 1)).unflatten(0, (2500, 4))
        lowest = gaps(logits, y).amin(0)
        for method in METHODS if scale == 1 else FAST:
            try:
                found = margins(model, x, y, linf(eps=eps), method)
            except ValueError as error:
                assert refused(kind, method, str(error)), (method, error)
            else:
                assert (found <= lowest).all(), method


def refused(kind, method, said):
    """A refusal is one that the table announces, or that names a parameter's jump or slope."""
    named = ("nothing bounds", "needs a slope", "ceil_mode or dilation")
    listed = not support(kind)[method] and "known: " in said
    return kind.__name__ in said and (listed or any(part in said for part in named))


def made(kind, args):
    act = kind(*args).double().eval().requires_grad_(False)
    if kind is nn.PReLU and args:
        act.weight.data = torch.tensor([-0.5, 0.2, 1.5, 0.0]).double()
    return act, curve_of(act, 2)


def slope_of(act, points):
    """PyTorch's own values and derivatives at some points, on four channels."""
    v = torch.as_tensor(points, dtype=torch.float64)[:, None].repeat(1, 4).requires_grad_()
    out = act(v)
    return out.detach(), torch.autograd.grad(out.sum(), v)[0]


@pytest.mark.parametrize(("kind", "args"), CASES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_between_two_knots_the_slope_only_rises_or_falls(kind, args):
    act, curve = made(kind, args)
    ends = [-12.0, *(knot.at for knot in curve.knots), 12.0]
    for a, b in itertools.pairwise(ends):
        z = torch.linspace(a, b, 2003, dtype=torch.float64)[1:-1]
        if b - a < 1e-9:
            continue
        slope = slope_of(act, z)[1]
        if curve.straight:
            torch.testing.assert_close(
                slope_at(act, curve, z[:, None].repeat(1, 4), right=True), slope
            )
        steps = slope.diff(dim=0)
        assert ((steps >= -1e-12).all(0) | (steps <= 1e-12).all(0)).all()
        assert slope.abs().max() <= curve.steepest + 1e-8
        changes = (slope.amin(0) < -1e-9) & (slope.amax(0) > 1e-9)
        assert changes.tolist() == [any(a < t < b for t in curve.turns)] * 4


@pytest.mark.parametrize(("kind", "args"), CASES, ids=lambda v: getattr(v, "__name__", str(v)))
def test_the_slopes_and_values_at_knots_and_turns(kind, args):
    act, curve = made(kind, args)
    if len({knot.at for knot in curve.knots}) < len(curve.knots):
        return  # nothing lies between them
    for knot in curve.knots:
        out, slope = slope_of(act, [knot.at - 1e-7, knot.at + 1e-7])
        for side, expected in enumerate((knot.left, knot.right)):
            expected = torch.as_tensor(expected, dtype=torch.float64).expand(4)
            torch.testing.assert_close(slope[side], expected, atol=1e-5, rtol=0)
        if knot.values is not None:
            assert out[:, 0].tolist() == pytest.approx(knot.values, abs=1e-6)
    for turn in curve.turns:
        assert slope_of(act, [turn])[1].abs().max() < 1e-12


def test_softplus_is_bounded_across_the_threshold_where_it_falls():
    x = torch.full((1, 2), 0.5).double()
    act = nn.Softplus(1, 0.5)
    low, high = ibp(nn.Sequential(nn.Identity(), act), x, linf(eps=0.1))
    values = act(torch.linspace(0.4, 0.6, 10_001).double())
    torch.testing.assert_close(low, torch.full((1, 2), 0.5).double())  # the limit from the right
    torch.testing.assert_close(high, values.max().expand(1, 2))
    assert (low <= values.min()).all() and (values.max() <= high).all()
    assert values[0] > values[-1]  # it falls


def test_the_jump_of_a_plain_softplus_is_paid_for():
    """At 20, in double, softplus falls by 2e-9: a certificate that rests on less is none."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Softplus()).double().requires_grad_(False)
    model[0].weight.copy_(torch.tensor([[1.0], [0.0]]))
    x = torch.tensor([[20.0 - 1e-12]]).double()
    y, threat = torch.tensor([0]), linf(eps=1e-11)
    fall = gaps(model(x), y)[0, 1] - gaps(model(x + 1e-11), y)[0, 1]
    assert 2.0e-9 < fall < 2.1e-9
    for method in FAST:
        assert margins(model, x, y, threat, method)[0, 1] <= gaps(model(x + 1e-11), y)[0, 1]


# -- layers --------------------------------------------------------------------------------------

PLANE = (2, 6, 6)
LAYERS = {
    nn.Linear: [(PLANE[1:], (6, 4))],
    nn.Conv1d: [((2, 8), (2, 3, 3, 2, 1))],
    nn.Conv2d: [(PLANE, (2, 3, 3)), (PLANE, (2, 4, 3, 1, 1, 1, 2, True, "circular"))],
    nn.Conv3d: [((2, 3, 4, 4), (2, 2, 2))],
    nn.ConvTranspose1d: [((2, 5), (2, 3, 3, 2, 1, 1))],
    nn.ConvTranspose2d: [((2, 4, 4), (2, 2, 3, 2))],
    nn.ConvTranspose3d: [((2, 2, 3, 3), (2, 2, 2))],
    nn.BatchNorm1d: [((5,), (5,)), ((3, 4), (3,))],
    nn.BatchNorm2d: [(PLANE, (2,))],
    nn.BatchNorm3d: [((2, 2, 3, 3), (2,))],
    nn.AvgPool1d: [((2, 7), (2,))],
    nn.AvgPool2d: [(PLANE, (2,)), (PLANE, (3, 1, 1)), (PLANE, (3, 2, 1, True, False))],
    nn.AvgPool3d: [((2, 2, 4, 4), (2,))],
    nn.AdaptiveAvgPool1d: [((2, 7), (3,))],
    nn.AdaptiveAvgPool2d: [(PLANE, (1,)), (PLANE, ((4, 3),))],
    nn.AdaptiveAvgPool3d: [((2, 2, 4, 4), (1,))],
    nn.MaxPool1d: [((2, 7), (2,))],
    nn.MaxPool2d: [(PLANE, (2,)), (PLANE, (3, 1, 1)), (PLANE, (2, 1, 0, 2)), (PLANE, (3, 2, 0, 1))],
    nn.MaxPool3d: [((2, 2, 4, 4), (2,))],
    nn.AdaptiveMaxPool1d: [((2, 7), (3,))],
    nn.AdaptiveMaxPool2d: [(PLANE, (4,)), (PLANE, (8,))],
    nn.AdaptiveMaxPool3d: [((2, 2, 4, 4), (1,))],
    nn.Flatten: [(PLANE, ())],
    **{kind: [((2, 5), ())] for kind in (nn.Dropout1d, nn.FeatureAlphaDropout)},
    nn.Dropout2d: [(PLANE, ())],
    nn.Dropout3d: [((2, 2, 3, 3), ())],
    nn.Unflatten: [((12,), (1, (3, 4)))],
    nn.ZeroPad1d: [((2, 5), (1,))],
    nn.ConstantPad1d: [((2, 5), (1, 0.3))],
    nn.ConstantPad2d: [(PLANE, (1, -0.7))],
    nn.ConstantPad3d: [((2, 2, 3, 3), (1, 0.5))],
    nn.ReflectionPad1d: [((2, 5), (2,))],
    nn.ReplicationPad1d: [((2, 5), (2,))],
    nn.CircularPad1d: [((2, 5), (2,))],
    nn.ZeroPad3d: [((2, 2, 3, 3), (1,))],
    nn.ReflectionPad3d: [((2, 2, 3, 3), (1,))],
    nn.ReplicationPad3d: [((2, 2, 3, 3), (1,))],
    nn.CircularPad3d: [((2, 2, 3, 3), (1,))],
    nn.Upsample: [
        (PLANE, (None, 2)),
        (PLANE, (None, 1.5, "bilinear")),
        ((2, 5), (None, 2, "linear")),
    ],
    nn.UpsamplingNearest2d: [(PLANE, (None, 2))],
    nn.UpsamplingBilinear2d: [(PLANE, (None, 2))],
    nn.PixelShuffle: [((4, 3, 3), (2,))],
    nn.PixelUnshuffle: [(PLANE, (2,))],
    nn.ChannelShuffle: [((4, 3, 3), (2,))],
    nn.Fold: [((8, 4), ((3, 3), 2))],
    nn.Unfold: [(PLANE, (2,))],
    nn.Softmax: [((5,), (1,))],
    nn.Softmin: [((5,), (1,))],
    nn.LogSoftmax: [((5,), (1,))],
    nn.Softmax2d: [(PLANE, ())],
    nn.GLU: [((6,), ())],
    nn.LayerNorm: [((5,), (5,))],
    nn.RMSNorm: [((5,), (5,))],
    nn.GroupNorm: [(PLANE, (1, 2))],
    nn.InstanceNorm1d: [((2, 5), (2,))],
    nn.InstanceNorm2d: [(PLANE, (2,))],
    nn.InstanceNorm3d: [((2, 2, 3, 3), (2,))],
    nn.LocalResponseNorm: [(PLANE, (2,))],
    nn.CrossMapLRN2d: [(PLANE, (2,))],
    nn.LPPool1d: [((2, 6), (2, 2))],
    nn.LPPool2d: [(PLANE, (2, 2))],
    nn.LPPool3d: [((2, 2, 4, 4), (2, 2))],
}
# what takes or gives something else than one tensor of one batch, and losses
OTHER = {
    "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential",
    "Container",
    "Bilinear", "Embedding", "EmbeddingBag", "CosineSimilarity", "PairwiseDistance",
    "MultiheadAttention", "AdaptiveLogSoftmaxWithLoss", "DataParallel", "SyncBatchNorm",
    "FractionalMaxPool2d", "FractionalMaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
}  # fmt: skip
RECURRENT = ("RNN", "LSTM", "GRU", "Transformer")


def shape_for(kind):
    return next(
        s for d, s in (("1d", (2, 5)), ("2d", PLANE), ("3d", (2, 2, 3, 3))) if d in kind.__name__
    )


def layer_cases(kind):
    if kind in LAYERS:
        return LAYERS[kind]
    if "Pad" in kind.__name__:
        return [(shape_for(kind), (1,))]
    return [((5,), ())]


def walked():
    """Every class of `torch.nn` that acts on one tensor."""
    classes = {v for _, v in inspect.getmembers(nn, inspect.isclass) if issubclass(v, nn.Module)}
    skip = lambda name: (  # noqa: E731
        name in OTHER or name.startswith(("Lazy", *RECURRENT)) or "Loss" in name
    )
    return sorted((c for c in classes if not skip(c.__name__)), key=lambda c: c.__name__)


KINDS = [kind for kind in walked() if kind not in CURVES]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.claim("17.4.2", "every layer: sound bounds by every method, or a refusal with a list")
def test_no_point_goes_below_the_bounds_behind_a_layer(kind, rng):
    for shape, args in layer_cases(kind):
        layer = lively(kind(*args).double().eval(), rng)
        x = torch.rand(2, *shape, generator=rng, dtype=torch.float64)
        wide = layer(x)[0].numel()
        model = nn.Sequential(nn.ReLU(), layer, nn.Flatten(), nn.Linear(wide, 3), nn.Tanh())
        model.append(nn.Linear(3, 3)).double().eval().requires_grad_(False)
        y = torch.tensor([0, 1])
        z = x + 0.1 * (2 * torch.rand(5000, *x.shape, generator=rng, dtype=x.dtype) - 1)
        z[:500] = x + 0.1 * (z[:500] - x).sign()
        lowest = gaps(model(z.flatten(0, 1)).unflatten(0, (5000, 2)), y).amin(0)
        for method in FAST:
            try:
                found = margins(model, x, y, linf(eps=0.1), method)
            except ValueError as error:
                assert refused(kind, method, str(error)), (method, error)
            else:
                assert support(kind)[method] and (found <= lowest).all(), method


def lively(layer, rng):
    """Statistics and weights of both signs that matter."""
    for name, value in (*layer.named_buffers(), *layer.named_parameters()):
        if value.is_floating_point():
            draw = torch.randn(value.shape, generator=rng, dtype=value.dtype)
            value.data = draw.abs() + 0.2 if name == "running_var" else draw
    return layer


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_layer_as_the_programs_see_it(kind, rng):
    shape, args = layer_cases(kind)[0]
    layer = lively(kind(*args).double().eval(), rng)
    x = torch.rand(1, *shape, generator=rng, dtype=torch.float64)
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(layer(x)[0].numel(), 2)).double()
    y, threat = torch.tensor([0]), linf(eps=0.1)
    if not support(kind)["lp"]:
        with pytest.raises(ValueError, match=f"{kind.__name__}, which has no .*known: "):
            margins(model, x, y, threat, "lp")
        return
    crown, lp = (margins(model, x, y, threat, m, outward=False) for m in ("crown", "lp"))
    torch.testing.assert_close(crown[0, 1], lp[0, 1])  # the network is affine: both are exact


def test_the_table_says_what_the_methods_do():
    table = support_table()
    assert (
        set(table) >= {kind.__name__ for kind in (*CURVES, nn.Linear)} and "LayerNorm" not in table
    )
    for row in table.values():
        assert row["ibp"] and list(row) == list(COVERED) and set(row) == set(METHODS)
        assert row["crown"] == row["crown-ibp"] and row["lipschitz"] == row["lipschitz-pair"]


# -- what people write -----------------------------------------------------------------------------


class Net(nn.Module):
    """A small network whose forward is the function under test."""

    def __init__(self, body):
        super().__init__()
        self.body = body
        self.conv, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc, self.small, self.norm = nn.Linear(64, 3), nn.Linear(4, 3), nn.BatchNorm2d(4)
        self.gain = nn.Parameter(torch.full((1, 4, 1, 1), 0.7))
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.std, self.relu = torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.body(self, x)


def by_sizes(s, x):
    n, c, h, w = s.conv(x).shape
    assert x.dim() == 4 and x.ndim == 4 and x.shape[-1] == w
    return s.fc(s.conv(x).relu_().view(n, c * h * w))


def residual(s, x):
    z = s.conv(x)
    out = s.conv2(s.relu(s.norm(z.clone())))
    out += z
    return s.small(s.relu(out).mean((2, 3)))


def end(s, z):
    return s.fc(z.flatten(1))


WRITTEN = {
    "x.view(x.size(0), -1)": lambda s, x: s.fc(F.relu(s.conv(x)).view(x.size(0), -1)),
    "x.reshape(x.shape[0], -1)": lambda s, x: s.fc(s.conv(x).reshape(x.shape[0], -1)),
    "x.view(-1, 64)": lambda s, x: s.fc(s.conv(x).view(-1, 64)),
    "x.view(*x.shape[:1], -1)": lambda s, x: s.fc(s.conv(x).view(*x.shape[:1], -1)),
    "n, c, h, w = x.shape": by_sizes,
    "x * 2 - 1": lambda s, x: end(s, s.conv(x * 2 - 1)),
    "1 - x": lambda s, x: end(s, s.conv(1 - x)),
    "-x / 3": lambda s, x: end(s, s.conv(-x / 3)),
    "(x - mean) / std": lambda s, x: end(s, s.conv((x - s.mean) / s.std)),
    "gain": lambda s, x: end(s, s.conv(x) * s.gain.exp()),
    "torch.cat": lambda s, x: s.small(torch.cat([s.conv(x).tanh(), x], 1)[:, 2:6].mean((2, 3))),
    "F.dropout": lambda s, x: s.fc(F.dropout(s.conv(x).flatten(1), 0.5, s.training)),
    "F.log_softmax": lambda s, x: F.log_softmax(end(s, s.conv(x).relu()), dim=1),
    "softmax": lambda s, x: end(s, s.conv(x).relu()).softmax(-1),
    "clamp": lambda s, x: end(s, torch.clamp(s.conv(x).clamp(min=-0.1), max=0.3)),
    "residual": residual,
    "F.avg_pool2d": lambda s, x: s.small(F.avg_pool2d(F.gelu(s.conv(x)), 4).flatten(1)),
    "a - b": lambda s, x: end(s, s.conv(x) - 0.5 * s.conv2(s.conv(x)).abs()),
    "shared": lambda s, x: end(s, s.conv2(torch.relu(s.conv2(s.conv(x))))),
    "sum": lambda s, x: end(s, sum([s.conv(x), s.conv(x).sigmoid()])),
    "F.linear": lambda s, x: F.linear(s.conv(x).flatten(1), s.fc.weight, s.fc.bias),
    "x @ W": lambda s, x: s.conv(x).flatten(1) @ s.fc.weight.T,
    "F.conv2d": lambda s, x: end(s, F.conv2d(x, s.conv.weight, s.conv.bias, padding=1)),
    "permute": lambda s, x: end(s, s.conv(x).permute(0, 2, 3, 1)),
    "F.batch_norm": lambda s, x: end(
        s, F.batch_norm(s.conv(x), s.norm.running_mean, s.norm.running_var, s.norm.weight)
    ),
}


def judged(model, x, rng):
    """The graph is the network, x is left alone, and no sample goes below a bound."""
    y, threat = torch.tensor([0, 1, 2]), ThreatModel(norm="linf", eps=0.03)
    before, state = x.clone(), set(vars(model))
    with torch.no_grad():
        torch.testing.assert_close(trace(model, x[:1])(x), model(x.clone()))
        lowest = torch.full((3, 3), torch.inf, dtype=x.dtype)
        for _ in range(20):
            lowest = torch.minimum(lowest, gaps(model(threat.sample(x, rng)), y))
    for method in FAST:
        assert (margins(model, x, y, threat, method) <= lowest).all(), method
    assert torch.equal(x, before) and set(vars(model)) == state


@pytest.mark.parametrize("name", WRITTEN)
def test_forward_as_people_write_it(name, rng):
    model = Net(WRITTEN[name]).eval().double()
    model.std = model.std.double()
    judged(model, torch.rand(3, 3, 4, 4, generator=rng, dtype=torch.float64), rng)


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 3)).double()


def compiled_inside():
    model = nn.Sequential(small())
    model[0].compile(backend="eager")
    return model


WRAPPED = {
    "DataParallel": lambda: nn.DataParallel(small()),
    "torch.compile": lambda: torch.compile(small(), backend="eager"),
    "torch.compile inside": lambda: nn.Sequential(torch.compile(small(), backend="eager")),
    "compile()": compiled_inside,
}


@pytest.mark.filterwarnings("ignore")  # of torch's compiler
@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_networks_are_unwrapped(name, rng):
    model = WRAPPED[name]()
    inside = [type(m) for m in model.modules()]
    judged(model, torch.rand(3, 3, 4, 4, generator=rng, dtype=torch.float64), rng)
    assert [type(m) for m in model.modules()] == inside


def test_one_layer_alone_is_a_network():
    model, x = nn.Linear(4, 3), torch.rand(2, 4)
    y, threat = torch.tensor([0, 1]), ThreatModel(norm="linf", eps=0.1)
    for method in METHODS:
        same = margins(nn.Sequential(model), x, y, threat, method)
        assert torch.equal(margins(model, x, y, threat, method), same)


def statement(s, x):
    z = s.conv(x)
    z.relu_()
    return end(s, z)


REFUSED = {
    "write x.size\\(0\\)": lambda s, x: s.fc(s.conv(x).view(len(x), -1)),
    "batch must stay a dimension": lambda s, x: s.fc(s.conv(x).view(x.size(0) * 2, -1)),
    "use its result alone, x = x.relu_\\(\\)": statement,
    "attention and gates": lambda s, x: end(s, s.conv(x) * s.conv(x).sigmoid()),
    "joins examples": lambda s, x: end(s, s.conv(x) - s.conv(x).mean()),
    "keep the batch": lambda s, x: s.small(s.conv(x).mean((2, 3)).permute(1, 0)),
    "wrap it in a module whose forward returns the logits": lambda s, x: {"logits": x},
    "k >= 2 classes": lambda s, x: s.conv(x),
    "read symbolically": lambda s, x: torch.from_numpy(x.numpy()),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused_says_what_to_write(message):
    model, x = Net(REFUSED[message]).eval(), torch.rand(3, 3, 4, 4)
    with pytest.raises(ValueError, match=message):
        margins(model, x, torch.tensor([0, 1, 2]), ThreatModel(norm="linf", eps=0.1))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_is_no_module_of_layers_is_refused(unchecked):
    x, y, threat = torch.rand(2, 4), torch.tensor([0, 1]), ThreatModel(norm="linf", eps=0.1)
    with pytest.raises(ValueError, match="must be a torch.nn.Module, got function: put the call"):
        certify(lambda x: x, x, y, threat)
    with pytest.raises(ValueError, match="TorchScript, which hides its layers"):
        certify(torch.jit.trace(nn.Linear(4, 3), x), x, y, threat)


# -- no certificate without a proof ----------------------------------------------------------------


def broken(value):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)).requires_grad_(False)
    model[2].bias[1] = value
    return model


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.claim("17.4.1", "nothing is certified where there is no rival class or no number")
def test_one_logit_or_nan_is_no_certificate(method):
    x, y, threat = torch.rand(6, 4), torch.zeros(6).long(), ThreatModel(norm="linf", eps=0.5)
    for call in (certify, certified_radius):
        with pytest.raises(ValueError, match="k >= 2 classes: without a rival"):
            call(nn.Sequential(nn.Linear(4, 1)), x, y, threat, method)
        for value in (torch.nan, torch.inf):
            with pytest.raises(ValueError, match="finite logits"):
                call(broken(value), x, y, threat, method)


def test_an_overflow_is_no_certificate():
    """Finite at the first x, inf - inf at the second: -inf, not nan."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.CELU(-1.0), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [1.0]]))
    x, y, threat = torch.tensor([[1.0], [-1000.0]]), torch.tensor([0, 0]), linf(eps=0.1)
    found = margins(model, x, y, threat, "ibp-logits")
    assert found[0].isfinite().any() and not found.isnan().any() and found[1, 1] == -torch.inf
    assert not certify(model, x, y, threat, "ibp-logits")[1]


def test_smoothing_gives_no_certificate_without_a_rival_or_a_number():
    x, rng = torch.rand(2, 4), torch.Generator().manual_seed(0)
    for model, message in ((nn.Linear(4, 1), "without a rival"), (broken(torch.nan), "NaN or inf")):
        for call in (smoothing.certify, smoothing.predict, smoothing.counts):
            with pytest.raises(ValueError, match=message):
                call(model, x, sigma=0.5, n=10, rng=rng)


def test_labels_of_any_integer_type_and_no_other(unchecked):
    model, x, threat = nn.Linear(4, 3), torch.rand(2, 4), ThreatModel(norm="linf", eps=1e-4)
    y = model(x).argmax(1)
    assert torch.equal(certify(model, x, y.int(), threat), certify(model, x, y, threat))
    for bad in (y.double(), y == 0):
        with pytest.raises(ValueError, match="integer labels"):
            certify(model, x, bad, threat)


# -- a network of each kind ------------------------------------------------------------------------


def test_a_resnet_and_tokens_have_lipschitz_certificates(rng):
    torch.manual_seed(0)
    resnet = nets.preact_resnet18(2).eval()
    x = torch.rand(2, 3, 8, 8, generator=rng)
    y, threat = resnet(x).argmax(1), ThreatModel(norm="l2", eps=1e-3)
    for method in ("lipschitz", "lipschitz-pair"):
        assert (margins(resnet, x, y, threat, method) <= gaps(resnet(x), y)).all()
    assert lipschitz_bound(resnet, (3, 8, 8)) > 1
    tokens = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)).double()
    x = torch.rand(2, 3, 4, generator=rng).double()
    y = torch.tensor([0, 1])
    lowest = torch.full((2, 3), torch.inf).double()
    for _ in range(200):
        lowest = torch.minimum(lowest, gaps(tokens(threat.sample(x, rng)), y).detach())
    for method in ("lipschitz", "lipschitz-pair", "lipschitz-local"):
        found = margins(tokens, x, y, threat, method)
        assert (found <= lowest).all() and (found > lowest - 0.1)[found.isfinite()].all()

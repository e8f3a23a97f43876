"""Bring your own model: small models as people write them, through every attack and evaluation.

Each goes through right, judged here by its own plain answers, or is refused in words that name the
way out.
"""

import copy
import warnings
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adversarial_lab.attacks import (
    along,
    apgd,
    apgd_targets,
    ascent_attack,
    evaluate,
    fab_targets,
    random_signs,
    square,
    standard_evaluation,
    transfer,
)
from adversarial_lab.masking import masking_report
from adversarial_lab.pgd import attack_model, pgd
from adversarial_lab.threat import ThreatModel
from adversarial_lab.trades import decompose

pytestmark = pytest.mark.slow
LINF, L2 = ThreatModel(norm="linf", eps=0.1), ThreatModel(norm="l2", eps=0.8)


class LeNet(nn.Module):
    """Flattens with `view`, as the tutorials do."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(8 * 2 * 2, 16), nn.Linear(16, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.view(x.size(0), -1))))


class SmallCNN(nn.Module):
    """The shape of the one in the TRADES code: features, a `view`, a classifier with dropout."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(96, 20), nn.Dropout(), nn.Linear(20, 5))

    def forward(self, x):
        return self.classifier(self.features(x).view(-1, 96))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return F.relu(x + self.body(x), inplace=True)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 3, padding=1), Block(8)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(torch.flatten(self.pool(self.block(self.stem(x))), 1))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        return self.head(self.encoder(tokens)[:, 0])


class Rows(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(24, 10, batch_first=True), nn.Linear(10, 5)

    def forward(self, x):
        out, _ = self.lstm(x.permute(0, 2, 1, 3).flatten(2))
        return self.head(out[:, -1])


class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = cnn()
        self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1))

    def forward(self, x):
        return self.net((x - self.mean) / 0.25)


class Returning(nn.Module):
    """Its logits in something else."""

    def __init__(self, wrap):
        super().__init__()
        self.net, self.wrap = cnn(), wrap

    def forward(self, x):
        return self.wrap(self.net(x))


class Numpy(nn.Module):
    """Pixels in 8 levels, computed outside torch."""

    def __init__(self, detach):
        super().__init__()
        self.net, self.detach = cnn(), detach

    def forward(self, x):
        levels = (x.detach() if self.detach else x).numpy()
        return self.net(torch.from_numpy((levels * 7).round() / 7))


def cnn(k=5):
    """A network that this library can lay out as it likes."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, k)
    )


def of_network(net):
    """A function of a network that was left in training mode."""
    net.train()
    return lambda x: net((x - 0.5) / 0.25)


def scripted(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still used
        return torch.jit.script(net)


def compiled(net):
    return torch.compile(net, backend="eager")


@dataclass
class Row:
    """How a model is made; its images; its plain answers in float32 or better; who is refused."""

    make: object
    shape: tuple = (6, 3, 8, 8)
    dtype: torch.dtype = torch.float32
    plain: object = lambda model, z: model(z)
    refused: dict = field(default_factory=dict)  # function, or "" for all -> words
    clean: object = None  # how labels are found, if not by `plain`


GRADIENTS = ("pgd", "apgd", "apgd-t", "fab-t", "fgsm", "transfer", "decompose", "names", "standard")
NO_GRADIENT = "no gradient with respect to its input.*square"
exact = lambda model, z: copy.deepcopy(model).to(z.dtype)(z)  # noqa: E731
ZOO = {
    "LeNet with view": Row(LeNet),
    "SmallCNN with view": Row(SmallCNN),
    "ResNet with batch norm": Row(ResNet),
    "ViT": Row(ViT),
    "LSTM": Row(Rows),
    "tabular MLP": Row(
        lambda: nn.Sequential(nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 5)),
        (6, 7),
        refused={"square": r"x must be images \(n, c, h, w\) for Square"},
    ),
    "Conv1d": Row(
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5)),
        (6, 2, 8),
        refused={"square": r"x must be images \(n, c, h, w\) for Square"},
    ),
    "Conv3d": Row(
        lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)),
        (6, 1, 4, 4, 4),
        refused={"square": r"x must be images \(n, c, h, w\) for Square"},
    ),
    "DataParallel": Row(lambda: nn.DataParallel(LeNet())),
    "compiled": Row(lambda: compiled(LeNet())),
    "channels last": Row(lambda: cnn().to(memory_format=torch.channels_last)),
    "function": Row(lambda: of_network(ResNet())),
    "partial function": Row(lambda: partial(of_network(SmallCNN()))),
    "bound method": Row(lambda: ResNet().forward),
    "own normalisation": Row(Normalised),
    "object with logits": Row(
        lambda: Returning(lambda z: SimpleNamespace(logits=z)), plain=lambda m, z: m(z).logits
    ),
    "dict with logits": Row(
        lambda: Returning(lambda z: {"logits": z}), plain=lambda m, z: m(z)["logits"]
    ),
    "tuple": Row(
        lambda: Returning(lambda z: (z, None)),
        plain=lambda m, z: m(z)[0],
        refused={"": r"must return logits, a tensor \(n, k\), got <class 'tuple'>: wrap it"},
    ),
    "other dict": Row(
        lambda: Returning(lambda z: {"scores": z}),
        plain=lambda m, z: m(z)["scores"],
        refused={"": r"got a dict with keys \['scores'\]: wrap it"},
    ),
    "n k 1 1": Row(
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 6)),
        plain=lambda m, z: m(z)[..., 0, 0],
    ),
    "one logit": Row(lambda: cnn(1), refused={"": r"of one logit z make two, torch\.cat"}),
    "probabilities": Row(
        lambda: nn.Sequential(*cnn(), nn.Softmax(1)),
        refused=dict.fromkeys(("square", "along", *GRADIENTS), "got probabilities"),
    ),
    "half": Row(lambda: cnn().half(), dtype=torch.float16, plain=exact),
    "bfloat16": Row(lambda: LeNet().bfloat16(), dtype=torch.bfloat16, plain=exact),
    "double": Row(lambda: cnn().double(), dtype=torch.float64),
    "double, float32 images": Row(lambda: LeNet().double(), plain=exact),
    "float32, double images": Row(LeNet, dtype=torch.float64, plain=exact),
    "training mode, dropout": Row(lambda: SmallCNN().train()),
    "writes into its input": Row(
        lambda: nn.Sequential(nn.Threshold(0.3, 0.9, inplace=True), *cnn()),
        plain=lambda m, z: m(z.clone()),
    ),
    "1 x 1 images": Row(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 5)),
        (6, 3, 1, 1),
    ),
    "batch of one": Row(ResNet, (1, 3, 8, 8)),
    "two classes": Row(partial(cnn, 2), refused={"apgd-t": "needs at least 4 classes, got 2"}),
    "numpy": Row(partial(Numpy, True), refused=dict.fromkeys(GRADIENTS, NO_GRADIENT)),
    "numpy, not detached": Row(
        partial(Numpy, False), refused=dict.fromkeys(GRADIENTS, NO_GRADIENT)
    ),
    "TorchScript": Row(
        lambda: scripted(cnn()), refused={"": "TorchScript.*give the nn.Module that it was"}
    ),
    "half in a function": Row(
        lambda: of_network(cnn().half()),
        dtype=torch.float16,
        refused={"": r"convert the network and x first, as in network.float\(\)"},
        plain=lambda m, z: m(z.half()).float(),
    ),
}

SHORT = {
    "apgd-ce": partial(apgd, steps=3),
    "apgd-t": partial(apgd_targets, steps=3, targets=2),
    "fab-t": partial(fab_targets, steps=3, targets=2),
    "square": partial(square, queries=10),
}


def last(stages):
    return stages[-1].found


ATTACKS = {
    "pgd": partial(attack_model, steps=3),
    "fgsm": ascent_attack(partial(pgd, steps=1)),
    "apgd": SHORT["apgd-ce"],
    "apgd-t": SHORT["apgd-t"],
    "fab-t": SHORT["fab-t"],
    "square": SHORT["square"],
    "along": partial(along, directions=partial(random_signs, count=3), radii=1),
    "transfer": lambda model, *given, **more: transfer(model, *given, source=model, **more),
    "names": lambda *given, rng: last(evaluate(*given, ("fgsm", "pgd"))),
    "standard": lambda *given, rng: last(standard_evaluation(*given, SHORT)),
}


def prepared(name):
    """The model, its images and the labels it gives them, all as a stranger would bring them."""
    row = ZOO[name]
    torch.manual_seed(0)
    model = row.make()
    x = torch.rand(row.shape)
    x = x.to(row.dtype)
    with torch.no_grad(), quiet(model):
        y = row.plain(model, x.to(wide(row, x))).argmax(1)
    y[-1] = (y[-1] + 1) % 2 if len(y) > 1 and name != "one logit" else y[-1]  # one is wrong at x
    return row, model, x, y


def wide(row, x):
    doubles = "double" in str(row.dtype) or row.plain is exact and row.dtype == torch.float32
    return torch.float64 if doubles or row.dtype == torch.float64 else torch.float32


class quiet:
    """Every network of a model in eval mode, by hand."""

    def __init__(self, model):
        cells = [c.cell_contents for c in getattr(model, "__closure__", None) or ()]
        inner = getattr(model, "func", None)
        cells += [c.cell_contents for c in getattr(inner, "__closure__", None) or ()]
        self.nets = [
            m for m in (model, getattr(model, "__self__", None), *cells) if isinstance(m, nn.Module)
        ]

    def __enter__(self):
        self.modes = [(m, m.training) for net in self.nets for m in net.modules()]
        for net in self.nets:
            net.eval()

    def __exit__(self, *_):
        for module, training in self.modes:
            module.training = training


def judge(row, model, x, y, threat, found):
    """The promises of a result, by the model's own answers and by hand."""
    assert found.z.dtype == wide(row, x) and not found.z.requires_grad
    with torch.no_grad(), quiet(model):
        wrong = row.plain(model, found.z.clone()).argmax(1) != y
        natural = row.plain(model, x.to(found.z.dtype)).argmax(1) != y
    away = (found.z.double() - x.double()).flatten(1)
    length = away.abs().amax(1) if threat.norm == "linf" else away.norm(dim=1)
    assert (length <= threat.eps + 1e-5).all() and found.z.min() >= 0 and found.z.max() <= 1
    assert torch.equal(wrong, found.fooled) and torch.equal(natural, found.natural)
    assert (found.fooled | ~found.natural).all()
    assert found.robust_accuracy == pytest.approx(1 - found.fooled.double().mean().item())


@pytest.mark.parametrize("name", ZOO)
def test_every_attack_is_right_or_says_what_to_do(name):
    row, model, x, y = prepared(name)
    kept = x.clone()
    for attack, run in ATTACKS.items():
        words = row.refused.get(attack, row.refused.get(""))
        for threat in (LINF, L2):
            rng = torch.Generator().manual_seed(0)
            if words:
                with pytest.raises(ValueError, match=words):
                    run(model, x, y, threat, rng=rng)
            else:
                judge(row, model, x, y, threat, run(model, x, y, threat, rng=rng))
            assert torch.equal(x, kept)


REPORTED = [
    "LeNet with view",
    "function",
    "tuple",
    "one logit",
    "probabilities",
    "half",
    "writes into its input",
    "1 x 1 images",
    "batch of one",
    "numpy",
    "TorchScript",
    "half in a function",
]


@pytest.mark.parametrize("name", REPORTED)  # those that could differ: each takes 1,000 passes
def test_reports_and_risks_are_right_or_say_what_to_do(name):
    row, model, x, y = prepared(name)
    words = row.refused.get("")
    if words:
        with pytest.raises(ValueError, match=words):
            masking_report(model, x, y, LINF, queries=10)
        return
    found = masking_report(model, x, y, LINF, queries=10)
    if name != "batch of one":
        assert not found.dead and 0 <= found.robust_accuracy <= found.accuracy < 1
    assert ("zero gradients" in found.flags) == name.startswith("numpy")
    assert ("probabilities, not logits" in found.flags) == (name == "probabilities")
    words = row.refused.get("decompose")
    if words:
        with pytest.raises(ValueError, match=words):
            decompose(model, x, y, LINF, steps=2)
        return
    risks = decompose(model, x, y, LINF, steps=2)
    assert risks.robust == pytest.approx(risks.natural + risks.boundary)
    assert risks.natural == pytest.approx(1 - found.accuracy)


@pytest.mark.parametrize("name", ["ResNet with batch norm", "half"])
def test_the_model_is_left_as_it_was(name):
    _, model, x, y = prepared(name)
    (net,) = quiet(model).nets
    before = {k: (v.clone(), v.dtype, v.stride()) for k, v in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    for run in ATTACKS.values():
        run(model, x, y, LINF, rng=torch.Generator())
    masking_report(model, x, y, LINF, queries=10)
    for key, value in net.state_dict().items():
        kept, dtype, stride = before[key]
        assert torch.equal(value, kept) and value.dtype == dtype and value.stride() == stride
    assert [m.training for m in net.modules()] == modes and any(modes)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())

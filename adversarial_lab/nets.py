"""Networks of the book, and the trained weights that ship with it.

Every network takes pixels in [0, 1] and normalises, if at all, inside `forward`: eps stays in data
units everywhere. Weights are safetensors in half precision, each with the JSON record of its run.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = files("adversarial_lab") / "weights"


class Layers(nn.Sequential):
    """A Sequential that torch.compile takes whole: torch's own it leaves, for each block in it."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


def mnist_cnn() -> nn.Sequential:
    """166,406 parameters for (n, 1, 28, 28): two strided convolutions, two dense layers."""
    return Layers(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def dm_large(classes: int = 10, normalize: nn.Module | None = None) -> nn.Sequential:
    """17.2M parameters for (n, 3, 32, 32): five 3x3 convolutions, two dense layers, no BatchNorm.

    normalize: the first layer, by default CIFAR-10's. The "large" network of Gowal et al. 2018.
    """
    first = normalize or cifar10_normalize()
    return _seven_layers(first, (3, 32), 64, classes, lambda layer: [layer])


def cnn7(
    channels: int = 3,
    side: int = 32,
    width: int = 64,
    classes: int = 10,
    normalize: nn.Module | None = None,
) -> nn.Sequential:
    """`dm_large` with BatchNorm behind all layers but the last: the CNN-7 of Shi et al. 2021.

    For (n, channels, side, side), side even; 17.2M parameters for (3, 32), 13.3M for (1, 28).
    normalize: the first layer, by default CIFAR-10's for three channels and none for others.
    """
    if min(channels, width) < 1 or side < 2 or side % 2 or classes < 2:
        raise ValueError(
            "need channels and width >= 1, side even, classes >= 2,"
            f" got {channels}, {width}, {side} and {classes}"
        )
    first = normalize or (cifar10_normalize() if channels == 3 else nn.Identity())

    def normed(layer: nn.Conv2d | nn.Linear) -> list[nn.Module]:
        if isinstance(layer, nn.Linear):
            return [layer, nn.BatchNorm1d(layer.out_features)]
        return [layer, nn.BatchNorm2d(layer.out_channels)]

    return _seven_layers(first, (channels, side), width, classes, normed)


def _seven_layers(
    first: nn.Module,
    size: tuple[int, int],
    width: int,
    classes: int,
    dress: Callable[[nn.Conv2d | nn.Linear], list[nn.Module]],
) -> nn.Sequential:
    """Five convolutions, the third of stride 2, and two dense layers; ReLU after all but the last.

    size: channels and side of the images. dress: a layer and what stands between it and its ReLU.
    """
    layers: list[nn.Module] = [first]
    widths, strides = [size[0], width, width, *[2 * width] * 3], [1, 1, 2, 1, 1]
    for before, after, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [*dress(nn.Conv2d(before, after, 3, stride, padding=1)), nn.ReLU()]
    dense = nn.Linear(2 * width * (size[1] // 2) ** 2, 512)
    return Layers(*layers, nn.Flatten(), *dress(dense), nn.ReLU(), nn.Linear(512, classes))


class Normalize(nn.Module):
    """(x - mean) / std per channel, as the first layer of a network."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return (x - self.mean) / self.std


class PreActBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions, plus a shortcut (He et al. 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        same = before == after and stride == 1
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "n a h w"]) -> Float[Tensor, "n b i j"]:
        active = F.relu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        return skip + self.conv2(F.relu(self.norm2(self.conv1(active))))


class PreActBottleneck(nn.Module):
    """The same around 1x1, 3x3 and 1x1 convolutions, the 3x3 on a fourth of the channels."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        inner = after // 4
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        same = before == after and stride == 1
        self.shortcut = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "n a h w"]) -> Float[Tensor, "n b i j"]:
        active = F.relu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        inner = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return skip + self.conv3(F.relu(self.norm3(inner)))


def preact_resnet18(
    width: int = 64, classes: int = 10, normalize: nn.Module | None = None
) -> nn.Sequential:
    """PreActResNet-18 for (n, 3, 32, 32): 11.17M parameters at width 64, 2.80M at 32.

    normalize: the first layer, by default CIFAR-10's channel means and deviations.
    """
    if width < 1 or classes < 2:
        raise ValueError(f"need width >= 1 and classes >= 2, got {width} and {classes}")
    widths = [width, 2 * width, 4 * width, 8 * width]
    return _preact(normalize or cifar10_normalize(), width, widths, [2, 2, 2, 2], classes)


def preact_resnet50(
    width: int = 64, classes: int = 10, normalize: nn.Module | None = None
) -> nn.Sequential:
    """PreActResNet-50, of bottlenecks, for (n, 3, 32, 32): 23.51M parameters at width 64.

    normalize: the first layer, by default CIFAR-10's channel means and deviations.
    """
    if width < 1 or classes < 2:
        raise ValueError(f"need width >= 1 and classes >= 2, got {width} and {classes}")
    first, widths = normalize or cifar10_normalize(), [4 * width * 2**k for k in range(4)]
    return _preact(first, width, widths, [3, 4, 6, 3], classes, PreActBottleneck)


def wide_resnet(
    depth: int = 34, width: int = 10, classes: int = 10, normalize: nn.Module | None = None
) -> nn.Sequential:
    """WRN-depth-width for (n, 3, 32, 32): 46.16M parameters for WRN-34-10.

    normalize: the first layer, by default none, as in the networks of Madry et al. and TRADES.
    Source: Zagoruyko and Komodakis 2016.
    """
    if depth < 10 or (depth - 4) % 6 or width < 1 or classes < 2:
        raise ValueError(
            f"need depth 10, 16, 22, ..., width >= 1, classes >= 2; got {depth}, {width}, {classes}"
        )
    widths = [16 * width, 32 * width, 64 * width]
    return _preact(normalize or nn.Identity(), 16, widths, [(depth - 4) // 6] * 3, classes)


def _preact(
    first: nn.Module,
    before: int,
    widths: list[int],
    counts: list[int],
    classes: int,
    kind: type[PreActBlock] | type[PreActBottleneck] = PreActBlock,
) -> nn.Sequential:
    """A 3x3 convolution to `before` channels, stages of blocks, pooling, one dense layer."""
    layers: list[nn.Module] = [first, nn.Conv2d(3, before, 3, padding=1, bias=False)]
    for stage, (after, count) in enumerate(zip(widths, counts, strict=True)):
        for block in range(count):
            stride = 2 if stage and not block else 1
            layers.append(kind(before, after, stride))
            before = after
    head = [nn.BatchNorm2d(before), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Layers(*layers, *head, nn.Linear(before, classes))


def cifar10_normalize() -> Normalize:
    """The channel means and standard deviations of CIFAR-10's training images."""
    return Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


SHIPPED: dict[str, Callable[[], nn.Module]] = {
    "mnist-standard": mnist_cnn,
    "mnist-pgd": mnist_cnn,
    "mnist-fgsm": mnist_cnn,
    "mnist-ibp": mnist_cnn,
    **{f"mnist-trades-{beta}": mnist_cnn for beta in (0, 1, 3, 6, 12)},
}


def shipped(name: str) -> nn.Module:
    """A trained network of the book in eval mode, by name; ValueError lists the names."""
    model = _build(name)
    with as_file(WEIGHTS / f"{name}.safetensors") as path:
        model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return model.eval()


def shipped_record(name: str) -> dict:
    """How that network was made: its run's record."""
    _build(name)
    return json.loads((WEIGHTS / f"{name}.json").read_text())


def _build(name: str) -> nn.Module:
    if name not in SHIPPED:
        raise ValueError(f"name must be one of {sorted(SHIPPED)}, got {name!r}")
    return SHIPPED[name]()


_ASKED: list[torch.device] = []


def best_device() -> torch.device:
    """The device asked for by `on_device`; CUDA, else Apple's MPS, else the CPU."""
    if _ASKED:
        return _ASKED[-1]
    for kind, here in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
        if here():
            return torch.device(kind)
    return torch.device("cpu")


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """Inside, `best_device` is this one, whatever else there is."""
    _ASKED.append(device)
    try:
        yield
    finally:
        _ASKED.pop()

"""Images in [0, 1] and their labels: MNIST, Fashion-MNIST, CIFAR-10, and two small real subsets.

`load` looks for the public files in `$ADVERSARIAL_LAB_DATA`, then in the cache, then downloads
them into the cache. Whatever the place, a file counts only if its content has the published
sha256 (`_data/SHA256SUMS`). "mnist-mini" and "cifar-10-mini" ship with the package: first rows of
the real sets, made by `tools/make_mini.py`. A new set is a new row of `LOADERS`.
"""

import gzip
import hashlib
import os
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from adversarial_lab.needs import or_say

VARIABLE = "ADVERSARIAL_LAB_DATA"
SPLITS = ("train", "test")
MINI_COLUMNS = 25  # images per row of an embedded sprite

# Where each folder of files comes from, tried in order.
HOMES = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/{file}.gz",
        "https://storage.googleapis.com/cvdf-datasets/mnist/{file}.gz",
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{file}.gz",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{file}.gz",
    ),
    "cifar-10-batches-bin": ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
}

Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]
Pixels = UInt8[np.ndarray, "n c h w"]
Digits = UInt8[np.ndarray, " n"]
Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, labels, and which set they are: `x, y = load(...)` works, and so does `.name`."""

    x: Float[Tensor, "n c h w"]
    y: Int[Tensor, " n"]
    name: str
    split: str

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.x, self.y))

    def __str__(self) -> str:
        return f"{self.name} {self.split}, {len(self.x)} images"


def load(name: str, split: str = "train", n: int | None = None) -> Dataset:
    """The first n images of a set's split (all of them if n is None).

    Shapes: x float32 (n, c, h, w) in [0, 1], exactly k/255; y int64 (n,).
    Errors: ValueError for an unknown name or split, an n outside 1..size, or a file whose content
    is not the published one; FileNotFoundError, saying what to do, if the files cannot be had.
    Sources: LeCun et al. 1998; Xiao et al. 2017; Krizhevsky 2009.
    """
    if name not in LOADERS:
        raise ValueError(f"name must be one of {tuple(LOADERS)}, got {name!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    if n is not None and (type(n) is not int or n < 1):
        raise ValueError(f"n must be a whole number >= 1, or None for all, got {n!r}")
    pixels, digits = LOADERS[name](split)
    if n is not None and n > len(pixels):
        raise ValueError(f"n must be at most {len(pixels)}, the size of {name} {split}, got {n}")
    x = torch.from_numpy(pixels[:n].astype(np.float32)).div_(255)
    return Dataset(x, torch.from_numpy(digits[:n].astype(np.int64)), name, split)


def _idx(folder: str, split: str) -> tuple[Pixels, Digits]:
    """MNIST's format: a header of 16 bytes and the images, a header of 8 bytes and the labels."""
    part = {"train": "train", "test": "t10k"}[split]
    pixels = np.frombuffer(content(f"{folder}/{part}-images-idx3-ubyte"), np.uint8, offset=16)
    digits = np.frombuffer(content(f"{folder}/{part}-labels-idx1-ubyte"), np.uint8, offset=8)
    return pixels.reshape(-1, 1, 28, 28), digits


def _cifar(split: str) -> tuple[Pixels, Digits]:
    """CIFAR-10's binary format: per image one label byte, then 3 x 32 x 32 bytes."""
    parts = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}[split]
    raw = b"".join(content(f"cifar-10-batches-bin/{part}.bin") for part in parts)
    rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def _mini(name: str, suffix: str, split: str) -> tuple[Pixels, Digits]:
    """An embedded subset: a lossless sprite, MINI_COLUMNS images a row, and a line of labels."""
    folder = resources.files("adversarial_lab") / "_data"
    return _sprite(folder / f"{name}-{split}.{suffix}", folder / f"{name}-{split}.txt")


def _sprite(picture: Any, labels: Any) -> tuple[Pixels, Digits]:
    """Images and labels from two files: a lossless picture of them, and a line of digits."""
    from PIL import Image

    digits = np.frombuffer(labels.read_bytes().strip(), np.uint8) - 48
    with picture.open("rb") as file, Image.open(file) as image:
        sprite = np.atleast_3d(np.asarray(image))
    side = sprite.shape[1] // MINI_COLUMNS
    tiles = sprite.reshape(-1, side, MINI_COLUMNS, side, sprite.shape[2])
    return tiles.transpose(0, 2, 4, 1, 3).reshape(len(digits), -1, side, side), digits


def packed(path: Path) -> bytes:
    """The bytes of a CIFAR-10 batch from the picture that `tools/pack_cifar10.py` made of it."""
    pixels, digits = _sprite(path, path.with_suffix(".txt"))
    return np.concatenate([digits[:, None], pixels.reshape(len(digits), -1)], axis=1).tobytes()


LOADERS: dict[str, Callable[[str], tuple[Pixels, Digits]]] = {
    "mnist": partial(_idx, "mnist"),
    "fashion-mnist": partial(_idx, "fashion-mnist"),
    "cifar-10": _cifar,
    "mnist-mini": partial(_mini, "mnist-mini", "png"),
    "cifar-10-mini": partial(_mini, "cifar-10-mini", "webp"),
}


@cache
def _published() -> dict[str, str]:
    """The sha256 of every public file after unpacking, by its name below the data folder."""
    lines = (resources.files("adversarial_lab") / "_data/SHA256SUMS").read_text().splitlines()
    return {file: digest for digest, file in (line.split() for line in lines)}


def content(file: str) -> bytes:
    """The checked content of one public file, such as "mnist/train-labels-idx1-ubyte"."""
    if path := _place(file):
        return _read(file, path)
    _download(file)
    return _read(file, _cache() / file)


def _place(file: str) -> Path | None:
    """Where a public file is on this machine, as it was published, zipped or packed."""
    for root in _roots():
        for path in (root / file, root / f"{file}.gz", (root / file).with_suffix(".webp")):
            if path.is_file():
                return path
    return None


def check_here(name: str) -> None:
    """FileNotFoundError, saying how to get them, if files of a set would have to be downloaded."""
    folder = {"cifar-10": "cifar-10-batches-bin"}.get(name, name)
    if any(file.startswith(f"{folder}/") and not _place(file) for file in _published()):
        raise FileNotFoundError(
            f"{name} is not on this machine: its folder {folder} is, whole, neither in {VARIABLE}"
            f" (now {os.environ.get(VARIABLE)!r}) nor in {_cache()}. Where there is a network,"
            f' `python -c "from adversarial_lab.data import load; load({name!r})"` gets it; else'
            f" set {VARIABLE} to a folder that holds {folder}/"
            + (" as `python -m tools.pack_cifar10` packs it" if name == "cifar-10" else "")
        )


def _roots() -> Iterator[Path]:
    """Where files may be; who has them all in a folder of their own needs no pooch."""
    yield from _own_folder()
    yield _cache()


def _own_folder() -> list[Path]:
    """The reader's own data folder, if the variable names one."""
    if not (value := os.environ.get(VARIABLE)):
        return []
    root = Path(value).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{VARIABLE} is {value!r}, which is not a folder")
    return [root]


def _cache() -> Path:
    """Where downloads are kept: the platform's cache folder, as pooch knows it."""
    with or_say(f"a full data set that is not in the folder {VARIABLE} needs"):
        import pooch

    return Path(pooch.os_cache("adversarial-lab"))


_OPENERS: dict[str, Callable[[Path], bytes]] = {
    ".gz": lambda path: gzip.decompress(path.read_bytes()),
    ".webp": packed,
}


def _read(file: str, path: Path) -> bytes:
    """A local file's content, unpacked and checked; ValueError if it is not the published one."""
    try:
        return _checked(file, _OPENERS.get(path.suffix, Path.read_bytes)(path))
    except (gzip.BadGzipFile, EOFError, zlib.error, OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}; delete or replace it") from error


def _checked(file: str, content: bytes) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    if digest != _published()[file]:
        raise ValueError(
            f"not the published {file} (sha256 {digest[:12]}..., {len(content)} bytes; "
            f"expected {_published()[file][:12]}...)"
        )
    return content


def _download(file: str) -> None:
    """Put a public file into the cache, from the first of its homes that has the right content."""
    folder, base = file.split("/")
    failures = []
    for home in HOMES[folder]:
        url = home.format(file=base)
        try:
            return _fetch(url, file)
        except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
            failures.append(f"  {url}: {error}")
    raise FileNotFoundError(_advice(folder, failures))


def _fetch(url: str, file: str) -> None:
    """Download an archive, check what it holds, keep that; of anything else nothing stays."""
    with or_say("a download needs"):
        import pooch

    print(f"Downloading {url}", file=sys.stderr)
    root, folder = _cache(), file.split("/")[0]
    (root / folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="download-") as work:
        archive, whole = Path(work, url.rsplit("/", 1)[-1]), Path(work, "whole")
        pooch.HTTPDownloader(progressbar=True)(url, str(archive), None)
        for base, content in _unpack(archive):
            whole.write_bytes(_checked(f"{folder}/{base}", content))
            os.replace(whole, root / folder / base)  # one step: a file is there whole or not at all
    if not (root / file).is_file():
        raise ValueError(f"has no {file}")


def _unpack(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(base name, content) of every published file in a .tar.gz or a .gz."""
    if not archive.name.endswith(".tar.gz"):
        yield archive.stem, gzip.decompress(archive.read_bytes())
        return
    bases = {Path(file).name for file in _published()}
    with tarfile.open(archive) as tar:
        for member in tar:
            base, stream = Path(member.name).name, tar.extractfile(member)
            if base in bases and stream is not None:
                yield base, stream.read()


def _advice(folder: str, failures: list[str]) -> str:
    files = [f"  {file}" for file in _published() if file.startswith(f"{folder}/")]
    return "\n".join(
        [
            f"{folder}: not on this machine, and no download gave the published files; of what "
            "came instead, nothing was kept.",
            *failures,
            f"Either set the variable {VARIABLE} (now {os.environ.get(VARIABLE)!r}) to a folder "
            "that holds these files, unpacked or as .gz:",
            *files,
            'or ask for "mnist-mini" or "cifar-10-mini", real subsets that need no download.',
        ]
    )


class Batches:
    """Batches (x, y) of tensors in memory, in a new random order each time it is iterated.

    Shapes: x (n, c, h, w), y (n,); every batch is (b, c, h, w), (b,) on `device`, the last one
    shorter unless `drop_last`. The order and the augmentation are drawn from `rng` and from
    nothing else: the same state of the generator gives the same batches.
    Errors: ValueError for x and y of different or zero length, a batch_size below 1, a batch_size
    above n with drop_last (no batch at all), or an rng that is no generator.
    """

    def __init__(
        self,
        x: Images,
        y: Labels,
        batch_size: int,
        rng: torch.Generator,
        augment: Augment | None = None,
        *,
        drop_last: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(f"x and y must have one length >= 1, got {len(x)} and {len(y)}")
        if batch_size < 1 or (drop_last and batch_size > len(x)):
            limit = f"1..{len(x)}" if drop_last else ">= 1"
            raise ValueError(f"batch_size must be {limit}, got {batch_size}")
        if not isinstance(rng, torch.Generator):
            raise ValueError(f"rng must be a torch.Generator, the source of the order, got {rng!r}")
        self.x, self.y, self.batch_size, self.rng = x, y, batch_size, rng
        self.augment, self.drop_last = augment, drop_last
        self.device = x.device if device is None else torch.device(device)

    def __len__(self) -> int:
        full, rest = divmod(len(self.x), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.x), generator=self.rng, device=self.rng.device)
        for rows in order.to(self.x.device).split(self.batch_size)[: len(self)]:
            x, y = (t[rows].to(self.device, non_blocking=True) for t in (self.x, self.y))
            yield (x if self.augment is None else self.augment(x, self.rng)), y


def crop_flip(
    x: Float[Tensor, "n c h w"], rng: torch.Generator, pad: int = 4
) -> Float[Tensor, "n c h w"]:
    """Per image: pad by zeros, crop at a uniform offset, mirror left-right with probability 1/2.

    The usual augmentation for CIFAR-10 (He et al. 2016), as one gather for the whole batch.
    Draws from rng, in this order: tops (n,), lefts (n,) in 0..2 pad, mirrors (n,) in 0..1.
    """
    n, c, h, w = x.shape
    draw = partial(torch.randint, size=(n, 1, 1), generator=rng, device=rng.device)
    top, left, mirror = (draw(high=k).to(x.device) for k in (2 * pad + 1, 2 * pad + 1, 2))
    row = top + torch.arange(h, device=x.device).view(1, h, 1)
    column = torch.arange(w, device=x.device).view(1, 1, w)
    column = left + torch.where(mirror == 1, w - 1 - column, column)
    index = (row * (w + 2 * pad) + column).view(n, 1, h * w).expand(n, c, h * w)
    return F.pad(x, [pad] * 4).flatten(2).gather(2, index).view(n, c, h, w)

"""What the classroom notebooks need beside the library: a photo as a digit, a vote, a clock.

The notebooks are written in demos/ and exported to notebooks/demo_*.ipynb.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from adversarial_lab import data

SIDE, INK = 28, 20  # MNIST: a digit fits a square of INK pixels, in an image of SIDE


def photo_as_digit(path: Path | str) -> Float[Tensor, "1 1 28 28"]:
    """A photo of one handwritten digit as an image of MNIST: white on black, centred by mass.

    Ink is what differs from the paper by more than a third of the contrast, so shadows go. Errors:
    FileNotFoundError; ValueError for a picture without contrast. Source: LeCun et al. 1998, for
    the 20 pixels and the centre.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r} beside this notebook")
    with Image.open(path) as image:
        grey = np.asarray(ImageOps.exif_transpose(image).convert("L"), float)
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey - np.median(edge))  # the edge shows the paper
    if ink.max() < 32:
        raise ValueError(f"{path.name} has no contrast: a dark digit on white paper is best")
    ink = np.clip(ink / ink.max() * 1.5 - 0.5, 0, 1)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return torch.from_numpy(_centred(_shrunk(box)))[None, None]


def _shrunk(ink: np.ndarray) -> np.ndarray:
    """The longer side INK pixels long, the darkest stroke full."""
    scale = INK / max(ink.shape)
    height, width = (max(1, round(n * scale)) for n in ink.shape)
    small = Image.fromarray((ink * 255).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BOX
    )
    pixels = np.asarray(small, np.float32)
    return pixels / pixels.max()


def _centred(digit: np.ndarray) -> np.ndarray:
    """On black, the centre of mass in the middle as far as the frame allows."""
    canvas, corner = np.zeros((SIDE, SIDE), np.float32), []
    for axis, size in enumerate(digit.shape):
        mass = digit.sum(1 - axis)
        centre = (mass * np.arange(size)).sum() / mass.sum() + 0.5
        corner.append(int(np.clip(round(SIDE / 2 - centre), 0, SIDE - size)))
    (top, left), (height, width) = corner, digit.shape
    canvas[top : top + height, left : left + width] = digit
    return canvas


def upload() -> Path | None:
    """A file from the reader's computer, by Colab; elsewhere None, and what to do instead."""
    try:
        from google.colab import files
    except ImportError:
        print("No upload widget here: put the file beside this notebook, its name into OWN_IMAGE.")
        return None
    names = list(files.upload())
    return Path(names[0]) if names else None


def largest(name: str, instead: str, split: str = "train") -> data.Dataset:
    """A data set, or the one to take instead where it can neither be found nor fetched."""
    try:
        return data.load(name, split)
    except (FileNotFoundError, ModuleNotFoundError):  # the latter where pooch is missing
        print(f"{name} is not here and cannot be fetched, so this uses {instead}.")
        return data.load(instead, split)


def epochs_within(
    seconds: float, step: Callable[[], object], batches: int, *, most: int, warm: int = 5
) -> int:
    """How many epochs of `batches` steps fit into these seconds, by timing a few; 1 to `most`."""
    for _ in range(warm):  # the first steps of a GPU compile and allocate
        step()
    wait()
    began = time.perf_counter()
    for _ in range(warm):
        step()
    wait()
    each = (time.perf_counter() - began) / warm
    return max(1, min(most, int(seconds / (each * batches))))


def wait() -> None:
    """Until a GPU has done what it was asked: it answers before it is ready."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def verdicts(votes: dict[str, str], flags: dict[str, tuple[str, ...]]) -> list[list[str]]:
    """A row for each network: the class's vote, the report's, and whether they agree.

    votes: "robust" or "masked"; flags: what `masking_report` found.
    """
    if votes.keys() != flags.keys() or set(votes.values()) - {"robust", "masked"}:
        raise ValueError(
            f"votes must say 'robust' or 'masked' for each of {sorted(flags)}, got {votes}"
        )
    rows = []
    for name, vote in votes.items():
        verdict = "masked" if flags[name] else "robust"
        why = ", ".join(flags[name]) or "no sign of masking"
        rows.append([name, vote, verdict, "yes" if vote == verdict else "**no**", why])
    return rows

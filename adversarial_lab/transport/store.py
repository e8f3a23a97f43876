"""Keeps the parts of a long search for conflicts in a folder, each file whole or not there."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adversarial_lab.files import whole

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


class Store:
    """The results for one data set and norm; the folder's name has the sha256 of both."""

    def __init__(self, root: Path, x: Tensor, labels: Tensor, norm: str) -> None:
        digest = hashlib.sha256(f"{norm} {x.dtype} {tuple(x.shape)}".encode())
        for tensor in (x, labels):
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        self.folder = root / f"conflicts-{norm}-{digest.hexdigest()[:16]}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def find(self, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
        """The complete result of the smallest radius that is large enough, and that radius."""
        complete = sorted(float(path.stem[4:]) for path in self.folder.glob("all-*.npz"))
        for known in complete:
            if known >= radius:
                return *_read(self.folder / f"all-{known!r}.npz"), known
        return None

    def load(self, radius: float, rows: slice) -> Pairs | None:
        """The part with these rows, if an earlier call got that far."""
        path = self._part(radius, rows)
        return _read(path) if path.exists() else None

    def save(
        self, radius: float, rows: slice, i: np.ndarray, j: np.ndarray, distance: np.ndarray
    ) -> None:
        """Keep the part with these rows."""
        _write(self._part(radius, rows), i, j, distance)

    def finish(self, radius: float, i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> None:
        """Keep the complete result in place of its parts."""
        _write(self.folder / f"all-{float(radius)!r}.npz", i, j, distance)
        for path in self.folder.glob(f"part-{float(radius)!r}-*.npz"):
            path.unlink()

    def _part(self, radius: float, rows: slice) -> Path:
        return self.folder / f"part-{float(radius)!r}-{rows.start}-{rows.stop}.npz"


def _read(path: Path) -> Pairs:
    with np.load(path, allow_pickle=False) as file:
        return file["i"], file["j"], file["distance"]


def _write(path: Path, i: np.ndarray, j: np.ndarray, distance: np.ndarray) -> None:
    with whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, i=i, j=j, distance=distance)

"""The epoch is chosen on held-out images: the test images are touched once, at the end."""

import time
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from adversarial_lab import data
from adversarial_lab.files import whole
from adversarial_lab.training import Row


def held_out(images: data.Dataset, n: int) -> tuple[data.Dataset, data.Dataset]:
    """The training images without their last n, and these n. ValueError unless 1 <= n < size."""
    size = len(images.x)
    if not 1 <= n < size:
        raise ValueError(f"validation_images must be in 1..{size - 1}, got {n}")
    parts = (slice(0, size - n), slice(size - n, size))
    first, last = (data.Dataset(images.x[p], images.y[p], images.name, images.split) for p in parts)
    return first, last


class Selection:
    """Watches a training: measures each epoch's network and keeps the best in a file.

    Best is the largest value of the column `by`, the earliest if there are several. The file holds
    that value, so a training that resumes goes on comparing with it; it is replaced before the
    checkpoint of its epoch is, and the same epoch trained again gives the same network.
    """

    def __init__(self, measure: Callable[[nn.Module], Row], by: str, file: Path) -> None:
        self.measure, self.by, self.file = measure, by, file
        self.began = time.perf_counter()

    def __call__(self, model: nn.Module) -> Row:
        """What was measured, and the seconds of training since the last call."""
        seconds = time.perf_counter() - self.began
        row = self.measure(model)
        if row[self.by] > self.best():
            self.keep(model, row[self.by])
        self.began = time.perf_counter()
        return {**row, "seconds": round(seconds, 3)}

    def best(self) -> float:
        if not self.file.exists():
            return -1.0
        with safe_open(self.file, framework="pt") as file:
            return float(file.metadata()["best"])

    def keep(self, model: nn.Module, value: float) -> None:
        weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        with whole(self.file) as file:
            save_file(weights, file, metadata={"best": repr(value)})

    def restore(self, model: nn.Module) -> nn.Module:
        """The network with the best weights, in eval mode."""
        model.load_state_dict(load_file(self.file))
        return model.eval()


def chosen(history: list[Row], by: str) -> Row:
    """The row of the epoch that was kept."""
    return max(history, key=lambda row: row[by])  # the first of equals, as above

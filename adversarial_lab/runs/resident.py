"""Training images as bytes on the device: no transfer between an epoch's first and last batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

from adversarial_lab import data
from adversarial_lab.runs.crew import Crew


class Resident:
    """Batches (x, y) like `data.Batches`, from bytes; an incomplete last batch is left out.

    The crew shares out every batch: process r of s gets its rows r, r + s, ... The order is that of
    `rng`, so all processes must seed it alike; once it is drawn, each goes on with noise of its
    own. Raises ValueError unless batch_size is a multiple of s in 1..n.
    """

    def __init__(
        self,
        images: data.Dataset,
        batch_size: int,
        rng: torch.Generator,
        augment: data.Augment | None = None,
        *,
        crew: Crew,
    ) -> None:
        n = len(images.x)
        if not 1 <= batch_size <= n or batch_size % crew.size:
            raise ValueError(
                f"batch_size must be a multiple of {crew.size} in 1..{n}, got {batch_size}"
            )
        self.bytes = (images.x * 255).round().to(torch.uint8).to(crew.device)
        self.y = images.y.to(crew.device)
        self.batch_size, self.rng, self.augment = batch_size, rng, augment
        self.rank, self.size = crew.rank, crew.size

    def __len__(self) -> int:
        return len(self.bytes) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.bytes), generator=self.rng, device=self.rng.device)
        if self.rank:
            self.rng.manual_seed((self.rng.initial_seed() + self.rank * 2654435761) % 2**32)
        for batch in order.to(self.bytes.device).split(self.batch_size)[: len(self)]:
            rows = batch[self.rank :: self.size]
            x = self.bytes[rows].float().div_(255)
            yield (x if self.augment is None else self.augment(x, self.rng)), self.y[rows]

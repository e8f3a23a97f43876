"""Several GPUs: `torchrun --nproc_per_node N -m adversarial_lab.runs ...` trains one network on N.

Each process takes its rows of every batch, attacks them with noise of its own on the bare network,
and shares only the gradient of the outer step. Alone, without accelerate, nothing of this happens.
"""

import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adversarial_lab import nets
from adversarial_lab.needs import or_say
from adversarial_lab.training import Objective


def processes() -> int:
    """How many processes torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Routed(nn.Module):
    """Calls in training mode go through `shared`, which joins gradients; all others to `bare`.

    An attack puts the network in eval mode, so its passes wait for no other process.
    """

    def __init__(self, shared: nn.Module, bare: nn.Module) -> None:
        super().__init__()
        self.shared, self.bare = shared, bare

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(x) if self.training else self.bare(x)


@dataclass(frozen=True)
class Crew:
    """The processes that train one network together; this one is `rank` of `size`."""

    device: torch.device
    rank: int = 0
    size: int = 1
    accelerator: Any = None

    @property
    def first(self) -> bool:
        """Does this process measure, save and print?"""
        return self.rank == 0

    def together(self, objective: Objective, model: nn.Module) -> Objective:
        """The objective with shared gradients; its value is the mean over all processes.

        fit_path keeps the bare model, for the weights' names and for resuming.
        """
        if self.size == 1:
            return objective
        routed = Routed(self.accelerator.prepare_model(model), model)

        def wrapped(bare: nn.Module, x: Tensor, y: Tensor, **settings: Any) -> Tensor:
            loss = objective(routed, x, y, **settings)
            own = loss.detach()
            return loss - own + self.accelerator.reduce(own.clone(), "mean")

        return wrapped

    def own(self, checkpoint: Path) -> Path:
        """Where this process saves its state; it goes on from that of the first."""
        if self.first:
            self.wait()
            return checkpoint
        mine = checkpoint.with_name(f"{checkpoint.name}.{self.rank}")
        mine.unlink(missing_ok=True)
        if checkpoint.exists():
            shutil.copyfile(checkpoint, mine)
        self.wait()  # the first may now write its own
        return mine

    def wait(self) -> None:
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()


def assemble() -> Crew:
    """This process alone, or its place among those of torchrun; ImportError without accelerate."""
    if processes() == 1:
        return Crew(nets.best_device())
    with or_say("several processes need", "gpu"):
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
    handlers = [
        # every process keeps its own BatchNorm statistics, those of the first are saved
        DistributedDataParallelKwargs(broadcast_buffers=False),
        InitProcessGroupKwargs(timeout=timedelta(hours=6)),  # the first evaluates alone
    ]
    accelerator = Accelerator(kwargs_handlers=handlers, cpu=nets.best_device().type == "cpu")
    return Crew(
        accelerator.device, accelerator.process_index, accelerator.num_processes, accelerator
    )

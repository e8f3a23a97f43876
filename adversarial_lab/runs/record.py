"""What a run leaves behind: one JSON record of its config, provenance and numbers."""

import dataclasses
import hashlib
import json
import math
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import adversarial_lab
from adversarial_lab import nets
from adversarial_lab.files import whole

Metric = dict[str, float | int]


@dataclass(frozen=True)
class Job:
    """Where one run saves its files, and since when it runs."""

    name: str
    scale: str
    config: Any  # the run's frozen dataclass
    out: Path
    progress: bool = True
    began: tuple[float, float] = field(default_factory=lambda: (time.time(), time.process_time()))

    @property
    def config_sha256(self) -> str:
        text = json.dumps(dataclasses.asdict(self.config), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def run_id(self) -> str:
        """NAME-xxxxxxxxxx, ten hexadecimal digits of the configuration (seed included)."""
        return f"{self.name}-{self.config_sha256[:10]}"

    def path(self, ending: str) -> Path:
        return self.out / f"{self.run_id}{ending}"

    @property
    def checkpoint(self) -> Path:
        """Where training saves its state after every epoch; gone once the record is written."""
        return self.path(".checkpoint.safetensors")

    def saved(self) -> dict | None:
        """The record of an earlier, finished run of the same configuration."""
        path = self.path(".json")
        return json.loads(path.read_text()) if path.exists() else None

    def save_weights(self, model: nn.Module) -> nn.Module:
        """Save the weights in half precision; return the network as it will be read back."""
        half = {k: _half(v) for k, v in model.state_dict().items()}
        with whole(self.path(".safetensors")) as file:
            save_file(half, file)
        model.load_state_dict({k: v.to(model.state_dict()[k].dtype) for k, v in half.items()})
        return model

    def save(
        self,
        metrics: Mapping[str, Metric | float],
        history: list[dict],
        data: dict,
        **more: Any,
    ) -> dict:
        """Write the record and the per-epoch table, each whole or not at all; return the record.

        more: what else the record holds, under names of its own.
        """
        record = {
            "run_id": self.run_id,
            "run": self.name,
            "scale": self.scale,
            "config": dataclasses.asdict(self.config),
            "config_sha256": self.config_sha256,
            "data": data,
            "metrics": metrics,
            "history": history,
            **more,
            **provenance(*self.began),
        }
        weights = self.path(".safetensors")
        if weights.exists():
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
            record["weights"] = {"file": weights.name, "sha256": digest}
        write_whole(self.path(".csv"), _csv(history))
        write_whole(self.path(".json"), json.dumps(record, indent=1) + "\n")
        self.checkpoint.unlink(missing_ok=True)
        return record


def accuracy(right: int, n: int) -> Metric:
    """right / n with its 95 % Wilson interval [low, high]."""
    z, share = 1.959963984540054, right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return {"value": share, "n": n, "low": min(low, share), "high": max(high, share)}  # rounding


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there complete or not at all."""
    with whole(path) as file:
        file.write_text(text)


def _half(v: Tensor) -> Tensor:
    v = v.detach().cpu().contiguous()
    return v.half() if v.is_floating_point() else v


def _csv(rows: list[dict]) -> str:
    columns = list(rows[0]) if rows else []
    lines = [columns, *([row[c] for c in columns] for row in rows)]
    return "".join(",".join(map(str, line)) + "\n" for line in lines)


def provenance(began: float, cpu_began: float) -> dict:
    """When, on what and with which versions: what the record says of how it was made."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu_began, 1),
        "hardware": _hardware(),
        "versions": _versions(),
        "git": _git(),
    }


def _hardware() -> str:
    if (device := nets.best_device()).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {torch.get_num_threads()} thread(s)"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "adversarial_lab": adversarial_lab.__version__}
    for package in ("torch", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _git() -> dict[str, str | bool]:
    """Commit and whether the library differs from it; empty outside a checkout."""
    here = Path(adversarial_lab.__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"sha": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "."))}
    except (OSError, subprocess.CalledProcessError):
        return {}

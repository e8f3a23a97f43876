"""Where a run's weights are: beside its record, or in the release.

Weights under 6 MB may go to git; larger ones are described by the sha256 in their record.
"""

import hashlib
import json
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from adversarial_lab import address, nets
from adversarial_lab.needs import or_say


def find(path: Path) -> Path:
    """The file of weights, if it is there and is what its record says; else the release's copy.

    The record lies beside the file, with the ending .json. Raises FileNotFoundError, saying what
    to do, and ValueError where the sha256 is not the record's.
    """
    record = path.with_suffix(".json")
    made = json.loads(record.read_text()) if record.exists() else {}
    if path.exists():
        return checked(path, made)
    if not made:
        raise FileNotFoundError(f"there is no {path}")
    if not address.read() or "weights" not in made:
        raise FileNotFoundError(absent(path, made))
    try:
        return fetch(made["weights"]["file"], made["weights"]["sha256"])
    except OSError as error:  # no network, or nobody has put this file into the release
        raise FileNotFoundError(f"{absent(path, made)} ({error})") from error


def checked(path: Path, made: dict) -> Path:
    """The file, if it has the sha256 of its record."""
    expected = made.get("weights", {}).get("sha256")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if expected and digest != expected:
        raise ValueError(
            f"{path} has sha256 {digest[:12]}..., its record says {expected[:12]}...: these are not"
            " the weights that were measured"
        )
    return path


def read_into(model: nn.Module, path: Path) -> nn.Module:
    """The network with the weights of a record, in full precision, in eval mode."""
    kept = load_file(find(path))
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in kept.items()})
    return model.to(nets.best_device()).eval()


def fetch(file: str, sha256: str) -> Path:
    """A file of the release, by pooch, which checks it and keeps it in the cache."""
    with or_say("fetching weights from the release needs"):
        import pooch

    url, cache = address.read().asset(file), pooch.os_cache("adversarial-lab") / "weights"
    return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=file, path=cache))


def absent(path: Path, made: dict) -> str:
    """Why there are no weights, and how to get them."""
    words = [made["run"], *(f"{k}={v}" for k, v in made["config"].items())]
    words += ["--scale", made["scale"], "--again"]
    return (
        f"the record {path.with_suffix('.json')} is there, its weights {path} are not, and there is"
        " no release that holds them: copy them, or make them again by"
        f" `python -m adversarial_lab.runs {' '.join(words)}`"
    )

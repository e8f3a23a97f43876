"""Arrays and numbers as JSON, both ways. What comes back from a student is data, never code."""

import base64
import sys
from typing import Any

import numpy as np

KINDS = "fiub"  # floats, integers, bools: nothing that could carry an object
LARGEST = 100_000  # entries in one array
MOST = 32  # values in one answer

Encoded = dict[str, Any]
Values = dict[str, np.ndarray]


def encode(value: object) -> Encoded:
    """A number, list, array or tensor as its own bytes, whatever its class pretends to be."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value, order="C")  # ascontiguousarray would turn a number into a vector
    if array.dtype.kind not in KINDS or array.size > LARGEST:
        found = f"{type(value).__name__} of {array.dtype}, shape {array.shape}"
        raise TypeError(f"an answer must be numbers, at most {LARGEST} of them, got {found}")
    data = base64.b64encode(array.tobytes()).decode()
    return {"dtype": array.dtype.str, "shape": list(array.shape), "data": data}


def encode_all(values: dict[str, Any]) -> dict[str, Encoded]:
    """Every value of a probe under its name."""
    return {str(name): encode(value) for name, value in values.items()}


def decode(value: Any) -> np.ndarray:
    """The array that `encode` wrote. Raises ValueError on anything else: the input is untrusted."""
    try:
        dtype, shape = np.dtype(str(value["dtype"])), [int(side) for side in value["shape"]]
        if dtype.kind not in KINDS or len(shape) > 16 or any(side < 0 for side in shape):
            raise ValueError(f"{dtype} {shape}")
        data = base64.b64decode(value["data"], validate=True)
        if len(data) > LARGEST * 16:
            raise ValueError(f"{len(data)} bytes")
        return np.frombuffer(data, dtype).reshape(shape)
    except Exception as error:
        raise ValueError(f"not an encoded array: {type(error).__name__}") from error


def decode_all(values: Any) -> Values:
    """Every array of an answer. Raises ValueError where there is anything else."""
    if not isinstance(values, dict) or len(values) > MOST:
        raise ValueError("not a table of encoded arrays")
    return {str(name)[:80]: decode(value) for name, value in values.items()}

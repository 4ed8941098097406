"""One file per detector: a safetensors file that holds config, features, normalisation and network.

Nothing here imports torch, and nothing is ever unpickled. The tensors are float32 and carry the names
of ``SEDNet(config).state_dict()`` (without ``num_batches_tracked``) plus ``features.window`` and
``features.mel``; with calibrated steps for 8-bit arithmetic also those, by the names of ``quantized.py``. The header's
metadata carries the config as JSON, and free text such as model card facts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from ..config import Config
from ..files import is_hidden, write_beside
from .quantized import PREFIX, quantized_shapes
from .shapes import Shapes, expected_shapes

FORMAT = "mtfa-fast"
FORMAT_VERSION = "1"
SUFFIX = ".safetensors"
_RESERVED = ("format", "format_version", "config")
_SHIPPED = Path(__file__).parent
_NON_NEGATIVE = "running_var"


@dataclass(frozen=True, eq=False)
class Weights:
    """A detector's config and tensors, complete and checked: construction raises ValueError otherwise.

    ``tensors``: float32 arrays with exactly the names and shapes of :func:`expected_shapes`, finite, with
    ``std`` > 0 and every ``running_var`` >= 0. ``metadata``: extra facts, text to text. ``steps``: what int8 needs,
    float32 > 0 with exactly the names and shapes of :func:`quantized_shapes`, or empty.
    """

    config: Config
    tensors: dict[str, np.ndarray] = field(repr=False)
    metadata: dict[str, str] = field(default_factory=dict)
    steps: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        arrays = {name: np.asarray(value) for name, value in self.tensors.items()}
        steps = {name: np.asarray(value) for name, value in self.steps.items()}
        for found, expected in ((arrays, expected_shapes(self.config)), (steps, _expected_steps(steps, self.config))):
            _check_shapes({name: (str(a.dtype), a.shape) for name, a in found.items()}, expected, "float32")
            for name, array in found.items():
                _check_values(name, array)
        for key, value in self.metadata.items():
            if not isinstance(key, str) or not isinstance(value, str) or key in _RESERVED:
                raise ValueError(f"metadata: got {key!r}: {value!r}, allowed: text to text, not {', '.join(_RESERVED)}")
        # The writer and the C++ core read plain memory, so order is settled here, once.
        object.__setattr__(self, "tensors", {name: np.ascontiguousarray(a) for name, a in arrays.items()})
        object.__setattr__(self, "steps", {name: np.ascontiguousarray(a) for name, a in steps.items()})

    @classmethod
    def load(cls, source: str | os.PathLike[str]) -> Weights:
        """Read a weight file, the one weight file of a folder, or shipped weights by name ("rare-events").

        A shipped name wins over a path of the same spelling; write ``./rare-events`` for the path.
        Raises FileNotFoundError, or ValueError naming the file and what is wrong in it. Shapes and
        types are checked from the header before any tensor is read.
        """
        path = find(source)
        try:
            return cls._read(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path}: not a readable safetensors file: {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def _read(cls, path: Path) -> Weights:
        # safe_open maps the file and checks that header, offsets and file length agree.
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            config = _config(metadata)
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            steps = {name for name in slices if name.startswith(PREFIX)}
            expected = expected_shapes(config) | _expected_steps(steps, config)
            _check_shapes({name: (s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}, expected, "F32")
            found = {name: file.get_tensor(name) for name in slices}
        tensors = {name: tensor for name, tensor in found.items() if name not in steps}
        facts = {k: v for k, v in metadata.items() if k not in _RESERVED}
        return cls(config, tensors, facts, {name: found[name] for name in steps})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file, complete or not at all (beside, then rename). Equal weights give equal bytes."""
        path = Path(path)
        if path.suffix != SUFFIX:
            raise ValueError(f"path: got {str(path)!r}, allowed: a name that ends in {SUFFIX}")
        header = {"format": FORMAT, "format_version": FORMAT_VERSION, "config": json.dumps(self.config.to_dict())}
        with write_beside(path, "wb") as file:
            file.write(_settled(safetensors.numpy.save(self.tensors | self.steps, metadata=header | self.metadata)))


def shipped() -> tuple[str, ...]:
    """Names of the weights that come with the package."""
    return tuple(sorted(p.stem for p in _SHIPPED.glob(f"*{SUFFIX}")))


def find(source: str | os.PathLike[str]) -> Path:
    """The file that :meth:`Weights.load` reads for ``source``. Raises FileNotFoundError or ValueError."""
    name = os.fspath(source)
    if name in shipped():
        return _SHIPPED / f"{name}{SUFFIX}"
    path = Path(name)
    if path.is_dir():
        files = sorted(p for p in path.glob(f"*{SUFFIX}") if not is_hidden(p.relative_to(path)))
        if len(files) != 1:
            found = ", ".join(f.name for f in files) or "none"
            raise ValueError(f"{path}: got {len(files)} weight files ({found}), allowed: a folder with one {SUFFIX}")
        return files[0]
    if not path.is_file():
        names = ", ".join(shipped()) or "none"
        raise FileNotFoundError(f"weights: no file, folder or shipped weights called {name!r} (shipped: {names})")
    return path


def _settled(data: bytes) -> bytes:
    """The same safetensors file, its header's fields in order of their names: the library's order is by chance."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    text = header.encode()
    text += b" " * (-len(text) % 8)  # the format keeps the tensors aligned
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _config(metadata: Mapping[str, str]) -> Config:
    given = metadata.get("format"), metadata.get("format_version")
    if given != (FORMAT, FORMAT_VERSION):
        raise ValueError(
            f"format: got {given[0]!r} version {given[1]!r}, allowed: {FORMAT!r} version {FORMAT_VERSION!r}"
        )
    try:
        return Config.from_dict(json.loads(metadata.get("config", "")))
    except json.JSONDecodeError as error:
        raise ValueError(f"config: not JSON: {error}") from None


def _expected_steps(given: Collection[str], config: Config) -> Shapes:
    return quantized_shapes(config) if given else {}


def _check_shapes(given: Mapping[str, tuple[str, tuple[int, ...]]], expected: Shapes, dtype: str) -> None:
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or extra:
        parts = [f"{what} {_some(names)}" for what, names in (("missing", missing), ("unknown", extra)) if names]
        raise ValueError(f"tensors: {'; '.join(parts)}")
    for name, (kind, shape) in given.items():
        if kind != dtype or shape != expected[name]:
            raise ValueError(f"tensor {name}: got {kind} {shape}, allowed: {dtype} {expected[name]}")


def _check_values(name: str, array: np.ndarray) -> None:
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ValueError(f"tensor {name}: got {bad} values that are NaN or infinite, allowed: finite numbers")
    if (name == "std" or name.startswith(PREFIX)) and array.min() <= 0:
        raise ValueError(f"tensor {name}: got a value of {array.min()}, allowed: > 0")
    if name.endswith(_NON_NEGATIVE) and array.min() < 0:
        raise ValueError(f"tensor {name}: got a value of {array.min()}, allowed: >= 0")


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""What reads bytes that somebody else wrote, each as a function of bytes: any answer is right but another exception.

The C++ core reads none: it is given arrays whose sizes Python has checked, so that there is no libFuzzer entry.
"""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from mtfa_fast.audio import files as audio
from mtfa_fast.audio.errors import AudioWarning
from mtfa_fast.data.annotations import read_annotations, write_annotations
from mtfa_fast.data.recipes import read_recipes
from mtfa_fast.weights import Weights
from tests.audio.odd import CASES, MP3, PLAIN, RATE
from tests.face import make_weights

_MOST = 50  # blocks of a recording: a small file may state hours


def read_audio(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        blocks = audio.blocks(io.BytesIO(data), RATE, block_seconds=0.5)
        for _, block in zip(range(_MOST), blocks, strict=False):
            assert block.dtype == np.float32 and len(block) and np.isfinite(block).all()
        blocks.close()


def read_weights(data: bytes) -> None:
    with _file(data, ".safetensors") as path:
        Weights.load(path)


def read_event_list(data: bytes) -> None:
    with _file(data, ".txt") as path:
        found = read_annotations(path)
    assert all(0 <= event[1] <= event[2] for events in found.values() for event in events)


def read_recipe_list(data: bytes) -> None:
    with _file(data, ".yaml") as path:
        read_recipes(Path(path))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "audio": read_audio,
    "weights": read_weights,
    "annotations": read_event_list,
    "recipes": read_recipe_list,
}


def accepted(target: str, data: bytes) -> bool:
    """Whether the bytes were read; False where they were refused by name. Raises what must not happen."""
    try:
        TARGETS[target](data)
    except ValueError as error:
        assert str(error), "an error without words"
        return False
    return True


def seeds(target: str) -> Iterator[bytes]:
    """A small corpus, made here."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed"
        if target == "audio":
            yield from (case.make()[:20_000] for case in CASES)
            yield from (content[:20_000] for content in PLAIN.values())
            yield MP3 + MP3
        elif target == "weights":
            make_weights().save(path.with_suffix(".safetensors"))
            yield path.with_suffix(".safetensors").read_bytes()
        elif target == "annotations":
            write_annotations(path, {"a.wav": [], "b.wav": []})
            yield path.read_bytes()
            yield b"a.wav\t1.0\t2.5\tgunshot\nb.wav\n"
            yield b"file,onset,offset,label,score\na.wav,1,2,babycry,0.5\n"
            yield b"1.0\t2.0\tbabycry\n\\\t100\t2000\n"
            yield b'[{"file": "a.wav", "duration": 3, "events": [{"onset": 1, "offset": 2, "label": "x"}]}]'
        else:
            recipe = {
                "annotation_string": "a.wav\t1.0\t2.0\tgunshot",
                "bg_path": "audio/b.wav",
                "bg_classname": "park",
                "classname": "gunshot",
                "ebr": 6.0,
                "event_present": True,
                "event_start_in_mixture_seconds": 1.0,
                "event_path": "e.wav",
                "event_class": "gunshot",
                "event_length_seconds": 1.0,
                "segment": [0.0, 1.0],
                "mixture_audio_filename": "m.wav",
                "rng_seed": 1,
            }
            yield yaml.safe_dump([recipe]).encode()
            yield yaml.safe_dump([{**recipe, "event_present": False}]).encode()


@contextmanager
def _file(data: bytes, suffix: str) -> Iterator[str]:
    handle, path = tempfile.mkstemp(suffix=suffix)
    try:
        with open(handle, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)

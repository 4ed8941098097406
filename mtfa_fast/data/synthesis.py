"""Mixtures of DCASE 2017 Task 2: isolated events laid over backgrounds after the official recipe, to the byte.

What goes into each is drawn by :mod:`.recipes`, changed by :mod:`.scenes` if wanted, mixed by :mod:`.mixing`, and
written here into
``mixture_data/<subset>/<hash>/{audio,meta}``, the official layout.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..arguments import chosen, require_int
from ..files import is_hidden, write_beside
from .annotations import Annotation, write_annotations
from .distractors import Distractors
from .mixing import mix
from .opening import require_recordings
from .recipes import (
    MIXTURE_SECONDS,
    Draw,
    MixtureParameters,
    Recipe,
    draw,
    event_list_path,
    read_recipes,
    recipe_hash,
    recipes_path,
)
from .scenes import HardScenes
from .sources import BackgroundSource, EventSource, SourceAudio, SourceSet

SAMPLE_RATE = 44_100
MIXTURE_SAMPLES = int(MIXTURE_SECONDS * SAMPLE_RATE)
MISSING_SAMPLES = SAMPLE_RATE // 100  # that a background may lack, as silence: coders of 30 s drop a few
MAX_JOBS = 1024  # threads
SEGMENT_TOLERANCE = 0.1  # seconds that a segment may reach beyond its file: the step of the official annotation

Outcome = Literal["written", "kept", "screened"]
Progress = Callable[[int, int], None]  # mixtures done, of how many


@dataclass
class Synthesis:
    """What :func:`synthesize` did. ``normalised``: mixtures that were divided by their peak, because it reached 1.

    ``screened``: drawn, but left out because bg_screening.csv says that the background itself holds the class;
    of such mixtures there is the recipe alone, as in the official sets since their patch of June 2017.
    """

    folder: Path
    written: int = 0
    kept: int = 0  # were there from an interrupted or earlier run
    screened: int = 0
    normalised: list[str] = field(default_factory=list)


def mixture(
    what: Draw, audio: SourceAudio, subset: str, scenes: HardScenes | None = None
) -> tuple[NDArray[np.float32], Recipe, float]:
    """Mix one drawn mixture -> (wave (MIXTURE_SAMPLES,), recipe, peak before the division that keeps it below 1).

    The recipe's fields and the file name in it are the official ones; ``scenes`` adds ``changes``. ValueError naming
    the source for a background that is too short or silent where the event lies, and an event that is silent or cut
    off.
    """
    background = audio.background(what.background)
    if len(background) < MIXTURE_SAMPLES - MISSING_SAMPLES:
        raise ValueError(_too_short(what.background, len(background) / SAMPLE_RATE))
    background = np.pad(background, (0, max(0, MIXTURE_SAMPLES - len(background))))[:MIXTURE_SAMPLES]
    recipe: Recipe = {
        "bg_path": what.background.name,
        "bg_classname": what.background.scene,
        "event_present": what.event is not None,
        "ebr": what.ebr,
    }
    event, seconds = (None, 0.0) if what.event is None else (_event(what.event, audio), what.event.seconds)
    if scenes:
        length = 1 if event is None else len(event)
        background, event, recipe["changes"] = scenes.change(what, background, event)
        seconds *= 1 if event is None else len(event) / length
    if what.event is None or event is None:
        wave, _, peak = mix(background)
    else:
        onset = min(int(what.onset * SAMPLE_RATE), MIXTURE_SAMPLES - len(event))  # truncation may leave a sample over
        try:
            wave, gain, peak = mix(background, event, onset, what.ebr)
        except ValueError as error:
            raise ValueError(f"{what.event.path}: {error}") from None
        if gain == 0:
            raise ValueError(
                f"{what.background.path}: silent from {what.onset:.3f} s on, where the event lies; "
                "allowed: a background with a level"
            )
        recipe |= {
            "event_path": what.event.name,
            "event_class": what.event.label,
            "event_start_in_mixture_seconds": what.onset,
            "event_length_seconds": seconds,
            "scaling_factor": gain,
            "segment_start_seconds": what.event.start,
            "segment_end_seconds": what.event.end,
        }
    name = f"mixture_{subset}_{what.label}_{what.number:03d}_{recipe_hash(recipe)}.wav"
    line = [name]
    if what.event is not None:
        line += [str(what.onset), str(what.onset + seconds), what.label]
    return wave, recipe | {"mixture_audio_filename": name, "annotation_string": "\t".join(line)}, peak


def _event(source: EventSource, audio: SourceAudio) -> NDArray[np.float32]:
    event = audio.event(source)
    if len(event) < (source.seconds - SEGMENT_TOLERANCE) * SAMPLE_RATE:
        raise ValueError(f"{source.path}: segment {source.start:g} to {source.end:g} s reaches beyond the file's end")
    return event


def synthesize(
    sources: SourceSet,
    output: str | os.PathLike[str],
    parameters: MixtureParameters | None = None,
    *,
    classes: Iterable[str] | None = None,
    replicate_quirk: bool = False,
    jobs: int = 1,
    overwrite: bool = False,
    distractors: Distractors | None = None,
    progress: Progress | None = None,
) -> Synthesis:
    """Write the mixtures of ``classes`` (default: all of ``sources``) below ``output``, 24-bit WAV.

    The same sources and parameters give the same bytes, whatever ``classes`` and ``jobs`` (threads) are; hard
    scenes, which may hold ``distractors``, with the same versions of NumPy and soxr.
    A run that was interrupted goes on where it stopped; a class's event list appears when the class is
    complete. Raises ValueError for wrong arguments and unusable sources, and where the folder holds other
    mixtures of the same parameters (from other sources, say), unless ``overwrite``.
    """
    parameters = parameters or MixtureParameters()
    wanted = chosen("classes", classes, sources.classes)
    require_int("jobs", jobs, 1, MAX_JOBS)
    if distractors and not parameters.hard:
        raise ValueError("distractors: got some, allowed: none without hard scenes")
    drawn = {
        label: m for label, m in draw(sources, parameters, replicate_quirk=replicate_quirk).items() if label in wanted
    }
    _require_long_backgrounds(d for mixtures in drawn.values() for d in mixtures)
    needed = [d.event.path for mixtures in drawn.values() for d in mixtures if d.event]
    require_recordings(needed + [path for kind in (distractors.kinds if distractors else ()) for path in kind])
    done = Synthesis(Path(output) / "mixture_data" / sources.split / parameters.hash)
    if not overwrite:
        _require_ours(done.folder, parameters)
        for label, mixtures in drawn.items():
            _require_same(recipes_path(done.folder, sources.split, label), mixtures)
    for part in ("audio", "meta"):
        (done.folder / part).mkdir(parents=True, exist_ok=True)
    with write_beside(done.folder / "parameters.yaml") as file:
        file.write(parameters.text)
    audio, total = SourceAudio(SAMPLE_RATE), sum(map(len, drawn.values()))
    scenes = HardScenes(sources, audio, parameters.seed, distractors) if parameters.hard else None
    make = partial(_make, audio=audio, done=done, subset=sources.split, scenes=scenes)
    for label, mixtures in drawn.items():
        recipes = []
        with closing(_in_threads(make, mixtures, jobs)) as made:
            for recipe, outcome, peak in made:
                recipes.append(recipe)
                done.written += outcome == "written"
                done.kept += outcome == "kept"
                done.screened += outcome == "screened"
                if peak >= 1:
                    done.normalised.append(recipe["mixture_audio_filename"])
                if progress:
                    progress(done.written + done.kept + done.screened, total)
        screened = {d.number for d in mixtures if _is_screened(d)}
        listed = [recipe for number, recipe in enumerate(recipes) if number not in screened]
        _write_meta(done.folder, sources.split, label, recipes, listed)
    return done


def _make(
    what: Draw, *, audio: SourceAudio, done: Synthesis, subset: str, scenes: HardScenes | None
) -> tuple[Recipe, Outcome, float]:
    """Mix one mixture and write it unless it is there or must not be -> (recipe, outcome, peak)."""
    import soundfile

    wave, recipe, peak = mixture(what, audio, subset, scenes)
    path = done.folder / "audio" / recipe["mixture_audio_filename"]
    if _is_screened(what):
        return recipe, "screened", 0.0
    if path.exists():  # complete, because it was renamed into place; its name tells its content
        return recipe, "kept", peak
    data = io.BytesIO()
    soundfile.write(data, wave, SAMPLE_RATE, subtype="PCM_24", format="WAV")
    with write_beside(path, "wb") as file:
        file.write(data.getbuffer())
    return recipe, "written", peak


def _is_screened(what: Draw) -> bool:
    return what.label in what.background.marks


def _in_threads(work: Callable[[Draw], Any], items: list[Draw], jobs: int) -> Generator[Any, None, None]:
    """Results in order; a failure or interrupt drops what has not begun."""
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="mtfa-synthesize")
    try:
        futures: list[Future[Any]] = [pool.submit(work, item) for item in items]
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _write_meta(folder: Path, subset: str, label: str, recipes: list[Recipe], listed: list[Recipe]) -> None:
    """Recipes of all that was drawn, the event list of those that are used."""
    import yaml

    path = recipes_path(folder, subset, label)
    before = {r["mixture_audio_filename"] for r in read_recipes(path)} if path.is_file() else set()
    lists = {
        r["mixture_audio_filename"]: [
            Annotation(
                label,
                r["event_start_in_mixture_seconds"],
                r["event_start_in_mixture_seconds"] + r["event_length_seconds"],
            )
        ]
        if r["event_present"]
        else []
        for r in listed
    }
    with write_beside(path) as file:
        yaml.dump(recipes, file, Dumper=yaml.SafeDumper, default_flow_style=False)
    write_annotations(event_list_path(folder, subset, label), lists)
    for name in before - set(lists):  # overwritten by other mixtures
        (folder / "audio" / Path(name).name).unlink(missing_ok=True)


def _require_ours(folder: Path, parameters: MixtureParameters) -> None:
    """The parameters are written before anything else, so a folder without them is somebody's own."""
    file = folder / "parameters.yaml"
    if file.is_file() and file.read_text("utf-8", errors="replace") == parameters.text:
        return
    there = sorted(p for p in folder.rglob("*") if p.is_file() and not is_hidden(p.relative_to(folder)))
    if there:
        raise ValueError(
            f"{there[0]} ({len(there)} such files): in a folder without the parameters.yaml of such mixtures; "
            "allowed: another output folder, or to overwrite them"
        )


def _require_same(path: Path, mixtures: list[Draw]) -> None:
    if not path.is_file():
        return
    fields = ("bg_path", "event_path", "segment_start_seconds", "event_start_in_mixture_seconds", "ebr")
    there = [tuple(recipe.get(f) for f in fields) for recipe in read_recipes(path)]
    planned = [
        (d.background.name, d.event.name, d.event.start, d.onset, d.ebr)
        if d.event
        else (d.background.name, None, None, None, d.ebr)
        for d in mixtures
    ]
    if there != planned:
        raise ValueError(
            f"{path}: lists other mixtures of the same parameters, from other sources or by another rule; "
            "allowed: another output folder, or to overwrite them"
        )


def _require_long_backgrounds(mixtures: Iterable[Draw]) -> None:
    """Before anything is written: a short background in the middle of a long run would be found late."""
    import soundfile

    for background in {d.background.path: d.background for d in mixtures}.values():
        try:
            info = soundfile.info(background.path)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{background.path}: cannot be read as audio ({error})") from None
        if round(info.frames / info.samplerate * SAMPLE_RATE) < MIXTURE_SAMPLES - MISSING_SAMPLES:
            raise ValueError(_too_short(background, info.frames / info.samplerate))


def _too_short(background: BackgroundSource, seconds: float) -> str:
    return f"{background.path}: background of {seconds:.3f} s, allowed: at least {MIXTURE_SECONDS:g} s"

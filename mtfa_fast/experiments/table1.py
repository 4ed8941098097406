"""The paper's table 1: MTFA and its two ablations, trained alike and scored on the same mixtures.

Every part that is finished stays: mixtures, checkpoints, weights, scores. The same call goes on where the last one
stopped, whatever stopped it, and on the CPU in float32 ends with the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..data.layout import Mixture
from ..data.recorded import chunk_starts
from ..data.sources import SourceSet
from ..detector import Detector
from ..files import file_digest
from ..scoring.evaluation import evaluate
from ..training import TrainConfig
from ..versions import versions
from ..weights import Weights
from .config import Network, Table1Config
from .folder import ExperimentFolder
from .recordings import evaluation_mixtures, facts, mix_test, mix_training, read_sources, shared_files
from .report import PACKAGES, Scores, markdown, table

Report = Callable[[dict[str, Any]], None]


def table1(config: Table1Config, report: Report | None = None, *, overwrite: bool = False) -> Path:
    """Run the experiment to its end; the path of the Markdown table, with the JSON of the same name beside it.

    ``report`` is called with {"stage": text, "network", "number", "total"} when something begins, with {"done",
    "of"} while mixtures are made or scored, and with what :func:`mtfa_fast.training.train` reports. The tables are
    written after every network, too. ``overwrite``: in a folder that holds other files, too. ValueError for sources
    that cannot be used, for a folder with something else or with another experiment in it; OSError where the disk
    fails.
    """
    tell = report or (lambda _: None)
    tell({"stage": "looking at every recording"})
    train, test = read_sources(config)
    data: dict[str, Any] = {"train": facts(train), "test": facts(test)}
    data["in_both_splits"] = len(shared_files(train, test))
    sets: dict[str, Sequence[Mixture]] = {"test": ()}
    if config.evaluation:
        sets["evaluation"], digest = evaluation_mixtures(config)
        data["evaluation"] = {"sha256": digest, "mixtures": len(sets["evaluation"])}
    folder = ExperimentFolder(Path(config.output))
    with folder.locked(overwrite=overwrite):
        folder.begin(config.identity(), data)
        networks = config.networks()
        scores: dict[str, Scores] = {name: {} for name in sets}
        for name, network in ((name, n) for name in sets for n in networks):
            if (kept := folder.scores(network, name)) is not None:
                scores[name][network] = kept
        if any(n not in scores["test"] for n in networks):
            from ..training import train as run  # torch: a finished experiment does without, another says so first

            tell({"stage": "test set"})
            sets["test"] = mix_test(config, _counted(tell))
        for number, network in enumerate(networks, 1):
            missing = [name for name in sets if network not in scores[name]]
            told = {"network": network.name, "number": number, "total": len(networks)}
            if "test" in missing:  # without scores the training may not have ended
                chosen = _training(config, network, train, tell)
                tell({"stage": "training", **told})
                run(chosen, tell)
            for name in missing:
                tell({"stage": f"scoring on {name}", **told})
                found = _score(config, folder.run(network), network, name, sets[name], tell)
                folder.keep(network, name, found)
                scores[name][network] = found
            if missing:
                _write(config, folder, data, scores)
        return _write(config, folder, data, scores)


def _training(config: Table1Config, network: Network, train: SourceSet, tell: Report) -> TrainConfig:
    """The run of a network, its mixtures made where they are not there yet."""
    if not config.mixtures:
        return config.training(network, config.sources, "", config.steps_per_epoch, config.validation_chunks or 256)
    tell({"stage": "training set"})
    learned, validated = mix_training(config, train, _counted(tell))
    count = partial(_chunk_count, config, network)
    return config.training(
        network,
        f"{config.output}/train",
        f"{config.output}/validation",
        config.steps_per_epoch or max(1, count(learned) // config.batch_size),
        config.validation_chunks or count(validated),
    )


def _chunk_count(config: Table1Config, network: Network, mixtures: Sequence[Mixture]) -> int:
    """Of a network's mixtures, all of which are 30 s long."""
    each = len(chunk_starts(config.mixture_frames, config.chunk_frames, config.chunk_shift))
    return each * sum(m.label in network.classes for m in mixtures)


def _score(
    config: Table1Config, run: Path, network: Network, name: str, mixtures: Sequence[Mixture], tell: Report
) -> dict[str, Any]:
    """What the C++ engine finds with the run's best weights; in float32, so that any CPU finds the same."""
    best = run / "best.safetensors"
    detector = Detector(Weights.load(best), precision="fp32", threads=config.threads or None)
    history = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    last = history[-1]
    known = {
        "set": name,
        "weights_sha256": file_digest(best),
        "training": {
            "epochs": last["epoch"],
            "steps": last["step"],
            "best_epoch": last["best_epoch"],
            "validation_loss": history[last["best_epoch"] - 1]["validation_loss"],
            "seconds": round(sum(row["seconds"] for row in history), 1),
        },
        "engine": detector.explain(),
        "packages": versions(*PACKAGES),
    }
    own = [m for m in mixtures if m.label in network.classes]
    return evaluate(detector, own, progress=_counted(tell), facts=known)[0].to_dict()


def _write(config: Table1Config, folder: ExperimentFolder, data: dict[str, Any], scores: dict[str, Scores]) -> Path:
    result = table(config, data, scores)
    folder.write_table(result, markdown(result))
    return folder.path / "table1.md"


def _counted(tell: Report) -> Callable[[int, int], None]:
    return lambda done, of: tell({"done": done, "of": of})

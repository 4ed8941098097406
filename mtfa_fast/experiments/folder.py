"""The folder of an experiment: its settings, its networks' scores; every file written whole or not at all."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import file_digest, write_beside, write_json
from .config import Network

FORMAT = "mtfa-fast experiment table1, 1"


@dataclass(frozen=True)
class ExperimentFolder:
    """experiment.json, networks/<name>/{the files of a training run, test.json, evaluation.json}, table1.{json,md}."""

    path: Path

    @contextmanager
    def locked(self, *, overwrite: bool = False) -> Iterator[None]:
        """Alone in the folder, which is made where there is none. ValueError while another process works in it.

        ``overwrite``: though it holds files of no experiment.
        """
        if not overwrite:
            self._refuse_foreign()
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{self.path}: another process works on this experiment") from None
            yield  # the kernel gives the lock back, however this process ends

    def begin(self, settings: dict[str, Any], data: dict[str, Any]) -> None:
        """Note what the experiment is, or check that it is still the same. ValueError naming what differs."""
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they are on disk
        file = self.path / "experiment.json"
        if file.exists():
            before = self._read(file, "an experiment")
            if before.get("format") != FORMAT:
                raise ValueError(f"{file}: not an experiment of this version; allowed: {FORMAT!r}")
            for kind, given in (("settings", settings), ("data", data)):
                known = before[kind]
                changed = [name for name in given if name in known and known[name] != given[name]]
                if changed:
                    what = "; ".join(f"{n}: got {given[n]!r}, the experiment has {known[n]!r}" for n in changed)
                    raise ValueError(
                        f"{self.path}: holds an experiment with other {kind} ({what}); name another folder"
                    )
            data = before["data"] | data
        write_json(file, {"format": FORMAT, "settings": settings, "data": data})

    def run(self, network: Network) -> Path:
        return self.path / "networks" / network.name

    def scores(self, network: Network, name: str) -> dict[str, Any] | None:
        """What :meth:`keep` wrote under this name. ValueError for damaged scores, and for scores of other weights."""
        file = self.run(network) / f"{name}.json"
        if not file.exists():
            return None
        scores = self._read(file, "scores")
        if not set(network.classes) <= set(scores.get("classes", ())):
            raise ValueError(f"{file}: no scores of {', '.join(network.classes)}; without the file they are made again")
        if scores.get("weights_sha256") != file_digest(self.run(network) / "best.safetensors"):
            raise ValueError(f"{file}: scores of other weights than best.safetensors beside it")
        return scores

    def keep(self, network: Network, name: str, scores: dict[str, Any]) -> None:
        write_json(self.run(network) / f"{name}.json", scores)

    def write_table(self, table: dict[str, Any], markdown: str) -> None:
        write_json(self.path / "table1.json", table)
        with write_beside(self.path / "table1.md") as file:
            file.write(markdown)

    def _refuse_foreign(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path}: allowed: a folder, new or of an experiment")
        if self.path.is_dir() and not (self.path / "experiment.json").exists():
            others = sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith("."))
            if others:
                raise ValueError(
                    f"{self.path}: holds {others[0]} ({len(others)} such) and no experiment.json, so it is no "
                    "experiment's folder; allowed: a new folder, or to overwrite what it holds"
                )

    @staticmethod
    def _read(file: Path, what: str) -> dict[str, Any]:
        try:
            read = json.loads(file.read_text("utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{file}: cannot be read as {what} ({error})") from None
        if not isinstance(read, dict):
            raise ValueError(f"{file}: cannot be read as {what} (it holds no mapping)")
        return read

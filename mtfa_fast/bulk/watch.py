"""Finds the recordings that kill whoever reads them: a fault in a decoder, more memory than there is.

Nobody can catch that, and a cluster would start the same partition for ever. So a worker notes that it begins a
partition. Who finds such a note is careful: he notes each recording before he reads it, one at a time. A recording at
which the careful died :data:`MOST_DEATHS` times is passed over, with that as its error.
"""

from __future__ import annotations

import json
from collections import Counter

from .archive import WORK, Archive, begun

MOST_DEATHS = 2  # of careful workers; with the first, who was not, three


class Watch:
    """The note of one partition; ``careful``: an earlier worker did not come to its end."""

    def __init__(self, archive: Archive, partition: int) -> None:
        self._folder, self._name = archive.folder, begun(partition)
        content = self._folder.read(WORK, self._name)
        self.careful = content is not None
        note = json.loads(content) if content else {}
        self._deaths = Counter[str](note.get("deaths", {}))
        if at := note.get("at"):
            self._deaths[at] += 1
        self._note(None)

    def begin(self, file: str) -> str | None:
        """Before a careful worker reads ``file``; the reason where it had better not."""
        if self._deaths[file] >= MOST_DEATHS:
            return f"the workers that read it died, {self._deaths[file] + 1} of them; their node's log says of what"
        self._note(file)
        return None

    def close(self) -> None:
        """The partition is finished."""
        self._folder.remove(WORK, self._name)

    def _note(self, at: str | None) -> None:
        self._folder.write(json.dumps({"deaths": self._deaths, "at": at}).encode(), WORK, self._name)

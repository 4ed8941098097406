"""Writing files so that an interrupted run leaves the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def write_beside(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a new file in ``path``'s folder for writing; rename it to ``path`` when the block succeeds.

    ``mode``: ``"w"`` (UTF-8, newlines as written) or ``"wb"``. If the block raises, the new file is
    removed and ``path`` is as it was. A device such as ``/dev/stdout`` is written directly.
    Raises OSError where the folder cannot be written.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode: got {mode!r}, allowed: 'w', 'wb'")
    # A file name that is not UTF-8 must not end a run when it is written into a table.
    text: dict[str, Any] = {} if mode == "wb" else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, mode, **text) as file:
            yield file
        return
    target = Path(os.path.realpath(path))  # a link keeps pointing at what it pointed at
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    # Not tempfile: its files are readable by the owner only, and the umask cannot be read without a race.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)  # a full disk says which file it did not take
        raise
    os.replace(temporary, target)


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """Write JSON values, indented, complete or not at all. Raises as :func:`write_beside`."""
    with write_beside(path) as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")

"""Folders on any file system: local, those of pyarrow (``s3://``, ``gs://``, ``hdfs://``), those of fsspec's packages.

pyarrow's ``FileSystem`` is the one interface; its objects can be pickled, so that workers on other machines get them.
"""

from __future__ import annotations

import io
import os
import secrets
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from ..files import TEMPORARY, write_beside

READ_AHEAD = 4 << 20  # bytes asked for at once of a file that is not local: a request may take 50 ms


@dataclass(frozen=True)
class Folder:
    """A folder (or a file) on a file system, which need not exist."""

    system: Any  # pyarrow.fs.FileSystem
    path: str  # on that file system, without a slash at its end
    prefix: str = ""  # that and a path are a name which can be opened elsewhere: "s3://"

    @property
    def name(self) -> str:
        return self.prefix + self.path

    @property
    def local(self) -> bool:
        import pyarrow.fs as pafs

        return isinstance(self.system, pafs.LocalFileSystem)

    def at(self, *parts: str) -> str:
        """The path of something below it."""
        return "/".join([self.path, *parts])

    def kind(self) -> str:
        """``"file"``, ``"folder"`` or ``""`` where nothing is. OSError where that cannot be asked."""
        import pyarrow.fs as pafs

        found = self.system.get_file_info(self.path).type
        return {pafs.FileType.File: "file", pafs.FileType.Directory: "folder"}.get(found, "")

    def names(self, *parts: str) -> list[str]:
        """Of the files in a folder below it, in order; none where there is no such folder."""
        import pyarrow.fs as pafs

        infos = self.system.get_file_info(pafs.FileSelector(self.at(*parts), allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == pafs.FileType.File)

    def read(self, *parts: str) -> bytes | None:
        """A file's content, None where there is none."""
        try:
            with self.system.open_input_stream(self.at(*parts)) as file:
                return cast(bytes, file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, content: bytes, *parts: str) -> None:
        """A file below it, whole or not at all, whatever stood there."""
        target = self.at(*parts)
        if self.local:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with write_beside(target, "wb") as local:
                local.write(content)
            return
        # What is written half may be seen by others, what is moved may not: rename, or a copy within the store.
        temporary = self.at(*parts[:-1], f"{TEMPORARY}{secrets.token_hex(4)}.part")
        self.system.create_dir(self.at(*parts[:-1]), recursive=True)
        with self.system.open_output_stream(temporary) as file:
            file.write(content)
        self.system.move(temporary, target)

    def remove(self, *parts: str) -> None:
        """A file below it, where it is there."""
        try:
            self.system.delete_file(self.at(*parts))
        except FileNotFoundError:
            return


def folder(argument: str, name: str | os.PathLike[str], filesystem: Any = None) -> Folder:
    """What ``name`` means: a path, a URI, or a path on ``filesystem`` (of pyarrow or fsspec).

    ValueError that names ``argument`` for a URI that nobody here can open.
    """
    import pyarrow as pa
    import pyarrow.fs as pafs

    name = os.fspath(name)
    if not name:
        raise ValueError(f"{argument}: got '', allowed: a folder or a URI")
    if filesystem is not None:
        return Folder(_arrow(filesystem), name.rstrip("/"))
    scheme, separator, _ = name.partition("://")
    if not separator:
        return Folder(pafs.LocalFileSystem(), os.path.abspath(name))
    bare = name.partition("?")[0].rstrip("/")  # behind it: options, such as an end point
    try:
        try:
            system, path = pafs.FileSystem.from_uri(name)
        except pa.ArrowInvalid:
            import fsspec

            opened, path = fsspec.core.url_to_fs(name)
            system = _arrow(opened)
    except (ValueError, OSError, ImportError, NotImplementedError) as error:
        raise ValueError(f"{argument}: got {name!r}, which cannot be opened: {error}") from None
    path = path.rstrip("/")
    if isinstance(system, pafs.LocalFileSystem):
        return Folder(system, path)
    return Folder(system, path, bare.removesuffix(path) if bare.endswith(path) else f"{scheme}://")


def _arrow(filesystem: Any) -> Any:
    import pyarrow.fs as pafs

    if isinstance(filesystem, pafs.FileSystem):
        return filesystem
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))


class _Later(io.RawIOBase):
    """A file that is opened when it is first read: what goes wrong then is its reader's, not its lister's."""

    def __init__(self, system: Any, path: str, name: str) -> None:
        self._system, self._path, self.name = system, path, name
        self._file: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return 0 if self._file is None else int(self._file.tell())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._opened().seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        piece = self._opened().read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def _opened(self) -> Any:
        if self._file is None:
            self._file = self._system.open_input_file(self._path)
        return self._file


def recording(system: Any, path: str, name: str) -> BinaryIO:
    """A file as the detector takes it, called ``name``, read :data:`READ_AHEAD` bytes at a time."""
    return io.BufferedReader(_Later(system, path, name), READ_AHEAD)

"""The landing folder: a folder or bucket that third parties put their files into.

A feed has a folder of its own in it: `ad_spend/2026-11-20.csv` is the file `2026-11-20.csv` of the feed `ad_spend`.
Files are only ever read here: none is moved, changed or deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from pyarrow import fs

UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".filepart", ".swp")
"""Endings of names under which programs write what is not whole yet."""


class FileChanged(RuntimeError):
    """A file was being written while it was read; it is taken when it is quiet again."""


@dataclass(frozen=True, order=True)
class LandedFile:
    """A file as the folder lists it.

    Attributes:
        feed: The folder that it lies in; empty for a file beside the feeds' folders.
        name: Its path within that folder.
        size_bytes: Its size.
        modified_at: When it was last written, UTC.
    """

    feed: str
    name: str
    size_bytes: int
    modified_at: datetime


class Landing:
    """A landing folder.

    Args:
        url: A folder, or the URL of one that `pyarrow.fs` knows (`s3://…`, `gs://…`, `abfss://…`), whose
            credentials come from the environment as that store's own tools expect them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.problems: list[str] = []
        """What the last listing could not look at, and why."""
        self._is_local = "://" not in url
        if self._is_local:
            self._files, root = fs.LocalFileSystem(), str(Path(url).absolute())
        else:
            self._files, root = fs.FileSystem.from_uri(url)
        self._root = PurePosixPath(root)

    def __repr__(self) -> str:
        return f"Landing({self.url!r})"

    def files(self, now: datetime, settled_for: timedelta) -> list[LandedFile]:
        """The files that are whole, as far as can be told, in order of time.

        Left out are names that begin with a dot or an underscore (in any folder on the way), names that say that they
        are not finished (`UNFINISHED`), and files that were written in the last ``settled_for``.

        Args:
            now: The clock.
            settled_for: How long a file must have been left alone.
        """
        self.problems = []
        listed = self._files.get_file_info(list(self._local_paths())) if self._is_local else self._listed()
        found = [self._landed(info) for info in listed if info.type == fs.FileType.File]
        whole = [file for file in found if _is_whole(file) and now - file.modified_at >= settled_for]
        return sorted(whole, key=lambda file: (file.modified_at, file))

    def _listed(self) -> list[fs.FileInfo]:
        selector = fs.FileSelector(str(self._root), recursive=True, allow_not_found=True)
        return list(self._files.get_file_info(selector))

    def _local_paths(self) -> Iterator[str]:
        """The files of a local folder; what cannot be looked at becomes a problem, not an end."""
        walk = os.walk(self._root, onerror=lambda error: self.problems.append(str(error)))
        for folder, _, names in walk:
            for name in names:
                path = str(PurePosixPath(folder, name))
                try:
                    path.encode()
                except UnicodeEncodeError:
                    shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
                    self.problems.append(f"{shown}: the name is not UTF-8; rename it")
                    continue
                yield path

    def read(self, file: LandedFile) -> bytes:
        """The whole content of a file.

        Raises:
            FileChanged: It is not, or no longer, what was listed.
        """
        path = str(self._root / file.feed / file.name)
        with self._files.open_input_stream(path) as stream:
            data = bytes(stream.read())
        after = self._files.get_file_info(path)
        if after.type != fs.FileType.File or self._landed(after) != file or len(data) != file.size_bytes:
            msg = f"{file.feed}/{file.name} changed while it was read; it is taken when it is quiet again"
            raise FileChanged(msg)
        return data

    def _landed(self, info: fs.FileInfo) -> LandedFile:
        parts = PurePosixPath(info.path).relative_to(self._root).parts
        feed, name = (parts[0], "/".join(parts[1:])) if len(parts) > 1 else ("", parts[0])
        return LandedFile(feed, name, info.size, datetime.fromtimestamp(info.mtime_ns // 1000 / 1e6, UTC))


def _is_whole(file: LandedFile) -> bool:
    parts = PurePosixPath(file.feed, file.name).parts
    return not any(part.startswith((".", "_")) for part in parts) and not file.name.lower().endswith(UNFINISHED)

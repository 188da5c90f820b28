"""The warehouse: one DuckDB file that any SQL tool opens, made anew at each refresh.

A refresh writes another file and puts it in the place of the one that is there. Who has that one open goes on reading
it, as it was; the process that opens the path after sees the new one. So no reader waits for a refresh, and no refresh
for a reader.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from dagster_duckdb import DuckDBResource

from resources.settings import Settings

STORAGE_VERSION = "v1.0.0"
"""The file's format: that of DuckDB 1.0, which it and all later ones read."""

ELSEWHERE = "move it away, or name another file (HEADWATER_WAREHOUSE_PATH)"
"""What to do where something else is in the warehouse's place."""

_BEFORE_MAGIC, _MAGIC = 8, b"DUCK"
_READ_ONLY = 0o444
_BEING_MADE = ".warehouse-"
_ABANDONED_AFTER = 3_600.0


class NoWarehouse(RuntimeError):
    """There is no place for the warehouse, or something else is in it; the message says what to set."""


class Warehouse:
    """A DuckDB file.

    Args:
        path: The file; its folder is made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @classmethod
    def from_settings(cls, settings: Settings) -> Warehouse:
        """The warehouse that the settings name.

        Raises:
            NoWarehouse: The lake is in an object store, and no path is set.
        """
        if settings.warehouse_path is not None:
            return cls(settings.warehouse_path)
        if "://" in settings.lake_url:
            msg = f"the lake {settings.lake_url} is no folder; set HEADWATER_WAREHOUSE_PATH to a file on this machine"
            raise NoWarehouse(msg)
        return cls.beside(Path(settings.lake_url))

    @classmethod
    def beside(cls, lake: Path) -> Warehouse:
        """The warehouse of a lake in a folder, where the settings name no other."""
        return cls(lake.absolute().parent / "warehouse.duckdb")

    def exists(self) -> bool:
        """Whether it was ever made.

        Raises:
            NoWarehouse: What is there is no DuckDB file.
        """
        try:
            with self.path.open("rb") as file:
                head = file.read(_BEFORE_MAGIC + len(_MAGIC))
        except FileNotFoundError:
            return False
        except OSError as error:
            msg = f"{self.path} cannot be read: {error.strerror}; {ELSEWHERE}"
            raise NoWarehouse(msg) from error
        if head and head[_BEFORE_MAGIC:] != _MAGIC:
            msg = f"{self.path} is no DuckDB file; {ELSEWHERE}"
            raise NoWarehouse(msg)
        return bool(head)

    @contextmanager
    def anew(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to an empty file, which takes the place of the one that is there once the block is left.

        Where the block raises, what is there stays. The file is not to be written to: a tool that writes would leave a
        log beside it that fits no later file.

        Raises:
            NoWarehouse: Nothing can be written there.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._clear()
            being_made = TemporaryDirectory(prefix=_BEING_MADE, dir=self.path.parent)
        except OSError as error:
            msg = f"{self.path} cannot be written: {error.strerror}; name a file in a folder that can be written to"
            raise NoWarehouse(msg) from error
        with being_made as folder:
            made = Path(folder) / self.path.name
            config = {"storage_compatibility_version": STORAGE_VERSION, "autoinstall_known_extensions": "false"}
            with DuckDBResource(database=str(made), connection_config=config).get_connection() as connection:
                try:
                    yield connection
                finally:
                    connection.close()
            made.chmod(_READ_ONLY)
            self.path.with_name(f"{self.path.name}.wal").unlink(missing_ok=True)
            made.replace(self.path)

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that reads the file as it is now.

        Raises:
            duckdb.Error: It does not exist, or is no DuckDB file.
        """
        with duckdb.connect(self.path, read_only=True) as connection:
            yield connection

    def remove(self) -> None:
        """Delete the file, and what refreshes that were killed left behind; no refresh may be under way."""
        self.path.unlink(missing_ok=True)
        for folder in self.path.parent.glob(f"{_BEING_MADE}*"):
            shutil.rmtree(folder)

    def _clear(self) -> None:
        """Remove what refreshes that were killed left behind."""
        for folder in self.path.parent.glob(f"{_BEING_MADE}*"):
            left = folder / self.path.name
            try:
                if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER:
                    left.unlink(missing_ok=True)
                    folder.rmdir()
            except OSError:  # another refresh was quicker, or there is a log in it too: it is only litter
                continue

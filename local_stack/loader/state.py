"""How far a load is, in a file beside the file that is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from resources.records import Held


class LoadRefused(RuntimeError):
    """Loading would lose or double events, so it does not go on; the message says what to change."""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the state file holds.

    Attributes:
        line: Everything up to this line was acknowledged by Kafka, or is bad.
        delivered: The number of records acknowledged.
        bad: The number of bad rows.
        offsets: Per topic partition, the offset after the last record acknowledged.
        complete: Whether the file ends here.
    """

    file_sha256: str
    mapping_sha256: str
    topic: str
    line: int = 0
    delivered: int = 0
    bad: int = 0
    offsets: dict[int, int] = {}
    complete: bool = False

    @classmethod
    def read(cls, path: Path) -> State | None:
        """The state in a file; None where there is no file. Raises `LoadRefused` where it holds something else."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise LoadRefused(f"{path} holds no state of a load ({error}); name another file by --state") from error

    def write(self, path: Path) -> None:
        """Replace the file at once: a kill leaves the state before or this one."""
        beside = path.with_name(f"{path.name}.new")
        try:
            with beside.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise LoadRefused(f"{path} cannot be written ({error.strerror}); name another file by --state") from error


def default_state_file(path: Path) -> Path:
    """Where the state of a file's load is kept unless told otherwise."""
    return path.with_name(f"{path.name}.headwater-load.json")


def taken_up(state: State | None, fresh: State, held: Mapping[int, Held], state_file: Path) -> State:
    """The state to go on from; raises `LoadRefused` where it is another load's, or the topic has lost what it says."""
    if state is None:
        return fresh
    again = f"--restart begins with the first line, --state names another state file than {state_file}"
    for found, now, what in (
        (state.topic, fresh.topic, "the topic is another"),
        (state.file_sha256, fresh.file_sha256, "the file has changed"),
        (state.mapping_sha256, fresh.mapping_sha256, "the mapping has changed"),
    ):
        if found != now:
            raise LoadRefused(f"{what} since the load up to line {state.line} (was {found}, is {now}); {again}")
    for partition, offset in sorted(state.offsets.items()):
        if partition not in held or held[partition].high < offset:
            raise LoadRefused(
                f"partition {partition} of {state.topic!r} ends before offset {offset}, up to which this file was "
                f"delivered: the topic was made again and has lost it; {again}"
            )
    return state

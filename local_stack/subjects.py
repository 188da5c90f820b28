"""What the local schema registry knows: subjects, their versions, schemas by id; kept in a journal. No HTTP here."""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from local_stack.schema_formats import InvalidSchema, Parsed, Referenced, SchemaType, parse, unreadable

LATEST = "latest"

Json = dict[str, Any]


class Compatibility(StrEnum):
    """What a new version of a subject must fulfil towards the latest one, or (transitive) towards all."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"

    @property
    def is_transitive(self) -> bool:
        """Whether all versions count."""
        return self.endswith("_TRANSITIVE")

    def problems(self, new: Parsed, old: Parsed) -> list[str]:
        """What keeps a new schema from standing behind an old one."""
        kind, found = self.removesuffix("_TRANSITIVE"), []
        if kind in {"BACKWARD", "FULL"}:
            found += [f"the new schema cannot read the old one's records: {why}" for why in unreadable(new, old)]
        if kind in {"FORWARD", "FULL"}:
            found += [f"the old schema cannot read the new one's records: {why}" for why in unreadable(old, new)]
        return found


class Refused(Exception):
    """A request that is refused.

    Attributes:
        code: Confluent's error code: an HTTP status, or one with two digits more.
        message: Why.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.code if self.code < 1_000 else self.code // 100


class Reference(msgspec.Struct, frozen=True):
    """The version of a subject that a schema refers to, and the name it has there."""

    name: str
    subject: str
    version: int


class Schema(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A schema as it is registered and told."""

    schema: str
    schema_type: SchemaType = "AVRO"
    references: tuple[Reference, ...] = ()


class Version(NamedTuple):
    """A version of a subject, and its schema."""

    subject: str
    version: int
    schema_id: int
    schema: Schema


class JournalBroken(ValueError):
    """A line of the journal, other than a torn last one, says nothing that can be applied."""


class Journal:
    """JSON lines, each on the disk before `append` returns.

    Args:
        file: Where; its folder is made, and a last line that a kill has torn is cut off.

    Raises:
        OSError: It cannot be opened, or another registry has it.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what could not be written must not be written later.
        self._file = file.open("a+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            msg = "another registry has it"
            raise OSError(msg) from error
        self._file.seek(0)
        found = self._file.read() or b""
        whole = found[: found.rfind(b"\n") + 1]
        self._file.truncate(len(whole))
        self._lines = whole.splitlines()

    def entries(self) -> Iterator[bytes]:
        """The lines that were there when it was opened."""
        return iter(self._lines)

    def append(self, entry: Json) -> None:
        """Write an entry. After a failure it takes no more: only another start knows what is on the disk.

        Raises:
            OSError: It could not be written.
        """
        if self._file.closed:
            msg = "the journal could not be written before: start the registry anew"
            raise OSError(msg)
        line = json.dumps(entry).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                msg = "the journal was written in part"
                raise OSError(msg)
            os.fsync(self._file.fileno())
        except OSError:
            self._file.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


@dataclass
class _Entry:
    schema_id: int
    deleted: bool = False


_Key = tuple[SchemaType, str, tuple[Reference, ...]]


class Registry:
    """Subjects, their versions, and the schemas by id. Safe to be used by many threads.

    Deleted versions are out of sight; their schemas stay readable by id for ever. Every method raises `Refused`
    where Confluent's registry answers with an error.

    Args:
        journal: What is there already, and takes what comes.
        compatibility: The level where none was set.

    Raises:
        JournalBroken: The journal cannot be read.
    """

    def __init__(self, journal: Journal, compatibility: Compatibility = Compatibility.BACKWARD) -> None:
        self._journal = journal
        self._lock = threading.RLock()
        self._schemas: dict[int, tuple[Schema, Parsed]] = {}
        self._ids: dict[_Key, int] = {}
        self._subjects: dict[str, dict[int, _Entry]] = {}
        self._default = compatibility
        self._levels: dict[str | None, Compatibility] = {}
        for number, line in enumerate(journal.entries(), 1):
            try:
                self._apply(json.loads(line))
            except (ValueError, LookupError, TypeError, msgspec.ValidationError, Refused) as error:
                msg = f"line {number}: {error!r}"
                raise JournalBroken(msg) from error

    def subjects(self, *, deleted: bool = False) -> list[str]:
        """The subjects, sorted; with `deleted`, those that have only deleted versions too."""
        with self._lock:
            return sorted(subject for subject in self._subjects if self._versions(subject, deleted=deleted))

    def versions(self, subject: str, *, deleted: bool = False) -> list[int]:
        """The numbers of a subject's versions, ascending."""
        with self._lock:
            return list(self._known(subject, deleted=deleted))

    def version(self, subject: str, version: str, *, deleted: bool = False) -> Version:
        """A version: its number, or `latest`."""
        with self._lock:
            known = self._known(subject, deleted=deleted)
            number = _number(version) or max(known)
            if number not in known:
                raise _no_version(number)
            return self._told(subject, number)

    def schema(self, schema_id: int) -> Schema:
        """The schema of an id."""
        with self._lock:
            if schema_id not in self._schemas:
                raise Refused(40403, f"Schema {schema_id} not found")
            return self._schemas[schema_id][0]

    def uses(self, schema_id: int, *, deleted: bool = False) -> list[Version]:
        """The versions that have a schema."""
        with self._lock:
            self.schema(schema_id)
            return [
                self._told(subject, number)
                for subject in sorted(self._subjects)
                for number, entry in self._versions(subject, deleted=deleted).items()
                if entry.schema_id == schema_id
            ]

    def lookup(self, subject: str, schema: Schema, *, deleted: bool = False) -> Version:
        """The latest version of a subject that has this schema."""
        with self._lock:
            known = self._known(subject, deleted=deleted)
            schema_id = self._ids.get(_key(schema, self._parse(schema)))
            for number in reversed(known):
                if known[number].schema_id == schema_id:
                    return self._told(subject, number)
            raise Refused(40403, "Schema not found")

    def register(self, subject: str, schema: Schema) -> int:
        """Make a schema a subject's new version, unless it is one already; returns its id."""
        with self._lock:
            parsed = self._parse(schema)
            schema_id = self._ids.get(_key(schema, parsed), len(self._schemas) + 1)
            if any(entry.schema_id == schema_id for entry in self._versions(subject).values()):
                return schema_id
            problems = self._problems(subject, parsed)
            if problems:
                raise Refused(
                    409,
                    "Schema being registered is incompatible with an earlier schema for subject "
                    f'"{subject}", details: {problems}',
                )
            number = max(self._subjects.get(subject, {}), default=0) + 1
            named = msgspec.to_builtins(schema)
            self._write({"op": "register", "subject": subject, "version": number, "id": schema_id, **named})
            return schema_id

    def problems(self, subject: str, schema: Schema, version: str | None = None) -> list[str]:
        """What would keep a schema from being registered; empty where nothing would.

        Args:
            subject: The subject; one that is not there takes any schema.
            schema: The schema.
            version: Compare with this version (or `latest`) alone; None for those that the level asks for.
        """
        with self._lock:
            parsed = self._parse(schema)
            if version is None:
                return self._problems(subject, parsed)
            known = self._versions(subject)
            number = _number(version) or max(known, default=None)
            if number is None:
                return []
            if number not in known:
                raise _no_version(number)
            return self._problems(subject, parsed, [number])

    def compatibility(self, subject: str | None = None, *, or_default: bool = False) -> Compatibility:
        """The level of a subject, or of all where None.

        Args:
            subject: The subject.
            or_default: Tell the level of all where the subject has none of its own.
        """
        with self._lock:
            if subject is not None and subject in self._levels:
                return self._levels[subject]
            if subject is None or or_default:
                return self._levels.get(None, self._default)
            raise Refused(40408, f"Subject '{subject}' does not have subject-level compatibility configured")

    def set_compatibility(self, level: str, subject: str | None = None) -> Compatibility:
        """Set the level of a subject, or of all where None."""
        with self._lock:
            if level not in set(Compatibility):
                names = ", ".join(Compatibility)
                raise Refused(42203, f"Invalid compatibility level '{level}'. Valid values are {names}")
            self._write({"op": "compatibility", "subject": subject, "level": level})
            return Compatibility(level)

    def unset_compatibility(self, subject: str | None = None) -> Compatibility:
        """Forget the level of a subject, or of all where None; returns what it was."""
        with self._lock:
            was = self.compatibility(subject)
            self._write({"op": "compatibility", "subject": subject, "level": None})
            return was

    def delete_subject(self, subject: str, *, permanent: bool = False) -> list[int]:
        """Delete all versions of a subject and its level; returns their numbers.

        Args:
            subject: The subject.
            permanent: Forget what was deleted before; only the schemas stay.
        """
        with self._lock:
            known = self._known(subject, deleted=True)
            living = self._versions(subject)
            if permanent and living:
                raise Refused(40405, f"Subject '{subject}' was not deleted first before being permanently deleted")
            if not permanent and not living:
                raise Refused(40404, f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently")
            numbers = list(known if permanent else living)
            self._delete(subject, numbers, permanent=permanent)
            if subject in self._levels:
                self._write({"op": "compatibility", "subject": subject, "level": None})
            return numbers

    def delete_version(self, subject: str, version: str, *, permanent: bool = False) -> int:
        """Delete one version; returns its number."""
        with self._lock:
            found = self.version(subject, version, deleted=permanent or version != LATEST).version
            is_deleted = self._subjects[subject][found].deleted
            if permanent and not is_deleted:
                raise Refused(
                    40407, f"Subject '{subject}' Version {found} was not deleted first before being permanently deleted"
                )
            if is_deleted and not permanent:
                raise Refused(
                    40406,
                    f"Subject '{subject}' Version {found} was soft deleted. Set permanent=true to delete permanently",
                )
            self._delete(subject, [found], permanent=permanent)
            return found

    def _delete(self, subject: str, numbers: list[int], *, permanent: bool) -> None:
        for other in self._subjects:
            for entry in self._versions(other).values():
                for reference in self._schemas[entry.schema_id][0].references:
                    if reference.subject == subject and reference.version in numbers:
                        raise Refused(42206, f"One or more references exist to the schema {subject} {numbers}")
        self._write({"op": "delete", "subject": subject, "versions": numbers, "permanent": permanent})

    def _problems(self, subject: str, new: Parsed, numbers: list[int] | None = None) -> list[str]:
        level = self.compatibility(subject, or_default=True)
        known = self._versions(subject)
        if numbers is None:
            numbers = list(known) if level.is_transitive else list(known)[-1:]
        return [
            f"version {number}: {problem}"
            for number in reversed(numbers)
            for problem in level.problems(new, self._schemas[known[number].schema_id][1])
        ]

    def _parse(self, schema: Schema) -> Parsed:
        referenced: dict[tuple[str, int], Referenced] = {}
        self._collect(schema, referenced)
        try:
            return parse(schema.schema_type, schema.schema, list(referenced.values()))
        except InvalidSchema as error:
            raise Refused(42201, f"Invalid schema: {error}") from error

    def _collect(self, schema: Schema, into: dict[tuple[str, int], Referenced]) -> None:
        """Collect the schemas that one refers to, those it needs first."""
        for name, subject, version in map(msgspec.structs.astuple, schema.references):
            entry = self._versions(subject).get(version)
            if entry is None:
                raise Refused(42201, f"Invalid schema: it refers to {subject!r} version {version}, which is not there")
            found = self._schemas[entry.schema_id][0]
            if found.schema_type != schema.schema_type:
                raise Refused(42201, f"Invalid schema: it refers to {subject!r}, which is {found.schema_type}")
            self._collect(found, into)
            into.setdefault((subject, version), Referenced(name, found.schema))

    def _versions(self, subject: str, *, deleted: bool = False) -> dict[int, _Entry]:
        there = self._subjects.get(subject, {})
        return {number: entry for number, entry in there.items() if deleted or not entry.deleted}

    def _known(self, subject: str, *, deleted: bool = False) -> dict[int, _Entry]:
        found = self._versions(subject, deleted=deleted)
        if not found:
            raise Refused(40401, f"Subject '{subject}' not found.")
        return found

    def _told(self, subject: str, number: int) -> Version:
        schema_id = self._subjects[subject][number].schema_id
        return Version(subject, number, schema_id, self._schemas[schema_id][0])

    def _write(self, entry: Json) -> None:
        try:
            self._journal.append(entry)
        except OSError as error:
            raise Refused(50001, f"Error in the backend data store: {error}") from error
        self._apply(entry)

    def _apply(self, entry: Json) -> None:
        subject = entry["subject"]
        if entry["op"] == "register":
            if entry["id"] not in self._schemas:
                schema = msgspec.convert(entry, Schema)
                parsed = self._parse(schema)
                self._schemas[entry["id"]] = schema, parsed
                self._ids[_key(schema, parsed)] = entry["id"]
            self._subjects.setdefault(subject, {})[entry["version"]] = _Entry(entry["id"])
        elif entry["op"] == "delete":
            for number in entry["versions"]:
                if entry["permanent"]:
                    del self._subjects[subject][number]
                else:
                    self._subjects[subject][number].deleted = True
        elif entry["level"] is None:
            self._levels.pop(subject, None)
        else:
            self._levels[subject] = Compatibility(entry["level"])


def _key(schema: Schema, parsed: Parsed) -> _Key:
    return schema.schema_type, parsed.normalised, schema.references


def _number(version: str) -> int | None:
    """The number of a version, or None for the latest."""
    if version in {LATEST, "-1"}:
        return None
    if not re.fullmatch("[1-9][0-9]{0,9}", version, re.ASCII):
        raise Refused(
            42202,
            f"The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and "
            'the string "latest"',
        )
    return int(version)


def _no_version(number: int) -> Refused:
    return Refused(40402, f"Version {number} not found.")

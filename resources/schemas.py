"""Writers' schemas by id, as a Confluent-compatible schema registry tells them."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient, SchemaRegistryError

from resources.settings import Settings

SchemaKind = Literal["AVRO", "PROTOBUF", "JSON"]

_NOT_FOUND = 404


class RegistryUnavailable(RuntimeError):
    """The schema registry did not answer, or refused: nothing is judged without the schema that it should tell."""


class UnsupportedSchema(ValueError):
    """A schema that there is no decoder for."""


@dataclass(frozen=True)
class WriterSchema:
    """The schema that a record was written with. What an id stands for never changes.

    Attributes:
        schema_id: In the registry.
        kind: Of the schema.
        text: Avro and JSON: the schema's JSON; Protobuf: its file descriptor, serialised, in base64.
        references: Name and text of the schemas that it imports, each after those that it imports itself.
    """

    schema_id: int
    kind: SchemaKind
    text: str
    references: tuple[tuple[str, str], ...] = ()


class Schemas(Protocol):
    """Something that knows writers' schemas."""

    def get(self, schema_id: int) -> WriterSchema | None:
        """The schema of an id; None where nobody knows it.

        Raises:
            RegistryUnavailable: It cannot be told now.
        """
        ...


class NoRegistry:
    """The schemas of a deployment without a registry: none."""

    def get(self, schema_id: int) -> WriterSchema | None:
        """See `Schemas.get`."""
        return None


class Registry:
    """The schemas of a registry.

    Args:
        config: Of the client: ``url`` (``mock://`` for one in memory), ``basic.auth.user.info``, ….
        client: Used instead of one made from the configuration.
    """

    def __init__(self, config: dict[str, str | int], client: SchemaRegistryClient | None = None) -> None:
        self._config = config
        self._client = SchemaRegistryClient.new_client(config) if client is None else client

    def get(self, schema_id: int) -> WriterSchema | None:
        """See `Schemas.get`. Protobuf schemas are asked for as serialised file descriptors."""
        url = self._config.get("url")
        try:
            found = self._client.get_schema(schema_id)
            kind, text = _kind(found), found.schema_str
            if kind == "PROTOBUF" and not _is_base64(text):
                text = self._serialized(schema_id)
            return WriterSchema(schema_id, kind, text or "", self._references(found.references or [], kind))
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                return None
            msg = f"the schema registry at {url} refuses to tell schema {schema_id}: {error}"
            raise RegistryUnavailable(msg) from error
        except httpx2.HTTPError as error:
            msg = f"the schema registry at {url} does not answer for schema {schema_id}: {error!r}"
            raise RegistryUnavailable(msg) from error

    def _serialized(self, schema_id: int) -> str | None:
        # A client of its own: the other one remembers the schema in the format that it was first told in.
        client = SchemaRegistryClient.new_client(self._config)
        text = client.get_schema(schema_id, fmt="serialized").schema_str
        if not _is_base64(text):
            msg = (
                f"the schema registry at {self._config.get('url')} tells Protobuf schema {schema_id} as text only; "
                "Headwater needs it serialised (`format=serialized`)"
            )
            raise RegistryUnavailable(msg)
        return text

    def _references(self, references: list[SchemaReference], kind: str) -> tuple[tuple[str, str], ...]:
        found: dict[str, str] = {}
        for reference in references:
            fmt = "serialized" if kind == "PROTOBUF" else None
            version = self._client.get_version(str(reference.subject), reference.version or "latest", fmt=fmt)
            schema = version.schema
            found |= dict(self._references(schema.references or [], kind))
            found[str(reference.name)] = schema.schema_str or ""
        return tuple(found.items())


def registry_of(settings: Settings) -> Schemas:
    """The registry that the settings name. Connects to nothing yet."""
    config = settings.registry_config()
    return NoRegistry() if config is None else Registry(config)


def _kind(schema: Schema) -> SchemaKind:
    """The kind of a schema; a registry does not name Avro.

    Raises:
        RegistryUnavailable: It is of a kind that nobody here knows.
    """
    told = schema.schema_type or "AVRO"
    for kind in get_args(SchemaKind):
        if told == kind:
            return cast("SchemaKind", kind)
    msg = f"the schema registry tells a schema of the kind {told!r}; known are {', '.join(get_args(SchemaKind))}"
    raise RegistryUnavailable(msg)


def _is_base64(text: str | None) -> bool:
    try:
        return bool(text) and bool(base64.b64decode(text or "", validate=True))
    except (binascii.Error, ValueError):
        return False

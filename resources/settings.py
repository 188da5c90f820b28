"""Every setting of the platform, in one typed object read from the environment.

Nothing else in the project reads an environment variable. ``Settings()`` reads them when it is called,
never at import; tests pass values instead. The README's table is generated from this class
(``settings_table``), so a setting without a description does not exist.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

StartAt = Literal["earliest", "latest"]

Severity = Literal["warning", "error", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""How bad something is, from bad to worst."""


class _NoJson:
    """Stands for a value of the environment that is neither a JSON list nor an object; errors do not show it."""


class _Environment(EnvSettingsSource):
    """The environment, where a value that should be JSON and is not is an error like any other."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            decoded = super().decode_complex_value(field_name, field, value)
        except ValueError:
            return _NoJson
        return decoded if isinstance(decoded, list | dict) else _NoJson


def _not_empty(token: SecretStr) -> SecretStr:
    if not token.get_secret_value().strip():
        msg = "a token of HEADWATER_API_TOKENS is empty; give a long secret, or leave it out"
        raise ValueError(msg)
    return token


class Settings(BaseSettings):
    """The platform's configuration. Environment variables carry the prefix ``HEADWATER_``.

    Kafka's own settings keep the names their users know (``KAFKA_BOOTSTRAP_SERVERS``).

    Raises:
        pydantic.ValidationError: A value is not what its field says; the message names field and value.
    """

    model_config = SettingsConfigDict(env_prefix="HEADWATER_", frozen=True, extra="ignore", populate_by_name=True)

    lake_url: str = Field(
        default="var/lake",
        description="Folder or URL of the lake: a path, `s3://…`, `gs://…`, `abfss://…`.",
    )
    lake_options: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="JSON object of storage options of the object store (`AWS_REGION`, keys, endpoint); kept secret.",
    )

    kafka_bootstrap_servers: str = Field(
        default="127.0.0.1:9092",
        validation_alias=AliasChoices("KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers"),
        description="`host:port[,host:port…]` of the Kafka cluster.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        validation_alias=AliasChoices("KAFKA_SECURITY_PROTOCOL", "kafka_security_protocol"),
        description="How to talk to the brokers.",
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        default=None,
        validation_alias=AliasChoices("KAFKA_SASL_MECHANISM", "kafka_sasl_mechanism"),
        description="SASL mechanism, with a `SASL_*` protocol.",
    )
    kafka_sasl_username: str | None = Field(
        default=None,
        validation_alias=AliasChoices("KAFKA_SASL_USERNAME", "kafka_sasl_username"),
        description="SASL user name.",
    )
    kafka_sasl_password: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("KAFKA_SASL_PASSWORD", "kafka_sasl_password"),
        description="SASL password; never logged.",
    )
    kafka_ssl_ca_location: Path | None = Field(
        default=None,
        validation_alias=AliasChoices("KAFKA_SSL_CA_LOCATION", "kafka_ssl_ca_location"),
        description="File with the certificate authority that signed the brokers' certificates.",
    )
    kafka_client_options: dict[str, SecretStr] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("KAFKA_CLIENT_OPTIONS", "kafka_client_options"),
        description="JSON object of further librdkafka options; wins over the ones above; kept secret.",
    )

    client_events_topic: str = Field(
        default="client_events", description="Topic that the web and mobile clients' events arrive on."
    )
    backend_logs_topic: str | None = Field(
        default=None,
        description="Topic that the backend's events arrive on (docs/wire_formats.md); none is read where it is not "
        "set.",
    )
    oltp_changes_topic: str | None = Field(
        default=None,
        description="Topic that the database's change events arrive on (docs/changes.md); none is read where it is not "
        "set.",
    )
    oltp_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL server whose changes the local stack relays to Kafka; the embedded one where it is not "
        "set.",
    )
    schema_registry_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("SCHEMA_REGISTRY_URL", "schema_registry_url"),
        description="URL of a Confluent-compatible schema registry, for values framed with a schema id "
        "(docs/wire_formats.md).",
    )
    schema_registry_basic_auth_user_info: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("SCHEMA_REGISTRY_BASIC_AUTH_USER_INFO", "schema_registry_basic_auth_user_info"),
        description="`user:password` of the schema registry; never logged.",
    )
    schema_registry_options: dict[str, SecretStr] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("SCHEMA_REGISTRY_OPTIONS", "schema_registry_options"),
        description="JSON object of further options of the schema registry's client (`ssl.ca.location`, "
        "`bearer.auth.token`); wins over the ones above; kept secret.",
    )
    field_aliases: dict[str, str] = Field(
        default_factory=dict,
        description="JSON object: names that fields of Avro and Protobuf values have, and the envelope's names for "
        "them. A name that the value's own schema gives goes first.",
    )
    start_at: StartAt = Field(
        default="earliest",
        description="Where a topic that was never read begins: its `earliest` or `latest` offset.",
    )

    landing_url: str | None = Field(
        default=None,
        description="Folder or bucket that third-party files land in, a folder a feed (docs/feeds.md); none is watched "
        "where it is not set.",
    )
    landing_settled_for: timedelta = Field(
        default=timedelta(seconds=10),
        description="A landed file is taken once it was left alone for this long.",
    )

    start_date: date = Field(
        default=date(2026, 1, 1),
        description="First day (reporting timezone) of the partitions. Must not move once there is data.",
    )
    reporting_timezone: str = Field(
        default="UTC", description="IANA zone of every day, week and month: `Europe/Berlin`."
    )
    allowed_lateness: timedelta = Field(
        default=timedelta(days=7),
        description="An event later than this is quarantined as `too_late` (ISO 8601 duration, `P7D`).",
    )
    expected_disorder: timedelta = Field(
        default=timedelta(minutes=15),
        description="How far the watermark stays behind the newest event time.",
    )
    idle_after: timedelta = Field(
        default=timedelta(minutes=5),
        description="A topic partition silent for this long (by record time) does not hold the watermark back.",
    )
    passive_events: frozenset[str] = Field(
        default=frozenset({"push_received"}),
        description="JSON list of event names that happen *to* a person and make nobody active.",
    )

    bronze_retention: timedelta = Field(
        default=timedelta(days=400), description="How long bronze keeps records (by record time)."
    )
    file_retention: timedelta = Field(
        default=timedelta(days=7),
        description="How long removed files and old log entries stay readable; at least 7 days (`P7D`).",
    )

    lease: timedelta = Field(default=timedelta(minutes=5), description="How long one `advance` run holds the streams.")
    trigger_interval: timedelta = Field(
        default=timedelta(seconds=2),
        description="Least time between the starts of two micro-batches; none while there is a backlog.",
    )
    quiet_after: timedelta = Field(
        default=timedelta(minutes=1), description="An `advance` run ends early after this long without a record."
    )
    micro_batch_records: int = Field(
        default=100_000, ge=1, description="Most records that one micro-batch takes from Kafka."
    )
    micro_batch_bytes: int = Field(
        default=256 * 2**20, ge=1, description="Most bytes of values that one micro-batch takes from Kafka."
    )

    engine: Literal["polars", "duckdb", "spark"] = Field(
        default="polars",
        description="What computes the numbers: `polars`, `duckdb` or `spark` (docs/operations.md); they are the same "
        "by each.",
    )
    spark_remote: SecretStr | None = Field(
        default=None,
        description="Spark Connect server of the engine `spark`, which can read the lake at its URL: `sc://host:port`; "
        "may hold a token, never logged.",
    )
    warehouse_path: Path | None = Field(
        default=None,
        description="DuckDB file that other SQL tools open (docs/serving.md); `warehouse.duckdb` beside the lake's "
        "folder where it is not set, none for a lake in an object store.",
    )
    warehouse_every: timedelta = Field(
        default=timedelta(minutes=5),
        description="Least time between two refreshes of that file; `PT0S` for none but by hand.",
    )
    api_tokens: list[Annotated[SecretStr, AfterValidator(_not_empty)]] = Field(
        default_factory=list,
        description="JSON list of the tokens that callers of the HTTP interface give (docs/serving.md); without one it "
        "does not start.",
    )
    api_requests_per_minute: int = Field(default=600, ge=1, description="Most requests of one token in a minute.")
    ui_url: str = Field(
        default="http://127.0.0.1:3000", description="Address of Dagster's web UI, for the links in alerts."
    )
    alert_urls: tuple[SecretStr, ...] = Field(
        default=(),
        description="JSON list of Apprise URLs that alerts go to (`slack://…`, `mailto://…`, `pagerduty://…`, "
        "`json://…`); `error=slack://…` takes alerts from that severity on (`warning`, `error`, `critical`). Kept "
        "secret.",
    )
    alert_reminder: timedelta = Field(
        default=timedelta(hours=4), description="An incident that is still there is told again after this long."
    )
    alert_recovery_after: timedelta = Field(
        default=timedelta(minutes=2),
        description="An incident is over when its condition was gone for this long; one that comes back before is "
        "the same incident, and tells nothing.",
    )
    alert_lookback: timedelta = Field(
        default=timedelta(days=7),
        description="Failed runs, backfills and checks older than this open no incident when alerts are first "
        "switched on.",
    )
    alert_lag_records: int = Field(
        default=1_000_000, ge=1, description="Records that a topic may be ahead of bronze before it is an alert."
    )
    alert_lag_for: timedelta = Field(
        default=timedelta(minutes=5), description="How long it must be that far ahead before it is told."
    )
    alert_dead_letter_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of a topic's records that may be undecodable."
    )
    alert_quarantine_share: float = Field(
        default=0.05, ge=0, le=1, description="Share of a topic's records that may break the contract."
    )
    alert_rate_window: timedelta = Field(
        default=timedelta(hours=1), description="The time of arrival that these shares are taken over, in whole hours."
    )
    alert_rate_records: int = Field(
        default=100, ge=1, description="Least records of a topic in that time for its shares to say anything."
    )

    canary_every: timedelta = Field(
        default=timedelta(0),
        ge=timedelta(0),
        description="How often the platform sends an event of its own to each topic of events, to see how long events "
        "take (docs/operations.md); `PT0S` for never. `make up` sets `PT1M` for its own broker.",
    )
    canary_within: timedelta = Field(
        default=timedelta(minutes=5),
        gt=timedelta(0),
        description="How long an event may take from being sent to being readable in gold; longer is an alert.",
    )

    service_level_objective: float = Field(
        default=0.99,
        ge=0,
        lt=1,
        description="Share of a table's partitions that shall be there when they fall due; the rest is the error "
        "budget (docs/operations.md).",
    )

    completeness_share: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Least share of an hour's events that should be in when it falls due; less is a warning.",
    )

    @classmethod
    def settings_customise_sources(  # noqa: D102 - of pydantic
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, _Environment(settings_cls)

    @field_validator("*", mode="before")
    @classmethod
    def _is_json(cls, value: object, info: ValidationInfo) -> object:
        if value is _NoJson and info.field_name is not None:
            is_object = get_origin(cls.model_fields[info.field_name].annotation) is dict
            kind, example = ("object", '{"name": "value"}') if is_object else ("list", '["one", "another"]')
            msg = f"{environment_name(info.field_name)} is no JSON {kind}: write it as '{example}'"
            raise ValueError(msg)
        return value

    @field_validator("alert_urls")
    @classmethod
    def _known_severities(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, url in enumerate(value, 1):
            floor, _ = split_alert_url(url.get_secret_value())
            if floor not in SEVERITIES:
                msg = f"alert_urls, number {number}: {floor!r} is no severity; write one of {', '.join(SEVERITIES)}"
                raise ValueError(msg)
        return value

    @field_validator("spark_remote")
    @classmethod
    def _is_spark_remote(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"sc://[^/:;\s]+(:\d{1,5})?(/.*)?", value.get_secret_value()):
            shown = value.get_secret_value().partition(";")[0]
            msg = (
                f"spark_remote {shown!r} is no Spark Connect server; write sc://host:port, such as sc://127.0.0.1:15002"
            )
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _engine_is_somewhere(self) -> Self:
        if self.engine == "spark" and self.spark_remote is None:
            msg = "engine 'spark' needs spark_remote: set HEADWATER_SPARK_REMOTE=sc://host:port, or engine to 'duckdb'"
            raise ValueError(msg)
        return self

    @field_validator("reporting_timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            msg = f"reporting_timezone {value!r} is no IANA time zone; write one such as 'Europe/Berlin'"
            raise ValueError(msg) from error
        return value

    @field_validator("file_retention")
    @classmethod
    def _safe_retention(cls, value: timedelta) -> timedelta:
        if value < timedelta(days=7):
            msg = f"file_retention {value} is under 7 days: a vacuum beside a writer would corrupt tables"
            raise ValueError(msg)
        return value

    @property
    def zone(self) -> ZoneInfo:
        """The reporting timezone."""
        return ZoneInfo(self.reporting_timezone)

    @property
    def first_instant(self) -> datetime:
        """Start of the first daily partition, in the reporting timezone."""
        return datetime(self.start_date.year, self.start_date.month, self.start_date.day, tzinfo=self.zone)

    def kafka_config(self) -> dict[str, str]:
        """The librdkafka configuration of every client of ours. Holds secrets in the clear: never log it."""
        config = {
            "bootstrap.servers": self.kafka_bootstrap_servers,
            "security.protocol": self.kafka_security_protocol,
            "client.id": "headwater",
            "log_level": "3",  # errors: librdkafka's chatter is not for people
        }
        if self.kafka_sasl_mechanism is not None:
            config["sasl.mechanism"] = self.kafka_sasl_mechanism
        if self.kafka_sasl_username is not None:
            config["sasl.username"] = self.kafka_sasl_username
        if self.kafka_sasl_password is not None:
            config["sasl.password"] = self.kafka_sasl_password.get_secret_value()
        if self.kafka_ssl_ca_location is not None:
            config["ssl.ca.location"] = str(self.kafka_ssl_ca_location)
        config.update({key: value.get_secret_value() for key, value in self.kafka_client_options.items()})
        return config

    def registry_config(self) -> dict[str, str | int] | None:
        """The configuration of the schema registry's client; None where there is no registry. Holds secrets."""
        if self.schema_registry_url is None:
            return None
        config: dict[str, str | int] = {"url": self.schema_registry_url}
        if self.schema_registry_basic_auth_user_info is not None:
            config["basic.auth.user.info"] = self.schema_registry_basic_auth_user_info.get_secret_value()
        told = {key: value.get_secret_value() for key, value in self.schema_registry_options.items()}
        config.update({key: int(value) if value.isdigit() else value for key, value in told.items()})
        return config

    def storage_options(self) -> dict[str, str]:
        """The object store's options for `deltalake` and `polars`. Holds secrets in the clear: never log it."""
        return {key: value.get_secret_value() for key, value in self.lake_options.items()}


def split_alert_url(told: str) -> tuple[str, str]:
    """The least severity that an entry of `alert_urls` takes, and its URL: ``warning`` where it says none."""
    before, mark, url = told.partition("=")
    return (before, url) if mark and before.isalpha() else (SEVERITIES[0], told)


def environment_name(field: str) -> str:
    """The environment variable that sets a field of ``Settings``."""
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return f"HEADWATER_{field.upper()}"


def settings_table() -> str:
    """The README's configuration table, in Markdown: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, timedelta):
            shown = f"`{iso8601(default)}`"
        elif isinstance(default, frozenset):
            shown = "`[" + ", ".join(f'"{item}"' for item in sorted(default)) + "]`"
        else:
            shown = "" if default in (None, {}, ()) else f"`{default}`"
        rows.append(f"| `{environment_name(name)}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def iso8601(value: timedelta) -> str:
    """A length of time as a setting is written: `PT5M`."""
    for unit, seconds in (("D", 86_400), ("H", 3_600), ("M", 60), ("S", 1)):
        if value % timedelta(seconds=seconds) == timedelta(0):
            return f"P{'' if unit == 'D' else 'T'}{value // timedelta(seconds=seconds)}{unit}"
    return f"PT{value.total_seconds()}S"

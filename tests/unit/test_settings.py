"""The configuration: from the environment, with clear errors, and with its secrets kept."""

from datetime import date, timedelta
from pathlib import Path

import pydantic
import pytest

import partitions
import resources
import sensors
from resources.lake import storage_options
from resources.settings import Settings, environment_name, settings_table

ROOT = Path(__file__).parents[2]


def test_the_environment_sets_what_its_names_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:9093")
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "reader")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "hush")
    monkeypatch.setenv("KAFKA_CLIENT_OPTIONS", '{"socket.timeout.ms": "9000"}')
    monkeypatch.setenv("HEADWATER_START_DATE", "2025-12-24")
    monkeypatch.setenv("HEADWATER_ALLOWED_LATENESS", "P3D")
    monkeypatch.setenv("HEADWATER_PASSIVE_EVENTS", '["seen"]')
    settings = Settings()
    assert settings.start_date == date(2025, 12, 24)
    assert settings.allowed_lateness == timedelta(days=3)
    assert settings.passive_events == {"seen"}
    assert settings.kafka_config() == {
        "bootstrap.servers": "broker:9093",
        "client.id": "headwater",
        "log_level": "3",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "reader",
        "sasl.password": "hush",
        "socket.timeout.ms": "9000",
    }


def test_secrets_are_not_shown() -> None:
    settings = Settings.model_validate(
        {
            "kafka_sasl_password": "hush",
            "lake_options": {"secret_access_key": "hush"},
            "kafka_client_options": {"ssl.key.password": "hush"},
            "spark_remote": "sc://spark:15002/;token=hush",
        }
    )
    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json()
    assert settings.storage_options() == {"secret_access_key": "hush"}


@pytest.mark.parametrize("told", ["hush", '"hush"', '["hush", ""]', '["hush", " "]'])
def test_a_wrong_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setenv("HEADWATER_API_TOKENS", told)
    with pytest.raises(pydantic.ValidationError, match="HEADWATER_API_TOKENS") as raised:
        Settings()
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("reporting_timezone", "Middle/Earth", "no IANA time zone"),
        ("file_retention", "P1D", "under 7 days"),
        ("allowed_lateness", "soon", "duration"),
        ("micro_batch_records", "0", "greater than or equal to 1"),
        ("start_at", "yesterday", "'earliest' or 'latest'"),
        ("api_tokens", '["a", ""]', "a token of HEADWATER_API_TOKENS is empty"),
        ("api_tokens", "hush", r"""HEADWATER_API_TOKENS is no JSON list: write it as '\["one", "another"\]'"""),
        ("passive_events", "seen,heard", "HEADWATER_PASSIVE_EVENTS is no JSON list"),
        ("lake_options", "", """HEADWATER_LAKE_OPTIONS is no JSON object: write it as '{"name": "value"}'"""),
        ("engine", "pandas", "'polars', 'duckdb' or 'spark'"),
        ("engine", "spark", r"needs spark_remote: set HEADWATER_SPARK_REMOTE=sc://host:port"),
        ("spark_remote", "127.0.0.1:15002", r"'127\.0\.0\.1:15002' is no Spark Connect server; write sc://host:port"),
    ],
)
def test_a_wrong_value_is_named_with_its_field(
    monkeypatch: pytest.MonkeyPatch, field: str, value: str, told: str
) -> None:
    monkeypatch.setenv(environment_name(field), value)
    with pytest.raises(pydantic.ValidationError, match=told) as raised:
        Settings()
    assert field in str(raised.value)


def test_storage_options_are_those_of_the_store() -> None:
    given = {"access_key_id": "k", "secret_access_key": "s", "region": "eu-central-1"}
    assert storage_options("s3://bucket/lake", given) == given
    assert storage_options("var/lake", {}) == {}
    with pytest.raises(ValueError, match=r"\['regoin'\]"):
        storage_options("s3://bucket/lake", {"regoin": "x"})
    with pytest.raises(ValueError, match="local folder"):
        storage_options("var/lake", {"region": "x"})
    with pytest.raises(ValueError, match="scheme 'ftp'"):
        storage_options("ftp://bucket/lake", {})


def test_the_readme_has_the_settings_as_they_are() -> None:
    assert settings_table() in (ROOT / "README.md").read_text()


def test_the_packages_are_ours_and_not_others_of_the_same_name() -> None:
    for package in (partitions, resources, sensors):
        assert package.__file__ is not None
        assert Path(package.__file__).is_relative_to(ROOT)

"""What the pages read from: one catalog for all of them and for everybody who looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import streamlit as st

from platform_assets.gold.metric_files import Metric, as_they_are
from platform_assets.gold.metric_numbers import survey
from platform_assets.serving.catalog import UNREADABLE, Catalog
from platform_assets.tables import tables
from resources.lake import Lake
from resources.settings import Settings

HELD_BYTES = 32 * 2**20
"""A table up to this size is held in memory: years of a table by the day."""


@dataclass(frozen=True)
class Source:
    """A lake's tables, and the settings that they are read by.

    Attributes:
        catalog: The tables.
        settings: Reporting timezone, passive events.
        metrics: What the files of metrics say that are right.
        files: Those files, as they were read.
    """

    catalog: Catalog
    settings: Settings
    metrics: tuple[Metric, ...]
    files: tuple[tuple[str, int, int], ...]

    @property
    def zone(self) -> ZoneInfo:
        """The reporting timezone."""
        return self.settings.zone

    def now(self) -> datetime:
        """The wall clock, UTC."""
        return datetime.now(UTC)


@st.cache_resource(show_spinner=False, validate=lambda source: source.files == as_they_are())
def opened() -> Source:
    """The lake that the environment names, with its tables opened: the first page is as fast as the later ones.

    It is opened anew where the files of metrics are others.

    Raises:
        NotReadable: The lake cannot be read where it is.
        pydantic.ValidationError: A setting is not what it should be.
    """
    settings, files = Settings(), as_they_are()
    found = survey()
    catalog = Catalog(Lake.from_settings(settings), tables(found.numbers), held_bytes=HELD_BYTES)
    for name in catalog.tables:
        try:
            catalog.handle(name)
        except UNREADABLE:
            continue  # the pages that need it say so, and no other
    return Source(catalog, settings, found.metrics, files)

"""`bronze/client_events`: what web and mobile clients sent, byte for byte."""

from __future__ import annotations

from platform_assets.bronze.records import received

TABLE = received("bronze/client_events", "Events of the web and mobile clients")

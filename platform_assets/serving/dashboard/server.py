"""Runs the dashboard's server: Streamlit, offline and silent about its users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streamlit.web import bootstrap

from platform_assets.serving.dashboard import app
from platform_assets.serving.dashboard.charts import PALETTE
from platform_assets.serving.dashboard.source import opened

_APPEARANCE = {
    "theme_primaryColor": PALETTE[0],
    "theme_baseRadius": "small",
    "theme_showWidgetBorder": True,
    "theme_headingFontSizes": ["1.9rem", "1.4rem", "1.25rem"],
    "theme_metricValueFontSize": "1.7rem",
    "theme_paddingTop": "1rem",
    "theme_chartCategoricalColors": list(PALETTE),
    "theme_dark_primaryColor": "#2A84C2",
}


def run(host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM, over the lake that the environment names.

    Args:
        host: Address to listen on.
        port: Port to listen on; nothing else may.
    """
    options: dict[str, Any] = {
        "global_developmentMode": False,
        "server_address": host,
        "server_port": port,
        "server_headless": True,
        "server_fileWatcherType": "none",
        "server_showEmailPrompt": False,
        "browser_gatherUsageStats": False,
        "global_disableWidgetStateDuplicationWarning": True,  # of boxes that are given what was chosen elsewhere
        "client_toolbarMode": "minimal",
        "client_showErrorDetails": "none",
        "client_showErrorLinks": False,
        "runner_magicEnabled": False,
        "logger_level": "warning",
        **_APPEARANCE,
    }
    bootstrap.load_config_options(options)
    opened()
    bootstrap.run(str(Path(app.__file__)), False, [], options)

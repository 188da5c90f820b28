"""`bronze/backend_logs`: what the backend's services logged, byte for byte."""

from __future__ import annotations

from platform_assets.bronze.records import received

TABLE = received("bronze/backend_logs", "Events that the backend's services logged,", steady=False)

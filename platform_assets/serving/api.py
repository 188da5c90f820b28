"""The HTTP interface: published numbers, read-only, for systems that do not read Delta. `/docs` shows it, OpenAPI
describes it.

Every answer says as of when it is; asked again with that ``as_known_at``, it is the same for ever. No SQL passes
through: what callers give are values of parameters.
"""

# FastAPI reads the annotations of the routes when they are made: no `from __future__ import annotations` here.

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Self

import duckdb
from annotated_types import Ge, Le
from deltalake.exceptions import DeltaError
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pyrate_limiter import Duration, Limiter, Rate

from partitions import Window
from platform_assets.publication import Publication
from platform_assets.semantics.calendar import Interval
from platform_assets.serving.catalog import Catalog
from platform_assets.serving.metrics import Offer, UnknownMetric, known_until, offered, offers, values
from resources.settings import Settings

MOST_ROWS = 10_000
"""Most values in one answer."""

_FIRST, _LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""What lies outside is a mistake."""

Day = Annotated[date, Ge(_FIRST.date()), Le(_LAST.date())]
Instant = Annotated[AwareDatetime, Ge(_FIRST), Le(_LAST)]


class Asked(BaseModel):
    """Which values are asked for."""

    model_config = ConfigDict(extra="forbid")

    start: Day = Field(description="First day, in the reporting timezone.")
    end: Day = Field(description="Last day.")
    where: list[str] = Field(
        default=[], max_length=10, description="`platform=ios`, or `platform` where it is null; all must hold."
    )
    as_known_at: Instant | None = Field(
        default=None, description="What was said by this instant; with a timezone. One to come is the newest there is."
    )
    limit: int = Field(default=1000, ge=1, le=MOST_ROWS, description="Most values in the answer.")
    offset: int = Field(default=0, ge=0, le=10**9, description="Values to leave out before them.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.start:
            msg = f"end {self.end} is before start {self.start}; give the earlier day as start"
            raise ValueError(msg)
        return self


class Problem(BaseModel):
    """Why there is no answer, and what to do."""

    detail: str


class MetricInfo(BaseModel):
    """A metric that can be read."""

    name: str = Field(description="As `/v1/metrics/{name}/values` takes it.", examples=["active_users.dau"])
    description: str
    unit: str | None = Field(description="Unit of the values; null for shares.")
    grain: Interval = Field(description="Length of the windows.")
    slices: list[str] = Field(description="Columns that tell the values of a window apart.")
    table: str = Field(description="The gold table that it is computed in.")


class Metrics(BaseModel):
    """The metrics that can be read."""

    metrics: list[MetricInfo]


class Value(BaseModel):
    """One published value."""

    slice: str = Field(description="`country=DE,platform=ios`; empty for the total; a null column is its bare name.")
    window_start: datetime
    window_end: datetime = Field(description="Exclusive.")
    revision: int = Field(description="How often it was published by then.")
    value: str | None = Field(
        description="Exact decimal; null while it is not known, or from 10^28 on.", examples=["1234", "0.517"]
    )
    change: str | None = Field(description="Value less the one before; null at first.")
    causes: list[str] = Field(description="Why it was published.", examples=[["late events"]])
    expected_late_share: float | None = Field(description="Share of the window's events still expected.")
    is_closed: bool = Field(description="Whether the watermark had passed the window's end.")
    is_final: bool = Field(description="Whether no event can change it any more.")
    is_person_final: bool = Field(description="Whether no login can change it any more, either.")
    watermark: datetime | None
    definition_version: str
    published_at: datetime


class Values(BaseModel):
    """Published values of a metric, by window, slice and revision."""

    metric: str
    as_known_at: datetime = Field(
        description="By when it was said, at most the newest instant of the ledger: give this back to get the same "
        "answer, or its next page."
    )
    values: list[Value]
    next_offset: int | None = Field(description="Where the next page begins; null on the last one.")


class Health(BaseModel):
    """Whether numbers can be read."""

    published_numbers_version: int = Field(description="Delta version of `gold/published_numbers`.")


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "No token, or a wrong one."},
    429: {"model": Problem, "description": "Too many requests; `Retry-After` says when to come back."},
    503: {"model": Problem, "description": "Nothing was published yet."},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such metric or slice."}}


def create_app(catalog: Catalog, publications: Sequence[Publication], settings: Settings) -> FastAPI:
    """The interface, over what some publications offer.

    Args:
        catalog: The lake; it has `gold/published_numbers`.
        publications: What is published.
        settings: Tokens, limits, and the reporting timezone.

    Raises:
        ValueError: No token is set: numbers would be open to everybody.
    """
    tokens = [token.get_secret_value() for token in settings.api_tokens]
    if not tokens:
        msg = 'no token is set; set HEADWATER_API_TOKENS to a JSON list of secrets, such as ["…"]'
        raise ValueError(msg)
    known = offers(publications)
    allowed = _allowed(tokens, settings.api_requests_per_minute)
    app = FastAPIOffline(
        redoc_url=None,
        title="Headwater",
        version="1",
        description="Published numbers: how final they are, what they were, and why they changed. Read-only.",
    )
    numbers = APIRouter(prefix="/v1", dependencies=[Depends(allowed)], responses=_PROBLEMS)

    def not_there(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=503)

    for kind in (OSError, DeltaError, duckdb.IOException):
        app.add_exception_handler(kind, not_there)

    @app.exception_handler(UnknownMetric)
    def unknown(_request: Request, error: UnknownMetric) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=404)

    @numbers.get("/health")
    def health() -> Health:
        """Whether numbers can be read."""
        return Health(published_numbers_version=catalog.version("gold.published_numbers"))

    @numbers.get("/metrics")
    def metrics() -> Metrics:
        """The metrics that can be read."""
        return Metrics(metrics=[MetricInfo(**_said(offer)) for _, offer in sorted(known.items())])

    def read(name: str, asked: Asked, *, every_revision: bool) -> Values:
        offer = offered(known, name)
        window = Window.of_days(asked.start, asked.end, settings.zone)
        newest = known_until(catalog)
        if newest is None:
            raise HTTPException(503, "nothing was published yet")
        at = newest if asked.as_known_at is None else min(asked.as_known_at.astimezone(UTC), newest)
        pairs = (part.partition("=") for part in asked.where)
        where = [(column, value if sign else None) for column, sign, value in pairs]
        limit, offset = asked.limit, asked.offset
        found = values(catalog, offer, window, where, at, limit=limit + 1, offset=offset, every_revision=every_revision)
        rows = [Value(**{**row, **_exact(row)}) for row in found.head(limit).iter_rows(named=True)]
        following = offset + limit if found.height > limit else None
        return Values(metric=name, as_known_at=at, values=rows, next_offset=following)

    @numbers.get("/metrics/{name}/values", responses=_NOT_FOUND)
    def values_of(name: str, asked: Annotated[Asked, Query()]) -> Values:
        """The values of the windows that begin on some days, the last included: one for each window and slice."""
        return read(name, asked, every_revision=False)

    @numbers.get("/metrics/{name}/revisions", responses=_NOT_FOUND)
    def revisions_of(name: str, asked: Annotated[Asked, Query()]) -> Values:
        """All that was ever published of those windows, and why: the first value, and each change."""
        return read(name, asked, every_revision=True)

    app.include_router(numbers)
    return app


def _allowed(tokens: Sequence[str], per_minute: int) -> Any:
    """The dependency that lets a request pass: its token is one of ours, and has requests left."""
    limiters = {token: Limiter(Rate(per_minute, Duration.MINUTE)) for token in tokens}
    bearer = HTTPBearer(auto_error=False, description="One of `HEADWATER_API_TOKENS`.")

    def allowed(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        said = None if given is None else given.credentials.encode()
        token = next((t for t in tokens if said is not None and secrets.compare_digest(t.encode(), said)), None)
        if token is None:
            msg = "give one of the tokens of HEADWATER_API_TOKENS: Authorization: Bearer …"
            raise HTTPException(401, msg, {"WWW-Authenticate": "Bearer"})
        if not limiters[token].try_acquire(token, blocking=False):
            msg = f"more than {per_minute} requests a minute; come back in a minute"
            raise HTTPException(429, msg, {"Retry-After": "60"})

    return allowed


def _said(offer: Offer) -> dict[str, Any]:
    return {
        "name": offer.name,
        "description": offer.description,
        "unit": offer.unit,
        "grain": offer.grain,
        "slices": list(offer.slices),
        "table": offer.table,
    }


def _exact(row: Mapping[str, Any]) -> dict[str, str | None]:
    """Decimals as texts, without the noughts that say nothing."""
    texts = {}
    for name in ("value", "change"):
        value = row[name]
        text = None if value is None else f"{value:f}"
        texts[name] = text.rstrip("0").rstrip(".") if text is not None and "." in text else text
    return texts

"""The values of several properties, told together."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.gold.metric_columns import NO_VALUE, told_together

VALUE = st.one_of(
    st.none(), st.sampled_from(["web", NO_VALUE, "%24none", " / ", "/", "%", ""]), st.text("a/% $", max_size=4)
)


def together(rows: list[tuple[str | None, ...]]) -> list[str | None]:
    names = [f"v{k}" for k in range(len(rows[0]))]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return frame.select(told_together([pl.col(name) for name in names])).to_series().to_list()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (("web",), "web"),
        (("a / b%",), "a / b%"),
        ((None,), None),
        (("web", "DE"), "web / DE"),
        (("web", None), "web / $none"),
        ((None, "DE"), "$none / DE"),
        ((None, None), None),
        (("$none", "50%"), "%24none / 50%25"),
        (("a / b", "c"), "a %2F b / c"),
    ],
)
def test_values_are_told_together(values: tuple[str | None, ...], text: str | None) -> None:
    assert together([values]) == [text]


@given(st.lists(st.tuples(VALUE, VALUE), min_size=1, max_size=30))
def test_the_same_text_is_of_the_same_values(rows: list[tuple[str | None, ...]]) -> None:
    assert len(set(together(rows))) == len(set(rows))

"""The dashboard as Streamlit runs it: `headwater dashboard` starts it with this file."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from platform_assets.serving.dashboard import experiments, funnels, growth, health, now, retention, revenue, why

_ICON = Path(__file__).with_name("icon.svg")


def main() -> None:
    """Show the page that the address names."""
    st.set_page_config(page_title="Headwater", page_icon=str(_ICON), layout="wide")
    first = st.Page(now.show, title="Now", icon=":material/bolt:", default=True)

    def lead_to_first() -> None:
        st.switch_page(first, query_params=st.query_params.to_dict())

    pages = [
        first,
        st.Page(lead_to_first, title="Now", url_path="now", visibility="hidden"),  # the first page's own address is /
        st.Page(growth.show, title="Growth", icon=":material/trending_up:", url_path="growth"),
        st.Page(retention.show, title="Retention", icon=":material/replay:", url_path="retention"),
        st.Page(funnels.show, title="Funnels", icon=":material/filter_alt:", url_path="funnels"),
        st.Page(experiments.show, title="Experiments", icon=":material/science:", url_path="experiments"),
        st.Page(revenue.show, title="Revenue", icon=":material/payments:", url_path="revenue"),
        st.Page(why.show, title="Why did it change", icon=":material/history:", url_path="why"),
        st.Page(health.show, title="Health", icon=":material/monitor_heart:", url_path="health"),
    ]
    st.navigation(pages, position="top").run()


if __name__ == "__main__":
    main()

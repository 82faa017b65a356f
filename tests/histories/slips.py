"""What histories draw: who and which, where a process is killed, and slips of each kind of request."""

from typing import Final

from hypothesis import strategies as st

from .bank import POINTS

_mostly: Final = ("",) * 14
picks: Final = st.integers(0, 63)
several: Final = st.lists(picks, min_size=1, max_size=4)
kills: Final = st.sampled_from(("",) * 18 + POINTS)
hours: Final = st.sampled_from((1, 2, 3, 8, 24, 48, 96))
orders: Final = st.sampled_from((*_mostly, "commission", "late", "stranger", "stale", "odd", "reused", "twice", "many"))
payments: Final = st.sampled_from(
    (*_mostly, "late", "sum", "altered", "spent", "twice", "forged", "stolen", "paid", "thief", "elsewhere", "same_id")
)
exchanges: Final = st.sampled_from(
    (*_mostly, "commission", "late", "sum", "odd", "reused", "twice", "spent", "forged", "stolen", "many", "same_id")
)
redemptions: Final = st.sampled_from(
    (*_mostly, "commission", "late", "stranger", "stale", "twice", "spent", "forged", "stolen")
)
refunds: Final = st.sampled_from(
    (*_mostly, "commission", "late", "sum", "odd", "reused", "again", "garbled", "thief", "late_ticket")
)
entries: Final = st.sampled_from(("", "", "take over", "take over", "wrong", "claim", "claim", "late", "stranger"))
payouts: Final = st.sampled_from((*_mostly, "commission", "late", "thief", "look", "look"))

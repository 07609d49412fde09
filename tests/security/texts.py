"""Hostile text, as strategies: what ends a line, a field or a path, what only looks like something else."""

from hypothesis import settings
from hypothesis import strategies as st

PIECES = [
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\0",
    "\ufeff",
    "\u2028",
    "\u2029",
    "\x85",
    "\x0b",
    "\x1b[2J",
    "id: 9-9",
    "id:9-9\n\n",
    "\nevent: done\n",
    "\ndata: {}\n\n",
    "\nretry: 1\n",
    ": ",
    '"',
    "\\",
    "\\n",
    "</script>",
    "\u202e",
    "\U0001f600",
    "\ufffd",
    "a",
]
hostile_texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=6).map("".join)

ID_PIECES = [
    *("/", "\\", ":", "*", "?", "#", "[", "]", "{", "}", ".", "..", "+", "%", "&", "=", ";", "@", "~", " ", "\t", "\0"),
    *("%2f", "%2F", "%252f", "%00", "%0a", "%2e%2e", "%25", "%7B", "%zz", "%c0%af", "%ff"),
    *("stages", "stream", "feed", "log", "text:", "{a}", "a", "b", "1", "é", "e\u0301", "／", "：", "＊", "ﬁ", "ﬀ"),
    *("\u202e", "\u2066", "\u200b", "\u00ad", "\u061c", "\ufffd", "\ud800", "\udc80", "\r\n", "x" * 127),
]
"""Separators of paths, keys and patterns, as they are and percent-encoded once and twice; look-alikes."""
hostile_ids = st.lists(st.one_of(st.sampled_from(ID_PIECES), st.text(max_size=3)), max_size=5).map("".join)

bounded = settings(deadline=None, max_examples=150, derandomize=True)
"""Always the same examples: a test that fails fails for everybody."""

"""Text for the page: what comes from files must stay text, in markdown and HTML alike."""

from __future__ import annotations

import html

_MARKS = str.maketrans({mark: f"&#{ord(mark)};" for mark in "\\`*_{}[]()#+-.!|~$:<>&\"'/=@"})


def plain(text: str, most: int = 80) -> str:
    """Text as it is in a markdown field: no markup, no tags, one line.

    >>> plain("a<b")
    'a&#60;b'
    """
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    short = words if len(words) <= most else f"{words[: most - 1]}…"
    return short.translate(_MARKS)


def json_in_page(text: str) -> str:
    """JSON as it may stand in a script element.

    >>> json_in_page('"</script>"')
    '"\\\\u003c/script>"'
    """
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def escaped(text: str) -> str:
    """Text in HTML, attributes included."""
    return html.escape(text, quote=True)

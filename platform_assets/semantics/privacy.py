"""Personal data in texts: e-mail addresses hashed, IP addresses truncated.

An e-mail address becomes the SHA-256 (hex) of the lower-case address: equal addresses stay equal, and nothing else is
kept. An IPv4 address keeps its first 24 bits (`203.0.113.7` → `203.0.113.0`), an IPv6 address its first 48. Anything
that reads as an address is one: a version such as `10.0.1.2` is truncated, too.
"""

from __future__ import annotations

import hashlib
import re
from ipaddress import AddressValueError, IPv6Address, IPv6Network
from urllib.parse import unquote

import polars as pl

# Each begins where its run of characters begins: tried from every place in it, long texts would take hours.
_LOCAL = r"[A-Za-z0-9._%+-]"
_EMAIL = re.compile(rf"(?<!{_LOCAL}){_LOCAL}+?(?:@|%40)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{{2,}}")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\d|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:]|\.\d)")
_PRINTABLE = re.compile(r"(?<!\\)((?:\\\\)*)\\u00([2-7][0-9A-Fa-f])")
_ESCAPE = re.compile(r"(\\(?:u[0-9A-Fa-f]{4}|.))", re.DOTALL)
_MAY_HOLD = r"@|%40|\\u|\d\.\d{1,3}\.\d{1,3}\.\d|::|(?:[0-9A-Fa-f]{1,4}:){7}"
"""Texts without a match hold no address. Rust's expressions look for it: most texts are never seen by Python."""


def hashed(email: str) -> str:
    """The hash of an e-mail address."""
    return hashlib.sha256(email.strip().lower().encode()).hexdigest()


def protected(text: str) -> str:
    """A text without plain addresses; protecting it again changes nothing.

    >>> protected("203.0.113.7 asked")
    '203.0.113.0 asked'
    """
    text = _PRINTABLE.sub(_unescaped, text)  # JSON may write any character so
    while True:  # what is left of an address may be one: `a@b.example@c.example`
        # The letter of an escape (`\\n`) belongs to no address.
        parts = _ESCAPE.split(text)
        once = "".join(part if number % 2 else _without_addresses(part) for number, part in enumerate(parts))
        if once == text:
            return text
        text = once


def protected_texts(texts: pl.Series) -> pl.Series:
    """Texts, each `protected`; null stays null."""
    rows = texts.str.contains(_MAY_HOLD).fill_null(value=False).arg_true()
    if rows.is_empty():
        return texts
    return texts.clone().scatter(rows, [protected(text) for text in texts.gather(rows)])


def may_hold_address(column: str) -> pl.Expr:
    """Whether the texts of a column are worth the look of `holds_address`, which finds nothing in the others."""
    return pl.col(column).str.contains(_MAY_HOLD)


def holds_address(texts: pl.Series) -> pl.Series:
    """Whether each of some texts holds a plain address."""
    return (texts != protected_texts(texts)).fill_null(value=False)


def _unescaped(found: re.Match[str]) -> str:
    """An escaped character as it is, where JSON would have it so, too."""
    character = chr(int(found[2], 16))
    return found[0] if character in '"\\\x7f' else found[1] + character


def _without_addresses(text: str) -> str:
    text = _EMAIL.sub(lambda found: hashed(unquote(found[0])), text)
    text = _IPV4.sub(_truncated_v4, text)
    return _IPV6.sub(_truncated_v6, text)


def _truncated_v4(found: re.Match[str]) -> str:
    if any(int(octet) > 255 for octet in found[0].split(".")):
        return found[0]
    return f"{found[0].rpartition('.')[0]}.0"


def _truncated_v6(found: re.Match[str]) -> str:
    try:
        address = IPv6Address(found[0])
    except AddressValueError:
        return found[0]
    return str(IPv6Network((address, 48), strict=False).network_address)

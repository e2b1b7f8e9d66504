"""Addresses that a page may link to."""

from __future__ import annotations

import re

LIMIT = 512  # characters
URL = re.compile(r"https://(?:[a-z0-9-]{1,63}\.)+[a-z0-9-]{2,63}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%!$&()*+,;=:@/?#-]*)?")


def check_url(url: str) -> str:
    """The address itself: https, ASCII host, no user name in it, at most 512 characters. Raises ValueError."""
    if len(url) > LIMIT or not URL.fullmatch(url):
        raise ValueError(f"{ascii(url[:80])} is not a plain https:// address of at most {LIMIT} characters")
    return url

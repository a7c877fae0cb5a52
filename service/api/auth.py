"""Checks the API key, if one is set.

Knows no route; compares in constant time.
"""

import secrets

from fastapi import Request

from service.errors import Unauthorized


class KeyCheck:
    """A dependency that refuses requests without the key.

    Args:
        key: The key, or None to let everyone in.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key.encode() if key else None

    async def __call__(self, request: Request) -> None:
        """Pass or refuse.

        Raises:
            Unauthorized: The bearer token is missing or wrong.
        """
        if self._key is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode("latin-1"), self._key):
            raise Unauthorized("send the API key as 'Authorization: Bearer KEY'")

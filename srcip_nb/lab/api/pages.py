"""Long lists in parts: limit and continue, each part from the same moment.

The rest of a list is kept, as references to object versions, under a number that the continue token names. A token
whose rest is no longer kept is answered 410, and the client lists anew, as with a real server after a compaction.
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict

from srcip_nb.lab.api import status
from srcip_nb.lab.api.history import Version
from srcip_nb.lab.api.objects import JsonObject

KEPT = 32
"""Lists that may be under way at the same time."""

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class Pages:
    """The rests of lists that clients read in parts."""

    def __init__(self) -> None:
        self._rests: OrderedDict[int, tuple[str, int, list[Version]]] = OrderedDict()
        self._next = 1

    def first(
        self, path: str, revision: int, versions: list[Version], limit: int, *, is_selected: bool
    ) -> tuple[list[Version], JsonObject]:
        """The first part of a list and the list's metadata.

        Args:
            path: of the request; the token holds for it alone.
            revision: the resourceVersion of the list.
            versions: the whole list.
            limit: how many at once; 0 for all.
            is_selected: whether selectors chose them; then the remaining ones are not counted for the client.
        """
        metadata: JsonObject = {"resourceVersion": str(revision)}
        if not limit or len(versions) <= limit:
            return versions, metadata
        metadata["continue"] = self._keep(path, revision, versions[limit:])
        if not is_selected:
            metadata["remainingItemCount"] = len(versions) - limit
        return versions[:limit], metadata

    def following(self, path: str, token: str, limit: int) -> tuple[list[Version], JsonObject]:
        """The part after a token, as `first`.

        Raises:
            ApiError: 400 the token is none of this list, 410 its list is no longer kept.
        """
        number = _number_of(token)
        kept = self._rests.get(number)
        if kept is None:
            raise status.gone(_TOO_OLD)
        if kept[0] != path:
            raise status.bad_request("continue key is not valid: it belongs to another list")
        _, revision, versions = kept
        return self.first(path, revision, versions, limit, is_selected=False)

    def _keep(self, path: str, revision: int, versions: list[Version]) -> str:
        number, self._next = self._next, self._next + 1
        self._rests[number] = (path, revision, versions)
        while len(self._rests) > KEPT:
            self._rests.popitem(last=False)
        data = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": number}, separators=(",", ":"))
        return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def _number_of(token: str) -> int:
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        return int(json.loads(data)["start"])
    except (ValueError, KeyError, TypeError):
        raise status.bad_request("continue key is not valid: illegal base64 data or JSON") from None

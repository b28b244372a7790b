"""Which form of an answer a client wants: the Accept header, in a real API server's reading.

    application/json;as=Table;v=v1;g=meta.k8s.io,application/json      a Table, and plain JSON if there is none

The first clause that the server can serve wins, as kubectl's order has it.
"""

from __future__ import annotations

from typing import NamedTuple

from srcip_nb.lab.api import status

JSON = "application/json"
YAML = "application/yaml"
_GROUP = "meta.k8s.io"
_VERSIONS = ("v1", "v1beta1")
_DISCOVERY = "apidiscovery.k8s.io"


class Form(NamedTuple):
    """The form of an answer.

    Attributes:
        media: JSON or YAML.
        kind: "" for the object as it is, else "Table", "PartialObjectMetadata" or "PartialObjectMetadataList".
        version: of that kind, "v1" or "v1beta1".
    """

    media: str = JSON
    kind: str = ""
    version: str = "v1"


def negotiate(accept: str, kinds: tuple[str, ...] = ()) -> Form:
    """The form of an answer.

    Args:
        accept: the header's value, "" for anything.
        kinds: the forms besides the plain one that this answer can take.

    Raises:
        ApiError: 406.
    """
    if not accept.strip():
        return Form()
    for media, parameters in _clauses(accept):
        form = _form(media, parameters, kinds)
        if form:
            return form
    raise status.not_acceptable((JSON, YAML))


def wants_aggregated_discovery(accept: str) -> str:
    """The version of aggregated discovery that a client prefers to the plain one, "v2" or "v2beta1"; "" for plain."""
    for media, parameters in _clauses(accept):
        if media != JSON:
            continue
        if parameters.get("as") != "APIGroupDiscoveryList":
            return ""
        if parameters.get("g") == _DISCOVERY and parameters.get("v") in ("v2", "v2beta1"):
            return parameters["v"]
    return ""


def _form(media: str, parameters: dict[str, str], kinds: tuple[str, ...]) -> Form | None:
    served = {JSON: JSON, YAML: YAML, "*/*": JSON, "application/*": JSON}.get(media)
    if served is None:
        return None
    kind = parameters.get("as", "")
    if not kind:
        return Form(served)
    is_known = kind in kinds and parameters.get("g") == _GROUP and parameters.get("v") in _VERSIONS
    return Form(served, kind, parameters["v"]) if is_known else None


def _clauses(accept: str) -> list[tuple[str, dict[str, str]]]:
    """Media type and parameters of each clause, most wanted first."""
    clauses = []
    for clause in accept.split(","):
        media, *rest = (part.strip() for part in clause.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        if media:
            clauses.append((media.lower(), {key.strip().lower(): value for key, value in parameters.items()}))
    return sorted(clauses, key=lambda clause: -_quality(clause[1].get("q", "1")))


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0

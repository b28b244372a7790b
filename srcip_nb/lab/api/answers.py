"""How answers go out: an object, a list, a Table, a Status, as JSON or YAML, with warnings in the header."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TypeVar

from aiohttp import web

from srcip_nb.lab.api import status
from srcip_nb.lab.api.history import Version
from srcip_nb.lab.api.negotiate import JSON, YAML, Form
from srcip_nb.lab.api.objects import JsonObject, encoded
from srcip_nb.lab.api.options import boolean
from srcip_nb.lab.api.resources import Resource
from srcip_nb.lab.api.tables import as_table, partial_metadata

Answer = TypeVar("Answer", bound=web.StreamResponse)

_DEPRECATED = {"endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"}
_PRETTY_AGENTS = ("curl/", "Wget/", "Mozilla/5.0")


def json_answer(request: web.Request, value: JsonObject, code: int = 200, media: str = JSON) -> web.Response:
    """Any JSON object as an answer."""
    if media == YAML:
        from srcip_nb.lab.api.yamltext import dump_yaml

        return web.Response(text=dump_yaml(value), status=code, content_type=YAML)
    return web.Response(body=encoded(value, pretty=is_pretty(request)), status=code, content_type=JSON)


def status_answer(request: web.Request, error: status.ApiError) -> web.Response:
    """A refusal as its Status."""
    return json_answer(request, error.status, error.code)


def is_pretty(request: web.Request) -> bool:
    """Whether a person reads the answer: ?pretty, or a browser or curl without it."""
    asked = request.query.get("pretty")
    if asked is not None:
        return boolean(asked)
    return request.headers.get("User-Agent", "").startswith(_PRETTY_AGENTS)


def object_answer(
    request: web.Request, resource: Resource, obj: JsonObject, form: Form, code: int = 200, warnings: Iterable[str] = ()
) -> web.Response:
    """One object, in the form asked for."""
    if form.kind == "Table":
        revision = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        shown = as_table(
            resource, [obj], include_object(request), now=time.time(), list_metadata=revision, version=form.version
        )
    elif form.kind == "PartialObjectMetadata":
        shown = partial_metadata(obj, f"meta.k8s.io/{form.version}")
    else:
        shown = obj
    return add_warnings(json_answer(request, shown, code, form.media), resource, warnings)


def list_answer(
    request: web.Request, resource: Resource, versions: list[Version], metadata: JsonObject, form: Form
) -> web.Response:
    """A list of objects, in the form asked for."""
    objects = (version.obj for version in versions)
    if form.kind == "Table":
        shown = as_table(
            resource, objects, include_object(request), now=time.time(), list_metadata=metadata, version=form.version
        )
    elif form.kind == "PartialObjectMetadataList":
        api_version = f"meta.k8s.io/{form.version}"
        items = [partial_metadata(obj, api_version) for obj in objects]
        shown = {"kind": form.kind, "apiVersion": api_version, "metadata": metadata, "items": items}
    elif form.media == JSON and not is_pretty(request):
        body = list_json(resource, versions, metadata)
        return add_warnings(web.Response(body=body, content_type=JSON), resource)
    else:
        items = [{k: v for k, v in obj.items() if k not in ("kind", "apiVersion")} for obj in objects]
        shown = {
            "kind": resource.list_kind,
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": items,
        }
    return add_warnings(json_answer(request, shown, media=form.media), resource)


def list_json(resource: Resource, versions: list[Version], metadata: JsonObject) -> bytes:
    """A list as JSON, joined from the objects' own JSON; its items have no kind and apiVersion, as a real server's."""
    head = encoded({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata})
    skip = len(encoded({"kind": resource.kind, "apiVersion": resource.api_version}))
    items = b",".join(b"{" + version.json[skip:] for version in versions)
    return head[:-1] + b',"items":[' + items + b"]}\n"


def include_object(request: web.Request) -> str:
    """What a Table's rows carry of their objects.

    Raises:
        ApiError: 422.
    """
    asked = request.query.get("includeObject") or "Metadata"
    if asked not in ("None", "Metadata", "Object"):
        cause = status.not_supported("includeObject", asked, ("Metadata", "None", "Object"))
        raise status.invalid("TableOptions", "", [cause], group="meta.k8s.io")
    return asked


def add_warnings(response: Answer, resource: Resource, warnings: Iterable[str] = ()) -> Answer:
    """Put warnings, which kubectl prints, into an answer's header: the given ones and that of a deprecated resource."""
    deprecated = [_DEPRECATED[resource.name]] if resource.name in _DEPRECATED else []
    for text in dict.fromkeys((*deprecated, *warnings)):
        quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response

"""The verbs of the Kubernetes API over HTTP: a request is read here, done by the store, and answered.

    GET     get, list, watch, pods/log, pods/exec   POST    create
    PUT     update                                  PATCH   patch, server-side apply
    DELETE  delete, deletecollection

`Handlers.handle` is the one entry; what a path names is paths.py's business, forms of answers are answers.py's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from srcip_nb.lab.api import bodies, options, status
from srcip_nb.lab.api.answers import add_warnings, json_answer, list_answer, object_answer
from srcip_nb.lab.api.negotiate import negotiate
from srcip_nb.lab.api.objects import JsonObject
from srcip_nb.lab.api.pages import Pages
from srcip_nb.lab.api.paths import Target, parse_path
from srcip_nb.lab.api.podexec import Runs, answer_exec
from srcip_nb.lab.api.podlog_answers import answer_log
from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.api.preconditions import check_identity
from srcip_nb.lab.api.schema import strict_errors, type_error
from srcip_nb.lab.api.store import APPLY, PATCH_TYPES, STRATEGIC_MERGE_PATCH, Store
from srcip_nb.lab.api.unsupported import unsupported
from srcip_nb.lab.api.watching import answer_watch

_OBJECT_FORMS = ("Table", "PartialObjectMetadata")
_LIST_FORMS = ("Table", "PartialObjectMetadataList")

Answering = Callable[[web.Request, Target], Awaitable[web.StreamResponse]]


class Handlers:
    """Answers requests about objects.

    Args:
        store: the objects.
        logs: what the pods wrote.
        bookmark_every: seconds between two bookmarks of a watch.
        runs: who runs programs in pods, for exec.
    """

    def __init__(self, store: Store, logs: PodLogs, bookmark_every: float, runs: Runs | None = None) -> None:
        self.store = store
        self.logs = logs
        self.bookmark_every = bookmark_every
        self.runs = runs
        self._pages = Pages()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer any request below /api and /apis that names objects.

        Raises:
            ApiError: whatever is wrong with it.
        """
        target = parse_path(request.path)
        verb = _verb(request, target)
        if verb not in target.verbs:
            raise status.method_not_allowed()
        answering: dict[str, Answering] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        if target.subresource == "exec":
            response: web.StreamResponse = await answer_exec(
                request, self.store, self.runs, target.namespace, target.name
            )
            return response
        return await answering[verb](request, target)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _get(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.subresource == "log":
            chosen = options.log_options(request.query, target.name)
            return await answer_log(request, self.store, self.logs, target.namespace, target.name, chosen)
        form = negotiate(request.headers.get("Accept", ""), _OBJECT_FORMS)
        self._check_revision(options.revision_of(request.query.get("resourceVersion", "")))
        obj = self.store.get(target.resource.name, target.namespace, target.name, subresource=target.subresource)
        if target.subresource == "scale":
            return json_answer(request, obj, media=form.media)
        return object_answer(request, target.resource, obj, form)

    async def _list(self, request: web.Request, target: Target) -> web.StreamResponse:
        form = negotiate(request.headers.get("Accept", ""), _LIST_FORMS)
        chosen = options.list_options(request.query, is_watch=False)
        if chosen.continue_token:
            if chosen.revision:
                raise status.bad_request("specifying resource version is not allowed when using continue")
            versions, metadata = self._pages.following(request.path, chosen.continue_token, chosen.limit)
            return list_answer(request, target.resource, versions, metadata, form)
        self._check_revision(chosen.revision, exact=chosen.match == "Exact")
        everything = self.store.versions(target.resource.name, target.namespace, chosen.labels, chosen.fields)
        is_selected = bool(chosen.labels or chosen.fields)
        versions, metadata = self._pages.first(
            request.path, self.store.revision, everything, chosen.limit, is_selected=is_selected
        )
        return list_answer(request, target.resource, versions, metadata, form)

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        form = negotiate(request.headers.get("Accept", ""), _OBJECT_FORMS)
        chosen = options.list_options(request.query, is_watch=True)
        return await answer_watch(request, self.store, target, chosen, form, self.bookmark_every)

    def _check_revision(self, revision: int | None, exact: bool = False) -> None:
        """Refuse to read a moment that is still to come, or (exact) one that is past: only the present is kept."""
        if revision and revision > self.store.revision:
            message = f"Too large resource version: {revision}, current: {self.store.revision}"
            cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            details = {"causes": [cause], "retryAfterSeconds": 1}
            raise status.ApiError(status.make_status(504, "Timeout", f"Timeout: {message}", details))
        if exact and revision and revision < self.store.revision:
            raise status.gone(f"The resourceVersion for the provided list is too old: {revision}")

    # -- writing -----------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request, target: Target) -> web.StreamResponse:
        form = negotiate(request.headers.get("Accept", ""), _OBJECT_FORMS)
        chosen = options.write_options(request.query, request.headers.get("User-Agent", ""), "CreateOptions")
        obj, warnings = await self._object_in(request, target, chosen)
        metadata = _metadata_of(obj)
        check_identity(target.resource, obj, target.namespace, metadata.get("name") or "")
        if target.resource.namespaced:
            metadata["namespace"] = target.namespace
        created = self.store.create(target.resource.name, obj, manager=chosen.manager, dry_run=chosen.dry_run)
        warnings += unsupported(target.resource.kind, created)
        return object_answer(request, target.resource, created, form, 201, warnings)

    async def _update(self, request: web.Request, target: Target) -> web.StreamResponse:
        form = negotiate(request.headers.get("Accept", ""), _OBJECT_FORMS)
        chosen = options.write_options(request.query, request.headers.get("User-Agent", ""), "UpdateOptions")
        obj, warnings = await self._object_in(request, target, chosen)
        metadata = _metadata_of(obj)
        if not metadata.get("name"):
            raise status.bad_request(
                f"the name of the object ({target.name} based on URL) was undeterminable: name must be provided"
            )
        check_identity(target.resource, obj, target.namespace, target.name)
        if target.resource.namespaced:
            metadata["namespace"] = target.namespace
        updated = self.store.update(
            target.resource.name,
            obj,
            subresource=target.subresource,
            manager=chosen.manager,
            dry_run=chosen.dry_run,
        )
        if target.subresource == "scale":
            return add_warnings(json_answer(request, updated, media=form.media), target.resource, warnings)
        if not target.subresource:
            warnings += unsupported(target.resource.kind, updated)
        return object_answer(request, target.resource, updated, form, warnings=warnings)

    async def _patch(self, request: web.Request, target: Target) -> web.StreamResponse:
        form = negotiate(request.headers.get("Accept", ""), _OBJECT_FORMS)
        content_type = _content_type(request)
        if content_type not in PATCH_TYPES:
            raise status.unsupported_media_type()
        chosen = options.write_options(request.query, request.headers.get("User-Agent", ""), "PatchOptions")
        options.check_apply(request.query, content_type == APPLY)
        patch, findings = bodies.read_patch(await request.read(), content_type)
        warnings: list[str] = []

        def inspect(patched: JsonObject) -> None:
            found = bodies.Findings([*findings, *strict_errors(patched, target.resource.kind)])
            error = type_error(patched, target.resource.kind)
            shown = _go_shown(patch, content_type, patched)
            if error:
                raise status.invalid_patch(shown, error)
            unique = list(dict.fromkeys(found))
            if unique and chosen.validation == "Strict":
                raise status.invalid_patch(shown, f"strict decoding error: {', '.join(unique)}")
            if chosen.validation == "Warn":
                warnings.extend(unique)

        if content_type == APPLY:
            warnings += self._check_applied(target, patch, findings, chosen.validation)
        existed = self.store.peek(target.resource.name, target.namespace, target.name) is not None
        patched = self.store.patch(
            target.resource.name,
            target.namespace,
            target.name,
            patch,
            content_type,
            subresource=target.subresource,
            manager=chosen.manager,
            force=chosen.force,
            dry_run=chosen.dry_run,
            inspect=inspect,
        )
        if target.subresource == "scale":
            return add_warnings(json_answer(request, patched, media=form.media), target.resource, warnings)
        if not target.subresource:
            warnings += unsupported(target.resource.kind, patched)
        return object_answer(request, target.resource, patched, form, 200 if existed else 201, warnings)

    def _check_applied(self, target: Target, config: object, findings: bodies.Findings, validation: str) -> list[str]:
        """Refuse a configuration that server-side apply cannot take; the warnings about it otherwise."""
        resource = target.resource
        if not isinstance(config, dict):
            raise status.bad_request("error decoding YAML: the configuration is no object")
        given = (config.get("apiVersion"), config.get("kind"))
        if given != (resource.api_version, resource.kind):
            message = (
                f"invalid object type: /{given[0]}, Kind={given[1]}"
                if all(given)
                else "Object 'Kind' is missing in the configuration"
                if not given[1]
                else "Object 'apiVersion' is missing in the configuration"
            )
            raise status.bad_request(message)
        _metadata_of(config)
        return bodies.refuse_or_warn(findings, validation, "error ")

    async def _delete(self, request: web.Request, target: Target) -> web.StreamResponse:
        form = negotiate(request.headers.get("Accept", ""), _OBJECT_FORMS)
        body = bodies.read_options(await request.read(), _content_type(request))
        chosen = options.delete_options(request.query, body)
        resource = target.resource
        deleted = self._delete_one(target, target.namespace, target.name, chosen)
        stays = self.store.peek(resource.name, target.namespace, target.name) is not None and not chosen.dry_run
        if stays or resource.returns_deleted:
            return object_answer(request, resource, deleted, form)
        done = status.success(resource.name, target.name, deleted["metadata"]["uid"], resource.group)
        return add_warnings(json_answer(request, done, media=form.media), resource)

    async def _delete_collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        form = negotiate(request.headers.get("Accept", ""), _LIST_FORMS)
        body = bodies.read_options(await request.read(), _content_type(request))
        chosen = options.delete_options(request.query, body)
        selected = options.list_options(request.query, is_watch=False)
        versions = self.store.versions(target.resource.name, target.namespace, selected.labels, selected.fields)
        for version in versions:
            self._delete_one(target, *version.key, chosen)
        return list_answer(request, target.resource, versions, {"resourceVersion": str(self.store.revision)}, form)

    def _delete_one(self, target: Target, namespace: str, name: str, chosen: options.DeleteOptions) -> JsonObject:
        return self.store.delete(
            target.resource.name,
            namespace,
            name,
            propagation=chosen.propagation,
            grace=chosen.grace,
            dry_run=chosen.dry_run,
            preconditions={"uid": chosen.uid, "resourceVersion": chosen.resource_version},
        )

    async def _object_in(
        self, request: web.Request, target: Target, chosen: options.WriteOptions
    ) -> tuple[JsonObject, list[str]]:
        """The object in a request's body, and the warnings about it."""
        kind = "Scale" if target.subresource == "scale" else ""
        obj, findings = bodies.read_object(await request.read(), _content_type(request), target.resource, kind)
        prefix = bodies.strict_prefix(target.resource, kind)
        return obj, bodies.refuse_or_warn(findings, chosen.validation, prefix)


def _verb(request: web.Request, target: Target) -> str:
    is_watch = options.boolean(request.query.get("watch", ""))
    if request.method in ("GET", "HEAD"):
        if is_watch and not target.subresource:
            return "watch"
        return "get" if target.name else "list"
    if request.method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(request.method, request.method)


def _content_type(request: web.Request) -> str:
    return request.headers.get("Content-Type", "").split(";")[0].strip().lower()


def _metadata_of(obj: JsonObject) -> JsonObject:
    """The object's metadata, made if there is none.

    Raises:
        ApiError: 400, it is no object.
    """
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    if not isinstance(metadata, dict):
        raise status.bad_request("metadata of the object is no map")
    return metadata


def _go_shown(patch: object, content_type: str, patched: JsonObject) -> str:
    """What the error shows: for strategic merge the patch as Go prints a map, else the patched object."""
    if content_type == STRATEGIC_MERGE_PATCH:
        return _go_printed(patch)
    return status.quoted(patched)


def _go_printed(value: object) -> str:
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go_printed(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(_go_printed(item) for item in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)

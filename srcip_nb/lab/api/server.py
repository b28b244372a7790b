"""The lab's Kubernetes API as an aiohttp application: routes, the token, and every error as a Status.

    /api, /apis, ...      discovery and objects (handlers.py)
    /openapi/v2, v3       what kubectl validates against and explains from
    /version, /healthz, /livez, /readyz      for anybody, as on a real cluster

TLS, the socket and further routes are the business of whoever runs the application.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from srcip_nb.lab.api import bodies, discovery, openapi, status
from srcip_nb.lab.api.answers import json_answer, status_answer
from srcip_nb.lab.api.handlers import Handlers
from srcip_nb.lab.api.negotiate import wants_aggregated_discovery
from srcip_nb.lab.api.podexec import Runs
from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.api.resources import GROUP_VERSIONS
from srcip_nb.lab.api.reviews import add_reviews
from srcip_nb.lab.api.store import Store
from srcip_nb.lab.api.streams import OPEN_STREAMS, end_streams
from srcip_nb.lab.api.watching import BOOKMARK_EVERY

_OPEN_TO_ALL = frozenset(("/version", "/healthz", "/livez", "/readyz"))
_V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_EMPTY_V2 = b"\x0a\x032.0"
_LOG = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(
    store: Store,
    token: str,
    logs: PodLogs | None = None,
    *,
    bookmark_every: float = BOOKMARK_EVERY,
    runs: Runs | None = None,
) -> web.Application:
    """The application that serves a store.

    Args:
        store: the objects.
        token: what clients send as `Authorization: Bearer ...`.
        logs: what the pods wrote.
        bookmark_every: seconds between two bookmarks of a watch.
        runs: who runs programs in pods, for exec; without it no container can be entered.
    """
    app = web.Application(middlewares=[_errors, _authorized(token)], client_max_size=bodies.LIMIT)
    app[OPEN_STREAMS] = set()
    app.on_shutdown.append(end_streams)
    handlers = Handlers(store, logs or PodLogs(), bookmark_every, runs)
    _add_discovery(app)
    _add_openapi(app)
    _add_health(app)
    add_reviews(app)
    for root in ("/api", "/apis"):
        app.router.add_route("*", root + "/{rest:.*}", handlers.handle)
    return app


# -- around every request --------------------------------------------------------------------------------------------


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every refusal and every fault with a Status."""
    try:
        return await handler(request)
    except status.ApiError as error:
        return status_answer(request, error)
    except web.HTTPRequestEntityTooLarge:
        return status_answer(request, status.too_large(bodies.LIMIT))
    except web.HTTPNotFound:
        return status_answer(request, status.path_not_found())
    except web.HTTPMethodNotAllowed:
        return status_answer(request, status.method_not_allowed())
    except web.HTTPException:
        raise
    except (ConnectionError, UnicodeEncodeError) as error:
        _LOG.info("%s %s: %s", request.method, request.path, error)
        return status_answer(request, status.internal_error(str(error)))
    except (
        Exception
    ) as error:  # a fault of the server must reach the client as a Status, and the log with its traceback
        _LOG.exception("%s %s", request.method, request.path)
        return status_answer(request, status.internal_error(f"{type(error).__name__}: {error}"))


def _authorized(token: str) -> Middleware:
    wanted = f"Bearer {token}".encode()

    @web.middleware
    async def authorized(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if request.path not in _OPEN_TO_ALL and not hmac.compare_digest(given, wanted):
            raise status.unauthorized()
        return await handler(request)

    return authorized


# -- discovery -------------------------------------------------------------------------------------------------------


def _add_discovery(app: web.Application) -> None:
    def root_of(core: bool) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            version = wants_aggregated_discovery(request.headers.get("Accept", ""))
            if version:
                media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                text = json.dumps(discovery.aggregated(core, version), separators=(",", ":"))
                return web.Response(body=text.encode(), headers={"Content-Type": media, "Vary": "Accept"})
            document = discovery.core_versions(request.host) if core else discovery.group_list()
            return json_answer(request, document)

        return answer

    async def group(request: web.Request) -> web.StreamResponse:
        document = discovery.group(request.match_info["group"])
        if document is None:
            raise status.path_not_found()
        return json_answer(request, document)

    async def resources(request: web.Request) -> web.StreamResponse:
        document = discovery.resource_list(request.match_info.get("group", ""), request.match_info["version"])
        if document is None:
            raise status.path_not_found()
        return json_answer(request, document)

    async def version(request: web.Request) -> web.StreamResponse:
        return json_answer(request, discovery.VERSION)

    for path, core in (("/api", True), ("/apis", False)):
        for slash in ("", "/"):
            app.router.add_get(path + slash, root_of(core))
    app.router.add_get("/api/{version:[^/]+}", resources)
    app.router.add_get("/apis/{group:[^/]+}", group)
    app.router.add_get("/apis/{group:[^/]+}/{version:[^/]+}", resources)
    app.router.add_get("/version", version)


def _add_openapi(app: web.Application) -> None:
    made: dict[str, bytes] = {}

    def cached(key: str, make: Callable[[], object]) -> web.Response:
        """Documents of some 100 kB that never change; made when somebody asks for the first time."""
        if key not in made:
            made[key] = json.dumps(make(), separators=(",", ":")).encode()
        return web.Response(body=made[key], content_type="application/json")

    async def v2(request: web.Request) -> web.StreamResponse:
        if _V2_PROTOBUF in request.headers.get("Accept", ""):
            # kubectl asks for this form alone, and only for kinds that v3 did not name: a document without any kind.
            return web.Response(body=_EMPTY_V2, headers={"Content-Type": _V2_PROTOBUF.replace("@", ".")})
        return cached("v2", openapi.openapi_v2)

    async def v3_index(request: web.Request) -> web.StreamResponse:
        return cached("v3", openapi.openapi_v3_index)

    async def v3(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        served = {
            f"apis/{group}/{version}" if group else f"api/{version}": (group, version)
            for group, version in GROUP_VERSIONS
        }
        if path not in served:
            raise status.path_not_found()
        group, version = served[path]
        return cached(path, lambda: openapi.openapi_v3(f"{group}/{version}" if group else version))

    app.router.add_get("/openapi/v2", v2)
    app.router.add_get("/openapi/v3", v3_index)
    app.router.add_get("/openapi/v3/{path:.+}", v3)


def _add_health(app: web.Application) -> None:
    async def healthy(request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    for path in ("/healthz", "/livez", "/readyz"):
        app.router.add_get(path, healthy)

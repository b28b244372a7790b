"""Who am I, and what may I do: the questions about oneself that every API server answers and keeps nowhere.

    POST selfsubjectreviews         the user behind the token
    POST selfsubjectaccessreviews   may I do this?            kubectl auth can-i list pods
    POST selfsubjectrulesreviews    all that I may do here    kubectl auth can-i --list

Who has the lab's token may do everything, as with --authorization-mode=AlwaysAllow; the answers say so. Their form is
that of a kube-apiserver v1.36.2.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from srcip_nb.lab.api import bodies, status
from srcip_nb.lab.api.answers import json_answer
from srcip_nb.lab.api.objects import JsonObject
from srcip_nb.lab.api.resources import REVIEWS, Resource

USER = {"username": "srcip-lab", "groups": ["system:masters", "system:authenticated"]}
_ANY = ["*"]


def add_reviews(app: web.Application) -> None:
    """The routes of the three reviews."""
    for resource in REVIEWS:
        app.router.add_route("*", f"/apis/{resource.api_version}/{resource.name}", _answering(resource))


def _answering(resource: Resource) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            raise status.method_not_allowed()
        content_type = request.headers.get("Content-Type", "").split(";")[0].strip().lower()
        asked, _ = bodies.read_object(await request.read(), content_type, resource)
        return json_answer(request, review(resource, asked), 201)

    return answer


def review(resource: Resource, asked: JsonObject) -> JsonObject:
    """The answer to a review.

    Raises:
        ApiError: 422 an access review that asks nothing or two things, 400 a rules review without a namespace.
    """
    spec = asked.get("spec") or {}
    found: JsonObject = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}}
    if resource.kind == "SelfSubjectReview":
        return {**found, "status": {"userInfo": USER}}
    if resource.kind == "SelfSubjectAccessReview":
        attributes = [spec.get(name) for name in ("resourceAttributes", "nonResourceAttributes")]
        if sum(value is not None for value in attributes) != 1:
            detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            cause = status.invalid_value("spec.resourceAttributes", attributes[0], detail)
            raise status.invalid("", "", [cause], resource.group)
        return {**found, "spec": spec, "status": {"allowed": True}}
    if not spec.get("namespace"):
        raise status.bad_request("no namespace on request")
    rules = {
        "resourceRules": [{"verbs": _ANY, "apiGroups": _ANY, "resources": _ANY}],
        "nonResourceRules": [{"verbs": _ANY, "nonResourceURLs": _ANY}],
        "incomplete": False,
    }
    return {**found, "spec": {}, "status": rules}

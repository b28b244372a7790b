"""An API server as the contract suite meets it: a kubeconfig, a namespace, and HTTP without a client's help."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from srcip_nb.rest import configuration_of

T = TypeVar("T")
SEED = Path(__file__).parent.parent / "srcip_nb" / "manifests"
RECORDED_NAMESPACE = "seminar"


class Answer(NamedTuple):
    status: int
    content_type: str
    body: Any


class Api:
    """One API server and a namespace of its own in it, in which recorded words stand for it."""

    def __init__(self, kubeconfig: str) -> None:
        from kubernetes.client import ApiClient

        self.client = ApiClient(configuration_of(kubeconfig, None))
        self.namespace = f"contract-{secrets.token_hex(4)}"
        self.path = f"/api/v1/namespaces/{self.namespace}"
        self.apps = f"/apis/apps/v1/namespaces/{self.namespace}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str | None = "application/json",
        accept: str | None = "application/json",
        agent: str = "contract",
    ) -> Answer:
        """One request; the answer's JSON if it is one object, else its text."""
        configuration = self.client.configuration
        headers = {"User-Agent": agent, "Accept": accept or "*/*"}
        login = configuration.auth_settings().get("BearerToken")
        if login and login["value"]:
            headers["Authorization"] = login["value"]
        if body is not None and content_type:
            headers["Content-Type"] = content_type
        data = body if isinstance(body, (str, type(None))) else json.dumps(body)
        response = self.client.rest_client.pool_manager.request(
            method, configuration.host.rstrip("/") + path, body=data, headers=headers, retries=False, timeout=30
        )
        text = response.data.decode()
        kind = response.headers.get("Content-Type", "")
        is_one = kind.startswith("application/json") and "watch=" not in path
        return Answer(response.status, kind.split(";")[0], json.loads(text) if is_one and text else text)

    def ask_recorded(self, request: dict[str, Any], words: dict[str, str]) -> Answer:
        """A recorded request, other words put for some of the recorded ones, there and back."""
        words = {RECORDED_NAMESPACE: self.namespace, **words}
        body = request["body"]
        text = body if isinstance(body, (str, type(None))) else json.dumps(body)
        answer = self.ask(
            request["method"],
            replaced(request["path"], words),
            None if text is None else replaced(text, words),
            content_type=request["content_type"],
            accept=request["accept"],
            agent="Python-urllib/3.11",
        )
        back = {here: there for there, here in words.items()}
        text = replaced(json.dumps(answer.body), back)
        return answer._replace(body=json.loads(text))

    def watch(self, path: str, version: str, seconds: int = 1) -> list[dict[str, Any]]:
        """The events of a watch from a version on, bookmarks left out."""
        text = self.ask("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds={seconds}").body
        return [event for event in map(json.loads, text.splitlines()) if event["type"] != "BOOKMARK"]

    def until(self, look: Callable[[], T], seconds: float = 60) -> T:
        """What a look gives, as soon as it gives something."""
        end = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < end, "it did not come about"
            time.sleep(0.1)
        return found

    def make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.ask("POST", path, body)
        assert answer.status == 201, answer.body
        return answer.body


def replaced(text: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        text = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w])", new, text)
    return text


def shape(value: Any) -> Any:
    """Which fields there are, and of which types: lists by what their items have together."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        merged: Any = {}
        for item in map(shape, value):
            merged = together(merged, item)
        return [merged]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def together(first: Any, second: Any) -> Any:
    """The shape that has what either has."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {**first, **{key: together(first.get(key, {}), item) for key, item in second.items()}}
    if isinstance(first, list) and isinstance(second, list):
        return [together(first[0], second[0])]
    return second


def missing(expected: Any, found: Any, where: str = "") -> list[str]:
    """What the first shape has and the second has not."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return [f"{where}: {found}"]
        gone = [f"{where}.{key}" for key in expected if key not in found]
        return gone + [
            line for key in expected if key in found for line in missing(expected[key], found[key], f"{where}.{key}")
        ]
    if isinstance(expected, list):
        return missing(expected[0], found[0], f"{where}[]") if isinstance(found, list) else [f"{where}: {found}"]
    return [] if expected == found or "NoneType" in (expected, found) else [f"{where}: {found} for {expected}"]


def ready_pods(api: Api) -> list[dict[str, Any]]:
    return [
        pod
        for pod in api.ask("GET", f"{api.path}/pods?labelSelector=app%3Dwebserver").body["items"]
        if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions") or [])
    ]


def put_the_seed_in(api: Api) -> None:
    """The seed's objects in a new namespace of the server's own, two pods of them ready."""
    api.make("/api/v1/namespaces", {"metadata": {"name": api.namespace}})
    for name in ("configmap_html", "deployment", "service"):
        body = yaml.safe_load((SEED / f"{name}.yaml").read_text())
        body["metadata"]["namespace"] = api.namespace
        if body["kind"] == "Deployment":  # the image may have been brought to the nodes by hand
            body["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
        api.make(f"{api.apps if body['kind'] == 'Deployment' else api.path}/{body['kind'].lower()}s", body)
    api.until(lambda: len(ready_pods(api)) == 2)

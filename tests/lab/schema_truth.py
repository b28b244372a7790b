"""What a real API server answered: the recordings in tests/data/schema, each a request and its answer."""

import copy
import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data" / "schema"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def request(name: str) -> Any:
    """The body that was sent; JSON texts are decoded."""
    body = json.loads((DATA / f"{name}.json").read_text())["request"]["body"]
    return json.loads(body) if isinstance(body, str) else body


def answer(name: str) -> Any:
    """The body that came back."""
    return json.loads((DATA / f"{name}.json").read_text())["response"]["body"]


def code(name: str) -> int:
    """The HTTP status that came back."""
    return json.loads((DATA / f"{name}.json").read_text())["response"]["status"]


def applied(obj: Any) -> Any:
    """What `kubectl apply` sent to make this object: its manifest, with the annotation that holds it."""
    text = obj["metadata"]["annotations"][LAST_APPLIED]
    manifest = json.loads(text)
    manifest["metadata"]["annotations"] = {LAST_APPLIED: text}
    return manifest


def timeless(entries: Any) -> Any:
    """managedFields without their times."""
    return [{key: value for key, value in entry.items() if key != "time"} for entry in entries]


def service(**spec: Any) -> Any:
    """A Service "web" of one port, as a client sends it, with these fields of its spec."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "seminar"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}, **copy.deepcopy(spec)},
    }


def pod(**spec: Any) -> Any:
    """A Pod "web" of one nginx container, as a client sends it, with these fields of its spec."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "seminar"},
        "spec": {"containers": [{"name": "nginx", "image": "nginx"}], **copy.deepcopy(spec)},
    }


def deployment(**spec: Any) -> Any:
    """A Deployment "web" whose selector matches its template, with these fields of its spec."""
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": pod()["spec"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "seminar"},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **copy.deepcopy(spec)},
    }

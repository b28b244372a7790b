"""The kubeconfig of a lab: how kubectl and every other client finds its API."""

from __future__ import annotations

import base64
import json
from typing import Any

EXTENSION = "srcip-nb.lab"


def kubeconfig(name: str, url: str, ca_pem: bytes, token: str) -> dict[str, Any]:
    """The kubeconfig of lab ``name`` as an object.

    The context's extension says that it is a lab: that is how a client learns where requests can start.
    """
    context = f"srcip-lab-{name}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": context,
                "cluster": {"server": url, "certificate-authority-data": base64.b64encode(ca_pem).decode()},
            }
        ],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [
            {
                "name": context,
                "context": {
                    "cluster": context,
                    "user": context,
                    "extensions": [{"name": EXTENSION, "extension": {"lab": name}}],
                },
            }
        ],
        "current-context": context,
    }


def kubeconfig_text(config: dict[str, Any]) -> str:
    """The kubeconfig as the file holds it (JSON is YAML)."""
    return json.dumps(config, indent=2) + "\n"

"""`srcip-nb render-rules`: what a node would load for the objects in some files.

As generated, or loaded into an empty network namespace of its own and read back: what the kernel took it for. Both in
the form of iptables-save, or of `nft -s list ruleset`, sorted alike, so that they can be held against each other,
against another node's, or against what a real node prints.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from srcip_nb.errors import LabError, ManifestError, UsageError
from srcip_nb.lab.agent import nfacct
from srcip_nb.lab.proxy import nfttable, ruleset
from srcip_nb.lab.proxy.iptables import CLUSTER_CIDR, NFACCT_COUNTERS, Features, iptables_rules
from srcip_nb.lab.proxy.ipvs import ipvs_text
from srcip_nb.lab.proxy.model import Node
from srcip_nb.lab.proxy.nftables import TABLE_IPV6, nftables_rules
from srcip_nb.lab.topology import MAX_WORKERS, topology

KINDS = ("Node", "Service", "EndpointSlice")
"""What rules are made from; Services need their clusterIP and status: as `kubectl get -o yaml` prints them."""

_TABLES = ("mangle", "filter", "nat")
_NO_NFACCT = 70
_LOAD_IPTABLES = """
if [ -n "$3" ]; then
    "$1" -I -S "$2" $3
    case $? in 0) ;; 1) exit 70 ;; *) exit 71 ;; esac
fi
"$4" && "$5"
"""
_LOAD_NFTABLES = '"$1" -f - && "$1" -s list ruleset'

Objects = dict[str, list[dict[str, Any]]]
"""Objects by kind."""


def _note(text: str) -> None:
    print(f"srcip-nb: {text}", file=sys.stderr)


def read_objects(files: Iterable[str | os.PathLike[str]]) -> Objects:
    """Read YAML or JSON files, of several documents or Lists, into objects by kind.

    What no rule is made from is left out, and said so on standard error.

    Raises:
        UsageError: a file cannot be read.
        ManifestError: a file is not YAML, or a document in it is no Kubernetes object.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: Objects = {kind: [] for kind in KINDS}
    ignored: set[str] = set()

    def take(document: Any, file: str) -> None:
        if document is None:
            return
        metadata = document.get("metadata") if isinstance(document, Mapping) else None
        if isinstance(document, Mapping) and isinstance(document.get("items"), list):
            for item in document["items"]:
                take(item, file)
        elif not isinstance(document, Mapping) or "kind" not in document:
            raise ManifestError(f"{file}: a document is no Kubernetes object: it has no kind")
        elif document["kind"] not in found:
            ignored.add(str(document["kind"]))
        elif not isinstance(metadata, Mapping) or not metadata.get("name"):
            raise ManifestError(f"{file}: a {document['kind']} has no metadata.name")
        else:
            found[document["kind"]].append(dict(document))

    for file in map(str, files):
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        try:
            for document in yaml.load_all(text, loader):
                take(document, file)
        except yaml.YAMLError as error:
            raise ManifestError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if ignored:
        _note(f"no rule is made from {', '.join(sorted(ignored))}: left out (read: {', '.join(KINDS)})")
    return found


def _check_node(node: str, nodes: Sequence[Mapping[str, Any]]) -> None:
    names = [entry["metadata"]["name"] for entry in nodes]
    if names and node not in names:
        raise UsageError(f"there is no Node {node!r} in these files", f"take one of {', '.join(names)}")


def _not_proxied(services: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        f"{service['metadata'].get('namespace') or 'default'}/{service['metadata']['name']}"
        for service in services
        if not (service.get("spec") or {}).get("clusterIP")
        and (service.get("spec") or {}).get("type") != "ExternalName"
    ]


def _tool(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise LabError(f"{name} is not installed", f"apt-get install {package}")
    return found


def _in_empty_namespace(script: str, *arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a new network namespace, with text as its input; the namespace goes with the child."""
    unshare = _tool("unshare", "util-linux")
    with tempfile.TemporaryDirectory(prefix="srcip-nb-") as folder:
        environment = {**os.environ, "XTABLES_LOCKFILE": f"{folder}/xtables.lock"}
        # One after the other: who makes both at once has a network namespace of a root that is not mapped yet.
        for make in ([unshare, "--net"], [unshare, "--user", "--map-root-user", unshare, "--net"]):
            result = subprocess.run(
                [*make, "/bin/sh", "-c", script, "load", *arguments],
                input=text,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if not result.stderr.startswith("unshare:"):
                return result
    raise LabError(
        f"no network namespace can be made: {result.stderr.strip()}",
        "run it as root, or leave out --loaded to see the rules",
    )


def _printed(result: subprocess.CompletedProcess[str]) -> str:
    if result.returncode:
        message = " ".join(result.stderr.split()) or f"exit code {result.returncode}"
        raise LabError(f"the kernel did not take the rules: {message}", "leave out --loaded to see them as generated")
    return result.stdout


def _iptables(objects: Objects, node: str, cluster_cidr: str, loaded: bool) -> str:
    services, slices, nodes = objects["Service"], objects["EndpointSlice"], objects["Node"]

    def text(features: Features) -> str:
        return iptables_rules(services, slices, nodes, node, cluster_cidr=cluster_cidr, features=features)

    def load(counters: Sequence[str], rules: str) -> subprocess.CompletedProcess[str]:
        restore = _tool("iptables-legacy-restore", "iptables")
        save = _tool("iptables-legacy-save", "iptables")
        arguments = (sys.executable, nfacct.__file__, " ".join(counters), restore, save)
        return _in_empty_namespace(_LOAD_IPTABLES, *arguments, text=rules)

    if not loaded:
        return text(Features())
    result = load(NFACCT_COUNTERS, text(Features()))
    if result.returncode == _NO_NFACCT:
        _note(
            "this kernel has no nfacct: the rules are loaded without the counters that kube-proxy names in two of them"
        )
        result = load((), text(Features(nfacct=False)))
    kept = ruleset.from_text(_printed(result))
    return ruleset.as_text({table: kept[table] for table in _TABLES if table in kept})


def _nftables(objects: Objects, node: str, cluster_cidr: str, loaded: bool) -> str:
    services, slices, nodes = objects["Service"], objects["EndpointSlice"], objects["Node"]
    if not loaded:
        return nftables_rules(services, slices, nodes, node, cluster_cidr)
    text = nftables_rules(services, slices, nodes, node, cluster_cidr, as_listed=False)
    nft = _tool("nft", "nftables")
    result = _in_empty_namespace(_LOAD_NFTABLES, nft, text=text)
    if result.returncode:
        _note("this kernel did not take both tables: the one for IPv6 is left out")
        result = _in_empty_namespace(_LOAD_NFTABLES, nft, text=text.partition(f"table {TABLE_IPV6} {{")[0])
    return nfttable.as_text(nfttable.from_text(_printed(result)))


def _tunnel_addresses(node: Node) -> list[str]:
    """The address in the pod network, of a node that is one of the lab's: node ports are open there too."""
    host = next((host for host in topology(workers=MAX_WORKERS).hosts if host.name == node.name), None)
    is_labs = host is not None and host.address == node.address
    return [host.tunnel_address] if host is not None and is_labs and host.tunnel_address else []


def _ipvs(objects: Objects, node: str, cluster_cidr: str, loaded: bool) -> str:
    known = {entry["metadata"]["name"]: Node.from_object(entry) for entry in objects["Node"]}
    this = known.get(node) or Node(node, "127.0.0.1")
    if loaded:
        _note("ipvs: as generated; virtual servers are the kernel's own, and reading them back would show the same")
    addresses = [this.address, *_tunnel_addresses(this)]
    return ipvs_text(objects["Service"], objects["EndpointSlice"], this, addresses, cluster_cidr)


MODES: dict[str, Callable[[Objects, str, str, bool], str]] = {
    "iptables": _iptables,
    "nftables": _nftables,
    "ipvs": _ipvs,
}
"""Proxy modes that can be rendered: objects, node, cluster CIDR, loaded -> text."""


def render_rules(
    mode: str,
    node: str,
    files: Iterable[str | os.PathLike[str]],
    loaded: bool = False,
    cluster_cidr: str = CLUSTER_CIDR,
) -> str:
    """Write the rules of one node for the Nodes, Services and EndpointSlices in some files.

    Args:
        mode: proxy mode: "iptables" or "nftables".
        node: name of the Node that the rules are for.
        files: YAML or JSON, of several documents or Lists.
        loaded: load them into an empty network namespace and print what the kernel made of them.
        cluster_cidr: the pods' addresses, as kube-proxy's --cluster-cidr.

    Returns:
        The form of iptables-save without counters (tables mangle, filter, nat; the kernel's chains first, then by
        name), or of `nft -s list ruleset` (elements of sets and maps in order; what belongs to Services by their name).

    Raises:
        UsageError: unknown mode or node; a file that cannot be read.
        ManifestError: a file that is no YAML or holds something else than Kubernetes objects.
        LabError: loaded, and no namespace can be made, a tool is missing, or the kernel refused the rules.
    """
    if mode not in MODES:
        raise UsageError(f"there is no proxy mode {mode!r}", f"take one of {', '.join(MODES)}")
    objects = read_objects(files)
    _check_node(node, objects["Node"])
    for service in _not_proxied(objects["Service"]):
        _note(f"Service {service} has no clusterIP yet, so no rules (`kubectl get service -o yaml` shows it with one)")

    return MODES[mode](objects, node, cluster_cidr, loaded)

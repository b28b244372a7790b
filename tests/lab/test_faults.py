"""What breaks while requests run: pods, nodes, updates, rules, and policies that change faster than anybody wants.

A request tells by its own answer who served it ("10.0.5.1 192.168.1.122": the pod's address, and whose address it saw),
so a pod that is gone by the end of a test is counted all the same. Nothing here is asserted of a single moment: where a
request may be lost, the test says how many and with which error.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from srcip_nb.lab import Lab
from srcip_nb.lab.controllers.proxy import LOOK_AFTER
from srcip_nb.lab.proxy import nfttable
from srcip_nb.lab.proxy.render import render_rules
from srcip_nb.lab.proxy.ruleset import Ruleset, as_text, from_text, ours
from tests.conftest import kubectl

pytestmark = pytest.mark.lab

VIP = "192.168.1.56"
CLIENT = "192.168.1.122"
FLIPS = int(os.environ.get("SRCIP_FLIPS", "500"))
NODES = ("master01", "worker01", "worker02")
TIMEOUT = 1.0
"""Seconds that a request may take: as long as TCP waits before it sends a lost first packet again."""

MANIFEST = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data:
  default.conf: 'server { listen 80; location / { return 200 "$server_addr $remote_addr "; } }'
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: nginx
        image: nginx
        volumeMounts: [{name: conf, mountPath: /etc/nginx/conf.d}]
      volumes: [{name: conf, configMap: {name: conf}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Lab]:
    with Lab(name="tests-faults") as lab:
        kubectl(lab, "apply", "-f", "-", stdin=MANIFEST)
        yield lab


@pytest.fixture
def lab(running) -> Lab:
    """Two pods that are ready, policy Cluster, mode iptables, and nothing that an earlier test left behind."""
    running.proxy_mode("iptables")
    kubectl(running, "apply", "-f", "-", stdin=MANIFEST)
    kubectl(running, "rollout", "status", "deployment/web", "--timeout=20s")
    set_policy(running, "Cluster")
    for node in NODES:
        # Connections that a dead pod never answered are remembered for two minutes; a client's port that comes round
        # again in that time would still be led there.
        running.client.exec(node, ["conntrack", "-F"])
    until(lambda: len(pods(running, and_leaving=True)) == 2, "two pods, and none of before")
    until(lambda: visit(running, 1)[0]["status"] == 200, "an answer")
    return running


# -- what the tests do -------------------------------------------------------------------------------------------------


def until(is_so: Callable[[], bool], what: str, within: float = 15.0) -> float:
    """Wait until something is so; the seconds it took."""
    begun = time.monotonic()
    while not is_so():
        if time.monotonic() - begun > within:
            raise AssertionError(f"not within {within:g} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - begun


class Api:
    """The lab's API over one connection: a patch takes a millisecond, where kubectl takes a hundred."""

    def __init__(self, lab: Lab) -> None:
        client = lab.client
        address = urlsplit(client.url)
        self._connection = http.client.HTTPSConnection(
            address.hostname, address.port, timeout=10, context=client.ssl_context
        )
        self._headers = {
            "Authorization": f"Bearer {client.token}",
            "Content-Type": "application/strategic-merge-patch+json",
        }

    def __call__(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        answer = self._connection.getresponse()
        told = json.loads(answer.read())
        assert answer.status < 300, told
        return told


@contextlib.contextmanager
def api(lab: Lab) -> Iterator[Api]:
    it = Api(lab)
    try:
        yield it
    finally:
        it._connection.close()


OF_WEB = "kubernetes.io%2Fservice-name%3Dweb"
SERVICE = "/api/v1/namespaces/default/services/web"


def in_force(lab: Lab, it: Api, revision: str) -> None:
    """Return when every node has the rules for a resourceVersion."""
    until(lambda: it("GET", "/lab/v1/proxy-mode")["resourceVersion"] >= int(revision), f"rules for {revision}")


def set_policy(lab: Lab, policy: str) -> None:
    with api(lab) as it:
        patched = it("PATCH", SERVICE, {"spec": {"externalTrafficPolicy": policy}})
        in_force(lab, it, patched["metadata"]["resourceVersion"])


def pods(lab: Lab, and_leaving: bool = False) -> dict[str, dict[str, Any]]:
    """The pods by name; those on their way out are left aside, or not."""
    with api(lab) as it:
        items = it("GET", "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb")["items"]
    return {pod["metadata"]["name"]: pod for pod in items if and_leaving or "deletionTimestamp" not in pod["metadata"]}


def visit(lab: Lab, n: int, rate: float | None = None, url: str = f"http://{VIP}/", timeout: float = TIMEOUT) -> list:
    requests = [{"id": i, "url": url} for i in range(n)]
    return list(lab.client.visit("client", requests, concurrency=32, timeout=timeout, rate=rate))


class Load:
    """Requests that run while something else happens."""

    def __init__(self, lab: Lab, n: int, rate: float, url: str = f"http://{VIP}/") -> None:
        self.results: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._run, args=(lab, n, rate, url))

    def _run(self, lab: Lab, n: int, rate: float, url: str) -> None:
        requests = [{"id": i, "url": url} for i in range(n)]
        for result in lab.client.visit("client", requests, concurrency=64, timeout=TIMEOUT, rate=rate):
            self.results.append(result)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    @property
    def errors(self) -> Counter[str]:
        """How many were lost, by the kind of error."""
        return Counter(r["error"] or str(r["status"]) for r in self.results if r["status"] != 200)

    @property
    def answered(self) -> float:
        return sum(r["status"] == 200 for r in self.results) / len(self.results)

    @property
    def seen(self) -> Counter[tuple[str, str]]:
        """How many requests each pod answered and whose address it saw: (pod's address, source address)."""
        return seen(self.results)


def seen(results: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    return Counter(tuple(r["body"].split()[:2]) for r in results if r["status"] == 200)


def addresses(lab: Lab) -> set[str]:
    """The pods' addresses, those on their way out left aside."""
    return {pod["status"].get("podIP", "") for pod in pods(lab).values()}


class Leaving:
    """When pods leave, from a watch: address -> [deletion begun, gone], ns since the epoch."""

    def __init__(self, lab: Lab) -> None:
        self.times: dict[str, list[int]] = {}
        client = lab.client
        address = urlsplit(client.url)
        self._connection = http.client.HTTPSConnection(
            address.hostname, address.port, timeout=30, context=client.ssl_context
        )
        headers = {"Authorization": f"Bearer {client.token}"}
        path = "/api/v1/namespaces/default/pods?watch=1&labelSelector=app%3Dweb&timeoutSeconds=20"
        self._connection.request("GET", path, headers=headers)
        self._answer = self._connection.getresponse()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        for line in self._answer:
            told = json.loads(line)
            if told["type"] == "BOOKMARK":
                continue
            pod = told["object"]
            if "deletionTimestamp" in pod["metadata"] and pod["status"].get("podIP"):
                times = self.times.setdefault(pod["status"]["podIP"], [time.time_ns(), 1 << 63])
                if told["type"] == "DELETED":
                    times[1] = time.time_ns()
                    if all(end < 1 << 63 for _, end in self.times.values()) and len(self.times) == 2:
                        return

    def __enter__(self) -> Leaving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        self._connection.close()

    def pods_of(self, results: list[dict[str, Any]], slack: float) -> Counter[tuple[str, str]]:
        """Lost requests by (the pod that was leaving when they were sent, "" if none was; kind of error)."""
        found: Counter[tuple[str, str]] = Counter()
        for result in results:
            if result["status"] != 200:
                at, more = result["sent_at"], slack * 1e9
                near = {
                    ip: abs(at - gone) for ip, (begun, gone) in self.times.items() if begun - more < at < gone + more
                }
                found[min(near, key=near.__getitem__, default=""), result["error"]] += 1
        return found


# -- pods that die -----------------------------------------------------------------------------------------------------


def kill_nginx(lab: Lab, pod: str, node: str) -> None:
    """Kill -9 of nginx's first process, from the node: inside its container the kernel keeps it from that."""
    space = lab.client.exec(pod, ["readlink", "/proc/self/ns/net"]).stdout.strip()
    script = """for pid in $(pgrep -f 'nginx: master'); do
        [ "$(readlink /proc/$pid/ns/net)" = "$0" ] && kill -9 $pid && exit 0
    done; exit 1"""
    assert lab.client.exec(node, ["sh", "-c", script, space]).code == 0


def container_of(lab: Lab, pod: str) -> dict[str, Any]:
    return pods(lab)[pod]["status"]["containerStatuses"][0]


def test_nginx_killed_while_it_answers(lab):
    name, pod = next(iter(pods(lab).items()))
    with Load(lab, 600, 300) as load:
        until(lambda: len(load.results) > 100, "load")
        kill_nginx(lab, name, pod["spec"]["nodeName"])
        until(lambda: container_of(lab, name)["restartCount"] > 0 and container_of(lab, name)["ready"], "a restart")
    assert container_of(lab, name)["lastState"]["terminated"]["exitCode"] == 137
    # Half of the requests are that pod's; it is away for the restart and for what the rules take to know of it.
    assert load.answered >= 0.85 and load.errors.keys() <= {"refused", "reset", "closed"}, load.errors
    assert {ip for ip, _ in seen(visit(lab, 100))} == addresses(lab)


def test_a_worker_process_killed_by_exec(lab):
    name = next(iter(pods(lab)))
    restarts = container_of(lab, name)["restartCount"]
    with Load(lab, 400, 300) as load:
        until(lambda: len(load.results) > 100, "load")
        # The container's own processes are all that this can see; its first one starts another worker.
        lab.client.exec(name, ["sh", "-c", "kill -9 $(pgrep -f 'nginx: worker')"])
    assert container_of(lab, name)["restartCount"] == restarts
    assert load.answered >= 0.95, load.errors
    assert {ip for ip, _ in seen(visit(lab, 100))} == addresses(lab)


def test_a_pod_deleted_without_grace(lab):
    gone, before = next(iter(pods(lab))), addresses(lab)
    with Load(lab, 600, 300) as load:
        until(lambda: len(load.results) > 100, "load")
        with api(lab) as it:
            it("DELETE", f"/api/v1/namespaces/default/pods/{gone}?gracePeriodSeconds=0")
    until(lambda: len(addresses(lab)) == 2, "another pod")
    assert load.answered >= 0.95 and load.errors.keys() <= {"refused", "reset", "closed", "timeout"}, load.errors
    kubectl(lab, "rollout", "status", "deployment/web", "--timeout=20s")
    assert addresses(lab) != before
    until(lambda: {ip for ip, _ in seen(visit(lab, 50))} == addresses(lab), "both pods answer")


@pytest.mark.parametrize("node", ["worker01", "worker02"])
def test_a_node_cut_off_and_back(lab, node):
    """worker01 announces the address, so with it everything is cut off; with worker02 its pod."""
    routes = lab.client.exec(node, ["ip", "route"]).stdout
    with Load(lab, 600, 300) as load:
        until(lambda: len(load.results) > 100, "load")
        begun = time.time_ns()
        try:
            assert lab.client.exec(node, ["ip", "link", "set", "eth0", "down"]).code == 0
            down = time.time_ns()
            until(lambda: bool(load.errors), "lost requests")
        finally:
            up = time.time_ns()
            assert lab.client.exec(node, ["ip", "link", "set", "eth0", "up"]).code == 0
    lost = [r["sent_at"] for r in load.results if r["status"] != 200]
    assert load.errors.keys() <= {"timeout", "unreachable"}, load.errors
    # A request that was under way is lost too; for a neighbour that was asked for in vain, others wait up to 3 s.
    assert begun - 1e9 <= min(lost) and max(lost) <= up + 3e9
    while_down = [r for r in load.results if down < r["sent_at"] < up - 0.1e9]
    answered = seen(while_down)
    assert while_down and (
        not answered if node == "worker01" else {source for _, source in answered} == {"192.168.1.45"}
    )
    until(lambda: lab.client.exec(node, ["ip", "route"]).stdout == routes, "its routes")
    # A pod that starts now asks its node for the gateway, and the node has to answer.
    kubectl(lab, "rollout", "restart", "deployment/web")
    kubectl(lab, "rollout", "status", "deployment/web", "--timeout=20s")
    until(lambda: {ip for ip, _ in seen(visit(lab, 50))} == addresses(lab), "both new pods answer")
    assert lab.client.exec(node, ["curl", "-sk", "-m", "2", f"http://{cluster_ip(lab)}/"]).code == 0


def cluster_ip(lab: Lab) -> str:
    with api(lab) as it:
        return it("GET", SERVICE)["spec"]["clusterIP"]


# -- pods that go ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_a_rolling_update_loses_few_requests(lab, policy):
    """A pod that goes stops at once, the nodes' rules name it for a moment more: that is where the rest goes."""
    set_policy(lab, policy)
    before = addresses(lab)
    with Leaving(lab) as leaving, Load(lab, 900, 300) as load:
        until(lambda: len(load.results) > 50, "load")
        kubectl(lab, "rollout", "restart", "deployment/web")
        kubectl(lab, "rollout", "status", "deployment/web", "--timeout=20s")
    told = leaving.pods_of(load.results, slack=1.0)
    print(f"{policy}: {load.answered:.2%} answered, lost: {dict(told)}")
    assert load.answered >= 0.95, told
    assert load.errors.keys() <= {"refused", "reset", "closed", "timeout", "unreachable"}, load.errors
    # Tolerance: within a second of the time in which a pod of before was leaving; on a busy machine a few are later.
    assert {ip for ip, _ in told if ip} <= before == leaving.times.keys(), (told, leaving.times)
    assert sum(count for (ip, _), count in told.items() if not ip) <= 0.005 * len(load.results), told
    sources = {source for _, source in load.seen}
    assert sources == {CLIENT} if policy == "Local" else CLIENT not in sources, load.seen


def with_pre_stop(seconds: int) -> str:
    hook = f"{{preStop: {{exec: {{command: [sleep, '{seconds}']}}}}}}"
    return MANIFEST.replace("image: nginx\n", f"image: nginx\n        lifecycle: {hook}\n")


@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_a_rolling_update_of_pods_that_wait_loses_next_to_nothing(lab, policy):
    """With a preStop hook the rules forget a pod before it stops."""
    kubectl(lab, "apply", "-f", "-", stdin=with_pre_stop(1))
    kubectl(lab, "rollout", "status", "deployment/web", "--timeout=20s")
    set_policy(lab, policy)
    until(lambda: len(pods(lab, and_leaving=True)) == 2, "two pods, and none of before")
    with Load(lab, 900, 300) as load:
        until(lambda: len(load.results) > 50, "load")
        kubectl(lab, "rollout", "restart", "deployment/web")
        kubectl(lab, "rollout", "status", "deployment/web", "--timeout=20s")
    print(f"{policy}: {load.answered:.2%} answered, lost: {dict(load.errors)}")
    assert load.answered >= 0.99, load.errors


def test_endpoints_that_are_all_terminating_still_serve(lab):
    kubectl(lab, "apply", "-f", "-", stdin=with_pre_stop(3))
    kubectl(lab, "rollout", "status", "deployment/web", "--timeout=20s")
    set_policy(lab, "Local")
    until(lambda: len(pods(lab, and_leaving=True)) == 2, "two pods, and none of before")
    with api(lab) as it:
        port = it("GET", SERVICE)["spec"]["healthCheckNodePort"]
        health = ["curl", "-s", "-w", " %{http_code}", f"http://192.168.1.45:{port}/"]
        until(lambda: lab.client.exec("client", health).stdout.endswith(" 200"), "a healthy node")
        last = addresses(lab)
        it("PATCH", "/apis/apps/v1/namespaces/default/deployments/web", {"spec": {"replicas": 0}})
        until(lambda: not pods(lab), "no pod that stays", 3)
        until(lambda: lab.client.exec("client", health).stdout.endswith(" 503"), "a node not to be used", 3)
        results = visit(lab, 100)
        slices = it("GET", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=" + OF_WEB)[
            "items"
        ]
        conditions = [e["conditions"] for s in slices for e in s.get("endpoints") or []]
        assert conditions == [{"ready": False, "serving": True, "terminating": True}] * len(conditions) != []
        assert '"localEndpoints": 0' in lab.client.exec("client", health).stdout
        assert {(r["status"], r["error"]) for r in results} == {(200, "")}
        assert {source for _, source in seen(results)} == {CLIENT} and {ip for ip, _ in seen(results)} <= last
        until(lambda: visit(lab, 1, timeout=0.3)[0]["status"] != 200, "nobody answers any more")


# -- rules -------------------------------------------------------------------------------------------------------------


def present_rules(lab: Lab, mode: str, node: str) -> str:
    if mode == "nftables":
        return nfttable.as_text(nfttable.from_text(lab.client.exec(node, ["nft", "-s", "list", "ruleset"]).stdout))
    return in_order(ours(from_text(lab.client.exec(node, ["iptables-legacy-save"]).stdout)))


def in_order(rules: Ruleset) -> str:
    return as_text({table: rules[table] for table in sorted(rules)})


def fresh_rules(lab: Lab, mode: str, node: str, directory: Path) -> str:
    """What a node without a past would load for the API's objects."""
    file = directory / "objects.json"
    file.write_text(kubectl(lab, "get", "nodes,services,endpointslices", "-A", "-o", "json").stdout)
    text = render_rules(mode, node, [file], loaded=True)
    return text if mode == "nftables" else in_order(from_text(text))


WIPES = {"iptables": ["iptables-legacy", "-t", "nat", "-F"], "nftables": ["nft", "flush", "ruleset"]}


def pod_network_rules(lab: Lab) -> list[str]:
    rules = lab.client.exec("worker01", ["iptables-legacy", "-t", "nat", "-S"]).stdout.splitlines()
    return [rule for rule in rules if rule.startswith("-A") and "cali-nat-outgoing" in rule]


@pytest.mark.parametrize("mode", WIPES)
def test_rules_wiped_by_hand_come_back(lab, mode, tmp_path):
    """kube-proxy's, and the pod network's own masquerading in the same table."""
    lab.proxy_mode(mode)
    wanted = fresh_rules(lab, mode, "worker01", tmp_path)
    until(lambda: present_rules(lab, mode, "worker01") == wanted, "the rules before")
    masquerading = pod_network_rules(lab)
    assert len(masquerading) == 2
    assert lab.client.exec("worker01", WIPES[mode]).code == 0
    assert (pod_network_rules(lab) == masquerading) == (mode == "nftables")
    assert present_rules(lab, mode, "worker01") != wanted
    until(lambda: present_rules(lab, mode, "worker01") == wanted, "the rules come back", 3 * LOOK_AFTER)
    until(lambda: pod_network_rules(lab) == masquerading, "the masquerading comes back", 3 * LOOK_AFTER)
    assert {r["status"] for r in visit(lab, 50)} == {200}


@pytest.mark.parametrize("mode", WIPES)
def test_policies_that_change_fast(lab, mode, tmp_path):
    """Both policies are in force everywhere all the time in turn, nobody is refused, and nothing of before is left."""
    lab.proxy_mode(mode)
    begun = time.monotonic()
    with Load(lab, 1000, 300) as load, api(lab) as it:
        for flip in range(FLIPS):
            policy = ("Local", "Cluster")[flip % 2]
            revision = it("PATCH", SERVICE, {"spec": {"externalTrafficPolicy": policy}})["metadata"]["resourceVersion"]
            if flip % 10 == 0:  # most changes come in a burst; some are waited for
                in_force(lab, it, revision)
        took = time.monotonic() - begun
        in_force(lab, it, revision)
    print(f"{mode}: {FLIPS} flips in {took:.1f} s, {load.answered:.2%} answered, lost: {dict(load.errors)}")
    # Tolerance: one in a hundred, for a machine that is too busy to answer within a second.
    assert load.answered >= 0.99, load.errors
    for policy in ("Local", "Cluster"):
        set_policy(lab, policy)
        sources = {source for _, source in seen(visit(lab, 200))}
        assert sources == ({CLIENT} if policy == "Local" else {"192.168.1.45", "10.0.5.0"})
        for node in NODES:
            assert present_rules(lab, mode, node) == fresh_rules(lab, mode, node, tmp_path), (policy, node)

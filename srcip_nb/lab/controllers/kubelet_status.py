"""A pod's status: from its spec and what the kubelet has seen of its containers, without reading anything.

Source: kubernetes v1.36.2 pkg/kubelet/kubelet_pods.go (getPhase) and pkg/kubelet/status/generate.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from srcip_nb.lab.controllers.objects import Object, condition_of


@dataclass
class ContainerView:
    """What is known of one container.

    Attributes:
        name: in the pod's spec.
        image: as the status shows it.
        image_id: "" until the image is there.
        state: {"waiting": ...}, {"running": ...} or {"terminated": ...}.
        last_state: the end of the start before, {} at the first start.
        id: of the present start ("lab://..."), "" before the first.
        restarts: how often it was started again.
        started: whether it runs and its startup probe, if any, has succeeded.
        ready: whether it may be sent requests.
    """

    name: str
    image: str
    image_id: str = ""
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Object = field(default_factory=dict)
    id: str = ""
    restarts: int = 0
    started: bool = False
    ready: bool = False


@dataclass
class PodView:
    """What is known of one pod on its node.

    Attributes:
        host_ip: the node's address.
        start_time: when the node took it on.
        pod_ip: its address, "" until it has one.
        has_network: whether its namespaces and address are there.
        containers: in the spec's order.
        init_containers: in the spec's order.
        stopped: whether its containers were ended for good, because it is being deleted.
    """

    host_ip: str
    start_time: str
    pod_ip: str = ""
    has_network: bool = False
    containers: Sequence[ContainerView] = ()
    init_containers: Sequence[ContainerView] = ()
    stopped: bool = False


def phase(pod: Object, view: PodView) -> str:
    """Pending, Running, Succeeded or Failed (getPhase)."""
    policy = "Never" if view.stopped else pod["spec"].get("restartPolicy", "Always")
    init_failed = any(_exit_code(c) not in (None, 0) for c in view.init_containers)
    if init_failed and policy == "Never":
        return "Failed"
    if not _is_initialized(view):
        return "Pending"
    running = sum("running" in c.state for c in view.containers)
    ended = [c for c in view.containers if "terminated" in c.state or ("waiting" in c.state and c.last_state)]
    if running + len(ended) < len(view.containers):
        return "Pending"
    if running:
        return "Running"
    if policy == "Always":
        return "Running"
    if all(_exit_code(c) == 0 for c in ended):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def _exit_code(container: ContainerView) -> int | None:
    terminated = container.state.get("terminated") or container.last_state.get("terminated")
    return int(terminated["exitCode"]) if terminated and "running" not in container.state else None


def _is_initialized(view: PodView) -> bool:
    return all((c.state.get("terminated") or {}).get("exitCode") == 0 for c in view.init_containers)


def pod_status(pod: Object, view: PodView, stamp: str) -> Object:
    """The status that a pod should have.

    Args:
        pod: as stored, with its present status.
        view: what the kubelet knows.
        stamp: the time now.
    """
    now_phase = phase(pod, view)
    status: Object = {
        "observedGeneration": pod["metadata"].get("generation", 1),
        "phase": now_phase,
        "conditions": _conditions(pod, view, now_phase, stamp),
        "hostIP": view.host_ip,
        "hostIPs": [{"ip": view.host_ip}],
    }
    if view.pod_ip:
        status |= {"podIP": view.pod_ip, "podIPs": [{"ip": view.pod_ip}]}
    status["startTime"] = view.start_time
    mounts = {c["name"]: c.get("volumeMounts") or [] for c in _all_containers(pod)}
    if view.init_containers:
        status["initContainerStatuses"] = [_container_status(c, mounts) for c in view.init_containers]
    status["containerStatuses"] = [_container_status(c, mounts) for c in view.containers]
    status["qosClass"] = qos_class(pod)
    status["resources"] = {}
    return status


def _all_containers(pod: Object) -> list[Object]:
    return [*(pod["spec"].get("initContainers") or []), *(pod["spec"].get("containers") or [])]


def _container_status(container: ContainerView, mounts: dict[str, list[Object]]) -> Object:
    status: Object = {
        "name": container.name,
        "state": container.state,
        "lastState": container.last_state,
        "ready": container.ready,
        "restartCount": container.restarts,
        "image": container.image,
        "imageID": container.image_id,
    }
    if container.id:
        status["containerID"] = container.id
    status["started"] = container.started
    if container.id:
        status["resources"] = {}
    shown = [
        {"name": m["name"], "mountPath": m["mountPath"], **({"readOnly": True} if m.get("readOnly") else {})}
        for m in mounts.get(container.name, [])
    ]
    return {**status, "volumeMounts": shown} if shown else status


def _conditions(pod: Object, view: PodView, now_phase: str, stamp: str) -> list[Object]:
    ended = now_phase in ("Succeeded", "Failed")
    unready = [c.name for c in view.containers if not c.ready]
    incomplete = [c.name for c in view.init_containers if (c.state.get("terminated") or {}).get("exitCode") != 0]
    if now_phase == "Succeeded":
        not_ready = {"reason": "PodCompleted"}
    elif ended:
        not_ready = {"reason": "PodFailed"}
    else:
        not_ready = {
            "reason": "ContainersNotReady",
            "message": f"containers with unready status: [{' '.join(unready)}]",
        }
    containers_ready: Object = {"status": "True"} if not unready and not ended else {"status": "False", **not_ready}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    closed = [gate for gate in gates if (condition_of(pod, gate) or {}).get("status") != "True"]
    ready = dict(containers_ready)
    if ready["status"] == "True" and closed:
        sentence = ", ".join(
            f'corresponding condition of pod readiness gate "{gate}" does not exist.' for gate in closed
        )
        ready = {"status": "False", "reason": "ReadinessGatesNotReady", "message": sentence}
    initialized: Object = {"status": "True"}
    if incomplete:
        sentence = f"containers with incomplete status: [{' '.join(incomplete)}]"
        initialized = {"status": "False", "reason": "ContainersNotInitialized", "message": sentence}
    elif now_phase == "Succeeded":
        initialized = {"status": "True", "reason": "PodCompleted"}
    findings = {
        "PodReadyToStartContainers": {"status": "True" if view.has_network else "False"},
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": containers_ready,
        "PodScheduled": {"status": "True"},
    }
    others = [
        condition
        for condition in (pod.get("status") or {}).get("conditions") or []
        if condition["type"] not in findings
    ]
    return [*(_condition(pod, kind, finding, stamp) for kind, finding in findings.items()), *others]


def _condition(pod: Object, kind: str, finding: Object, stamp: str) -> Object:
    present = condition_of(pod, kind)
    is_same = present is not None and present["status"] == finding["status"]
    return {
        "type": kind,
        "observedGeneration": pod["metadata"].get("generation", 1),
        **finding,
        "lastProbeTime": None,
        "lastTransitionTime": present["lastTransitionTime"] if present is not None and is_same else stamp,
    }


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort, by the resources that the containers ask for."""
    resources = [container.get("resources") or {} for container in _all_containers(pod)]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    for asked in resources:
        limits = asked.get("limits") or {}
        requests = asked.get("requests") or limits
        has_both = all(name in limits and requests.get(name) == limits[name] for name in ("cpu", "memory"))
        if not has_both:
            return "Burstable"
    return "Guaranteed"


def terminated(code: int, started_at: str, stamp: str, container_id: str) -> Object:
    """The state of a container that ended; a signal's number comes as a negative code and is shown as 128 + number."""
    exit_code = 128 - code if code < 0 else code
    state: Object = {"exitCode": exit_code, "reason": "Completed" if exit_code == 0 else "Error"}
    return {"terminated": {**state, "startedAt": started_at, "finishedAt": stamp, "containerID": container_id}}

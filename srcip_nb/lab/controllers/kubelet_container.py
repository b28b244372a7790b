"""One container of a pod, from its image to its end: the part of a kubelet that starts, probes, restarts and stops it.

    waiting ── image, configuration ──> running ── exits ──> terminated ── restartPolicy ──> waiting (CrashLoopBackOff)

A container that ends is started again at once the first time, then after 10 s, 20 s, 40 s and so on up to 5 minutes,
until it has run for 10 minutes.

**Ready.** A real kubelet calls a container without a readiness probe ready as soon as its process runs; for some
milliseconds a Service then sends requests to a port where nobody listens. nginx listens before it starts its workers
and tells so in its log ("start worker processes"), so here the container is ready when that line has come, or after
half a second for a configuration that does not log it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srcip_nb.errors import SrcipError
from srcip_nb.lab.api.durations import go_duration
from srcip_nb.lab.api.podlogs import PodLogs
from srcip_nb.lab.controllers.events import record
from srcip_nb.lab.controllers.kubelet_probes import Probing, probe_until
from srcip_nb.lab.controllers.kubelet_status import ContainerView, terminated
from srcip_nb.lab.controllers.kubelet_volumes import ConfigError, ConfigMapOf, environment_of
from srcip_nb.lab.controllers.objects import Object, key_of, now
from srcip_nb.lab.images import Image, container_argv, find_image, full_name, split_reference, why_no_image

if TYPE_CHECKING:
    from srcip_nb.lab.api.store import Store
    from srcip_nb.lab.kernel import Agent

FIRST_BACK_OFF, LONGEST_BACK_OFF, GOOD_RUN = 10.0, 300.0, 600.0
"""Seconds: kubernetes v1.36.2 pkg/kubelet/kubelet.go (MaxCrashLoopBackOff, the decay is twice the longest)."""

LISTENING_WITHIN = 0.5
STARTED_WITHIN = 2.0
"""Seconds after which a program that does not tell of its start counts as one that takes signals."""

_BACK_OFF_SHOWN_AFTER = 1.0
_DEFAULT_STOP_SIGNAL = "TERM"


@dataclass(frozen=True)
class Site:
    """Where a container runs and whom it tells.

    Attributes:
        store: for Events.
        agent: the kernel's part.
        podlogs: its log.
        node: the node's name.
        host_ip: the node's address.
        wake: has the pod looked at again.
    """

    store: Store
    agent: Agent
    podlogs: PodLogs
    node: str
    host_ip: str
    wake: Callable[[], None]


class Container:
    """A container of one pod; `sync` brings it on, `exited` and `logged` tell it what the agent saw."""

    def __init__(self, site: Site, pod: Object, spec: Object, is_init: bool = False) -> None:
        self._site = site
        self._pod = pod
        self._namespace, self._pod_name = key_of(pod)
        self._agent_name = f"{self._namespace}/{self._pod_name}"
        self.name: str = spec["name"]
        self._path = f"spec.{'initContainers' if is_init else 'containers'}{{{self.name}}}"
        self._is_init = is_init
        self._spec = spec
        self.view = ContainerView(self.name, full_name(spec["image"]))
        if is_init:
            self.view.state = {"waiting": {"reason": "PodInitializing"}}
        self._image: Image | None = None
        self._image_reference = ""
        self._started_at = ""
        self._started_time = 0.0
        self._back_off = 0.0
        self._not_before = 0.0
        self._pull_back_off = 0.0
        self._is_going = False
        self._listening = asyncio.Event()
        self._care: asyncio.Task[None] | None = None
        self._killing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return "running" in self.view.state

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended with exit code 0."""
        return bool((self.view.state.get("terminated") or {}).get("exitCode") == 0)

    # -- bringing it on ----------------------------------------------------------------------------------------------

    async def sync(self, pod: Object, pod_ip: str, configmap: ConfigMapOf) -> None:
        """Start it if it should run and does not; stop it if its image has changed."""
        self._pod = pod
        group = "initContainers" if self._is_init else "containers"
        self._spec = next((c for c in pod["spec"][group] if c["name"] == self.name), self._spec)
        reference = self._spec["image"]
        if self.is_running:
            if reference != self._image_reference and self._killing is None:
                self._restart_because(f"Container {self.name} definition changed, will be restarted")
            return
        if reference != self._image_reference:
            self._not_before = self._pull_back_off = 0.0
            self.view.image = full_name(reference)
            self._image_reference = reference
        if not self._should_start() or not self._is_time():
            return
        self._image = self._find_image(reference)
        if self._image is not None:
            await self._start(self._image, pod_ip, configmap)

    def _should_start(self) -> bool:
        ended = self.view.state.get("terminated")
        if self._is_going:
            return False
        policy = self._pod["spec"].get("restartPolicy", "Always")
        if ended is None:
            return True
        if self._is_init and ended["exitCode"] == 0:
            return False
        has_failed = ended["exitCode"] != 0
        return (policy == "Always" and not self._is_init) or (policy != "Never" and has_failed)

    def _is_time(self) -> bool:
        wait = self._not_before - asyncio.get_running_loop().time()
        if wait > 0:
            self._look_again_in(wait)
        return wait <= 0

    def _look_again_in(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds + 0.001, self._site.wake)

    def _find_image(self, reference: str) -> Image | None:
        """The image, or the waiting state and the events of a pull that fails."""
        image = find_image(reference)
        if image is not None:
            return image
        if split_reference(reference) is None:
            message = (
                f'Failed to apply default image tag "{reference}": couldn\'t parse image name: invalid reference format'
            )
            self._fail("InvalidImageName", message, "InspectFailed")
            self._not_before = float("inf")
        elif self._spec.get("imagePullPolicy") == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            self._fail("ErrImageNeverPull", message, "ErrImageNeverPull")
            self._not_before = float("inf")
        else:
            self._fail_pull(reference)
        return None

    def _fail(self, state: str, message: str, event: str) -> None:
        self.view.state = {"waiting": {"reason": state, "message": message}}
        self._tell(event, message, "Warning")
        self._tell("Failed", f"Error: {state}", "Warning")

    def _fail_pull(self, reference: str) -> None:
        """ErrImagePull when it is tried, ImagePullBackOff until it is tried again."""
        loop = asyncio.get_running_loop()
        reason = why_no_image(reference)
        was_tried = (self.view.state.get("waiting") or {}).get("reason") == "ErrImagePull"
        if was_tried:
            message = f'Back-off pulling image "{reference}"'
            waiting = {"reason": "ImagePullBackOff", "message": f"{message}: ErrImagePull: {reason}"}
            self.view.state = {"waiting": waiting}
            self._tell("BackOff", message)
            self._tell("Failed", "Error: ImagePullBackOff", "Warning")
            self._not_before = loop.time() + self._pull_back_off - _BACK_OFF_SHOWN_AFTER
        else:
            self._tell("Pulling", f'Pulling image "{reference}"')
            self.view.state = {"waiting": {"reason": "ErrImagePull", "message": reason}}
            self._tell("Failed", f'Failed to pull image "{reference}": {reason}', "Warning")
            self._tell("Failed", "Error: ErrImagePull", "Warning")
            self._pull_back_off = min(self._pull_back_off * 2 or FIRST_BACK_OFF, LONGEST_BACK_OFF)
            self._not_before = loop.time() + _BACK_OFF_SHOWN_AFTER
        self._look_again_in(self._not_before - loop.time())

    async def _start(self, image: Image, pod_ip: str, configmap: ConfigMapOf) -> None:
        status = {"podIP": pod_ip, "hostIP": self._site.host_ip}
        try:
            environment = environment_of(self._pod, self._spec, status, configmap, self._site.store.list("services"))
        except ConfigError as error:
            self._wait_for_configuration(str(error))
            return
        command, args = self._spec.get("command") or [], self._spec.get("args") or []
        argv = container_argv(image, command, args, environment, self._spec.get("workingDir") or "")
        if self.view.id:
            self.view.restarts += 1
            self.view.last_state = dict(self.view.state if "terminated" in self.view.state else self.view.last_state)
            self._site.podlogs.restart(self._namespace, self._pod_name, self.name)
        self.view.id = self._new_id()
        self.view.image_id = image.id
        self._tell(
            "Pulled",
            f'Container image "{self._spec["image"]}" already present on machine and can be accessed by the pod',
        )
        self._tell("Created", "Container created")
        self._listening = asyncio.Event()
        self._started_at, self._started_time = now(), asyncio.get_running_loop().time()
        # Set before the program starts: it may have ended before the answer has come.
        self.view.state = {"running": {"startedAt": self._started_at}}
        try:
            await self._site.agent.call("start", pod=self._agent_name, container=self.name, argv=argv, env=environment)
        except SrcipError as error:
            self._could_not_start(error.cause)
            return
        self._tell("Started", "Container started")
        if self.is_running:
            logs_its_start = not command and not args and bool(image.started_line)
            self._care = asyncio.ensure_future(self._take_care(pod_ip, logs_its_start))

    def _wait_for_configuration(self, message: str) -> None:
        self.view.state = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
        self._tell("Failed", f"Error: {message}", "Warning")

    def _could_not_start(self, message: str) -> None:
        self._tell("Failed", f"Error: {message}", "Warning")
        state = terminated(128, self._started_at, now(), self.view.id)
        state["terminated"] |= {"reason": "StartError", "message": message}
        self._after_end(state)

    def _new_id(self) -> str:
        start = f"{self._pod['metadata']['uid']}/{self.name}/{self.view.restarts}"
        return f"lab://{hashlib.sha256(start.encode()).hexdigest()}"

    # -- while it runs -----------------------------------------------------------------------------------------------

    def logged(self, text: str) -> None:
        """It wrote lines to its log."""
        if self._image and self._image.started_line and self._image.started_line in text:
            self._listening.set()

    async def _take_care(self, pod_ip: str, logs_its_start: bool) -> None:
        """Call it ready when it is, and probe it until it ends."""
        if logs_its_start:
            listening = asyncio.ensure_future(self._listening.wait())
            await asyncio.wait({listening}, timeout=LISTENING_WITHIN)
            listening.cancel()
        probing = Probing(self._site.agent, self._site.node, self._agent_name, pod_ip, self._spec)
        startup = self._spec.get("startupProbe")
        if startup:
            await probe_until(startup, probing.ask, self._told_failure("Startup"), self._on_startup)
            if not self.view.started:
                return
        self.view.started = True
        readiness, liveness = self._spec.get("readinessProbe"), self._spec.get("livenessProbe")
        self.view.ready = readiness is None
        self._site.wake()
        loops = []
        if readiness:
            loops.append(probe_until(readiness, probing.ask, self._told_failure("Readiness"), self._on_readiness))
        if liveness:
            loops.append(probe_until(liveness, probing.ask, self._told_failure("Liveness"), self._on_liveness))
        await asyncio.gather(*loops)

    def _told_failure(self, kind: str) -> Callable[[str], None]:
        return lambda why: self._tell("Unhealthy", f"{kind} probe failed: {why}", "Warning")

    def _on_startup(self, succeeded: bool) -> bool:
        self.view.started = succeeded
        if not succeeded:
            self._restart_because(f"Container {self.name} failed startup probe, will be restarted")
        return False

    def _on_readiness(self, succeeded: bool) -> bool:
        if self.view.ready != succeeded:
            self.view.ready = succeeded
            self._site.wake()
        return True

    def _on_liveness(self, succeeded: bool) -> bool:
        if not succeeded:
            self._restart_because(f"Container {self.name} failed liveness probe, will be restarted")
        return succeeded

    def _restart_because(self, message: str) -> None:
        """Stop it; when it has ended, `sync` starts it again."""
        grace = self._pod["spec"].get("terminationGracePeriodSeconds", 30)
        self._tell("Killing", message)
        self._killing = asyncio.ensure_future(self._stop(float(grace)))

    # -- its end -----------------------------------------------------------------------------------------------------

    def exited(self, code: int) -> None:
        """Its process has ended."""
        if not self.is_running:
            return
        self._site.podlogs.finish(self._namespace, self._pod_name, self.name)
        self._after_end(terminated(code, self._started_at, now(), self.view.id))

    def _after_end(self, state: Object) -> None:
        self._stop_caring()
        self._killing = None
        self._listening.set()  # whoever waits for that need not wait any longer
        self.view.state, self.view.ready, self.view.started = state, False, False
        self._site.wake()
        if not self._should_start():
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._started_time > GOOD_RUN:
            self._back_off = 0.0
        is_first = self._back_off == 0.0
        if is_first:
            self._back_off = FIRST_BACK_OFF
            self._not_before = 0.0
            return
        wait, self._back_off = self._back_off, min(self._back_off * 2, LONGEST_BACK_OFF)
        self._not_before = loop.time() + wait
        pod = f"{self._pod_name}_{self._namespace}({self._pod['metadata']['uid']})"
        message = f"back-off {go_duration(wait)} restarting failed container={self.name} pod={pod}"
        self.view.last_state = dict(state)
        self.view.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        said = f"Back-off restarting failed container {self.name} in pod {self._pod_name}_{self._namespace}"
        self._tell("BackOff", f"{said}({self._pod['metadata']['uid']})", "Warning")

    async def stop_for_good(self, grace: float) -> None:
        """End it because its pod goes: the preStop hook, the image's stop signal, SIGKILL when the time is over."""
        self._is_going = True
        self._stop_caring()
        if not self.is_running:
            return
        self._tell("Killing", f"Stopping container {self.name}")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await self._run_pre_stop(grace)
        await self._stop(max(0.0, grace - (loop.time() - begun)))

    async def stop_within(self, grace: float) -> None:
        """End it in less time than `stop_for_good` was given; what is left of its preStop hook is not waited for."""
        if self.is_running:
            await self._stop(grace)

    async def _until_it_takes_signals(self, grace: float) -> float:
        """Let a program that has just been started come so far that a signal reaches it; the seconds that it took.

        It is the first process of its pid namespace, and the kernel drops signals to such a one until it has a handler
        for them (pid_namespaces(7)): nginx would go on, and be killed when the grace period is over.
        """
        loop = asyncio.get_running_loop()
        begun = loop.time()
        patience = min(grace, self._started_time + STARTED_WITHIN - begun)
        if self._listening.is_set() or patience <= 0:
            return 0.0
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._listening.wait(), patience)
        return loop.time() - begun

    async def _stop(self, grace: float) -> None:
        grace = max(0.0, grace - await self._until_it_takes_signals(grace))
        signal = self._image.stop_signal if self._image else _DEFAULT_STOP_SIGNAL
        arguments = {"pod": self._agent_name, "container": self.name, "grace": grace, "signal": signal}
        # The end itself is told by the agent's `exited`, which comes before this answer. An error means that the pod
        # has been taken away meanwhile, and the container with it.
        with contextlib.suppress(SrcipError):
            await self._site.agent.call("stop", **arguments)

    async def _run_pre_stop(self, grace: float) -> None:
        hook = (self._spec.get("lifecycle") or {}).get("preStop") or {}
        pod_ip = str((self._pod.get("status") or {}).get("podIP") or "")
        probing = Probing(self._site.agent, self._site.node, self._agent_name, pod_ip, self._spec)
        why = await probing.run_hook(hook, grace)
        if why:
            self._tell("FailedPreStopHook", f"PreStopHook failed: {why}", "Warning")

    def _stop_caring(self) -> None:
        if self._care:
            self._care.cancel()
            self._care = None
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def forget(self) -> None:
        """Let go of every timer and task; the pod is gone."""
        self._stop_caring()
        if self._killing:
            self._killing.cancel()

    def _tell(self, reason: str, message: str, type: str = "Normal") -> None:
        told = {"component": "kubelet", "host": self._site.node, "path": self._path}
        record(self._site.store, self._pod, reason, message, type, **told)

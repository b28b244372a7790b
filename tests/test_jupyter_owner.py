"""A notebook's lab belongs to whoever started the kernel: it outlives a killed kernel, and ends with JupyterLab."""

import json
import os
import signal
import subprocess
import sys

import pytest

from srcip_nb.lab.state import Process, running_labs
from tests.lab.test_lifecycle import GONE_WITHIN, Traces, processes_below, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

KERNEL_WITHIN = 60.0  # seconds

# Starts kernels as JupyterLab does. Each line of input is run in the kernel, its printed output is a line of ours;
# the word "restart" kills the kernel and starts it again.
JUPYTER = """
import json, sys
from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60)
for line in sys.stdin:
    said = []
    if line.strip() == "restart":
        client.stop_channels()
        manager.restart_kernel(now=True)
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
    else:
        def listen(message):
            content = message["content"]
            said.append(content.get("text") or "\\n".join(content.get("traceback", [])))
        client.execute_interactive(line, timeout=60, output_hook=listen)
    print(json.dumps("".join(said)), flush=True)
"""

CONNECT = "import os, srcip_nb; cluster = srcip_nb.connect(quiet=True); print(os.getpid(), cluster.lab.name)"


class Jupyter:
    def __init__(self, state_dir, kernel: str) -> None:
        environment = {**os.environ, "SRCIP_STATE_DIR": str(state_dir), "SRCIP_CONTEXT": "", "SRCIP_LAB": ""}
        environment["SRCIP_KERNEL"] = kernel
        self.process = subprocess.Popen(
            [sys.executable, "-c", JUPYTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def do(self, line: str) -> str:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that holds the kernel has ended"
        return json.loads(answer)

    def connect(self) -> tuple[Process, str]:
        """The kernel's process and the name of the lab it is connected to."""
        said = self.do(CONNECT)
        pid, name = said.split()
        return Process.of(int(pid)), name

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def jupyter(tmp_path, monkeypatch, kernel):
    monkeypatch.setenv("SRCIP_STATE_DIR", str(tmp_path))
    started = Jupyter(tmp_path, kernel)
    yield started
    if started.process.poll() is None:
        started.kill()


def test_the_lab_outlives_a_killed_kernel_and_ends_with_jupyter(jupyter, kernel):
    first, name = jupyter.connect()
    (lab,) = running_labs()
    assert lab.name == name and lab.kernel == kernel
    assert lab.owner == Process.of(jupyter.process.pid)
    traces = Traces(lab)

    os.kill(first.pid, signal.SIGKILL)
    assert wait_until(lambda: not first.alive, GONE_WITHIN)
    jupyter.do("restart")
    second, again = jupyter.connect()
    assert second != first
    assert again == name
    assert [one.supervisor for one in running_labs()] == [lab.supervisor]

    everything = processes_below(jupyter.process.pid)
    jupyter.kill()
    assert traces.all_gone(), traces.left()
    assert wait_until(lambda: not any(process.alive for process in everything), GONE_WITHIN), "the kernel still runs"


# A program that has looked for kernels, as nbclient and papermill do, and shows widgets of its own.
NOT_A_KERNEL = """
import ipywidgets
from jupyter_client.kernelspec import KernelSpecManager
from srcip_nb.lab.lifecycle import notebook_owner

slider = ipywidgets.IntSlider()
KernelSpecManager().get_all_specs()
print(notebook_owner())
slider.close()
"""


def test_a_program_that_starts_kernels_is_no_kernel_and_keeps_its_widgets():
    done = subprocess.run([sys.executable, "-c", NOT_A_KERNEL], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n", "")

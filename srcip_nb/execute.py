"""One notebook executed by papermill, in a kernel with an environment of its own.

    execute("en/02-cluster.ipynb", "out/02-cluster.ipynb", {}, {"SRCIP_LAB": "lab-1"})   ->  "" or why it stopped

papermill's own engine gives every kernel this process's environment, and its working directory by changing this
process's. Two notebooks side by side need their own, so an engine is registered that differs in just that.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from srcip_nb.imports import hidden

CELL_WITHIN = 180  # seconds; the slowest cell waits for a rollout
KERNEL_WITHIN = 60  # seconds
ENGINE = "srcip_nb"

# ipykernel 7.4 warns at every start that it runs over TCP on 127.0.0.1, and logs an error when it is interrupted while
# it is shut down. What goes wrong in a cell is an output, never a matter of this log.
QUIET_KERNEL = ("--IPKernelApp.log_level=CRITICAL",)


@functools.cache
def papermill() -> ModuleType:
    """Import papermill and register the engine; without jsonschema's grammar of international addresses (3 s)."""
    with hidden("rfc3987_syntax"):
        import papermill as found
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        """papermill's, with the environment and the folder of the kernel given."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            client = PapermillNotebookClient(
                nb_man,
                kernel_name=kernel_name,
                timeout=options["execution_timeout"],
                startup_timeout=options["start_timeout"],
                extra_arguments=list(QUIET_KERNEL),
            )
            return client.execute(env=options["environment"], cwd=options["folder"])

    papermill_engines.register(ENGINE, Engine)
    return found


def execute(path: Path, output: Path, values: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """Execute a notebook and write what came of it.

    Args:
        path: of the notebook; its folder is the kernel's working directory.
        output: the executed notebook, with what it has up to an error.
        values: for its ``parameters`` cell.
        environment: variables for its kernel, beside this process's own.

    Returns:
        Why it stopped early, "" if it did not. That it came to its end is no proof of anything: papermill says so of a
        dead kernel too.
    """
    pm = papermill()
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        pm.execute_notebook(
            str(path.absolute()),
            str(output.absolute()),
            parameters=dict(values),
            engine_name=ENGINE,
            kernel_name="python3",
            execution_timeout=CELL_WITHIN,
            start_timeout=KERNEL_WITHIN,
            progress_bar=False,
            environment={**os.environ, **environment},
            folder=str(path.parent.absolute()),
        )
    except PapermillExecutionError as error:
        return f"cell {error.exec_count}: {error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return ""

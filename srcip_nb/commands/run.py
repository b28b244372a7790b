"""``srcip-nb run``: the course, executed and judged."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srcip_nb.commands.status import DOES_NOT_HOLD, HOLDS
from srcip_nb.errors import SrcipError, UsageError

if TYPE_CHECKING:
    from srcip_nb.run import Verdict


def add_to(commands: Any) -> None:
    """Make ``srcip-nb run`` known."""
    run = commands.add_parser("run", help="execute the notebooks and say which passed")
    run.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", type=Path)
    run.add_argument("--context", help="a kubeconfig context; a lab is started if left out")
    run.add_argument("--replay", metavar="R", help="a recorded run, where no lab can run: lab-calico, or a folder")
    run.add_argument("--namespace", metavar="N", help="one a participant; SRCIP_NAMESPACE, else seminar")
    run.add_argument("--image", metavar="I", help="an image of nginx, where Docker Hub cannot be reached; SRCIP_IMAGE")
    run.add_argument("--adopt", action="store_true", help="work in the namespace even if somebody else created it")
    run.add_argument("--lang", choices=("en", "ja"))
    run.add_argument("-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    run.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    run.add_argument("--junit", type=Path, metavar="F")
    run.add_argument("--json", type=Path, metavar="F", help="the result once more; DIR/result.json has it always")
    run.set_defaults(function=_run)


def _run(arguments: argparse.Namespace) -> int:
    import yaml

    from srcip_nb.report import run_html
    from srcip_nb.results import run_document, unfinished_junit, world_of
    from srcip_nb.run import PASSED, junit, run, verdict_table

    try:
        parameters = {name: yaml.safe_load(value) for name, value in arguments.parameters}
    except yaml.YAMLError as error:
        raise UsageError(f"a value of -p is not YAML: {error}", "Put quotes around it: -p NAME '\"VALUE\"'") from error
    settings = {"namespace": arguments.namespace, "image": arguments.image, "adopt": 1 if arguments.adopt else None}
    parameters |= {name: value for name, value in settings.items() if value is not None}
    for option in ("junit", "json"):
        path = getattr(arguments, option)
        if path and not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent}", f"Make it, or name another for --{option}.")
    if arguments.replay and arguments.context:
        raise UsageError("a context and a recording were asked for at once", "Give one of the two.")
    replay = arguments.replay or (None if arguments.context else os.environ.get("SRCIP_REPLAY")) or None
    context = arguments.context or (None if replay else os.environ.get("SRCIP_CONTEXT")) or None
    world = {
        "name": f"recording {replay!r}" if replay else f"context {context!r}" if context else "lab",
        "kubernetes": "",
        "mode": "",
        "cni": "",
        "owners": {},
    }
    verdicts: list[Verdict] = []
    cause = remedy = ""
    try:
        verdicts = run(
            arguments.notebooks,
            context,
            arguments.lang,
            parameters,
            arguments.out,
            replay=replay,
            progress=True,
            began=lambda cluster: world.update(world_of(cluster)),
        )
    except UsageError:
        raise
    except SrcipError as error:
        cause, remedy = error.cause, error.remedy
    result = run_document(verdicts, world, cause)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    for path in filter(None, (arguments.out / "result.json", arguments.json)):
        path.write_text(text, encoding="utf-8")
    (arguments.out / "report.html").write_text(run_html(result), encoding="utf-8")
    if arguments.junit:
        arguments.junit.write_text(unfinished_junit("srcip_nb", cause) if cause else junit(verdicts))
    if cause:
        raise SrcipError(f"not finished: {cause}", remedy)
    from srcip_nb.handout import handout  # only now: the lab starts before what takes long to import

    pages = handout([verdict.output for verdict in verdicts], arguments.out)
    print(verdict_table(verdicts))
    print(f"handout: {', '.join(map(str, pages)) or 'none'}; {arguments.out / 'report.html'}", file=sys.stderr)
    return HOLDS if result["verdict"] == PASSED else DOES_NOT_HOLD

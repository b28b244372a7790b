"""The seats of a seminar: for each participant a folder, a token, a port, and the world the notebooks find there.

    FOLDER/seats.json          who has which token; mode 0600
    FOLDER/seat-07/            what the participant of that seat sees and changes: notebooks and the glossary
    FOLDER/.seats/seat-07/     what JupyterLab and the lab keep: state, log, progress

A folder that is there already is used again: tokens stay, and no notebook that a participant has is written over. Seats
keep participants out of each other's way, not out of each other's files: all of them run as the user who started the
seminar.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from srcip_nb.errors import UsageError
from srcip_nb.lab.state import Process
from srcip_nb.run import notebooks_dir
from srcip_nb.tally import PROGRESS
from srcip_nb.text import LANGUAGES
from srcip_nb.worlds import check_namespace

MOST = 99
EVERYWHERE = ("0.0.0.0", "::")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Seat:
    """One participant's place.

    Attributes:
        name: ``PREFIX-NN``; on a real cluster it is the seat's namespace too.
        token: what opens its JupyterLab; twelve signs, for it may have to be typed from paper.
        port: where its JupyterLab listens.
    """

    name: str
    token: str
    port: int


@dataclass(frozen=True)
class Seminar:
    """The seats and what they share.

    Attributes:
        folder: where the participants' work is.
        lang: language of the notebooks and of the page.
        listen: the address that the page and the JupyterLabs listen on.
        port: the page's port; the seats' are those after it.
        token: what opens the instructor's page.
        context: of a kubeconfig, for seats on a real cluster; "": a lab for each seat.
        kubeconfig: where that context is looked up.
    """

    folder: Path
    lang: str
    listen: str
    port: int
    token: str
    context: str = ""
    kubeconfig: str = ""
    seats: tuple[Seat, ...] = field(default=())

    def work(self, seat: Seat) -> Path:
        """What the participant sees."""
        return self.folder / seat.name

    def own(self, seat: Seat) -> Path:
        """What the seminar keeps for a seat."""
        return self.folder / ".seats" / seat.name

    def labs(self, seat: Seat) -> Path:
        """The directory of the seat's labs: ``SRCIP_STATE_DIR`` in that seat, so ``lab down --all`` ends no other's."""
        return self.own(seat) / "labs"

    def progress(self, seat: Seat) -> Path:
        """Where the seat's notebooks leave what their checks found."""
        return self.own(seat) / "progress.jsonl"

    def first_notebook(self) -> str:
        """The course's first notebook, as a path in a seat."""
        return f"notebooks/{self.lang}/{min(path.name for path in notebooks_of(self.lang))}"


def notebooks_of(lang: str) -> list[Path]:
    """The notebooks that every seat gets, those of the course first."""
    return sorted((notebooks_dir() / lang).glob("*.ipynb"))


def plan(
    folder: Path,
    count: int,
    *,
    lang: str = "en",
    listen: str = "127.0.0.1",
    port: int = 8900,
    context: str = "",
    prefix: str = "seat",
) -> Seminar:
    """Seats as asked for; tokens of a seminar that this folder had before stay. Nothing is written.

    Raises:
        UsageError: a setting is out of range, or the folder holds something else.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"{count} seats were asked for", f"Give a number from 1 to {MOST}.")
    if lang not in LANGUAGES:
        raise UsageError(f"there is no language {lang!r}", f"Choose one of: {', '.join(LANGUAGES)}.")
    if not 1 <= port <= 65535 - count:
        raise UsageError(f"port {port} leaves no room for {count} seats", f"Give one from 1024 to {65535 - count}.")
    check_namespace(f"{prefix}-{MOST}")
    folder = folder.resolve()
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "seats.json").exists():
        raise UsageError(f"{folder} holds something else than a seminar", "Name another: --folder DIR")
    old = read_seminar(folder)
    tokens = {seat.name: seat.token for seat in old.seats} if old else {}
    names = [f"{prefix}-{number:02d}" for number in range(1, count + 1)]
    return Seminar(
        folder=folder,
        lang=lang,
        listen=listen,
        port=port,
        token=old.token if old else secrets.token_urlsafe(16),
        context=context,
        kubeconfig=os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config") if context else "",
        seats=tuple(
            Seat(name, tokens.get(name) or secrets.token_hex(6), port + number)
            for number, name in enumerate(names, start=1)
        ),
    )


def furnish(seminar: Seminar) -> None:
    """Make the seats' folders, a copy of the notebooks in each; what a participant has already stays as it is."""
    docs = notebooks_dir().parent / "docs"
    seminar.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for seat in seminar.seats:
        for made in (seminar.labs(seat), seminar.own(seat) / "config" / "labconfig"):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        no_news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        (seminar.own(seat) / "config" / "labconfig" / "page_config.json").write_text(json.dumps(no_news))
        wanted = {path: f"notebooks/{seminar.lang}/{path.name}" for path in notebooks_of(seminar.lang)}
        wanted |= {path: f"docs/{path.name}" for path in docs.glob(f"glossary.{seminar.lang}.md")}
        for source, name in wanted.items():
            target = seminar.work(seat) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copyfile(source, target)
    _write(seminar)


def _write(seminar: Seminar) -> None:
    data = {**asdict(seminar), "folder": ""}
    draft = seminar.folder / ".seats.json"
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(data, file, indent=1)
    draft.replace(seminar.folder / "seats.json")


def read_seminar(folder: Path) -> Seminar | None:
    """The seminar of a folder, or None where there is none."""
    try:
        data = json.loads((folder / "seats.json").read_text())
    except (OSError, ValueError):
        return None
    seats = tuple(Seat(**seat) for seat in data.pop("seats"))
    return replace(Seminar(**{**data, "folder": folder}), seats=seats)


def environment(seminar: Seminar, seat: Seat) -> dict[str, str]:
    """What the seat's JupyterLab, its notebooks and its terminals find, beside what the seminar itself was given."""
    own = seminar.own(seat)
    found = {name: value for name, value in os.environ.items() if not name.startswith(("SRCIP_", "JUPYTER"))}
    found |= {
        "SRCIP_STATE_DIR": str(seminar.labs(seat)),
        PROGRESS: str(seminar.progress(seat)),
        "JUPYTER_TOKEN": seat.token,  # not among the arguments, which every user of the machine can read
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "IPYTHONDIR": str(own / "ipython"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }
    if not seminar.context:
        return {**found, "KUBECONFIG": str(seminar.labs(seat) / "lab" / "kubeconfig")}
    kept = {name: os.environ[name] for name in ("SRCIP_IMAGE", "SRCIP_ADOPT") if name in os.environ}
    given = own / "kubeconfig"
    kubeconfig = str(given) if given.exists() else seminar.kubeconfig
    return {**found, **kept, "SRCIP_CONTEXT": seminar.context, "SRCIP_NAMESPACE": seat.name, "KUBECONFIG": kubeconfig}


def jupyter_command(seminar: Seminar, seat: Seat) -> list[str]:
    """JupyterLab for one seat; it ends with the process that starts it (setpriv --pdeathsig, prctl(2)).

    Ten open notebooks are ten kernels: one whose notebook is closed ends after half an hour without work.
    """
    options = [
        f"--ServerApp.ip={seminar.listen}",
        f"--ServerApp.port={seat.port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.base_url=/{seat.name}/",  # cookies of the seats stay apart in one browser
        f"--ServerApp.root_dir={seminar.work(seat)}",
        f"--LabApp.default_url=/lab/tree/{seminar.first_notebook()}",
        f"--ServerApp.allow_remote_access={seminar.listen not in LOOPBACK}",
        "--MappingKernelManager.cull_idle_timeout=1800",
        "--MappingKernelManager.cull_interval=300",
        "--ServerApp.open_browser=False",
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]
    return ["setpriv", "--pdeathsig", "TERM", sys.executable, "-m", "jupyterlab", *options]


def write_process(seminar: Seminar, seat: Seat, process: Process | None) -> None:
    """Record which process is the seat's JupyterLab; None: it has ended."""
    path = seminar.own(seat) / "jupyter.json"
    if process is None:
        path.unlink(missing_ok=True)
    else:
        path.write_text(json.dumps(asdict(process)))


def jupyter_process(seminar: Seminar, seat: Seat) -> Process | None:
    """The process of the seat's JupyterLab, if it runs."""
    try:
        process = Process(**json.loads((seminar.own(seat) / "jupyter.json").read_text()))
    except (OSError, ValueError):
        return None
    return process if process.alive else None


def link(seminar: Seminar, seat: Seat, host: str) -> str:
    """What a participant opens: it starts the seat's JupyterLab if it does not run, and leads there."""
    return f"http://{host_in_url(host)}:{seminar.port}/{seat.name}?token={seat.token}"


def host_in_url(host: str) -> str:
    """An address as it stands in a URL: IPv6 in brackets (RFC 3986)."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host

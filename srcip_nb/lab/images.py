"""The images of the lab: from an image's name to the files, the command and the signals of a container.

There is one, `nginx`, whatever its tag: the machine's own nginx with the files that the official image puts around it.
Those files are here as text, so a container can be read before it runs:

    /docker-entrypoint.sh            launches the scripts of /docker-entrypoint.d and becomes nginx: see entrypoint.py
    /etc/nginx/nginx.conf            log format `main`; access.log and error.log as below
    /etc/nginx/conf.d/default.conf   port 80, /usr/share/nginx/html
    /var/log/nginx/{access,error}.log   lead to standard output and standard error
    /usr/local/sbin/nginx            the machine's nginx, with the module stream as the official image has it

Source: the official image (nginxinc/docker-nginx, mainline) and nginx's packaged configuration; one line differs, see
`NGINX_CONF`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from srcip_nb.lab.entrypoint import entrypoint_files

NGINX_CONF = """\

user  nginx;
# The image says "auto", one worker for each processor; a lab has many pods on one machine, and one worker is enough.
worker_processes  1;

error_log  /var/log/nginx/error.log notice;
pid        /run/nginx.pid;


events {
    worker_connections  1024;
}


http {
    include       /etc/nginx/mime.types;
    default_type  application/octet-stream;

    log_format  main  '$remote_addr - $remote_user [$time_local] "$request" '
                      '$status $body_bytes_sent "$http_referer" '
                      '"$http_user_agent" "$http_x_forwarded_for"';

    access_log  /var/log/nginx/access.log  main;

    sendfile        on;
    #tcp_nopush     on;

    keepalive_timeout  65;

    #gzip  on;

    include /etc/nginx/conf.d/*.conf;
}
"""

DEFAULT_CONF = """\
server {
    listen       80;
    server_name  localhost;

    location / {
        root   /usr/share/nginx/html;
        index  index.html index.htm;
    }

    # redirect server error pages to the static page /50x.html
    #
    error_page   500 502 503 504  /50x.html;
    location = /50x.html {
        root   /usr/share/nginx/html;
    }
}
"""

_STYLE = """\
html { color-scheme: light dark; }
body { width: 35em; margin: 0 auto;
font-family: Tahoma, Verdana, Arial, sans-serif; }
"""

INDEX_HTML = f"""\
<!DOCTYPE html>
<html>
<head>
<title>Welcome to nginx!</title>
<style>
{_STYLE}</style>
</head>
<body>
<h1>Welcome to nginx!</h1>
<p>If you see this page, the nginx web server is successfully installed and
working. Further configuration is required.</p>

<p>For online documentation and support please refer to
<a href="http://nginx.org/">nginx.org</a>.<br/>
Commercial support is available at
<a href="http://nginx.com/">nginx.com</a>.</p>

<p><em>Thank you for using nginx.</em></p>
</body>
</html>
"""

ERROR_HTML = f"""\
<!DOCTYPE html>
<html>
<head>
<title>Error</title>
<style>
{_STYLE}</style>
</head>
<body>
<h1>An error occurred.</h1>
<p>Sorry, the page you are looking for is currently unavailable.<br/>
Please try again later.</p>
<p>If you are the system administrator of this resource then you should check
the error log for details.</p>
<p><em>Faithfully yours, nginx.</em></p>
</body>
</html>
"""

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
nginx:x:101:101:nginx user:/nonexistent:/bin/false
"""

_GROUP = """\
root:x:0:
daemon:x:1:
adm:x:4:
www-data:x:33:
nogroup:x:65534:
nginx:x:101:
"""


File = str | dict[str, Any]
"""A file's text, {"text" or "base64": ..., "mode": 0o755} for other than 0644, {"link": path} for a symbolic link."""


@dataclass(frozen=True)
class Image:
    """What a container is made of.

    Attributes:
        name: as a container's status shows it, with registry and tag.
        id: what stands for the image's digest.
        entrypoint: words before the command.
        command: what runs when a pod says neither command nor args.
        files: path in the container -> text, {"text": ..., "mode": ...} or {"link": ...}.
        stop_signal: what asks it to end; nginx ends after the requests that it is answering.
        started_line: part of the line that it writes once it listens, "" if it writes none.
    """

    name: str
    id: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    files: Mapping[str, File]
    stop_signal: str
    started_line: str


LAB_IMAGES = "nginx (any tag, also as docker.io/library/nginx or from a registry of your own)"
"""The images there are, for messages."""

_NGINX_REPOSITORIES = {"nginx", "library/nginx", "nginx/nginx", "docker/library/nginx"}
_OTHER_NGINX = {"bitnami", "nginxinc", "bitnamilegacy"}
"""Who makes images called nginx that are other ones: they listen on 8080."""

_REFERENCE = re.compile(
    r"(?P<path>[a-zA-Z0-9][a-zA-Z0-9.-]*(?::[0-9]+)?(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-fA-F]{32,}))?"
)
_EXECUTABLE = 0o755
_FILES: dict[str, File] = {
    **{path: {"text": text, "mode": _EXECUTABLE} for path, text in entrypoint_files(DEFAULT_CONF).items()},
    "/var/log/nginx/access.log": {"link": "/dev/stdout"},
    "/var/log/nginx/error.log": {"link": "/dev/stderr"},
    "/etc/nginx/nginx.conf": NGINX_CONF,
    "/etc/nginx/conf.d/default.conf": DEFAULT_CONF,
    "/usr/share/nginx/html/index.html": INDEX_HTML,
    "/usr/share/nginx/html/50x.html": ERROR_HTML,
    "/etc/passwd": _PASSWD,
    "/etc/group": _GROUP,
}


def split_reference(reference: str) -> tuple[str, str, str] | None:
    """Split an image's name into (repository with registry, tag, digest); None if it is no such name.

    A first part with a dot, a port or "localhost" is a registry, as docker has it; without one it is docker.io, and a
    single word there is in library/. Without tag and digest the tag is latest.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    path, tag, digest = match["path"], match["tag"] or "", match["digest"] or ""
    if "/" not in path and ":" in path:  # "nginx:1.27" reads like a host with a port
        path, _, tag = path.partition(":")
    first, _, rest = path.partition("/")
    has_registry = bool(rest) and ("." in first or ":" in first or first == "localhost")
    if not has_registry:
        path = f"docker.io/{path}" if rest else f"docker.io/library/{path}"
    if path != path.lower():
        return None
    return path, tag or ("" if digest else "latest"), digest


def full_name(reference: str) -> str:
    """The name as a container's status shows it: docker.io/library/nginx:latest; unchanged if it cannot be read."""
    parts = split_reference(reference)
    if parts is None:
        return reference
    path, tag, digest = parts
    return path + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def find_image(reference: str) -> Image | None:
    """The image of that name, None if the lab has none.

    A registry other than Docker Hub keeps its copy where it likes: there, any path that ends in nginx is taken for it,
    as long as no part of it names who makes another nginx.
    """
    parts = split_reference(reference)
    if parts is None:
        return None
    registry, _, path = parts[0].partition("/")
    words = path.split("/")
    is_a_copy = registry != "docker.io" and words[-1] == "nginx" and not _OTHER_NGINX & set(words)
    if path not in _NGINX_REPOSITORIES and not is_a_copy:
        return None
    return Image(
        name=full_name(reference),
        id="sha256:" + hashlib.sha256(json.dumps(_FILES).encode()).hexdigest(),
        entrypoint=("/bin/sh", "/docker-entrypoint.sh"),
        command=("nginx", "-g", "daemon off;"),
        files=_FILES,
        stop_signal="QUIT",
        # nginx listens before it starts its workers, so a connection after this line is never refused.
        started_line="start worker processes",
    )


def why_no_image(reference: str) -> str:
    """Why an image cannot be had, and which can."""
    return f'the lab has no image "{reference}" and pulls none; its images are: {LAB_IMAGES}'


def container_argv(
    image: Image,
    command: Sequence[str],
    args: Sequence[str],
    environment: Mapping[str, str],
    working_dir: str = "",
) -> list[str]:
    """The words that start a container, as Kubernetes puts them together.

    `command` stands for the image's entrypoint, `args` for its command; a `command` alone runs without the image's
    command. `$(NAME)` is replaced by a variable of the environment, `$$(NAME)` is the escape for the text itself.
    """
    given = [expand(word, environment) for word in command], [expand(word, environment) for word in args]
    words = [*given[0], *given[1]] if given[0] else [*image.entrypoint, *(given[1] or image.command)]
    if working_dir:
        words = ["/bin/sh", "-c", 'mkdir -p "$0" && cd "$0" && exec "$@"', working_dir, *words]
    return words


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by the variable; unknown ones stay as they are."""

    def value(match: re.Match[str]) -> str:
        if match[0].startswith("$$"):
            return match[0][1:]
        return environment.get(match[1], match[0])

    return re.sub(r"\$?\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)", value, text)

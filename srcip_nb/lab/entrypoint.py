"""The nginx image's entrypoint: a script that runs the scripts of /docker-entrypoint.d and becomes the command.

    /docker-entrypoint.sh                                        says what it launches, and launches it
    /docker-entrypoint.d/10-listen-on-ipv6-by-default.sh         changes default.conf, if nobody else has
    /docker-entrypoint.d/15-local-resolvers.envsh                ⎫
    /docker-entrypoint.d/20-envsubst-on-templates.sh             ⎬ do something only when variables or files ask for it
    /docker-entrypoint.d/30-tune-worker-processes.sh             ⎭
    /usr/local/sbin/nginx                                        the machine's nginx, with its module stream, if any

Names and messages are the official image's (nginxinc/docker-nginx), and each tells of a step that is really done: what
a volume puts into /docker-entrypoint.d runs as well. What the lab cannot do ends the container and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

FOLDER = "/docker-entrypoint.d"
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
"""Where Debian's package libnginx-mod-stream puts it."""

ENTRYPOINT = """\
#!/bin/sh
set -e
say() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$1"; }
me=/docker-entrypoint.sh
run_all() {
    for script in /docker-entrypoint.d/*; do
        case "$script" in
        *.envsh) verb=Sourcing ;;
        *.sh) verb=Launching ;;
        *) say "$me: Ignoring $script"; continue ;;
        esac
        if [ ! -x "$script" ]; then
            say "$me: Ignoring $script, not executable"
        elif say "$me: $verb $script" && [ $verb = Sourcing ]; then
            . "$script"
        else
            "$script"
        fi
    done
}
if [ "$1" = nginx ] || [ "$1" = nginx-debug ]; then
    if [ -n "$(ls -A /docker-entrypoint.d 2>/dev/null)" ]; then
        say "$me: /docker-entrypoint.d/ is not empty, will attempt to perform configuration"
        say "$me: Looking for shell scripts in /docker-entrypoint.d/"
        run_all
        say "$me: Configuration complete; ready for start up"
    else
        say "$me: No files found in /docker-entrypoint.d/, skipping configuration"
    fi
fi
exec "$@"
"""

_BEGIN = """\
#!/bin/sh
set -e
say() { [ -n "${NGINX_ENTRYPOINT_QUIET_LOGS:-}" ] || echo "$me: $1"; }
"""

_LISTEN_ON_IPV6 = (
    _BEGIN
    + """\
me=10-listen-on-ipv6-by-default.sh
conf=/etc/nginx/conf.d/default.conf
if [ ! -f /proc/net/if_inet6 ]; then
    say "info: ipv6 not available"
elif [ ! -f $conf ]; then
    say "info: $conf is not a file or does not exist"
elif ! touch $conf 2>/dev/null; then
    say "info: can not modify $conf (read-only file system?)"
elif grep -q "listen  *\\[::\\]:80;" $conf; then
    say "info: IPv6 listen already enabled"
else
    say "info: Getting the checksum of $conf"
    if echo "PACKAGED  $conf" | md5sum -c - >/dev/null 2>&1; then
        sed -i -E 's,listen       80;,listen       80;\\n    listen  [::]:80;,' $conf
        say "info: Enabled listen on IPv6 in $conf"
    else
        say "info: $conf differs from the packaged version"
    fi
fi
"""
)

_LOCAL_RESOLVERS = """\
#!/bin/sh
if [ -n "${NGINX_ENTRYPOINT_LOCAL_RESOLVERS:-}" ]; then
    NGINX_LOCAL_RESOLVERS=$(awk 'BEGIN {ORS=" "} $1 == "nameserver" {print $2}' /etc/resolv.conf)
    export NGINX_LOCAL_RESOLVERS="${NGINX_LOCAL_RESOLVERS% }"
fi
"""

_TEMPLATES = (
    _BEGIN
    + """\
me=20-envsubst-on-templates.sh
templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
[ -d "$templates" ] || exit 0
if ! command -v envsubst >/dev/null; then
    echo "$me: ERROR: this machine has no envsubst to fill in $templates; type: apt-get install gettext-base" >&2
    exit 1
fi
variables=$(env | sed -n 's/^\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/${\\1}/p')
find -L "$templates" -name "*$suffix" -type f | while read -r template; do
    made=${template#"$templates/"}
    made=$output/${made%"$suffix"}
    say "Running envsubst on $template to $made"
    mkdir -p "${made%/*}"
    envsubst "$variables" < "$template" > "$made"
done
"""
)

_TUNE = (
    _BEGIN
    + """\
me=30-tune-worker-processes.sh
[ -n "${NGINX_ENTRYPOINT_WORKER_PROCESSES_AUTOTUNE:-}" ] || exit 0
say "info: a lab has many pods on one machine: worker_processes stays as it is"
"""
)

# The image's nginx has the module stream built in; Debian's has it as a file of its own, which somebody must load. Of
# several options -g nginx takes the last one alone, so what is given is put behind the module, in the same option.
_NGINX = """\
#!/bin/sh
for nginx in /usr/sbin/nginx /usr/bin/nginx /usr/local/bin/nginx; do
    [ ! -x "$nginx" ] || break
done
stream=MODULE
if [ -e "$stream" ] && "$nginx" -V 2>&1 | grep -q -e --with-stream=dynamic; then
    load="load_module $stream;"
    is_given=
    for word in "$@"; do
        shift
        [ "$is_given" != next ] || { word="$load $word"; is_given=yes; }
        [ "$word" != -g ] || is_given=next
        set -- "$@" "$word"
    done
    [ -n "$is_given" ] || set -- -g "$load" "$@"
fi
exec "$nginx" "$@"
""".replace("MODULE", STREAM_MODULE)


def entrypoint_files(default_conf: str) -> Mapping[str, str]:
    """The scripts of the image, all executable: path -> text.

    Args:
        default_conf: the packaged default.conf, which the first script knows by its checksum.
    """
    checksum = hashlib.md5(default_conf.encode(), usedforsecurity=False).hexdigest()
    return {
        "/docker-entrypoint.sh": ENTRYPOINT,
        f"{FOLDER}/10-listen-on-ipv6-by-default.sh": _LISTEN_ON_IPV6.replace("PACKAGED", checksum),
        f"{FOLDER}/15-local-resolvers.envsh": _LOCAL_RESOLVERS,
        f"{FOLDER}/20-envsubst-on-templates.sh": _TEMPLATES,
        f"{FOLDER}/30-tune-worker-processes.sh": _TUNE,
        "/usr/local/sbin/nginx": _NGINX,
    }

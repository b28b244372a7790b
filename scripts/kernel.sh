#!/bin/sh
# Builds a User Mode Linux that does all of kube-proxy's modes, nftables too, and puts it where a lab looks for it:
# ~/.cache/srcip-nb/kernel/linux.uml. From the distribution's package of the kernel's source, with kernel.config.
# Does nothing, quickly, when it is there already. SRCIP_KERNEL_SOURCE names another archive of a kernel's source.
set -eu
source=${SRCIP_KERNEL_SOURCE:+$(realpath "$SRCIP_KERNEL_SOURCE")}
cd "$(dirname "$0")"
# shellcheck source=scripts/packages.sh
. ./packages.sh

# The XDG Base Directory Specification has a path that is not absolute ignored.
cache=${XDG_CACHE_HOME:-}
[ "${cache#/}" != "$cache" ] || cache=$HOME/.cache
folder=$cache/srcip-nb/kernel
program=$folder/linux.uml
log=$folder/build.log
megabytes=2000
# Names and messages alike everywhere; and nothing of a make that started this one is to reach the kernel's.
export LC_ALL=C
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES ARCH SUBARCH CROSS_COMPILE KBUILD_OUTPUT KCFLAGS LDFLAGS CFLAGS

fail() {
    say "$@"
    exit 1
}

# The newest of the archives that linux-source-* has put there.
find_source() {
    [ -n "$source" ] || source=$(find -L /usr/src -maxdepth 1 -name 'linux-source-*.tar.*' | sort -V | tail -n 1)
}

# What a kernel is made of: this fragment, and that archive as its package brought it.
ingredients() {
    cksum <kernel.config
    stat -L -c '%n %s %Y' "$source"
}

is_built() {
    [ -x "$program" ] || return 1
    if [ -n "$source" ]; then ingredients | cmp -s - "$program.from"
    else [ "$(cksum <kernel.config)" = "$(head -n 1 "$program.from" 2>/dev/null)" ]
    fi
}

system_packages() {
    missing=
    for pair in gcc:gcc make:make flex:flex bison:bison bc:bc xz:xz-utils; do
        command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    echo '#include <elf.h>' | gcc -fsyntax-only -x c - 2>/dev/null || missing="$missing libc6-dev"
    [ -n "$source" ] || missing="$missing linux-source"
    [ -n "$missing" ] || return 0
    if can_install; then
        say "Installing system packages:$missing"
        # shellcheck disable=SC2086
        install_quietly $missing
    else
        fail "These system packages are missing:$missing
Install them and try again: sudo apt-get install$missing"
    fi
}

# Options that the fragment has and the kernel's configuration has not. One whose name this source does not know is of
# an older or a newer kernel; one that it knows has conditions that are not met, and a lab would miss it.
check_options() {
    refused=$(grep '^CONFIG_' "$fragment" | grep -vxFf .config | while IFS='=' read -r name _; do
        ! grep -rqE --include='Kconfig*' "^(menu)?config ${name#CONFIG_}\$" . || printf ' %s' "$name"
    done)
    [ -z "$refused" ] || fail "This source does not grant what kernel.config asks for:$refused"
}

build() {
    fragment=$PWD/kernel.config
    work=$(mktemp -d "$folder/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' INT TERM HUP
    ingredients >"$work/from"
    say "Unpacking $source"
    tar -xf "$source" -C "$work"
    cd "$work"/*/
    make -s ARCH=um SUBARCH=x86_64 KCONFIG_ALLCONFIG="$fragment" allnoconfig >"$log" 2>&1 || failed
    check_options
    jobs=$(nproc)
    say "Compiling with $jobs jobs; on two processors it takes five to ten minutes (tail -f $log)"
    nice make -j"$jobs" ARCH=um SUBARCH=x86_64 linux >>"$log" 2>&1 || failed
    release=$(./linux --version) || fail "The kernel was built, but does not run: $PWD/linux --version"
    # Each put there whole, for a lab may start just now.
    cp linux "$work/program"
    mv "$work/program" "$program"
    mv "$work/from" "$program.from"
    rm -f "$log"
}

failed() {
    tail -n 20 "$log" >&2
    fail "The kernel could not be built. All that was said: $log"
}

[ "$(uname -m)" = x86_64 ] || fail "User Mode Linux is for x86_64 alone; this machine is $(uname -m)."
find_source
if is_built; then
    say "It is there already: $program ($("$program" --version)). To remove it: rm -r $folder"
    exit 0
fi
started=$(date +%s)
system_packages
find_source
[ -n "$source" ] || fail "There is no /usr/src/linux-source-*.tar.*; SRCIP_KERNEL_SOURCE may name such an archive."
mkdir -p "$folder"
exec 9>"$folder/lock"
flock -n 9 || fail "Another one is being built in $folder just now."
rm -rf "$folder"/build.*/  # of one that was killed
free=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1024))
[ "$free" -ge "$megabytes" ] || fail "$folder has $free MB free; to build a kernel takes $megabytes MB for a while."
build
say "Linux $release is built, after $(($(date +%s) - started)) seconds: $program
Labs take it by themselves; see what it can do: srcip-nb doctor"

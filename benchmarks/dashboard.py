"""The dashboard for an hour at 50 requests a second: does the memory of its process stay flat, and what does it cost?

    python benchmarks/dashboard.py               180 000 requests through state and texts, as fast as it goes; then
                                                 three minutes in a lab, sent and followed and drawn as in a notebook
    python benchmarks/dashboard.py --seconds 0   the first part only

The first part feeds what an hour feeds: a second is 50 results and 50 followed log lines as bytes, every fifth is
drawn, every minute the policy flips. Flat means: at the end at most 1.1 times what it was after the first tenth.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from srcip_nb.addresses import Entry, book_of
from srcip_nb.dashboard_expected import compare
from srcip_nb.dashboard_picture import picture
from srcip_nb.dashboard_state import Sent, Setting, State
from srcip_nb.dashboard_tables import before_and_after, expected_and_observed, log
from srcip_nb.dashboard_traffic import lines_of, shown_lines
from srcip_nb.dashboard_world import Node, Pod, View
from srcip_nb.logs_query import Container

RATE, HOUR, DRAW_EVERY = 50, 3600, 5
SECOND = 1_000_000_000
RUN = "8f1c02d4"
VIP, CLIENT = "192.168.1.56", "192.168.1.122"
LINE = (
    '2026-11-22T19:39:09.5Z {} - - [22/Nov/2026:19:39:09 +0000] "GET /?run={}&request={} HTTP/1.1" 200 9 "-" "x" "-"\n'
)


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def a_view() -> View:
    nodes = {"master01": "192.168.1.41", "worker01": "192.168.1.45", "worker02": "192.168.1.46"}
    pods = (Pod("web-1", "10.0.5.8", "worker01", "ready"), Pod("web-2", "10.0.30.88", "worker02", "ready"))
    book = book_of(
        [
            *(Entry(address, "node", name, name, "") for name, address in nodes.items()),
            Entry("10.0.5.0", "pod-network", "worker01", "worker01", ""),
            Entry(CLIENT, "client", "client", "", ""),
        ]
    )
    return View(
        world="lab",
        nodes=tuple(Node(name, address, True) for name, address in nodes.items()),
        pods=pods,
        clients=(("client", CLIENT),),
        vip=VIP,
        announcers=("worker01",),
        targets={"LoadBalancer": f"{VIP}:80"},
        node_port_at="worker01",
        book=book,
        owners={row.address: (str(row.kind), row.node) for row in book.itertuples()},
        info={"workers": 2, "clients": 1, "cni": "calico"},
    )


def an_hour() -> bool:
    """Feed an hour; returns whether memory stayed flat."""
    view, state = a_view(), State(Setting(rate=RATE))
    places = [
        Container(pod.name, pod.node, "seminar", "nginx", "uid", "deployment/web", 0, True, True) for pod in view.pods
    ]
    print(f"{'minute':>6}  {'requests':>8}  {'RSS MB':>7}  {'CPU ms a second':>15}")
    began, tenth = time.process_time(), 0.0
    for second in range(HOUR):
        at, is_local = second * SECOND, state.now.setting.external == "Local"
        ids = range(second * RATE, (second + 1) * RATE)
        target = view.targets["LoadBalancer"]
        state.sent([Sent(state.now.number, i, at + i % RATE, at + 900, "client", CLIENT, target, 200, "") for i in ids])
        source = [CLIENT, CLIENT] if is_local else ["192.168.1.45", "10.0.5.0"]
        data = {n: "".join(LINE.format(source[n], RUN, i) for i in ids if is_local * 2 or i % 2 == n) for n in (0, 1)}
        batches = [(places[n], 0, data[n].encode()) for n in (0, 1) if n == 0 or not is_local]
        state.lines.extend(shown_lines(batches))
        state.logged(lines_of(batches, RUN, view))
        state.tick(at + 1000)
        if second % DRAW_EVERY == 0:
            found = compare(state.now, view)
            texts = [picture(view, state.now), expected_and_observed(found, view), before_and_after(state, view)]
            texts.append(log(state))
        if second % 60 == 59:
            state.in_force(replace(state.now.setting, external="Cluster" if is_local else "Local"), at + 2000)
        if second % 360 == 359:
            spent, began = (time.process_time() - began) / 360 * 1000, time.process_time()
            tenth = tenth or rss_mb()
            print(f"{(second + 1) // 60:>6}  {state.total:>8}  {rss_mb():>7.1f}  {spent:>15.1f}", flush=True)
    ratio = rss_mb() / tenth
    size = sum(map(len, texts))
    print(f"{state.total} requests; a drawing is {size} characters; RSS {ratio:.2f} times the first tenth's")
    return ratio < 1.1


def a_real_run(seconds: float) -> bool:
    """Send, follow and draw in a lab; returns whether the last third needed no more memory than the second."""
    from srcip_nb import connect, dashboard
    from srcip_nb.lab import Lab

    with Lab() as lab:
        cluster = connect(lab=lab, quiet=True)
        shown = dashboard(cluster)
        shown.change("rate", RATE)
        cpu, began = time.process_time(), time.monotonic()
        shown.send()
        print(f"{'seconds':>7}  {'requests':>8}  {'RSS MB':>7}  {'in no log':>9}")
        taken = []
        for part in range(1, 7):
            while time.monotonic() - began < part * seconds / 6:
                time.sleep(0.2)
                if shown.last_error is not None:
                    raise shown.last_error
            taken.append(rss_mb())
            state = shown.traffic.state
            told = state.now.seen.unlogged + (state.before.seen.unlogged if state.before else 0)
            print(f"{part * seconds / 6:>7.0f}  {state.total:>8}  {taken[-1]:>7.1f}  {told:>9}", flush=True)
            shown.change("external", "Local" if shown.setting.external == "Cluster" else "Cluster")
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        rate = shown.traffic.state.total / (time.monotonic() - began)
        shown.close()
        ratio = taken[-1] / taken[2]
        print(f"{rate:.1f} requests/s; {share:.0%} of one CPU; memory at the end {ratio:.2f} times that at half time")
        return ratio < 1.1


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=180)
    wanted = arguments.parse_args().seconds
    is_flat = an_hour()
    if wanted:
        is_flat &= a_real_run(wanted)
    raise SystemExit(0 if is_flat else 1)

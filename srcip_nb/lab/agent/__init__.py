"""The agent: the only code of the project that touches a kernel.

It is the first process of its own pid, mount and network namespaces and is started as ``python -I -S DIRECTORY``, so it
is made of Python's standard library alone. It reads one JSON object a line on standard input and answers on standard
output (``protocol.py``); when its input ends, it ends, and the kernel takes every process and namespace with it.

    protocol    lines in, lines out           spaces      hosts and pods as sets of namespaces
    server      operations by name            netlink     the kernel's language for links, addresses, routes
    processes   fork, reap, pump              commands    ip(8), bridge(8), sysctl(8) lines done through it
    reactor     one thread for all that waits podroot     a pod's file system
    containers  what runs in pods, its log    arp, health, load    who owns a VIP, health checks, requests

Nothing is kept on the machine's disk: private state lies on a tmpfs that only the agent's mount namespace has.
"""

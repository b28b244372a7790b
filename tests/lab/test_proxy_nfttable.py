"""Tables of nftables as data: written, read back, and turned into one another by transactions."""

from __future__ import annotations

import pytest

from srcip_nb.lab.proxy.nfttable import Container, Table, as_listed, as_text, changes, from_text, remove, whole

NAME = "ip kube-proxy"


def table(elements: dict[str, str], chains: dict[str, tuple[str, ...]], **sets: tuple[str, ...]) -> Table:
    containers = {"service-ips": Container("map", ("type ipv4_addr : verdict", 'comment "all"'), elements)}
    containers |= {name: Container("set", lines) for name, lines in sets.items()}
    return Table(NAME, "rules", containers, {"services": ("jump x",), **chains})


TEXT = """table ip kube-proxy {
    comment "rules for kube-proxy"
    set cluster-ips {
        type ipv4_addr
        elements = { 10.1.0.1, 10.1.0.2, 10.1.0.3, 10.1.0.4, 10.1.0.10,
                10.1.0.11 }
    }

    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.1.0.2 . tcp . 80 comment "default/il" : drop,
                10.1.0.10 . tcp . 80 : goto service-B-default/b/tcp/ }
    }

    chain nat-output {
        type nat hook output priority -100; policy accept;
        jump services
    }

    chain reject-chain {
        comment "helper"
        reject
    }

    chain external-B-default/b/tcp/ {
        goto service-B-default/b/tcp/
    }

    chain service-B-default/b/tcp/ {
    }
}
"""


def test_text_is_read_and_written_alike():
    (read,) = from_text(TEXT)
    assert read.containers["service-ips"].elements == {
        "10.1.0.2 . tcp . 80": ' comment "default/il" : drop',
        "10.1.0.10 . tcp . 80": " : goto service-B-default/b/tcp/",
    }
    assert read.chains["reject-chain"] == ('comment "helper"', "reject")
    assert as_text([read]).split() == TEXT.split()
    assert from_text(as_text([read, read])) == [read, read]


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        ("dnat ip addr . port to numgen random mod 1 map {", "dnat ip to numgen random mod 1 map {"),
        ("ip saddr != { 1.2.3.4/32 } drop", "ip saddr != 1.2.3.4 drop"),
        ("ip saddr != { 1.2.3.5/32, 1.2.3.4/32 } drop", "ip saddr != { 1.2.3.4/31 } drop"),
        ("ip saddr != { 1.2.3.4/32, 1.2.3.4 } drop", "ip saddr != { 1.2.3.4 } drop"),
        ("ip saddr != { 128.0.0.0/1, 0.0.0.0/1 } drop", "ip saddr != { 0.0.0.0/0 } drop"),
        ("ip saddr != { 10.0.1.0/24, 10.0.2.0/24 } drop", "ip saddr != { 10.0.1.0-10.0.2.255 } drop"),
        ("ip saddr != { 10.0.0.0/8, 10.9.0.0/16, 9.9.9.9/32 } drop", "ip saddr != { 9.9.9.9, 10.0.0.0/8 } drop"),
    ],
)
def test_rules_are_listed_in_words_of_their_own(written, listed):
    # Each pair was seen with nft 1.0.6.
    assert as_listed(written) == listed


def test_nothing_changed_is_nothing_to_load():
    assert (
        changes(table({"1.1.1.1": " : drop"}, {"x": ("accept",)}), table({"1.1.1.1": " : drop"}, {"x": ("accept",)}))
        == ""
    )


def test_only_what_changed_is_mentioned():
    old = table(
        {"1.1.1.1": " : goto a", "2.2.2.2": " : goto a", "3.3.3.3": " : drop"}, {"a": ("accept",), "b": ("drop",)}
    )
    new = table(
        {"1.1.1.1": " : goto c", "2.2.2.2": " : goto a", "4.4.4.4": " : drop"}, {"a": ("drop",), "c": ("accept",)}
    )
    assert changes(old, new).splitlines() == [
        f"flush chain {NAME} a",
        f"flush chain {NAME} b",
        f"delete element {NAME} service-ips {{ 1.1.1.1, 3.3.3.3 }}",
        f"delete chain {NAME} b",
        f"add chain {NAME} c",
        f"add rule {NAME} a drop",
        f"add rule {NAME} c accept",
        f"add element {NAME} service-ips {{ 1.1.1.1 : goto c, 4.4.4.4 : drop }}",
    ]


def test_a_set_that_stays_keeps_what_the_kernel_put_into_it():
    first, longer = ("type ipv4_addr", "timeout 3h"), ("type ipv4_addr", "timeout 4h")
    old = table({}, {"a": ("update @s/1",)}, **{"s/1": first})
    assert " set " not in changes(old, table({}, {"a": ("update @s/1", "drop")}, **{"s/1": first}))
    anew = changes(old, table({}, {"a": ("update @s/1", "drop")}, **{"s/1": longer})).splitlines()
    assert anew.index(f"delete set {NAME} s/1") < anew.index(f"add set {NAME} s/1 {{ type ipv4_addr; timeout 4h; }}")
    rules = {"a": ("update @s/1 { ip saddr }",), "b": ("ip saddr @s/1 goto a",), "c": ("ip saddr @s/10 goto a",)}
    only_timeout = changes(table({}, rules, **{"s/1": first}), table({}, rules, **{"s/1": longer}))
    assert [line.split()[4] for line in only_timeout.splitlines() if line.startswith("flush")] == ["a", "b"]
    gone = changes(old, table({}, {})).splitlines()
    assert gone == [f"flush chain {NAME} a", f"delete set {NAME} s/1", f"delete chain {NAME} a"]


def test_a_whole_table_takes_the_place_of_another():
    text = whole([table({}, {"a": ("ip saddr != { 10.0.0.0/24, 10.0.1.0/24 } drop",)})])
    assert text.startswith(f"table {NAME}\ndelete table {NAME}\ntable {NAME} {{\n")
    assert "{ 10.0.0.0/24, 10.0.1.0/24 }" in text  # as it was written: what nft lists, it would shorten once more
    assert remove([NAME]) == f"table {NAME}\ndelete table {NAME}\n"

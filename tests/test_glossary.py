"""The glossary: the same words in both languages, each with an anchor that notebooks can link to."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
WORDS = {
    "endpoint", "endpointslice", "service", "clusterip", "nodeport", "loadbalancer", "vip", "kube-proxy", "snat",
    "dnat", "masquerade", "conntrack", "externaltrafficpolicy", "internaltrafficpolicy", "healthchecknodeport", "cni",
    "vxlan", "tunnel-address", "hairpin", "session-affinity", "x-forwarded-for", "proxy-protocol",
    "layer-2-announcement", "bgp", "ecmp", "iptables", "nftables", "ipvs", "chain", "mark", "namespace", "pod-network",
}  # fmt: skip


def entries(lang: str) -> dict[str, str]:
    """Anchor -> what stands under it."""
    text = (DOCS / f"glossary.{lang}.md").read_text(encoding="utf-8")
    parts = re.split(r'^<a id="([^"]+)"></a>$', text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_both_languages_have_the_same_words_in_the_same_order():
    assert list(entries("en")) == list(entries("ja"))
    assert set(entries("en")) >= WORDS


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_each_word_is_headed_explained_and_unique(lang):
    text = (DOCS / f"glossary.{lang}.md").read_text(encoding="utf-8")
    anchors = re.findall(r'<a id="([^"]+)"', text)
    assert len(anchors) == len(set(anchors)) == len(re.findall(r"^## ", text, re.MULTILINE))
    for anchor, body in entries(lang).items():
        heading, explanation = re.fullmatch(r"\n+## (.+)\n\n(.+)\n*", body).groups()
        assert heading and len(explanation) > 20, anchor


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_links_from_word_to_word_lead_somewhere(lang):
    known = entries(lang)
    for body in known.values():
        assert set(re.findall(r"\]\(#([^)]+)\)", body)) <= set(known)

"""Which proxy modes work, as a learner reads it."""

from srcip_nb.lab.agent.modes import TRIALS, try_modes

# nftables 1.0.6 on User Mode Linux 6.1 (Debian 12), where the kernel has no nf_tables
NFT = """Error: Could not process rule: Operation not supported
add table ip trial
^^^^^^^^^^^^^^^^^^^
netlink: Error: cache initialization failed: Invalid argument
"""


def test_of_nfts_words_the_errors_alone():
    found = try_modes(lambda argv: (1, NFT) if "nft" in argv[-1] else (0, ""))
    wanted = "Could not process rule: Operation not supported; cache initialization failed: Invalid argument"
    assert found.pop("nftables") == wanted
    assert found == dict.fromkeys(TRIALS.keys() - {"nftables"}, "")


def test_other_words_in_one_line_or_the_exit_status():
    assert set(try_modes(lambda argv: (3, "")).values()) == {"exit status 3"}
    assert set(try_modes(lambda argv: (1, "modprobe: not\n found\n")).values()) == {"modprobe: not found"}

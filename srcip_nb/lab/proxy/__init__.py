"""kube-proxy and MetalLB: Services and EndpointSlices in, the text that a kernel loads out.

    model, state       objects -> service ports, endpoints, and a Plan for each node: shared by every proxy mode
    iptables, ruleset  mode iptables: a Plan -> chains and rules; what changes between two sets of rules
    nftables, nfttable mode nftables: a Plan -> map elements and chains; what changes between two tables
    node               the rules of one node, loaded and taken away by the agent
    health, conntrack  what a node answers to load balancers; UDP flows to forget
    vips               which Service has which address, and which node announces it
    render             `srcip-nb render-rules`

All but node and render are pure functions. controllers/proxy.py and controllers/loadbalancer.py run them.
"""

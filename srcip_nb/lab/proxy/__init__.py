"""kube-proxy: Services and EndpointSlices in, the text that a kernel loads out."""

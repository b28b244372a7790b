"""The lab: a small Kubernetes API over a real Linux kernel's networking."""

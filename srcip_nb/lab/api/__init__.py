"""The Kubernetes API of the lab."""

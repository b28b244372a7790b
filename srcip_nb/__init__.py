"""A request reaches a pod: whose address does the pod see, and why?"""

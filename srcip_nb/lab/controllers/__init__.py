"""The controllers: what makes of the objects in the store what they ask for.

    namespace, garbage          what every namespace holds; what goes with what
    deployment, replicaset      Deployment -> ReplicaSet -> pods          (decided in rollout, rollout_status)
    scheduler, node             pod -> node; nodes and their taints
    kubelet                     pod on a node -> namespaces, nginx, logs  (kubelet_*)
    endpoints                   Service + pods -> EndpointSlices          (decided in endpointslices)
    proxy, loadbalancer         Services -> rules of each node; addresses that answer

Decisions are pure functions of objects; the loops around them (`loop.Controller`) read the store, call them and write.
"""

from srcip_nb.lab.controllers.run import run_controllers

__all__ = ["run_controllers"]

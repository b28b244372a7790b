"""The numbers of fields in Kubernetes' protobuf messages, for the messages that kubectl sends.

A line is a message and its fields in order of their numbers, which count up from 1; "17:managedFields" jumps to 17. A
name with a star is a message whose fields stand, in JSON, among its parent's. What is not here is refused.

Source: k8s.io/api core/v1, apps/v1, authentication/v1, authorization/v1 and k8s.io/apimachinery meta/v1
generated.proto; numbers never change once given.
"""

from __future__ import annotations

_TABLE = """
    ObjectMeta = name generateName namespace selfLink uid resourceVersion generation creationTimestamp
        deletionTimestamp deletionGracePeriodSeconds labels annotations ownerReferences finalizers 17:managedFields
    OwnerReference = kind 3:name uid apiVersion controller blockOwnerDeletion
    ManagedFieldsEntry = manager operation apiVersion time 6:fieldsType fieldsV1 subresource
    DeleteOptions = gracePeriodSeconds preconditions orphanDependents propagationPolicy dryRun
        ignoreStoreReadErrorWithClusterBreakingPotential
    Preconditions = uid resourceVersion
    LabelSelector = matchLabels matchExpressions
    LabelSelectorRequirement = key operator values
    Namespace = metadata spec status
    NamespaceSpec = finalizers
    NamespaceStatus = phase conditions
    ConfigMap = metadata data binaryData immutable
    Service = metadata spec status
    ServiceSpec = ports selector clusterIP type externalIPs 7:sessionAffinity loadBalancerIP
        loadBalancerSourceRanges externalName externalTrafficPolicy healthCheckNodePort publishNotReadyAddresses
        sessionAffinityConfig 17:ipFamilyPolicy clusterIPs ipFamilies allocateLoadBalancerNodePorts
        loadBalancerClass internalTrafficPolicy trafficDistribution
    ServicePort = name protocol port targetPort nodePort appProtocol
    SessionAffinityConfig = clientIP
    ClientIPConfig = timeoutSeconds
    ServiceStatus = loadBalancer conditions
    LoadBalancerStatus = ingress
    LoadBalancerIngress = ip hostname ipMode ports
    PortStatus = port protocol error
    Deployment = metadata spec status
    DeploymentSpec = replicas selector template strategy minReadySeconds revisionHistoryLimit paused
        9:progressDeadlineSeconds
    DeploymentStrategy = type rollingUpdate
    RollingUpdateDeployment = maxUnavailable maxSurge
    DeploymentStatus = observedGeneration replicas updatedReplicas availableReplicas unavailableReplicas
        conditions readyReplicas collisionCount terminatingReplicas
    ReplicaSet = metadata spec status
    ReplicaSetSpec = replicas selector template minReadySeconds
    ReplicaSetStatus = replicas fullyLabeledReplicas observedGeneration readyReplicas availableReplicas
        conditions terminatingReplicas
    PodTemplateSpec = metadata spec
    Pod = metadata spec status
    PodSpec = volumes containers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy
        nodeSelector serviceAccountName serviceAccount nodeName hostNetwork hostPID hostIPC securityContext
        imagePullSecrets hostname subdomain affinity schedulerName initContainers automountServiceAccountToken
        tolerations hostAliases priorityClassName priority dnsConfig shareProcessNamespace readinessGates
        runtimeClassName enableServiceLinks preemptionPolicy overhead topologySpreadConstraints ephemeralContainers
        setHostnameAsFQDN os hostUsers schedulingGates resourceClaims resources hostnameOverride 43:schedulingGroup
    Toleration = key operator value effect tolerationSeconds
    PodSecurityContext = seLinuxOptions runAsUser runAsNonRoot supplementalGroups fsGroup runAsGroup sysctls
        windowsOptions fsGroupChangePolicy seccompProfile appArmorProfile supplementalGroupsPolicy
        seLinuxChangePolicy
    LocalObjectReference = name
    TopologySpreadConstraint = maxSkew topologyKey whenUnsatisfiable labelSelector minDomains nodeAffinityPolicy
        nodeTaintsPolicy matchLabelKeys
    Container = name image command args workingDir ports env resources volumeMounts livenessProbe readinessProbe
        lifecycle terminationMessagePath imagePullPolicy securityContext stdin stdinOnce tty envFrom
        terminationMessagePolicy volumeDevices startupProbe resizePolicy restartPolicy restartPolicyRules
    ContainerPort = name hostPort containerPort protocol hostIP
    EnvVar = name value valueFrom
    EnvVarSource = fieldRef resourceFieldRef configMapKeyRef secretKeyRef fileKeyRef
    ObjectFieldSelector = apiVersion fieldPath
    ConfigMapKeySelector = *LocalObjectReference key optional
    EnvFromSource = prefix configMapRef secretRef
    ConfigMapEnvSource = *LocalObjectReference optional
    ResourceRequirements = limits requests claims
    SecurityContext = capabilities privileged seLinuxOptions runAsUser runAsNonRoot readOnlyRootFilesystem
        allowPrivilegeEscalation runAsGroup procMount windowsOptions seccompProfile appArmorProfile
    Capabilities = add drop
    VolumeMount = name readOnly mountPath subPath mountPropagation subPathExpr recursiveReadOnly
    Probe = *ProbeHandler initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold
        terminationGracePeriodSeconds
    ProbeHandler = exec httpGet tcpSocket grpc
    HTTPGetAction = path port host scheme httpHeaders
    HTTPHeader = name value
    TCPSocketAction = port host
    ExecAction = command
    Lifecycle = postStart preStop stopSignal
    LifecycleHandler = exec httpGet tcpSocket sleep
    Volume = name *VolumeSource
    VolumeSource = hostPath emptyDir gcePersistentDisk awsElasticBlockStore gitRepo secret nfs iscsi glusterfs
        persistentVolumeClaim rbd flexVolume cinder cephfs flocker downwardAPI fc azureFile configMap vsphereVolume
        quobyte azureDisk photonPersistentDisk portworxVolume scaleIO projected storageos csi ephemeral image
    ConfigMapVolumeSource = *LocalObjectReference items defaultMode optional
    KeyToPath = key path mode
    EmptyDirVolumeSource = medium sizeLimit
    HostPathVolumeSource = path type
    PodStatus = phase conditions message reason hostIP podIP startTime containerStatuses qosClass
        initContainerStatuses nominatedNodeName podIPs ephemeralContainerStatuses resize resourceClaimStatuses
        hostIPs observedGeneration extendedResourceClaimStatus allocatedResources resources
        nodeAllocatableResourceClaimStatuses
    Node = metadata spec status
    NodeSpec = podCIDR externalID providerID unschedulable taints configSource podCIDRs
    Taint = key value effect timeAdded
    SelfSubjectReview = metadata status
    SelfSubjectReviewStatus = userInfo
    UserInfo = username uid groups extra
    SelfSubjectAccessReview = metadata spec status
    SelfSubjectAccessReviewSpec = resourceAttributes nonResourceAttributes
    ResourceAttributes = namespace verb group version resource subresource name fieldSelector labelSelector
    NonResourceAttributes = path verb
    SubjectAccessReviewStatus = allowed reason evaluationError denied
    SelfSubjectRulesReview = metadata spec status
    SelfSubjectRulesReviewSpec = namespace
    SubjectRulesReviewStatus = resourceRules nonResourceRules incomplete evaluationError
"""


def _numbered(line: str) -> tuple[str, dict[int, str]]:
    message, _, names = line.partition(" = ")
    fields, number = {}, 1
    for word in names.split():
        jump, colon, name = word.rpartition(":")
        number = int(jump) if colon else number
        fields[number] = name
        number += 1
    return message, fields


FIELDS: dict[str, dict[int, str]] = dict(
    _numbered(line.strip()) for line in _TABLE.replace("\n        ", " ").strip().splitlines()
)
"""Field names by message and number."""

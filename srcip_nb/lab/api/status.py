"""What the API says when it refuses: Status objects, in the words of a real Kubernetes API server.

An `ApiError` carries one Status dict; the HTTP part sends it as it is, with its code. Each function below makes one
kind of refusal (`not_found`, `already_exists`, `conflict` ...), so that no other module writes such a sentence itself:

    raise status.not_found("services", "webserver")      # services "webserver" not found

A refused object (422) tells its reasons as causes, one per field:

    raise status.invalid("Service", "bad", [status.required("spec.ports")])
    # Service "bad" is invalid: spec.ports: Required value

Resources and kinds outside the core group are written with it (deployments.apps "x", Deployment.apps "x"), as a real
server does; callers pass the plain plural or kind, the group is looked up here unless they name one.

Source: kubernetes v1.36.2 apimachinery pkg/api/errors/errors.go and pkg/util/validation/field/errors.go.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

_GROUPS = {
    "deployments": "apps",
    "Deployment": "apps",
    "replicasets": "apps",
    "ReplicaSet": "apps",
    "endpointslices": "discovery.k8s.io",
    "EndpointSlice": "discovery.k8s.io",
}


class ApiError(Exception):
    """A request that the API refuses.

    Args:
        status: the Status object that the client receives.

    Attributes:
        status: the same dict.
        code: its HTTP status code.
        message: its sentence, which is also `str(error)`.
    """

    def __init__(self, status: dict[str, Any]) -> None:
        self.status = status
        self.code: int = status["code"]
        self.message: str = status["message"]
        super().__init__(self.message)


class Cause(NamedTuple):
    """Why one field is refused.

    `reason` is a word of the API, `message` a sentence, `field` a path like spec.ports[0].port.
    """

    reason: str
    message: str
    field: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


# -- causes: one field each ------------------------------------------------------------------------------------------


def quoted(value: Any) -> str:
    """A value as an error message shows it: JSON without spaces, keys sorted, as Go's encoder writes it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text if isinstance(value, str) else go_escape(text)


def go_map(value: Any) -> str:
    """A decoded JSON value as Go prints it with %v: map[spec:map[replicas:2]], as errors about a patch show it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_map(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_map, value)) + "]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def go_escape(text: str) -> str:
    """JSON text with <, > and & escaped, as Go's encoding/json writes them."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def required(field: str, detail: str = "") -> Cause:
    """The field is missing or empty."""
    return Cause("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", field)


def invalid_value(field: str, value: Any, detail: str) -> Cause:
    """The field holds a value that it may not hold."""
    return Cause("FieldValueInvalid", f"Invalid value: {quoted(value)}: {detail}", field)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> Cause:
    """The field takes a few words only and this is none of them; `supported` is shown sorted."""
    words = ", ".join(quoted(word) for word in sorted(supported))
    return Cause("FieldValueNotSupported", f"Unsupported value: {quoted(value)}: supported values: {words}", field)


def duplicate(field: str, value: Any) -> Cause:
    """The same value stands twice in a list that holds each once."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {quoted(value)}", field)


def forbidden_value(field: str, detail: str) -> Cause:
    """The field may not be set, or not be changed."""
    return Cause("FieldValueForbidden", f"Forbidden: {detail}", field)


def not_found_value(field: str, value: Any) -> Cause:
    """The field names something that the object does not have."""
    return Cause("FieldValueNotFound", f"Not found: {quoted(value)}", field)


def too_long(field: str, max_length: int, unit: str = "bytes") -> Cause:
    """The value is longer than `max_length`; the value itself is not repeated."""
    return Cause("FieldValueTooLong", f"Too long: may not be more than {max_length} {unit}", field)


# -- refusals --------------------------------------------------------------------------------------------------------


def make_status(code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
    """A Status object that says Failure; `details` is left out when None and kept when empty."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    status["message"] = message
    status["reason"] = reason
    if details is not None:
        status["details"] = details
    status["code"] = code
    return status


def success(resource: str, name: str, uid: str, group: str | None = None) -> dict[str, Any]:
    """The Status object that answers a DELETE whose object is gone."""
    details = _details(resource, name, group)
    details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def bad_request(message: str) -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(make_status(400, "BadRequest", message))


def unauthorized() -> ApiError:
    """401: no token, or a wrong one."""
    return ApiError(make_status(401, "Unauthorized", "Unauthorized"))


def forbidden(resource: str, name: str, detail: str, group: str | None = None) -> ApiError:
    """403: allowed to nobody here, `detail` says why."""
    details = _details(resource, name, group)
    named = f"{_qualified(resource, group)} {quoted(name)}" if name else _qualified(resource, group)
    message = f"{named} is forbidden: {detail}"
    return ApiError(make_status(403, "Forbidden", message, details))


def path_not_found() -> ApiError:
    """404: no resource of this server has that path."""
    return ApiError(make_status(404, "NotFound", "the server could not find the requested resource", {}))


def not_found(resource: str, name: str, group: str | None = None) -> ApiError:
    """404: no object of that name; `resource` is the plural (services)."""
    message = f"{_qualified(resource, group)} {quoted(name)} not found"
    return ApiError(make_status(404, "NotFound", message, _details(resource, name, group)))


def method_not_allowed() -> ApiError:
    """405: the path exists, the verb does not."""
    message = "the server does not allow this method on the requested resource"
    return ApiError(make_status(405, "MethodNotAllowed", message, {}))


def not_acceptable(accepted: Iterable[str]) -> ApiError:
    """406: the client accepts none of the media types that the server writes."""
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return ApiError(make_status(406, "NotAcceptable", message))


def already_exists(resource: str, name: str, group: str | None = None) -> ApiError:
    """409: an object of that name is there."""
    message = f"{_qualified(resource, group)} {quoted(name)} already exists"
    return ApiError(make_status(409, "AlreadyExists", message, _details(resource, name, group)))


def conflict(resource: str, name: str, detail: str = "", group: str | None = None) -> ApiError:
    """409: the object changed since the client read it, or `detail`."""
    detail = detail or "the object has been modified; please apply your changes to the latest version and try again"
    message = f"Operation cannot be fulfilled on {_qualified(resource, group)} {quoted(name)}: {detail}"
    return ApiError(make_status(409, "Conflict", message, _details(resource, name, group)))


def apply_conflict(message: str, causes: Iterable[Cause]) -> ApiError:
    """409: server-side apply meets fields that another manager owns; each cause names a manager and a field."""
    return ApiError(make_status(409, "Conflict", message, {"causes": [_cause(cause) for cause in causes]}))


def gone(message: str) -> ApiError:
    """410: the resource version asked for is older than the history that is kept."""
    return ApiError(make_status(410, "Expired", message))


def too_large(limit: int | str) -> ApiError:
    """413: the body is longer than `limit` bytes, or another limit is passed, which `limit` then tells in words."""
    sentence = f"limit is {limit}" if isinstance(limit, int) else limit
    return ApiError(make_status(413, "RequestEntityTooLarge", f"Request entity too large: {sentence}"))


def unsupported_media_type(message: str = "415: Unsupported Media Type") -> ApiError:
    """415: a body, or a patch, of a media type that the server does not read."""
    return ApiError(make_status(415, "UnsupportedMediaType", message, {}))


def invalid(kind: str, name: str, causes: Iterable[Cause], group: str | None = None) -> ApiError:
    """422: the object is understood and refused, for each of `causes`; `kind` is the object's kind (Service)."""
    causes = list(dict.fromkeys(causes))
    reasons = ", ".join(str(cause) for cause in causes)
    message = f"{_qualified(kind, group)} {quoted(name)} is invalid: {reasons if len(causes) == 1 else f'[{reasons}]'}"
    details = _details(kind, name, group)
    details["causes"] = [_cause(cause) for cause in causes]
    return ApiError(make_status(422, "Invalid", message, details))


def invalid_patch(patch: Any, detail: str) -> ApiError:
    """422: a patch that gives something that is no object of its kind, such as an unknown field or a wrong type.

    Args:
        patch: the decoded patch (shown as Go prints a map) or a text (shown as it is).
        detail: the decoder's sentence.
    """
    shown = patch if isinstance(patch, str) else go_map(patch)
    return invalid("", "", [invalid_value("patch", shown, detail)])


def rejected_patch(detail: str) -> ApiError:
    """422: a patch that cannot be carried out; a real server says no more than that, `detail` goes to a cause."""
    message = "the server rejected our request due to an error in our request"
    cause = Cause("UnexpectedServerResponse", detail, "patch")
    return ApiError(make_status(422, "Invalid", message, {"causes": [_cause(cause)]}))


def unknown_error(message: str) -> ApiError:
    """500 without a reason: what a real server answers to an error that it has no word for."""
    status = make_status(500, "", message)
    del status["reason"]
    return ApiError(status)


def internal_error(message: str) -> ApiError:
    """500: the server's own fault."""
    details = {"causes": [{"message": message}]}
    return ApiError(make_status(500, "InternalError", f"Internal error occurred: {message}", details))


def _group(word: str, group: str | None) -> str:
    return _GROUPS.get(word, "") if group is None else group


def _qualified(word: str, group: str | None) -> str:
    in_group = _group(word, group)
    return f"{word}.{in_group}" if in_group else word


def _details(word: str, name: str, group: str | None) -> dict[str, Any]:
    details = {"name": name, "group": _group(word, group), "kind": word}
    return {key: value for key, value in details.items() if value}


def _cause(cause: Cause) -> dict[str, str]:
    return {"reason": cause.reason, "message": cause.message, "field": cause.field}

"""What names, labels, ports and addresses may look like: each function returns the complaints, [] when there are none.

The sentences are those of a real API server, which callers wrap into a field's cause:

    dns_label("My-App")     # ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters ..."]

Source: kubernetes v1.36.2 apimachinery pkg/util/validation/{validation,ip}.go and pkg/api/validate/content/.
"""

from __future__ import annotations

import ipaddress
import re

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_PERCENT = "[0-9]+%"
_HEADER = "[-A-Za-z0-9]+"

_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_KEY_TEXT = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character"
)


def _pattern_error(text: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {shown}regex used for validation is '{pattern}')"


def _too_long(text: str, length: int) -> list[str]:
    return [f"must be no more than {length} bytes"] if len(text.encode()) > length else []


def between(value: int, lowest: int, highest: int) -> list[str]:
    """A number from `lowest` to `highest`."""
    return [] if lowest <= value <= highest else [f"must be between {lowest} and {highest}, inclusive"]


def port_number(port: int) -> list[str]:
    """A port, 1 to 65535."""
    return between(port, 1, 65535)


def port_name(name: str) -> list[str]:
    """The name of a container's port (RFC 6335)."""
    errors = _too_long(name, 15)
    if not re.fullmatch("[-a-z0-9]+", name):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", name):
        errors.append("must contain at least one letter (a-z)")
    if "--" in name:
        errors.append("must not contain consecutive hyphens")
    if name.startswith("-") or name.endswith("-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def dns_label(name: str) -> list[str]:
    """A name without dots, of at most 63 characters: namespaces, Services, containers, volumes."""
    errors = _too_long(name, 63)
    if re.fullmatch(_LABEL, name):
        return errors
    if re.fullmatch(_SUBDOMAIN, name):
        return [*errors, "must not contain dots"]
    return [*errors, _pattern_error(_LABEL_TEXT, _LABEL, "my-name", "123-abc")]


def dns_subdomain(name: str) -> list[str]:
    """A name with dots, of at most 253 characters: most objects."""
    errors = _too_long(name, 253)
    if not re.fullmatch(_SUBDOMAIN, name):
        errors.append(_pattern_error(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return errors


def label_key(key: str) -> list[str]:
    """The key of a label or annotation, a finalizer, an application protocol."""
    parts = key.split("/")
    pattern_error = _pattern_error(_KEY_TEXT, _KEY, "MyName", "my.name", "123-abc")
    if len(parts) > 2:
        optional = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a valid label key {pattern_error} {optional}"]
    errors = []
    if len(parts) == 2:
        complaints = dns_subdomain(parts[0]) if parts[0] else ["must be non-empty"]
        errors = [f"prefix part {complaint}" for complaint in complaints]
    name = parts[-1]
    complaints = _too_long(name, 63) if name else ["must be non-empty"]
    errors += [f"name part {complaint}" for complaint in complaints]
    if not re.fullmatch(_KEY, name):
        errors.append(f"name part {pattern_error}")
    return errors


def label_value(value: str) -> list[str]:
    """The value of a label."""
    errors = _too_long(value, 63)
    if not re.fullmatch(f"({_KEY})?", value):
        errors.append(_pattern_error(_VALUE_TEXT, f"({_KEY})?", "MyValue", "my_value", "12345"))
    return errors


def config_key(key: str) -> list[str]:
    """A key of a ConfigMap, which becomes a file's name."""
    errors = _too_long(key, 253)
    if not re.fullmatch(_CONFIG_KEY, key):
        text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        errors.append(_pattern_error(text, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if key in (".", ".."):
        errors.append(f"must not be '{key}'")
    elif key.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def percent(text: str) -> list[str]:
    """A percentage: 25%."""
    if re.fullmatch(_PERCENT, text):
        return []
    message = "a valid percent string must be a numeric string followed by an ending '%'"
    return [_pattern_error(message, _PERCENT, "1%", "93%")]


def header_name(name: str) -> list[str]:
    """The name of an HTTP header."""
    if re.fullmatch(_HEADER, name):
        return []
    return [
        _pattern_error("a valid HTTP header must consist of alphanumeric characters or '-'", _HEADER, "X-Header-Name")
    ]


def environment_name(name: str) -> list[str]:
    """The name of an environment variable."""
    if not name:
        return ["environment variable name must be non-empty"]
    if all(" " <= letter <= "~" and letter != "=" for letter in name):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def ip_address(text: str) -> list[str]:
    """An IPv4 or IPv6 address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        if re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", text) and all(int(part) < 256 for part in text.split(".")):
            return ["must not have leading 0s"]
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return ["must not be an IPv4-mapped IPv6 address"]
    return []


def endpoint_address(text: str) -> list[str]:
    """An address that traffic can be sent to: not 0.0.0.0, not loopback, not link-local."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ["must be a valid IP address"]
    errors = []
    if address.is_unspecified:
        errors.append(f"may not be unspecified ({text})")
    if address.is_loopback:
        errors.append("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        errors.append("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    link_local_multicast = ("224.0.0.0/24", "ff02::/10")
    if any(address in ipaddress.ip_network(network, strict=False) for network in link_local_multicast):
        errors.append("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    return errors


def cidr(text: str) -> list[str]:
    """An address range: 10.9.8.0/24."""
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    if "/" not in text:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    if interface.ip != interface.network.network_address:
        return ["must not have bits set beyond the prefix length"]
    return []

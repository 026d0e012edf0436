"""The JSON Schema of a deployment's file, for editors.

The reader is what decides; the schema may be stricter.
"""

import json
import re
from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, Final

from .config import IsolationLevel, Permission
from .policy import KEYS, MAY_BE_ZERO, SECTION
from .policy_file import BANDWIDTH, BYTES, TIME
from .policy_grants import NAME_LENGTH, PLUGIN_PATTERN, MessageGrant
from .policy_http import METHOD, NetworkGrant
from .policy_signatures import KEY_ID, Identity, Signatures, TrustedKey
from .policy_supervision import MAY_BE_NONE as NO_TIME, READERS as SUPERVISION, TIMES, Supervision
from .policy_syscalls import FORMATS
from .policy_terms import LAYERS, LIMITS, MAY_BE_NONE, Limits, Policy


def _amount(units: Mapping[str, int]) -> dict[str, Any]:
    return {"type": "string", "pattern": rf"^[0-9]{{1,15}}(\.[0-9]{{1,6}})? ?({'|'.join(units)})$"}


_FLAG: Final = {"type": "boolean"}
_GRANT: Final = {"$ref": "#/$defs/grant"}
_NAME: Final = {"type": "string", "pattern": rf"^\S{{1,{NAME_LENGTH}}}$"}
_NAMES: Final = {"type": "array", "items": _NAME}
_SHAPES: Final[dict[str, dict[str, Any]]] = {
    "extends": {"enum": [str(level) for level in IsolationLevel]},
    "description": {"type": "string", "minLength": 1},
    "view": {"enum": ["engine", "minimal", "system"]},
    "after_load": {"enum": ["none", "read-only"]},
    "read": {"type": "array", "items": {"type": "string", "pattern": "^/."}},
    "write": {"type": "array", "items": {"type": "string", "pattern": "^/."}},
    "network": {"anyOf": [_FLAG, _GRANT, {"type": "array", "items": _GRANT, "minItems": 1}]},
    "processes": _FLAG,
    "threads": _FLAG,
    "busy_poll": _FLAG,
    "permissions": {
        "anyOf": [
            {"const": "granted"},
            {"type": "array", "items": {"enum": [str(one) for one in Permission]}},
        ]
    },
    "require": {"type": "array", "items": {"enum": list(LAYERS)}},
    "on_violation": {"enum": ["kill", "deny", "log"]},
    "max_violations": {"type": "integer", "minimum": 0},
    "host_functions": _NAMES,
    "auto_update": {"enum": ["none", "patch", "minor", "any"]},
    "auto_update_interval": _amount(TIME),
    "auto_update_min_age": {"anyOf": [_amount(TIME), {"const": 0}]},
    "auto_update_canary": {"type": "string", "pattern": "^(none|([1-9][0-9]?|100)%)$"},
    "config": {"type": "object", "propertyNames": {"minLength": 1, "maxLength": 128}},
}
_ABOUT: Final = {
    "extends": "The isolation level to start from.",
    "limits": "How much a plugin may use.",
    "network": "The host's whole network (true), none, or what the host's broker may be asked to fetch.",
    "config": "What the plugin's frys.config reads, key by key over the defaults of its plugin.json.",
    "syscalls": "System calls to add to the level's lists or to take from them, each with its reason.",
    "plugins": "What is different for single plugins, by id or by a pattern with * and ?.",
    "permissions": "The permissions that a plugin.json may ask for; granted: those that the grants open.",
}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a deployment's file."""
    about = {**_described(Policy), **_ABOUT}
    shapes = {
        **_SHAPES,
        **{name: _defined(name) for name in ("limits", "messages", "signatures", "supervision", "syscalls")},
    }
    keys = {key: {"description": about[key], **shapes[key]} for key in KEYS}
    plugins = {
        "description": about["plugins"],
        "type": "object",
        "propertyNames": {"pattern": SECTION.pattern},
        "additionalProperties": _object(keys),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A policy of Frys",
        "required": ["extends"],
        **_object({**keys, "plugins": plugins}),
        "$defs": {
            "limits": _limits_schema(),
            "grant": _grant_schema(),
            "messages": _messages_schema(),
            "signatures": _signatures_schema(),
            "supervision": _supervision_schema(),
            **_syscalls_schemas(),
        },
    }


def _defined(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _limits_schema() -> dict[str, Any]:
    about = _described(Limits)
    found: dict[str, Any] = {}
    for name, units in LIMITS.items():
        zero = [{"const": 0}] if name in MAY_BE_ZERO else []
        amount = _amount(units) if units else {"type": "integer", "minimum": 1}
        other = [{"const": "none"}] if units in MAY_BE_NONE else zero
        found[name] = {"description": about[name], **({"anyOf": [amount, *other]} if other else amount)}
    return _object(found)


def _grant_schema() -> dict[str, Any]:
    size = {"anyOf": [_amount(BYTES), {"const": 0}]}
    port = {"type": "integer", "minimum": 1, "maximum": 65535}
    method = {"type": "string", "pattern": f"^(?!CONNECT$){METHOD.pattern}$"}
    shapes: dict[str, dict[str, Any]] = {
        "hosts": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
        "ports": {"type": "array", "items": port, "minItems": 1},
        "methods": {"type": "array", "items": method, "minItems": 1},
        "bandwidth": {"anyOf": [_amount(BANDWIDTH), {"const": "none"}]},
        "private": _FLAG,
        "plain": _FLAG,
        "max_request": size,
        "max_response": size,
        "timeout": _amount(TIME),
    }
    return {**_documented(NetworkGrant, shapes), "required": ["hosts"]}


def _messages_schema() -> dict[str, Any]:
    functions = {**_NAMES, "minItems": 1}
    call = {"type": "object", "propertyNames": _NAME, "additionalProperties": functions}
    return _documented(MessageGrant, {"call": call, "publish": _NAMES, "subscribe": _NAMES})


def _signatures_schema() -> dict[str, Any]:
    names = {"pattern": f"^{KEY_ID.pattern}$"}
    text = {"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$"}
    ids = {
        "type": "array",
        "items": {"type": "string", "pattern": f"^{PLUGIN_PATTERN.pattern}$"},
        "minItems": 1,
    }
    limited = {**_documented(TrustedKey, {"key": text, "ids": ids}), "required": ["key"]}
    key = {"anyOf": [text, limited]}
    word = {"type": "string", "minLength": 1}
    identity = _documented(Identity, {"identity": word, "issuer": word, "ids": ids})
    identity["required"] = ["identity", "issuer"]
    return _documented(
        Signatures,
        {
            "required": _FLAG,
            "keys": {"type": "object", "propertyNames": names, "additionalProperties": key},
            "identities": {"type": "object", "propertyNames": names, "additionalProperties": identity},
            "threshold": {"type": "integer", "minimum": 1},
        },
    )


def _supervision_schema() -> dict[str, Any]:
    time, none = _amount(TIME), {"const": "none"}
    shapes: dict[str, dict[str, Any]] = {
        name: {"anyOf": [time, none]} if name in NO_TIME else time for name in SUPERVISION if name in TIMES
    }
    shapes["backoff"] = {"anyOf": [time, {"const": 0}]}
    shapes["lazy"] = _FLAG
    shapes["instances"] = {
        "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^(up to )?[0-9]+$"}]
    }
    for name in ("max_queue", "max_crashes", "max_failures"):
        shapes[name] = {"type": "integer", "minimum": 0}
    return _documented(Supervision, shapes)


def _documented(kind: type, shapes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    about = _described(kind)
    return _object({name: {"description": about[name], **shape} for name, shape in shapes.items()})


def _syscalls_schemas() -> dict[str, Any]:
    why = {"type": "string", "minLength": 1}
    when = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    rule = {**_object({"when": when, "why": why}), "required": ["when", "why"]}
    calls = {"type": "object", "additionalProperties": {"anyOf": [why, rule]}}
    return {
        "calls": calls,
        "phases": _object(dict.fromkeys(("load", "serve"), _defined("calls"))),
        "sections": _object(dict.fromkeys(("common", *FORMATS), _defined("phases"))),
        "syscalls": _object(dict.fromkeys(("allow", "forbid"), _defined("sections"))),
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _described(kind: type) -> dict[str, str]:
    """The descriptions of a class's attributes, from its docstring."""
    text = cleandoc(kind.__doc__ or "").partition("Attributes:")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", about).replace("``", "") for name, about in found}


def schema_text() -> str:
    """The text of ``policies/policy.schema.json``."""
    return json.dumps(schema(), indent=2) + "\n"

# SPDX-License-Identifier: Apache-2.0
"""An alert in plain words: who did what, and what became of it. It only reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monitor.alerts import Action, Alert
from monitor.text import terminal

_LONGEST = 160

Fields = Mapping[str, Any]
Said = tuple[str, str]
"""The same act done, and tried: `opened X to write`, `open X to write`."""


def sentence(alert: Alert) -> str:
    """What happened, for somebody who has never seen this program."""
    fields: Fields = alert.event.get("fields", {})
    did, tries = act(str(alert.event.get("category", "")), fields)
    who = f"{_program(fields)} in {shown(alert.session.name)}"
    if alert.event.get("verdict") == "deny" or fields.get("Refused") is True:
        happened = f"{who} tried to {tries}; it was refused and did not happen."
    else:
        happened = f"{who} {did}."
    return f"{happened} {_consequence(alert)}"


def act(category: str, fields: Fields) -> Said:
    """What an event of this category did, as a verb and its object."""
    saying = _SAYINGS.get(category)
    if saying is None:
        return "was stopped by the monitor itself", "go on unseen"
    return saying(fields)


def shown(value: object) -> str:
    """A text of an agent's, safe to print and not too long."""
    text = terminal(str(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _program(fields: Fields) -> str:
    path = str(fields.get("Script") or fields.get("Image") or "A process")
    image = path.rstrip("/").rpartition("/")[2] or path  # the whole path is in the tree
    pid = fields.get("ProcessId")
    return f"{shown(image)} (pid {pid})" if pid else shown(image)


def _consequence(alert: Alert) -> str:
    action, out = alert.outcome.action, alert.outcome.bytes_out
    frozen_ns = alert.timings_ns.get("frozen")
    if action in {Action.FAILED, Action.REFUSED}:
        return f"The session could NOT be stopped: {shown(alert.outcome.detail)}"
    if action is Action.STOPPING:
        return "Its network was cut; that the whole session stands still is not confirmed yet."
    when = f" {frozen_ns / 1e6:.1f} ms after the act" if frozen_ns else ""
    said = f"The whole session was frozen{when} and its network cut"
    if out is None:
        return f"{said}."
    sent = "nothing" if out == 0 else f"{out} bytes"
    return f"{said}; it sent {sent} in between."


def _file(fields: Fields) -> str:
    return shown(fields.get("TargetFilename", "a file"))


def _access(fields: Fields) -> Said:
    return f"read {_file(fields)}", f"read {_file(fields)}"


_FILE_ACTS = {
    "open": ("opened {} to write", "open {} to write"),
    "create": ("created {}", "create {}"),
    "truncate": ("emptied or cut {}", "empty or cut {}"),
    "chmod": ("changed the permissions of {}", "change the permissions of {}"),
    "settled": ("wrote {}", "write {}"),
    "link": ("gave {1} the second name {0}", "give {1} the second name {0}"),
    "symlink": ("made {0} a link to {1}", "make {0} a link to {1}"),
}


def _event(fields: Fields) -> Said:
    did, tries = _FILE_ACTS.get(str(fields.get("Operation")), ("changed {}", "change {}"))
    names = _file(fields), shown(fields.get("SourceFilename", "another file"))
    return did.format(*names), tries.format(*names)


def _rename(fields: Fields) -> Said:
    source, target = shown(fields.get("SourceFilename", "a file")), _file(fields)
    return f"moved {source} to {target}", f"move {source} to {target}"


def _delete(fields: Fields) -> Said:
    return f"deleted {_file(fields)}", f"delete {_file(fields)}"


def _exec(fields: Fields) -> Said:
    command = shown(fields.get("CommandLine") or fields.get("Image", "a program"))
    return f"ran `{command}`", f"run `{command}`"


def _connect(fields: Fields) -> Said:
    host, address = fields.get("DestinationHostname"), fields.get("DestinationIp")
    port = fields.get("DestinationPort")
    where = shown(host or address or "a socket")
    where += f" ({shown(address)})" if host and address else ""
    where += f" port {port}" if port else ""
    return f"connected to {where}", f"connect to {where}"


def _ask(fields: Fields) -> Said:
    name = shown(fields.get("QueryName", "a name"))
    return f"asked for the address of {name}", f"ask for the address of {name}"


def _process(fields: Fields) -> Said:
    target = f"the memory of process {fields.get('TargetProcessId')}"
    return f"reached into {target}", f"reach into {target}"


def _privileged(fields: Fields) -> Said:
    detail = shown(fields.get("Detail") or "")
    what = f"{shown(fields.get('Operation', 'a privileged operation'))} {detail}".rstrip()
    return f"called {what}", f"call {what}"


_SAYINGS: dict[str, Callable[[Fields], Said]] = {
    "file_access": _access,
    "file_event": _event,
    "file_rename": _rename,
    "file_delete": _delete,
    "process_creation": _exec,
    "network_connection": _connect,
    "dns_query": _ask,
    "process_access": _process,
    "privileged_operation": _privileged,
}

# SPDX-License-Identifier: Apache-2.0
"""Notices in words, from Jinja templates: ours in `templates`, or the user's of the same name.

The first line of a template is the headline, the rest the message. It knows `host` and, of one
incident, `kind`, `name` (of the session), `url` and `incident` (the JSON of the API); `digest.j2`
knows `notices`, a list of these. No text in them has control characters: an agent chooses its file
names, and a terminal or a mailer would obey some of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import structlog
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec.structs import replace

from monitor.alerts import Level, SessionRef
from monitor.errors import ConfigError
from monitor.incidents import Incident, Resolution, Standing
from monitor.notify.notices import Kind, Notice
from monitor.text import terminal

_log = structlog.get_logger()

_OURS = Path(__file__).with_name("templates")
_DIGEST = "digest.j2"
_NAMES = {Kind.OPENED: "opened.j2", Kind.RESOLVED: "resolved.j2"}


class Wording:
    """Turns notices into a headline and a message; `directory` holds the user's templates."""

    def __init__(self, directory: Path | None = None) -> None:
        self._ours = _environment(_OURS)
        self._theirs = _tried(directory) if directory else {}

    def one(self, notice: Notice) -> tuple[str, str]:
        """Of one incident."""
        return self._said(_NAMES[notice.kind], _known(notice))

    def many(self, notices: Sequence[Notice]) -> tuple[str, str]:
        """Of several at once."""
        return self._said(_DIGEST, _known_of_many(notices))

    def _said(self, name: str, context: Mapping[str, object]) -> tuple[str, str]:
        if theirs := self._theirs.get(name):
            try:
                return _rendered(theirs, context)
            except Exception as error:  # noqa: BLE001 - a template of theirs may raise anything
                # Said in our words rather than not at all: somebody has to decide.
                _log.warning("notice.template_failed", template=name, why=str(error))
        return _rendered(self._ours.get_template(name), context)


def _tried(directory: Path) -> dict[str, jinja2.Template]:
    """The user's templates by name; what would fail at night is found at the start."""
    environment, examples = _environment(directory), _examples()
    found = {}
    for name in _names_in(directory):
        try:
            found[name] = environment.get_template(name)
            headline, _ = _rendered(found[name], examples[name])
        except Exception as error:  # as above
            line = getattr(error, "lineno", None)
            where = f"{name}, line {line}" if line else name
            raise ConfigError(
                f"notice template {where}: {error}",
                mend="docs/desk.md says what a template knows",
            ) from error
        if not headline:
            raise ConfigError(
                f"notice template {name} has no headline", mend="write one in its first line"
            )
    return found


def _environment(directory: Path) -> jinja2.Environment:
    return ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(directory),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # plain text; apprise escapes it for services that take HTML
        auto_reload=False,
    )


def _names_in(directory: Path) -> list[str]:
    """The user's templates; a name that nothing asks for is a slip of the pen."""
    known = {*_NAMES.values(), _DIGEST}
    try:
        found = {file.name for file in directory.iterdir() if file.suffix == ".j2"}
    except OSError as error:
        raise ConfigError(
            f"cannot read {directory}: {error.strerror}", mend="name another as notice_templates"
        ) from error
    if not found or found - known:
        what = f"has {', '.join(sorted(found - known))}" if found else "has no template"
        raise ConfigError(
            f"{directory} {what}", mend=f"templates are called {', '.join(sorted(known))}"
        )
    return sorted(found)


def _known(notice: Notice) -> dict[str, object]:
    return {
        "host": notice.host,
        "kind": notice.kind.value,
        "name": terminal(notice.incident.session.name),
        "url": notice.url,
        "incident": _shown(msgspec.to_builtins(notice.incident)),
    }


def _shown(value: Any) -> Any:  # noqa: ANN401 - whatever JSON has
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    return terminal(value) if isinstance(value, str) else value


def _known_of_many(notices: Sequence[Notice]) -> dict[str, object]:
    return {"host": notices[0].host, "notices": [_known(notice) for notice in notices]}


def _rendered(template: jinja2.Template, context: Mapping[str, object]) -> tuple[str, str]:
    headline, _, message = template.render(context).strip().partition("\n")
    return headline.strip(), message.strip()


def _examples() -> dict[str, dict[str, object]]:
    """One context for each template."""
    opened = Incident(
        id="01J0000000000000000000000",
        session=SessionRef(id="1a2b-3c4d", name="agent"),
        opened="2025-01-01T00:00:00Z",
        title="Name resolution changed in place",
        level=Level.HIGH,
        sentence="sh in agent changed /etc/hosts.",
    )
    resolved = replace(
        opened, state=Standing.RESOLVED, resolution=Resolution.KILLED, resolved_by="ann"
    )
    notices = [
        Notice(kind=Kind.OPENED, incident=opened, host="host", url="https://localhost"),
        Notice(kind=Kind.RESOLVED, incident=resolved, host="host"),
    ]
    return {_DIGEST: _known_of_many(notices), **{_NAMES[n.kind]: _known(n) for n in notices}}

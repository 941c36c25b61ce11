# SPDX-License-Identifier: Apache-2.0
"""Settings: command line > `ESTOP_*` > TOML file > defaults; it must not touch the host.

`load()` is the only way in: it reports every unusable setting at once, as one `ConfigError`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import sys
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from monitor.errors import ConfigError

DEFAULT_CONFIG = Path("/etc/estop/estop.toml")
DEFAULT_RUNTIME_DIR = Path("/run/estop")
DEFAULT_STATE_DIR = Path("/var/lib/estop")

_PREFIX = "ESTOP_"


def bundled(name: str) -> Path:
    """`rules` or `bpf` of estop itself: in the package if installed, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_data" / name
    return installed if installed.is_dir() else package.parent / name


def bundled_rules() -> Path:
    """The rules that come with estop."""
    return bundled("rules")


def own_code() -> tuple[Path, ...]:
    """What runs as the monitor, as a launcher or in the kernel, now or at the next start.

    The Python environment, too, where it is one of our own: packages of the system's Python are
    everybody's, and whoever installs one means no harm.
    """
    package = Path(__file__).resolve().parent
    places = (package, package.parent / "agent", bundled("bpf"))
    return places if sys.prefix == sys.base_prefix else (*places, Path(sys.prefix))


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _listed(value: object, separator: str) -> object:
    """An environment variable holds a list as one string; everything else is a list already."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(separator) if part.strip()]
    return value


class FailMode(StrEnum):
    """What is done where nobody can decide."""

    CLOSED = "closed"
    OPEN = "open"


class Settings(BaseSettings):
    """Everything the daemon can be told. Immutable; the derived paths are properties."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        extra="forbid",
        frozen=True,
        validate_default=True,
        use_attribute_docstrings=True,  # docs/settings.md is made of them
    )

    config: Path | None = None
    """The TOML file that was read, if any."""
    state_dir: Path = DEFAULT_STATE_DIR
    """What must survive a restart: alerts, incidents, grants, hashes of tokens, the lock."""
    cache_dir: Path | None = None
    """What can be made again: compiled programs, and the kernel's headers. `headers` in `state_dir` if
    not named; monitors of one machine may share one."""
    runtime_dir: Path = DEFAULT_RUNTIME_DIR
    """What need not: the socket. Its name decides the name of the sessions' cgroup."""
    listen: str = "127.0.0.1:7878"
    """HOST:PORT of the API on loopback; empty for the unix socket alone; port 0 for any."""
    api_requests_per_s: int = Field(default=200, ge=1)
    """How often one caller of the API may ask; the way to freeze and kill is never narrowed."""
    rules: Annotated[tuple[Path, ...], NoDecode] = Field(default_factory=lambda: (bundled_rules(),))
    """Directories of signatures. `ESTOP_RULES` separates them by `:`."""
    freeze_deadline_ms: int = Field(default=1000, ge=1, le=60_000)
    """How long to wait for `frozen 1`; a task in D state never gets there."""
    refuse_opens: bool = True
    """Ask before a session opens a guarded file (fanotify), so that the open can be refused. Without
    it such opens are held when they return, and the session is frozen sooner."""
    hold_timeout_ms: int = Field(default=1000, ge=10, le=60_000)
    """A candidate that the kernel holds and nobody judged for so long is decided by `fail_mode`."""
    deadman_ms: int = Field(default=5000, ge=500, le=3_600_000)
    """A monitor that gave no sign of life for so long is dead, and `fail_mode` applies."""
    fail_mode: FailMode = FailMode.CLOSED
    """What becomes of sessions that nobody can judge: `closed` holds them, `open` lets them go."""
    opens_per_s: int = Field(default=50_000, ge=0)
    """Files a session may open a second before the rest is counted and not looked at; 0: as many as
    half of the event ring holds. What a rule names that holds in the kernel is always looked at. A session
    in mode `enforce` stands still before that, whenever it opens more than can be looked at."""
    blind_losses: int = Field(default=100_000, ge=1)
    """Events lost within half a second from which on `fail_mode` applies to every session."""
    disarm_stops: int = Field(default=5, ge=1)
    """A rule that stopped so many sessions within the window only alerts from then on."""
    disarm_window_s: float = Field(default=600, gt=0)
    """The window of `disarm_stops`, in seconds."""
    events_ring_mib: int = Field(default=16, ge=1, le=1024)
    """Size of the kernel's event ring; a power of two (the kernel refuses anything else)."""
    history_events: int = Field(default=500, ge=0, le=100_000)
    """Last events kept in memory for each session, as evidence."""
    keep_days: int = Field(default=90, ge=0, le=36_500)
    """How long alerts, resolved incidents and ended sessions stay in the record; 0: for ever."""
    payment_addresses: Annotated[tuple[str, ...], NoDecode] = ()
    """Addresses or networks of payment services. `ESTOP_PAYMENT_ADDRESSES` separates by `,`."""

    notify: Annotated[tuple[str, ...], NoDecode] = ()
    """Who hears of incidents: URLs as apprise has them. `ESTOP_NOTIFY` separates by white space."""
    webhooks: Annotated[tuple[str, ...], NoDecode] = ()
    """URLs that each incident is POSTed to. `ESTOP_WEBHOOKS` separates by white space."""
    webhook_secret_file: Path | None = None
    """What webhooks are signed with; a file that only root can read."""
    notice_templates: Path | None = None
    """A directory with `opened.j2`, `resolved.j2` or `digest.j2`: notices in your words."""
    console_url: str = ""
    """Where people reach the console, for links in notices: `https://host` of a reverse proxy."""

    @field_validator("notify", "webhooks", mode="before")
    @classmethod
    def _urls_listed(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value

    @field_validator("webhooks")
    @classmethod
    def _web_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            if not url.startswith(("http://", "https://")):
                raise ValueError("a webhook is a http:// or https:// URL")
        return value

    @field_validator("state_dir", "cache_dir", "runtime_dir")
    @classmethod
    def _directory(cls, value: Path | None) -> Path | None:
        return _absolute(value) if value is not None else None

    @field_validator("rules", mode="before")
    @classmethod
    def _rules_listed(cls, value: object) -> object:
        return _listed(value, os.pathsep)

    @field_validator("rules")
    @classmethod
    def _rules_named(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        if not value:
            raise ValueError("names no directory")
        return tuple(_absolute(path) for path in value)

    @field_validator("listen")
    @classmethod
    def _loopback(cls, value: str) -> str:
        if value:
            split_listen(value)
        return value

    @field_validator("events_ring_mib")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"{value} is not a power of two")
        return value

    @field_validator("payment_addresses", mode="before")
    @classmethod
    def _addresses_listed(cls, value: object) -> object:
        return _listed(value, ",")

    @field_validator("payment_addresses")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(address)) for address in value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Strongest first. The file is named by the command line alone, so look for it there."""
        del dotenv_settings, file_secret_settings
        given = init_settings.init_kwargs if isinstance(init_settings, InitSettingsSource) else {}
        file = given.get("config")
        if file is None:
            return init_settings, env_settings
        toml = TomlConfigSettingsSource(settings_cls, toml_file=file)
        return init_settings, env_settings, toml

    @property
    def own_directories(self) -> tuple[Path, ...]:
        """What no session has any business in."""
        given = (self.notice_templates,) if self.notice_templates else ()
        # What the kernel lets others set of our process, `oom_score_adj` among it.
        process = Path(f"/proc/{os.getpid()}")
        places = (
            self.state_dir,
            self.compiled_dir,
            self.runtime_dir,
            DEFAULT_CONFIG.parent,
            process,
        )
        return (*places, *self.rules, *given, *own_code())

    @property
    def own_secrets(self) -> tuple[Path, ...]:
        """Files that no session may even read: the record, and what would let it speak for us.

        The configuration is one once it names whom to tell: those URLs hold passwords. Without them
        it is like any other file below /etc, through which an agent may search.
        """
        found = [self.database_path]
        if self.webhook_secret_file is not None:
            found.append(self.webhook_secret_file)
        if self.config is not None and self.notify:
            found.append(self.config)
        return tuple(found)

    @property
    def compiled_dir(self) -> Path:
        """Whoever can write here says what runs in the kernel."""
        return self.cache_dir or self.state_dir / "headers"

    @property
    def socket_path(self) -> Path:
        """Where the command line and the launcher reach the API."""
        return self.runtime_dir / "estop.sock"

    @property
    def database_path(self) -> Path:
        """The record: alerts, incidents, actions, sessions, grants, hashes of tokens."""
        return self.state_dir / "alerts.db"

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of `listen`, or None where there is no TCP."""
        return split_listen(self.listen) if self.listen else None

    @property
    def cgroup_name(self) -> str:
        """Directory below the cgroup2 root for the sessions; one for each runtime directory."""
        if self.runtime_dir == DEFAULT_RUNTIME_DIR:
            return "estop"
        return "estop-" + hashlib.sha256(os.fsencode(self.runtime_dir)).hexdigest()[:10]


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:7878`, `localhost:7878` or `[::1]:7878`; ValueError otherwise."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:  # noqa: PLR2004
        raise ValueError(f"{listen!r} is not HOST:PORT")
    if host == "localhost":
        host = "127.0.0.1"
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(f"{host!r} is not a loopback address; the API is for this machine alone")
    return host, int(port)


def load(config: Path | None = None, **given: Any) -> Settings:  # noqa: ANN401 - as given
    """Settings from all sources; `given` are the command line's, None meaning not given.

    `config` must exist if named; the default file is read only if it does.
    """
    arguments = {name: value for name, value in given.items() if value is not None}
    file = _config_file(config)
    if file is not None:
        _check_toml(file)
        arguments["config"] = file
    _check_environment()
    try:
        return Settings(**arguments)
    except ValidationError as error:
        raise ConfigError(
            "unusable settings: " + "; ".join(_problems(error)),
            mend="correct them on the command line, in ESTOP_* or in "
            + (str(file) if file else f"{DEFAULT_CONFIG}"),
        ) from error


def _config_file(config: Path | None) -> Path | None:
    named = config or (Path(found) if (found := os.environ.get(_PREFIX + "CONFIG")) else None)
    if named is not None:
        return _absolute(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def _check_toml(file: Path) -> None:
    """Read errors and syntax errors, before pydantic would pass over a missing file in silence."""
    try:
        with file.open("rb") as stream:
            tomllib.load(stream)
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror}", mend="name a readable TOML file in --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}", mend="correct that line") from error


def _check_environment() -> None:
    """A misspelt `ESTOP_*` would be a setting that silently does not apply."""
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in known)
    if unknown:
        raise ConfigError(
            f"unknown settings in the environment: {', '.join(unknown)}",
            mend="unset them; known are " + ", ".join(sorted(known)),
        )


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"]) or "settings"
        if item["type"] == "extra_forbidden":
            problems.append(f"{name}: no such setting")
        else:
            problems.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
    return problems

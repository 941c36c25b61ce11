# SPDX-License-Identifier: Apache-2.0
"""`estop daemon`: settings from the command line, then the monitor itself."""

from __future__ import annotations

from pathlib import Path

import click

from monitor.cli.options import as_path


@click.command()
@click.option("--config", type=as_path, help="TOML file [default: /etc/estop/estop.toml, if any]")
@click.option(
    "--state-dir", type=as_path, help="What must survive a restart: the record, hashes of tokens."
)
@click.option("--runtime-dir", type=as_path, help="The socket; names the sessions' cgroup too.")
@click.option("--listen", help="HOST:PORT of the API on loopback; '' for none, port 0 for any.")
@click.option(
    "--rules", type=as_path, multiple=True, help="Directory of signatures; may be repeated."
)
def daemon(
    config: Path | None,
    state_dir: Path | None,
    runtime_dir: Path | None,
    listen: str | None,
    rules: tuple[Path, ...],
) -> None:
    """Watch and stop sessions, in the foreground, until SIGTERM or Ctrl-C.

    Every option can also be given as ESTOP_* or in the TOML file; the command line is stronger.
    """
    from monitor import config as settings  # noqa: PLC0415 - `estop --help` must be quick
    from monitor import service  # noqa: PLC0415

    service.main(
        settings.load(
            config,
            state_dir=state_dir,
            runtime_dir=runtime_dir,
            listen=listen,
            rules=rules or None,
        )
    )

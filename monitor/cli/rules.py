# SPDX-License-Identifier: Apache-2.0
"""`estop rules`: what a rule set holds and what is wrong with it, without root or a daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from monitor.alerts import Response
from monitor.cli.options import as_json, as_path, common, print_json
from monitor.text import terminal

_given = click.option(
    "--set",
    "given",
    metavar="NAME=VALUE",
    multiple=True,
    help="A value of a variable, in place of this host's; may be repeated.",
)


@click.group()
def rules() -> None:
    """Check, explain and try signatures."""


@rules.command()
@common
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=as_path)
def check(runtime_dir: Path, directories: tuple[Path, ...], *, json_: bool) -> None:
    """Check the rules in each DIR (default: those the daemon would load).

    Needs no daemon; if one answers, says how many rules it has loaded.
    """
    from monitor.config import load  # noqa: PLC0415 - `estop --help` must be quick
    from monitor.detection.check import check as check_rules  # noqa: PLC0415
    from monitor.rulebook import variables_of  # noqa: PLC0415

    settings = load()
    report = check_rules(directories or settings.rules, variables_of(settings))
    loaded = _loaded(runtime_dir)
    if json_:
        print_json(
            {
                "ok": report.ok,
                "rules": report.rules,
                "by_response": report.by_response,
                "by_category": report.by_category,
                "inactive": report.inactive,
                "filters": report.filters,
                "passed_over": report.passed_over,
                "problems": report.problems,
                "digest": report.digest,
                "loaded": loaded,
            }
        )
    else:
        for problem in report.problems:
            click.echo(terminal(str(problem)), err=True)
        for off in report.inactive:
            click.echo(terminal(f"{off.rule.file}: off: {off.reason}"))
        counts = ", ".join(f"{n} {name}" for name, n in report.by_response.items() if n)
        click.echo(f"{len(report.rules)} rules ({counts}), {len(report.problems)} problems")
        for one in report.filters:
            click.echo(terminal(f"{one.file}: narrows {', '.join(one.rules) or 'no rule'}"))
        if passed := sum(report.passed_over.values()):
            click.echo(f"{passed} community rules passed over: not about what is seen here")
        if loaded is not None:
            click.echo(f"the running daemon has {loaded} rules loaded")
    sys.exit(0 if report.ok else 1)


@rules.command()
@common
@click.argument("rule")
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=as_path)
def explain(runtime_dir: Path, rule: str, directories: tuple[Path, ...], *, json_: bool) -> None:
    """Say what RULE (an id, name or title) becomes in the kernel, and how it is enforced here.

    Needs no daemon; where none answers, this host is taken for one of the tracepoint tier. Rules are
    read from each DIR (default: those the daemon would load).
    """
    from monitor.cli.explain import explained, show_explanation  # noqa: PLC0415 - as above

    found = explained(runtime_dir, rule, directories)
    if json_:
        print_json(found)
    else:
        show_explanation(found)


@rules.command()
@as_json
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=as_path)
def lint(directories: tuple[Path, ...], *, json_: bool) -> None:
    """Give advice on the style of rules (default: those the daemon would load).

    By the validators of pySigma that need no network. Ends with 1 if there is any.
    """
    from monitor.config import load  # noqa: PLC0415 - as above
    from monitor.detection.lint import lint as advice_on  # noqa: PLC0415

    advice = advice_on(directories or load().rules)
    if json_:
        print_json(advice)
    else:
        for problem in advice:
            click.echo(terminal(str(problem)))
        click.echo(f"{len(advice)} pieces of advice")
    sys.exit(1 if advice else 0)


@rules.command()
@as_json
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=as_path)
@click.option(
    "--limit-s",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="The most seconds that one question may take.",
)
def verify(directories: tuple[Path, ...], limit_s: float, *, json_: bool) -> None:
    """Prove which rules can never fire, or add nothing (default: those the daemon would load).

    Tells rules that contradict themselves, rules that `not` or a filter swallows whole, and, as advice,
    rules of which every match is told by another one as strongly. What it tells is proved; what it
    does not tell is not proved to be right. Needs z3: pip install z3-solver. Ends with 1 if
    there is anything.
    """
    from monitor.cli.verify import show_verdict, verified  # noqa: PLC0415 - as above

    verdict = verified(directories, limit_s)
    if json_:
        print_json(verdict)
    else:
        show_verdict(verdict)
    sys.exit(1 if verdict.findings else 0)


@rules.command()
@as_json
@click.argument("tests", metavar="TESTS...", nargs=-1, required=True, type=as_path)
@click.option("--rules", "directories", multiple=True, type=as_path, help="Directories of rules.")
@_given
def test(
    tests: tuple[Path, ...], directories: tuple[Path, ...], given: tuple[str, ...], *, json_: bool
) -> None:
    """Try rules (default: those the daemon would load) by facts they must and must not match.

    TESTS are directories with one NAME.yml for each rule, as rules/README.md has them.
    """
    from monitor.cli.replay import engine_of  # noqa: PLC0415 - as above
    from monitor.detection.trials import run  # noqa: PLC0415

    trial = run(engine_of(directories, given), tests)
    if json_:
        print_json({"ok": trial.ok, **msgspec.structs.asdict(trial)})
    else:
        for failure in trial.failures:
            click.echo(terminal(str(failure)))
        for name in trial.untried:
            click.echo(terminal(f"{name}: not tried on both sides"))
        click.echo(f"{trial.facts} facts, {len(trial.failures)} failures")
    sys.exit(0 if trial.ok else 1)


@rules.command()
@common
@click.argument("directories", metavar="[DIR]...", nargs=-1, type=as_path)
@click.option("--navigator", is_flag=True, help="A layer for the ATT&CK Navigator, as JSON.")
def coverage(
    runtime_dir: Path, directories: tuple[Path, ...], *, json_: bool, navigator: bool
) -> None:
    """Show which techniques of MITRE ATT&CK the rules name, and how they are enforced here.

    Needs no daemon; where none answers, this host is taken for one of the tracepoint tier.
    """
    from monitor.cli.explain import rules_here  # noqa: PLC0415 - as above
    from monitor.cli.show import coverage as show_coverage  # noqa: PLC0415
    from monitor.detection import coverage as attack  # noqa: PLC0415

    found = attack.coverage(rules_here(runtime_dir, directories))
    if navigator:
        print_json(attack.navigator(found))
    elif json_:
        print_json(found)
    else:
        show_coverage(found)


@rules.command()
@common
def reload(runtime_dir: Path, *, json_: bool) -> None:
    """Have the daemon read its rules again: all of them, or it keeps those it has."""
    from monitor.cli.client import Client  # noqa: PLC0415 - as above
    from monitor.control import RuleChanges  # noqa: PLC0415

    with Client(runtime_dir) as client:
        changes = client.post("/rules/reload", RuleChanges, {})
    if json_:
        print_json(changes)
        return
    click.echo(f"{changes.rules} rules")
    for how in ("added", "removed", "changed"):
        for rule in getattr(changes, how):
            click.echo(terminal(f"  {how}: {rule}"))


@rules.command()
@as_json
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=as_path)
@click.option("--rules", "directories", multiple=True, type=as_path, help="Directories of rules.")
@click.option(
    "--fail-on",
    type=click.Choice([response.value for response in Response]),
    help="End with 1 if a rule with this response or a stronger one matches.",
)
@_given
def replay(
    files: tuple[Path, ...],
    directories: tuple[Path, ...],
    fail_on: str | None,
    given: tuple[str, ...],
    *,
    json_: bool,
) -> None:
    """Judge recordings of `estop record` by rules (default: those the daemon would load).

    Needs neither root nor a daemon.
    """
    from monitor.cli.replay import engine_of, show_report  # noqa: PLC0415 - as above
    from monitor.cli.replay import replay as replayed  # noqa: PLC0415

    engine = engine_of(directories, given)
    failed = False
    for file in files:
        report = replayed(file, engine)
        failed |= fail_on is not None and bool(report.at_least(Response(fail_on)))
        if json_:
            print_json(report)
        else:
            show_report(report)
    sys.exit(1 if failed else 0)


def _loaded(runtime_dir: Path) -> int | None:
    """How many rules a daemon has loaded; None where none answers, or it does not talk to us."""
    from monitor.cli.client import Client, NotRunningError, RefusedError  # noqa: PLC0415
    from monitor.control import Health  # noqa: PLC0415

    try:
        with Client(runtime_dir) as client:
            return client.get("/health", Health).rules
    except (NotRunningError, RefusedError):
        return None

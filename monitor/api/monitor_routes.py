# SPDX-License-Identifier: Apache-2.0
"""The monitor itself: its health, its rules, its metrics."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from monitor.api.requests import Asker, Behind, answer, only_admins
from monitor.api.schema import REFUSAL, answers, list_of, reference
from monitor.control import Health, Me, RuleChanges, RuleInForce
from monitor.errors import NotAllowedError

router = APIRouter(tags=["monitor"])
metrics_router = APIRouter(tags=["monitor"])


@router.get("/health", responses=answers(reference(Health), "`ok` says whether all is well."))
def health(monitor: Behind, _asker: Asker) -> Response:
    """What works and what does not. The status is 200 whenever the monitor can say so itself."""
    return answer(monitor.control.health())


@router.get("/me", responses=answers(reference(Me), "The caller."))
def me(asker: Asker) -> Response:
    """Who the caller is, and what he may do."""
    return answer(Me(name=asker.name, role=asker.role))


@router.get("/rules", responses=answers(list_of(RuleInForce), "The rules."))
def rules(monitor: Behind, _asker: Asker) -> Response:
    """Every rule and how it is enforced on this host; also those that are off here."""
    return answer(monitor.control.rules())


@router.post(
    "/rules/reload",
    responses=answers(reference(RuleChanges), "What is different now."),
)
def reload_rules(monitor: Behind, asker: Asker) -> Response:
    """Read the rules again: all of them, or those in force stay and the refusal says why."""
    only_admins(asker)
    return answer(monitor.control.reload_rules())


@metrics_router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"description": "Prometheus text format."}, "default": REFUSAL},
)
def metrics(monitor: Behind, asker: Asker) -> Response:
    """Counters of all sessions together, so for root and whoever has a token."""
    if not asker.trusted:
        raise NotAllowedError("the metrics count everybody's sessions", mend="ask as root")
    return Response(monitor.metrics.exposition(), media_type=monitor.metrics.CONTENT_TYPE)

# SPDX-License-Identifier: Apache-2.0
"""The whole API against its own description: whatever may be asked is answered as it says.

schemathesis makes the requests up from the OpenAPI document; streams without end are left to
test_api_stream.py and test_api_facts.py.
"""

from __future__ import annotations

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    response_schema_conformance,
    status_code_conformance,
)

_ENDLESS = ("/api/v1/alerts/stream", "/api/v1/incidents/stream", "/api/v1/sessions/{session}/facts")
_CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


def operations(api):
    host, port = api.server.address
    schema = schemathesis.openapi.from_url(
        f"http://{host}:{port}/api/v1/openapi.json", headers=_authorised(api)
    )
    for found in schema.get_all_operations():
        if found.ok().path not in _ENDLESS:
            yield found.ok()


def _authorised(api):
    return {"Authorization": f"Bearer {api.token}"}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("api", [{"requests_per_s": 100_000}], indirect=True)
def test_every_operation_keeps_its_promises_whatever_it_is_sent(api, mode):
    api.control.add("s1")
    api.incident(1)
    tried = 0
    for operation in operations(api):

        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @hypothesis.settings(
            max_examples=15,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def ask(case):
            case.call_and_validate(headers=_authorised(api), checks=_CHECKS)

        ask()
        tried += 1
    assert tried >= 25

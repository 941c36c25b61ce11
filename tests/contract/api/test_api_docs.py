# SPDX-License-Identifier: Apache-2.0
"""The examples of the API are where readers look: in its description and in docs/api.md.

That they are what a monitor really answers is for tests/e2e/test_api_examples.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest

from monitor.api import examples
from monitor.api.app import description

ROOT = Path(__file__).parents[3]
DOCUMENT = description()
OPERATIONS = {
    operation["operationId"]: operation
    for operations in DOCUMENT["paths"].values()
    for operation in operations.values()
}


def test_operations_have_names_of_their_own():
    assert len(OPERATIONS) == sum(len(found) for found in DOCUMENT["paths"].values())


def test_no_example_is_of_an_operation_that_is_gone():
    assert examples.known() == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_described_answer_has_an_example_that_its_schema_allows(operation):
    answers = OPERATIONS[operation]["responses"]
    (content,) = next(answers[code] for code in answers if code[0] == "2")["content"].values()
    assert allowed(content), operation


@pytest.mark.parametrize(
    "operation", [name for name, found in OPERATIONS.items() if "requestBody" in found]
)
def test_a_described_body_has_an_example_that_its_schema_allows(operation):
    body = OPERATIONS[operation]["requestBody"]["content"]["application/json"]
    assert allowed(body), operation


def allowed(content):
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    return jsonschema_rs.is_valid(schema, content["examples"]["run"]["value"])


def test_the_page_is_made_from_the_examples_as_they_are(tmp_path):
    made = tmp_path / "api.md"
    subprocess.run([sys.executable, ROOT / "deploy" / "apidocs.py", made], cwd=ROOT, check=True)
    assert made.read_text() == (ROOT / "docs" / "api.md").read_text(), "run `make examples`"


def test_nothing_in_the_examples_is_of_the_machine_they_were_run_on():
    for name in examples.known():
        text = (Path(examples.__file__).parent / f"{name}.json").read_text()
        assert not {word for word in ("/tmp/", "/work/", "estop-e2e-") if word in text}, name

# SPDX-License-Identifier: Apache-2.0
"""A real agent: smolagents with the model at MODEL_URL; run by .venv-e2e, never imported.

smol_agent.py code|tools HOME     code: it writes Python and runs it in its own process
                                  tools: it calls a shell tool
"""

from __future__ import annotations

import os
import subprocess
import sys

from smolagents import CodeAgent, OpenAIModel, ToolCallingAgent, tool


@tool
def shell(command: str) -> str:
    """Run a command in a shell and return what it prints.

    Args:
        command: the command line
    """
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + f"\nexit code {done.returncode}"


def main() -> None:
    kind, home = sys.argv[1:]
    os.environ["HOME"] = home
    model = OpenAIModel("scripted", api_base=os.environ["MODEL_URL"], api_key="none")
    if kind == "code":
        agent = CodeAgent(
            [], model, additional_authorized_imports=["*"], max_steps=20, stream_outputs=True
        )
    else:
        agent = ToolCallingAgent([shell], model, max_steps=20)
    agent.run("Do your work.")


if __name__ == "__main__":
    main()

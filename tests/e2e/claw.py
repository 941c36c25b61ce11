# SPDX-License-Identifier: Apache-2.0
"""OpenClaw as the tests have it: where it is installed, and settings that give it the scripted model."""

from __future__ import annotations

from pathlib import Path

INSTALLED = Path(__file__).parents[2] / "build" / "openclaw"
PROGRAM = Path("node_modules", "openclaw", "openclaw.mjs")
CONFIG = {
    "gateway": {"mode": "local"},
    "models": {
        "providers": {
            "scripted": {
                "baseUrl": "${MODEL_URL}",
                "apiKey": "none",
                "api": "openai-completions",
                "models": [{"id": "scripted", "name": "scripted"}],
            }
        }
    },
    "agents": {"defaults": {"model": {"primary": "scripted/scripted"}}},
}

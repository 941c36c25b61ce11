# SPDX-License-Identifier: Apache-2.0
"""OpenClaw as the tests have it: where it is installed, and settings that give it the scripted model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INSTALLED = Path(__file__).parents[2] / "build" / "openclaw"
PROGRAM = Path("node_modules", "openclaw", "openclaw.mjs")
_CONFIG: dict[str, Any] = {
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


def configure(home: Path, **defaults: str) -> Path:
    """Write the settings into this home, `defaults` of agents among them; where they are."""
    config = home / ".openclaw" / "openclaw.json"
    config.parent.mkdir()
    agents = {"defaults": {**_CONFIG["agents"]["defaults"], **defaults}}
    logging = {"file": str(home / "openclaw.log")}  # its default is a fixed place in /tmp
    config.write_text(json.dumps({**_CONFIG, "agents": agents, "logging": logging}))
    return config

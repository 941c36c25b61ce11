# SPDX-License-Identifier: Apache-2.0
"""A model that says what a script says: OpenAI's chat completions on loopback, plain or streamed.

    model_server.py SCRIPT.json -- COMMAND...

runs COMMAND with MODEL_URL in its environment and ends with its exit code. SCRIPT is a list of the
assistant's turns: {"text": ...} or {"tool": name, "arguments": {...}}. It must not know the agent.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class ScriptedModel(http.server.ThreadingHTTPServer):
    """Answers each request with the next turn; the last one again when there are no more."""

    daemon_threads = True

    def __init__(self, turns: Sequence[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._turns = list(turns)
        self._next = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def next_message(self) -> dict[str, Any]:
        with self._lock:
            number = min(self._next, len(self._turns) - 1)
            self._next += 1
        return message(self._turns[number], number)


def message(turn: dict[str, Any], number: int) -> dict[str, Any]:
    """A turn as the assistant's message."""
    if "tool" not in turn:
        return {"role": "assistant", "content": turn["text"]}
    function = {"name": turn["tool"], "arguments": json.dumps(turn["arguments"])}
    call = {"id": f"call_{number}", "type": "function", "index": 0, "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def completion(said: dict[str, Any]) -> dict[str, Any]:
    """The body of a plain answer."""
    reason = "tool_calls" if said.get("tool_calls") else "stop"
    choice = {"index": 0, "message": said, "finish_reason": reason}
    return {**_envelope("chat.completion"), "choices": [choice], "usage": _USAGE}


def chunks(said: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a streamed answer: the message, its end, the usage."""
    reason = "tool_calls" if said.get("tool_calls") else "stop"
    parts: list[tuple[dict[str, Any], str | None]] = [(said, None), ({}, reason)]
    envelope = _envelope("chat.completion.chunk")
    told = [
        {**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in parts
    ]
    return [*told, {**envelope, "choices": [], "usage": _USAGE}]


_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": "scripted", "object": kind, "created": 0, "model": "scripted"}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ScriptedModel

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = self.server.next_message()
        if request.get("stream"):
            events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks(said)]
            self._answer("text/event-stream", "".join([*events, "data: [DONE]\n\n"]))
        else:
            self._answer("application/json", json.dumps(completion(said)))

    def _answer(self, kind: str, body: str) -> None:
        raw = body.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        return


def main() -> int:
    script, _, *words = sys.argv[1:]
    with ScriptedModel(json.loads(Path(script).read_text())) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = {**os.environ, "MODEL_URL": server.url}
        code = subprocess.run(words, env=environ, check=False).returncode
        server.shutdown()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""Every error estop raises on purpose; it must not hold behaviour beyond the message.

    EstopError                     what went wrong and how to mend it
    ├── ConfigError                a setting is unusable
    ├── RequirementError           this host cannot run estop (kernel, BTF, cgroup2, privileges)
    ├── RuleError                  a rule file is wrong: carries every problem with file and line
    ├── SessionNotFoundError       no such session, living or recorded
    ├── AmbiguousSessionError      a name that several living sessions have
    ├── RecordNotFoundError        no such incident, alert, grant or token
    ├── SessionStateError          the session's state forbids the action (resume a killed one)
    ├── GuardError                 a guard refused to stop something (pid 1, the monitor, no session)
    ├── AttachError                the process cannot be adopted
    ├── NotAllowedError            this caller may not do that
    ├── RecordingError             a recording of a session cannot be made or read
    ├── StoreError                 the record could not be written or read
    └── CaptureError               a sensor could not be loaded or attached

`EstopError.mend` is one sentence that tells the user what to do; the command line prints both,
the API sends both.
"""

from __future__ import annotations

from dataclasses import dataclass


class EstopError(Exception):
    """Base of all errors above. `str(error)` names the thing; `mend` says what to do about it."""

    def __init__(self, message: str, *, mend: str = "") -> None:
        super().__init__(message)
        self.mend = mend


class ConfigError(EstopError):
    """A setting is missing, unreadable or out of range."""


class RequirementError(EstopError):
    """The host lacks something estop cannot do without."""


class SessionNotFoundError(EstopError):
    """No session has this id or name."""


class AmbiguousSessionError(EstopError):
    """Several living sessions have this name."""


class RecordNotFoundError(EstopError):
    """No incident, alert, grant or token has this id."""


class SessionStateError(EstopError):
    """The session is in a state that does not allow the action."""


class GuardError(EstopError):
    """A guard refused to stop a target that must never be stopped."""


class AttachError(EstopError):
    """A running process cannot be adopted as a session."""


class NotAllowedError(EstopError):
    """The caller has no right to do this."""


class StoreError(EstopError):
    """The record on disk could not be opened, written or read."""


class CaptureError(EstopError):
    """A BPF program could not be compiled, loaded or attached."""


@dataclass(frozen=True, slots=True)
class RuleProblem:
    """One thing wrong with one rule file. `line` counts from 1; 0 means the whole file."""

    file: str
    line: int
    message: str
    mend: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.message}" + (f" ({self.mend})" if self.mend else "")


class RecordingError(EstopError):
    """A file that is no recording, or a session to which nobody more may listen."""


class RuleError(EstopError):
    """The rule set cannot be used; `problems` holds every reason, not just the first."""

    def __init__(self, problems: list[RuleProblem]) -> None:
        super().__init__("\n".join(str(p) for p in problems), mend="run `estop rules check`")
        self.problems = problems

"""The error tree: every failure a user can meet, with a stable code and a hint.

    NoriaError
    ├── UsageError            the caller's mistake                         exit 2
    │   ├── NotAProject       no noria.toml here or above
    │   ├── ConfigError       noria.toml is broken; names the nearest valid key
    │   ├── NotFound          a named thing does not exist
    │   │   └── ObjectGone    stored bytes that something names are gone (3)
    │   ├── Conflict          somebody else moved first, or the state forbids it
    │   └── Denied            the actor may not do this
    ├── GateClosed            a gate, a check or an approval said no       exit 1
    ├── Pruned                a trial is not worth going on with            exit 1
    ├── ProjectError          the project's own code failed                exit 4
    │   ├── StepFailed        a step raised or returned the wrong type
    │   ├── StepKilled        a step's process died (signal, memory limit)
    │   ├── ScriptFailed      a script or notebook raised, was killed, or gave an exit code
    │   ├── StudyFailed       no trial of a search succeeded
    │   └── ModelFailed       a model could not be loaded or could not predict
    │       └── ModelSilent   it took longer than it may; its process was ended
    ├── RunEnded              a run was ended from outside
    │   ├── RunCancelled      a person ended it: Ctrl-C, or noria pipeline cancel   exit 130
    │   └── RunPreempted      its machine is needed or goes away; resume it    exit 3
    └── WorldError            the machine or a service failed              exit 3
        ├── StoreUnavailable  database or object store out of reach; retry is safe
        ├── StoreFull         no space left; nothing half-written is visible
        ├── Corrupt           stored bytes do not match their digest; never handed out
        └── Tampered          the ledger does not match its signed checkpoint

A message is one sentence with the offending value; the hint says what to do next.
Secrets and row values never enter messages. Bugs are `assert`s, not errors of this tree.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "Conflict",
    "Corrupt",
    "Denied",
    "GateClosed",
    "ModelFailed",
    "ModelSilent",
    "NoriaError",
    "NotAProject",
    "NotFound",
    "ObjectGone",
    "ProjectError",
    "Pruned",
    "RunCancelled",
    "RunEnded",
    "RunPreempted",
    "ScriptFailed",
    "StepFailed",
    "StepKilled",
    "StoreFull",
    "StoreUnavailable",
    "StudyFailed",
    "Tampered",
    "UsageError",
    "WorldError",
]


class NoriaError(Exception):
    """A failure with a stable `code`, an `exit_code`, an HTTP `status` and a `hint`.

    Args:
        message: one sentence, with the offending value.
        where: file, step, model or table it happened in; empty when the message says it.
        hint: what to do next; a command where there is one.

    `details` is more for machines, as plain JSON: a failed run's steps. Empty but for what `--json` prints.
    """

    code = "noria"
    exit_code = 3
    status = 500
    is_retry_safe = False

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.details: dict[str, object] = {}

    @property
    def line(self) -> str:
        """Message and hint in one line, for where only a text is kept."""
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __str__(self) -> str:
        parts = [self.message]
        if self.where:
            parts.append(f"where: {self.where}")
        if self.hint:
            parts.append(f"next:  {self.hint}")
        return "\n".join(parts)


class UsageError(NoriaError):
    """The caller asked for something that cannot be asked."""

    code, exit_code, status = "usage", 2, 400


class NotAProject(UsageError):
    """There is no noria.toml here or in a folder above."""

    code = "not-a-project"


class ConfigError(UsageError):
    """noria.toml, a checks file or a setting is wrong."""

    code = "config"


class NotFound(UsageError):
    """A named thing does not exist."""

    code, status = "not-found", 404


class ObjectGone(NotFound):
    """Stored bytes that something names are not in the store: the machine's failure, not the caller's."""

    code, exit_code, status = "object-gone", 3, 500


class Conflict(UsageError):
    """The state has moved on, or forbids the change; look again and retry."""

    code, status = "conflict", 409


class Denied(UsageError):
    """The actor may not do this."""

    code, status = "denied", 403


class GateClosed(NoriaError):
    """A gate, a check or an approval said no; nothing was changed."""

    code, exit_code, status = "gate-closed", 1, 422


class Pruned(NoriaError):
    """A search ends a trial that is not worth going on with; it is raised by `nr.report` and means no failure."""

    code, exit_code, status = "pruned", 1, 422


class ProjectError(NoriaError):
    """The project's own code failed."""

    code, exit_code, status = "project", 4, 422


class StepFailed(ProjectError):
    """A step raised, or returned what it may not return."""

    code = "step-failed"


class StepKilled(ProjectError):
    """The process of a step died: a signal, or its memory limit."""

    code = "step-killed"


class ScriptFailed(ProjectError):
    """A script or notebook raised, was killed, or ended with an exit code other than 0."""

    code = "script-failed"


class StudyFailed(ProjectError):
    """A search of which no trial succeeded."""

    code = "study-failed"


class ModelFailed(ProjectError):
    """A model could not be loaded, or could not predict."""

    code = "model-failed"


class ModelSilent(ModelFailed):
    """A model in a process of its own did not answer in time; the process was ended."""

    code, status, is_retry_safe = "model-silent", 504, True


class RunEnded(NoriaError):
    """A run was ended from outside; the steps that were over stay done."""

    code, status = "ended", 409


class RunCancelled(RunEnded):
    """A person ended a run."""

    code, exit_code = "cancelled", 130


class RunPreempted(RunEnded):
    """The process of a run was asked to leave (SIGTERM); the run is to be resumed."""

    code, is_retry_safe, status = "preempted", True, 503


class WorldError(NoriaError):
    """The machine, the disk or a service failed."""

    code, exit_code, status = "world", 3, 503


class StoreUnavailable(WorldError):
    """The database or the object store is out of reach."""

    code, is_retry_safe = "store-unavailable", True


class StoreFull(WorldError):
    """There is no space left; what was half-written is not visible."""

    code, status = "store-full", 507


class Corrupt(WorldError):
    """Stored bytes do not match their digest; they were not handed out."""

    code, status = "corrupt", 500


class Tampered(WorldError):
    """The ledger does not match its signed checkpoint."""

    code, exit_code, status = "tampered", 1, 500

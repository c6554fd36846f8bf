"""What `@nr.step(...)` may say of a step: limits, retries, and what touches its cache key."""

from __future__ import annotations

import typing

from noria.core.clock import duration
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.size import size_bytes

__all__ = ["StepOptions", "options_of", "size"]

RETRIES_MAX = 100


@frozen(kw_only=True)
class StepOptions:
    """What `@nr.step(...)` says. Only `version`, `ignore`, `extra_files`, `env` and `variables` touch the cache key.

    `cpu` is in cores, `gpu` in devices, `memory_bytes` and `timeout_s` 0 when not limited. `retries`
    are further attempts after a failure, the first after about `retry_wait_s`, each later one after
    twice as long. `isolated` steps run in a process of their own, fresh for each attempt. `ignore`
    names globals that must not enter the key; `env` is "imports" (versions of the packages
    reached), "lock" (every package) or "none"; `variables` names environment variables that
    packages read. `tolerance` is how far the numbers of its outputs may be from those of a run that
    is reproduced.
    """

    cpu: float = 1.0
    memory_bytes: int = 0
    gpu: float = 0.0
    timeout_s: float = 0.0
    retries: int = 0
    retry_wait_s: float = 1.0
    isolated: bool = False
    cache: bool = True
    version: str = ""
    ignore: tuple[str, ...] = ()
    extra_files: tuple[str, ...] = ()
    env: str = "imports"
    variables: tuple[str, ...] = ()
    tolerance: float = 0.0

    @property
    def needs_own_process(self) -> bool:
        """Whether it states what only a process of its own can keep."""
        return bool(self.isolated or self.memory_bytes or self.timeout_s or self.gpu)


def options_of(
    *,
    memory: str | int,
    timeout: str,
    retry_wait: str,
    ignore: typing.Sequence[str],
    extra_files: typing.Sequence[str],
    variables: typing.Sequence[str],
    **given: typing.Any,
) -> StepOptions:
    """The options as `@nr.step` takes them. Raises: UsageError naming what cannot be."""
    if given["env"] not in ("imports", "lock", "none"):
        raise UsageError(f'env is {given["env"]!r}, not "imports", "lock" or "none"')
    if not 0 <= given["retries"] <= RETRIES_MAX:
        raise UsageError(f"retries is {given['retries']}, not a number from 0 to {RETRIES_MAX}")
    if not 0 <= given["tolerance"] < 1:
        raise UsageError(f"tolerance is {given['tolerance']}, not a number from 0 to below 1")
    for name in ("cpu", "gpu"):
        if not 0 <= given[name] < float("inf"):
            raise UsageError(f"{name} is {given[name]}, not an amount")
    return StepOptions(
        memory_bytes=size(memory),
        timeout_s=_seconds("timeout", timeout),
        retry_wait_s=_seconds("retry_wait", retry_wait),
        ignore=tuple(ignore),
        extra_files=tuple(extra_files),
        variables=tuple(variables),
        **given,
    )


def size(text: str | int) -> int:
    """Bytes of `2GiB`, `512MB` or a number. Raises: UsageError for another form."""
    if isinstance(text, int):
        return text
    try:
        return size_bytes(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _seconds(name: str, text: str) -> float:
    try:
        return duration(text).total_seconds() if text else 0.0
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error

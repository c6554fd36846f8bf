"""What `@nr.step(...)` may say of a step: limits, retries, and what touches its cache key."""

from __future__ import annotations

import math
import numbers
import typing

from noria.core.clock import duration
from noria.core.errors import UsageError
from noria.core.frozen import frozen
from noria.core.size import size_bytes

__all__ = ["StepOptions", "options_of"]

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
        raise UsageError(f'env is {given["env"]!r}, not "imports", "lock" or "none"', hint='@nr.step(env="lock")')
    retries, tolerance = given["retries"], given["tolerance"]
    if not _is_number(retries) or int(retries) != retries or not 0 <= retries <= RETRIES_MAX:
        raise UsageError(
            f"retries is {retries!r}, not a whole number from 0 to {RETRIES_MAX}", hint="@nr.step(retries=2)"
        )
    if not _is_number(tolerance) or not 0 <= tolerance < 1:
        raise UsageError(f"tolerance is {tolerance!r}, not a number from 0 to below 1", hint="@nr.step(tolerance=1e-6)")
    for name in ("cpu", "gpu"):
        if not _is_number(given[name]) or given[name] < 0:
            raise UsageError(f"{name} is {given[name]!r}, not an amount", hint=f"@nr.step({name}=1)")
    for name in ("isolated", "cache"):
        if not isinstance(given[name], bool):
            raise UsageError(f"{name} is {given[name]!r}, not True or False", hint=f"@nr.step({name}=True)")
    return StepOptions(
        memory_bytes=_bytes(memory),
        timeout_s=_seconds("timeout", timeout),
        retry_wait_s=_seconds("retry_wait", retry_wait),
        ignore=_texts("ignore", ignore),
        extra_files=_texts("extra_files", extra_files),
        variables=_texts("variables", variables),
        **given | {"retries": int(retries), **{name: float(given[name]) for name in ("cpu", "gpu", "tolerance")}},
    )


def _is_number(value: object) -> bool:
    """Whether it is a finite number; also one of numpy's."""
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)


def _texts(name: str, given: object) -> tuple[str, ...]:
    """A sequence of texts. One text is not: it would be taken for its letters."""
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in given):
        raise UsageError(f"{name} is {given!r}, not a list of texts", hint=f'@nr.step({name}=["…"])')
    return tuple(given)


def _bytes(memory: object) -> int:
    hint = '@nr.step(memory="2GiB")'
    if not isinstance(memory, str) and not (isinstance(memory, numbers.Integral) and int(memory) >= 0):
        raise UsageError(f"memory is {memory!r}, not a size", hint=hint)
    try:
        return size_bytes(memory) if isinstance(memory, str) else int(memory)
    except ValueError as error:
        raise UsageError(f"memory: {error}", hint=hint) from error


def _seconds(name: str, text: object) -> float:
    hint = f'@nr.step({name}="90s")'
    if not isinstance(text, str):
        raise UsageError(f"{name} is {text!r}, not a text such as 90s or 10m", hint=hint)
    try:
        return duration(text).total_seconds() if text else 0.0
    except ValueError as error:
        raise UsageError(f"{name}: {error}", hint=hint) from error

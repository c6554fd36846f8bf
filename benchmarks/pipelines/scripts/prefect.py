"""Prefect: a flow of tasks on its own temporary server, which `prefect` starts on loopback.

Results are kept and found again across runs by source and inputs, as its page "Cache workflow steps" has it.
"""

import sys

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

RAN = []


@task(cache_policy=TASK_SOURCE + INPUTS, persist_result=True)
def add(value: int) -> int:
    """One step."""
    RAN.append(1)
    return value + 1


@task(cache_policy=TASK_SOURCE + INPUTS, persist_result=True)
def total(values: list[int]) -> int:
    """What joins a fan-out."""
    return sum(values)


@flow
def chain(size: int, first: int) -> int:
    """Each step takes the value of the one before."""
    value = first
    for _ in range(size):
        value = add(value)
    return value


@flow
def fan(size: int, first: int) -> int:
    """All steps at once, and one that joins them."""
    return total(add.map(range(first, first + size)))


if __name__ == "__main__":
    work = chain if sys.argv[1] == "chain" else fan
    value = work(int(sys.argv[2]), int(sys.argv[3]))
    print(f'{{"value": {value}, "ran": {len(RAN)}}}')

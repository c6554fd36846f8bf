"""ZenML: a pipeline of steps on the default local stack; it caches by itself.

The chain is a static pipeline; the fan-out maps over a list, for which ZenML has dynamic pipelines.
"""

import sys

from zenml import pipeline, step
from zenml.client import Client

RAN = []
SHAPE, SIZE, FIRST = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


@step
def add(value: int) -> int:
    """One step."""
    RAN.append(1)
    return value + 1


@step
def numbers(size: int, first: int) -> list[int]:
    """What a fan-out begins with."""
    return list(range(first, first + size))


@step
def total(values: list[int]) -> int:
    """What joins a fan-out."""
    return sum(values)


@pipeline
def chain(size: int, first: int) -> None:
    """Each step takes the value of the one before."""
    value = first
    for _ in range(size):
        value = add(value)


@pipeline(dynamic=True)
def fan(size: int, first: int) -> None:
    """All steps at once, and one that joins them."""
    total(add.map(value=numbers(size, first)))


if __name__ == "__main__":
    run = (chain if SHAPE == "chain" else fan)(SIZE, FIRST)
    last = "total" if SHAPE == "fan" else ("add" if SIZE == 1 else f"add_{SIZE}")
    value = Client().get_pipeline_run(run.id).steps[last].output.load()
    print(f'{{"value": {value}, "ran": {len(RAN)}}}')

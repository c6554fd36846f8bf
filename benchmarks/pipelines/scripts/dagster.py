"""Dagster: a job of ops in one process, recorded in an instance of its own (`DAGSTER_HOME`)."""

import sys

from dagster import DagsterInstance, DynamicOut, DynamicOutput, graph, op

RAN = []
SHAPE, SIZE, FIRST = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


@op
def add(value: int) -> int:
    """One step."""
    RAN.append(1)
    return value + 1


@op(out=DynamicOut(int))
def numbers(value: int):
    """What a fan-out begins with."""
    for number in range(SIZE):
        yield DynamicOutput(value + number, mapping_key=str(number))


@op
def total(values: list[int]) -> int:
    """What joins a fan-out."""
    return sum(values)


@graph
def chain(value):
    """Each step takes the value of the one before."""
    for number in range(SIZE):
        value = add.alias(f"add_{number}")(value)
    return value


@graph
def fan(value):
    """All steps at once, and one that joins them."""
    return total(numbers(value).map(add).collect())


if __name__ == "__main__":
    job = (chain if SHAPE == "chain" else fan).to_job()
    with DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance, input_values={"value": FIRST})
        print(f'{{"value": {result.output_value()}, "ran": {len(RAN)}}}')

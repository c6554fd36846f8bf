"""Bare Ray: functions as remote tasks, on the cluster that RAY_ADDRESS names; nothing is recorded or cached."""

import logging
import sys

import ray


@ray.remote
def add(value: int) -> int:
    """One step."""
    return value + 1


@ray.remote
def total(*values: int) -> int:
    """What joins a fan-out."""
    return sum(values)


if __name__ == "__main__":
    shape, size, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ray.init("auto", log_to_driver=False, logging_level=logging.ERROR)
    if shape == "chain":
        value = first
        for _ in range(size):
            value = add.remote(value)
    else:
        value = total.remote(*[add.remote(first + number) for number in range(size)])
    print(f'{{"value": {ray.get(value)}, "ran": {size}}}', flush=True)

"""Kedro: nodes between named data in memory, run one after the other. It keeps no results to find again."""

import sys

from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner

RAN = []
SHAPE, SIZE, FIRST = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def add(value: int) -> int:
    """One step."""
    RAN.append(1)
    return value + 1


def total(*values: int) -> int:
    """What joins a fan-out."""
    return sum(values)


def chain():
    """Each step takes the value of the one before."""
    return pipeline([node(add, f"value_{n}", f"value_{n + 1}", name=f"add_{n}") for n in range(SIZE)])


def fan():
    """All steps at once, and one that joins them."""
    steps = [node(add, f"number_{n}", f"value_{n}", name=f"add_{n}") for n in range(SIZE)]
    return pipeline([*steps, node(total, [f"value_{n}" for n in range(SIZE)], "total")])


if __name__ == "__main__":
    if SHAPE == "chain":
        work, last, given = chain(), f"value_{SIZE}", {"value_0": FIRST}
    else:
        work, last, given = fan(), "total", {f"number_{n}": FIRST + n for n in range(SIZE)}
    catalog = DataCatalog({name: MemoryDataset(value) for name, value in given.items()})
    value = SequentialRunner().run(work, catalog)[last]
    value = value.load() if hasattr(value, "load") else value
    print(f'{{"value": {value}, "ran": {len(RAN)}}}')

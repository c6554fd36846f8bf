"""The floor: the same functions in a plain loop."""

import sys


def add(value: int) -> int:
    """One step."""
    global ran
    ran += 1
    return value + 1


ran = 0
shape, size, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if shape == "chain":
    value = first
    for _ in range(size):
        value = add(value)
else:
    value = sum([add(first + number) for number in range(size)])
print(f'{{"value": {value}, "ran": {ran}}}')

"""Hamilton: functions as nodes, made many by `parameterize`, with its cache beside them."""

import sys

from hamilton import driver, telemetry
from hamilton.function_modifiers import group, inject, parameterize, source

RAN = []
SHAPE, SIZE, FIRST = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if SHAPE == "chain":
    INPUTS = {"value_0": FIRST}
    WHERE = {f"value_{number + 1}": {"value": source(f"value_{number}")} for number in range(SIZE)}
    LAST = f"value_{SIZE}"
else:
    INPUTS = {f"number_{number}": FIRST + number for number in range(SIZE)}
    WHERE = {f"value_{number}": {"value": source(f"number_{number}")} for number in range(SIZE)}
    LAST = "total"


@parameterize(**WHERE)
def add(value: int) -> int:
    """One step."""
    RAN.append(1)
    return value + 1


if SHAPE == "fan":

    @inject(values=group(*(source(name) for name in WHERE)))
    def total(values: list[int]) -> int:
        """What joins a fan-out."""
        return sum(values)


if __name__ == "__main__":
    telemetry.disable_telemetry()
    graph = driver.Builder().with_modules(sys.modules["__main__"]).with_cache(path="cache").build()
    value = graph.execute([LAST], inputs=INPUTS)[LAST]
    print(f'{{"value": {value}, "ran": {len(RAN)}}}')

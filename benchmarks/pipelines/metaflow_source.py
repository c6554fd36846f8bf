"""Writes a flow as Metaflow reads it: a class whose methods are the steps, each a process when it runs.

A flow has at least two steps, `start` and `end`; a chain of more has them as its first and last.
"""

from __future__ import annotations

_HEAD = '''from metaflow import FlowSpec, Parameter, step


class {name}(FlowSpec):
    """A {shape} of {size}."""

    first = Parameter("first", type=int)
'''

_STEP = """
    @step
    def {name}(self):
        self.value = self.{before} + 1
        self.ran = {ran} + 1
        self.next(self.{after})
"""

_END = """
    @step
    def end(self):
        {work}
        print('{{"value": %d, "ran": %d}}' % (self.value, self.ran))


if __name__ == "__main__":
    {name}()
"""

_FAN = """
    @step
    def start(self):
        self.numbers = list(range(self.first, self.first + {size}))
        self.next(self.add, foreach="numbers")

    @step
    def add(self):
        self.value = self.input + 1
        self.next(self.total)

    @step
    def total(self, inputs):
        self.value = sum(each.value for each in inputs)
        self.ran = len(list(inputs))
        self.next(self.end)
"""


def flow(shape: str, size: int) -> str:
    """The source of the flow."""
    name = shape.capitalize()
    head = _HEAD.format(name=name, shape=shape, size=size)
    if shape == "fan":
        return head + _FAN.format(size=size) + _END.format(name=name, work="pass")
    names = ["start", *(f"step_{number}" for number in range(2, size)), "end"]
    steps = "".join(
        _STEP.format(name=name, before="value" if n else "first", ran="self.ran" if n else "0", after=names[n + 1])
        for n, name in enumerate(names[:-1])
    )
    last = "self.value, self.ran = self.value + 1, self.ran + 1" if size > 1 else "pass"
    return head + steps + _END.format(name=name, work=last)

# ruff: noqa: E501  # each program is one text
"""Where chance comes from: generators that a project seeds where it is imported, or inside a step."""

from __future__ import annotations

from edits.case import Case, program, step

SEEDING = (
    "import random\nimport numpy.random\n\ndef everything(seed):\n    random.seed(seed)\n    numpy.random.seed(seed)\n"
)
SEEDED = "import inner\ninner.everything(7)\n"
BETWEEN = """
import noria as nr
import random
import numpy as np
random.seed(3)
np.random.seed(3)

@nr.step
def first(n: int) -> float:
    return random.random()

@nr.step
def work(before: float) -> list[float]:
    return [random.random(), float(np.random.rand()), before > 2]

@nr.pipeline
def flow():
    work(first(1))
"""

CASES: dict[str, Case] = {
    "numpy.random, seeded in the step": Case(
        program(
            "import numpy as np\n@nr.step\ndef work() -> object:\n    np.random.seed(1)\n    return np.random.rand(3).tolist()\n"
        ),
        {"pipeline.py": ("seed(1)", "seed(2)")},
    ),
    "numpy.random, seeded in the step, harmless": Case(
        program(
            "from numpy.random import choice, seed\n@nr.step\ndef work() -> object:\n    seed(1)\n    return int(choice(99))\n"
        ),
        {"pipeline.py": ("seed(1)", "seed( 1 )")},
    ),
    "seed of the import": Case(
        program("import random\nrandom.seed(1)\n" + step("random.random()")),
        {"pipeline.py": ("seed(1)", "seed(2)")},
    ),
    "seed that a helper is given": Case(
        program("import random\n" + SEEDED + step("random.random()"), inner=SEEDING),
        {"pipeline.py": ("(7)", "(8)")},
    ),
    "seed that a helper makes": Case(
        program("import random\n" + SEEDED + step("random.random()"), inner=SEEDING),
        {"inner.py": ("random.seed(seed)\n    numpy", "random.seed(seed + 1)\n    numpy")},
    ),
    "seed of a library that draws": Case(
        program("import sklearn.utils\n" + SEEDED + step("sklearn.utils.shuffle(list(range(99)))"), inner=SEEDING),
        {"pipeline.py": ("(7)", "(8)")},
    ),
    "seed of another generator": Case(
        program("import random\n" + SEEDED + step("random.random()"), inner=SEEDING),
        {"inner.py": ("numpy.random.seed(seed)", "numpy.random.seed(seed + 1)")},
    ),
    "seed of a step that draws nothing": Case(
        program(SEEDED + step("4"), inner=SEEDING), {"pipeline.py": ("(7)", "(8)")}
    ),
    "seed of the import of a step that draws nothing": Case(
        program("import random\nimport numpy as np\nrandom.seed(1)\nnp.random.seed(1)\n" + step("4")),
        {"pipeline.py": ("np.random.seed(1)", "np.random.seed(2)")},
    ),
    "seed of what workers draw": Case(
        program(
            "import numpy as np\nfrom multiprocessing import get_context\nnp.random.seed(1)\ndef draw(_):\n    return float(np.random.rand())\n"
            "@nr.step\ndef work() -> object:\n    with get_context('fork').Pool(1) as pool:\n        return pool.map(draw, [1])\n"
        ),
        {"pipeline.py": ("seed(1)", "seed(2)")},
    ),
    "distributions of scipy": Case(
        program("from scipy import stats\n" + step("float(stats.norm.ppf(0.9))")), {"pipeline.py": ("0.9", "0.8")}
    ),
    "distributions of scipy, harmless": Case(
        program("from scipy import stats\n" + step("float(stats.t.sf(0.9, 3))")), {"pipeline.py": ("0.9", "0.90")}
    ),
    "distributions of scipy that draw": Case(
        program("import numpy as np\nfrom scipy import stats\nnp.random.seed(1)\n" + step("float(stats.norm.rvs())")),
        {"pipeline.py": ("seed(1)", "seed(2)")},
    ),
    "a step before it draws more": Case(
        {"pipeline.py": BETWEEN},
        {"pipeline.py": ("return random.random()", "return (random.random(), random.random())[1]")},
    ),
    "a step before it seeds": Case(
        {"pipeline.py": BETWEEN},
        {"pipeline.py": ("    return random.random()", "    random.seed(9)\n    return random.random()")},
    ),
}

# ruff: noqa: E501  # each program is one text
"""Where chance comes from: generators that a project seeds where it is imported, or inside a step."""

from __future__ import annotations

from edits.case import Case, program, step

SEEDING = (
    "import random\nimport numpy.random\n\ndef everything(seed):\n    random.seed(seed)\n    numpy.random.seed(seed)\n"
)
MUCH = """
import os, random
import numpy as np

def everything(mode="none", seed=7, quiet=True):
    '''Seed all there is.'''
    try:
        import torch_of_nobody
        torch_of_nobody.manual_seed(seed)
        if torch_of_nobody.cuda.is_available():
            torch_of_nobody.cuda.manual_seed_all(seed)
        torch_of_nobody.backends.cudnn.deterministic = True
    except ImportError:
        pass
    chosen = int(seed)
    random.seed(chosen)
    np.random.seed(chosen % 2**32)
    os.environ["PYTHONHASHSEED"] = str(seed)
    os.environ["MODE"] = mode
    if not quiet:
        print(f"seeds are {seed}")
    return seed
"""
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
    "seed inside a helper, of a step that draws nothing": Case(
        program("import inner\ninner.everything()\n" + step("4"), inner=MUCH),
        {"inner.py": ("seed=7", "seed=8")},
    ),
    "seed inside a helper of pipeline.py, of a step that draws nothing": Case(
        program(MUCH + "everything()\n" + step("4")), {"pipeline.py": ("seed=7", "seed=8")}
    ),
    "seed that a helper is given by name, of a step that draws nothing": Case(
        program("from inner import everything\nSEED = 7\neverything(seed=SEED)\n" + step("4"), inner=MUCH),
        {"pipeline.py": ("SEED = 7", "SEED = 8")},
    ),
    "seed inside a helper, of a step that draws": Case(
        program("import random\nfrom inner import everything\neverything()\n" + step("random.random()"), inner=MUCH),
        {"inner.py": ("seed=7", "seed=8")},
    ),
    "seed inside a helper, of NumPy": Case(
        program(
            "import numpy as np\nfrom inner import everything\neverything()\n" + step("float(np.random.rand())"),
            inner=MUCH,
        ),
        {"inner.py": ("seed=7", "seed=8")},
    ),
    "helper that seeds and sets what others have": Case(
        program(
            "import numpy as np\nimport string\ndef setup(seed=7):\n    np.random.seed(seed)\n    string.digits = str(seed)\nsetup()\n"
            "@nr.step\ndef work() -> object:\n    import string as s\n    return s.digits\n"
        ),
        {"pipeline.py": ("seed=7", "seed=8")},
    ),
    "helper of a module that seeds and sets what others have": Case(
        program(
            "import inner\ninner.setup()\n@nr.step\ndef work() -> object:\n    import string\n    return string.digits\n",
            inner="import string, random\ndef setup(seed=7):\n    random.seed(seed)\n    string.digits = str(seed)\n",
        ),
        {"inner.py": ("seed=7", "seed=8")},
    ),
    "setting of others that a helper computes": Case(
        program(
            "import string\ndef digits(seed=7):\n    return str(seed)\nstring.digits = digits()\n"
            "@nr.step\ndef work() -> object:\n    import string as s\n    return s.digits\n"
        ),
        {"pipeline.py": ("seed=7", "seed=8")},
    ),
    "environment that a helper sets beside seeding": Case(
        program(
            MUCH + 'everything("one")\n@nr.step\ndef work() -> object:\n    import os\n    return os.environ["MODE"]\n'
        ),
        {"pipeline.py": ('"one"', '"two"')},
    ),
    "seed of the hashes of started workers": Case(
        program(
            MUCH + "everything()\nfrom inner import order\nfrom multiprocessing import get_context\n@nr.step\n"
            "def work() -> object:\n    with get_context('spawn').Pool(1) as pool:\n        return pool.map(order, [1])\n",
            inner="def order(_):\n    return hash('a text')\n",
        ),
        {"pipeline.py": ("seed=7", "seed=8")},
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

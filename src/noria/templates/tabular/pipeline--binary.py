"""{{ name }}: which rows will turn out as POSITIVE says? The columns are named below.

Steps are plain functions: pytest calls them as they are, and `noria run` runs them as a graph, each
only when its code or its input changed. What a model must reach to go live is not here but in noria.toml.
"""

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import noria as nr

LABEL = "{{ label }}"
POSITIVE = "{{ positive }}"  # the value of the label whose probability is predicted
TIME = "{{ time }}"
KEY = "{{ key }}"  # what names a row; not an input of the model

table = nr.dataset("{{ dataset }}", key=KEY, time=TIME, label=LABEL)


@nr.step
def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with an outcome, in time order; the label is 1 or 0, every other column a number or a text."""
    kept = inputs(rows[rows[LABEL].notna() & rows[TIME].notna()])
    kept[LABEL] = (kept[LABEL] == POSITIVE).astype("int64")
    return kept.sort_values(TIME, kind="stable")


def inputs(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that a model can use. Other times and empty columns are left out: derive numbers from them here."""
    kept = rows.copy()
    for name in kept.columns.difference([LABEL, TIME, KEY]):
        column = kept[name]
        if column.isna().all() or pd.api.types.infer_dtype(column, skipna=True) in ("date", "datetime", "datetime64"):
            kept = kept.drop(columns=name)
        elif pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
            kept[name] = column.astype(object).where(column.notna(), None)
        else:
            kept[name] = column.astype("float64")
    kept[TIME] = pd.to_datetime(kept[TIME], utc=True)
    return kept


@nr.step
def split(rows: pd.DataFrame, holdout: float = 0.2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All but the newest fifth to learn from, and that fifth to be judged on: never a random split."""
    first = rows[TIME].iloc[int(len(rows) * (1 - holdout))]
    learn, newest = rows[rows[TIME] < first], rows[rows[TIME] >= first]
    if learn.empty:
        raise ValueError(f"no row is older than {first}: the column {TIME} cannot tell old rows from new ones")
    return learn, newest


@nr.step(timeout="30m")
def train(rows: pd.DataFrame, learning_rate: float = 0.1, leaves: int = 15, iterations: int = 100) -> Pipeline:
    """Boosted trees; texts by number, what was never seen as -1, and nulls as they are."""
    x, y = nr.xy(rows, label=LABEL, drop=[TIME, KEY])
    texts = [name for name in x.columns if not pd.api.types.is_numeric_dtype(x[name])]
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), texts),
        remainder="passthrough",
    )
    boost = HistGradientBoostingClassifier(
        learning_rate=learning_rate,
        max_leaf_nodes=leaves,
        max_iter=iterations,
        early_stopping=False,
        random_state=nr.seed(),
    )
    return make_pipeline(encode, boost).fit(x, y)


@nr.pipeline
def training():
    learn, newest = split(labelled(table))
    model = train(learn)
    return nr.model("{{ dataset }}", model, holdout=newest, metrics=["auc", "log_loss"], slices="{{ slices }}")

"""What a report tells beside metrics: every number by scikit-learn's own, and a reason where there is none."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from noria.core.identity import Digest
from noria.packaging import bundle
from noria.packaging.predictor import Predictor
from noria.registry import asking, dependence, importance, insights, report
from noria.registry.asking import Asked
from noria.registry.attribution import attribute
from noria.registry.confusion import QUANTILES, confusion_of, residuals_of
from noria.registry.evidence import Champion
from noria.registry.export import export_report
from noria.registry.flips import EXAMPLES_MAX, flips_of
from noria.registry.insights import Insights
from noria.registry.metrics import METRICS, resolve
from noria.registry.records import VersionRecord
from noria.registry.scored import Sample, score
from noria.store.workspace import Workspace
from noria.testing.samples import flights, lateness

Register = Callable[..., VersionRecord]
TEXTS = ["carrier", "dest"]
NUMBERS = ["hour", "distance", "wind", "seats", "gust"]


def tick() -> float:
    """A clock that stands still: no model is too slow."""
    return 0.0


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """700 rows with texts, a category, numbers with and without null, and a key."""
    made = flights(700, seed=5)
    made["dest"] = made["dest"].astype("str")
    return made.assign(late=lateness(made), ticket=[f"t{number}" for number in range(700)])


@pytest.fixture(scope="module")
def trees(rows: pd.DataFrame) -> Any:
    """A pipeline with an encoder, as people make them."""
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), TEXTS), remainder="passthrough"
    )
    learned = flights(2000, seed=6)
    learned["dest"] = learned["dest"].astype("str")
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=20, random_state=0))
    return model.fit(learned[[*TEXTS, *NUMBERS]], lateness(learned))


@pytest.fixture
def predictor(ws: Workspace, trees: Any, rows: pd.DataFrame) -> Predictor:
    """The trees as Noria answers by them."""
    made = bundle.build(ws, trees, holdout=rows, run="run_1", label="late", drop=("ticket",), name="m", threshold=0.4)
    return bundle.opened(ws, made.digest)


@dataclasses.dataclass(frozen=True)
class Keyed:
    """The roles of `rows`."""

    key: str = "ticket"
    time: str = ""
    label: str = "late"


def seen(predictor: Predictor, holdout: pd.DataFrame, champion: Champion | None = None, **more: Any) -> Insights:
    sample = more.pop("sample", None) or score(predictor, holdout, "late")
    metrics = resolve(more.pop("metrics", ["auc", "log_loss"]), sample.task)
    options = {"holdout": holdout, "roles": Keyed(), "champion": champion, "clock": tick, **more}
    return insights.look(predictor, sample, metrics, **options)


def test_confusion_is_scikit_learns_at_the_threshold(predictor: Predictor, rows: pd.DataFrame) -> None:
    sample = score(predictor, rows, "late")
    found = confusion_of(sample.y, sample.score, sample.threshold)
    called = (sample.score >= 0.4).astype(int)
    counts = [[found.true_negatives, found.false_positives], [found.false_negatives, found.true_positives]]
    assert found.threshold == 0.4
    assert confusion_matrix(sample.y, called).tolist() == counts
    assert found.precision is not None
    assert found.recall is not None
    assert found.precision.value == pytest.approx(precision_score(sample.y, called))
    assert found.recall.value == pytest.approx(recall_score(sample.y, called))
    exact = binomtest(found.precision.successes, found.precision.trials).proportion_ci(0.95, method="wilson")
    assert (found.precision.low, found.precision.high) == pytest.approx((exact.low, exact.high))


def test_residuals_are_predicted_minus_observed() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=500)
    off = rng.gamma(2.0, size=500)
    found = residuals_of(y, y + off)
    assert found.mean == pytest.approx(off.mean())
    assert [value for _, value in found.quantiles] == pytest.approx(np.quantile(off, QUANTILES).tolist())
    assert found.low is not None
    assert found.low < off.mean() < (found.high or 0)


@pytest.mark.parametrize(
    ("metric", "scorer"), [("auc", "roc_auc"), ("log_loss", "neg_log_loss"), ("accuracy", "accuracy")]
)
def test_importance_is_scikit_learns_with_the_same_permutations(
    predictor: Predictor, trees: Any, rows: pd.DataFrame, metric: str, scorer: str
) -> None:
    names, repeats, n = [*TEXTS, *NUMBERS], 3, 300
    part, y = rows[names].head(n), rows["late"].to_numpy(dtype=float)[:n]
    theirs = permutation_importance(trees, part, y, scoring=scorer, n_repeats=repeats, random_state=0)
    # scikit-learn draws one seed for all columns, and for each repeat moves the values as they were moved last.
    state = np.random.RandomState(np.random.RandomState(0).randint(np.iinfo(np.int32).max + 1))
    order, moved, orders = np.arange(n), np.arange(n), []
    for _ in range(repeats):
        state.shuffle(order)
        moved = moved[order]
        orders.append(moved)
    asked = Asked(predictor, part)
    found = importance.importance_of(asked, y, METRICS[metric], np.stack(orders))
    ours = {weight.column: weight.drop for weight in found.weights}
    assert [ours[name] for name in names] == pytest.approx(theirs.importances_mean.tolist(), abs=1e-12)
    drops = [weight.drop for weight in found.weights]
    assert drops == sorted(drops, reverse=True)
    assert all(weight.low <= weight.drop <= weight.high for weight in found.weights)


def test_a_column_that_the_model_ignores_has_no_importance_and_no_interval(
    ws: Workspace, models: dict[str, Any], holdout: pd.DataFrame
) -> None:
    made = bundle.build(ws, models["strong"], holdout=holdout, run="r", label="late", name="m")
    opened = bundle.opened(ws, made.digest)
    flat = dataclasses.replace(score(opened, holdout, "late"))
    asked = Asked(opened, flat.rows.head(200).assign(seats=np.float32(7)))
    found = importance.importance_of(asked, flat.y[:200], METRICS["auc"], importance.orders(200, 2))
    (seats,) = [weight for weight in found.weights if weight.column == "seats"]
    assert (seats.low, seats.drop, seats.high) == (0, 0, 0)


def test_dependence_is_scikit_learns_on_the_same_grid(predictor: Predictor, trees: Any, rows: pd.DataFrame) -> None:
    part = rows[[*TEXTS, *NUMBERS]].head(dependence.ROWS_MAX).reset_index(drop=True)
    asked = Asked(predictor, part)
    kinds = {column.name: column.type for column in predictor.signature.inputs}
    for name in ("wind", "hour", "carrier"):
        grid = dependence.grid_of(asked.frame[name], kinds[name])
        mean, (curve,) = dependence.curves_of(asked, [(name, grid)], len(part))
        values = [part[name][place] for place in grid.places]
        theirs = partial_dependence(
            trees,
            part.astype({name: "float64"}) if name == "hour" else part,
            [name],
            kind="average",
            method="brute",
            custom_values={name: np.array(values, dtype=object if name == "carrier" else float)},
        )
        assert [point.score for point in curve.points] == pytest.approx(theirs["average"][0].tolist(), abs=1e-9)
        assert mean == pytest.approx(trees.predict_proba(part)[:, 1].mean())


def test_a_grid_holds_only_values_that_are_there_and_the_spread_counts_every_row() -> None:
    rng = np.random.default_rng(1)
    many = pd.Series(rng.normal(size=1000))
    found = dependence.grid_of(many, "float64")
    assert set(found.at) <= set(many.tolist())
    assert len(found.places) == dependence.POINTS
    few = pd.Series([3, 5, 5, 9, None], dtype="Int64")
    found = dependence.grid_of(few, "int64")
    assert (found.at, found.counts, found.missing) == ((3.0, 5.0, 9.0), (1, 2, 1), (4, 0.2))
    times = pd.Series(pd.to_datetime(["2013-01-02", "2013-01-01", None], utc=True))
    assert dependence.grid_of(times, "timestamp").at == (1356998400.0, 1357084800.0)
    texts = pd.Series([f"level {number % 11}" for number in range(110)] + ["often"] * 9)
    found = dependence.grid_of(texts, "text")
    assert found.values[0] == "level 0"
    assert len(found.values) == dependence.LEVELS_MAX
    assert sum(found.shares) + found.rest == pytest.approx(1)
    for bad in (pd.Series([None, None], dtype="object"), pd.Series([np.nan, np.inf])):
        with pytest.raises(ValueError, match=r"null|finite"):
            dependence.grid_of(bad, "float64")


def test_flips_say_who_was_right_and_where_the_row_is(predictor: Predictor, rows: pd.DataFrame) -> None:
    holdout = rows.astype({"late": "float64"})
    holdout.loc[[2, 3], "late"] = np.nan
    sample = score(predictor, holdout, "late")
    rng = np.random.default_rng(3)
    champion = Champion(7, np.clip(sample.score + rng.normal(scale=0.2, size=len(sample.y)), 0, 1), 0.6)
    found = seen(predictor, holdout, champion).flips
    assert found is not None
    now, before = sample.score >= 0.4, champion.score >= 0.6
    up, down = found.turns
    assert (up.n, down.n) == (int((now & ~before).sum()), int((~now & before).sum()))
    assert up.right == int((now & ~before & (sample.y == 1)).sum())
    assert down.right == int((~now & before & (sample.y == 0)).sum())
    assert found.same + up.n + down.n == found.n == 698
    assert len(up.rows) == EXAMPLES_MAX
    for shown in up.rows:
        assert rows["ticket"][shown.row] == shown.key
        assert predictor.predict(rows.iloc[[shown.row]])[0] == pytest.approx(shown.score)
    apart = [abs(shown.score - shown.champion) for shown in up.rows]
    assert apart == sorted(apart, reverse=True)
    assert apart[0] == pytest.approx(np.abs(sample.score - champion.score)[now & ~before].max())


def test_of_a_regression_the_rows_that_are_nearer_and_farther_are_told() -> None:
    y = np.array([1.0, 2.0, 3.0, 4.0])
    sample = Sample(pd.DataFrame({"x": y}), y, np.array([1.0, 2.5, 5.0, 4.0]), 0.5, "regression")
    found = flips_of(sample, Champion(1, np.array([3.0, 2.1, 3.5, 4.0]), 0.5), places=range(4))
    nearer, farther = found.turns
    assert (nearer.n, farther.n, found.same) == (1, 2, 1)
    assert [row.row for row in farther.rows] == [2, 1]
    assert found.better is not None
    assert (found.better.successes, found.better.trials) == (1, 3)


def test_the_same_version_and_data_give_the_same_insights(predictor: Predictor, rows: pd.DataFrame) -> None:
    first = seen(predictor, rows)
    assert first == seen(predictor, rows)
    assert first.importance is not None
    assert first.dependence is not None
    assert (first.importance.reason, first.dependence.reason, first.flips) == ("", "", None)
    assert first.importance.weights[0].column == "hour"
    assert first.dependence.curves[0].column == "hour"
    assert len(first.dependence.curves) == dependence.COLUMNS_SHOWN


def test_what_is_asked_is_bounded_however_many_rows_and_columns_there_are() -> None:
    for count, columns in ((6_000, 24), (10**7, 24), (500, 3), (10**6, 5_000)):
        n, repeats, asked = importance.size_for(count, columns)
        assert n <= min(count, importance.ROWS_MAX)
        assert n * repeats * asked <= importance.ASKED_MAX or n <= importance.ROWS_MIN
        assert asked <= importance.COLUMNS_MAX
        assert repeats >= 1


class Breaks:
    """A predictor that fails on every question but the first: what it was trained for, and nothing else."""

    def __init__(self, own: Predictor, error: Exception, *, after: int = 1) -> None:
        self._own, self._error, self._left = own, error, after
        self.rows, self.signature = own.rows, own.signature

    def predict(self, data: Any) -> Any:
        """The scores, as long as it answers."""
        self._left -= 1
        if self._left < 0:
            raise self._error
        return self._own.predict(data)


def test_a_section_that_cannot_be_computed_says_why(predictor: Predictor, rows: pd.DataFrame) -> None:
    sample = score(predictor, rows, "late")
    broken: Any = Breaks(predictor, RuntimeError("no such combination"))
    found = seen(broken, rows, sample=sample)
    assert found.importance is not None
    assert found.dependence is not None
    assert found.importance.reason == "RuntimeError: no such combination"
    assert found.dependence.reason == "RuntimeError: no such combination"
    assert found.confusion is not None
    assert not found.confusion.reason
    one = dataclasses.replace(sample, y=np.zeros_like(sample.y))
    found = seen(predictor, rows, sample=one)
    assert found.importance is not None
    assert found.importance.reason.startswith("auc is not defined on these")
    assert found.dependence is not None
    assert not found.dependence.reason, "what the model makes of a column needs no label"
    assert found.confusion is not None
    assert found.confusion.recall is not None
    assert found.confusion.recall.value is None
    lost = dataclasses.replace(sample, score=np.where(np.arange(700) == 5, np.nan, sample.score))
    found = seen(predictor, rows, sample=lost, champion=Champion(1, lost.score, 0.5))
    for section in (found.confusion, found.champion_confusion, found.flips):
        assert section is not None
        assert section.reason == "1 of 700 scores are not finite"


def test_a_model_that_is_too_slow_is_not_asked_and_one_that_was_slow_once_is(
    predictor: Predictor, rows: pd.DataFrame
) -> None:
    times = iter([0.0, 7.0, 7.0, 14.0])
    found = seen(predictor, rows, clock=lambda: next(times))
    assert found.importance is not None
    assert found.importance.reason.startswith("asking the model would take about")
    assert found.confusion is not None
    assert found.confusion.precision is not None
    times = iter([0.0, 7.0, 7.0, 7.1])
    found = seen(predictor, rows, clock=lambda: next(times))
    assert found.importance is not None
    assert not found.importance.reason


def test_a_small_holdout_is_asked_about_though_each_call_costs(predictor: Predictor, rows: pd.DataFrame) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.05
        return now[0]

    found = seen(predictor, rows.head(12), clock=clock)
    assert found.dependence is not None
    assert not found.dependence.reason


def test_a_model_whose_scores_hang_on_the_rows_beside_is_told_of(predictor: Predictor, rows: pd.DataFrame) -> None:
    sample = score(predictor, rows, "late")
    ranked = dataclasses.replace(sample, score=sample.score + 0.25)
    found = seen(predictor, rows, sample=ranked)
    assert found.importance is not None
    assert found.importance.reason == "the model scores a row otherwise beside other rows, by up to 0.25"


def test_gates_leave_a_report_with_every_section_and_the_same_as_json(
    ws: Workspace, register: Register, judge: Any
) -> None:
    register("weak")
    strong = register("strong")
    judgement = judge(strong.version, champion=1)
    assert judgement.passed
    page = ws.objects.get_bytes(Digest(judgement.judged.report)).decode()
    for title in ("Calls at the threshold 0.5", "Rows that flipped", "Importance", "Partial dependence"):
        assert f"<h2>{title}</h2>" in page
    assert "Not computed" not in page
    found = export_report(ws, strong.ref, "kept.json")
    document = json.loads(Path(found.path).read_bytes())
    assert document == found.evaluation == ws.objects.get_json(found.json_digest)
    assert found.digest == found.json_digest == judgement.evaluation.document
    assert [verdict["gate"] for verdict in document["verdicts"]] == [each.gate for each in judgement.judged.verdicts]
    assert report.render(document) == page
    assert document["data"]["bundle"] == strong.bundle
    assert document["insights"]["flips"]["champion"] == 1


def test_a_page_of_a_regression_has_residuals_and_what_came_nearer(ws: Workspace, register: Register) -> None:
    rows = flights(400, seed=9)
    rows["late"] = rows["hour"] * 2.0 + rows["wind"]
    made = [
        HistGradientBoostingRegressor(max_iter=count, random_state=0).fit(rows[["hour", "wind"]], rows["late"])
        for count in (5, 40)
    ]
    built = bundle.build(ws, made[1], holdout=rows, run="r", label="late", name="m")
    champion = Champion(1, made[0].predict(rows[["hour", "wind"]]), 0.5)
    found = seen(bundle.opened(ws, built.digest), rows, champion, metrics=["rmse"])
    assert found.importance is not None
    assert (found.importance.metric, found.confusion) == ("mae", None)
    document = {
        "title": "", "task": "regression", "n": 400, "unlabelled": 0, "level": 0.95, "order": [], "metrics": {},
        "champion": {}, "slices": [], "data": {}, "insights": dataclasses.asdict(found),
        "curves": {"roc": [], "calibration": [], "edges": []},
    }  # fmt: skip
    page = report.render(document)
    for text in ("Predicted minus observed", "nearer: ", "How much worse mae gets"):
        assert text in page


def test_a_document_of_before_there_were_insights_still_renders(ws: Workspace, judge: Any, register: Register) -> None:
    document = ws.objects.get_json(judge(register("strong").version).evaluation.document)
    old = {key: value for key, value in document.items() if key not in ("insights", "verdicts")}
    page = report.render(old)
    assert "Importance" not in page
    assert "<h2>Metrics</h2>" in page


def test_values_of_data_are_escaped_and_charts_stay_inside(ws: Workspace, rows: pd.DataFrame, trees: Any) -> None:
    evil = "<script>alert(1)</script>"
    bad = rows.assign(ticket=evil, carrier=rows["carrier"].str.replace("UA", evil))
    built = bundle.build(ws, trees, holdout=bad, run="r", label="late", drop=("ticket",), name="m")
    opened = bundle.opened(ws, built.digest)
    sample = score(opened, bad, "late")
    found = seen(opened, bad, Champion(1, 1 - sample.score, 0.5))
    names = [curve.column for curve in (found.dependence or dependence.Dependence()).curves]
    assert "carrier" in names
    document = {
        "title": evil, "task": "binary", "n": 700, "positives": 1, "threshold": 0.5, "unlabelled": 0, "level": 0.95,
        "order": [], "metrics": {}, "champion": {}, "slices": [], "data": {}, "insights": dataclasses.asdict(found),
        "curves": {"roc": [], "calibration": [], "edges": []},
    }  # fmt: skip
    page = report.render(document)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "nan" not in page.lower().replace("finance", "")


def test_rows_are_asked_in_as_many_calls_as_bound_the_memory_with_the_same_answers(
    predictor: Predictor, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = [dict(row) for row in predictor.bundle.golden_rows]
    whole, apart = seen(predictor, rows), attribute(predictor, golden[0], golden)
    monkeypatch.setattr(asking, "CELLS_MAX", 7 * 1_001)
    assert seen(predictor, rows) == whole
    assert attribute(predictor, golden[0], golden) == apart


def test_every_kind_of_column_is_asked_about_with_its_dtype_of_training(ws: Workspace) -> None:
    learned = flights(500, seed=8)
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ["carrier", "maker", "dest", "weekend"]),
        ("passthrough", NUMBERS),
        ("drop", ["at", "engines"]),
    )
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=5, random_state=0))
    labelled = learned.assign(late=lateness(learned))
    names = list(learned.columns)
    built = bundle.build(ws, model.fit(learned, labelled["late"]), holdout=labelled, run="r", label="late", name="m")
    opened = bundle.opened(ws, built.digest)
    asked = Asked(opened, learned)
    assert asked.frame.dtypes.to_dict() == learned.dtypes.to_dict()
    kinds = {column.name: column.type for column in opened.signature.inputs}
    grids = [(name, dependence.grid_of(asked.frame[name], kinds[name])) for name in names]
    mean, curves = dependence.curves_of(asked, grids, 100)
    for curve, (_, grid) in zip(curves, grids, strict=True):
        for point, place in zip(curve.points, grid.places, strict=True):
            same = learned.head(100).assign(**{curve.column: learned[curve.column].take([place] * 100).array})
            assert point.score == pytest.approx(model.predict_proba(same)[:, 1].mean(), abs=1e-9)
        assert (curve.missing is not None) == bool(learned[curve.column].isna().any())
    assert {curve.column for curve in curves if curve.kind == "levels"} == {"carrier", "maker", "dest", "weekend"}
    ignored = next(curve for curve in curves if curve.column == "at")
    assert [point.score for point in ignored.points] == pytest.approx([mean] * len(ignored.points))
    found = attribute(opened, opened.bundle.golden_rows[1], opened.bundle.golden_rows)
    assert sum(part.adds for part in found.parts) == pytest.approx(found.score - found.base, abs=1e-9)
    assert {part.adds for part in found.parts if part.column == "at"} == {0.0}

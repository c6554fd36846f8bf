"""Runs in Great Expectations' own environment: its verdict on each expectation, as JSON.

python gx_verdicts.py SUITE.json FOLDER  →  {"file": [[type, kwargs, success], …], …}
"""

import json
import sys
import warnings
from pathlib import Path

import great_expectations as gx
import pandas as pd
from great_expectations.expectations.registry import get_expectation_impl

warnings.simplefilter("ignore")


def main() -> None:
    """Judge every Parquet file of the folder by every expectation, one by one."""
    listed = json.loads(Path(sys.argv[1]).read_text())["expectations"]
    context = gx.get_context(mode="ephemeral")
    source = context.data_sources.add_pandas("pandas")
    found = {}
    for path in sorted(Path(sys.argv[2]).glob("*.parquet")):
        asset = source.add_dataframe_asset(path.stem)
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": pd.read_parquet(path)})
        verdicts = []
        for each in listed:
            made = get_expectation_impl(each["type"])(**each["kwargs"])
            result = batch.validate(made)
            raised = [info for info in [result.exception_info] if info and info.get("raised_exception")]
            verdicts.append([each["type"], each["kwargs"], bool(result.success), bool(raised)])
        found[path.stem] = verdicts
    print(json.dumps({"version": gx.__version__, "verdicts": found}))


if __name__ == "__main__":
    main()

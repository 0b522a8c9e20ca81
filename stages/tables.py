"""Gather every run's result into reports/metrics.json and Table 1."""

from delta.files import whole_file
from delta.params import Params
from delta.report.results import left_out, metrics, read_results
from delta.report.tables import table1
from stages import REPORTS, RUNS, run_stage


def main(params: Params) -> None:
    results = read_results(RUNS, params.datasets, params.backbones, ["l2_fe", *params.methods], params.seeds)
    if stale := left_out(RUNS, results):
        # DVC sees all of runs/, so these would show in dvc.lock and nowhere else.
        print(f"note: left out, as params.yaml does not name them; delete them: {', '.join(map(str, stale))}")
    with whole_file(REPORTS / "metrics.json") as scratch:
        scratch.write_text(metrics(results), encoding="utf-8")
    for suffix, text in table1(results).items():
        with whole_file(REPORTS / "tables" / f"table1.{suffix}") as scratch:
            scratch.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_stage(main)

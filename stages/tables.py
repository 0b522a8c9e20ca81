"""Gather every run's result into the metrics and Tables 1 and 2."""

from delta.files import whole_file, whole_folder
from delta.params import Params
from delta.report.results import left_out, metrics, read_results
from delta.report.tables import accuracy_table
from stages import REPORTS, RUNS, SETTINGS, run_stage


def main(params: Params) -> None:
    methods, improved = ["l2_fe", *params.methods], params.improved_view
    results = read_results(RUNS, params.datasets, params.backbones, methods, params.seeds)
    names = (improved.datasets, improved.backbones, improved.methods, params.seeds)
    tables = {1: results, 2: read_results(RUNS, *names, variant=SETTINGS["improved"])}
    for number, name in {1: "metrics", 2: "metrics_improved"}.items():
        with whole_file(REPORTS / f"{name}.json") as scratch:
            scratch.write_text(metrics(tables[number]), encoding="utf-8")
    with whole_folder(REPORTS / "tables") as out:
        for number, rows in tables.items():
            if rows.empty:
                continue
            for suffix, text in accuracy_table(number, rows).items():
                (out / f"table{number}.{suffix}").write_text(text, encoding="utf-8")
    curves = params.learning_curves
    names = (curves.datasets, curves.backbones, curves.methods, params.seeds)
    exponential = read_results(RUNS, *names, variant=SETTINGS["exponential"])
    if stale := left_out(RUNS, [*tables.values(), exponential]):
        # DVC sees all of runs/, so these would show in dvc.lock and nowhere else.
        print(f"note: left out, as params.yaml does not name them; delete them: {', '.join(map(str, stale))}")


if __name__ == "__main__":
    run_stage(main)

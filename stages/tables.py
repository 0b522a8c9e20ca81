"""Gather every run's result into the metrics and Tables 1 to 4."""

from itertools import product

from delta.io.files import atomic_file, atomic_folder
from delta.report.detector_tables import concept_table, detector_metrics, detector_table, detectors, read_units
from delta.report.part_tables import each_part, part_metrics, part_table, read_parts
from delta.report.results import left_out, metrics, read_results
from delta.report.tables import accuracy_table
from stages.common.command import run_stage
from stages.common.params import Params
from stages.common.paths import REPORTS, RUNS, SETTINGS, analysis_output


def main(params: Params) -> None:
    methods, improved = ["l2_fe", *params.methods], params.improved_view
    results = read_results(RUNS, params.datasets, params.backbones, methods, params.seeds)
    names = (improved.datasets, improved.backbones, improved.methods, params.seeds)
    better = read_results(RUNS, *names, variant=SETTINGS["improved"])
    measured, dissected = params.part_activation, params.dissection
    keys = product(measured.datasets, measured.backbones, measured.methods)
    parts = read_parts((*key, analysis_output(*key[:2], f"part_activation/{key[2]}.csv")) for key in keys)
    keys = product(dissected.datasets, dissected.backbones, dissected.methods, params.seeds)
    units = read_units((*key, analysis_output(*key[:2], f"dissection/{key[2]}/{key[3]}")) for key in keys)
    counts = detectors(units)

    for name, text in {
        "metrics": metrics(results),
        "metrics_improved": metrics(better),
        "metrics_parts": part_metrics(parts),
        "metrics_dissection": detector_metrics(counts),
    }.items():
        with atomic_file(REPORTS / f"{name}.json") as scratch:
            scratch.write_text(text, encoding="utf-8")

    sources = results[["dataset", "backbone", "source_network"]]
    tables = {"table1": accuracy_table(1, results)}
    if not better.empty:
        tables["table2"] = accuracy_table(2, better)
    if not parts.empty:
        tables |= {"table3": part_table(parts, sources), "table3_parts": each_part(parts)}
    if not units.empty:
        tables |= {"table4": detector_table(counts, sources), "table4_concepts": concept_table(units)}
    with atomic_folder(REPORTS / "tables") as out:
        for name, texts in tables.items():
            for suffix, text in texts.items():
                (out / f"{name}.{suffix}").write_text(text, encoding="utf-8")

    curves = params.learning_curves
    names = (curves.datasets, curves.backbones, curves.methods, params.seeds)
    exponential = read_results(RUNS, *names, variant=SETTINGS["exponential"])
    if stale := left_out(RUNS, [results, better, exponential]):
        # DVC sees all of runs/, so these would show in dvc.lock and nowhere else.
        print(f"note: left out, as params.yaml does not name them; delete them: {', '.join(map(str, stale))}")


if __name__ == "__main__":
    run_stage(main)

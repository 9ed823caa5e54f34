"""Audits the data of a config and what is trained on them: are they sound, are there enough, is the fit right?

    plumbline audit --config=configs/digits_mlp.py --workdir=runs/audit
    plumbline audit --config=configs/digits_mlp.py --workdir=runs/audit_data --data-only
    plumbline audit --run=runs/mlp --workdir=runs/audit_mlp

Flags:
    --config=FILE[:ARGUMENT]   a config file; --config.FIELD=VALUE changes a field
    --run=DIR                  audit a finished run instead of a config: nothing is trained, and the fit is that of the
                               run
    --workdir=DIR              output directory: new, empty, or of an earlier start of this command, which is resumed
    --reference=SOURCE         compare the training rows with another set, such as rows from production; a source like
                               data.source, such as csv:PATH; none by default
    --folds=K                  folds of the cross-validation; 5 by default
    --seeds=S                  trainings of each fold and size; 3 by default. There are ten on
                               random labels
    --sizes=N                  subsets of the learning curve; 6 by default
    --wanted=VALUE             estimate how much data this accuracy takes (for a regression, this mean squared error)
    --data-only                look at the data only; train nothing except what --apply tries
    --apply                    try the proposed remedies: train with and without each on folds of the training and
                               validation rows, keep those that improve the metric there, and report on test rows
    --remedies=NAME,...        with --apply: only the remedies of these findings; all by default
    --remedy-seeds=S           with --apply: repetitions of the folds, and for the test rows seeds to train each kept
                               remedy with; 5 by default
    --overwrite                delete earlier results in DIR and start again; off by default

Prints the findings, worst first, with their remedies as flags. Writes audit.html, a page that shows all findings with
their evidence and needs no network; findings.json and plots/ with the same content for programs and papers; and
findings.npz with the rows to drop and the weights of examples.

Rows with an exact copy among those that are trained on judge no remedy. Remedies that change the test split, and those
for leaks, which no test score can judge, are listed as not tried.

A diagnostic that cannot judge says so in a finding and does not stop the others. Data files are never changed.

Exit codes: 0 done, with or without findings; 2 an error that you can fix; 42 preempted (run the same command again).
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import shutil
import sys
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from experiments import command, output_directory
from experiments.path_flags import define_path
from experiments.populations import use_a_device_per_core
from plumbline import UserError, unknown_name
from plumbline.files import write_text
from reporting import audit_files, terminal

if TYPE_CHECKING:
    import ml_collections

    from diagnostics.examples import Examples
    from diagnostics.finding import Finding
    from diagnostics.material import Material
    from diagnostics.quality.reference import Reference
    from reporting.audit_report import Report

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
_RUN = define_path("run", "", "Finished run.")
_WORKDIR = define_path("workdir", None, "Directory for the results.")
_REFERENCE = flags.DEFINE_string("reference", "", "Set to compare with.")
_FOLDS = flags.DEFINE_integer("folds", 5, "Folds.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each.")
_SIZES = flags.DEFINE_integer("sizes", 6, "Subsets.")
_WANTED = flags.DEFINE_float("wanted", None, "Accuracy or mean squared error to reach.")
_DATA_ONLY = flags.DEFINE_bool("data_only", False, "Train nothing.")
flags.DEFINE_alias("data-only", "data_only")
_APPLY = flags.DEFINE_bool("apply", False, "Try remedies.")
_REMEDIES = flags.DEFINE_list("remedies", [], "Findings whose remedies are tried.")
_REMEDY_SEEDS = flags.DEFINE_integer("remedy-seeds", 5, "Repetitions of trying each remedy.")
flags.DEFINE_alias("remedy_seeds", "remedy-seeds")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Start again.")

_PAGE = "audit.html"
_LEAST = {"folds": 2, "seeds": 1, "sizes": 4, "remedy-seeds": 2}


def main(words: list[str]) -> None:
    """Trains, runs the diagnostics, writes and prints."""
    command.refuse(words)
    command.require(**({} if _RUN.value else {"config": _CONFIG.value}), workdir=_WORKDIR.value)
    for name, least in _LEAST.items():
        if flags.FLAGS[name].value < least:
            raise UserError(f"--{name}: {flags.FLAGS[name].value} given; it must be at least {least}")
    for name in ("remedies", "remedy-seeds"):
        if flags.FLAGS[name].present and not _APPLY.value:
            raise UserError(f"--{name}: is for --apply, which is not given")
    if _RUN.value and _CONFIG.value is not None:
        raise UserError("--config: --run has a config of its own; leave one of the two out")
    for instead in ("run", "data-only"):
        for name in ("folds", "seeds", "sizes", "wanted"):
            if flags.FLAGS[instead].value and flags.FLAGS[name].present:
                raise UserError(f"--{name}: --{instead} trains nothing; leave one of the two out")
    output_directory.exit_on_sigterm()
    use_a_device_per_core()
    _audit()


def _audit() -> None:
    from diagnostics.examples import open_examples
    from diagnostics.material import Material
    from diagnostics.registry import DIAGNOSTICS
    from reporting.audit_report import Report
    from trainers.devices import compilation
    from trainers.run import transfer
    from trainers.run.directory import RunDirectory

    names = {name for each in DIAGNOSTICS for name in each.names}
    for name in _REMEDIES.value:
        if name not in names:
            raise unknown_name("--remedies", name, names)
    run = RunDirectory(_RUN.value) if _RUN.value else None
    try:
        config = run.config() if run else _CONFIG.value
    except UserError as error:
        raise UserError(str(error).replace("--workdir", "--run")) from None
    used = config.data.findings
    if used and pathlib.Path(used).resolve() == pathlib.Path(_WORKDIR.value).resolve():
        raise UserError(f"--workdir: '{_WORKDIR.value}' is data.findings as well, and would be replaced; give another")
    with output_directory.lock(_WORKDIR.value, _request(config), overwrite=_OVERWRITE.value) as output:
        config = transfer.resolve(config, run)
        examples = open_examples(config.data, seed=config.seed, assets=run.assets() if run else None)
        reference, fingerprint = _read_reference(config, examples)
        _check_unchanged(output.path, {"data": examples.fingerprint, "reference": fingerprint})
        compilation.keep_programs(config.execution.compilation_cache, config.data.cache_dir)
        material = Material(config=config, examples=examples, reference=reference, wanted=_WANTED.value, run=_RUN.value)
        if _DATA_ONLY.value or run:
            _claim(output)
            trainings = None
        else:
            material, trainings = _train(material, output)
        findings, seconds = _ask(material, output.path)
        report = Report(
            directory=str(output.path),
            source=config.data.source,
            examples=examples,
            findings=tuple(findings),
            reference=_REFERENCE.value,
            reference_fingerprint=fingerprint,
            trainings=trainings,
            seconds=seconds,
        )
        output.record_request()
        _write(report, output.path)
        terminal.print_report(report)
        print(f"{output.path}/{_PAGE}, {audit_files.FINDINGS}, {audit_files.LISTS}, {audit_files.PLOTS}/")


def _request(config: "ml_collections.ConfigDict") -> output_directory.Request:
    from trainers.run.identity import defining_fields

    # The population checks the rest of the config; --data-only has no population.
    settings: dict[str, str | int] = {
        name: str(value) for name, value in defining_fields(config.to_dict()).items() if name.startswith("data.")
    }
    settings |= {"seed": config.seed, "reference": _REFERENCE.value or "none"}
    if _RUN.value:
        settings["run"] = _RUN.value
    elif not _DATA_ONLY.value:
        settings |= {"folds": _FOLDS.value, "sizes": _SIZES.value}
    if _WANTED.value is not None:
        settings["wanted"] = str(_WANTED.value)
    return output_directory.Request(
        command="audit",
        settings=settings,
        seeds=0 if _DATA_ONLY.value or _RUN.value else _SEEDS.value,
        results=(audit_files.FINDINGS, audit_files.LISTS, _PAGE),
    )


def _check_unchanged(path: pathlib.Path, fingerprints: dict[str, str]) -> None:
    """Checks that an earlier audit in the directory is of the same data.

    Raises:
      UserError: its data differ, or it cannot be read.
    """
    file = path / audit_files.FINDINGS
    if _OVERWRITE.value or not file.exists():
        return
    try:
        about = json.loads(file.read_text(encoding="utf-8"))["data"]
        before = {"data": about["fingerprint"], "reference": (about["reference"] or {"fingerprint": ""})["fingerprint"]}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"--workdir: '{file}' is damaged; give another --workdir, or --overwrite") from None
    for what, name in (("data", "data.source"), ("reference", "--reference")):
        if before[what] != fingerprints[what]:
            raise UserError(
                f"{name}: the {what} changed since the audit in '{path}'; give another --workdir, or --overwrite"
            )


def _read_reference(config: "ml_collections.ConfigDict", examples: "Examples") -> "tuple[Reference | None, str]":
    """Reads the set of --reference; returns it and its fingerprint, or None and "" without one."""
    if not _REFERENCE.value:
        return None, ""
    from diagnostics.quality.reference import read_reference

    reference = read_reference(examples.features, config.data, _REFERENCE.value, seed=config.seed)
    digest = hashlib.sha256(f"{reference.total} {reference.names}".encode())
    digest.update(reference.inputs.tobytes())
    digest.update(b"" if reference.labels is None else reference.labels.tobytes())
    return reference, digest.hexdigest()


def _train(material: "Material", output: output_directory.OutputDirectory) -> "tuple[Material, dict[str, Any]]":
    """Trains; returns the material with the results, and figures on the trainings."""
    from data.pool import load_pool
    from diagnostics import trainings
    from trainers.populations.population import Population

    config = material.config
    try:
        pool = load_pool(config.data, seed=config.seed)
        plan = trainings.plan(config, pool, folds=_FOLDS.value, seeds=_SEEDS.value, sizes=_SIZES.value)
    except UserError as error:
        raise UserError(f"{error}; or look at the data alone, with --data-only") from None
    most = 1 if pool.features.task == "classification" else math.inf
    if _WANTED.value is not None and not 0 < _WANTED.value < most:
        raise UserError(
            f"--wanted: {_WANTED.value} given; an accuracy lies between 0 and 1, a mean squared error above 0"
        )
    _claim(output)
    population = Population(config, plan.pool, directory=output.path)
    outcomes = population.train(plan.members, predict=True)
    results = plan.gather(outcomes)
    return dataclasses.replace(material, pool=pool, trainings=results), dict(population.summary)


def _ask(material: "Material", path: pathlib.Path) -> "tuple[list[Finding], dict[str, float]]":
    """Returns all findings, and the seconds of each diagnostic and of the trials of remedies."""
    from diagnostics import audit, remedies, remedy_trials
    from diagnostics.diagnostic import Diagnostic

    seconds: dict[str, float] = {}

    def show(title: str, took: float) -> None:
        seconds[title] = round(took, 3)
        print(f"{title}  {took:.1f} s", file=sys.stderr, flush=True)

    shutil.rmtree(path / "tracebacks", ignore_errors=True)
    findings = audit.run(material, path, show=show)
    if _APPLY.value:
        tried = Diagnostic(
            title="remedies",
            questions=(remedies.QUESTION,),
            find=lambda material: [
                remedy_trials.apply(
                    material.config, findings, _REMEDIES.value, count=_REMEDY_SEEDS.value, directory=path
                )
            ],
        )
        (became,) = audit.run(material, path, diagnostics=[tried], show=show)
        findings = [*remedies.with_verdicts(findings, became), became]
    return findings, seconds


def _claim(output: output_directory.OutputDirectory) -> None:
    from diagnostics import remedy_trials

    output.claim()
    if _OVERWRITE.value:
        remedy_trials.delete(output.path)


def _write(report: "Report", path: pathlib.Path) -> None:
    from reporting import audit_page, audit_plots

    pictures = audit_plots.draw_all(report.findings)
    audit_files.write_plots(path / audit_files.PLOTS, pictures)
    audit_files.write_lists(path / audit_files.LISTS, report)
    audit_files.write_findings(path / audit_files.FINDINGS, report)
    write_text(path / _PAGE, audit_page.render_page(report, pictures))


if __name__ == "__main__":
    command.run(main)

"""Estimates as text for people."""

import sys
from collections.abc import Sequence

import rich.console
import rich.table

from diagnostics.cost.estimate import Estimate, assumptions
from diagnostics.cost.search import Tried
from diagnostics.cost.work import unknown_loops
from trainers.devices.flops import RULE


def print_estimate(estimate: Estimate) -> None:
    """Prints everything of one estimate on standard output."""
    console = _console()
    console.print(_headline(estimate), highlight=False)
    console.print(_memory(estimate))
    console.print(_work(estimate))
    console.print(_run(estimate))
    for note in _notes(estimate):
        console.print(f"- {note}", highlight=False)


def print_remedies(tried: Sequence[Tried]) -> None:
    """Prints what was tried to make a config fit."""
    table = _table("To make it fit", "change", "memory a device", "fits", "step", "")
    for each in tried:
        table.add_row(*_tried_cells(each))
    _console().print(table)


def print_search(tried: Sequence[Tried], candidates: int) -> None:
    """Prints the variants of a search, the shortest run first."""
    title = f"{len(tried)} of {candidates} variants, the shortest run first"
    columns = ("data", "fsdp", "tensor", "batch", "memory", "fits", "step", "examples/s", "MFU", "hours", "on demand")
    table = _table(title, *columns)
    for each in tried:
        changes = each.changes
        cells = [str(changes[f"mesh.{axis}"]) for axis in ("data", "fsdp", "tensor")]
        cells.append(f"{changes['train.batch_size']:,}")
        if each.estimate is None:
            table.add_row(*cells, "", f"no: {each.reason}")
            continue
        estimate = each.estimate
        cells += [size(estimate.compiled.memory.total), "yes" if estimate.fits else "no"]
        if estimate.fits:
            cells += [
                duration(estimate.seconds),
                f"{estimate.examples_per_second:,.0f}",
                _percent(estimate.mfu),
                f"{estimate.hours:,.2f}",
                _money(estimate.bill.on_demand, estimate),
            ]
        table.add_row(*cells)
    console = _console()
    console.print(table)
    best = next((each for each in tried if each.estimate is not None and each.estimate.fits), None)
    if best is not None:
        console.print(f"best: {best.text}", highlight=False)
        console.print("Another batch size needs another learning rate: tune it again.")


def size(count: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.2f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds with a unit."""
    if seconds != seconds:
        return "unknown"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.3g} min"


def _headline(estimate: Estimate) -> str:
    config = estimate.training.config
    mesh = " x ".join(f"{axis}={side}" for axis, side in estimate.training.mesh.shape.items())
    return (
        f"{config.model.name}, {estimate.training.num_parameters:,} parameters, {config.model.dtype}; "
        f"{estimate.num_devices} x {estimate.target.name}, mesh {mesh}; batch {config.train.batch_size:,}, "
        f"accumulation {config.train.accumulation_steps}, remat {config.model.remat}; "
        f"{estimate.total_steps:,} steps"
    )


def _memory(estimate: Estimate) -> rich.table.Table:
    memory = estimate.compiled.memory
    table = _table("Memory of each device", "part", "size")
    for name, value in (
        ("parameters", memory.parameters),
        ("optimizer state", memory.optimizer),
        ("moving average", memory.average),
        ("rest of the state", memory.rest),
        ("batch", memory.batch),
        ("padding of these", memory.padding),
        ("activations and other temporaries", memory.temporary),
        ("results of their own", memory.outputs),
        ("program", memory.code),
    ):
        if value:
            table.add_row(name, size(value))
    table.add_section()
    table.add_row("total", size(memory.total))
    table.add_row("the device has", size(estimate.available) if estimate.available else "unknown")
    table.add_row("fits", "yes" if estimate.fits else "NO")
    return table


def _work(estimate: Estimate) -> rich.table.Table:
    compiled, devices = estimate.compiled, estimate.num_devices
    table = _table("One step", "what", "each device", "all devices")

    def both(name: str, value: float, form: str = "{:,.4g}") -> None:
        table.add_row(name, form.format(value), form.format(value * devices))

    # XLA's own figures are shown because others quote them; nothing below depends on them.
    both("model GFLOPs, analytic", estimate.training.model_flops / devices / 1e9)
    if compiled.module is not None:
        both("GFLOPs compiled, loops in full", compiled.flops / 1e9)
        both("GFLOPs as XLA counts, each loop once", compiled.xla_flops / 1e9)
        both("GB to and from memory, loops in full", compiled.bytes / 1e9)
        both("GB as XLA counts, each loop once", compiled.xla_bytes / 1e9)
    for kind, each in estimate.collectives.items():
        table.add_row(f"{kind}: {each.count:,}", f"{size(each.bytes)}, sends {size(each.sent_bytes)}", "")
    return table


def _run(estimate: Estimate) -> rich.table.Table:
    table = _table("Expected", "what", "value")
    if not estimate.fits:
        table.add_row("step", "does not fit")
        return table
    # For GPUs a range: what their compiler fuses is not known here.
    shares = (estimate.least_seconds / estimate.seconds, 1.0) if estimate.target.kind == "gpu" else (1.0,)
    table.add_row("step", _range([duration(share * estimate.seconds) for share in shares]))
    if estimate.time is not None:
        time = estimate.time
        table.add_row("  compute, by itself", duration(time.compute))
        table.add_row("  memory, by itself", duration(time.memory))
        table.add_row("  operation by operation", duration(time.operations))
        table.add_row("  interconnect", duration(time.interconnect))
        table.add_row("  without overlap", duration(time.seconds_without_overlap))
        table.add_row("bound by", time.bound)
    if estimate.calibration is not None:
        table.add_row("  dispatch", duration(estimate.calibration.dispatch))
        table.add_row("  matrix products reach", f"{estimate.calibration.flops_rate / 1e9:,.3g} GFLOP/s")
    slow_first = shares[::-1]
    table.add_row("examples/s", _range([f"{estimate.examples_per_second / share:,.0f}" for share in slow_first]))
    table.add_row("MFU", _range([_percent(estimate.mfu and estimate.mfu / share) for share in slow_first]))
    hours = [share * estimate.hours for share in shares]
    table.add_row("hours, all steps", _range([f"{each:,.3g} ({duration(3600 * each)})" for each in hours]))
    table.add_row("energy", _range([f"{share * estimate.bill.kwh:,.3g} kWh" for share in shares]))
    table.add_row("on demand", _range([_money(share * estimate.bill.on_demand, estimate) for share in shares]))
    table.add_row("spot", _range([_money(share * estimate.bill.spot, estimate) for share in shares]))
    return table


def _notes(estimate: Estimate) -> list[str]:
    price = estimate.price
    notes = [estimate.target.basis, RULE]
    if estimate.fits:
        notes.append(f"step time: {assumptions(estimate)}")
    notes.append(
        f"prices of {price.date} in {price.currency}; {price.watts:g} W a device times "
        f"{price.power_usage_effectiveness:g} for the data centre; compilation, evaluations, checkpoints and "
        "preemptions come on top"
    )
    notes.append(f"examples: {estimate.examples_source}")
    if estimate.compiled.overflow:
        notes.append(f"the compiler: {estimate.compiled.overflow}")
    if estimate.compiled.module is not None and (loops := unknown_loops(estimate.compiled.module)):
        notes.append(f"loops of unknown length, counted as one turn: {', '.join(loops)}")
    return notes


def _tried_cells(tried: Tried) -> list[str]:
    estimate = tried.estimate
    if estimate is None:
        return [tried.text, "", "no", "", tried.reason]
    seconds = duration(estimate.seconds) if estimate.fits else ""
    return [tried.text, size(estimate.compiled.memory.total), "yes" if estimate.fits else "no", seconds, ""]


def _range(texts: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys(texts))


def _money(amount: float, estimate: Estimate) -> str:
    return f"{amount:,.2f} {estimate.price.currency}"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def _table(title: str, *columns: str) -> rich.table.Table:
    table = rich.table.Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right")
    return table


def _console() -> rich.console.Console:
    # Away from a terminal nothing is gained by folding lines at 80 characters.
    return rich.console.Console() if sys.stdout.isatty() else rich.console.Console(width=160, soft_wrap=True)

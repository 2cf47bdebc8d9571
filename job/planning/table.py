"""How a plan reads."""

from __future__ import annotations

from job.planning.estimate import DEVICES, Plan, StageEstimate


def text(plan: Plan, *, price_per_hour: float | None) -> str:
    """Returns the plan as a table: a row a stage, a column a number of devices like the measured ones."""
    columns = sorted({*DEVICES, plan.measured_on})
    head = f"{'stage':<12}{'images':>10}{'images/s':>10}{'memory':>10}" + "".join(
        f"{f'on {num}':>10}" for num in columns
    )
    rows = [f"Measured on {plan.devices}, a global batch of {plan.batch}; seconds on that many such devices:", "", head]
    rows += [_row(stage, plan, columns) for stage in plan.stages]
    rows.append(f"{'total':<42}" + "".join(f"{_span(plan.seconds(num)):>10}" for num in columns))
    if price_per_hour is not None:
        rows.append(f"{'cost':<42}" + "".join(f"{plan.cost(num, price_per_hour):>10.2f}" for num in columns))
    done = [stage.name for stage in plan.stages if stage.is_done]
    rows.append("")
    if done:
        rows.append(
            f"* done by this plan and kept: a run with the same config and output has {', '.join(done)} behind it and "
            f"takes {_span(plan.seconds(plan.measured_on, remaining=True))}."
        )
    sizes = ", ".join(f"{name} {_size(num_bytes)}" for name, num_bytes in plan.disk_bytes.items())
    rows += [
        f"Disk: {_size(sum(plan.disk_bytes.values()))} ({sizes}).",
        f"Checkpoints: {plan.num_checkpoints} of at most {_size(plan.checkpoint_bytes)} each.",
        "Phases are counted to the end of their budget; one that stops gaining ends earlier.",
    ]
    if price_per_hour is not None:
        rows.append(f"Cost: each device with its share of the machine at {price_per_hour:g} an hour.")
    return "\n".join(rows)


def _row(stage: StageEstimate, plan: Plan, columns: list[int]) -> str:
    seconds = [stage.seconds(num, measured_on=plan.measured_on, link_bytes_s=plan.link_bytes_s) for num in columns]
    here = seconds[columns.index(plan.measured_on)]
    images = str(stage.num_images) if stage.num_images else ""
    rate = f"{stage.num_images / here:.0f}" if stage.num_images and here else ""
    memory = _size(stage.memory_bytes) if stage.memory_bytes else ""
    name = f"{stage.name}{' *' if stage.is_done else ''}"
    return f"{name:<12}{images:>10}{rate:>10}{memory:>10}" + "".join(f"{one:>10.1f}" for one in seconds)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"

"""What a sweep has cost: the time that its servers held GPUs, and the price of it. Pure."""

from collections.abc import Iterator, Sequence

from pipeline.core.record import Record

FREE = ("preflight", "model", "slots", "record", "tracker")  # steps in which a trial holds no GPU


def facts(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """GPU-hours, or hours of the machine where there is no GPU; US dollars where the hardware has a price."""
    own = [record for record in records if record.same_as is None and record.cached_from is None]
    hours = [held_h(record) * max(1, record.config.gpus) for record in own]
    unit = "GPU-hours" if any(record.config.gpus for record in own) else "hours of the machine"
    yield unit, f"{sum(hours):.2f}"
    prices = [record.config.hardware.usd_per_gpu_hour for record in own]
    if own and None not in prices:
        spent = sum(hour * (price or 0) for hour, price in zip(hours, prices, strict=True))
        yield "US dollars", f"{spent:.2f}"


def held_h(record: Record) -> float:
    """The hours in which the trial had its GPUs, or the machine."""
    return sum(step.seconds for step in record.steps if step.step not in FREE) / 3600

"""What was measured, in the words of a title: the model and its engine. Pure."""

from pipeline.core.record import Record


def model(record: Record) -> str:
    """The model's name; of a model that a server has already, what that server calls it."""
    called = record.deployment.get("served_name") if record.config.backend.is_endpoint else None
    return called or record.config.model.name


def engine(record: Record) -> str:
    """Name and version, by its own word where it says; of a server that was there already, perhaps no name."""
    runtime = record.config.runtime
    if not runtime.command:
        return "a server that was there already" if record.deployment else "a server that did not answer"
    return f"{runtime.name} {record.engine_version or runtime.version or ''}".rstrip()

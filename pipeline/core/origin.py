"""What a trial's command took from outside of its overrides, so that it can be given again from anywhere."""

from collections.abc import Mapping

from pydantic import Field

from pipeline.core.values import value


@value
class Origin:
    """Places as they were when the trial ran: nothing reads a record by them."""

    searchpath: tuple[str, ...] = ()  # of options beside ours, as Hydra spells them, e.g. file:///home/me/conf
    variables: Mapping[str, str | None] = Field(default_factory=dict)  # that the configuration read; None: a secret
    folder: str | None = None  # where relative paths of the command begin; None: it has none
    program: str | None = None  # the interpreter that ran it

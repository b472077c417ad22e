"""Keeps a server after its trial, because the next trial of this process may need the same one with another load.

There is at most one. Its lease, keeper and slots stay those of the trial that deployed it; the record of the last trial
that used it is told of its teardown. A repeat neither takes nor leaves one: it is there to measure anew.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from pipeline import backends
from pipeline.backends import Deployment
from pipeline.core import files
from pipeline.core.files import RunDir
from pipeline.core.plan import Plan, Slots
from pipeline.core.record import Record
from pipeline.core.values import load
from pipeline.trial.story import Story


@dataclass
class Tenant:
    """Whose server it is at the moment: the trial that is told of its teardown."""

    story: Story


@dataclass
class Kept:
    """A running server, who used it last, and the scopes that it is in."""

    tenant: Tenant
    deployment: Deployment
    scopes: ExitStack


_kept: list[Kept] = []


def is_fit(story: Story) -> bool:
    """Whether the next trial may have the server: this one was no repeat, and nothing went wrong in it."""
    return story.place.repeat_of is None and all(level.status != "failed" for level in story.levels)


def keep(tenant: Tenant, deployment: Deployment, scopes: ExitStack) -> None:
    """Leave the server of a trial that went well to the next one."""
    _kept.append(Kept(tenant, deployment, scopes))


def take(story: Story, wanted: Plan, scopes: ExitStack) -> tuple[Tenant, Deployment] | None:
    """The kept server, now the trial's and in its scopes, if it is the wanted one and lives; else it is torn down."""
    if not _kept:
        return None
    last = _kept[0]
    before, was = last.tenant.story, last.tenant.story.plan
    is_wanted = was is not None and story.place.repeat_of is None and bare(was) == bare(wanted)
    if was is None or not is_wanted or backends.load(wanted.backend).death(last.deployment) is not None:
        close()
        return None
    _kept.clear()
    scopes.push(last.scopes.pop_all())
    last.tenant.story = story
    story.shares = before.place.number if before.shares is None else before.shares
    story.plan, story.deployment = replace(wanted, slots=was.slots, env=was.env), last.deployment
    first = RunDir(last.deployment.lease.run_dir)
    RunDir(wanted.run_dir).server_log.symlink_to(Path("..") / first.path.name / first.server_log.name)
    return last.tenant, last.deployment


def close() -> None:
    """Tear the kept server down, if there is one; the record of its last trial tells how that ended."""
    while _kept:
        last = _kept.pop()
        last.scopes.close()
        story = last.tenant.story
        path = story.place.run_dir.record
        try:
            done = replace(load(Record, path), teardown=story.teardown, steps=tuple(story.timings.done))
            files.save(path, done)
        except (OSError, ValidationError):
            continue


def bare(plan: Plan) -> Plan:
    """What of a plan reaches the server: not which trial it is, its folder, its load or the GPUs that it got."""
    here = str(plan.run_dir)
    argv = tuple(word.replace(here, "{run_dir}") for word in plan.argv)
    env = {name: text for name, text in plan.env.items() if not name.endswith("_VISIBLE_DEVICES")}
    env.pop("CUDA_DEVICE_ORDER", None)
    same = replace(plan, argv=argv, env=env, slots=Slots())
    return replace(same, trial_id="", number=0, run_dir=Path(), levels=(), warmup_requests=0)

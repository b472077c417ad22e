"""Asks an engine for its settings and version: before measuring, and again after it for what it did not say."""

from pipeline.backends import Deployment
from pipeline.config.trial_limit import SETTINGS_S
from pipeline.core.files import SweepDir
from pipeline.engines import told
from pipeline.trial import already_there, twin
from pipeline.trial.story import Story


def before_measuring(story: Story, deployment: Deployment) -> None:
    """The first answer may take long (told.PATIENCE_S): settings that are lost cost a twin and every rewrite."""
    with story.step("settings", timeout_s=SETTINGS_S):
        _ask(story, deployment.url)
        place = story.place
        already_there.look(story, twin.measured(SweepDir(place.run_dir.path.parent)) if place.is_of_sweep else ())


def after_measuring(story: Story, deployment: Deployment) -> None:
    """Once more, where it did not answer before; within the step of the benchmark, which has no deadline."""
    unsaid = story.unsaid or (story.engine_version is None and story.plan and story.plan.tells.version_path)
    if unsaid:
        _ask(story, deployment.url)
    already_there.look_again(story)


def _ask(story: Story, url: str) -> None:
    if story.plan is None:
        return
    path, tells = story.plan.settings_path, story.plan.tells
    if path and story.settings is None:
        seen = told.settings(url, path)
        story.settings, story.unsaid = seen.settings, seen.why or None
    if story.engine_version is None:
        story.engine_version = told.version(url, tells)

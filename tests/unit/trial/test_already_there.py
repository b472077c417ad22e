"""A trial of a server that is there already: what the record says of it, and of another one that takes its place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import FakeProgress, make_deployment, make_plan
from fakes.openai_server import OpenAI, serving
from pipeline.backends.endpoint import NOTHING
from pipeline.core.files import RunDir, save
from pipeline.trial import already_there, asking
from pipeline.trial.story import Place, Story, to_record
from support.records import CONFIG, make_config, make_record

TARGET = "pipeline.backends.endpoint.Endpoint"


@pytest.fixture
def server() -> Iterator[OpenAI]:
    with serving() as made:
        made.told = {"max_model_len": 1024}
        yield made


def story_of(folder: Path, url: str, number: int = 0) -> Story:
    run_dir = RunDir(folder / str(number))
    run_dir.path.mkdir(parents=True)
    backend = {**CONFIG["backend"], "name": "endpoint", "target": TARGET, "url": url}
    place = Place(sweep_id="sweep", number=number, overrides=(), run_dir=run_dir)
    made = Story(place, make_config(backend=backend), FakeProgress())
    made.plan = make_plan(run_dir.path, served_name="tiny", settings_path=None)
    return made


def measured(story: Story, server: OpenAI) -> tuple[str, ...]:
    """The notes of a trial that measures what is there, and leaves its record."""
    story.deployment = make_deployment(story.place.run_dir.path, server.url)
    asking.before_measuring(story, story.deployment)
    asking.after_measuring(story, story.deployment)
    made = to_record(story)
    save(story.place.run_dir.record, make_record(number=made.number, config=made.config, deployment=made.deployment))
    return made.notes


def test_the_record_says_what_answered(tmp_path: Path, server: OpenAI) -> None:
    story = story_of(tmp_path, server.url)
    assert measured(story, server) == (NOTHING,)
    assert to_record(story).deployment["server"] == "tiny (max_model_len=1024, owned_by=me)"


def test_the_same_server_is_no_news(tmp_path: Path, server: OpenAI) -> None:
    measured(story_of(tmp_path, server.url, 0), server)
    server.names = [*server.names, "another"]
    assert measured(story_of(tmp_path, server.url, 1), server) == (NOTHING,)


def test_another_server_than_in_an_earlier_trial_is_told(tmp_path: Path, server: OpenAI) -> None:
    measured(story_of(tmp_path, server.url, 0), server)
    server.told = {"max_model_len": 2048}
    for number in (1, 2):
        _, told = measured(story_of(tmp_path, server.url, number), server)
        assert told == (
            f"warned: another server answers at {server.url}: trial 0 of this sweep measured tiny "
            "(max_model_len=1024, owned_by=me), this trial tiny (max_model_len=2048, owned_by=me)"
        )


def test_another_url_is_another_server(tmp_path: Path, server: OpenAI) -> None:
    measured(story_of(tmp_path, server.url, 0), server)
    server.told = {"max_model_len": 2048}
    elsewhere = server.url.replace("localhost", "127.0.0.1")
    assert measured(story_of(tmp_path, elsewhere, 1), server) == (NOTHING,)


@pytest.mark.parametrize(
    ("names", "told"), [(("tiny",), "tiny (max_model_len=2048, owned_by=me)"), (("big",), "a server without tiny")]
)
def test_another_server_in_the_middle_of_a_trial_is_told(
    tmp_path: Path, server: OpenAI, names: tuple[str, ...], told: str
) -> None:
    story = story_of(tmp_path, server.url)
    story.deployment = make_deployment(story.place.run_dir.path, server.url)
    asking.before_measuring(story, story.deployment)
    server.names, server.told = names, {"max_model_len": 2048}
    asking.after_measuring(story, story.deployment)
    assert to_record(story).notes[1].endswith(f"it was tiny (max_model_len=1024, owned_by=me), it is {told}")


def test_a_url_where_nobody_answers_was_no_server(tmp_path: Path) -> None:
    story = story_of(tmp_path, "http://localhost:1")
    assert [*already_there.notes(story)] == []
    already_there.look(story, ())
    already_there.look_again(story)
    assert (story.server, story.swapped) == (None, None)


def test_what_tells_models_apart_is_what_stays_the_same() -> None:
    """vLLM says when it was asked, and gives permissions ids of chance; llama.cpp tells sizes in `meta`."""
    listed: list[dict[str, Any]] = [
        {"id": "a", "created": 5, "permission": [{"id": "x"}], "root": "/m/a", "parent": None, "max_model_len": 64},
        {"id": "b", "created": 6, "meta": {"n_params": 268, "size": 3.5, "n_ctx_train": 32}},
        {"id": "c"},
    ]
    assert already_there.spelled(listed, "a") == "a (root=/m/a, max_model_len=64)"
    assert already_there.spelled(listed, "b") == "b (n_ctx_train=32, n_params=268)"
    assert already_there.spelled(listed, "c") == "c"

"""`dry_run=true`: what each trial of a command would be, and what would come of it. Starts and writes nothing.

For trials in a cluster the output is YAML, with all that is told as comments: `kubectl apply --dry-run=server -f -`
takes it as it is.
"""

import math
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from pipeline.backends import container
from pipeline.backends.kube import manifests, rendering
from pipeline.config import expand, planning, trial_limit
from pipeline.config.expand import Trial
from pipeline.core import capacity, loads, plan
from pipeline.core.findings import Verdict
from pipeline.core.plan import Assets, Plan
from pipeline.core.schema import Config
from pipeline.core.values import value
from pipeline.engines import purpose, server_command
from pipeline.models import assets, needs, ome_model
from pipeline.models.estimate import Estimate, estimate
from pipeline.prompts import findings
from pipeline.trial import here, preflight
from pipeline.trial.here import Here

Look = Callable[[Config], Here]
PORT, RUN_DIR = "PORT", Path("outputs/SWEEP")
MEANT = {
    "ok": "would start as asked",
    "warned": "would start",
    "rewritten": "would start as something else",
    "refused": "would not start: never deployed",
}


@value
class Shown:
    """A trial and what is foreseen of it."""

    trial: Trial
    verdict: Verdict
    twin: int | None  # the trial that it is the same as, once the engine has rewritten both
    time: Estimate | None  # None: it is not deployed
    here: Here
    wrong: tuple[str, ...] = ()  # what keeps it from running here, whatever its combination

    @property
    def word(self) -> str:
        """The verdict; `shared` for a twin."""
        return "shared" if self.twin is not None else self.verdict.word

    @property
    def meaning(self) -> str:
        """Of the verdict."""
        return MEANT[self.verdict.word] + ("" if self.here.is_known else " if its hardware were known")


def show(overrides: Sequence[str], *, is_sweep: bool, is_elsewhere: bool = False, learned: Sequence[str] = ()) -> bool:
    """Print every trial as it is worked out, then the sum; whether any of them would start.

    `is_elsewhere`: trials run on other machines, so that this one does not tell what hardware=auto is. `learned`: what
    a search learns from, in sentences.
    """
    words: Counter[str] = Counter()
    helpless = 0  # trials that cannot run here
    seconds: Counter[str] = Counter()
    printed: set[str] = set()  # objects that trials share
    mark = ""
    look = here.elsewhere if is_elsewhere else here.look
    wrong = _nothing if is_elsewhere else _wrong_here()
    for shown in _foreseen(expand.trials(overrides, is_sweep=is_sweep), look, wrong):
        words[shown.word] += 1
        helpless += bool(shown.wrong)
        if shown.time:
            seconds["unknown"] += shown.time.total_s is None
            seconds["about"] += math.ceil(shown.time.total_s or 0)
            seconds["at most"] += math.ceil(shown.time.at_most_s)
        is_yaml = shown.trial.config.backend.kubernetes is not None
        mark = "# " if is_yaml else mark
        sys.stdout.write("".join(f"{'# ' if is_yaml else ''}{line}\n" for line in _lines(shown)))
        if is_yaml and shown.time:
            sys.stdout.write(_manifests(shown.trial.config, shown.trial.number, printed))
    if is_sweep and expand.is_drawn(overrides):
        told = "The sweeper searches: these are random draws from its space, not what it will ask for."
        sys.stdout.write(f"\n{mark}{told}\n")
    sys.stdout.write("".join(f"{mark}{line}\n" for line in learned))
    sys.stdout.write(f"\n{mark}{_sum(words, seconds, helpless)}\n")
    return words.total() > words["refused"]


def _nothing(_trial: Trial) -> tuple[str, ...]:
    """Of trials on other machines: their first one tells."""
    return ()


def _wrong_here() -> Callable[[Trial], tuple[str, ...]]:
    """What keeps a trial from running here; asked once for all that need the same."""
    known: dict[tuple[tuple[str, ...], int], tuple[str, ...]] = {}

    def wrong(trial: Trial) -> tuple[str, ...]:
        kind = (trial.others, trial.config.parallelism)
        if kind not in known:
            known[kind] = tuple(str(error).removesuffix(".") for error in preflight.wrong(trial.config))
        return known[kind]

    return wrong


def _foreseen(trials: Iterable[Trial], look: Look, wrong: Callable[[Trial], tuple[str, ...]]) -> Iterator[Shown]:
    first: dict[int, int] = {}  # what is deployed -> the trial that comes first with it
    for asked in trials:
        seen = look(asked.config)
        trial = replace(asked, config=seen.config)
        ruled = preflight.foresee(trial.config)
        verdict = replace(ruled, findings=(*seen.findings, *ruled.findings))
        twin = None
        if verdict.word != "refused":
            twin = first.setdefault(hash((trial.others, *map(str, verdict.knobs.values()))), trial.number)
        is_twin = twin not in (None, trial.number)
        is_run = verdict.word != "refused" and not is_twin
        time = _estimate(trial.config) if is_run else None
        yield Shown(
            trial=trial,
            verdict=verdict,
            twin=twin if is_twin else None,
            time=time,
            here=seen,
            wrong=wrong(asked),
        )


def _estimate(config: Config) -> Estimate:
    """The trial's own limit may be the shorter one."""
    seen = estimate(config)
    return replace(seen, at_most_s=min(seen.at_most_s, trial_limit.of(config)))


def _lines(shown: Shown) -> Iterator[str]:
    trial, config = shown.trial, shown.trial.config
    asked = [word for word in trial.overrides if not word.startswith("dry_run=")]
    yield f"trial {trial.number}  {' '.join(asked) or 'defaults'}"
    yield f"  verdict  {shown.verdict.word}: {shown.meaning}"
    for finding in shown.verdict.findings:
        yield f"           {finding.verdict}: {finding.reason} [{finding.rule}; {finding.source}]"
    for cause in shown.wrong:
        yield f"           cannot run here: {cause}"
    if shown.twin is not None:
        yield f"           the same as trial {shown.twin}: not deployed again, its result counts for both"
    if shown.here.hardware:
        yield f"  hardware {shown.here.hardware}"
    yield f"  server   {_endpoint(config) if config.backend.is_endpoint else _server(config, trial.number)}"
    if config.backend.container:
        yield f"  docker   {_docker(config, trial.number)}"
    if config.backend.kubernetes:
        yield f"  cluster  {_cluster(config, trial.number)}"
    elif not config.backend.is_endpoint and assets.has_to_come(config.model):
        yield f"           {_coming(config)}"
    if needed := needs.told(config, shown.verdict.knobs):
        yield f"  memory   {needed}"
    yield f"  levels   {_levels(config)}"
    yield from (f"  prompts  {told}" for told in findings.told(config.traffic))
    yield from _bench(config)
    if shown.time:
        yield f"  time     {_time(shown.time)}"
        yield f"  limit    {_limit(config)}"


def _bench(config: Config) -> Iterator[str]:
    if config.bench.workers != "auto":
        yield f"  bench    users are shared out to {config.bench.workers} processes"
    if config.bench.location == "cluster":
        yield f"  bench    beside the engine, in a Job of {config.bench.cluster.image} for each level"


def _server(config: Config, number: int) -> str:
    argv = server_command.argv(config, _files(config), RUN_DIR / str(number))
    env = [f"{name}={shlex.quote(text)}" for name, text in purpose.environment(config).items()]
    port = str(config.backend.kubernetes.port) if config.backend.kubernetes else PORT
    return " ".join([*env, shlex.join(part.replace("{port}", port) for part in argv)])


def _endpoint(config: Config) -> str:
    called = f", which calls the model {config.backend.served_name}" if config.backend.served_name else ""
    return f"{config.backend.url}{called}: it is there already, so nothing is deployed"


def _files(config: Config) -> Assets:
    """Where the engine finds the model, as it is shown."""
    if config.backend.kubernetes:
        return Assets(model_path=ome_model.inside(config), tokenizer_dir=RUN_DIR)
    return assets.expected(config.model)


def _planned(config: Config, number: int, files: Assets) -> Plan:
    return planning.make(config, files, sweep_id="SWEEP", number=number, run_dir=RUN_DIR)


def _docker(config: Config, number: int) -> str:
    made = _planned(config, number, assets.expected(config.model, by_path=True))
    made = plan.with_slots(made, plan.Slots(gpu_ids=config.hardware.gpu_ids[: config.gpus]))
    argv = [part.replace("{port}", PORT) for part in made.argv]
    return container.run_line(made, f"SWEEP-{number}", argv, PORT)


def _cluster(config: Config, number: int) -> str:
    """What is made under which name, and which Secret is not shown."""
    told = ome_model.of(config)
    secrets = ", ".join(config.runtime.secret_env)
    kept = f"; {secrets} in a Secret of its name, where set" if secrets else ""
    name = manifests.name(_label(number))
    return f"InferenceService {name} of ClusterBaseModel {told.name} by ClusterServingRuntime {told.runtime}{kept}"


def _manifests(config: Config, number: int, printed: set[str]) -> str:
    """The trial's objects as YAML; those that trials share only the first time. The Job owns the rest once it is."""
    made = _planned(config, number, _files(config))
    shared = [rendering.to_yaml([one]) for one in (manifests.base_model(made), manifests.serving_runtime(made))]
    new = [text for text in shared if text not in printed]
    printed.update(new)
    label = _label(number)
    own = [manifests.owner_job(made, label, "{}"), manifests.inference_service(made, label, owner=None)]
    return "".join([*new, rendering.to_yaml(own)])


def _label(number: int) -> str:
    return f"sweep-{number}"


def _coming(config: Config) -> str:
    model = config.model
    size = f" ({model.arch.weights_gib:.1f} GiB)" if model.arch and model.arch.weights_gib else ""
    return f"{model.repo} is downloaded first{size}; the path of its folder stands for its name then"


def _levels(config: Config) -> str:
    traffic = config.traffic
    if capacity.is_wanted(traffic):
        without = "that the server keeps up with" if traffic.is_open else "with the most throughput / latency"
        what = "inside the SLO" if config.slo.is_set else without
        asked = f"{traffic.precision:.0%}, in at most {capacity.most_probes(traffic)} levels"
        start, most = capacity.start(traffic, traffic.scenarios[0], None), traffic.most_demand
        ends = (f"{start:g}", f"{most:g} requests/s") if traffic.is_open else (f"x{start:g}", f"x{most:g}")
        return (
            f"{'; '.join(traffic.scenarios)}: the {'highest rate' if traffic.is_open else 'most users'} {what}, from "
            f"{ends[0]} on, of at most {ends[1]}, within {asked} each"
        )
    made = list(planning.levels(config))
    ladders = []
    for scenario, group in groupby(made, key=lambda level: level.scenario):
        rungs = list(group)
        users = ", ".join(map(loads.words, rungs))
        requests = " + ".join(str(level.max_requests) for level in rungs)
        ladders.append(f"{scenario} {users} ({requests} requests)")
    return "; ".join(ladders)


def _time(time: Estimate) -> str:
    most = f"at most {clock(time.at_most_s)}"
    if time.total_s is None or time.load_s is None:
        return f"{most}; no estimate: the numbers of the model or the hardware are not known"
    return f"about {clock(time.total_s)} ({clock(time.load_s)} until it is ready), {most}"


def _limit(config: Config) -> str:
    own = config.timeouts.trial_s
    whose = "" if own else ", the sum of the limits of its steps and repeats"
    return f"{clock(trial_limit.of(config))} (timeouts.trial_s{whose}); downloads and waiting for GPUs do not count"


def _sum(words: Counter[str], seconds: Counter[str], helpless: int) -> str:
    counts = ", ".join(f"{words[word]} {word}" for word in (*MEANT, "shared") if words[word])
    told = [f"{words.total()} trial{'s' * (words.total() != 1)}: {counts}."]
    if seconds["at most"]:
        about = "" if seconds["unknown"] else f"about {clock(seconds['about'])}, "
        told.append(f"One after the other: {about}at most {clock(seconds['at most'])}.")
    if helpless:
        who = "None can" if helpless == words.total() else f"{helpless} cannot"
        told.append(f"{who} run here as things are: servetune doctor says what to do.")
    return " ".join([*told, "Nothing was started or written."])


def clock(seconds: float) -> str:
    """`45 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

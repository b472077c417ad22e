"""The values that a configuration is made of: one frozen class per group of `conf/`, and the trial's Config."""

import math
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from packaging.specifiers import SpecifierSet
from pydantic import Field

from pipeline.core.advice import Limit
from pipeline.core.schema_backends import Container, Kubernetes
from pipeline.core.schema_engine import Extras, Health, Memory, Tells
from pipeline.core.schema_hardware import Hardware, OnCpu
from pipeline.core.schema_model import Architecture
from pipeline.core.schema_quality import OFF, Quality, Reads
from pipeline.core.schema_traffic import Traffic
from pipeline.core.values import Scalar, value

CHANGING = ("model", "runtime.", "backend.url")  # keys beside knobs: another engine, model or server


@cache
def is_of(versions: str, version: str | None) -> bool:
    """Whether a version is in a PEP 440 range. True for an empty range and for an unknown version."""
    return not versions or version is None or SpecifierSet(versions).contains(version, prereleases=True)


@value
class Knob:
    """One tunable engine parameter: which values it takes, and which flag, key of a flag's JSON or variable sets it."""

    # list: several words, as JSON; json: keys and values, as JSON text; env: one word, for an environment variable
    kind: Literal["int", "float", "bool", "choice", "text", "list", "json", "env"]
    flag: str = ""
    key: str | None = None  # its place in the JSON that `flag` takes, e.g. cudagraph_mode; its name ends with it
    env: str | None = None  # the variable, of kind env
    help: str
    unit: str | None = None
    false_flag: str | None = None  # bool knobs: the flag for false; without one, false leaves `flag` out
    choices: tuple[str, ...] = ()  # of all versions together; the catalogue says which ones a version supports
    minimum: float | None = None
    maximum: float | None = None
    versions: str = ""  # engine versions that support it, as a PEP 440 range (">=0.5.20"); empty: all
    flags: Mapping[str, str] = Field(default_factory=dict)  # other spellings by version: {"<0.5.20": "--old"}
    changes_answers: bool = False  # other kernels, types or weights: the same question may get another answer
    setting: str | None = None  # where the engine reports its value: a dotted path into the settings_path response

    def spelled(self, version: str | None) -> str:
        """The flag as this version of the engine spells it; empty for a variable."""
        return next((flag for range_, flag in self.flags.items() if version and is_of(range_, version)), self.flag)

    @property
    def has_flag(self) -> bool:
        """Whether a flag of its own sets it: neither a variable nor a key of another flag's JSON."""
        return self.env is None and self.key is None

    def told(self, version: str | None) -> str:
        """What sets it, for people."""
        return self.env or " ".join(filter(None, (self.spelled(version), self.key)))


@value
class Runtime:
    """A serving engine.

    `command` is filled in with {python} {model} {served_name} {host} {port} {run_dir}.
    """

    name: str
    version: str | None = None  # of the engine; decides its flags (pipeline/engines/catalogues/<name>/<version>.json)
    python: Path | None = None  # the interpreter of the engine's virtual environment; None: this one
    command: tuple[str, ...]  # empty: it cannot be started, only measured where it is (backend=endpoint)
    image: str | None = None  # for backends with containers
    image_gib: float | None = Field(default=None, gt=0)  # approximate unpacked size; None: free space is not checked
    extra_args: tuple[str, ...] = ()
    request_name: str = "{served_name}"  # the model's name in requests; "{model}": the path, where the engine insists
    needs_gguf: bool = False  # serves GGUF files only
    needs_modules: tuple[str, ...] = ()  # modules the command imports, checked first; `version` is of the first one
    env: Mapping[str, str] = Field(default_factory=dict)
    measuring: Extras = Extras()  # only while measuring: what is handed over in best/ runs without them
    development: Extras = Extras()  # as `measuring`, and only on loopback: they open paths that no API key guards
    secret_env: Mapping[str, str] = Field(default_factory=dict)  # engine's variable: ours; read at deploy time
    knobs: Mapping[str, Knob]
    rules: tuple[str, ...] = ()  # names of files in pipeline/engines/rules/, or paths of your own
    gpu_knobs: tuple[str, ...] = ()  # tensor, pipeline, data parallelism: a trial takes their product of GPUs
    gpu_sharing: Mapping[str, str] = Field(default_factory=dict)  # switch: the gpu_knob that then adds no GPUs
    on_cpu: OnCpu = OnCpu()
    on_gpu: bool = True  # False: as shipped, it computes on the CPU whatever is there, and hardware=auto is the CPU
    memory: Memory | None = None  # None: no memory check
    relief: Mapping[Limit, Mapping[str, str]] = Field(default_factory=dict)  # limit: knobs that can move it, and how
    startup_s: float = Field(default=0, ge=0)  # typical start without reading weights, for dry_run's time estimate
    api_backend: Literal["openai", "vllm", "sglang"]  # genai-bench's --api-backend; vllm and sglang send ignore_eos
    server_engine: str  # genai-bench's --server-engine
    health: Health
    settings_path: str | None = None  # HTTP path where the engine reports its resolved settings
    tells: Tells = Tells()
    reads: Reads = "none"  # how it tells what it expects at each place of a given text
    cache_reset: Literal["none", "llamacpp_slots", "sglang_flush", "vllm_reset"] = "none"
    stop_grace_s: float = Field(default=10, ge=0)  # between SIGTERM and SIGKILL


@value
class Model:
    """The model to serve: a `path` (GGUF file or Hugging Face folder), a Python `package` with the file or a `repo`."""

    name: str
    path: Path | None = None
    package: str | None = None
    repo: str | None = None  # on the Hugging Face hub
    revision: str | None = None  # commit, tag or branch of the repo
    tokenizer: str | None = None  # another folder or repo that has the tokenizer; None: the model's own
    served_name: str
    license: str | None = None
    gated: bool = False  # true: the hub requires a token of a user who has accepted the licence
    arch: Architecture | None = None  # None: read from the folder's config.json, if it has one
    unread: str | None = None  # why `arch` could not be read
    context_tokens: int | None = Field(default=None, gt=0)  # None: as arch or the GGUF file says

    @property
    def longest_context(self) -> int | None:
        """Tokens of the context that the model was made for; None where nothing tells."""
        return self.context_tokens or (self.arch.context_tokens if self.arch else None)


@value
class Backend:
    """Where the server lives. `target` names a class with the methods of backends.Backend."""

    name: str
    target: str = Field(pattern=r"^pipeline\.backends\.\w+\.\w+$")
    host: str = "127.0.0.1"
    keeper: bool = True
    container: Container | None = None  # the engine runs in a container of this machine
    kubernetes: Kubernetes | None = None  # the engine runs in a cluster
    deploy_s: float | None = Field(default=None, gt=0)  # replaces timeouts.deploy_s
    url: str | None = None  # of a server that is there already, up to its /v1; None: the trial starts one
    served_name: str | None = None  # what that server calls the model; None: the one that it lists
    api_key_env: str | None = None  # the variable with its key; None: SERVETUNE_API_KEY, if it is set
    ca_file: Path | None = None  # PEM certificates to trust instead of the usual ones

    @property
    def is_endpoint(self) -> bool:
        """Whether the server is there already: nothing is deployed, and all that is known of it is its URL."""
        return self.url is not None

    @property
    def is_process(self) -> bool:
        """Whether the engine runs as a process on this machine."""
        return self.container is None and self.kubernetes is None and not self.is_endpoint

    @property
    def is_elsewhere(self) -> bool:
        """Whether this machine's GPUs, memory and load say nothing of the engine's."""
        return self.kubernetes is not None or self.is_endpoint


@value
class Slo:
    """Limits per request (seconds), the share of requests that must meet them, and limits on a level's metrics."""

    name: str
    ttft_s: float | None = Field(default=None, gt=0)
    tpot_s: float | None = Field(default=None, gt=0)
    e2e_s: float | None = Field(default=None, gt=0)
    attainment: float = Field(gt=0, le=1)
    max_error_rate: float = Field(ge=0, le=1)  # a level with more failed requests is unusable, also without an SLO
    limits: Mapping[str, float] = Field(default_factory=dict)  # upper limits, e.g. {ttft_p95_s: 2.0}

    @property
    def is_set(self) -> bool:
        """Whether any limit is given."""
        return any((self.ttft_s, self.tpot_s, self.e2e_s, self.limits))


@value
class Tracker:
    """Where records are published after teardown."""

    name: str
    target: str = Field(pattern=r"^pipeline\.trackers\.\w+\.\w+$")
    project: str | None = None
    entity: str | None = None
    mode: Literal["auto", "offline", "online"] = "auto"
    timeout_s: float = Field(gt=0)
    needs_modules: tuple[str, ...] = ()  # modules that it imports and that servetune comes without


@value
class ClusterBench:
    """The genai-bench pod that measures in the engine's cluster."""

    image: str | None = None  # must contain genai-bench 0.0.5, sh, tar and base64
    command: tuple[str, ...] = Field(default=("genai-bench",), min_length=1)
    tokenizer: str | None = None  # a folder in the image, or a repository; None: the model's own, mounted read-only
    cpu: str | None = None  # CPU request of the pod, e.g. "4"
    memory: str | None = None  # memory request of the pod, e.g. "8Gi"


@value
class Bench:
    """How genai-bench is called."""

    location: Literal["here", "cluster"] = "here"
    runner: Literal["resident", "cli", "aiperf"]
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"  # processes that share a level's users
    program: Path | None = None  # of runner=cli and runner=aiperf, outside this environment
    cluster: ClusterBench = ClusterBench()
    start_timeout_s: float = Field(gt=0)
    level_grace_s: float = Field(gt=0)  # added to traffic.max_time_per_level_s, for starting and writing results
    crowded: Literal["repeat", "note", "ignore"] = "repeat"  # a level during which other processes took the cores

    @property
    def hides_key(self) -> bool:
        """Whether the server's API key stays off command lines and disks."""
        return self.location == "here" and self.runner == "resident"


@value
class Timeouts:
    """Deadlines in seconds of a trial, and of the steps that have no deadline of their own."""

    trial_s: float | None = Field(default=None, gt=0)  # None: the sum of what the steps may take
    preflight_s: float = Field(gt=0)
    download_s: float = Field(gt=0)
    slots_s: float = Field(gt=0)
    deploy_s: float = Field(gt=0)
    warmup_s: float = Field(gt=0)
    teardown_s: float = Field(gt=0)


@value
class Config:
    """The whole configuration of one trial. `knobs` has every knob of the runtime; None leaves the flag out."""

    runtime: Runtime
    model: Model
    backend: Backend
    traffic: Traffic
    hardware: Hardware
    slo: Slo
    tracker: Tracker
    bench: Bench
    timeouts: Timeouts
    quality: Quality = OFF
    objective: tuple[str, ...] = Field(min_length=1)
    knobs: Mapping[str, Scalar | None]

    @property
    def gpus(self) -> int:
        """GPUs that the trial takes; 0 on a CPU."""
        if self.hardware.is_cpu:
            return 0
        is_by_knobs = self.runtime.gpu_knobs and not self.backend.is_endpoint
        return self.parallelism if is_by_knobs else self.hardware.gpu_count

    @property
    def parallelism(self) -> int:
        """The product of the knobs that divide the model over GPUs, whatever the hardware. An unset one counts as 1."""
        runtime = self.runtime
        shared = {name for switch, name in runtime.gpu_sharing.items() if self.knobs.get(switch)}
        return math.prod(int(self.knobs.get(name) or 1) for name in runtime.gpu_knobs if name not in shared)

    def answers_may_change(self, swept: Collection[str]) -> bool:
        """Whether one of the settings that a sweep varies can change what the model answers."""
        knobs = self.runtime.knobs
        names = [name.rpartition(".")[2] for name in swept]
        is_elsewhere = any(name.startswith(CHANGING) for name in swept)
        return is_elsewhere or any(name in knobs and knobs[name].changes_answers for name in names)

    def is_reference(self, swept: Collection[str]) -> bool:
        """Whether every knob that a sweep varies is at the engine's default, whatever others are set to."""
        varied = {name.rpartition(".")[2] for name in swept} & self.knobs.keys()
        return bool(varied) and all(self.knobs[name] is None for name in varied)

    @property
    def is_baseline(self) -> bool:
        """Whether every knob is at the engine's default."""
        return all(setting is None for setting in self.knobs.values())

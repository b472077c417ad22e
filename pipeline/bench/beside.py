"""Prepares a genai-bench call in the engine's cluster, and reads the results from the call's log. Pure."""

import base64
import binascii
import io
import re
import tarfile
from dataclasses import replace
from pathlib import Path

from pipeline.backends import Deployment
from pipeline.backends.kube import manifests
from pipeline.backends.kube.manifests import BenchCall
from pipeline.bench import Beside, Job
from pipeline.bench.command import OFFLINE, argv
from pipeline.core.errors import BenchFailed
from pipeline.core.plan import LevelPlan, Plan
from pipeline.core.schema import Config

BEGIN, END = "=== servetune: results, exit code", "=== servetune: end of results"
# Results are text at the end of the log: no right is needed for that which a trial has not anyway
SCRIPT = f"""
folder=$(mktemp -d) && cd "$folder" || exit 1
"$@"; code=$?
find . -name '*.json' > names && tar -czf results.tgz -T names
printf '\\n%s %s\\n' '{BEGIN}' "$code"
base64 results.tgz
echo '{END}'
cd / && rm -rf "$folder"
"""
_RESULTS = re.compile(rf"^{BEGIN} (?P<code>\d+)\n(?P<data>.*)^{END}$", re.MULTILINE | re.DOTALL)


def placed(job: Job, config: Config, plan: Plan, level: LevelPlan, deployment: Deployment) -> Job:
    """The same level, measured from the engine's own node; the engine is asked at its pod's address.

    Raises:
        BenchFailed: the backend does not say where the engine is.
    """
    box, kubernetes, facts = config.bench.cluster, plan.kubernetes, deployment.facts
    if kubernetes is None or box.image is None or deployment.lease.cluster is None or not facts.get("pod_ip"):
        raise BenchFailed("bench.location=cluster needs backend=ome, bench.cluster.image and an engine in a pod.")
    call = BenchCall(
        number=level.seed - config.traffic.seed,  # one that no other level of the trial has
        node=facts["node"],
        image=box.image,
        script=SCRIPT,
        argv=(*box.command, *argv(config, plan, level, _url(facts["pod_ip"], kubernetes.port), Path("results/level"))),
        env={
            name: text for name, text in OFFLINE.items() if name != "HF_HUB_OFFLINE" or plan.tokenizer_dir.is_absolute()
        },
        requests={name: amount for name, amount in (("cpu", box.cpu), ("memory", box.memory)) if amount},
        deadline_s=config.bench.start_timeout_s + job.timeout_s,
        needs_model=box.tokenizer is None,
    )
    return replace(
        job,
        argv=call.argv,
        beside=Beside(
            cluster=deployment.lease.cluster,
            manifest=manifests.bench_job(plan, job.label, call),
            owner=manifests.name(job.label),
            start_timeout_s=config.bench.start_timeout_s,
        ),
    )


def unpack(log: str, folder: Path) -> tuple[int, str]:
    """Write the files at the end of a log into `folder`; the exit code, and what was printed before them.

    Raises:
        BenchFailed: the log has no results, or not all.
    """
    found = _RESULTS.search(log)
    if found is None:
        lines = log.strip().splitlines()
        raise BenchFailed(f"genai-bench left no results in its log; it ends with: {lines[-1] if lines else 'nothing'}")
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(found["data"])), mode="r:gz") as packed:
            for member in packed.getmembers():
                data = packed.extractfile(member)
                if data is not None:
                    (folder / Path(member.name).name).write_bytes(data.read())
    except (binascii.Error, tarfile.TarError, EOFError, OSError) as error:
        raise BenchFailed(f"The results in genai-bench's log cannot be read: {error}") from error
    return int(found["code"]), log[: found.start()]


def _url(address: str, port: int) -> str:
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"

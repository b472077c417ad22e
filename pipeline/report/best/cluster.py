"""The winner as OME manifests for kubectl apply: no lease, no dead man's switch, stable names. Pure."""

from pathlib import Path
from typing import Any

from pipeline.backends.kube import manifests, rendering
from pipeline.config import planning
from pipeline.core.plan import Assets
from pipeline.core.record import Record
from pipeline.engines import purpose
from pipeline.models import ome_model
from pipeline.report.best.containers import at


def files(winner: Record) -> dict[str, str]:
    """One file per object.

    Raises:
        ConfigError: OME cannot serve it.
    """
    config = at(purpose.handed_over(winner.config), "ome")
    label = f"best-{config.model.name}".replace("_", "-")
    made = planning.make(
        config,
        Assets(model_path=ome_model.inside(config), tokenizer_dir=Path("/")),
        sweep_id=winner.sweep_id,
        number=winner.number,
        run_dir=Path("/tmp"),  # noqa: S108 - inside of the container
    )
    objects = {
        "1-clusterbasemodel": manifests.base_model(made),
        "2-clusterservingruntime": manifests.serving_runtime(made),
        "3-inferenceservice": _lasting(manifests.inference_service(made, label, owner=None)),
    }
    return {f"ome/{name}.yaml": rendering.to_yaml([one]) for name, one in objects.items()}


def _lasting(item: Any) -> Any:
    """Without the labels by which trials are found and removed."""
    if isinstance(item, dict):
        ours = (manifests.LABEL, manifests.MANAGED_BY[0])
        return {key: _lasting(value) for key, value in item.items() if key not in ours}
    return [_lasting(value) for value in item] if isinstance(item, list) else item

"""Leaves out what genai-bench imports and a level never calls: a third of the time that it takes to start.

Its reports are replaced in driver.py anyway; users of OCI would bring OCI's and OpenAI's own clients.
"""

import sys
from types import ModuleType

REPORTS = {
    "genai_bench.analysis.excel_report": ("create_workbook",),
    "genai_bench.analysis.flexible_plot_report": ("plot_experiment_data_flexible",),
    "genai_bench.analysis.plot_report": ("plot_experiment_data", "plot_single_scenario_inference_speed_vs_throughput"),
}
USERS = {
    "genai_bench.user.oci_cohere_user": ("OCICohereUser", "oci-cohere"),
    "genai_bench.user.oci_cohere_v2_user": ("OCICohereV2User", "oci-cohere-v2"),
    "genai_bench.user.oci_genai_user": ("OCIGenAIUser", "oci-genai"),
    "genai_bench.user.oci_openai_user": ("OCIOpenAIUser", "oci-openai"),
}


def install() -> None:
    """Before genai-bench 0.0.5 is imported: cli/cli.py, cli/report.py and cli/validation.py ask for these names."""
    for name, functions in REPORTS.items():
        _put(name, **dict.fromkeys(functions, _left_out))
    for name, (user, backend) in USERS.items():
        _put(name, **{user: type(user, (), {"BACKEND_NAME": backend})})


def _put(name: str, **names: object) -> None:
    made = ModuleType(name, "Left out by servetune.")
    made.__dict__.update(names)
    sys.modules[name] = made


def _left_out(*_args: object, **_kwargs: object) -> None:
    raise NotImplementedError("servetune leaves genai-bench's reports out")

"""The machine that trials run on: as it is configured, and as its driver or its node shows it."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.core.values import value

AUTO = "auto"
GpuId = Annotated[str, BeforeValidator(str)]  # `[4,5]` on a command line is a list of numbers
Vendor = Literal["nvidia", "amd"]


@value
class Hardware:
    """The host that the server runs on. `gpu_type` is a name from genai-bench's closed list, or null."""

    name: str
    gpu_count: int = Field(ge=0)
    gpu_type: str | None = None
    gpu_ids: tuple[GpuId, ...] = ()  # GPUs that trials may take, by nvidia-smi's index or UUID; empty: any
    take_busy_gpus: bool = False  # true: also GPUs that other programs use
    usd_per_gpu_hour: float | None = Field(default=None, gt=0)  # without a GPU: price of the host
    cores_per_trial: int | None = Field(default=None, gt=0)  # CPU cores reserved for the server; None: all, shared
    gpu_memory_gib: float | None = Field(default=None, gt=0)  # of one GPU
    vendor: Vendor | None = None
    architecture: str | None = None  # turing, ampere, ada, hopper, blackwell, cdna3, cdna4
    compute_capability: float | None = None  # NVIDIA's, e.g. 9.0
    nvlink: bool | None = None  # whether NVLink joins each GPU with each other one; None: unknown, or none of NVIDIA's
    memory_bandwidth_gb_s: float | None = Field(default=None, gt=0)  # of one GPU, from the data sheet
    bf16_tflops: float | None = Field(default=None, gt=0)  # of one GPU, dense, from the data sheet
    node_gpus: int | None = Field(default=None, gt=0)  # the most that one machine has; None: unknown
    seen_as: tuple[str, ...] = ()  # what the driver calls this GPU: by these names hardware=auto finds the option

    @property
    def is_auto(self) -> bool:
        """Whether nobody has looked yet what is there."""
        return self.name == AUTO

    @property
    def is_cpu(self) -> bool:
        """Whether it certainly has no GPU."""
        return self.gpu_count == 0 and not self.is_auto


@value
class OnCpu:
    """What is different about an engine where the hardware has no GPU."""

    build: str | None = None  # in the version of builds for the CPU, and in no other, e.g. cpu for 0.32.0+cpu
    package: str | None = None  # on PyPI, of a build for the CPU
    image: str | None = None
    image_gib: float | None = Field(default=None, gt=0)
    kv_gib: str | None = None  # the variable with the KV cache's GiB; unless set, a quarter of the memory


@value
class Seen:
    """GPUs of one kind, as their driver or their node shows them. None: it does not say."""

    vendor: Vendor
    name: str  # e.g. NVIDIA H100 80GB HBM3, or NVIDIA-H100-80GB-HBM3 as a label of a node
    count: int  # on one machine
    memory_gib: float | None = None  # of one GPU
    compute_capability: float | None = None
    nvlink: bool | None = None  # None also for a single GPU

    def __str__(self) -> str:
        """`8 x NVIDIA H100 80GB HBM3 (79.6 GiB)`."""
        return f"{self.count} x {self.name}" + (f" ({self.memory_gib:.1f} GiB)" if self.memory_gib else "")

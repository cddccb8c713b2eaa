from typing import TypedDict

from torch import Tensor

class Neuron(TypedDict):
    spiking: bool
    inputs: list[str]
    params: list[str]
    states: list[str]
    state_needs: dict[str, str]
    options: list[str]

class BuildInfo(TypedDict):
    torch: str
    compiler: str
    cuda: str
    cuda_architectures: str
    instruction_sets: list[str]

def build_info() -> BuildInfo: ...
def neurons() -> dict[str, Neuron]: ...
def surrogates() -> dict[str, tuple[str, str]]: ...
def instruction_set() -> str: ...
def supported_instruction_sets() -> list[str]: ...
def set_instruction_set(name: str) -> None: ...
def set_stream_from(bytes: int) -> None: ...
def call(*args: object) -> tuple[Tensor, ...] | None: ...

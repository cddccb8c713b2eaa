"""`python -m torch_lif`: what a bug report needs to say about this installation."""

import platform

import torch

from . import _C, __version__


def main() -> None:
    build = _C.build_info()
    rows = {
        "torch_lif": __version__,
        "Python": platform.python_version(),
        "PyTorch": f"{torch.__version__} (built against {build['torch']})",
        "compiler": build["compiler"],
        "platform": platform.platform(),
        "instruction set": f"{_C.instruction_set()} (built: {', '.join(build['instruction_sets'])}; TORCH_LIF_ISA "
        "chooses)",
        "threads": str(torch.get_num_threads()),
        "CUDA kernels": f"CUDA {build['cuda']}, for {build['cuda_architectures']}" if build["cuda"] else "not built",
        "CUDA in PyTorch": str(torch.version.cuda or "none"),
    }
    for k in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(k)
        rows[f"cuda:{k}"] = f"{torch.cuda.get_device_name(k)}, compute capability {major}.{minor}"
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")


if __name__ == "__main__":
    main()

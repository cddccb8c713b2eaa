"""One small forward and backward of every kernel, for compute-sanitizer to watch (tests/on_gpu.sh).

Sizes straddle block and checkpoint borders; strides leave gaps. Run with PYTORCH_NO_CUDA_MEMORY_CACHING=1, so that every
tensor is an allocation of its own and an access beyond it is seen.
"""

import functools
import itertools

import torch
from cases import CASES, SURROGATES, gradients, make


def main() -> None:
    count = 0
    for case, dtype in itertools.product(CASES, (torch.float32, torch.float64, torch.bfloat16, torch.float16)):
        for surrogate in SURROGATES if case.spiking else [None]:
            for steps, neurons in ((37, 67), (16, 5)):
                arguments = make(case, T=steps, B=2, neurons=neurons, dtype=dtype, device="cuda", seed=count)
                options = {"surrogate": surrogate, "record": case.records} if surrogate else {"record": case.records}
                gradients(functools.partial(case.fused, **options), arguments)
                count += 1
    torch.cuda.synchronize()
    print(f"{count} calls")


if __name__ == "__main__":
    main()

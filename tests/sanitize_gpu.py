"""One small forward and backward of every kernel, for compute-sanitizer to watch (tests/on_gpu.sh).

Sizes straddle block and checkpoint borders; strides leave gaps. Run with PYTORCH_NO_CUDA_MEMORY_CACHING=1, so that
every tensor is an allocation of its own and an access beyond it is seen.
"""

import functools

import torch
from cases import CASES, PAIRS, gradients, make

MANY = ((37, 150, 260), (4, 1600, 132))
"""T, B, N for blocks of 128 neurons, and for those that take several short sequences: a stage of the
ring is used more than once."""


def main() -> None:
    """Every pair of neuron and surrogate in float32, every neuron in the other storage types."""
    calls = [(case, surrogate, torch.float32) for case, surrogate in PAIRS]
    first = {case: surrogate for case, surrogate in reversed(PAIRS)}
    calls += [(case, first[case], dtype) for case in CASES for dtype in (torch.float64, torch.bfloat16, torch.float16)]
    count = 0
    for case, surrogate, dtype in calls:
        for steps, neurons, common in ((37, 67, False), (37, 72, True)):
            if case.recurrent:
                steps //= 4  # a launch a step
            arguments = make(
                case, T=steps, B=2, neurons=neurons, dtype=dtype, device="cuda", seed=count, with_inputs=not common
            )
            options = ({} if common else {"record": case.records}) | ({"surrogate": surrogate} if surrogate else {})
            gradients(functools.partial(case.fused, **options), arguments)
            count += 1
    for case in [case for case in CASES if case.name == "lif" and case.synapses < 2 and not case.recurrent]:
        for steps, batch, neurons in ((37, 2, 72), (37, 2, 67), *MANY):  # from the mask, by every kind of kernel
            arguments = make(case, T=steps, B=batch, neurons=neurons, device="cuda", with_inputs=False)
            arguments["x"].requires_grad_()
            case.fused(**arguments).spikes.sum().backward()
            count += 1
    for case in [case for case in CASES if case.synapses < 2 and not case.recurrent]:
        for steps, batch, neurons in MANY:
            arguments = make(case, T=steps, B=batch, neurons=neurons, device="cuda", with_inputs=False)
            gradients(case.fused, arguments)
            count += 1
    for case in [case for case in CASES if not case.recurrent]:  # time last: what is written goes by way of stages
        for batch, neurons in ((2, 67), (150, 260)):
            arguments = make(case, T=37, B=batch, neurons=neurons, device="cuda", with_inputs=False)
            arguments["x"] = arguments["x"].transpose(1, 2).contiguous().transpose(1, 2)
            gradients(functools.partial(case.fused, record=case.records), arguments)
            count += 1
    torch.cuda.synchronize()
    print(f"{count} calls")


if __name__ == "__main__":
    main()

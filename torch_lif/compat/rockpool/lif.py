"""Rockpool's `LIFTorch` (synapses) and `LIFNeuronTorch` (none): Rockpool's parameters and states around
`torch_lif.functional.lif`."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..._call import ORDERS, call, check_input, check_max_spikes, check_surrogate, compute_dtype, fixed, recurrent_input
from ..._check import constant
from ...neurons.base import check_noise
from ...neurons.leak import EXPONENTIAL, RANGES, Leak
from .._broadcast import is_number
from .._capture import hold_first_states
from .._nir import check_export
from .module import TorchModule, unwrap, whole_numbers
from .spikes import MAX_SPIKES, StepPWL, spike_function

Initial = Any
"""A parameter's initial value: a number, a tensor, an array or a list, or one of these in `Constant`; None for the
default."""

MODES = {"taus": "tau", "decays": "decay", "bitshifts": "bitshift"}
"""The view of the leaks (torch_lif.neurons.leak) that is the parameter in each leak_mode."""
VIEWS = {
    "tau_mem": ("tau", "mem"),
    "tau_syn": ("tau", "syn"),
    "alpha": ("decay", "mem"),
    "beta": ("decay", "syn"),
    "dash_mem": ("bitshift", "mem"),
    "dash_syn": ("bitshift", "syn"),
}
STORED = {own: {which: name for name, (view, which) in VIEWS.items() if view == own} for own in MODES.values()}
"""The names of the parameters of membrane and synapses, by the view that is stored."""
ORDER = ORDERS["lif"]
DEFAULTS = {"tau": 20e-3, "decay": 0.5, "bitshift": 1.0}


def _constant(owner: str, name: str, value: Any) -> float:
    """A number, also one of NumPy or one marked constant."""
    number, _ = unwrap(value)
    return float(number) if is_number(number) else constant(owner, name, number)


def kaiming(shape: tuple[int, ...]) -> Tensor:
    """Initial recurrent weights, Rockpool's default."""
    return nn.init.kaiming_uniform_(torch.empty(shape))


class _LIFModule(TorchModule):
    """What `LIFTorch` and `LIFNeuronTorch` have in common: the simulation parameters, the batch, the states, the call
    of the fused loop."""

    n_neurons: int
    tau_mem: Tensor
    bias: Tensor
    threshold: Tensor
    _synapses = 0

    def _set_simulation(
        self, dt: Any, noise_std: Any, spike_generation_fn: Any, learning_window: Any, max_spikes_per_dt: Any
    ) -> None:
        self.dt = dt
        self.noise_std = noise_std
        self._learning_window = 0.5
        self.spike_generation_fn = spike_generation_fn
        self.learning_window = learning_window
        self.max_spikes_per_dt = max_spikes_per_dt
        self._add_simulation_parameters(
            "dt", "noise_std", "spike_generation_fn", "learning_window", "max_spikes_per_dt"
        )

    def _add_leak(self, name: str, value: Initial, shapes: list[tuple[int, ...]], family: str) -> None:
        view, _ = VIEWS[name]
        low, high, open_low, _ = RANGES[view]
        self._add_parameter(name, value, shapes, family, DEFAULTS[view], low, high, open_low)

    def _add_bias(self, value: Initial) -> None:
        self._add_parameter("bias", value, [(self.size_out,), ()], "bias", 0.0)

    def _add_threshold(self, value: Initial) -> None:
        self._add_parameter("threshold", value, [(self.size_out,), ()], "thresholds", 1.0, low=0.0, open_low=True)

    @property
    def dt(self) -> float:
        """Time step in seconds."""
        return self._dt

    @dt.setter
    def dt(self, value: Any) -> None:
        step = _constant(self.class_name, "dt", value)
        if not 0 < step < math.inf:
            raise ValueError(f"{self.class_name}: dt is {value}, expected a time step in seconds, above 0")
        self._dt = step

    @property
    def noise_std(self) -> float:
        """Standard deviation of the membrane's noise after one second."""
        return self._noise_std

    @noise_std.setter
    def noise_std(self, value: Any) -> None:
        self._noise_std = check_noise(self.class_name, _constant(self.class_name, "noise_std", value))

    @property
    def spike_generation_fn(self) -> Callable[..., Tensor]:
        """Called as (membrane, threshold, learning_window, max_spikes_per_dt)."""
        return self._spike_function.apply

    @spike_generation_fn.setter
    def spike_generation_fn(self, value: Any) -> None:
        self._spike_function = spike_function(self.class_name, value)
        self._surrogate = self._spike_function.surrogate(self._learning_window)

    @property
    def learning_window(self) -> Tensor:
        """A tensor, as in Rockpool, but a new one each time: to change it, set it."""
        return torch.tensor(self._learning_window)

    @learning_window.setter
    def learning_window(self, value: Any) -> None:
        window = _constant(self.class_name, "learning_window", value)
        if not 0 < window < math.inf:
            raise ValueError(f"{self.class_name}: learning_window is {value}, expected a finite number above 0")
        self._learning_window = window
        self._surrogate = self._spike_function.surrogate(window)

    @property
    def max_spikes_per_dt(self) -> Tensor:
        """A tensor, as in Rockpool, but a new one each time: to change it, set it."""
        return torch.tensor(self._max_spikes)

    @max_spikes_per_dt.setter
    def max_spikes_per_dt(self, value: Any) -> None:
        self._max_spikes = check_max_spikes(self.class_name, _constant(self.class_name, "max_spikes", value))

    def _batch(self, x: Any, own: torch.dtype) -> Tensor:
        """The input as (batch, time, Nin), in the dtype that PyTorch's promotion gives it beside the parameters, which
        are of the dtype `own`."""
        name = self.class_name
        x = check_input(name, x)
        if x.dim() not in (2, 3) or x.shape[-1] not in (1, self.size_in):
            raise ValueError(
                f"{name}: the input has shape {tuple(x.shape)}, expected (time, {self.size_in}) or (batch, time, "
                f"{self.size_in}); "
                "a last dimension of 1 is one channel to every input"
            )
        x = x.unsqueeze(0) if x.dim() == 2 else x
        dtype = x.dtype if x.dtype == own else torch.promote_types(x.dtype, own)
        # Promotion again: a call in float64 leaves float64 states, and the next call in float32 must not round them.
        if torch.float64 in [state.dtype for state in self._kept(True).values()]:
            dtype = torch.promote_types(dtype, torch.float64)
        if x.shape[-1] != self.size_in:
            x = x.expand(*x.shape[:2], self.size_in)
        return x if x.dtype == dtype else x.to(dtype)

    def _first(self, name: str, x: Tensor, trailing: tuple[int, ...]) -> Tensor:
        """The kept state for x's batch, (batch, *trailing). A state without a batch dimension is used for every
        item."""
        state, kept, shape = self._value(name), self._attributes[name].shape, (x.shape[0], *trailing)
        if x.shape[0] != 1 or state.dim() != len(kept):
            state = self._batched(name, state, kept, x)
        state = state if state.shape == shape else state.reshape(shape)
        return state if state.dtype == compute_dtype(x) else state.to(compute_dtype(x))

    def _batched(self, name: str, state: Tensor, shape: tuple[int, ...], x: Tensor) -> Tensor:
        if state.dim() == len(shape):
            state = state.expand(x.shape[0], *shape)
        elif state.shape[0] != x.shape[0]:
            raise ValueError(
                f"{self.class_name}: the input has a batch of {x.shape[0]}, but {name} was kept from one of "
                f"{state.shape[0]}; "
                f"call reset_state() first, or go on from one item: module.{name} = module.{name}[0]"
            )
        return state

    def _auto_batch(
        self,
        data: Tensor,
        states: tuple[Tensor, ...] = (),
        target_shapes: tuple[tuple[int, ...] | None, ...] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """For the forward method of a class of your own: returns the input as (batch, time, Nin), and for each state a
        new tensor (batch, *shape), which may be written into.

        Args:
            data: (batch, time, Nin) or (time, Nin).
            states: as they were kept.
            target_shapes: their shapes without the batch. Default: those that they have.
        """
        x = self._batch(data, self._dtype())
        shapes = target_shapes or (None,) * len(states)
        pairs = zip(states, shapes, strict=True)
        return x, tuple(
            self._batched("a state", s, tuple(s.shape) if shape is None else shape, x).clone() for s, shape in pairs
        )

    def _keep(self, name: str, state: Tensor) -> None:
        """Keeps a state, detached. As in Rockpool only item 0 is kept, without the batch dimension; with
        `keep_batch_state` all items are, unless there is only one."""
        batch, shape = state.shape[0], self._attributes[name].shape
        state = state.detach() if state.requires_grad else state
        if batch == 1:
            self._buffers[name] = state.reshape(shape)
        elif batch and self.keep_batch_state:
            self._buffers[name] = state.reshape(batch, *shape)
        elif batch:
            # A copy, because otherwise the state of the whole batch would be held in memory.
            self._buffers[name] = state[0].clone().reshape(shape)

    def _noise(self, x: Tensor, generator: torch.Generator | None) -> Tensor | None:
        if not self._noise_std:
            return None
        # In this order and in these dtypes, so that one seed gives Rockpool's noise.
        dtype = torch.promote_types(self._dtype(), torch.float32)
        scale = self._noise_std * torch.sqrt(torch.tensor(self._dt, dtype=dtype))
        noise = torch.randn((*x.shape[:2], self.size_out), generator=generator, dtype=dtype, device=x.device)
        return (scale * noise).to(x.dtype)

    def _fused(
        self,
        x: Tensor,
        state: Mapping[str, Tensor],
        record: tuple[str, ...],
        generator: torch.Generator | None,
        **parameters: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The output, the states after the last step, the records; named as in `torch_lif.functional.lif`, states and
        records in its order. Its checks of settings were made when they were set."""
        parameters |= {"bias": self._value("bias"), "threshold": self._value("threshold")}
        hold_first_states(self, x, state.values())
        rule, compute = check_surrogate("lif", self._surrogate), compute_dtype(x)
        beside = {name: p if p.dtype == compute else p.to(compute) for name, p in parameters.items()}
        record = record if self._record else ()
        results = call(
            "lif",
            (x, self._noise(x, generator)),
            tuple(map(beside.get, ORDER.params)),
            tuple(map(state.get, ORDER.states)),
            (fixed(self._max_spikes),),
            rule.name,
            rule.values,
            self._spike_function.smooth,
            self._synapses,
            True,
            tuple([int(name in record) for name in ORDER.states]) if record else ORDER.no_record,
            "",
        )
        records = dict(zip(record, results[1 + len(state) :], strict=True))
        return results[0], dict(zip(state, results[1:], strict=False)), records

    def extra_repr(self) -> str:
        """For PyTorch's repr, after `to_torch()`."""
        return f"shape={self.shape}, dt={self.dt:g}, surrogate={self._surrogate}"


class LIFBaseTorch(_LIFModule):
    """All of `LIFTorch` but its `forward`; arguments and attributes as described there.

    A class of your own adds its attributes (see `TorchModule`) and writes `forward`, beginning with `_auto_batch`, as
    in Rockpool.
    """

    _stands_for = "rockpool.nn.modules.torch.lif_torch.LIFBaseTorch"
    leak_mode: str
    n_synapses: int
    _has_rec: bool

    def __init__(
        self,
        shape: Any,
        leak_mode: str = "taus",
        tau_mem: Initial = None,
        tau_syn: Initial = None,
        alpha: Initial = None,
        beta: Initial = None,
        dash_mem: Initial = None,
        dash_syn: Initial = None,
        bias: Initial = None,
        threshold: Initial = None,
        has_rec: bool = False,
        w_rec: Initial = None,
        noise_std: float = 0.0,
        spike_generation_fn: Any = StepPWL,
        learning_window: Tensor | float = 0.5,
        max_spikes_per_dt: Tensor | float = MAX_SPIKES,
        weight_init_func: Callable[[tuple[int, ...]], Tensor] | None = kaiming,
        dt: float = 1e-3,
        *,
        retain_torch_api: bool = False,
        keep_batch_state: bool = False,
    ) -> None:
        owner = self.class_name
        if not isinstance(leak_mode, str) or leak_mode not in MODES:
            raise ValueError(f"{owner}: leak_mode is {leak_mode!r}, expected one of {', '.join(map(repr, MODES))}")
        given = {
            "tau_mem": tau_mem,
            "tau_syn": tau_syn,
            "alpha": alpha,
            "beta": beta,
            "dash_mem": dash_mem,
            "dash_syn": dash_syn,
        }
        mem, syn = (name for name, (view, _) in VIEWS.items() if view == MODES[leak_mode])
        foreign = [name for name, value in given.items() if value is not None and name not in (mem, syn)]
        if foreign:
            raise ValueError(
                f"{owner}: {foreign[0]} was given, expected {mem} and {syn} alone with leak_mode={leak_mode!r}"
            )
        if w_rec is not None and not has_rec:
            raise ValueError(f"{owner}: w_rec was given, expected None without recurrence; pass has_rec=True besides")
        sizes = whole_numbers(owner, shape, 2)
        n_in, n = sizes[0], sizes[-1]
        synapses = n_in // n if n else 1
        if synapses * n != n_in or not synapses:
            raise ValueError(
                f"{owner}: shape is {shape!r}, expected (Nin, Nout) with Nin a multiple of Nout, its synapses"
            )

        super().__init__((n_in, n), True, True, retain_torch_api)
        self._synapses = synapses
        self._leak = Leak(MODES[leak_mode], EXPONENTIAL)
        self._fix(
            leak_mode=leak_mode,
            _has_rec=bool(has_rec),
            n_neurons=n,
            n_synapses=synapses,
            keep_batch_state=keep_batch_state,
        )
        self._add_simulation_parameters("leak_mode", "_has_rec")
        # In the library's order, by which an optimiser's state dict knows the parameters.
        if has_rec:
            self._add_parameter("w_rec", w_rec, [(n, n_in)], "weights", weight_init_func or kaiming, exact=True)
        else:
            self._add_simulation_parameters("w_rec")
        self._add_leak(mem, given[mem], [(n,), ()], leak_mode)
        self._add_leak(syn, given[syn], [(n, synapses), (1, synapses), ()], leak_mode)
        self._add_bias(bias)
        self._add_threshold(threshold)
        self._add_state("vmem", (n,))
        self._add_state("isyn", (n, synapses))
        self._add_state("spikes", (n,))
        self._set_simulation(dt, noise_std, spike_generation_fn, learning_window, max_spikes_per_dt)

    def _seen_leak(self, name: str) -> tuple[Leak, str, str] | None:
        """(leak, view, the name of the parameter) if `name` is a view of a leak that is not its parameter."""
        leak = self.__dict__.get("_leak")
        if leak is None or name not in VIEWS or VIEWS[name][0] == leak.stored:
            return None
        view, which = VIEWS[name]
        return leak, view, STORED[leak.stored][which]

    def _decay(self, which: str) -> Tensor:
        """The decay per step of the membrane ("mem") or of the synapses ("syn")."""
        stored = self._leak.stored
        return self._leak.decay(self._value(STORED[stored][which]), stored, self._dt)

    def __getattr__(self, name: str) -> Any:
        parameters = self.__dict__.get("_parameters", {})
        if name in parameters:
            return parameters[name]
        if (seen := self._seen_leak(name)) is not None:
            leak, view, own = seen
            return leak.convert(getattr(self, own), leak.stored, view, self.dt)
        if name == "w_rec" and "_has_rec" in self.__dict__ and not self._has_rec:
            # Expanded, so that writing into it is an error: it takes no part in the loop.
            return torch.zeros((), dtype=self.threshold.dtype, device=self.threshold.device).expand(
                self.size_out, self.size_in
            )
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        seen = self._seen_leak(name)
        if seen is not None:
            leak, view, own = seen
            given = torch.as_tensor(unwrap(value)[0], dtype=getattr(self, own).dtype).detach()
            self._check_shape(name, given, getattr(self, own))
            setattr(self, own, leak.convert(given, view, leak.stored, self.dt))
        elif name == "w_rec" and not self._has_rec:
            given = torch.as_tensor(unwrap(value)[0])
            if given.shape != self.w_rec.shape or bool(given.any()):
                raise ValueError(
                    f"{self.class_name}: w_rec was set, but there is no recurrence; make the module with has_rec=True"
                )
        else:
            super().__setattr__(name, value)

    def as_graph(self) -> Any:
        """The module as Rockpool's graph objects: LIFNeuronWithSynsRealValue, with LinearWeights if recurrent, in a
        GraphHolder.

        Raises:
            ImportError: Rockpool is not installed.
        """
        try:
            graph = importlib.import_module("rockpool.graph")
        except ImportError as error:
            raise ImportError(
                f"{self.class_name}: as_graph makes Rockpool's own graph objects; pip install rockpool ({error})"
            ) from error

        def values(name: str, *shape: int) -> Any:
            return getattr(self, name).detach().expand(shape).flatten().cpu().numpy()

        n, label = self.size_out, f"{self.name}_{id(self)}"
        neurons = graph.LIFNeuronWithSynsRealValue._factory(
            self.size_in,
            n,
            f"{self.class_name}_{label}",
            self,
            values("tau_mem", n),
            values("tau_syn", n, self.n_synapses),
            values("threshold", n),
            values("bias", n),
            self.dt,
        )
        if self._has_rec:
            weights = self.w_rec.detach().cpu().numpy()
            name = f"{self.class_name}_recurrent_{label}"
            graph.LinearWeights(neurons.output_nodes, neurons.input_nodes, name, self, weights)
        return graph.as_GraphHolder(neurons)


class LIFTorch(LIFBaseTorch):
    """Rockpool's leaky integrate-and-fire neurons with exponential synapses, in one kernel.

    `out, state, record = module(x)` runs x through the neurons, from the state that the previous call left. Each time
    step computes::

        isyn = ((isyn + x) + irec) * beta                irec = (spikes of the previous step) @ w_rec, with has_rec
        vmem = ((vmem * alpha + sum of a neuron's isyn) + noise) + bias
        out  = [vmem >= threshold] * floor(vmem / threshold), at most max_spikes_per_dt
        vmem = vmem - out * threshold

    Without recurrence and with at most two synapses per neuron, float32 results are Rockpool's bit for bit. Source:
    Rockpool 3.1, `LIFTorch` of lif_torch.py.

    Call:
        x: (batch, time, Nin) or (time, Nin), the synapses of a neuron side by side; (batch, time, 1) feeds one channel
            to every input. Any dtype: the arithmetic is in the type to which x and the parameters promote; what is
            returned has the parameters' dtype.
        record: whether to return the states after each step. Default: False.
        generator: of the noise. Default: PyTorch's own.

        Returns out (batch, time, Nout); a dict of the kept states; and a dict of the records, on x's device: vmem
        (batch, time, Nout) after the reset, isyn (batch, time, Nout, S) after the decay, irec (batch, time, Nout, S) as
        it was added, and spikes. Gradients flow from out and the records to x, the parameters, and a state that was set
        to a tensor requiring one.

    Kept states: vmem (Nout,), isyn (Nout, S) and spikes (Nout,), detached. As in Rockpool a call keeps those of the
    first item of its batch, and the next call begins with them in every item, whatever its batch size. With
    `keep_batch_state` each item keeps its own. After a call the states then have a batch dimension in front (except
    after a batch of one), and the next call must have the same batch size.

    Args:
        shape: N or (N,): as many inputs as neurons; or (Nin, Nout), with S = Nin / Nout synapses per neuron.
        leak_mode: which view of the leaks is trained: "taus" (time constants, s), "decays" (per step) or "bitshifts".
            All six can be read and set in every mode: decay = exp(-dt/tau) = 1 - 1/2**dash. Default: "taus".
        tau_mem, tau_syn: time constants of membrane, (Nout,) or (), and synapses, (Nout, S), (1, S) or (). Default:
            20e-3 s.
        alpha, beta: their decays, in [0, 1]. Default: 0.5.
        dash_mem, dash_syn: their bit shifts, 0 or more. Default: 1.
        bias: added to the membrane in each step, (Nout,) or (). Default: 0.
        threshold: above 0, (Nout,) or (). Default: 1.
        has_rec: whether the spikes of a step are input of the next step through trained weights. Default: False.
        w_rec: those weights, (Nout, Nin), from neuron to input. Default: by weight_init_func.
        noise_std: standard deviation of the membrane's noise after one second: a step gets noise_std * sqrt(dt).
            Default: 0.
        spike_generation_fn: `StepPWL` (the default), `PeriodicExponential`, `sigmoid` (which does not spike),
            Rockpool's classes of these names, or a surrogate of torch_lif, which does not use learning_window.
        learning_window: of the surrogate, above 0. Default: 0.5.
        max_spikes_per_dt: the most spikes of one neuron in one step. Default: 65536.
        weight_init_func: from a shape to weights. Default: Kaiming's uniform initialisation.
        dt: time step in seconds. Default: 1e-3.
        retain_torch_api: call `to_torch()` at once. Default: False.
        keep_batch_state: whether each item of a batch keeps its own state for the next call. Not in Rockpool. Default:
            False.

    Parameters take a number, a tensor, an array or a list; wrapped in `Constant` they are not trained.

    Raises:
        ValueError: an argument out of its range or of the wrong shape; a leak of another mode; w_rec without has_rec.
        TypeError: an argument of the wrong type; a spike_generation_fn that is not fused.

    >>> module = LIFTorch((4, 2), has_rec=True, w_rec=torch.zeros(2, 4), threshold=0.5)
    >>> out, state, record = module(torch.ones(3, 10, 4), record=True)
    >>> out.shape, record["isyn"].shape, state["vmem"].shape
    (torch.Size([3, 10, 2]), torch.Size([3, 10, 2, 2]), torch.Size([2]))
    >>> sorted(module.parameters("taus")), list(module.reset_state().state()["vmem"].shape)
    (['tau_mem', 'tau_syn'], [2])
    """

    _stands_for = "rockpool.nn.modules.torch.lif_torch.LIFTorch"

    def forward(self, input_data: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The spikes only; `evolve`, and calling the module, return states and records too."""
        check_export(self)
        own, neurons, synapses, has_rec = self._dtype(), self.n_neurons, self.n_synapses, self._has_rec
        x, beta = self._batch(input_data, own), self._decay("syn")
        # The fused loop has an axis of synapses only for two or more.
        currents = (neurons,) if synapses == 1 else (neurons, synapses)
        decays = {
            "decay_mem": self._decay("mem"),
            "decay_syn": beta.squeeze(-1) if synapses == 1 and beta.dim() else beta,
        }
        state = {"v": self._first("vmem", x, (neurons,)), "i": self._first("isyn", x, currents)}
        if has_rec:
            state["spikes"], decays["w_rec"] = self._first("spikes", x, (neurons,)), self._value("w_rec")
        out, after, records = self._fused(x, state, ("v", "i"), generator, **decays)
        self._keep("vmem", after["v"])
        self._keep("isyn", after["i"])
        if has_rec and out.shape[1]:
            self._keep("spikes", after["spikes"])
        elif out.shape[0] and out.shape[1]:
            # A copy, because otherwise the kept state would hold the whole output in memory.
            items: Any = slice(None) if self.keep_batch_state and out.shape[0] > 1 else 0
            self._buffers["spikes"] = out.detach()[items, -1].to(compute_dtype(x), copy=True)
        if self._record:
            isyn = records["i"].unsqueeze(-1) if synapses == 1 else records["i"]
            irec = torch.zeros_like(isyn)
            if has_rec:
                irec = recurrent_input(out, state["spikes"], decays["w_rec"], None, synapses, True).reshape(isyn.shape)
            traces = {"vmem": records["v"], "isyn": isyn, "irec": irec, "spikes": out}
            self._record_dict = {name: trace.to(own) for name, trace in traces.items()}
            return self._record_dict["spikes"]
        return out if out.dtype == own else out.to(own)


class LIFNeuronTorch(_LIFModule):
    """Rockpool's leaky integrate-and-fire neurons without synapses, in one kernel.

    As `LIFTorch`, but the input goes straight to the membrane. Each time step::

        vmem = ((vmem * exp(-dt/tau_mem) + x) + noise) + bias

    and the spikes and the reset of `LIFTorch`. float32 results are Rockpool's bit for bit. The only state is vmem; the
    records are vmem and spikes. Source: Rockpool 3.1, `LIFNeuronTorch` of lif_neuron_torch.py.

    Args:
        shape: N or (N,), the number of neurons.
        tau_mem: membrane time constant in seconds, (N,) or (). Default: 20e-3.
        threshold: above 0, (N,) or (). Default: 1.
        bias: added to the membrane in each step, (N,) or (). Default: 0, shared by all neurons.
        dt, noise_std, spike_generation_fn, learning_window, max_spikes_per_dt, retain_torch_api, keep_batch_state: as
            `LIFTorch`.

    Raises:
        ValueError, TypeError: as `LIFTorch`.

    >>> module = LIFNeuronTorch(3, tau_mem=10e-3).to_torch()
    >>> module(torch.ones(10, 3)).shape
    torch.Size([1, 10, 3])
    """

    _stands_for = "rockpool.nn.modules.torch.lif_neuron_torch.LIFNeuronTorch"

    def __init__(
        self,
        shape: Any,
        tau_mem: Initial = None,
        threshold: Initial = None,
        bias: Initial = 0.0,
        dt: float = 1e-3,
        noise_std: float = 0.0,
        spike_generation_fn: Any = StepPWL,
        learning_window: Tensor | float = 0.5,
        max_spikes_per_dt: Tensor | float = MAX_SPIKES,
        *,
        retain_torch_api: bool = False,
        keep_batch_state: bool = False,
    ) -> None:
        (n,) = whole_numbers(self.class_name, shape, 1)
        super().__init__((n,), False, True, retain_torch_api)
        self._fix(n_neurons=n, keep_batch_state=keep_batch_state)
        self._add_simulation_parameters("n_neurons")
        self._add_leak("tau_mem", tau_mem, [(n,), ()], "taus")
        self._add_threshold(threshold)
        self._add_bias(bias)
        self._add_state("vmem", (n,))
        self._set_simulation(dt, noise_std, spike_generation_fn, learning_window, max_spikes_per_dt)

    def forward(self, input_data: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The spikes only; `evolve`, and calling the module, return states and records too."""
        check_export(self)
        own = self._dtype()
        x = self._batch(input_data, own)
        state = {"v": self._first("vmem", x, (self.n_neurons,))}
        decay = EXPONENTIAL.decay_from_tau(self._value("tau_mem"), self._dt)
        out, after, records = self._fused(x, state, ("v",), generator, decay_mem=decay)
        self._keep("vmem", after["v"])
        out = out if out.dtype == own else out.to(own)
        if self._record:
            self._record_dict = {"vmem": records["v"].to(own), "spikes": out}
        return out

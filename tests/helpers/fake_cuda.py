"""A GPU that is not there: tensors that say `cuda:0`, compute on the CPU, and fail where CUDA would.

`fake_card()` yields a `Card`. Within the block, PyTorch finds one GPU. Its tensors are wrappers around CPU tensors, and
below autograd every operation on them is passed on to the CPU's kernels, so that its bits are the CPU's. What fails as
with CUDA: mixing devices, taking a GPU's tensor for a NumPy array, and operations that have no deterministic kernel, in
deterministic mode. What is counted: kernels, and where the CPU waits for the GPU.

The backward pass is part of it: the graph is autograd's own, and only its nodes are called from Python, because
PyTorch's engine asks the driver for streams. Not supported: hooks on tensors, gradients of gradients, streams, events,
and tensors on the card in another thread.
"""

from __future__ import annotations

import heapq
import traceback
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import get_gradient_edge
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).parents[2]
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

# At its first backward pass, autograd starts a thread for each GPU that it finds, and a process with such threads
# cannot be forked. It shall find none.
torch.ones((), requires_grad=True).backward()

# Operations by their names in ATen. These launch no kernel, and neither do views.
_ALLOCATING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_COPYING = {"copy_", "_to_copy", "to"}
_INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}
# The CPU waits for their result, a number or a tensor whose size depends on the values.
_WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "allclose",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "unique_dim",
}
# Those raise an error in deterministic mode, see `torch.use_deterministic_algorithms`.
_NOT_DETERMINISTIC = {
    "_adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "avg_pool3d_backward",
    "bincount",
    "grid_sampler_2d_backward",
    "histc",
    "kthvalue",
    "max_pool3d_with_indices_backward",
    "nll_loss2d_forward",
    "put_",
    "reflection_pad2d_backward",
    "replication_pad2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
}


class CudaTensor(Tensor):
    """A tensor on the card.

    Attributes:
        on_cpu: the CPU tensor that it wraps, which is never part of a graph.
    """

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> CudaTensor:
        wrapper = Tensor._make_wrapper_subclass(
            cls,
            on_cpu.size(),
            strides=on_cpu.stride(),
            storage_offset=on_cpu.storage_offset(),
            dtype=on_cpu.dtype,
            device=CUDA,
        )
        wrapper.on_cpu = on_cpu
        return wrapper

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{operation} on a fake card's tensor, outside of `fake_card` or in another thread")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"CudaTensor({tuple(self.shape)})"


@dataclass
class Card:
    """What was counted.

    Attributes:
        kernels: operations that launch kernels, by name. One on a list of tensors, `_foreach_…`, counts once.
        waits: where the CPU waited for the GPU: how, and at which line of the project's code.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    _pinned: set[int] = field(default_factory=set)  # addresses of storages

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation below autograd on the CPU, if the card or the CPU would."""
        name, leaves = operation.overloadpacket.__name__, tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        devices = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
        uses_card = any(isinstance(tensor, CudaTensor) for tensor in tensors)
        to_card = devices[0].type == "cuda" if devices else uses_card
        if name in ("pin_memory", "_pin_memory"):
            return self._pin(args[0].clone())
        if name == "is_pinned":
            return self._is_pinned(args[0])
        if name in _COPYING:
            self._check_copy(operation, args, kwargs, to_card)
        elif uses_card:
            self._check_operands(name, args, tensors)

        cpu_args, cpu_kwargs = tree_map(_on_cpu, (args, kwargs))
        is_pinned = cpu_kwargs.pop("pin_memory", False)
        with torch._C._DisableTorchDispatch():
            result = operation(*cpu_args, **cpu_kwargs)
            if name == "to" and result is cpu_args[0] and isinstance(args[0], CudaTensor) != to_card:
                result = result.clone()  # a copy to the other device, for which there is nothing to do on the CPU
        if is_pinned:
            return self._pin(result)
        if (uses_card or to_card) and _launches(operation, result):
            self.kernels[name] += 1

        operands = {id(_on_cpu(tensor)): tensor for tensor in tensors}

        def wrapped(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if (operand := operands.get(id(value))) is not None:  # an operation in place
                assert operand.shape == value.shape, f"{name} changes a tensor's shape in place"
                return operand
            if not to_card:
                return value
            with torch.inference_mode(value.is_inference()):  # a view of another tensor is none of inference mode's
                return CudaTensor(value)

        return tree_map(wrapped, result)

    def _check_copy(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], to_card: bool) -> None:
        names = [argument.name for argument in operation._schema.arguments]
        bound = dict(zip(names, args, strict=False)) | kwargs
        source = bound.get("src", bound["self"])
        if source is not bound["self"]:  # copy_
            to_card = isinstance(bound["self"], CudaTensor)
        if isinstance(source, CudaTensor) == to_card:
            return
        if not to_card:
            self._wait("copy to the CPU")
        elif not bound.get("non_blocking"):
            self._wait("copy to the GPU")
        elif not self._is_pinned(source):
            self._wait("copy to the GPU from memory that is not pinned")

    def _check_operands(self, name: str, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
        others = [tensor for tensor in tensors if not isinstance(tensor, CudaTensor)]
        is_deterministic = torch.are_deterministic_algorithms_enabled()
        if name in _INDEXING and isinstance(args[0], CudaTensor):
            indices = [index for index in args[1] if index is not None]
            # CUDA copies indices from the CPU, but no values.
            others = [tensor for tensor in others if not any(tensor is index for index in indices)]
            if any(not isinstance(index, CudaTensor) for index in indices):
                self._wait(f"{name} with an index on the CPU")
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self._wait(f"{name} with a mask")
            if "put" in name and is_deterministic:
                self._wait(f"{name} in deterministic mode, which checks the indices")
        if any(tensor.dim() for tensor in others):  # numbers may come from the CPU
            operands = ", ".join(f"{tensor.device.type} {tuple(tensor.shape)}" for tensor in tensors)
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {operands}")
        if name in _WAITING:
            self._wait(name)
        if name in _NOT_DETERMINISTIC and is_deterministic:
            raise RuntimeError(f"{name} does not have a deterministic implementation")

    def _wait(self, how: str) -> None:
        self.waits[f"{how} at {_line()}"] += 1

    def _pin(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._pinned.add(storage._cdata)
        weakref.finalize(storage, self._pinned.discard, storage._cdata)
        return tensor

    def _is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self._pinned


class _Mode(TorchDispatchMode):
    def __init__(self, card: Card):
        super().__init__()
        self._card = card

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and importing torch._dynamo takes two seconds

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._card.run(operation, args, kwargs or {})


@contextmanager
def fake_card(bf16: bool = True) -> Iterator[Card]:
    """Let PyTorch find one GPU within the block.

    Args:
        bf16: whether it computes in bfloat16, or only emulates that.
    """
    card, cuda, future = Card(), torch.cuda, torch.__future__
    torch._C._ensureCUDADeviceGuardSet()  # so that autograd's nodes may have the device
    run_backward = torch.autograd._engine_run_backward
    foreach = [import_module(name) for name in ("torch.optim.optimizer", "torch.utils._foreach_utils")]

    def backward(outputs: Sequence[Tensor], *args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        run = _run_backward if any(isinstance(output, CudaTensor) for output in outputs) else run_backward
        return run(outputs, *args, **kwargs)

    with ExitStack() as stack:
        for module, name, value in (
            (cuda, "_lazy_init", lambda: None),
            (cuda, "is_available", lambda: True),
            (cuda, "device_count", lambda: 1),
            (cuda, "current_device", lambda: 0),
            (cuda, "_exchange_device", lambda index: 0),
            (cuda, "_maybe_exchange_device", lambda index: 0),
            (cuda, "get_device_name", lambda device=None: "Fake GPU"),
            (cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation),
            # It draws from the CPU's generator, so that dropout is the same as on the CPU.
            (cuda, "get_rng_state", lambda device=None: torch.get_rng_state()),
            (cuda, "set_rng_state", lambda state, device=None: torch.set_rng_state(state)),
            (torch.autograd, "_engine_run_backward", backward),
            *((each, "_foreach_supported_types", [*each._foreach_supported_types, CudaTensor]) for each in foreach),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        overwrites = future.get_overwrite_module_params_on_conversion()
        for put, before, value in (
            # cuDNN's batch norm is another operation than the CPU's, and gets other memory formats.
            (partial(setattr, torch.backends.cudnn, "enabled"), torch.backends.cudnn.enabled, False),
            # `network.to("cuda")` makes new parameters.
            (future.set_overwrite_module_params_on_conversion, overwrites, True),
            # `torch.tensor(…, device="cuda")` is a copy from the CPU.
            (torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors(), True),
        ):
            stack.callback(put, before)
            put(value)
        stack.enter_context(_Mode(card))
        yield card


@torch.no_grad()
def _run_backward(
    outputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Tensor],
    allow_unreachable: bool = False,
    accumulate_grad: bool = False,
) -> tuple[Tensor | None, ...]:
    """What PyTorch's engine does: call each node of the graph once its gradients are summed, the latest node first.

    Returns:
        The gradients of `inputs`. Without inputs, the leaves' `grad` is added to instead.
    """
    assert not create_graph
    roots, ends = ([get_gradient_edge(tensor) for tensor in tensors] for tensors in (outputs, inputs))
    found: dict[tuple[Any, int], Tensor] = {}
    summed: dict[Any, dict[int, Tensor]] = {}  # gradients by node and number of its output
    missing = _edges_to([root.node for root in roots])
    ready: list[tuple[int, int, Any]] = []
    order = count()

    def add(node: Any, number: int, gradient: Tensor) -> None:
        known, metadata = summed.setdefault(node, {}), node._input_metadata[number]
        # The nodes of operations that broadcast or convert leave it to the engine to undo that.
        gradient = gradient.sum_to_size(metadata.shape).to(metadata.dtype)
        assert gradient.device == metadata.device, f"{node.name()} gets a gradient on {gradient.device}"
        if number in known:  # the sum has the strides of the first one, into which the engine adds
            gradient = torch.add(known[number], gradient, out=torch.empty_like(known[number]))
        known[number] = gradient

    def push(node: Any) -> None:
        heapq.heappush(ready, (-node._sequence_nr(), next(order), node))

    for root, gradient in zip(roots, gradients, strict=True):
        add(root.node, root.output_nr, gradient)
    for node in {root.node for root in roots if not missing[root.node]}:
        push(node)
    while ready:
        *_, node = heapq.heappop(ready)
        received = summed.pop(node, {})
        found |= {(node, number): gradient for number, gradient in received.items()}
        if hasattr(node, "variable"):  # a leaf
            if received and not inputs:
                leaf = node.variable
                leaf.grad = received[0].detach() if leaf.grad is None else leaf.grad + received[0]
            continue
        sent = _call(node, received) if received else {}
        for place, (following, number) in enumerate(node.next_functions):
            if following is None:
                continue
            if (gradient := sent.get(place)) is not None:
                add(following, number, gradient)
            missing[following] -= 1
            if not missing[following]:
                push(following)
    return tuple(found.get((end.node, end.output_nr)) for end in ends)


def _call(node: Any, received: dict[int, Tensor]) -> dict[int, Tensor | None]:
    """The gradients that a node sends on, by their place in its `next_functions`."""
    gradients = [received.get(number) for number in range(len(node._input_metadata))]
    sent = node.apply(*gradients) if isinstance(node, BackwardCFunction) else node(*gradients)
    sent = sent if isinstance(sent, tuple) else (sent,)
    if len(sent) > len(node.next_functions):  # a function of Python's, which also returns None for what is no tensor
        sent = tuple(gradient for gradient, needed in zip(sent, node.needs_input_grad, strict=True) if needed)
        assert len(sent) == len(node.next_functions), f"{node.name()}: some of its tensors need no gradient"
    return dict(enumerate(sent))


def _edges_to(roots: Sequence[Any]) -> Counter[Any]:
    """How many edges of the graph lead to each node."""
    counts, seen, waiting = Counter(), set(roots), list(roots)
    while waiting:
        for node, _ in waiting.pop().next_functions:
            if node is not None:
                counts[node] += 1
                if node not in seen:
                    seen.add(node)
                    waiting.append(node)
    return counts


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device):
        return CPU
    return value.on_cpu if isinstance(value, CudaTensor) else value


def _launches(operation: Any, result: Any) -> bool:
    """Whether an operation launches a kernel, and does not only allocate, or return a view, a number or no elements."""
    aliases = [returned.alias_info for returned in operation._schema.returns]
    is_view = any(alias is not None and not alias.is_write for alias in aliases)
    computes = result is None or any(isinstance(leaf, Tensor) and leaf.numel() for leaf in tree_leaves(result))
    return computes and not is_view and operation.overloadpacket.__name__ not in _ALLOCATING


def _line() -> str:
    """The innermost line of the project's own code that is running, outside of this module."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path != Path(__file__) and ".venv" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.lineno}"
    return "?"

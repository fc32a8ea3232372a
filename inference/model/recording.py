"""Recording a function of tensors as a flat graph of operations, which is replayed without its Python.

Every operation that runs while the function is called once, those of the backward pass included, is
written down with its arguments; what depends on no argument of the function is kept as a constant.
The graph computes what the function computes as long as the function does the same operations at
every value: so it is refused where the function reads numbers, and compared before it is trusted.

`torch.fx.experimental.proxy_tensor.make_fx` records the same at fifteen times the cost (it evaluates
every operation on shapes as well), which a posterior that takes a tenth of a second does not bear.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._functorch.compile_utils import fx_graph_cse
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from aif_dcpc.inference.errors import InferenceError
from aif_dcpc.inference.model.repeats import without_repeats

Function = Callable[..., tuple[Tensor, ...]]
aten = torch.ops.aten

COPIES = (aten.detach.default, aten.lift_fresh.default, aten.alias.default)
READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
LEAVES = {Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__}  # by no operation
RESHAPES = (aten.expand.default, aten.view.default, aten._unsafe_view.default)
NEUTRAL = {
    aten.mul.Tensor: 1.0,
    aten.mul.Scalar: 1.0,
    aten.div.Tensor: 1.0,
    aten.add.Tensor: 0.0,
    aten.add.Scalar: 0.0,
    aten.sub.Tensor: 0.0,
    aten.pow.Tensor_Scalar: 1.0,
}
COMMUTES = (aten.mul.Tensor, aten.add.Tensor)
FROM_SHAPE = (
    aten.ones_like.default,
    aten.zeros_like.default,
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.full_like.default,
    aten.new_empty.default,
    aten.empty_like.default,
    aten.new_empty_strided.default,
)
TOLERANCE = 1e-3


class CannotRecord(InferenceError):
    """The function looks at numbers, or draws some, so that one recording cannot stand for it."""


def flat_graph(function: Function, *examples: Tensor) -> Function:
    """Record a function at these shapes; the function itself where it cannot be recorded, or differs.

    Args:
        function: takes tensors like the examples, returns a tuple of tensors.
        examples: arguments to record at; the graph is compared at these and at others near them.
    """
    expected = function(*examples)  # what it prepares at its first call is not to be recorded
    try:
        graph = record(function, *examples)
        faithful = _agree(expected, graph(*examples)) and _agrees_nearby(function, graph, examples)
    except Exception:  # kernels may do anything
        return function
    return graph if faithful else function


def record(function: Function, *examples: Tensor) -> fx.GraphModule:
    """Call a function once and return what it did as a graph.

    Raises:
        CannotRecord: for a function whose operations depend on numbers.
    """
    recorder = Recorder(examples)
    with recorder, StaysInTensors(recorder):
        outputs = function(*examples)
    module = recorder.module(outputs)
    graph = fx_graph_cse(module.graph)
    without_repeats(module, graph)
    module.graph = graph
    return module


def _agrees_nearby(function: Function, graph: Function, examples: tuple[Tensor, ...]) -> bool:
    moved = tuple(x.flip(0) * 0.9 if x.is_floating_point() else x.flip(0) for x in examples)
    return _agree(function(*moved), graph(*moved))


def _agree(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> bool:
    return all(_close(a, b) for a, b in zip(expected, found, strict=True))


def _close(a: Tensor, b: Tensor) -> bool:
    size = float(torch.nan_to_num(a, 0.0, 0.0, 0.0).abs().mean()) if a.numel() else 0.0
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * (size + 1e-6), equal_nan=True)


class Recorder(TorchDispatchMode):
    """Writes down operations whose arguments follow from the examples."""

    def __init__(self, examples: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.nodes: dict[Any, fx.Node] = {}
        self.kept: list[Any] = []  # so that no address is used twice
        self.constants: dict[Any, fx.Node] = {}
        self.held: set[int] = set()  # memory of the constants
        self.writes: dict[int, int] = {}  # how often memory was overwritten by what follows
        for number, example in enumerate(examples):
            self._name(example, self.graph.placeholder(f"argument_{number}"))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and write it down if an argument is known."""
        kwargs = kwargs or {}
        given = [x for x in _tensors((args, kwargs))]
        followed = any(self._find(x) is not None for x in given)
        if (followed and _reads(func, args)) or torch.Tag.nondeterministic_seeded in func.tags:
            raise CannotRecord(f"the function reads numbers or draws them ({func}).")
        before = self._before(func, args) if followed else None
        self._count_writes(_overwritten(func, args, kwargs), followed=followed)
        found = func(*args, **kwargs)
        self.kept.append((args, found))
        if followed and func not in FROM_SHAPE:
            self._write(func, args, kwargs, found, before)
        return found

    # -- names -------------------------------------------------------------------------------------

    def _key(self, value: Tensor) -> Any:
        if value.numel() == 0:
            return id(value)
        return value.data_ptr(), tuple(value.shape), value.stride(), value.dtype

    def _find(self, value: Tensor) -> fx.Node | None:
        """The node of a value, None where it follows from no argument.

        Raises:
            CannotRecord: for one whose memory was overwritten under another name, such as a view's.
        """
        writes = self.writes.get(_memory(value), 0)
        found = self.nodes.get((id(value), writes))
        found = self.nodes.get((self._key(value), writes)) if found is None else found
        if found is None and writes:
            raise CannotRecord("the function reads a tensor that it has overwritten by a view.")
        return found

    def _name(self, value: Tensor, node: fx.Node) -> None:
        node.meta["shape"] = tuple(value.shape)
        node.meta["dtype"] = value.dtype
        writes = self.writes.get(_memory(value), 0)
        self.nodes[id(value), writes] = node
        self.nodes[self._key(value), writes] = node
        self.kept.append(value)

    def _count_writes(self, values: list[Tensor], *, followed: bool) -> None:
        """Remember that memory is overwritten, so that other names of it are not trusted."""
        for value in values:
            if _memory(value) in self.held:
                raise CannotRecord("the function overwrites a constant that it has used.")
            if followed:
                self.writes[_memory(value)] = self.writes.get(_memory(value), 0) + 1

    def _node(self, value: Any) -> Any:
        """An argument as the graph knows it."""
        if isinstance(value, Tensor):
            found = self._find(value)
            return self._constant(value) if found is None else found
        if isinstance(value, list | tuple):
            return type(value)(self._node(x) for x in value)
        return value

    def _constant(self, value: Tensor) -> fx.Node:
        key = self._key(value)
        if key not in self.constants:
            name = f"constant_{len(self.constants)}"
            setattr(self.root, name, value)
            node = self.graph.get_attr(name)
            node.meta["shape"] = tuple(value.shape)
            node.meta["dtype"] = value.dtype
            node.meta["value"] = None if value.requires_grad else value
            self.constants[key] = node
            self.held.add(_memory(value))
            self.kept.append(value)
        return self.constants[key]

    # -- operations --------------------------------------------------------------------------------

    def _before(self, func: Any, args: tuple[Any, ...]) -> Any:
        """The arguments' nodes, looked up before an operation that may overwrite them."""
        first = args[0] if args else None
        if func._schema.is_mutable and isinstance(first, Tensor) and self._find(first) is None:
            args = (first.clone(), *args[1:])
        return self._node(tuple(args))

    def _write(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], found: Any, before: Any
    ) -> None:
        if func in COPIES:
            self._name(found, before[0])
            return
        kept = _unchanged(func, before)
        if kept is not None and not kwargs and isinstance(found, Tensor):
            if kept.meta["shape"] == tuple(found.shape) and kept.meta["dtype"] == found.dtype:
                self._name(found, kept)
                return
        function = _out_of_place(func)
        named = {key: self._node(value) for key, value in kwargs.items()}
        node = self.graph.call_function(function, before, named)
        if isinstance(found, Tensor):
            self._name(found, node)
            return
        for place, part in enumerate(found):
            if isinstance(part, Tensor):
                self._name(part, self.graph.call_function(_take, (node, place)))

    def module(self, outputs: tuple[Tensor, ...]) -> fx.GraphModule:
        """The graph, as a module whose `forward` returns the outputs."""
        self.graph.output(tuple(self._node(x) for x in outputs))
        module = fx.GraphModule(self.root, self.graph)
        return module


def _memory(value: Tensor) -> int:
    """Where a value and all its views lie."""
    return value.untyped_storage().data_ptr()


def _reads(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operation, or the shape of what it returns, depends on numbers."""
    if func is aten.index.Tensor:
        return any(x.dtype in (torch.bool, torch.uint8) for x in _tensors(args[1]))
    return not READS.isdisjoint(func.tags)


def _overwritten(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation writes into."""
    if not func._schema.is_mutable:
        return []
    named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    writes = (a for a in func._schema.arguments if a.alias_info and a.alias_info.is_write)
    return [x for a in writes for x in _tensors([named.get(a.name)])]


class StaysInTensors(TorchFunctionMode):
    """Refuses what hands the numbers of a known tensor to Python or NumPy."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, unless it lets numbers out."""
        if func in LEAVES and self.recorder._find(args[0]) is not None:
            raise CannotRecord(f"the function reads numbers ({func}).")
        return func(*args, **(kwargs or {}))


def _take(parts: Any, place: int) -> Any:
    return parts[place]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return []
    return [x for part in value for x in _tensors(part)]


def _out_of_place(func: Any) -> Any:
    """The operation that returns what an overwriting one writes.

    Raises:
        CannotRecord: where there is none.
    """
    if not func._schema.is_mutable:
        return func
    packet = func.overloadpacket.__name__
    plain = getattr(aten, packet.rstrip("_"), None) if packet.endswith("_") else None
    overload = getattr(plain, func._overloadname, None)
    if overload is None:
        raise CannotRecord(f"the operation {func} writes into its arguments.")
    return overload


def _unchanged(func: Any, nodes: tuple[Any, ...]) -> fx.Node | None:
    """The argument that an operation gives back as it is: x * 1, x + 0, a view of the same shape."""
    if func in RESHAPES:
        return nodes[0] if isinstance(nodes[0], fx.Node) else None
    if func not in NEUTRAL or len(nodes) < 2:
        return None
    neutral = NEUTRAL[func]
    if _is_all(nodes[1], neutral) and isinstance(nodes[0], fx.Node):
        return nodes[0]
    if func in COMMUTES and _is_all(nodes[0], neutral) and isinstance(nodes[1], fx.Node):
        return nodes[1]
    return None


def _is_all(value: Any, number: float) -> bool:
    if isinstance(value, fx.Node):
        constant = value.meta.get("value")
        return constant is not None and bool((constant == number).all())
    return isinstance(value, int | float) and value == number

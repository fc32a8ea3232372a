"""Functions of tensors recorded as graphs of operations, cut per output, run for a whole cloud.

A recorded function sees one particle of one data point. `BatchedGraph` runs it on arguments with leading
axes `(K, B)`: it is mapped over both axes and recorded again for each new pair of sizes, so that
later calls are plain batched tensor operations, differentiable and without any Python of the
original function.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from aif_dcpc.inference.frontends.tracing import ReadableConstants, StaticIndexing
from aif_dcpc.inference.model.recording import CannotRecord, Recorder, StaysInTensors, flat_graph

Function = Callable[..., Any]


def record(
    function: Callable[..., tuple[Tensor, ...]],
    arguments: Sequence[Tensor],
    *,
    pure: bool,
    parameters: dict[int, nn.Parameter],
) -> fx.GraphModule:
    """Record a function of tensors as a graph.

    The function may look at numbers that its arguments, learnable tensors and random draws leave as
    they are, such as `int(data.max())`, and it may index with an argument, `table[argument]`, or
    write there.

    Args:
        function: what to record; called once.
        arguments: example arguments; the graph is right for these shapes only.
        pure: rewrite operations in place as pure ones (not for random functions: their draws would
            be shared).
        parameters: learnable tensors met so far, by address; recordings that use the same one share
            it.

    Raises:
        RuntimeError: if the function looks at the numbers inside a tensor that they change.
    """

    def traced(*given: Tensor) -> tuple[Tensor, ...]:
        with ReadableConstants(given), StaticIndexing():
            return function(*given)

    with torch.no_grad():
        module = (_flat(traced, arguments) if pure else None) or _traced(traced, arguments, pure)
    for name, value in list(vars(module).items()) + list(module.named_buffers(recurse=False)):
        if isinstance(value, Tensor) and value.requires_grad and value.is_leaf:
            delattr(module, name)
            setattr(module, name, parameters.setdefault(value.data_ptr(), nn.Parameter(value)))
    _simplify(module)
    return module


class _Recorder(Recorder):
    """Refuses parameters too: what is computed from them alone would be kept as a constant."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and write it down."""
        if any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves((args, kwargs))):
            raise CannotRecord("the function reads a parameter.")
        return super().__torch_dispatch__(func, types, args, kwargs)


def _flat(function: Function, arguments: Sequence[Tensor]) -> fx.GraphModule | None:
    """Record at a fifteenth of the cost what writes nowhere and reads no numbers; None for the rest."""
    recorder = _Recorder(tuple(arguments))
    try:
        with recorder, StaysInTensors(recorder):
            expected = function(*arguments)
        module = recorder.module(expected)
    except Exception:  # a program may do anything; what is wrong with it is told by `make_fx`
        return None
    same = zip(expected, module(*arguments), strict=True)
    faithful = all(torch.allclose(a, b, equal_nan=True) for a, b in same)
    return None if any(map(_writes, module.graph.nodes)) or not faithful else module


def _traced(function: Function, arguments: Sequence[Tensor], pure: bool) -> fx.GraphModule:
    """Record by `make_fx`, writes in place rewritten as pure operations if so wanted."""
    module = make_fx(function)(*arguments)
    if pure and any(map(_writes, module.graph.nodes)):
        # rewrites operations alone: a function may hold what functionalize cannot enter
        _lift_constants(module)
        module = make_fx(torch.func.functionalize(module))(*arguments)
    return module


def _lift_constants(module: fx.GraphModule) -> None:
    """Let `functionalize` see the tensors that a graph holds: it wraps none by itself (undone below)."""
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            with module.graph.inserting_after(node):
                lifted = module.graph.call_function(torch.ops.aten.lift_fresh_copy.default, (node,))
            node.replace_all_uses_with(
                lifted, delete_user_cb=lambda user, lifted=lifted: user is not lifted
            )
    module.recompile()


def _simplify(module: fx.GraphModule) -> None:
    """Drop copies of constants, which synchronise with the host; rewrite what cannot be mapped."""
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        name = str(node.target).split(".")[1] if "." in str(node.target) else ""
        if name.startswith("lift_fresh"):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif name == "squeeze" and _is_number(node.args[0]):
            node.replace_all_uses_with(node.args[0])  # its rule for mapping knows no number
            module.graph.erase_node(node)
        elif name in REWRITTEN:
            node.target = REWRITTEN[name]
    module.recompile()


def _is_number(node: Any) -> bool:
    """Whether a node is a tensor without axes."""
    value = node.meta.get("val")
    shape = node.meta.get("shape") if value is None else value.shape
    return shape is not None and len(shape) == 0


def _normal(like: Tensor, mean: float = 0.0, std: float = 1.0, **_: Any) -> Tensor:
    return torch.randn_like(like) * std + mean


def _exponential(like: Tensor, rate: float = 1.0, **_: Any) -> Tensor:
    return -torch.log1p(-torch.rand_like(like)) / rate


def _uniform(like: Tensor, low: float = 0.0, high: float = 1.0, **_: Any) -> Tensor:
    return torch.rand_like(like) * (high - low) + low


def _cauchy(like: Tensor, median: float = 0.0, sigma: float = 1.0, **_: Any) -> Tensor:
    return median + sigma * torch.tan(torch.pi * (torch.rand_like(like) - 0.5))


def _copy(like: Tensor, source: Tensor, *_: Any, **__: Any) -> Tensor:
    return source.to(like).expand(like.shape)  # aten.copy has no rule for mapping


def _slice_scatter(
    into: Tensor,
    source: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    first, last, _ = slice(start, end).indices(
        into.shape[dim]
    )  # its rule for mapping takes no negative places
    return torch.slice_scatter(into, source, dim, first, last, step)


REWRITTEN: dict[str, Function] = {
    "normal_": _normal,
    "exponential_": _exponential,
    "uniform_": _uniform,
    "cauchy_": _cauchy,
    "copy": _copy,
    "slice_scatter": _slice_scatter,
}


class CutGraph:
    """A recorded graph, cut to what one or another of its outputs needs."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.places = {node: place for place, node in enumerate(module.graph.nodes)}
        self.writes = [(node, _root(node)) for node in self.places if _writes(node)]
        inputs = [node for node in self.places if node.op == "placeholder"]
        self.arguments = {node: number for number, node in enumerate(inputs)}
        self.outputs = next(n for n in self.places if n.op == "output").args[0]

    def __getitem__(self, index: int) -> tuple[fx.GraphModule, tuple[int, ...]]:
        """The part of one output, and which arguments of the whole it takes."""
        output = self.outputs[index]
        needed = sorted(self._ancestors(output), key=self.places.__getitem__)
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}

        def copied(node: fx.Node) -> fx.Node:
            if node not in copies:  # a constant: right before its first use, in every part alike
                copies[node] = graph.node_copy(node)
            return copies[node]

        for node in needed:
            if node.op != "get_attr":
                copies[node] = graph.node_copy(node, copied)
        graph.output(copied(output))
        taken = tuple(self.arguments[n] for n in needed if n in self.arguments)
        return fx.GraphModule(self.module, graph), taken

    def _ancestors(self, output: fx.Node) -> set[fx.Node]:
        """Collect everything that a node is computed from, writes through views included."""
        needed: set[fx.Node] = set()
        missing = [output]
        while missing:
            _add_with_inputs(needed, missing)
            read = {_root(node) for node in needed} if self.writes else set()
            missing = [w for w, root in self.writes if w not in needed and root in read]
        return needed


def _add_with_inputs(needed: set[fx.Node], nodes: list[fx.Node]) -> None:
    """Add nodes, in place, with everything that they are computed from."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes


def _writes(node: fx.Node) -> bool:
    """Tell whether a node changes a tensor in place."""
    if node.op != "call_function":
        return False
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _root(node: fx.Node) -> fx.Node:
    """Find the tensor that a view looks at."""
    while node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
        returns = node.target._schema.returns
        if not (
            returns and returns[0].alias_info and node.args and isinstance(node.args[0], fx.Node)
        ):
            break
        node = node.args[0]
    return node


class BatchedGraph(nn.Module):
    """A recorded function of single values, run on arguments with leading axes `(K or 1, B or 1)`.

    Args:
        graph: the recorded function; one tensor out.
        random: whether it draws random numbers (each particle and data point gets its own;
            never recorded again).
    """

    def __init__(self, graph: Function, *, random: bool = False) -> None:
        super().__init__()
        self.graph = graph
        self.random = random
        self.recorded: dict[tuple[Any, ...], Function] = {}

    def forward(self, *arguments: Tensor) -> Tensor:
        """Map the function over the leading axes of at least one argument; `(K, B, *shape)`."""
        if self.random:
            batch_shape = torch.broadcast_shapes(*(a.shape[:2] for a in arguments))
            wide = (a.expand(*batch_shape, *a.shape[2:]) for a in arguments)
            return self.drawn(batch_shape, *wide)
        signature = tuple((a.shape, a.dtype, a.device) for a in arguments)
        if signature not in self.recorded:
            examples = [a.detach().clone() for a in arguments]
            batched = _over_both_axes(self.graph, "error")
            with torch.no_grad():
                self.recorded[signature] = self._record(lambda *given: (batched(*given),), examples)
        return self.recorded[signature](*arguments)[0]

    def _record(self, function: Function, examples: Sequence[Tensor]) -> Function:
        """Record the mapped function; what is computed from parameters alone is no constant."""
        if not any(True for _ in self.parameters()):
            return flat_graph(function, *examples)
        recorded = make_fx(function)(*examples)
        _simplify(recorded)
        found: Function = recorded.forward
        return found

    def drawn(self, batch_shape: tuple[int, ...], *arguments: Tensor) -> Tensor:
        """Draw for each particle and data point: `batch_shape` is `(K, B)`, or () for a single draw.

        What cannot be mapped over both axes is drawn one after the other.
        """
        if not batch_shape:
            single: Tensor = self.graph(*arguments)
            return single
        if isinstance(self.graph, fx.GraphModule):
            places = torch.zeros(batch_shape, device=arguments[0].device if arguments else None)
            with contextlib.suppress(RuntimeError):  # an operation that cannot be mapped
                return _over_both_axes(lambda _, *rest: self.graph(*rest), "different")(
                    places, *arguments
                )
        rows = [
            torch.stack([self.graph(*(a[k, b] for a in arguments)) for b in range(batch_shape[1])])
            for k in range(batch_shape[0])
        ]
        return torch.stack(rows)

    def _apply(self, function: Function, recurse: bool = True) -> nn.Module:
        self.recorded.clear()  # recordings hold the old tensors
        return super()._apply(function, recurse)


def _over_both_axes(function: Function, randomness: str) -> Callable[..., Tensor]:
    """Map a function over two leading axes, either of which may have size 1 in some arguments."""

    def over(axis_function: Function, arguments: tuple[Tensor, ...]) -> Tensor:
        shared = [a.shape[0] == 1 for a in arguments]
        if all(shared):
            return axis_function(*(a.squeeze(0) for a in arguments)).unsqueeze(0)
        dims = tuple(None if s else 0 for s in shared)
        given = (a.squeeze(0) if s else a for a, s in zip(arguments, shared, strict=True))
        return torch.vmap(axis_function, in_dims=dims, randomness=randomness)(*given)

    return lambda *arguments: over(lambda *rows: over(function, rows), arguments)

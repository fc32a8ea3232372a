"""Recording a function of tensors as a flat graph of operations: constants folded, repeats merged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch._functorch.compile_utils import fx_graph_cse
from torch.fx.experimental.proxy_tensor import make_fx

Function = Callable[..., Any]


def flat_graph(function: Function, *examples: Tensor) -> Function:
    """Record a function at these shapes; the function itself where it cannot be recorded, or differs.

    A graph is trusted only after it has given the function's own numbers at the examples and at
    others near them: a kernel may look at numbers, and take another path elsewhere.
    """
    try:
        module = make_fx(function)(*examples)
        _simplify(module)
    except Exception:  # kernels may do anything
        return function
    return module.forward if _agrees(function, module, examples) else function


def _agrees(function: Function, module: fx.GraphModule, examples: tuple[Tensor, ...]) -> bool:
    moved = [x.flip(0) * 1.25 if x.is_floating_point() else x.flip(0) for x in examples]
    for tried in (examples, tuple(moved)):
        expected = function(*tried)
        found = module.forward(*tried)
        for a, b in zip(expected, found, strict=True):
            if not torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True):
                return False
    return True


aten = torch.ops.aten
COPIES = (aten.detach.default, aten.lift_fresh_copy.default, aten.alias.default)
SAME_SHAPE = (aten.expand.default, aten.view.default, aten._unsafe_view.default, aten.reshape.default)
FILLED = {
    aten.ones_like.default: 1.0,
    aten.zeros_like.default: 0.0,
    aten.new_zeros.default: 0.0,
    aten.new_ones.default: 1.0,
    aten.full_like.default: None,
}
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


def _simplify(module: fx.GraphModule) -> None:
    """Drop copies, fold constants, merge repeats, drop operations that change nothing."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in COPIES:
            _replace(module, node, node.args[0])
        elif node.op == "call_function" and node.target is aten.masked_fill_.Scalar:
            _out_of_place(module, node)
    for _ in range(2):
        _fill_constants(module)
        _fold_constants(module)
        _drop_neutral(module)
    module.graph = fx_graph_cse(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()


def _replace(module: fx.GraphModule, node: fx.Node, by: Any) -> None:
    node.replace_all_uses_with(by)
    module.graph.erase_node(node)


def _out_of_place(module: fx.GraphModule, node: fx.Node) -> None:
    """Filling in place as an operation with a result of its own, which all later users read."""
    node.target = aten.masked_fill.Scalar
    changed: Any = node.args[0]
    later = False
    for other in module.graph.nodes:
        if other is node:
            later = True
        elif later:
            other.replace_input_with(changed, node)


def _shape(node: Any) -> Any:
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    return None if meta is None else (tuple(meta.shape), meta.dtype)


def _fill_constants(module: fx.GraphModule) -> None:
    """Tensors that are filled with one number depend on their example's shape alone."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target not in FILLED or _shape(node) is None:
            continue
        value = FILLED[node.target]
        value = node.args[1] if value is None else value
        shape, dtype = _shape(node)
        device = node.meta["tensor_meta"]
        _constant(module, node, torch.full(shape, value, dtype=dtype))


def _drop_neutral(module: fx.GraphModule) -> None:
    """x * 1, x / 1, x + 0, x - 0, x ** 1, and views of the shape that is there already."""
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        kept = _unchanged(module, node)
        if kept is not None and _shape(kept) == _shape(node) and _shape(node) is not None:
            _replace(module, node, kept)


def _unchanged(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The argument that an operation may give back as it is."""
    if node.target in SAME_SHAPE:
        return node.args[0]
    if node.target not in NEUTRAL or len(node.args) < 2 or node.kwargs:
        return None
    neutral = NEUTRAL[node.target]
    if _is_all(module, node.args[1], neutral):
        return node.args[0]
    if node.target in COMMUTES and _is_all(module, node.args[0], neutral):
        return node.args[1]
    return None


def _is_all(module: fx.GraphModule, value: Any, number: float) -> bool:
    if isinstance(value, fx.Node):
        if value.op != "get_attr":
            return False
        constant = getattr(module, value.target)
        return isinstance(constant, Tensor) and bool((constant == number).all())
    return value == number


def _constant(module: fx.GraphModule, node: fx.Node, value: Tensor) -> None:
    """A tensor held by the graph in the place of a node."""
    name = f"_constant_of_{node.name}"
    module.register_buffer(name, value, persistent=False)
    with module.graph.inserting_before(node):
        constant = module.graph.get_attr(name)
    constant.meta["tensor_meta"] = node.meta.get("tensor_meta")
    _replace(module, node, constant)


def _fold_constants(module: fx.GraphModule) -> None:
    """Compute once what depends on no argument."""
    known: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            known[node] = getattr(module, node.target)
        elif node.op == "call_function" and _all_known(node, known):
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: known[n])
            known[node] = node.target(*args, **kwargs)
    for node, value in known.items():
        needed = any(user not in known for user in node.users)
        if node.op == "get_attr" or not needed or not isinstance(value, Tensor):
            continue
        _constant(module, node, value.detach().clone())
    module.graph.eliminate_dead_code()


def _all_known(node: fx.Node, known: dict[fx.Node, Any]) -> bool:
    return all(n in known for n in node.all_input_nodes)

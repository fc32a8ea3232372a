"""Operations on repeated numbers made once: a scale that all rows share has one logarithm, not one for each row.

Distributions broadcast their parameters against each other before they compute. In a recorded graph
such a parameter is an `expand`, and what follows from such parameters alone repeats as they do: there,
the operation is made on the numbers themselves and its result is expanded. The same numbers come out.
"""

import torch
from torch import Tensor, fx, nn

aten = torch.ops.aten

POINTWISE = {
    aten.abs.default,
    aten.add.Tensor,
    aten.div.Tensor,
    aten.exp.default,
    aten.log.default,
    aten.log1p.default,
    aten.mul.Scalar,
    aten.mul.Tensor,
    aten.neg.default,
    aten.pow.Tensor_Scalar,
    aten.reciprocal.default,
    aten.rsqrt.default,
    aten.sqrt.default,
    aten.sub.Tensor,
}
ALONG = {aten._log_softmax.default, aten._softmax.default}  # of a value and an axis


def without_repeats(root: nn.Module, graph: fx.Graph) -> None:
    """Make operations on expanded values before the expansion, in place.

    Args:
        root: holds the graph's constants; gets those that are one number throughout as that number.
        graph: of aten operations, each node with the shape of its value in `meta["shape"]`.
    """
    narrow: dict[fx.Node, fx.Node] = {}  # what a node repeats
    for node in list(graph.nodes):
        if node.op == "get_attr":
            _keep_one(root, graph, node, narrow)
        elif node.target is aten.expand.default:
            narrow[node] = narrow.get(node.args[0], node.args[0])
        elif node.target in POINTWISE | ALONG and not node.kwargs:
            few = _on_few(graph, node, narrow)
            if few is not None:
                narrow[_widened(graph, few, node)] = few
    graph.eliminate_dead_code()


def _keep_one(
    root: nn.Module, graph: fx.Graph, node: fx.Node, narrow: dict[fx.Node, fx.Node]
) -> None:
    """Note of a constant that is one number throughout that it repeats this number."""
    value = node.meta.get("value")
    if (
        not isinstance(value, Tensor)
        or value.numel() < 2
        or not bool((value == _first(value)).all())
    ):
        return
    name = f"{node.target}_once"
    setattr(root, name, _first(value).clone())
    with graph.inserting_after(node):
        one = graph.get_attr(name)
    one.meta.update(node.meta, shape=(), value=getattr(root, name))
    narrow[node] = one


def _first(value: Tensor) -> Tensor:
    return value[(0,) * value.ndim]


def _on_few(graph: fx.Graph, node: fx.Node, narrow: dict[fx.Node, fx.Node]) -> fx.Node | None:
    """The operation on what its arguments repeat; None where that is no smaller."""
    given = tuple(narrow.get(a, a) if isinstance(a, fx.Node) else a for a in node.args)
    shapes = [a.meta.get("shape") for a in given if isinstance(a, fx.Node)]
    whole = node.meta.get("shape")
    if whole is None or None in shapes:
        return None
    shape = torch.broadcast_shapes(*shapes)
    if shape.numel() >= torch.Size(whole).numel():
        return None
    if node.target in ALONG and shape[node.args[1] :] != torch.Size(whole)[node.args[1] :]:
        return None
    with graph.inserting_before(node):
        few = graph.create_node("call_function", node.target, given)
    few.meta.update(node.meta, shape=tuple(shape))
    return few


def _widened(graph: fx.Graph, few: fx.Node, node: fx.Node) -> fx.Node:
    """Put an expansion in the place of a node."""
    with graph.inserting_after(few):
        wide = graph.call_function(aten.expand.default, (few, list(node.meta["shape"])))
    wide.meta.update(node.meta)
    node.replace_all_uses_with(wide)
    return wide

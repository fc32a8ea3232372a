"""What a model is made of, as a table."""

from collections.abc import Sequence

from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.model.graph import GraphicalModel, Lag, Parent, dotless


def summary(model: GraphicalModel) -> str:
    """One line per site: name, shape of its event, parents (of an earlier slice: `name[-1]`), learnable parameters."""
    length = max(
        (site.period for site in model.sites.values() if site.period is not None), default=None
    )
    drawn = DCPC(model, num_particles=1).init(batch_size=1, length=length).values
    rows = [("site", "shape", "parents", "parameters")]
    for name, site in model.sites.items():
        shape = (
            " x ".join(map(str, drawn[name].shape[site.batch_ndim :]))
            if name in drawn
            else "function"
        )
        parents = ", ".join(map(_shown, site.parents)) or "-"
        rows.append((name, shape or "scalar", parents, str(_count(model, name))))
    rows.append(("total", "", "", str(sum(p.numel() for p in model.parameters()))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _shown(parent: Parent) -> str:
    return f"{parent.site}[-{parent.steps}]" if isinstance(parent, Lag) else parent


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    *words, number = (word.ljust(width) for word, width in zip(row, widths, strict=True))
    return "  ".join([*words, number.strip().rjust(widths[-1])])


def _count(model: GraphicalModel, name: str) -> int:
    """Count the learnable parameters of a site's kernels."""
    keys = (f"{dotless(name)}:{role}" for role in ("kernel", "initial"))
    modules = [model.modules_of_sites[key] for key in keys if key in model.modules_of_sites]
    return sum(p.numel() for module in modules for p in module.parameters())

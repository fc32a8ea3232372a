"""What a model is made of, as a table."""

from torch import nn

from aif_dcpc.inference.engine import DCPC
from aif_dcpc.inference.graph import GraphicalModel, parent_name


def summary(model: GraphicalModel) -> str:
    """One line per site: name, event shape, parents, number of learnable parameters of its kernels."""
    length = max((site.period for site in model.sites.values() if site.period is not None), default=None)
    drawn = DCPC(model, num_particles=1).init(batch_size=1, length=length).values
    rows = [("site", "shape", "parents", "parameters")]
    for name, site in model.sites.items():
        shape = " x ".join(map(str, drawn[name].shape[site.num_lead :])) if name in drawn else "function"
        parents = ", ".join(map(parent_name, site.parents)) or "-"
        rows.append((name, shape or "scalar", parents, str(_count(model, name))))
    rows.append(("total", "", "", str(sum(p.numel() for p in model.parameters()))))
    return "\n".join(f"{a:<6} {b:<12} {c:<9} {d:>10}" for a, b, c, d in rows)


def _count(model: GraphicalModel, name: str) -> int:
    kernels = (key for key in model.modules_of_sites if key.split(":")[0] == name)
    modules: list[nn.Module] = [model.modules_of_sites[key] for key in kernels]
    return sum(p.numel() for module in modules for p in module.parameters())

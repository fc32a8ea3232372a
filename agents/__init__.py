"""The `aif_dcpc.agents` package."""

if not __name__.startswith("aif_dcpc."):
    raise ImportError("import aif_dcpc.agents, not agents: the folder is installed as part of aif_dcpc")

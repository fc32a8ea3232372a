"""The `aif_dcpc.envs` package."""

if not __name__.startswith("aif_dcpc."):
    raise ImportError("import aif_dcpc.envs, not envs: the folder is installed as part of aif_dcpc")

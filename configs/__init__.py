"""The `aif_dcpc.configs` package."""

if not __name__.startswith("aif_dcpc."):
    raise ImportError(
        "import aif_dcpc.configs, not configs: the folder is installed as part of aif_dcpc"
    )

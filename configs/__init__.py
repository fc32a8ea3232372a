"""The defaults of every command and the choices of every group, as YAML."""

if not __name__.startswith("aif_dcpc."):
    raise ImportError(
        "import aif_dcpc.configs, not configs: the folder is installed as part of aif_dcpc"
    )

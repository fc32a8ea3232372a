"""The `aif_dcpc.inference` package."""

if not __name__.startswith("aif_dcpc."):
    raise ImportError("import aif_dcpc.inference, not inference: the folder is installed as part of aif_dcpc")

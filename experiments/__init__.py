"""Measurements, one folder an experiment: scripts that print numbers and assert nothing."""

if not __name__.startswith("aif_dcpc."):
    raise ImportError(
        "import aif_dcpc.experiments, not experiments: the folder is installed as part of aif_dcpc"
    )

"""Processor seconds of this process and of the children that it has waited for."""

import resource
import time


def processor_seconds() -> float:
    """Seconds of processor time so far, all threads together."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime

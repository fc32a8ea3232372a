"""Run one command inside an already warm process; `conftest.py` fills in FOLDER, OUTPUT, ARGUMENTS, LIMIT and ENVIRONMENT."""

import importlib
import os
import resource
import sys

given = globals()
os.chdir(given["FOLDER"])
os.environ.update(given["ENVIRONMENT"])
descriptor = os.open(given["OUTPUT"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.dup2(descriptor, 1)
os.dup2(descriptor, 2)
if given["LIMIT"] is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (given["LIMIT"], given["LIMIT"]))
name, *arguments = given["ARGUMENTS"]
sys.argv = [f"aif-{name}", *arguments]
importlib.import_module(f"aif_dcpc.commands.{name}").main()

"""Run one command inside an already warm process; `conftest.py` fills in FOLDER, OUTPUT and ARGUMENTS."""

import importlib
import os
import sys

given = globals()
os.chdir(given["FOLDER"])
descriptor = os.open(given["OUTPUT"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.dup2(descriptor, 1)
os.dup2(descriptor, 2)
name, *arguments = given["ARGUMENTS"]
sys.argv = [f"aif-{name}", *arguments]
importlib.import_module(f"aif_dcpc.commands.{name}").main()

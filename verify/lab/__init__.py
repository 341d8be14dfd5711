"""The lab on this machine: its environment, JupyterLab, the runner, the learner's workspace.

Importable with the host side's libraries alone (no torch): these modules make the rest.
"""

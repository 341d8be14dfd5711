"""What training a model will take, from its config: ``invoke memory.plan``.

Inside, ``python -m labs.memory_plan``. The arithmetic is the quickstart's own,
`labs.quickstart.memory`.
"""

"""The first fine-tune: ``invoke quickstart``; inside, ``python -m labs.quickstart``."""

"""The environment of every test; it stands before any array library is imported."""

import os

import hypothesis

# One thread: the tests run beside each other, and small arrays gain nothing from more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Exactness is tested to rounding, so float64 is the default; tests of float32 ask for it.
os.environ.setdefault("JAX_ENABLE_X64", "1")
# JAX would take most of a GPU's memory from the libraries tested beside it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

# The first call of a compiled function takes seconds, and a failure must come back in the next run.
hypothesis.settings.register_profile("janode", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("janode")

"""The tests."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read as torch is imported, here and in the processes to come

